"""Metrics of disentanglement and reconstruction, on plain arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphdrl.metrics.reconstruction import reconstruction

__all__ = ["evaluate_codes", "reconstruction"]


def evaluate_codes(
    codes: np.ndarray, factors: np.ndarray, names: Sequence[str], seed: int = 0, **settings: Any
) -> dict[str, float | str]:
    """See `graphdrl.metrics.evaluate.evaluate_codes`; scikit-learn is imported when it is asked for."""
    from graphdrl.metrics import evaluate

    return evaluate.evaluate_codes(codes, factors, names, seed, **settings)
