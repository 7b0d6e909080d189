"""All metrics of codes against factors, as one flat dict."""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from graphdrl.metrics.codes import CodedFactors
from graphdrl.metrics.dci import DEFAULT_BACKEND, dci
from graphdrl.metrics.factor_vae import factor_vae
from graphdrl.metrics.infomec import infomec
from graphdrl.metrics.irs import irs
from graphdrl.metrics.mig import mig
from graphdrl.metrics.modularity import explicitness, modularity
from graphdrl.metrics.probes import LinearProbes
from graphdrl.metrics.sap import sap


def evaluate_codes(
    codes: np.ndarray,
    factors: np.ndarray,
    names: Sequence[str],
    seed: int = 0,
    dci_backend: str = DEFAULT_BACKEND,
) -> dict[str, float | str]:
    """Disentanglement of mean codes [N, Z] against factors [N, F] of images whose factors were drawn independently.

    factors: integers, or numbers in [0, 1], which are graded 0..5. The result holds plain Python numbers and
    `dci_backend`. Raises ValueError for codes that are not finite and for fewer than two factors that vary.
    """
    coded = CodedFactors.split(codes, factors, names, seed)
    # One thread: the products are small, and threads that wait for each other on a busy machine make them slower.
    with threadpool_limits(limits=1):
        return _all(coded, dci_backend)


def _all(coded: CodedFactors, dci_backend: str) -> dict[str, float | str]:
    probes = LinearProbes.fit(coded)
    return {
        **dci(coded, dci_backend),
        **mig(coded),
        **sap(coded),
        **factor_vae(coded),
        **modularity(coded),
        **explicitness(coded, probes),
        **infomec(coded, probes),
        **irs(coded),
    }
