"""Cells of a table: delimited text as it is written in the world, workbooks and SPSS files.

What a file does not say is found by looking: encoding, delimiter, decimal sign, where the names
stand. A row number counts the rows below the header from 1, blank ones included. Files are only
read.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.sources import sheets, wording

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EMPTY",
    "ENDINGS",
    "Layout",
    "count_rows",
    "in_words",
    "look",
    "numbers",
    "read",
    "table",
]

EMPTY = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "#N/A", "#NULL!", ".")
"""Cells that hold nothing in any column."""

ENDINGS = (".csv", ".tsv", ".txt", ".tab", ".dat", *sheets.ENDINGS)
"""File name endings of tables."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_BYTES = 1 << 20


class Layout(NamedTuple):
    """How a delimited file is written."""

    file: Path
    encoding: str
    delimiter: str
    skip: int
    names: tuple[str, ...]
    sheet: sheets.Sheet | None = None


def look(file: Path) -> Layout:
    """Find encoding, delimiter and column names."""
    if file.suffix.lower() in sheets.ENDINGS and file.is_file():
        sheet = sheets.read(file)
        return Layout(file, "utf-8", ",", 0, _named(file, list(sheet.names)), sheet)
    if file.is_dir():
        raise InputError(f"{file}: is a folder; name the table itself (CSV, TSV, Excel or SPSS)")
    try:
        with file.open("rb") as stream:
            head = stream.read(SAMPLE_BYTES)
            encoding = _encoding(head, stream)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    if not head.strip():
        raise InputError(f"{file}: is empty; expected a table with a header")
    if encoding is None:
        raise InputError(
            f"{file}: is no text table (an old workbook, or damaged); save it as .xlsx or CSV"
        )
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    lines = text.splitlines(keepends=True)
    if len(head) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # cut off
    told = re.fullmatch(r'"?sep=(.)"?\s*', lines[0])  # Excel's own first line
    skip = 1 if told else 0
    delimiter = told[1] if told else _delimiter(lines[:100])
    try:
        rows = csv.reader(lines[skip:], delimiter=delimiter, skipinitialspace=True)
        names = [name.strip() for name in next(rows, [])]
        first = next((row for row in rows if any(row)), [])
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as a table ({error})") from error
    if not any(names):
        raise InputError(f"{file}: the first line is blank; it must hold the column names")
    if len(first) == len(names) + 1:  # R's row names, or a delimiter that ends the rows only
        names = [*names, ""] if first[-1] == "" else ["", *names]
    return Layout(file, encoding, delimiter, skip, _named(file, names))


def _named(file: Path, names: list[str]) -> tuple[str, ...]:
    """Column names, each one once; raise where one stands twice."""
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputError(
            f"{file}: column name {wording.quoted(twice)} stands more than once in the first line; "
            "it must hold the column names, each one once"
        )
    return tuple(names)


def _encoding(head: bytes, rest: Iterable[bytes]) -> str | None:
    """Byte-order mark, else UTF-8 where all of the file is, else Latin-1; None if not text."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16")):
        if head.startswith(mark):
            return name
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16"
    if b"\0" in head or head.startswith((b"PK\x03\x04", b"$FL", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")):
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
        for chunk in rest:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that cuts the rows like the header, and the header into most fields."""
    best = (0.0, 1, ",")
    for delimiter in DELIMITERS:
        try:
            rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
            counts = [len(row) for row in rows if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            alike = [n in (counts[0], counts[0] + 1) for n in counts[1:]] or [True]
            best = max(best, (round(sum(alike) / len(alike), 1), counts[0], delimiter))
    return best[2]


def in_words(layout: Layout) -> str:
    """Delimiter and encoding in words."""
    if layout.sheet is not None:
        return "; ".join((layout.sheet.what, *layout.sheet.notes))
    encoding = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a byte-order mark", "latin-1": "Latin-1"}
    separated = DELIMITERS.get(layout.delimiter, repr(layout.delimiter))
    return f"separated by {separated}, {encoding.get(layout.encoding, layout.encoding.upper())}"


def read(
    layout: Layout,
    numeric: Sequence[str],
    *,
    missing: Mapping[str, Sequence[str]],
    decimal: str = ".",
) -> tuple[pd.DataFrame, str]:
    """All rows, and the decimal sign that they are written with.

    Parameters
    ----------
    layout : Layout
    numeric : sequence of str
        Columns of numbers; they become float32, all others text.
    missing : mapping of str to sequence of str
        Cells that stand for a missing answer, by column; others have :data:`EMPTY`.
    decimal : str
        Tried first; where it is a point and commas are found, commas are.

    Raises
    ------
    InputError
        Where a row has too many fields, or a column of numbers has words.
    """
    try:
        return table(
            layout, dict.fromkeys(numeric, np.float32), missing=missing, decimal=decimal
        ), decimal
    except ValueError as error:
        text = table(layout, {}, missing=missing, decimal=decimal)
        refused = {name: _not_numbers(text[name], decimal) for name in numeric}
        refused = {name: bad for name, bad in refused.items() if bad.any()}
        if decimal == "." and any(
            text.loc[bad, name].str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any()
            for name, bad in refused.items()
        ):
            return read(layout, numeric, missing=missing, decimal=",")
        if not refused:
            raise InputError(f"{layout.file}: cannot be read as numbers ({error})") from None
        first, *more = refused
        also = f", and so {wording.have(more)} {wording.items(more)}" if more else ""
        raise InputError(
            f"{layout.file}: column {first!r} should hold numbers but has text "
            f"({wording.rows(np.flatnonzero(refused[first]) + 1)}){also}; leave it out of items, "
            "put words for missing answers under missing_codes, or give its answers as levels"
        ) from None


def table(
    layout: Layout,
    types: Mapping[str, Any],
    *,
    missing: Mapping[str, Sequence[str]],
    decimal: str = ".",
    **more: Any,
) -> pd.DataFrame:
    """Run pandas' reader, to which ``more`` goes; columns not in ``types`` are text."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                layout.file if layout.sheet is None else io.StringIO(layout.sheet.text),
                sep=layout.delimiter,
                encoding=layout.encoding,
                skiprows=layout.skip,
                header=0,
                names=list(layout.names),
                index_col=False,
                dtype={name: types.get(name, "str") for name in layout.names},
                na_values={name: list(missing.get(name, EMPTY)) for name in layout.names},
                keep_default_na=False,
                decimal=decimal,
                skip_blank_lines=False,
                skipinitialspace=True,
                **more,
            )
    except UnicodeError as error:
        raise InputError(
            f"{layout.file}: says it is {layout.encoding.upper()} but is not ({error.args[-1]}); "
            "save it as UTF-8"
        ) from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"{layout.file}: rows have more fields than the header has names ({len(layout.names)})"
        ) from None
    except pd.errors.ParserError as error:
        told = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        what = str(error).partition("C error: ")[2].strip() or str(error)
        if told:
            row = int(told[2]) - 1 - layout.skip
            what = f"row {row} has {told[3]} fields where the header has {told[1]} names"
        raise InputError(f"{layout.file}: {what}; correct it in the file") from None
    return frame


def numbers(text: pd.Series[str]) -> pd.Series[float]:
    """Numbers in a text column, with decimal points or commas; NaN for anything else."""
    import pandas as pd

    return pd.to_numeric(text.str.strip().str.replace(",", ".", regex=False), errors="coerce")


def _not_numbers(text: pd.Series[str], decimal: str) -> NDArray[np.bool_]:
    """Which cells are neither empty nor numbers."""
    import pandas as pd

    pointed = text.str.strip()
    if decimal == ",":
        pointed = pointed.str.replace(".", "?", regex=False).str.replace(",", ".", regex=False)
    bad = pd.to_numeric(pointed, errors="coerce").isna() & text.notna()
    return np.asarray(bad, dtype=np.bool_)


def count_rows(path: Path | str) -> int:
    """Rows of a delimited file, roughly (its lines); 0 of a workbook or a folder."""
    path = Path(path)
    if path.suffix.lower() in sheets.ENDINGS or not path.is_file():
        return 0
    with path.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
