"""Numbers as people and programs write them: 4,711; 3,5; 1.234,5; 12 500; "7 - Extremely"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATE", "PLAIN", "Signs", "answers", "identifiers", "labels", "numbers", "signs"]


class Signs(NamedTuple):
    """How numbers are written; thousands is empty where they are not grouped."""

    decimal: str
    thousands: str


PLAIN = Signs(".", "")
_SPACE = "[ \u00a0\u2009\u202f'’]"
_SPACED = rf"^[-+]?\d{{1,3}}(?:{_SPACE}\d{{3}})+(?=$|[.,])"
_GROUPED = {
    ",": re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+"),
    ".": re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+"),
}
DATE = re.compile(
    r"\d{1,4}[. /-]+"
    r"(jan|feb|m[aä]r|mrz|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz]|ene|abr|ago|dic)"
    r"[a-zä]*\.?([. /-]+\d{2,4})?|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-\d{1,2}",
    re.IGNORECASE,
)
"""Numbers that a spreadsheet made dates of."""
_NUMBER = re.compile(r"[-+]?\d[\d.,]*")
_LABELLED = re.compile(
    r"(?P<number>[-+]?\d+)\s*(?:[-–—:.)=]\s*|\s)(?P<label>[^\W\d].*)|"
    r"(?P<before>[^\W\d].*?)\s*[(\[]\s*(?P<last>[-+]?\d+)\s*[)\]]",
    re.DOTALL,
)


def signs(
    columns: Iterable[pd.Series[str]],
    *,
    delimiter: str,
    decimal: str | None = None,
    thousands: str | None = None,
) -> Signs:
    """How the numbers of a file's columns are written.

    A comma groups thousands where three digits stand behind each one (4,711), unless another
    number of the file shows it to be the decimal sign (3,5).

    Parameters
    ----------
    columns : iterable of Series of str
    delimiter : str
        Of the file: where it is a comma, columns are judged one by one.
    decimal, thousands : str, optional
        What is known already.
    """
    cells: set[str] = set()
    for column in columns:
        cells.update(column.dropna().unique())
    numbers = [c for c in (str(cell).strip() for cell in cells) if _NUMBER.fullmatch(c)]
    commas = [n for n in numbers if "," in n]
    points = [n for n in numbers if "." in n]
    if decimal is None:
        both = [n for n in commas if "." in n]
        if both:
            last = [max(n.rfind(","), n.rfind(".")) for n in both]
            by_comma = sum(n[at] == "," for n, at in zip(both, last, strict=True))
            decimal = "," if by_comma > len(both) / 2 else "."
        elif any(not _GROUPED[","].fullmatch(n) for n in commas):
            decimal = "," if all(_GROUPED["."].fullmatch(n) for n in points) else "."
        else:
            decimal = "."
    if thousands is None:
        other = "," if decimal == "." else "."
        those = [n.partition(decimal)[0] for n in (commas if other == "," else points)]
        grouped = those and all(_GROUPED[other].fullmatch(n) for n in those)
        thousands = other if grouped else ""
        if decimal == "." and not commas and any(n.count(".") > 1 for n in points):
            decimal, thousands = ",", "."
    return Signs(decimal, thousands)


def numbers(text: pd.Series[str], written: Signs | None = None) -> pd.Series[float]:
    """Numbers in a text column; NaN for anything else.

    Parameters
    ----------
    text : Series of str
    written : Signs, optional
        None finds it in the column itself.
    """
    import pandas as pd

    text = text.str.strip()
    plain = pd.to_numeric(text, errors="coerce")
    if (plain.notna() == text.notna()).all() and (written is None or written == PLAIN):
        return plain
    written = written or signs([text], delimiter=",")
    spaced = text.str.contains(_SPACED, regex=True, na=False)
    if spaced.any():
        text = text.where(~spaced, text.str.replace(_SPACE, "", regex=True))
    if written.thousands:
        sign = re.escape(written.thousands)
        grouped = text.str.fullmatch(rf"[-+]?\d{{1,3}}({sign}\d{{3}})+([^\d].*)?", na=False)
        text = text.where(~grouped, text.str.replace(written.thousands, "", regex=False))
    if written.decimal == ",":
        wrong = text.str.contains(".", regex=False, na=False)
        text = text.where(~wrong).str.replace(",", ".", regex=False)
    return pd.to_numeric(text, errors="coerce")


def answers(text: pd.Series[str], written: Signs) -> pd.Series[float]:
    """Numbers of a column of answers, end points with labels and truth values among them."""
    found = numbers(text, written)
    left = text[found.isna() & text.notna()]
    if left.empty:
        return found
    known = labels(left.unique())
    truth = {"true": 1.0, "false": 0.0}
    if found.notna().sum() == 0 and set(left.str.strip().str.lower()) <= set(truth):
        known = {cell: truth[cell.strip().lower()] for cell in left.unique()}
    return found.fillna(left.map(known)) if known else found


def labels(cells: Iterable[object]) -> dict[str, float]:
    """Cells such as "7 - Extremely" and "Extremely (7)" with their numbers.

    Nothing where a label stands with two numbers ("10 minutes", "20 minutes").
    """
    found: dict[str, float] = {}
    words: dict[str, float] = {}
    for cell in map(str, cells):
        told = _LABELLED.fullmatch(cell.strip())
        if told is None or DATE.fullmatch(cell.strip()):
            continue
        number = float(told["number"] or told["last"])
        label = (told["label"] or told["before"]).strip().casefold()
        if words.setdefault(label, number) != number:
            return {}
        found[cell] = number
    return found


def identifiers(text: pd.Series[str]) -> bool:
    """Whether a column's digits are names, not numbers: leading zeros, or too many for a number."""
    cells = text.str.strip()
    return bool(cells.str.fullmatch(r"0\d+|\d{16,}", na=False).any())
