"""How exclusive a table of importances is, whatever its importances are of (Eastwood and Williams 2018)."""

import numpy as np

_NOTHING = 1e-11


def disentanglement(importance: np.ndarray) -> float:
    """D of importances [Z, F]: 1 - entropy of what a code is used for, weighted by its use; C is D transposed."""
    total = importance.sum()
    if total == 0:
        return 0.0
    shares = (importance + _NOTHING) / (importance + _NOTHING).sum(axis=1, keepdims=True)
    clarity = 1.0 + (shares * np.log(shares)).sum(axis=1) / np.log(importance.shape[1])
    return float((clarity * importance.sum(axis=1)).sum() / total)
