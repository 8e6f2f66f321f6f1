"""What a table holds beside answers: identities, groups, attention checks, ages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.sources import cells, numerals, wording
from ae_pipeline.sources.items import QuestionnaireSource, is_answer, match

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["answers_beside_codes", "beside", "checks_failed", "grouped"]

_AGE = re.compile(r"(?<![a-z])(age|alter)(?![a-z])", re.IGNORECASE)
_LEAST_AGE, _MOST_AGE = 6, 105
"""Years; ages beyond are reported as implausible."""
_NO_GROUP = ("NA", "N/A", "n/a", "#N/A", "#NULL!", "NaN", "nan")


def grouped(text: pd.Series[str]) -> pd.Series[str]:
    """A column of groups: "None" is one, and so is NA among codes of countries."""
    known = text.dropna().str.strip()
    values = set(known.unique()) - {"NA"}
    if len(values) > 2 and all(len(v) == 2 and v.isupper() for v in values):
        return text
    return text.mask(text.str.strip().isin(_NO_GROUP))


def checks_failed(
    file: Path, rest: pd.DataFrame, checks: Mapping[str, float | str]
) -> NDArray[np.int64]:
    """How many attention checks each person failed; one that was not answered is no failure."""
    failed = np.zeros(len(rest), np.int64)
    for name, right in checks.items():
        if name not in rest:
            near = wording.nearest(name, list(map(str, rest.columns)))
            raise InputError(f"{file}: checks: no column {name!r}; {near}")
        given = rest[name].str.strip()
        number = numerals.answers(given, numerals.PLAIN)
        same = given.map(wording.plainly) == wording.plainly(
            right if isinstance(right, str) else f"{right:g}"
        )
        if not isinstance(right, str):
            same |= number == right
        failed += (given.notna() & ~same).to_numpy(np.int64)
    return failed


def beside(
    file: Path,
    rest: pd.DataFrame,
    *,
    source: QuestionnaireSource,
    rows: NDArray[np.int64],
    notes: list[str],
    layout: cells.Layout,
    signs: numerals.Signs,
) -> pd.DataFrame:
    """Identities and what else the table holds."""
    import pandas as pd

    id_column, subject = source.id_column, None
    if source.subject_column is not None:
        subject = rest[source.subject_column].str.strip()
        without = (subject.isna() | (subject == "")).to_numpy()
        if without.any():
            raise InputError(
                f"{file}: subject column {source.subject_column!r} is empty in "
                f"{wording.rows(rows[without])}; give each person an id"
            )
        if id_column != source.subject_column:
            rest = rest.drop(columns=source.subject_column)
    if id_column is None and subject is not None:
        nth = subject.groupby(subject).cumcount() + 1
        recording = subject + "__" + nth.astype(str)
    elif id_column is None:
        width = max(4, len(str(rows[-1])))
        recording = pd.Series([f"row-{row:0{width}d}" for row in rows.tolist()], dtype="str")
    else:
        recording = rest.pop(id_column).str.strip()
        without = (recording.isna() | (recording == "")).to_numpy()
        if without.any():
            raise InputError(
                f"{file}: id column {id_column!r} is empty in {wording.rows(rows[without])}; "
                "give each person an id or leave id_column out"
            )
        again = recording.duplicated(keep=False).to_numpy()
        if again.any():
            places = rows[(recording == recording[again].iloc[0]).to_numpy()]
            n_ids = recording[again].nunique()
            raise InputError(
                f"{file}: id column {id_column!r} holds the same id in {wording.rows(places)}"
                + (f" ({n_ids} ids stand more than once)" if n_ids > 1 else "")
                + "; ids must be unique: correct them, take another id_column, or, where a "
                f"person has several rows, set subject_column: {id_column} and id_column: null"
            )
    meta: dict[str, pd.Series[Any]] = {"recording": recording}
    if subject is not None:
        meta["subject"] = subject
    texts = [rest[name] for name in rest if not pd.api.types.is_numeric_dtype(rest[name])]
    written = None
    if layout.delimiter != ",":  # one file has one decimal sign; commas may be quoted in CSV
        decimal = "," if signs.decimal == "," else source.decimal
        written = numerals.signs(texts, delimiter=layout.delimiter, decimal=decimal)
    for name in rest.columns:
        column = rest[name]
        if name.startswith("Unnamed: ") and column.isna().all():
            continue  # a delimiter at the end of every line
        if not pd.api.types.is_numeric_dtype(column):
            numbers = numerals.numbers(column, written)
            same = (numbers.notna() == column.notna()).all()
            column = numbers if same and not numerals.identifiers(column) else column
        notes += _implausible(file, name, column=column, rows=rows)
        if name in ("recording", "subject"):
            notes.append(f"{file.name}: column {name!r} is kept as {name + '_'!r}")
            name += "_"
        meta[name] = column
    return pd.DataFrame(meta)


def _implausible(
    file: Path, name: str, *, column: pd.Series[Any], rows: NDArray[np.int64]
) -> list[str]:
    """Ages that nobody who answers a questionnaire has."""
    import pandas as pd

    if not _AGE.search(name) or not pd.api.types.is_numeric_dtype(column):
        return []
    odd = ((column < _LEAST_AGE) | (column > _MOST_AGE)).to_numpy()
    if not odd.any() or odd.mean() > 0.5:  # most of them: no ages in years at all
        return []
    values = ", ".join(f"{value:g}" for value in np.unique(column[odd])[:4])
    return [
        f"{file.name}: column {name!r} has {wording.count(odd.sum(), 'implausible value')} "
        f"({values}; {wording.rows(rows[odd])}); check before using it"
    ]


def answers_beside_codes(
    file: Path, source: QuestionnaireSource, items: Sequence[str]
) -> list[str]:
    """Codes of the whole table that are answers in some block."""
    notes = []
    for code in source.missing_codes:
        blocks = [b for b in source.items if b.missing_codes is None and is_answer(b, code)]
        names = [
            name
            for name in items
            if any(match(block.items, [name], where="", strict=False) for block in blocks)
        ]
        if names:
            shown = code if isinstance(code, str) else f"{code:g}"
            notes.append(
                f"{file.name}: {shown} is a possible answer of {wording.items(names)} and counts "
                "as one; put it under missing_codes of the block if it means no answer"
            )
    return notes
