"""Where the names and the people of a table begin and end, as its rows suggest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ae_pipeline.sources import cells, numerals

__all__ = ["table_format"]

MOST_HEADERS = 3
_FOOTER = re.compile(
    r"\W*(total|sum|mean|average|median|sd|std|n\s*=|note|source|mittelwert|summe|gesamt|quelle|"
    r"anmerkung|media|promedio|suma|fuente|nota)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_FEW = 12


def table_format(file: Path) -> cells.Format:
    """How a table is laid out: title rows, header rows, footer.

    Parameters
    ----------
    file : Path

    Raises
    ------
    InputError
        The file cannot be read.
    """
    rows, whole = cells.grid(file)
    filled = [sum(map(bool, row)) for row in rows]
    if len(rows) < 3:
        return cells.Format()
    width = float(np.median([n for n in filled[-max(3, len(rows) // 2) :] if n] or [0]))
    first = next((i for i, n in enumerate(filled) if n >= max(2, 0.6 * width)), 0)
    if first > 20:
        first = 0
    if first and any(cell and not here for cell, here in _above(rows, first)):
        first -= 1  # names of columns that the row of answers below leaves empty
    n_headers = 1
    while n_headers < MOST_HEADERS and _is_header(rows, first + n_headers):
        n_headers += 1
    names = [cell for cell in rows[first] if cell]
    repeated = n_headers == 1 and len(set(names)) < len(names)
    if repeated and first and filled[first - 1] > 1:
        first, n_headers = first - 1, 2
    blank = sum(1 for n in filled[:first] if not n)
    skip = 0 if blank == first else first  # blank rows alone are passed over anyway
    return cells.Format(n_headers, skip, _footer(rows, filled, width) if whole else 0)


def _above(rows: Sequence[Sequence[str]], at: int) -> list[tuple[str, str]]:
    """Cells of the row above with those of a row."""
    width = max(len(rows[at - 1]), len(rows[at]))
    padded = ([*row, *[""] * (width - len(row))] for row in (rows[at - 1], rows[at]))
    return list(zip(*padded, strict=True))


def _is_header(rows: Sequence[Sequence[str]], at: int) -> bool:
    """Whether a row says what stands below it rather than what somebody answered."""
    body = rows[at + 1 : at + 200]
    if len(body) < 3:
        return False
    if sum('{"ImportId"' in cell for cell in rows[at]) > 1:
        return True
    like, of = 0, 0
    for j, cell in enumerate(rows[at]):
        below = [row[j] for row in body if j < len(row) and row[j]]
        numbers = sum(map(_is_number, below))
        closed = len(below) >= 10 and len(set(below)) <= min(_FEW, len(below) // 3)
        if len(below) >= 3 and (numbers >= 0.8 * len(below) or closed):
            of += 1
            strange = not _is_number(cell) and cell not in below and not numerals.labels([cell])
            like += bool(cell) and strange and cell not in cells.EMPTY
    return of >= 2 and like >= max(2, 0.6 * of)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?\d[\d.,]*", cell) is not None


def _footer(rows: Sequence[Sequence[str]], filled: Sequence[int], width: float) -> int:
    """Rows at the end that are about the people above."""
    n = 0
    for i in range(len(rows) - 1, max(len(rows) - 6, 1), -1):
        first = next((cell for cell in rows[i] if cell), "")
        alone = filled[i] <= max(1, 0.2 * width) and not filled[i - 1]
        if first and not _FOOTER.fullmatch(first) and not alone:
            break
        n = len(rows) - i if first else n
    return n + sum(1 for k in filled[len(rows) - n - 3 : len(rows) - n] if not k) if n else 0
