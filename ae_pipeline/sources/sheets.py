"""Tables that are no text: workbooks, SPSS and Stata files, as delimited text in memory.

Cells become text as a spreadsheet shows them (3, not 3.0), so that everything after is the same
as for a CSV file. Files are only read, in a process of their own (:mod:`ae_pipeline.sources.apart`)
with bounded memory; formulas count by their last saved value, and cells that show an error
(``#VALUE!``) are empty.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ae_pipeline.data import InputError
from ae_pipeline.sources.apart import Apart, serve

__all__ = ["ENDINGS", "UNREAD", "WORKBOOKS", "Sheet", "read"]

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
STATISTICS = {".sav": "SPSS", ".zsav": "SPSS", ".por": "SPSS", ".dta": "Stata"}
ENDINGS = (*WORKBOOKS, *STATISTICS)
"""File name endings that :func:`read` knows."""

UNREAD = {
    ".mat": "MATLAB data",
    ".xdf": "an XDF recording",
    ".sas7bdat": "a SAS table",
    ".rds": "R data",
    ".rda": "R data",
    ".rdata": "R data",
    ".parquet": "a Parquet table",
    ".feather": "a Feather table",
    ".json": "JSON",
    ".numbers": "a Numbers spreadsheet",
    ".pdf": "a PDF document",
    ".docx": "a Word document",
    ".doc": "a Word document",
}
"""Formats that people have tables in and that are not read."""

MEMORY_MB = 450
"""Most memory that a table's reader may take beyond what it starts with."""
CPU_S = 120
"""Most processor time that a reader may take; a million cells take about two seconds."""
AT_A_TIME = 10_000
_MISSING_LABEL = (
    "no answer|not answered|no response|refused|refusal|declined|prefer not|missing|skipped|"
    "not applicable|not asked|n/?a|don'?t know|dk|unknown|keine angabe|k\\. ?a\\.|verweigert|"
    "wei(ss|ß) nicht|nicht zutreffend|fehlend|no (contesta|responde|sabe)|ns/?nc|no aplica|"
    "sin respuesta|perdido"
)


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Parameters
    ----------
    text : str
        Comma-separated, one line a row of the sheet, its names among them.
    what : str
        What was read, in words.
    ranges : dict of str to (low, high)
        Lowest and highest value that the file has a label for, by column.
    codes : dict of str to list of float
        Values whose label says that they are no answer, by column.
    notes : tuple of str
        What the file says about itself (its codes of missing answers).
    """

    text: str
    what: str
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    codes: dict[str, list[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(file: Path, sheet: str | int | None = None) -> Sheet:
    """Read a workbook, an SPSS or a Stata file.

    Parameters
    ----------
    file : Path
    sheet : str or int, optional
        Of a workbook: name, or number from 1; None for the one that holds most cells.

    Raises
    ------
    InputError
        Where it is damaged, locked, empty, or the reader is not installed.
    """
    ending = file.suffix.lower()
    book = ending in WORKBOOKS
    package = "python_calamine" if book else "pyreadstat"
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise InputError(f"{file}: needs the package {name} to be read (pip install {name})")
    what = "a workbook" if book else f"{_article(STATISTICS[ending])} file"
    other = Apart(
        file,
        "ae_pipeline.sources.sheets",
        reader=f"the library that reads {'workbooks' if book else STATISTICS[ending]}",
        what=what,
        advice="open it in the program that wrote it and save the table as CSV",
        arguments=(json.dumps(sheet),),
        bounded=True,
    )
    held = other.held
    text = other.ask("text", held["n_bytes"]).decode()
    other.close()
    return Sheet(
        text,
        held["what"],
        {name: (low, high) for name, (low, high) in held["ranges"].items()},
        held["codes"],
        tuple(held["notes"]),
    )


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOS" and name.isupper() else f"a {name}"


# ------------------------------------------------------------------ in the other process


def _opened(file: Path, sheet: str | int | None) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """Read the file; the answer to every question is its text."""
    found = _workbook(file, sheet) if file.suffix.lower() in WORKBOOKS else _statistics(file)
    text = found.pop("text").encode("utf-8", "replace")
    held = {"ranges": {}, "codes": {}, "notes": [], **found, "n_bytes": len(text)}
    return held, lambda _: text


def _workbook(file: Path, wanted: str | int | None) -> dict[str, Any]:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_path(file)
        titles = list(book.sheet_names)
        chosen = titles if wanted is None else [_title(wanted, titles)]
        sheets = {title: book.get_sheet_by_name(title) for title in chosen}
    except PasswordError:
        raise InputError("is locked by a password; save a copy without one") from None
    except (CalamineError, OSError, ValueError) as error:
        raise InputError(
            f"cannot be read as a workbook (damaged, or another format under this name: "
            f"{str(error)[:200]}); save it as .xlsx or CSV"
        ) from None
    size = {title: sheet.height * sheet.width for title, sheet in sheets.items()}
    if not any(size.values()):
        raise InputError("the workbook is empty; expected a table with a header")
    title = max(size, key=lambda each: size[each])
    n_filled = sum(map(bool, size.values()))
    more = n_filled - 1
    others = f" ({more} other{'s' if more > 1 else ''} with data not read)" if more else ""
    sheet = sheets[title]
    top, left = sheet.start or (0, 0)
    rows = ([None] * left + row for row in sheet.iter_rows())
    text = _delimited([""] * (top if sheet.height == sheet.total_height - top else 0), rows)
    return {"text": text, "what": f"workbook, sheet {title!r}{others}"}


def _title(wanted: str | int, titles: Sequence[str]) -> str:
    """The name of a sheet that is given by name or by number."""
    if isinstance(wanted, int) and 1 <= wanted <= len(titles):
        return titles[wanted - 1]
    if wanted in titles:
        return str(wanted)
    raise InputError(
        f"has no sheet {wanted!r}; source.sheet must be one of "
        + ", ".join(repr(title) for title in titles[:8])
    )


def _statistics(file: Path) -> dict[str, Any]:
    import pyreadstat

    kind = STATISTICS[file.suffix.lower()]
    reader: Any = {".por": pyreadstat.read_por, ".dta": pyreadstat.read_dta}.get(
        file.suffix.lower(), pyreadstat.read_sav
    )
    more: dict[str, Any] = {} if reader is pyreadstat.read_por else {"user_missing": True}
    try:
        _, said = reader(str(file), metadataonly=True, **more)
        names = [str(name) for name in said.column_names]
        if not names:
            raise InputError("holds no variables; expected a table of answers")
        declared = {
            str(name): ranges for name, ranges in (said.missing_ranges or {}).items() if ranges
        }
        out = io.StringIO()
        out.write(_delimited([], [names]))
        for frame in _chunks(reader, str(file), **more):
            rows = frame.astype(object).itertuples(index=False, name=None)
            held = [declared.get(name) for name in names]
            out.write(
                _delimited(
                    [],
                    (
                        [
                            None
                            if isinstance(cell, str | float) and _in_ranges(cell, ranges)
                            else cell
                            for cell, ranges in zip(row, held, strict=True)
                        ]
                        for row in rows
                    )
                    if declared
                    else rows,
                )
            )
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, OSError, ValueError) as error:
        raise InputError(f"cannot be read as {_article(kind)} file ({str(error)[:200]})") from None
    ranges, codes = _labelled(said, declared)
    notes = []
    if declared:
        notes.append(
            f"the file declares codes of missing answers for {len(declared)} variables; they count "
            "as missing"
        )
    return {
        "text": out.getvalue(),
        "what": f"{kind} file",
        "ranges": ranges,
        "codes": codes,
        "notes": notes,
    }


def _labelled(
    said: Any, declared: dict[str, Any]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Ranges and codes of missing answers that value labels give, by variable."""
    import re

    no_answer = re.compile(rf"\W*({_MISSING_LABEL})\b.*", re.IGNORECASE | re.DOTALL)
    ranges: dict[str, list[float]] = {}
    codes: dict[str, list[float]] = {}
    for name, labels in said.variable_value_labels.items():
        numbers = {
            float(code): str(label)
            for code, label in labels.items()
            if isinstance(code, int | float) and not _in_ranges(code, declared.get(str(name)))
        }
        none = sorted(code for code, label in numbers.items() if no_answer.fullmatch(label))
        left = sorted(set(numbers) - set(none))
        if none:
            codes[str(name)] = none
        if len(left) > 1:
            ranges[str(name)] = [left[0], left[-1]]
    return ranges, codes


def _chunks(reader: Any, file: str, **more: Any) -> Iterator[Any]:
    """All rows, some at a time."""
    offset = 0
    while True:
        frame, _ = reader(file, row_offset=offset, row_limit=AT_A_TIME, **more)
        if len(frame) or not offset:
            yield frame
        if len(frame) < AT_A_TIME:
            return
        offset += AT_A_TIME


def _in_ranges(code: Any, ranges: Any) -> bool:
    """Whether a value is a declared code of a missing answer (NaN and None are not)."""
    return any(
        isinstance(each["lo"], str) == isinstance(code, str) and each["lo"] <= code <= each["hi"]
        for each in ranges or ()
    )


def _delimited(before: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows as comma-separated text, cells as a spreadsheet shows them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in before:
        out.write(f"{line}\n")
    for row in rows:
        cells = [_text(cell) for cell in row]
        if any(cells):
            writer.writerow(cells)
        else:
            out.write("," * (len(cells) - 1) + "\n")
    return out.getvalue()


def _text(cell: Any) -> str:
    """A cell as a spreadsheet shows it; nothing for a missing one."""
    if cell is None or cell != cell:  # NaN differs from itself
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, float):
        return repr(cell)
    return str(cell).replace("\r\n", "\n").replace("\r", "\n").strip()


if __name__ == "__main__":
    serve(
        lambda: _opened(Path(sys.argv[1]), json.loads(sys.argv[2])),
        memory_mb=MEMORY_MB,
        cpu_s=CPU_S,
    )
