"""How much of the spread of the objective each searched key explains, by Optuna's fANOVA (Hutter et al. 2014)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphdrl.report.trials import TrialRow, as_text, plain, varied_keys

LEAST_TRIALS = 4

_LOG_FROM = 10.0
"""Positive numbers whose largest is so many times the smallest are taken on a logarithmic scale."""


@dataclass(frozen=True)
class Importance:
    """shares: by key, the largest first; they add up to 1. reason: why there are none, or what limits them."""

    shares: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def importance(rows: Sequence[TrialRow]) -> Importance:
    """Shares of the keys that varied among the trials that finished with an objective; reproducible."""
    finished = [row for row in rows if row.status == "finished" and row.measured is not None]
    if len(finished) < LEAST_TRIALS:
        return Importance(
            reason=f"Importance takes {LEAST_TRIALS} trials that finished with an objective; there are {len(finished)}."
        )
    keys = [key for key in varied_keys(finished) if all(key in row.values for row in finished)]
    if not keys:
        return Importance(reason="No searched key had two values among the trials that finished.")
    if len({row.measured for row in finished}) == 1:
        return Importance(reason="All trials that finished have the same objective: there is nothing to explain.")
    reason = f"Only {keys[0]} was varied: all the importance is its own." if len(keys) == 1 else ""
    return Importance(_fanova(finished, keys), reason)


def is_numeric(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def is_logarithmic(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def _fanova(rows: Sequence[TrialRow], keys: Sequence[str]) -> dict[str, float]:
    # Imported here: only searches need it, and it brings a database's client with it.
    import optuna

    columns = {key: [plain(row.values[key]) for row in rows] for key in keys}
    numeric = {key for key, values in columns.items() if is_numeric(values)}
    distributions = {
        key: _distribution(optuna.distributions, values, key in numeric) for key, values in columns.items()
    }
    spoken = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study in memory is nobody's news
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(spoken)
    for place, row in enumerate(rows):
        params = {key: values[place] if key in numeric else as_text(values[place]) for key, values in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=row.measured))
    shares = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return dict(sorted(shares.items(), key=lambda share: (-share[1], share[0])))


def _distribution(kinds: Any, values: Sequence[Any], numeric: bool) -> Any:
    """The range that the values span, or their choices as text."""
    if not numeric:
        return kinds.CategoricalDistribution(sorted({as_text(value) for value in values}))
    low, high, log = min(values), max(values), is_logarithmic(values)
    whole = all(isinstance(value, int) for value in values)
    return kinds.IntDistribution(low, high, log) if whole else kinds.FloatDistribution(float(low), float(high), log)
