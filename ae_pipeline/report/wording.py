"""How values and foreign text read in a report.

Text from files may hold control characters, lone surrogates or bidirectional overrides, which
break XML or turn a line around; they are shown as U+FFFD. Escaping for HTML is not done here:
templates and the SVG writer do that, always.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

__all__ = [
    "MISSING",
    "bracketed",
    "clean",
    "comma_list",
    "count",
    "fixed",
    "interval",
    "listed",
    "number",
    "p_value",
    "seconds",
    "share",
    "shorten",
    "show",
    "span",
    "spoken",
    "times",
]

_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
MISSING = "n/a"


def clean(text: str) -> str:
    """The text on one line, with nothing in it that cannot be shown."""
    return _UNSHOWABLE.sub("\ufffd", re.sub(r"[\t\r\n]+", " ", text))


def shorten(text: object, limit: int) -> str:
    """At most ``limit`` characters; the middle goes, because names differ at their ends."""
    line = clean(str(text))
    if len(line) <= limit:
        return line
    head = (limit - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (limit - 1 - head) :]}"


def show(value: Any) -> str:
    """Any value as a person reads it: three significant digits, yes and no, 'n/a'."""
    if isinstance(value, str):
        return clean(value)
    if _missing(value):
        return MISSING
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a numpy scalar
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return ", ".join(show(part) for part in value) or "none"
    return clean(str(value))


def seconds(value: Any) -> str:
    """A time in seconds to a hundredth."""
    return MISSING if _missing(value) else f"{float(value):,.2f}".replace("-", "−")


def share(value: Any) -> str:
    """A fraction as a percentage."""
    return MISSING if _missing(value) else f"{100 * float(value):.1f}\u00a0%"


def comma_list(value: Any) -> str:
    """A comma list with room to break lines."""
    return ", ".join(part.strip() for part in show(value).split(","))


def p_value(value: Any) -> str:
    """A p- or q-value with two significant digits."""
    if _missing(value):
        return MISSING
    return "< 0.0001" if value < 1e-4 else f"{float(value):.2g}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def fixed(value: float | None, decimals: int = 4) -> str:
    """A number with so many decimals."""
    return MISSING if _missing(value) else f"{value:.{decimals}f}".replace("-", "−")


def bracketed(bounds: Sequence[float] | None, decimals: int = 2) -> str:
    """An interval in brackets; empty where there is none."""
    if bounds is None:
        return ""
    return f"[{bounds[0]:.{decimals}f}, {bounds[1]:.{decimals}f}]"


def span(bounds: Sequence[float] | None, decimals: int = 4) -> str:
    """From where to where; empty where there is nothing."""
    if bounds is None or not all(map(math.isfinite, bounds)):
        return ""
    return f"{fixed(bounds[0], decimals)} to {fixed(bounds[1], decimals)}"


def interval(bounds: Sequence[float] | None, digits: int = 3) -> str:
    """A 95% interval; empty where there is none."""
    if bounds is None or not all(map(math.isfinite, bounds)):
        return ""
    return f"95% interval {number(bounds[0], digits)} to {number(bounds[1], digits)}"


def times(ratio: float) -> str:
    """How many times something else it is."""
    return f"{ratio:.1f} times" if ratio < 100 else f"{ratio:,.0f} times"


def count(n: int, noun: str) -> str:
    """How many of a thing: ``1 event``, ``2,000 events``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def spoken(name: str) -> str:
    """A name of the code or of a column as words."""
    return name.replace("_", " ")


def _missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN and NaT
    except (TypeError, ValueError):  # pandas.NA refuses to be true or false; so do arrays
        return type(value).__name__ == "NAType"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1000 or value == int(value):
        text = f"{value:,.0f}" if size < 1e9 else f"{value:.3g}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−") if size >= 1e-4 else text
