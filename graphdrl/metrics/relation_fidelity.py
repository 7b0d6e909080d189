"""Relation fidelity: do the samples of a model show the relations of its data? No label needed.

An oracle grades the samples, the estimator of the data's edges reads the relations off the grades, and the two tables
are compared.
"""

import numpy as np


def relation_fidelity(data: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    """Of relations [K, K] in the data and in samples, by one estimator; both directions count, the diagonal does not.

    relation_fidelity: mean |difference|, in [0, 2]; 0 is perfect. Estimates of finite sets differ by chance, too: about
        0.03 for 2,000 images each.
    relation_fidelity_unrelated: what samples whose attributes are unrelated would have, the mean |weight| of the data.

    Raises ValueError for tables of different or fewer than two attributes, and for weights that are not finite.
    """
    if data.shape != samples.shape or data.ndim != 2 or len(data) != data.shape[1] or len(data) < 2:
        raise ValueError(
            f"relations [K, K] of the same two attributes at least are compared, not {list(data.shape)} and "
            f"{list(samples.shape)}"
        )
    if not (np.isfinite(data).all() and np.isfinite(samples).all()):
        raise ValueError("a relation that is not finite cannot be compared: leave its attribute out")
    off_diagonal = ~np.eye(len(data), dtype=bool)
    true, shown = data[off_diagonal].astype(np.float64), samples[off_diagonal].astype(np.float64)
    return {
        "relation_fidelity": float(np.abs(shown - true).mean()),
        "relation_fidelity_unrelated": float(np.abs(true).mean()),
    }
