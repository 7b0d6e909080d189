"""Our metrics beside those of disentanglement_lib, on the same codes."""

import json
from importlib.resources import files
from typing import Any

from graphdrl.bench._coded_cases import CASES, SIZES, fingerprint
from graphdrl.bench.registry import Say
from graphdrl.metrics import evaluate_codes

NAMES = (
    *("mig", "sap", "dci_d", "dci_c", "dci_i", "factor_vae", "beta_vae", "modularity", "irs"),
    *("gaussian_total_correlation", "gaussian_wasserstein_correlation_norm", "mutual_info_score"),
)


def run(say: Say) -> dict[str, Any]:
    """Of each metric the difference to the reference, ours minus theirs, of the case in which it is largest.

    `cases`: both figures of each case. DCI is taken with the reference's classifier, gradient boosting.
    """
    cases = {}
    for name in CASES:
        say(f"the case {name!r}")
        cases[name] = compared(name)
    return {
        **{metric: max((case[metric]["difference"] for case in cases.values()), key=abs) for metric in NAMES},
        "reference": read_reference()["library"],
        "cases": cases,
    }


def compared(name: str, backend: str = "gradient_boosting") -> dict[str, dict[str, float]]:
    """`ours`, `reference` and `difference` of each metric.

    Raises RuntimeError when the codes are not those that the reference measured.
    """
    codes, factors = CASES[name].draw()
    theirs = read_reference()["cases"][name]
    if fingerprint(codes) != theirs["codes"]:
        raise RuntimeError(f"the codes of the case {name!r} are not those that the reference measured: write it anew")
    names = [f"factor_{number}" for number in range(len(SIZES))]
    ours = evaluate_codes(codes, factors, names, dci_backends=(backend,))
    return {
        metric: {
            "ours": float(ours[metric]),
            "reference": theirs[metric],
            "difference": float(ours[metric]) - theirs[metric],
        }
        for metric in NAMES
    }


def read_reference() -> dict[str, Any]:
    """What the reference said, as `python -m graphdrl.bench._metrics_reference` wrote it."""
    found: dict[str, Any] = json.loads(files("graphdrl.bench").joinpath("metrics_reference.json").read_text())
    return found
