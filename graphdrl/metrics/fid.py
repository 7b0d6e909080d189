"""FID and KID: how far apart two sets of images are in the feature space of some network.

Figures of different networks, and FIDs of different numbers of images, must not be compared.
Shape letters: N and M images, D features.
"""

import numpy as np
from threadpoolctl import threadpool_limits

_ROWS_AT_ONCE = 1_000
_DEGREE = 3


def fid(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet inception distance (Heusel et al. 2017) of features [N, D] and [M, D]; 0 at best.

    The squared Frechet distance |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)) of the normals with their means and
    covariances. It falls with the number of images, down to its true value: take as many wherever it is compared.
    Raises ValueError for sets that cannot be compared.
    """
    first, second = _checked(first, second)
    with threadpool_limits(limits=1):
        means = first.mean(axis=0) - second.mean(axis=0)
        covariances = [np.atleast_2d(np.cov(one, rowvar=False)) for one in (first, second)]
        # C1 C2 has the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no complex roots by rounding.
        values, vectors = np.linalg.eigh(covariances[0])
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        spectrum = np.linalg.eigvalsh(root @ covariances[1] @ root)
        overlap = np.sqrt(np.maximum(spectrum, 0)).sum()
        distance = means @ means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * overlap
        return max(float(distance), 0.0)


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """Kernel inception distance (Binkowski et al. 2018) of features [N, D] and [M, D]; about 0 at best.

    The unbiased estimate of the squared maximum mean discrepancy with the kernel (x . y / D + 1)^3. It is taken once
    over all images: the mean over random subsets of 1,000, as often reported, estimates the same number. Unbiased, it
    may be below 0, and does not depend on the number of images.
    Raises ValueError for sets that cannot be compared.
    """
    first, second = _checked(first, second)
    with threadpool_limits(limits=1):
        across = _kernel_sum(first, second) / (len(first) * len(second))
        return float(_within(first) + _within(second) - 2 * across)


def _within(features: np.ndarray) -> float:
    """Mean kernel of two different images of one set."""
    num, width = features.shape
    itself = ((np.square(features).sum(axis=1) / width + 1) ** _DEGREE).sum()
    return (_kernel_sum(features, features) - itself) / (num * (num - 1))


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    total = 0.0
    for start in range(0, len(first), _ROWS_AT_ONCE):
        total += ((first[start : start + _ROWS_AT_ONCE] @ second.T / first.shape[1] + 1) ** _DEGREE).sum()
    return total


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features [N, D] and [M, D] of one network are needed, not {list(first.shape)} and {list(second.shape)}"
        )
    if min(len(first), len(second)) < 2:
        raise ValueError(f"two sets of at least two images are compared, and there are {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("features hold NaN or infinity: the images that they were made of are not images")
    return first, second
