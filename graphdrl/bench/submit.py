"""From `graphdrl submit` to the first step of a training, from an empty folder to a cluster on this machine."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder
from graphdrl.training import Run

_TIMES = 3
_LOOK_EVERY_S = 0.02
_TRAINING = (
    *("train", "oracle.engine=none", "data.num_images=1000", "data.num_test=0", "training.use_gpu=false"),
    *("training.steps=20", "training.log_every=1", "training.checkpoint_every=20"),
)


def run(say: Say) -> dict[str, Any]:
    """Seconds from the command, medians of three; `direct`: the same training without `submit`, on the same cluster.

    lines_before_first_step: of the job's log that were shown by then.
    """
    from cluster import HomeCluster

    with fresh_folder() as place, HomeCluster(cpus=2) as home:
        folder, kept = Path(place) / "empty", Path(place) / "kept"
        folder.mkdir()
        submitted, direct = [], []
        for number in range(_TIMES):
            say(f"submitted, {number + 1} of {_TIMES}")
            name = f"submitted-{number}"
            there = ("--address", home.dashboard, "--runs", str(kept))
            submitted.append(_measure(("submit", *_TRAINING, f"name={name}", *there), folder, kept / name, {}))
            say(f"directly, {number + 1} of {_TIMES}")
            name = f"direct-{number}"
            here = (f"name={name}", f"runs={kept}")
            direct.append(_measure((*_TRAINING, *here), folder, kept / name, {"RAY_ADDRESS": home.address}))
    return {
        "submit_to_log_s": median(each["log_s"] for each in submitted),
        "submit_to_first_step_s": median(each["first_step_s"] for each in submitted),
        "submit_to_end_s": median(each["end_s"] for each in submitted),
        "direct_to_first_step_s": median(each["first_step_s"] for each in direct),
        "direct_to_end_s": median(each["end_s"] for each in direct),
        "lines_before_first_step": median(each["lines"] for each in submitted),
    }


def _measure(words: tuple[str, ...], folder: Path, run: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a command; raises RuntimeError with its last words when it fails or takes no step."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from graphdrl.cli import main; main()", *words],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[tuple[float, str]] = []
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    metrics, first_step = Run(run).metrics, None
    while process.poll() is None:
        if first_step is None and metrics.exists() and metrics.stat().st_size:
            first_step = time.monotonic()
        time.sleep(_LOOK_EVERY_S)
    ended = time.monotonic()
    reader.join()
    if process.returncode or first_step is None:
        raise RuntimeError(f"graphdrl {words[0]} failed: {' '.join(text.strip() for _, text in lines)[-600:]}")
    # The first line is that of `submit` itself, which names the job.
    shown = [at for at, text in lines if not text.startswith("job ")]
    return {
        "log_s": shown[0] - began,
        "first_step_s": first_step - began,
        "end_s": ended - began,
        "lines": sum(at < first_step for at in shown),
    }


def _read(process: "subprocess.Popen[str]", lines: list[tuple[float, str]]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append((time.monotonic(), line))
