"""Unsupervised disentanglement ranking (Duan et al. 2020): do models of a population find the same dimensions?

No label takes part. A disentangled model is alike to the other disentangled ones up to permutation and sign of its
dimensions, while models that entangle do it each in a way of its own.

Shape letters: M models, N images, Z latent dimensions (Z may differ from model to model).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import rankdata

INFORMATIVE_KL = 0.01
"""Nats an image; a dimension whose KL to the prior is not above this carries nothing and is left out."""

_LASSO_PENALTY = 0.1
"""That of the authors' code, on standardised codes."""

Similarity = Literal["spearman", "lasso"]


def udr(
    codes: Sequence[np.ndarray] | np.ndarray,
    kl: Sequence[np.ndarray] | np.ndarray,
    *,
    threshold: float = INFORMATIVE_KL,
    similarity: Similarity = "spearman",
) -> np.ndarray:
    """Score of each model in [0, 1], float64 [M]: the median of its agreement with every other model.

    codes: each model's mean codes [N, Z] of the same images, in the same order. kl: each model's KL divergence per
    dimension [Z], in nats, mean over images. similarity: how alike two dimensions are, |Spearman's rho| or the
    coefficient's size in a lasso regression of one model's codes on the other's. A model without an informative
    dimension scores 0.

    Raises ValueError for fewer than two models, for shapes that do not fit, and for codes that are not finite.
    """
    codes, kl = [np.asarray(one, np.float64) for one in codes], [np.asarray(one, np.float64) for one in kl]
    _check(codes, kl, similarity)
    informative = [one[:, divergence > threshold] for one, divergence in zip(codes, kl, strict=True)]
    matrix = _spearman(informative) if similarity == "spearman" else _lasso(informative)
    ends = np.cumsum([0, *(one.shape[1] for one in informative)])
    num = len(codes)
    scores = np.empty((num, num))
    for i in range(num):
        for j in range(num):
            scores[i, j] = agreement(matrix[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]) if i != j else np.nan
    return np.nanmedian(scores, axis=0)


def agreement(similarity: np.ndarray) -> float:
    """How close a matrix of similarities [A, B] >= 0 comes to one match for each dimension of either model: 1 is that.

    The paper's formula (section 4): the largest entry squared over the sum of the entries, for every row and every
    column, and the mean of all of them. The authors' code takes the mean of the two means instead; the two differ
    where A and B do.
    """
    if not similarity.size:
        return 0.0
    strengths = [_strength(similarity), _strength(similarity.T)]
    return float(np.concatenate(strengths).mean())


def _strength(similarity: np.ndarray) -> np.ndarray:
    largest, total = similarity.max(axis=1), similarity.sum(axis=1)
    return np.divide(largest**2, total, out=np.zeros_like(total), where=total > 0)


def _spearman(codes: list[np.ndarray]) -> np.ndarray:
    """|rho| of every dimension of all models with every other, from one product of their standardised ranks."""
    ranks = _standardised(rankdata(np.concatenate(codes, axis=1), axis=0))
    return np.clip(np.abs(ranks.T @ ranks) / len(ranks), 0, 1)


def _lasso(codes: list[np.ndarray]) -> np.ndarray:
    """|coefficients| [all Z, all Z]: rows are the model that is regressed on, columns the one that is predicted."""
    from sklearn.linear_model import Lasso

    stacked = _standardised(np.concatenate(codes, axis=1))
    rows = []
    for one in codes:
        if one.shape[1]:
            fitted = Lasso(alpha=_LASSO_PENALTY).fit(_standardised(one), stacked)
            rows.append(np.abs(fitted.coef_.reshape(stacked.shape[1], -1)).T)
    return np.concatenate(rows) if rows else np.zeros((0, 0))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; those that do not vary become 0."""
    centred = values - values.mean(axis=0)
    scale = centred.std(axis=0)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)


def _check(codes: list[np.ndarray], kl: list[np.ndarray], similarity: str) -> None:
    if similarity not in ("spearman", "lasso"):
        raise ValueError(f"unknown similarity {similarity!r} for UDR; there are: spearman, lasso")
    if len(codes) < 2:
        raise ValueError(
            f"UDR compares models with each other and there are {len(codes)}: train at least two, or choose elbo"
        )
    if len(codes) != len(kl):
        raise ValueError(f"UDR needs the KL divergence of every model: {len(codes)} have codes, {len(kl)} have it")
    for number, (one, divergence) in enumerate(zip(codes, kl, strict=True)):
        if one.ndim != 2 or len(one) != len(codes[0]) or divergence.shape != one.shape[1:]:
            raise ValueError(
                f"codes [N, Z] of the same {len(codes[0])} images and KL [Z] are needed; "
                f"model {number} has {list(one.shape)} and {list(divergence.shape)}"
            )
        if not np.isfinite(one).all():
            raise ValueError(f"codes of model {number} hold NaN or infinity: it has diverged, leave it out")
