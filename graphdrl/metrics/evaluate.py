"""All metrics of codes against factors, as one flat dict."""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from graphdrl.metrics.beta_vae import beta_vae
from graphdrl.metrics.codes import CodedFactors
from graphdrl.metrics.consistency import consistency
from graphdrl.metrics.dci import DEFAULT_BACKEND, check_backends, dci_by
from graphdrl.metrics.factor_vae import factor_vae
from graphdrl.metrics.infomec import infomec
from graphdrl.metrics.irs import irs
from graphdrl.metrics.mig import mig
from graphdrl.metrics.modularity import explicitness, modularity
from graphdrl.metrics.probes import LinearProbes
from graphdrl.metrics.sap import sap
from graphdrl.metrics.total_correlation import total_correlation


def evaluate_codes(
    codes: np.ndarray,
    factors: np.ndarray,
    names: Sequence[str],
    seed: int = 0,
    dci_backends: Sequence[str] = (DEFAULT_BACKEND,),
) -> dict[str, float | str]:
    """Disentanglement of mean codes [N, Z] against factors [N, F] of images whose factors were drawn independently.

    factors: integers, or numbers in [0, 1], which are graded 0..5. dci_backends: see `graphdrl.metrics.dci.dci_by`. The
    result holds plain Python numbers and `dci_backend`, the first of them.
    Raises ValueError for codes that are not finite, for fewer than two factors that vary, for an unknown backend.
    """
    check_backends(dci_backends)
    coded = CodedFactors.split(codes, factors, names, seed)
    # One thread: the products are small, and threads that wait for each other on a busy machine make them slower.
    with threadpool_limits(limits=1):
        return _all(coded, dci_backends)


def _all(coded: CodedFactors, dci_backends: Sequence[str]) -> dict[str, float | str]:
    probes = LinearProbes.fit(coded)
    return {
        **dci_by(coded, dci_backends),
        **mig(coded),
        **sap(coded),
        **factor_vae(coded),
        **beta_vae(coded),
        **modularity(coded),
        **explicitness(coded, probes),
        **infomec(coded, probes),
        **irs(coded),
        **consistency(coded),
        **total_correlation(coded),
    }
