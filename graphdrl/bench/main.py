"""The quickstart's model against beta-VAEs of the same encoder, decoder and steps, and without its graph."""

from typing import Any

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder, run_config
from graphdrl.training import Run

_COMPARED = ("dci_d", "mig", "reconstruction_mse")
_BETAS = (1, 4)


def run(say: Say) -> dict[str, Any]:
    """Figures of the four runs; a beta-VAE's figure is that of the better beta, figure by figure."""
    with fresh_folder() as folder:
        say("GEM, with the oracle beside it")
        gem, gem_folder = run_config(folder, "gem")
        say("GEM without its graph, on the same scores")
        no_graph, _ = run_config(folder, "no-graph", "parameters.use_graph=false", "relations.decorrelate=false")
        rivals = []
        for beta in _BETAS:
            say(f"beta-VAE, beta {beta}, oracle off")
            rivals.append(
                run_config(folder, f"beta-{beta}", "method=beta_vae", f"parameters.beta={beta}", "oracle.engine=none")[
                    0
                ]
            )
        say("GEM on the recorded schedule, oracle off")
        off, _ = run_config(folder, "gem-off", "oracle.engine=none", "training.steps=200", replay=gem_folder)
        speed = _speed_while_scoring(Run(gem_folder))
    figures = {name: gem["metrics"][name] for name in _COMPARED}
    figures |= {f"{name}_no_graph": no_graph["metrics"][name] for name in _COMPARED}
    better = {"dci_d": max, "mig": max, "reconstruction_mse": min}
    figures |= {f"{name}_beta_vae": better[name](rival["metrics"][name] for rival in rivals) for name in _COMPARED}
    return figures | {
        "images_per_s_oracle_on": speed,
        "images_per_s_oracle_off": off["images_per_s"],
        "steps": gem["steps"],
        "images_trained": gem["images_trained"],
    }


def _speed_while_scoring(run: Run) -> float:
    """Median images/s of the stretches of steps during which the oracle still had images to score."""
    rows = [row for row in run.read_metrics() if row["oracle_queue"] > 0]
    return sorted(row["images_per_s"] for row in rows)[len(rows) // 2]
