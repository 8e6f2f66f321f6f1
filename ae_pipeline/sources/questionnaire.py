"""Questionnaires: tables of answers (CSV, TSV, Excel, SPSS), one person a row, as samples.

Conventions: a row number counts the rows below the header from 1, blank ones included (row 1
stands in line 2 of the file); it is what messages and notes name, never an identity or the
content of a text cell. Values are the answers as given, after reverse keying by the *possible*
range; a missing answer is masked and never filled in. The id column and every column that is no
item become metadata, never features. Files are only read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Axis, Column, InputError, Samples
from ae_pipeline.sources import cells, wording
from ae_pipeline.sources.items import QuestionnaireSource, match

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "find", "load"]

MAX_LEVELS = 10
"""Whole-number answers with at most so many possible values count as ordinal by themselves."""
LARGEST = 1e9
"""Numbers beyond are no answers, and their squares would be none of single precision."""
_FEWEST, _PER_ITEM = 100, 3
"""People below which, and people an item below which, relations between items are mostly noise."""
_AGE = re.compile(r"(?<![a-z])(age|alter)(?![a-z])", re.IGNORECASE)
_LEAST_AGE, _MOST_AGE = 6, 105
"""Years; ages beyond are reported as implausible."""


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
    shown = match(source.presentation_order, every, where=where, strict=strict)
    if len(shown) < len(every):
        raise InputError(
            f"{where} leaves out {wording.items(n for n in every if n not in shown)}; "
            'name every item, or ["*"] for the order of the columns'
        )
    return shown


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
    times = match(
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
        names = match(block.items, available, where=where, strict=strict)
        turned = match(block.reverse, names, where=f"{file}: reverse", strict=strict)
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
