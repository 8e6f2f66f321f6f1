"""Tables that are no text: Excel workbooks and SPSS files, as delimited text in memory.

Cells become text as a spreadsheet shows them (3, not 3.0), so that everything after is the same
as for a CSV file. Files are only read; formulas count by their last saved value.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ae_pipeline.data import InputError

__all__ = ["ENDINGS", "Sheet", "read"]

WORKBOOKS = (".xlsx", ".xlsm")
SPSS = (".sav", ".zsav", ".por")
ENDINGS = (*WORKBOOKS, *SPSS)
"""File name endings that :func:`read` knows."""


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Parameters
    ----------
    names : tuple of str
    text : str
        Comma-separated, the header in the first line.
    what : str
        What was read, in words.
    ranges : dict of str to (low, high)
        Lowest and highest value that the file has a label for, by column.
    notes : tuple of str
        What the file says about itself (its codes of missing answers).
    """

    names: tuple[str, ...]
    text: str
    what: str
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(file: Path) -> Sheet:
    """Read a workbook or an SPSS file.

    Raises
    ------
    InputError
        Where it is damaged, locked, empty, or the reader is not installed.
    """
    return _workbook(file) if file.suffix.lower() in WORKBOOKS else _spss(file)


def _workbook(file: Path) -> Sheet:
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(file, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{file}: cannot be read as a workbook (damaged, locked by a password, or another "
            f"format under this name: {error}); save it as .xlsx or CSV"
        ) from None
    try:
        filled = []
        for sheet in book.worksheets:
            rows = [row for row in sheet.iter_rows(values_only=True) if any(map(_given, row))]
            if rows:
                filled.append((sheet.title, rows))
    finally:
        book.close()
    if not filled:
        raise InputError(f"{file}: the workbook is empty; expected a table with a header")
    title, rows = filled[0]
    width = max(i + 1 for row in rows for i, cell in enumerate(row) if _given(cell))
    names = tuple(_text(cell) for cell in (*rows[0], *[None] * width)[:width])
    more = len(filled) - 1
    what = f"workbook, sheet {title!r}" + (f" ({more} more left out)" if more else "")
    return Sheet(names, _delimited(names, (row[:width] for row in rows[1:])), what)


def _spss(file: Path) -> Sheet:
    import pyreadstat

    try:
        if file.suffix.lower() == ".por":
            frame, said = pyreadstat.read_por(str(file))
        else:
            frame, said = pyreadstat.read_sav(str(file), user_missing=True)
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as an SPSS file ({error})") from None
    names = tuple(map(str, frame.columns))
    if not names:
        raise InputError(f"{file}: holds no variables; expected a table of answers")
    declared = {name: ranges for name, ranges in said.missing_ranges.items() if ranges}
    for name, ranges_of in declared.items():
        coded = np.array([_in_ranges(value, ranges_of) for value in frame[name]], bool)
        frame[name] = frame[name].mask(coded)
    ranges: dict[str, tuple[float, float]] = {}
    for name, labels in said.variable_value_labels.items():
        codes = [
            float(code)
            for code in labels
            if _is_number(code) and not _in_ranges(code, said.missing_ranges.get(name))
        ]
        if len(codes) > 1:
            ranges[str(name)] = (min(codes), max(codes))
    notes: tuple[str, ...] = ()
    if declared:
        notes = (
            f"the file declares codes of missing answers for {len(declared)} variables; they count "
            "as missing",
        )
    rows = frame.itertuples(index=False, name=None)
    return Sheet(names, _delimited(names, rows), "SPSS file", ranges, notes)


def _is_number(code: Any) -> bool:
    return isinstance(code, int | float)


def _in_ranges(code: Any, ranges: Any) -> bool:
    """Whether a value is a declared code of a missing answer (NaN and None are not)."""
    return any(
        type(each["lo"]) is type(code) and each["lo"] <= code <= each["hi"] for each in ranges or ()
    )


def _delimited(names: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = [_text(cell) for cell in row]
        cells += [""] * (len(names) - len(cells))
        # a line of nothing would be no row at all
        writer.writerow(cells)
    return out.getvalue()


def _given(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _text(cell: Any) -> str:
    """A cell as a spreadsheet shows it; nothing for a missing one."""
    if cell is None or cell != cell:  # NaN differs from itself
        return ""
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, float):
        return repr(cell)
    return str(cell).strip()
