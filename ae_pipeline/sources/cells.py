"""Cells of a table: delimited text as it is written in the world, workbooks and SPSS files.

What a file does not say is found by looking: encoding, delimiter, decimal sign, stray quotes. A
row number counts the rows below the header from 1, blank ones included. Files are only read.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.sources import numerals, sheets, wording

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EMPTY",
    "ENDINGS",
    "MOST_COLUMNS",
    "Format",
    "Layout",
    "Read",
    "count_rows",
    "grid",
    "header",
    "in_words",
    "lines_of",
    "look",
    "read",
    "table",
]

EMPTY = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "#N/A", "#NULL!", ".")
"""Cells that hold nothing, but where a study says that they are answers."""

ENDINGS = (".csv", ".tsv", ".txt", ".tab", ".dat", *sheets.ENDINGS)
"""File name endings of tables."""

MOST_COLUMNS = 20_000
"""Columns beyond which a file is no table of answers."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_BYTES = 1 << 20
_MAGIC = {b"PK\x03\x04": "a workbook or an archive", b"\xd0\xcf\x11\xe0": "an old Office file"}


class Format(NamedTuple):
    """How a study says a table is written; None is found by looking."""

    header_rows: int = 1
    skip_rows: int = 0
    skip_footer: int = 0
    sheet: str | int | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None


class Layout(NamedTuple):
    """How a delimited file is written."""

    file: Path
    encoding: str
    delimiter: str
    skip: int
    """Rows before the first person, names among them."""
    names: tuple[str, ...]
    sheet: sheets.Sheet | None = None
    quoted: bool = True
    """False where quotes are ordinary characters."""
    format: Format = Format()
    stray: int | None = None
    """Line of the first quote that its line does not close."""


class _Opened(NamedTuple):
    """The beginning of a table, before its rows are told apart."""

    lines: list[str]
    encoding: str
    delimiter: str
    skip: int
    sheet: sheets.Sheet | None
    quoted: bool
    stray: int | None
    whole: bool


def _open(file: Path, told: Format) -> _Opened:
    """Find encoding, delimiter and kind of quotes."""
    sheet, encoding = None, "utf-8"
    if file.is_dir():
        raise InputError(f"{file}: is a folder; name the table itself (CSV, TSV, Excel or SPSS)")
    if file.suffix.lower() in sheets.ENDINGS and file.is_file():
        sheet = sheets.read(file, told.sheet)
        text, cut = sheet.text[:SAMPLE_BYTES], len(sheet.text) > SAMPLE_BYTES
    else:
        text, encoding, cut = _head(file, told.encoding)
    if not text.strip():
        raise InputError(f"{file}: is empty; expected a table with a header")
    lines = list(io.StringIO(text, newline=None))  # not at U+2028, as splitlines does
    if cut:
        if len(lines) < 2:
            raise InputError(f"{file}: its first line is too long for column names")
        lines.pop()  # incomplete
    excel = re.fullmatch(r'"?sep=(.)"?\s*', lines[0])  # Excel's own first line
    skip = told.skip_rows + (1 if excel else 0)
    delimiter = excel[1] if excel else "," if sheet else _delimiter(lines[skip : skip + 100])
    quoted, stray = True, None
    if sheet is None:
        quoted, stray = _quoting(file, encoding, delimiter=delimiter)
    return _Opened(lines, encoding, delimiter, skip, sheet, quoted, stray, not cut)


def look(file: Path, told: Format | None = None) -> Layout:
    """Find encoding, delimiter and column names.

    Parameters
    ----------
    file : Path
    told : Format, optional
        What is known already.

    Raises
    ------
    InputError
        Where the file is no table.
    """
    told = told or Format()
    lines, encoding, delimiter, skip, sheet, quoted, stray, _ = _open(file, told)
    body = _rows(file, lines[: skip + 2000], delimiter=delimiter, quoted=quoted)[skip:]
    while len(body) > 1 and not any(body[0]):
        skip, body = skip + 1, body[1:]
    if not body or not any(body[0]):
        raise InputError(f"{file}: the first line is blank; it must hold the column names")
    names = header(body[: told.header_rows])
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{file}: has {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
    first = next((row for row in body[told.header_rows :] if any(row)), [])
    if len(first) == len(names) + 1:  # R's row names, or a delimiter that ends the rows only
        names = [*names, ""] if first[-1] == "" else ["", *names]
    return Layout(
        file,
        encoding,
        delimiter,
        skip + told.header_rows,
        _named(file, names),
        sheet,
        quoted,
        told,
        stray,
    )


def _head(file: Path, encoding: str | None) -> tuple[str, str, bool]:
    """First text of a file, its encoding, and whether it goes on."""
    if file.suffix.lower() in sheets.UNREAD:
        raise InputError(
            f"{file}: is {sheets.UNREAD[file.suffix.lower()]}, which is not read as a table; "
            "export it as CSV"
        )
    try:
        with file.open("rb") as stream:
            head = stream.read(SAMPLE_BYTES)
            found = encoding or _encoding(head, stream)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    if found is None:
        what = next((name for mark, name in _MAGIC.items() if head.startswith(mark)), "binary data")
        raise InputError(
            f"{file}: is no text table but {what}; give it its own ending, or save it as .xlsx "
            "or CSV"
        )
    try:
        text = codecs.getincrementaldecoder(found)("replace").decode(head)
    except LookupError:
        raise InputError(f"{file}: encoding {found!r} is not known; for instance utf-8") from None
    return text, found, len(head) == SAMPLE_BYTES


def _rows(file: Path, lines: list[str], *, delimiter: str, quoted: bool) -> list[list[str]]:
    """Cells of lines."""
    try:
        read = csv.reader(
            lines,
            delimiter=delimiter,
            skipinitialspace=True,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        return [[_unquoted(cell) for cell in row] for row in read]
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as a table ({error})") from error


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    paired = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"') if paired else cell


def grid(file: Path) -> tuple[list[list[str]], bool]:
    """Rows of a file as they stand, names among them, and whether these are all its rows."""
    opened = _open(file, Format())
    lines = opened.lines[opened.skip :]
    rows = _rows(file, lines, delimiter=opened.delimiter, quoted=opened.quoted)
    return rows, opened.whole


def header(rows: Sequence[Sequence[str]]) -> list[str]:
    """Column names from one or several header rows.

    Names are those of the first row that has a different one for every column; where no row
    has, the rows are joined, a name standing for the empty cells to its right.
    """
    if not rows:
        return []
    width = max(map(len, rows))
    full = [[" ".join(cell.split()) for cell in (*row, *[""] * (width - len(row)))] for row in rows]
    if len(full) == 1:
        return full[0]
    for row in full:
        if all(row) and len(set(row)) == width:
            return row
    joined = [""] * width
    for i, row in enumerate(full):
        last = ""
        for j, cell in enumerate(row):
            last = cell or (last if i < len(full) - 1 else "")
            if last and last != joined[j]:
                joined[j] = f"{joined[j]} {last}".strip()
    return joined


def _named(file: Path, names: list[str]) -> tuple[str, ...]:
    """Column names, each one once; raise where one stands twice."""
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(
            f"{file}: column name {wording.quoted(dict.fromkeys(twice))} stands more than once in "
            "the first line; it must hold the column names, each one once (source.skip_rows and "
            "source.header_rows say where they stand)"
        )
    return tuple(names)


def _encoding(head: bytes, rest: Iterable[bytes]) -> str | None:
    """Byte-order mark, else UTF-8 where all of the file is, else Windows-1252; None if not text."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16")):
        if head.startswith(mark):
            return name
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16"
    if b"\0" in head or head.startswith((*_MAGIC, b"$FL", b"\x1f\x8b")):
        return None
    undefined = bytes((0x81, 0x8D, 0x8F, 0x90, 0x9D))
    utf8, western = True, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in itertools.chain([head], rest):
        if utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                utf8 = False
        western = western and chunk.translate(None, undefined) == chunk
    if utf8:
        try:
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            pass
    return "cp1252" if western else "latin-1"


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that cuts the rows like the header, and the header into most fields.

    Where none does, a title may stand above the header: then the one that cuts most rows alike.
    """
    best, usual = (0.0, 1, ","), (0.0, 1, ",")
    for delimiter in DELIMITERS:
        try:
            rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
            counts = [len(row) for row in rows if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            alike = [n in (counts[0], counts[0] + 1) for n in counts[1:]] or [True]
            best = max(best, (round(sum(alike) / len(alike), 1), counts[0], delimiter))
        mode = max(set(counts), key=counts.count, default=1)
        if mode > 1:
            share = sum(n in (mode, mode + 1) for n in counts) / len(counts)
            usual = max(usual, (round(share, 1), mode, delimiter))
    return (best if best[0] >= usual[0] - 0.2 else usual)[2]


def _quoting(file: Path, encoding: str, *, delimiter: str) -> tuple[bool, int | None]:
    """Whether quotes enclose cells, and the first line that does not close one.

    Quotes are ordinary characters where a line does not close one and yet every line has the
    same number of delimiters: as enclosing quotes they would swallow the lines between.
    """
    if encoding.startswith("utf-16"):
        return True, None
    first, counts = None, set()
    mark = delimiter.encode()
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if first is None and line.count(b'"') % 2:
                first = number
            if line.strip():
                counts.add(line.count(mark))
    return first is None or len(counts) > 1, first


def in_words(layout: Layout) -> str:
    """Delimiter and encoding in words."""
    if layout.sheet is not None:
        return "; ".join((layout.sheet.what, *layout.sheet.notes))
    encoding = {
        "utf-8": "UTF-8",
        "utf-8-sig": "UTF-8 with a byte-order mark",
        "latin-1": "Latin-1",
        "cp1252": "Windows-1252",
    }
    separated = DELIMITERS.get(layout.delimiter, repr(layout.delimiter))
    said = f"separated by {separated}, {encoding.get(layout.encoding, layout.encoding.upper())}"
    if not layout.quoted:
        said += f", quotes as ordinary characters (line {layout.stray} opens one and closes none)"
    return said


class Read(NamedTuple):
    """What :func:`read` returns."""

    frame: pd.DataFrame
    """All rows; columns of numbers as float32, NaN where missing or no number."""
    refused: dict[str, NDArray[np.bool_]]
    """Cells of number columns that hold something else."""
    signs: numerals.Signs
    """Decimal sign and thousands separator."""


def read(layout: Layout, numeric: Sequence[str], *, missing: Mapping[str, Sequence[str]]) -> Read:
    """All rows, columns of numbers read however their numbers are written.

    Parameters
    ----------
    layout : Layout
    numeric : sequence of str
        Columns of numbers; they become float32, all others text.
    missing : mapping of str to sequence of str
        Cells that stand for a missing answer, by column; others have :data:`EMPTY`.

    Raises
    ------
    InputError
        Where a row has too many fields.
    """
    told = layout.format
    if told.decimal in (None, ".") and told.thousands is None:
        try:
            frame = table(layout, dict.fromkeys(numeric, np.float32), missing=missing)
            return Read(frame, {}, numerals.Signs(".", ""))
        except ValueError:  # some cell is no plain number
            pass
    frame = table(layout, {}, missing=missing)
    signs = numerals.signs(
        (frame[name] for name in numeric),
        delimiter=layout.delimiter,
        decimal=told.decimal,
        thousands=told.thousands,
    )
    refused: dict[str, NDArray[np.bool_]] = {}
    for name in numeric:
        values = numerals.answers(frame[name], signs)
        bad = np.asarray(values.isna() & frame[name].notna(), dtype=np.bool_)
        if bad.any():
            refused[name] = bad
        frame[name] = values.astype(np.float32)
    return Read(frame, refused, signs)


def table(
    layout: Layout,
    types: Mapping[str, Any],
    *,
    missing: Mapping[str, Sequence[str]],
    **more: Any,
) -> pd.DataFrame:
    """Run pandas' reader, to which ``more`` goes; columns not in ``types`` are text."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                _text(layout),
                sep=layout.delimiter,
                encoding=layout.encoding,
                skiprows=layout.skip,
                header=None,
                names=list(layout.names),
                index_col=False,
                dtype={name: types.get(name, "str") for name in layout.names},
                na_values={name: list(missing.get(name, EMPTY)) for name in layout.names},
                keep_default_na=False,
                quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
                skip_blank_lines=False,
                skipinitialspace=True,
                **more,
            )
    except UnicodeError as error:
        raise InputError(
            f"{layout.file}: is not {layout.encoding.upper()} throughout ({error.args[-1]}); "
            "save it as UTF-8, or name its encoding under source.encoding"
        ) from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in layout.names})
    except pd.errors.ParserWarning:
        raise InputError(
            f"{layout.file}: rows have more fields than the header has names ({len(layout.names)})"
        ) from None
    except pd.errors.ParserError as error:
        raise InputError(f"{layout.file}: {_why(layout, error)}; correct it in the file") from None
    if not layout.quoted:
        for name in frame.columns:
            if name not in types:
                frame[name] = frame[name].str.replace(r'^"(.*)"$', r"\1", regex=True)
    elif layout.stray is not None:
        _refuse_swallowed(layout, frame)
    return frame


def _text(layout: Layout) -> Any:
    """What pandas reads: the file itself, or its text without the last rows."""
    source = layout.file if layout.sheet is None else io.StringIO(layout.sheet.text)
    if not layout.format.skip_footer:
        return source
    if isinstance(source, Path):
        source = io.StringIO(source.read_text(encoding=layout.encoding))
    lines = source.read().rstrip().splitlines(keepends=True)
    return io.StringIO("".join(lines[: -layout.format.skip_footer]))


def _why(layout: Layout, error: Exception) -> str:
    """What pandas found wrong, in our words."""
    told = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if told:
        row = int(told[2]) - layout.skip
        hint = f" (line {layout.stray} opens a quote and does not close it)" if layout.stray else ""
        return f"row {row} has {told[3]} fields where the header has {told[1]} names{hint}"
    if "EOF inside string" in str(error):
        return f"line {layout.stray} opens a quote that is never closed"
    return str(error).partition("C error: ")[2].strip() or str(error)


def _refuse_swallowed(layout: Layout, frame: pd.DataFrame) -> None:
    """Raise where a cell holds whole rows, between a quote and the next."""
    least = max(1, len(layout.names) - 2)
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            continue
        long = frame[name][frame[name].str.contains("\n", regex=False, na=False)]
        for row, cell in long.items():
            if any(line.count(layout.delimiter) >= least for line in str(cell).split("\n")[1:]):
                raise InputError(
                    f"{layout.file}: a quote swallows the rows after row {int(str(row)) + 1} "
                    f"(column {name!r}; line {layout.stray} is the first that does not close a "
                    "quote); correct it in the file"
                )


def lines_of(path: Path) -> Iterator[bytes]:
    """Blocks of a file."""
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(1 << 20), b"")


def count_rows(path: Path | str) -> int:
    """Rows of a delimited file, roughly (its lines); 0 of a workbook or a folder."""
    path = Path(path)
    if path.suffix.lower() in sheets.ENDINGS or not path.is_file():
        return 0
    return sum(block.count(b"\n") for block in lines_of(path))
