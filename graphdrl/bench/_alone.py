"""One plain training that takes turns with others: `python -m graphdrl.bench._alone SPEC.json`.

No Ray, no DeepSpeed, nobody to talk to: what the machine has to give.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

from graphdrl.bench._stopwatch import Stopwatch, Work
from graphdrl.bench._turns import NoMoreTurnsError, TakingTurns
from graphdrl.config import check
from graphdrl.training import LocalContext, LocalEngine, RecordedRelations, Run
from jobs import assemble, prepare_process, training_images


def main(spec: Path) -> None:
    told = json.loads(spec.read_text())
    config, replay = check(told["config"]), Path(told["replay"])
    prepare_process(config)
    watch, work = Stopwatch(), Work()
    orders = {
        "watch_steps": watch.watch_steps,
        "watch_parts": lambda: watch.watch_parts(LocalEngine),
        "read": watch.read,
        "watch_work": work.watch,
        "read_work": work.read,
    }
    context = TakingTurns(LocalContext(device=torch.device("cpu")), told["name"], told["address"], orders)
    training = assemble(
        config,
        context,
        training_images(config),
        lambda module, settings, _: LocalEngine(module, settings),
        RecordedRelations(Run(replay)),
        None,
        replay=replay,
    )
    with suppress(NoMoreTurnsError):
        context.wait()
        training.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
