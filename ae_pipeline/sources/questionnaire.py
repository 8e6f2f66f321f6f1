"""Questionnaires: tables of answers (CSV, TSV, Excel, SPSS), one person a row, as samples.

Conventions: a row number counts the rows below the header from 1, blank ones included (row 1
stands in line 2 of the file); it is what messages and notes name, never an identity or the
content of a text cell. Values are the answers as given, after reverse keying by the *possible*
range; a missing answer is masked and never filled in. The id column and every column that is no
item become metadata, never features. Files are only read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Axis, Column, Doubt, InputError, Samples
from ae_pipeline.sources import cells, metadata, wording
from ae_pipeline.sources.items import (
    QuestionnaireSource,
    codes_of,
    group_columns,
    match,
)
from ae_pipeline.sources.keying import keying

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "find", "load"]

MAX_LEVELS = 10
"""Whole-number answers with at most so many possible values count as ordinal by themselves."""
MOST_OF_ITEM = 0.1
"""Share of an item's answers that may be impossible."""
FEW_ANSWERS = 10
"""Answers from which on a single impossible one is no reason to refuse a table."""
LARGEST = 1e9
"""Numbers beyond are no answers, and their squares would be none of single precision."""
_FEWEST, _PER_ITEM = 100, 3
"""People below which, and people an item below which, relations between items are mostly noise."""


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
        items, said = _keyed(source, items, values=values)
        notes += said
    else:
        items = [
            replace(item, reverse=column.reverse)
            for item, column in zip(items, columns, strict=True)
        ]
    for j, item in enumerate(items):
        if item.reverse and item.bounds is not None:
            values[:, j] = sum(item.bounds) - values[:, j]
    order = _shown_order(files[0], source, items=parts[0].items, names=parts[0].names)
    found = tuple(_column(item, values[:, j], order=order) for j, item in enumerate(items))
    n_missing = int(observed.size - observed.sum())
    if n_missing:
        share = 100 * n_missing / observed.size
        notes.append(f"{n_missing:,} of {observed.size:,} answers ({share:.2g}%) missing; masked")
    values[~observed] = 0

    if source.subject_column is None:
        meta.insert(1, "subject", meta["recording"])
    else:
        n_people = meta["subject"].nunique()
        notes.append(
            f"{wording.count(len(meta), 'row')} of {n_people:,} people (subject_column "
            f"{source.subject_column!r}); the rows of one person are never divided between parts"
        )
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
    file: Path, source: QuestionnaireSource, *, items: list[_Item], names: Sequence[str]
) -> list[str] | None:
    """Names of the items in the order people saw them; None where it is not known."""
    if source.presentation_order is None:
        return None
    known = {item.name for item in items}
    every = [name for name in names if name in known]  # a pattern stands for the file's order
    where = f"{file}: presentation_order"
    shown = match(source.presentation_order, every, where=where)
    if len(shown) < len(every):
        raise InputError(
            f"{where} leaves out {wording.items(n for n in every if n not in shown)}; "
            'name every item, or ["*"] for the order of the columns'
        )
    return shown


def _keyed(
    source: QuestionnaireSource, items: list[_Item], *, values: NDArray[np.float32]
) -> tuple[list[_Item], list[str]]:
    """Items with the reverse keying that the study leaves to us, and what is still undecided."""
    turned, notes = set[str](), list[str]()
    names = [item.name for item in items]
    for block in source.items:
        own = match(block.items, names, where="", strict=False)
        label = f" of scale {block.scale!r}" if block.scale else ""
        if block.reverse == "auto":
            found = keying(values[:, [names.index(name) for name in own]], own)
            turned |= set(found.turned)
            if found.turned:
                which = wording.items(found.turned)
                notes.append(f"reverse: auto turned {which}{label} round")
            elif found.undecided:
                first, second = map(wording.quoted, found.undecided)
                notes.append(
                    Doubt(
                        f"reverse keying{label} cannot be decided from the answers: {first} run "
                        f"against {second}; name the reverse-keyed ones under reverse"
                    )
                )
            continue
        open_ = [
            name
            for name in match(block.reverse_proposed, own, where="", strict=False)
            if name not in block.turned(own)
        ]
        if open_:
            verb = "seem" if len(open_) > 1 else "seems"
            notes.append(
                Doubt(
                    f"{wording.items(open_)}{label} {verb} reverse-keyed and not turned round: "
                    "move to reverse to confirm, or empty reverse_proposed to refuse"
                )
            )
    return [replace(item, reverse=True) if item.name in turned else item for item in items], notes


@dataclass(frozen=True)
class _Item:
    """One item as the study describes it."""

    name: str
    scale: str
    type: str
    bounds: tuple[float, float] | None
    words: tuple[str, ...]
    reverse: bool
    codes: tuple[float | str, ...] = ()

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
    names: tuple[str, ...]


def _format(source: QuestionnaireSource) -> cells.Format:
    return cells.Format(**{name: getattr(source, name) for name in cells.Format._fields})


def _read(file: Path, source: QuestionnaireSource, *, columns: Sequence[Column] | None) -> _Part:
    """Read and check one file."""
    layout = cells.look(file, _format(source))
    ids = [name for name in (source.id_column, source.subject_column) if name is not None]
    for key, name in (("id", source.id_column), ("subject", source.subject_column)):
        if name is not None and name not in layout.names:
            near = wording.nearest(name, layout.names)
            raise InputError(f"{file}: no {key} column {name!r}; {near}")
    others = [name for name in layout.names if name not in ids and name not in source.checks]
    times = match(
        source.response_times, others, where=f"{file}: response_times", strict=columns is None
    )
    items = _resolve(
        file, source, available=[name for name in others if name not in times], columns=columns
    )
    missing: dict[str, list[str]] = {
        item.name: [
            *(word for word in cells.EMPTY if word not in item.words),
            *map(_written, item.codes),
        ]
        for item in items
    }
    missing |= {name: [*cells.EMPTY, *map(_written, source.missing_codes)] for name in times}
    kept = [name for name in others if name not in missing]
    groups = group_columns(kept, source)
    missing |= {name: [""] for name in (*ids, *groups)}  # somebody may be called NA
    numeric = [*(item.name for item in items if not item.words), *times]
    frame, refused, signs = cells.read(layout, numeric, missing=missing)
    for item in items:
        if item.words:
            frame[item.name], unknown = _spoken(frame[item.name], item.words)
            if unknown.any():
                refused[item.name] = unknown
    names = [item.name for item in items]
    values: NDArray[np.float32] = np.empty((len(frame), len(items)), np.float32)
    for j, name in enumerate(names):
        values[:, j] = frame[name]  # to_numpy() would need another copy
    rest = frame.drop(columns=names)
    del frame
    for j, item in enumerate(items):
        codes = [code for code in item.codes if not isinstance(code, str)]
        if codes and not item.words:
            values[np.isin(values[:, j], np.asarray(codes, np.float32)), j] = np.nan
    codes = [code for code in source.missing_codes if not isinstance(code, str)]
    for name in times:
        rest[name] = rest[name].mask(rest[name].isin(codes))
    for name in groups:
        rest[name] = metadata.grouped(rest[name])

    wrong = [refused.get(name, np.zeros(len(values), bool)) for name in names]
    blank = np.array(np.isnan(values).all(axis=1) & ~np.any(wrong, axis=0))
    blank[blank] = rest[blank].isna().all(axis=1).to_numpy()
    rows = np.flatnonzero(~blank) + 1
    if blank.any():
        values, rest = values[~blank], rest[~blank].reset_index(drop=True)
    if not len(rows):
        raise InputError(f"{file}: has a header but no rows")
    text = {name: bad[~blank] for name, bad in refused.items() if name in names}
    told = f"{file.name}: {len(rows):,} rows, {cells.in_words(layout)}"
    if signs.decimal == ",":
        told += ", decimal commas"
    if signs.thousands:
        told += f", thousands separated by {signs.thousands!r}"
    notes = [told]
    notes += _mask_impossible(
        file, items, values=values, rows=rows, text=text, share=source.impossible_share
    )
    notes += metadata.answers_beside_codes(file, source, [item.name for item in items])
    if source.checks:
        rest["checks_failed"] = metadata.checks_failed(file, rest, source.checks)
    meta = metadata.beside(
        file, rest, source=source, rows=rows, notes=notes, layout=layout, signs=signs
    )
    return _Part(file, items, values, meta, rows, tuple(times), notes, layout.names)


def _written(code: float | str) -> str:
    return code if isinstance(code, str) else f"{code:g}"


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
        for name in (source.id_column, source.subject_column):
            if name in block.items:
                raise InputError(f"{file}: the id column {name!r} cannot be an item")
        names = match(block.items, available, where=where, strict=strict)
        turned = block.turned(names, where=f"{file}: reverse", strict=strict)
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
            codes = codes_of(source, block)
            found[name] = _Item(
                name, block.scale, kind, bounds, block.levels, name in turned, codes
            )
    if known is None:
        return list(found.values())
    if len(found) < len(known):
        lost = [name for name in known if name not in found]
        raise InputError(f"{file}: {wording.items(lost)} of the model in no block of source.items")
    return [found[name] for name in known]


def _mask_impossible(
    file: Path,
    items: list[_Item],
    *,
    values: NDArray[np.float32],
    rows: NDArray[np.int64],
    text: Mapping[str, NDArray[np.bool_]],
    share: float,
) -> list[str]:
    """Mask answers that nobody can have given and list them; raise where they are too many.

    Too many are more than ``share`` of all answers, or more than a tenth of an item's: then the
    study is wrong about the item, not the person.
    """
    offending: dict[str, str] = {}
    n_wrong, broken = 0, False
    n_answers = int((~np.isnan(values)).sum()) + sum(int(bad.sum()) for bad in text.values())
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
        bad = text.get(item.name)
        n_known = int((~np.isnan(answers)).sum())
        if bad is not None and bad.any():
            many = "that are no numbers" if bad.sum() > 1 else "that is no number"
            words = "not among its levels" if item.words else many
            offending[item.name] = (
                f"item {item.name!r} has {wording.count(bad.sum(), 'answer')} {words} "
                f"({wording.rows(rows[bad])})"
            )
            n_wrong, n_known = n_wrong + int(bad.sum()), n_known + int(bad.sum())
        if wrong.any():
            which = ", ".join(f"{value:g}" for value in np.unique(answers[wrong])[:4])
            offending[item.name] = (
                f"item {item.name!r} has {wording.count(wrong.sum(), 'answer')} {what} "
                f"({which}; {wording.rows(rows[wrong])})"
            )
            n_wrong += int(wrong.sum())
        n_own = int(wrong.sum()) + (0 if bad is None else int(bad.sum()))
        broken |= n_own > max(1, MOST_OF_ITEM * n_known)
        answers[wrong] = np.nan
    if not offending:
        return []
    allowed = max(int(share * n_answers), 1 if n_answers >= FEW_ANSWERS and share else 0)
    if broken or n_wrong > allowed:
        first, *more = offending
        also = f", and so {wording.have(more)} {wording.items(more)}" if more else ""
        raise InputError(
            f"{file}: {offending[first]}{also}; put codes of missing answers under "
            "missing_codes, or correct range or levels (source.impossible_share says how many "
            "impossible answers may be left out)"
        )
    shown = list(offending.values())
    more_ = f"; and {len(shown) - 8} more items" if len(shown) > 8 else ""
    listed = "; ".join(shown[:8]) + more_
    answers_ = wording.count(n_wrong, "impossible answer")
    return [Doubt(f"{file.name}: {answers_} counted as missing: {listed}")]


def _doubts(files: Sequence[Path], items: list[_Item], *, values: NDArray[np.float32]) -> list[str]:
    """What is odd about the answers as a whole; raise where they tell nothing at all."""
    notes: list[str] = []
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
            Doubt(
                f"{n:,} people and {n_items:,} items: too few to learn which answers go together "
                f"(at least {max(_FEWEST, _PER_ITEM * n_items):,} people); totals, longstring, the "
                "variability of answers and even-odd consistency can be trusted, the score, the "
                "latents and factor analysis cannot"
            )
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
    text: pd.Series[str], words: Sequence[str]
) -> tuple[pd.Series[float], NDArray[np.bool_]]:
    """Answers in words as 0, 1, ..., NaN where missing; and where they are none of the words."""
    exact = {word: code for code, word in enumerate(words)}
    codes: pd.Series[Any] = text.str.strip().map(exact)
    loose = {wording.plainly(word): code for word, code in exact.items()}
    if len(loose) == len(exact):
        codes = codes.fillna(text.map(wording.plainly).map(loose))
    codes = codes.astype("float32")
    return codes, np.asarray(codes.isna() & text.notna(), dtype=np.bool_)


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
