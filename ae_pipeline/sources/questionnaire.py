"""Questionnaires: tables of answers (CSV, TSV, Excel, SPSS), one person a row, as samples.

Conventions: a row number counts the rows below the header from 1, blank ones included (row 1
stands in line 2 of the file); it is what messages and notes name, never an identity or the
content of a text cell. Values are the answers as given, after reverse keying by the *possible*
range; a missing answer is masked and never filled in. The id column and every column that is no
item become metadata, never features. Files are only read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from ae_pipeline.config import Config
from ae_pipeline.data import Axis, Column, InputError, Samples
from ae_pipeline.sources import cells, wording

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ItemBlock",
    "QuestionnaireSource",
    "Table",
    "as_answered",
    "find",
    "group_columns",
    "load",
    "possible_range",
]

MAX_LEVELS = 10
"""Whole-number answers with at most so many possible values count as ordinal by themselves."""

LARGEST = 1e9
"""Numbers beyond are no answers, and their squares would be none of single precision."""


# ------------------------------------------------------------------------ configuration


def _listed(given: Any) -> Any:
    """Let ``items: A*`` stand for ``items: [A*]``."""
    return (given,) if isinstance(given, str | dict | Config) else given


def _no_switch(given: Any) -> Any:
    """Refuse what YAML made of an unquoted yes or no, before it counts as 1 or 0."""
    if isinstance(given, bool):
        raise ValueError("write words such as 'yes' and 'no' in quotes")
    return given


_Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_Code = Annotated[float | str, BeforeValidator(_no_switch)]


class ItemBlock(Config):
    """Items that are answered in the same way."""

    items: Annotated[_Names, Field(min_length=1)]
    """Columns by name or by pattern (* and ?), for instance [A1, A2] or "A*"."""
    scale: str = ""
    """Name of the scale that the items belong to, for totals and figures; empty for none."""
    range: tuple[float, float] | None = None
    """Lowest and highest possible answer (not the observed ones), for instance [1, 6]."""
    levels: tuple[str, ...] = ()
    """Possible answers in ascending order where they are words; then leave range empty."""
    reverse: _Names = ()
    """Items of this block to turn round (lowest + highest - answer), by name or pattern."""
    type: Literal["auto", "continuous", "ordinal", "nominal", "binary"] = "auto"
    """What the answers are; auto: whole numbers in a range of at most 10 values are ordinal."""

    @model_validator(mode="before")
    @classmethod
    def _named_alone(cls, given: Any) -> Any:
        """A bare name or pattern is a block of which nothing else is known."""
        return {"items": (given,)} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _consistent(self) -> ItemBlock:
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"range [{low:g}, {high:g}] must be finite, the lowest first")
        if self.levels and self.range is not None:
            raise ValueError("give range (for numbers) or levels (for words), not both")
        if self.levels and self.type in ("auto", "continuous"):
            raise ValueError("levels are words; say type: ordinal, nominal or binary")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a word stands twice in levels")
        if self.bounds is None and (self.reverse or self.type not in ("auto", "continuous")):
            why = "reverse keying" if self.reverse else f"type: {self.type}"
            raise ValueError(f"{why} needs the possible range, for instance range: [1, 5]")
        if self.bounds is not None and self.type in ("ordinal", "nominal", "binary"):
            low, high = self.bounds
            if not (low.is_integer() and high.is_integer()):
                raise ValueError(f"type: {self.type} needs a range of whole numbers")
            if self.type == "binary" and high - low != 1:
                raise ValueError("type: binary needs two possible answers, as in range: [0, 1]")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest possible answer; words count from 0."""
        return (0.0, float(len(self.levels) - 1)) if self.levels else self.range


class QuestionnaireSource(Config):
    """A table of answers: one person a row, one item a column."""

    kind: Literal["questionnaire"] = "questionnaire"
    """Answers to questions, in a table."""
    path: Path
    """CSV, TSV, Excel (.xlsx) or SPSS (.sav) file, or a folder of them; delimiter, encoding and
    decimal commas are detected."""
    id_column: str | None = None
    """Column that identifies a person, never shown to a model; null numbers the rows."""
    items: Annotated[tuple[ItemBlock, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Names, patterns ("A*") or blocks of items; every other column is kept as metadata only."""
    missing_codes: Annotated[tuple[_Code, ...], BeforeValidator(_listed)] = ()
    """Codes that mean 'no answer', for instance [-9, 99, refused]; empty cells and NA always do."""
    presentation_order: _Names | None = None
    """All items in the order people saw them; ["*"] where that is the order of the columns."""
    response_times: _Names = ()
    """Columns of response times, by name or pattern; kept beside the answers, never a feature."""
    groups: _Names | None = None
    """Columns such as age and gender, by which the share of flagged people is shown; null takes
    those whose names say so."""


class Table(NamedTuple):
    """What :func:`load` returns."""

    samples: Samples
    """The answers."""
    notes: tuple[str, ...]
    """What was detected, left out or is doubtful, in words, for the report (no identities)."""
    presentation_order: tuple[int, ...] | None
    """Positions in ``samples.columns`` in the order people saw them; None where not known."""
    response_times: tuple[str, ...]
    """Names of the columns of ``samples.meta`` that hold response times."""


# ------------------------------------------------------------------------------- loading


def find(path: Path | str) -> list[Path]:
    """List the tables of one input: the file itself, or the delimited files of a folder.

    Raises
    ------
    InputError
        Where there is nothing.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a CSV, TSV, Excel or SPSS file")
    found = sorted(f for f in path.iterdir() if f.suffix.lower() in cells.ENDINGS and f.is_file())
    if not found:
        endings = ", ".join(cells.ENDINGS)
        raise InputError(f"{path}: holds no tables; expected files ending in {endings}")
    return found


def load(
    paths: Sequence[Path | str],
    source: QuestionnaireSource,
    *,
    columns: Sequence[Column] | None = None,
) -> Table:
    """Answers of one or several tables of the same items.

    Parameters
    ----------
    paths : sequence of Path or str
        Files or folders (see :func:`find`); ``source.path`` is not looked at.
    source : QuestionnaireSource
    columns : sequence of Column, optional
        The items of a trained model: the table is held to exactly these, in this order, with
        these types and levels, and an item that nobody answered stays. None finds them in the
        data: types by :attr:`ItemBlock.type`, items without any answer left out.

    Returns
    -------
    Table
        ``samples.values`` (n, items) float32 after reverse keying; ``samples.mask`` True where
        observed; ``samples.meta`` with ``recording`` and ``subject`` (the id as text, else
        ``row-0001``; of several files ``FILE__row-0001``) and every column that is no item.
        Rows without any answer are left out.

    Raises
    ------
    InputError
        Where a table cannot be used; one line with file, column and rows.
    """
    import pandas as pd

    files = list(dict.fromkeys(file.absolute() for path in paths for file in find(path)))
    parts = [_read(file, source, columns=columns) for file in files]
    items = parts[0].items
    for part in parts[1:]:
        differing = {i.name for i in part.items} ^ {i.name for i in items}
        if differing or part.items != items:
            which = wording.quoted(sorted(differing)) if differing else "order"
            raise InputError(
                f"{part.file}: items differ from {files[0].name} ({which}); name the items "
                "one by one or load the tables apart"
            )
    if len(parts) > 1 and source.id_column is None:
        for part, stem in zip(parts, _stems(files), strict=True):
            part.meta["recording"] = f"{stem}__" + part.meta["recording"]
    meta = pd.concat([part.meta for part in parts], ignore_index=True)
    _refuse_shared_ids(parts)
    values = np.concatenate([part.values for part in parts]) if len(parts) > 1 else parts[0].values
    notes = [note for part in parts for note in part.notes]

    observed = ~np.isnan(values)
    if not observed.any():
        raise InputError(
            f"{_files(files)}: nobody answered any item; check items and missing_codes"
        )
    answered = observed.any(axis=1)
    if not answered.all():
        for part, empty in zip(parts, _split(~answered, parts), strict=True):
            if empty.any():
                rows = wording.rows(part.rows[empty])
                notes.append(f"{part.file.name}: no item answered in {rows}; left out")
        values, observed = values[answered], observed[answered]
        meta = meta[answered].reset_index(drop=True)
    if columns is None:
        used = observed.any(axis=0)
        if not used.all():
            names = [item.name for item, use in zip(items, used, strict=True) if not use]
            notes.append(f"{wording.items(names)} answered by nobody; left out")
            items = [item for item, use in zip(items, used, strict=True) if use]
            values, observed = values[:, used], observed[:, used]
        notes += _doubts(files, items, values=values)
    for j, item in enumerate(items):
        if item.reverse and item.bounds is not None:
            values[:, j] = sum(item.bounds) - values[:, j]
    order = _shown_order(files[0], source, items=parts[0].items, strict=columns is None)
    found = tuple(_column(item, values[:, j], order=order) for j, item in enumerate(items))
    n_missing = int(observed.size - observed.sum())
    if n_missing:
        share = 100 * n_missing / observed.size
        notes.append(f"{n_missing:,} of {observed.size:,} answers ({share:.2g}%) missing; masked")
    values[~observed] = 0

    meta.insert(1, "subject", meta["recording"])
    names = [item.name for item in items]
    samples = Samples(
        "questionnaire",
        values,
        meta,
        (Axis("item", tuple(names)),),
        mask=observed,
        columns=found if columns is None else tuple(columns),
        response_times=parts[0].response_times,
    )
    names_left = [item.name for item in items]
    shown = None if order is None else tuple(names_left.index(n) for n in order if n in names_left)
    return Table(samples, tuple(notes), shown, parts[0].response_times)


def _shown_order(
    file: Path, source: QuestionnaireSource, *, items: list[_Item], strict: bool
) -> list[str] | None:
    """Names of the items in the order people saw them; None where it is not known."""
    if source.presentation_order is None:
        return None
    every = [item.name for item in items]
    where = f"{file}: presentation_order"
    shown = _match(source.presentation_order, every, where=where, strict=strict)
    if len(shown) < len(every):
        raise InputError(
            f"{where} leaves out {wording.items(n for n in every if n not in shown)}; "
            'name every item, or ["*"] for the order of the columns'
        )
    return shown


def possible_range(source: QuestionnaireSource, column: Column) -> tuple[float, float] | None:
    """Lowest and highest possible answer of an item; None where the study declares none."""
    if column.levels:
        return column.levels[0], column.levels[-1]
    return _block_of(source, column.name).bounds


def as_answered(
    source: QuestionnaireSource,
    columns: Sequence[Column],
    *,
    values: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Answers as people gave them: the way back from :func:`load`.

    Parameters
    ----------
    source : QuestionnaireSource
    columns : sequence of Column
        Items of the model.
    values : array of shape (n, items)
        As models have them; what is no possible answer becomes the nearest one.
    mask : array of bool, optional
        False leaves a cell empty.

    Returns
    -------
    DataFrame
        One column an item, reverse keying undone, answers in words where the study has words.
    """
    import pandas as pd

    out: dict[str, Any] = {}
    for j, column in enumerate(columns):
        block = _block_of(source, column.name)
        answers = np.array(values[:, j], dtype=np.float64)
        if column.levels:
            levels = np.array(column.levels)
            answers = levels[np.abs(answers[:, None] - levels).argmin(1)]
        bounds = possible_range(source, column)
        if bounds is not None:
            answers = np.clip(answers, *bounds)
            if column.name in _match(block.reverse, [column.name], where="", strict=False):
                answers = sum(bounds) - answers
        column_cells: Any = answers
        if block.levels:
            column_cells = np.array(block.levels, dtype=object)[answers.astype(int)]
        elif column.levels and all(level.is_integer() for level in column.levels):
            column_cells = pd.array(answers.astype(int), dtype="Int64")
        series = pd.Series(column_cells)
        out[column.name] = series if mask is None else series.where(mask[:, j])
    return pd.DataFrame(out)


def _block_of(source: QuestionnaireSource, name: str) -> ItemBlock:
    """The block that an item belongs to."""
    return next(b for b in source.items if _match(b.items, [name], where="", strict=False))


@dataclass(frozen=True)
class _Item:
    """One item as the study describes it."""

    name: str
    scale: str
    type: str
    bounds: tuple[float, float] | None
    words: tuple[str, ...]
    reverse: bool

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are possible answers."""
        return self.type in ("ordinal", "nominal", "binary")


@dataclass(frozen=True)
class _Part:
    """One file's answers, NaN where missing, before reverse keying."""

    file: Path
    items: list[_Item]
    values: NDArray[np.float32]
    meta: pd.DataFrame
    rows: NDArray[np.int64]
    response_times: tuple[str, ...]
    notes: list[str]


def _read(file: Path, source: QuestionnaireSource, *, columns: Sequence[Column] | None) -> _Part:
    """Read and check one file."""
    layout = cells.look(file)
    if source.id_column is not None and source.id_column not in layout.names:
        near = wording.nearest(source.id_column, layout.names)
        raise InputError(f"{file}: no id column {source.id_column!r}; {near}")
    others = [name for name in layout.names if name != source.id_column]
    times = _match(
        source.response_times, others, where=f"{file}: response_times", strict=columns is None
    )
    items = _resolve(
        file, source, available=[name for name in others if name not in times], columns=columns
    )
    codes = [code if isinstance(code, str) else f"{code:g}" for code in source.missing_codes]
    answers = [*(item.name for item in items), *times]
    missing: dict[str, list[str]] = {name: [*cells.EMPTY, *codes] for name in answers}
    if source.id_column is not None:
        missing[source.id_column] = [""]  # somebody may be called NA
    numeric = [*(item.name for item in items if not item.words), *times]
    frame, decimal = cells.read(layout, numeric, missing=missing)

    spoken = {item.name: item.words for item in items if item.words}
    for name, words in spoken.items():
        frame[name] = _spoken(file, name, text=frame[name], words=words)
    names = [item.name for item in items]
    values: NDArray[np.float32] = np.empty((len(frame), len(items)), np.float32)
    for j, name in enumerate(names):
        values[:, j] = frame[name]  # to_numpy() would need another copy
    rest = frame.drop(columns=names)
    del frame
    numbers = [code for code in source.missing_codes if not isinstance(code, str)]
    if numbers:
        for j, item in enumerate(items):
            if not item.words:
                values[np.isin(values[:, j], np.asarray(numbers, np.float32)), j] = np.nan
        for name in times:
            rest[name] = rest[name].mask(rest[name].isin(numbers))

    blank = np.array(np.isnan(values).all(axis=1))
    blank[blank] = rest[blank].isna().all(axis=1).to_numpy()
    rows = np.flatnonzero(~blank) + 1
    if blank.any():
        values, rest = values[~blank], rest[~blank].reset_index(drop=True)
    if not len(rows):
        raise InputError(f"{file}: has a header but no rows")
    _refuse_impossible(file, items, values=values, rows=rows)

    told = f"{file.name}: {len(rows):,} rows, {cells.in_words(layout)}"
    notes = [told + (", decimal commas" if decimal == "," else "")]
    meta = _meta(file, rest, id_column=source.id_column, rows=rows, notes=notes)
    return _Part(file, items, values, meta, rows, tuple(times), notes)


def _resolve(
    file: Path,
    source: QuestionnaireSource,
    *,
    available: list[str],
    columns: Sequence[Column] | None,
) -> list[_Item]:
    """Items in the order of the study's blocks, or in that of a model's columns."""
    known = None if columns is None else {column.name: column for column in columns}
    if known is not None:
        missing = [name for name in known if name not in available]
        if missing:
            raise InputError(
                f"{file}: {wording.items(missing)} of the model missing from the table; "
                + wording.nearest(missing[0], available)
            )
        available = list(known)
    found: dict[str, _Item] = {}
    for block in source.items:
        where = f"{file}: items"
        strict = known is None
        if source.id_column in block.items:
            raise InputError(f"{file}: the id column {source.id_column!r} cannot be an item")
        names = _match(block.items, available, where=where, strict=strict)
        turned = _match(block.reverse, names, where=f"{file}: reverse", strict=strict)
        for name in names:
            if name in found:
                raise InputError(
                    f"{file}: item {name!r} is in two blocks of items; make their patterns apart"
                )
            kind: str = block.type
            bounds = block.bounds
            if known is not None:
                kind, levels = known[name].type, known[name].levels
                bounds = (levels[0], levels[-1]) if levels else bounds
            found[name] = _Item(name, block.scale, kind, bounds, block.levels, name in turned)
    if known is None:
        return list(found.values())
    if len(found) < len(known):
        lost = [name for name in known if name not in found]
        raise InputError(f"{file}: {wording.items(lost)} of the model in no block of source.items")
    return [found[name] for name in known]


def _refuse_impossible(
    file: Path, items: list[_Item], *, values: NDArray[np.float32], rows: NDArray[np.int64]
) -> None:
    """Raise where an answer is too large, outside its declared range, or between its levels."""
    offending: dict[str, str] = {}
    for j, item in enumerate(items):
        answers = values[:, j]
        wrong = np.abs(answers) > LARGEST  # not NaN, which is missing
        what = f"beyond {LARGEST:g}, more than any answer is"
        if item.bounds is not None:
            low, high = item.bounds
            what = f"outside its range {low:g} to {high:g}"
            wrong = (answers < low) | (answers > high)
            if item.whole:
                what = f"other than the whole numbers from {low:g} to {high:g}, its range"
                wrong |= (answers != np.rint(answers)) & ~np.isnan(answers)
        if wrong.any():
            which = ", ".join(f"{value:g}" for value in np.unique(answers[wrong])[:4])
            offending[item.name] = (
                f"item {item.name!r} has {wording.count(wrong.sum(), 'answer')} {what} "
                f"({which}; {wording.rows(rows[wrong])})"
            )
    if offending:
        first, *more = offending
        also = f", and so {wording.have(more)} {wording.items(more)}" if more else ""
        raise InputError(
            f"{file}: {offending[first]}{also}; put codes of missing answers under "
            "missing_codes, or correct range"
        )


def _doubts(files: Sequence[Path], items: list[_Item], *, values: NDArray[np.float32]) -> list[str]:
    """What is odd about the answers as a whole; raise where they tell nothing at all."""
    notes = []
    constant = np.fmin.reduce(values) == np.fmax.reduce(values)  # both pass over NaN
    flat = [item.name for item, same in zip(items, constant, strict=True) if same]
    if len(flat) == len(items) and len(values) > 1:
        raise InputError(
            f"{_files(files)}: everybody gave the same answer to {wording.items(flat)}: there is "
            "nothing to learn; check items and missing_codes"
        )
    if flat:
        which = wording.items(flat)
        notes.append(f"everybody gave the same answer to {which}: nothing to learn from")
    n, n_items = values.shape
    if n < _FEWEST or n < _PER_ITEM * n_items:
        notes.append(
            f"{n:,} people and {n_items:,} items: too few to learn which answers go together (at "
            f"least {max(_FEWEST, _PER_ITEM * n_items):,} people); totals, longstring, the "
            "variability of answers and even-odd consistency can be trusted, the score, the "
            "latents and factor analysis cannot"
        )
    loose = [item.name for item in items if item.bounds is None]
    if loose:
        notes.append(
            f"no possible range declared for {wording.items(loose)}: impossible answers go "
            "unnoticed, and the answers count as continuous"
        )
    broken = [
        item.name
        for j, item in enumerate(items)
        if item.type == "auto" and _few_levels(item.bounds) and not _all_whole(values[:, j])
    ]
    if broken:
        which = wording.items(broken)
        notes.append(f"answers between whole numbers in {which}: taken as continuous")
    return notes


def _column(item: _Item, answers: NDArray[np.float32], *, order: list[str] | None) -> Column:
    """What an item is, ``auto`` decided."""
    position = None if order is None else order.index(item.name)
    kind = item.type
    if kind == "auto":
        ordinal = _few_levels(item.bounds) and _all_whole(answers)
        kind = "ordinal" if ordinal else "continuous"
    if kind == "continuous" or item.bounds is None:
        return Column(item.name, "continuous", (), item.scale, item.bounds, item.reverse, position)
    low, high = item.bounds
    levels = tuple(float(level) for level in range(int(low), int(high) + 1))
    if kind == "ordinal" and len(levels) == 2:
        kind = "binary"
    return Column(item.name, kind, levels, item.scale, item.bounds, item.reverse, position)  # type: ignore[arg-type]


def _few_levels(bounds: tuple[float, float] | None) -> bool:
    """Whether a range is one of few whole numbers."""
    if bounds is None or not (float(bounds[0]).is_integer() and float(bounds[1]).is_integer()):
        return False
    return bounds[1] - bounds[0] < MAX_LEVELS


def _all_whole(answers: NDArray[np.float32]) -> bool:
    """Whether all observed answers are whole numbers."""
    return bool(np.all((answers == np.rint(answers)) | np.isnan(answers)))


def _spoken(
    file: Path, name: str, *, text: pd.Series[str], words: Sequence[str]
) -> pd.Series[float]:
    """Answers in words as 0, 1, ...; NaN where missing."""
    codes = text.str.strip().map({word: code for code, word in enumerate(words)}).astype("float32")
    unknown = np.flatnonzero(codes.isna() & text.notna())
    if len(unknown):
        raise InputError(
            f"{file}: item {name!r} has {wording.count(len(unknown), 'answer')} not among its "
            f"levels ({wording.rows(unknown + 1)}); add the words to levels or to missing_codes"
        )
    return codes


def _meta(
    file: Path,
    rest: pd.DataFrame,
    *,
    id_column: str | None,
    rows: NDArray[np.int64],
    notes: list[str],
) -> pd.DataFrame:
    """Identities and what else the table holds."""
    import pandas as pd

    if id_column is None:
        width = max(4, len(str(rows[-1])))
        recording = pd.Series([f"row-{row:0{width}d}" for row in rows.tolist()], dtype="str")
    else:
        recording = rest.pop(id_column).str.strip()
        without = recording.isna() | (recording == "")
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
                + "; ids must be unique: correct them or take another id_column"
            )
    meta = pd.DataFrame({"recording": recording})
    for name in rest.columns:
        column = rest[name]
        if name.startswith("Unnamed: ") and column.isna().all():
            continue  # a delimiter at the end of every line
        if not pd.api.types.is_numeric_dtype(column):
            numbers = cells.numbers(column)
            column = numbers if (numbers.notna() == column.notna()).all() else column
        notes += _implausible(file, name, column=column, rows=rows)
        if name in ("recording", "subject"):
            notes.append(f"{file.name}: column {name!r} is kept as {name + '_'!r}")
            name += "_"
        meta[name] = column
    return meta


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


def _refuse_shared_ids(parts: Sequence[_Part]) -> None:
    """Raise where two files hold the same id."""
    seen: dict[str, tuple[Path, int]] = {}
    if len(parts) > 1:
        for part in parts:
            for name, row in zip(part.meta["recording"], part.rows.tolist(), strict=True):
                if name in seen:
                    other, place = seen[name]
                    raise InputError(
                        f"{part.file}: row {row} has the id of row {place} of {other.name}; "
                        "ids must be unique over all tables: correct them or load the tables apart"
                    )
                seen[name] = (part.file, row)


# ------------------------------------------------------------------------------ proposing

_ID_NAME = re.compile(
    r"(.*[_.\- ])?(id|pid|uid|subject|subj|sub|participant|respondent|person|case|code|vp)"
    r"([_.\- ]?(id|nr|no|number|code))?",
    re.IGNORECASE,
)
_TIME_WORD = re.compile(r"(?<![a-z])(rt|times?|duration|latency|ms|sec|seconds)(?![a-z])", re.I)
_NO_ITEM_WORD = re.compile(
    r"(?<![a-z])(age|alter|gender|sex|geschlecht|education|bildung|income|weight|height|year|month"
    r"|day|date|score|sum|total|mean|average|group|condition|session|wave|site|country|platform"
    r"|language|name|mail|email|phone|index|trial|order)(?![a-z])",
    re.IGNORECASE,
)
_NO_ID_WORD = re.compile(r"name|mail|phone|date|time|comment|text", re.IGNORECASE)
_ITEM_NAME = re.compile(r"(.*\D)\d+[A-Za-z]?([_.]?[rR])?")
_NINES = (8, 9, 77, 88, 97, 98, 99, 777, 888, 998, 999, 9999)
_CODES = [-1, -7, *(-code for code in _NINES), *_NINES]
_PROPOSAL_ROWS = 100_000
_FEWEST, _PER_ITEM = 100, 3
"""People below which, and people an item below which, relations between items are mostly noise."""
_AGE = re.compile(r"(?<![a-z])(age|alter)(?![a-z])", re.IGNORECASE)
_LEAST_AGE, _MOST_AGE = 6, 105
"""Years; ages beyond are reported as implausible."""
_GROUP_WORD = re.compile(
    r"(?<![a-z])(age|alter|gender|sex|geschlecht|education|bildung|group|site|country|language)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def group_columns(names: Sequence[str], source: QuestionnaireSource) -> list[str]:
    """Columns by which flags are counted: those of the study, else those named like groups.

    Parameters
    ----------
    names : sequence of str
        Columns that are neither id nor item.
    source : QuestionnaireSource
    """
    if source.groups is not None:
        return _match(source.groups, names, where="source.groups", strict=False)
    return [name for name in names if _GROUP_WORD.search(name)]


def _labelled_range(
    layout: cells.Layout, names: Sequence[str], *, low: float, high: float
) -> tuple[float | int, float | int] | None:
    """The range that the file's own value labels give a block, where answers lie within it."""
    ranges = {} if layout.sheet is None else layout.sheet.ranges
    found = {ranges.get(name) for name in names}
    only = found.pop() if len(found) == 1 else None
    if only is None or not only[0] <= low <= high <= only[1]:
        return None
    return _plain(only[0]), _plain(only[1])


def _guess_id(
    text: pd.DataFrame, numbers: dict[str, pd.Series[float]], *, comments: dict[str, str]
) -> str | None:
    """An unrepeated column with a name for it, else row names, else unrepeated text."""
    by_name = [name for name in text.columns if _ID_NAME.fullmatch(name)]
    unnamed = [name for name in text.columns if name == "Unnamed: 0"]
    speech = [n for n in text.columns if numbers[n].isna().all() and not _NO_ID_WORD.search(n)]
    for name in [*by_name, *unnamed, *speech]:
        if text[name].is_unique and text[name].notna().all():
            comments["id_column"] = "guessed: no value stands twice"
            return str(name)
    if by_name:
        comments["id_column"] = f"{by_name[0]} repeats or has gaps, so rows are numbered"
    else:
        comments["id_column"] = "no column looks like an id, so rows are numbered"
    return None


def _guess_codes(answers: dict[str, NDArray[np.float64]]) -> list[int]:
    """Usual codes of missing answers that stand apart from the bulk of a block, in all blocks."""
    codes: set[int] = set()
    possible: set[int] = set()
    for block in answers.values():
        values = np.unique(block[~np.isnan(block)])
        bulk = values[~np.isin(values, _CODES)]
        if not len(bulk):
            continue
        gap = max(1.0, 0.2 * (bulk[-1] - bulk[0]))
        for code in np.intersect1d(values, _CODES).astype(int).tolist():
            apart = code < bulk[0] - gap or code > bulk[-1] + gap
            (codes if apart else possible).add(code)
    return sorted(codes - possible)


def _against(block: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    """Items whose loading on their block's first principal component has the rarer sign."""
    if len(names) < 3:
        return []
    import pandas as pd

    related = pd.DataFrame(block).corr().fillna(0).to_numpy()
    loadings = np.linalg.eigh(related)[1][:, -1]
    loadings *= np.sign(np.sign(loadings).sum()) or 1
    return [name for name, loading in zip(names, loadings, strict=True) if loading < -0.1]


def _plain(number: float) -> float | int:
    """A whole number as int."""
    return int(number) if float(number).is_integer() else float(number)


# ------------------------------------------------------------------------------ messages


def _match(
    patterns: Sequence[str], names: Sequence[str], *, where: str, strict: bool = True
) -> list[str]:
    """Names that are given or match a pattern, each one once, in the order asked for."""
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [pattern] if pattern in names else [n for n in names if fnmatchcase(n, pattern)]
        if strict and not hits:
            near = wording.nearest(pattern, names)
            raise InputError(f"{where}: {pattern!r} matches no column; {near}")
        found |= dict.fromkeys(hits)
    return list(found)


def _files(files: Sequence[Path]) -> str:
    return ", ".join(str(file) for file in files)


def _stems(files: Sequence[Path]) -> list[str]:
    """Stems of files; where two are equal the folder's name is put before."""
    stems = [file.stem for file in files]
    return [
        f"{file.parent.name}__{file.stem}" if stems.count(file.stem) > 1 else file.stem
        for file in files
    ]


def _split(flags: NDArray[np.bool_], parts: Sequence[_Part]) -> list[NDArray[np.bool_]]:
    """Flags over all rows, cut into those of each file."""
    return np.split(flags, np.cumsum([len(part.rows) for part in parts])[:-1])
