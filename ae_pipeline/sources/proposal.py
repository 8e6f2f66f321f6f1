"""What a questionnaire file suggests for its study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.sources import cells, likert, numerals, roles, shape, wording
from ae_pipeline.sources.keying import keying
from ae_pipeline.sources.roles import Seen

__all__ = ["propose"]

_ITEM_NAME = re.compile(r"(.*\D)(\d+)([A-Za-z]?)(?:[_.]?[rR])?[\])]?", re.DOTALL)
_ROWS = 100_000
_FORMAT = ("header_rows", "skip_rows", "skip_footer")
_FEWEST_ALIKE = 3
"""Columns of different names that make a block because they are answered in the same way."""


@dataclass
class _Block:
    """Columns that are answered in the same way."""

    stem: str
    columns: list[Seen]
    why: str
    levels: tuple[str, ...] = ()
    type: str = ""
    codes: list[float | str] = field(default_factory=list)
    labelled: tuple[float, float] | None = None
    zeros: bool = False

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.columns]

    def values(self) -> NDArray[np.float64]:
        """Answers as numbers, NaN where missing."""
        if not self.levels:
            found: NDArray[np.float64] = np.stack(
                [one.numbers.to_numpy(np.float64) for one in self.columns], axis=1
            )
            codes = [code for code in self.codes if not isinstance(code, str)]
            found[np.isin(found, codes) | np.isinf(found)] = np.nan
            return found
        rank = {word: float(i) for i, word in enumerate(self.levels)}
        rank |= {wording.plainly(word): i for word, i in rank.items()}
        cells_ = [one.text.str.strip().map(wording.plainly) for one in self.columns]
        return np.asarray(np.stack([cell.map(rank) for cell in cells_], axis=1), np.float64)


def propose(path: Path | str) -> tuple[dict[str, Any], dict[str, str]]:
    """Guess a study's ``source`` section from a table.

    Parameters
    ----------
    path : Path or str
        A table; its first 100,000 rows are looked at.

    Returns
    -------
    section : dict
        ``kind``, ``path``, ``id_column``, ``items`` (blocks with ``items``, ``scale``, ``range``
        or ``levels`` and, where some seem reverse-keyed, ``reverse`` and ``reverse_proposed``),
        ``missing_codes`` and what else differs from its default; plain values, which
        :class:`ae_pipeline.sources.items.QuestionnaireSource` takes.
    comments : dict
        Why, and what to check, by dotted key (``items.0.range``); under ``path`` the role of
        every column that is no item.

    Raises
    ------
    InputError
        Where the file cannot be read or has nothing that looks like items.
    """
    path = Path(path)
    written = shape.table_format(path)
    layout = cells.look(path, written)
    empty = {name: [""] for name in layout.names}
    text = cells.table(layout, {}, missing=empty, nrows=_ROWS)
    signs = numerals.signs((text[n] for n in text), delimiter=layout.delimiter)
    per_column = layout.delimiter == ","
    rows = text.notna().any(axis=1)
    columns = [
        roles.seen(
            name,
            text.loc[rows, name],
            numerals.signs([text[name]], delimiter=",") if per_column else signs,
        )
        for name in layout.names
    ]
    comments: dict[str, str] = {}
    beside: dict[str, list[str]] = {}
    blank = [one.name for one in columns if not one.n]
    if blank:
        beside["empty"] = blank
    columns = [one for one in columns if one.n]
    _refuse_dates(path, columns)
    id_column, subject, comments["id_column"] = roles.who(columns)
    left = [one for one in columns if one.name not in (id_column, subject)]
    times, blocks = _blocks(layout, left, beside=beside)
    if not blocks:
        raise InputError(
            f"{path}: no columns look like items (numbers under names with a common beginning, "
            "such as A1, A2, or the same answers in words); the columns are "
            f"{_beside(beside) or 'empty'}; write the study file without a table and name the "
            "items there"
        )
    section: dict[str, Any] = {"kind": "questionnaire", "path": str(path), "id_column": id_column}
    if subject is not None:
        section["subject_column"] = subject
        comments["subject_column"] = "the id repeats: several rows of one person"
    for key in _FORMAT:
        if getattr(written, key) != getattr(cells.Format(), key):
            section[key] = getattr(written, key)
            comments[key] = "as the first and last rows of the file suggest"
    codes = _codes(blocks, layout)
    section |= {"items": [], "missing_codes": codes}
    taken = [one for one in layout.names if one not in (id_column, subject, *times)]
    for i, block in enumerate(blocks):
        entry, said = _entry(block, taken, common=codes)
        section["items"].append(entry)
        comments |= {f"items.{i}.{key}": told for key, told in said.items()}
    n_items = sum(len(block.columns) for block in blocks)
    comments["items"] = (
        f"{wording.count(n_items, 'item')} in "
        f"{wording.count(len(blocks), 'block')}, by their names and answers"
    )
    if codes:
        comments["missing_codes"] = "guessed: these stand apart from the other answers; check"
    if times:
        section["response_times"] = times
        comments["response_times"] = "by their values; check"
    program = roles.exporter(layout.names, imported=written.header_rows > 2)
    told = [f"looks like an export of {program}"] if program else []
    if beside:
        told.append(f"columns kept as metadata only: {_beside(beside)}")
    if told:
        comments["path"] = "; ".join(told)
    return section, comments


def _beside(beside: dict[str, list[str]]) -> str:
    return "; ".join(f"{roles.listed(names)} ({why})" for why, names in beside.items())


def _refuse_dates(path: Path, columns: Iterable[Seen]) -> None:
    """Raise where a spreadsheet made dates of answers."""
    made = [one for one in columns if one.dates]
    if made:
        shown = roles.listed([one.name for one in made])
        raise InputError(
            f"{path}: answers became dates such as {made[0].words[0]!r} in {shown}: a spreadsheet "
            "did that; export the answers again and import these columns as text"
        )


# ---------------------------------------------------------------------------------- blocks


def _blocks(
    layout: cells.Layout, columns: list[Seen], *, beside: dict[str, list[str]]
) -> tuple[list[str], list[_Block]]:
    """Response times and blocks of items; what is neither goes to ``beside`` with its reason."""

    def put(why: str, name: str) -> None:
        beside.setdefault(why, []).append(name)

    by_name = {one.name: one for one in columns}
    times, open_ = [], []
    for one in columns:
        copy = roles.recoded(one, by_name)
        if roles.is_time(one, block=False):
            times.append(one.name)
        elif copy is not None:
            put(f"recoded copy of {copy}", one.name)
        elif (why := roles.none_item(one)) is not None:
            put(why, one.name)
        else:
            open_.append(one)
    blocks: list[_Block] = []
    alone: list[Seen] = []
    stems: dict[str, str] = {}
    for stem, group in _by_stem(open_):
        numeric = [one for one in group if one.numeric]
        words = [one for one in group if not one.numeric]
        for part in _alike(numeric):
            if len(part) > 1 and np.mean([roles.is_time(one, block=True) for one in part]) > 0.7:
                times += [one.name for one in part]
            elif len(part) > 1 and _order_of_rows(part):
                for one in part:
                    put("order of presentation, person by person", one.name)
            elif len(part) > 1:
                blocks.append(_Block(stem, part, "beginning of their names"))
            else:
                alone += part
        alone += words
        stems |= {one.name: stem for one in words if len(words) > 1}
    found, rest = _spoken([one for one in alone if not one.numeric], stems)
    blocks += found
    more, other = _same_answers([one for one in alone if one.numeric])
    blocks += more
    for one in [*rest, *other]:
        why = "no other column like it" if one.numeric else "text"
        put(why, one.name)
    place = {name: i for i, name in enumerate(layout.names)}
    times.sort(key=place.__getitem__)
    return times, sorted(blocks, key=lambda block: place[block.names[0]])


def _by_stem(columns: list[Seen]) -> list[tuple[str, list[Seen]]]:
    """Columns by the beginning of their names; by the letter behind the number where it repeats."""
    groups: dict[str, list[tuple[Seen, str, str]]] = {}
    for one in columns:
        told = _ITEM_NAME.fullmatch(one.name)
        stem, number, letter = (told[1], told[2], told[3]) if told else (one.name, "", "")
        groups.setdefault(stem, []).append((one, number, letter))
    found: list[tuple[str, list[Seen]]] = []
    for stem, group in groups.items():
        letters = [letter for _, _, letter in group]
        apart = len({number for _, number, _ in group}) < len(group) and all(
            letters.count(letter) > 2 for letter in set(letters)
        )
        for letter in dict.fromkeys(letters) if apart else [None]:
            own = [one for one, _, own in group if letter is None or own == letter]
            found.append((f"{stem}*{letter}" if letter else stem, own))
    return found


def _alike(columns: list[Seen]) -> list[list[Seen]]:
    """Numbers under one beginning, few whole ones apart from many, yes or no apart from scales."""
    few = [one for one in columns if one.few]
    many = [one for one in columns if not one.few]
    switch = [one for one in few if set(one.scale) <= {0.0, 1.0}]
    scales = [one for one in few if one not in switch]
    lowest = min((one.scale[0] for one in scales), default=0.0)
    if not switch or not scales or (lowest == 0 and len(switch) < _FEWEST_ALIKE):
        return [part for part in (few, many) if part]
    return [part for part in (scales, switch, many) if part]


def _order_of_rows(columns: list[Seen]) -> bool:
    """Whether the columns number the questions in the order in which each person saw them."""
    if len(columns) < 5:
        return False
    values = np.stack([one.numbers.to_numpy(np.float64) for one in columns], axis=1)
    values = values[~np.isnan(values).any(axis=1)][:200]
    if not len(values):
        return False
    different = [len(set(row)) == len(row) for row in values.tolist()]
    near = np.ptp(values) < 10 * len(columns)
    return bool(np.mean(different) > 0.9 and values.min() >= 0 and near)


def _spoken(columns: list[Seen], stems: dict[str, str]) -> tuple[list[_Block], list[Seen]]:
    """Blocks of answers in words, neighbours of one scale together; and the columns left over."""
    blocks: list[_Block] = []
    rest: list[Seen] = []
    for one in columns:
        answers = [w for w in one.words if not likert.no_answer(w)]
        numbers = [f"{value:g}" for value in one.values]
        words = [*answers, *numbers]
        if not 1 <= len(words) <= likert.MOST_LEVELS or one.n < 3 * len(words) or numbers:
            rest.append(one)
            continue
        last = blocks[-1] if blocks else None
        if last is not None and stems.get(one.name) != stems.get(last.columns[-1].name):
            last = None
        union = words if last is None else [*last.levels, *words]
        order = likert.in_order(union)
        if last is not None and order is not None and last.type != "nominal":
            last.columns.append(one)
            last.levels = order
        elif (own := likert.in_order(words)) is not None:
            blocks.append(_Block(one.name, [one], "the same answers in words", own, "ordinal"))
        elif last is not None and last.type == "nominal" and set(words) & set(last.levels):
            last.columns.append(one)
            last.levels = tuple(sorted({*last.levels, *words}))
        else:
            blocks.append(
                _Block(one.name, [one], "the same words", tuple(sorted(words)), "nominal")
            )
    kept: list[_Block] = []
    for block in blocks:
        least = 2 if block.type == "ordinal" else _FEWEST_ALIKE
        known = block.type == "ordinal" and len(block.levels) > 3
        if 2 <= len(block.levels) <= likert.MOST_LEVELS and (len(block.columns) >= least or known):
            told = _ITEM_NAME.fullmatch(block.stem)
            block.stem = told[1] if told else f"block{len(kept) + 1}"
            none = {w for one in block.columns for w in one.words if likert.no_answer(w)}
            block.codes = sorted(none)
            block.type = "binary" if len(block.levels) == 2 else block.type
            kept.append(block)
        else:
            rest += block.columns
    return kept, rest


def _same_answers(columns: list[Seen]) -> tuple[list[_Block], list[Seen]]:
    """Blocks of columns whose names differ and whose answers are alike and go together."""
    groups: dict[tuple[float, float], list[Seen]] = {}
    rest: list[Seen] = []
    for one in columns:
        if one.few and len(one.scale) > 1:
            groups.setdefault((one.scale[0], one.scale[-1]), []).append(one)
        else:
            rest.append(one)
    blocks: list[_Block] = []
    for (low, high), group in groups.items():
        for block in blocks:  # an answer that nobody gave makes no other scale
            first = block.columns[0].scale
            if abs(first[0] - low) <= 1 and abs(first[-1] - high) <= 1:
                block.columns += group
                break
        else:
            blocks.append(_Block(f"block{len(blocks) + 1}", group, "the same answers"))
    kept = []
    for block in blocks:
        if len(block.columns) < _FEWEST_ALIKE or not _related(block):
            rest += block.columns
        else:
            kept.append(block)
    return kept, rest


def _related(block: _Block) -> bool:
    """Whether most columns go with another beyond chance."""
    import pandas as pd

    related = np.nan_to_num(pd.DataFrame(block.values()).corr().to_numpy())
    np.fill_diagonal(related, 0)
    least = max(0.1, 3 / np.sqrt(len(block.columns[0].text)))
    return bool(np.mean(np.abs(related).max(axis=1) > least) > 0.5)


# --------------------------------------------------------------------------- codes, entries


def _codes(blocks: list[_Block], layout: cells.Layout) -> list[float | str]:
    """Codes of missing answers; those that are answers in another block stay with their block."""
    told = {} if layout.sheet is None else layout.sheet.codes
    for block in blocks:
        if block.levels:
            continue
        values = np.unique(np.concatenate([one.values for one in block.columns]))
        block.codes = [*_apart(values)]
        block.codes += [c for name in block.names for c in told.get(name, []) if c in values]
        block.codes += _words(block)
        block.codes = list(dict.fromkeys(map(_plain, block.codes)))
        block.labelled = _labelled(layout, block)
        if _zero_is_missing(block):
            block.codes.append(0)
            block.zeros = True
    common: list[float | str] = []
    for code in dict.fromkeys(code for block in blocks for code in block.codes):
        others = [block for block in blocks if code not in block.codes]
        if code != 0 and not any(_holds(block, code) for block in others):
            common.append(code)
    return sorted(common, key=lambda code: (isinstance(code, str), code))


def _words(block: _Block) -> list[str]:
    """Words among numbers that mean no answer; one that stands once is a slip, not a code."""
    counts: dict[str, int] = {}
    for one in block.columns:
        for word in one.words:
            counts[word] = counts.get(word, 0) + int((one.text.str.strip() == word).sum())
    return sorted(word for word, n in counts.items() if n > 1 or likert.no_answer(word))


def _holds(block: _Block, code: float | str) -> bool:
    """Whether a code lies among the answers of a block."""
    if isinstance(code, str) or block.levels:
        return code in block.levels
    values = block.values()
    return bool(np.nanmin(values) <= code <= np.nanmax(values))


def _apart(values: NDArray[np.float64]) -> list[int]:
    """Usual codes of missing answers that stand apart from the bulk of a block."""
    bulk = values[~np.isin(values, roles.CODES)]
    if not len(bulk):
        return []
    gap = max(1.0, 0.2 * (bulk[-1] - bulk[0]))
    found = np.intersect1d(values, roles.CODES).astype(int).tolist()
    return [code for code in found if code < bulk[0] - gap or code > bulk[-1] + gap]


def _zero_is_missing(block: _Block) -> bool:
    """Whether 0 is nobody's scale point: rare below a scale from 1 to 5, 7 or 10 points."""
    if block.labelled is not None and block.labelled[0] <= 0:
        return False
    values = block.values()
    known = values[~np.isnan(values)]
    if not len(known) or known.min() != 0 or known.max() not in (5, 7) or np.any(known % 1):
        return False
    zeros, ones = float((known == 0).mean()), float((known == 1).mean())
    return 0 < zeros < 0.05 and zeros < 0.3 * ones and 0 not in block.codes


def _labelled(layout: cells.Layout, block: _Block) -> tuple[float, float] | None:
    """The range that the file's own value labels give a block, where answers lie within it."""
    ranges = {} if layout.sheet is None else layout.sheet.ranges
    found = {ranges.get(name) for name in block.names}
    only = found.pop() if len(found) == 1 else None
    values = block.values()
    if only is None or not only[0] <= np.nanmin(values) <= np.nanmax(values) <= only[1]:
        return None
    return only


def _entry(
    block: _Block, names: Sequence[str], *, common: Sequence[float | str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A block as the study has it, and why."""
    scale = block.stem.replace("*", "")
    scale = re.sub(r"[_.\-\[( ]+(?:q|sq|item|i|v)?$", "", scale, flags=re.IGNORECASE) or scale
    pattern = block.stem if "*" in block.stem else f"{block.stem}*"
    alike = [name for name in names if fnmatchcase(name, pattern)]
    entry: dict[str, Any] = {
        "items": [pattern] if alike == block.names else block.names,
        "scale": scale,
    }
    said: dict[str, str] = {}
    values = block.values()
    low, high = _plain(np.nanmin(values)), _plain(np.nanmax(values))
    if block.levels:
        entry |= {"levels": list(block.levels), "type": block.type}
        said["levels"] = (
            "the words in their usual order; check, and add those that nobody chose"
            if block.type != "nominal"
            else "their order is not known: put them in ascending order and type: ordinal, if "
            "they have one"
        )
    elif block.labelled is not None:
        entry["range"] = [_plain(end) for end in block.labelled]
        said["range"] = "from the value labels in the file"
    elif low < high:
        entry["range"] = [low, high]
        said["range"] = "lowest and highest answer found; put the lowest and highest possible one"
    own = [code for code in block.codes if code not in common]
    if own:
        entry["missing_codes"] = [*own, *(code for code in common if code in block.codes)]
        said["missing_codes"] = (
            "0 is rare and below the scale: taken for no answer; check"
            if block.zeros
            else "an answer in another block, and no answer here; check"
        )
    if block.type != "nominal" and ("range" in entry or block.levels):
        found = keying(values, block.names)
        if found.turned:
            entry |= {"reverse": [], "reverse_proposed": found.turned}
            said["reverse_proposed"] = (
                "move to reverse what is reverse-keyed; against the rest of the block run: "
                + ", ".join(found.turned)
            )
        elif found.undecided:
            first, second = (", ".join(half) for half in found.undecided)
            entry["reverse"] = []
            said["reverse"] = (
                f"cannot be decided from the answers: {first} run against {second}; name the "
                "reverse-keyed ones"
            )
    return entry, said


def _plain(number: Any) -> Any:
    """A whole number as int."""
    if isinstance(number, str):
        return number
    return int(number) if float(number).is_integer() else float(number)
