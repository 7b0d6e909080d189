"""How numbers are written on a page."""

import math
from typing import Any

import numpy as np

from graphdrl.report.glossary import Style

_MINUS = "\N{MINUS SIGN}"
_NONE = "–"
_THIN = "\N{NARROW NO-BREAK SPACE}"


def signed(value: float) -> str:
    """+0.42 or −0.31."""
    if not math.isfinite(value):
        return _NONE
    # Adding 0 makes a rounded -0.00 positive.
    return f"{round(float(value), 2) + 0.0:+.2f}".replace("-", _MINUS)


def two_digits(value: float) -> str:
    """.42 or −.31, short enough for a small square; the sign of the colour is the sign of the number."""
    digits = signed(value).lstrip("+")
    return digits.removesuffix(".00") if abs(value) >= 0.995 else digits.replace("0.", ".", 1)


def interval(low: float, high: float) -> str:
    return f"{signed(low)} to {signed(high)}" if math.isfinite(low) and math.isfinite(high) else "unknown"


def duration(seconds: float) -> str:
    """12 s, 6 min 20 s, 2 h 5 min."""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.3g}{_THIN}s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def written(value: Any, style: Style = "number") -> str:
    """Any value of a summary or a configuration, for a reader."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(written(item) for item in value) or _NONE
    if not isinstance(value, (int, float)):
        return str(value)
    if style in ("share", "percent"):
        return f"{100 * value:.3g}{_THIN}%"
    if style == "seconds":
        return duration(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", _THIN).replace("-", _MINUS)
    if style == "unit":
        return f"{value:.3f}".replace("-", _MINUS)
    return f"{value:,.4g}".replace(",", _THIN).replace("-", _MINUS)
