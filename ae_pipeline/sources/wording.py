"""How messages about tables name columns and rows, so that each says it in the same way."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["count", "have", "items", "nearest", "plainly", "quoted", "rows"]

_ALIKE = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"})


def nearest(name: str, names: Sequence[str]) -> str:
    """The name that was probably meant, else those there are."""
    lower = {n.lower(): n for n in reversed(names)}
    near = difflib.get_close_matches(name.lower().strip("*"), lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lower[near[0]]!r}?"
    return f"there are {quoted(names)}" if names else "there is none"


def quoted(names: Iterable[str], most: int = 8) -> str:
    """``'A1', 'A2' and 3 more``."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def items(names: Iterable[str]) -> str:
    """``item 'A1'``; ``items 'A1', 'A2'``."""
    names = list(names)
    return f"item{'s' if len(names) > 1 else ''} {quoted(names)}"


def have(names: Sequence[str]) -> str:
    """The verb that goes with the names."""
    return "have" if len(names) > 1 else "has"


def count(n: Any, what: str) -> str:
    """``1 answer``; ``1,204 answers``."""
    return f"{int(n):,} {what}{'s' if n > 1 else ''}"


def rows(rows: NDArray[Any], most: int = 5) -> str:
    """``row 4``; ``rows 4, 9``; ``rows 1, 2, 3, 4, 5 and 20 more``."""
    shown = ", ".join(str(int(row)) for row in rows[:most])
    more = f" and {len(rows) - most:,} more" if len(rows) > most else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def plainly(word: Any) -> Any:
    """A word without what people write differently: case, blanks, kinds of quotes and dashes."""
    if not isinstance(word, str):
        return word
    return " ".join(word.translate(_ALIKE).split()).casefold()
