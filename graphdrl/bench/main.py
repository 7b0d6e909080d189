"""The quickstart's model against beta-VAEs of the same encoder, decoder and steps, and without its graph."""

from typing import Any

import numpy as np

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import QUICKSTART, fresh_folder, run_config
from graphdrl.config import load_config

_COMPARED = ("dci_d", "mig", "reconstruction_mse", "reconstruction_mse_correlated")
_BETAS = (1, 4)


def run(say: Say) -> dict[str, Any]:
    """Figures of the four runs; a beta-VAE's figure is that of the better beta, figure by figure.

    A step of a beta-VAE has as many images as one of GEM, where some are scored ones. The speeds with and without
    the oracle at work are of the same run.
    """
    with fresh_folder() as folder:
        say("GEM, with the oracle beside it")
        gem_run = run_config(folder, "gem")
        gem, rows = gem_run.read_summary(), gem_run.read_metrics()
        say("GEM without its graph, on the same scores")
        without = ("parameters.use_graph=false", "relations.decorrelate=false")
        no_graph = run_config(folder, "no-graph", *without).read_summary()
        rivals = [_beta_vae(folder, beta, say) for beta in _BETAS]
    figures = {name: gem["metrics"][name] for name in _COMPARED}
    figures |= {f"{name}_no_graph": no_graph["metrics"][name] for name in _COMPARED}
    better = dict.fromkeys(_COMPARED, min) | {"dci_d": max, "mig": max}
    figures |= {f"{name}_beta_vae": better[name](rival["metrics"][name] for rival in rivals) for name in _COMPARED}
    return figures | {
        "images_per_s_oracle_on": _speed(rows, scoring=True),
        "images_per_s_oracle_off": _speed(rows, scoring=False),
        "steps": gem["steps"],
        "images_trained": gem["images_trained"],
    }


def _beta_vae(folder: str, beta: float, say: Say) -> dict[str, Any]:
    say(f"beta-VAE, beta {beta}, nobody asked")
    training = load_config(QUICKSTART).training
    images = training.batch_size + training.pair_groups * training.group_size
    overrides = (
        "method=beta_vae",
        f"parameters={{beta: {beta}}}",
        f"training.batch_size={images}",
        "oracle.engine=none",
    )
    return run_config(folder, f"beta-{beta}", *overrides).read_summary()


def _speed(rows: list[dict[str, Any]], scoring: bool) -> float:
    """Median images/s of one run's steps on scored and plain images, while the oracle was scoring or after it."""
    speeds = [
        row["images_per_s"] for row in rows if row["relations_version"] > 0 and (row["oracle_queue"] > 0) == scoring
    ]
    return float(np.median(speeds))
