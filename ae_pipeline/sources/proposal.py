"""What a questionnaire file suggests for its study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.sources import cells, numerals

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "propose",
]

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


def propose(path: Path | str) -> tuple[dict[str, Any], dict[str, str]]:
    """Guess a study's ``source`` section from a table.

    Parameters
    ----------
    path : Path or str
        A delimited file; its first 100,000 rows are looked at.

    Returns
    -------
    section : dict
        ``kind``, ``path``, ``id_column``, ``items`` (blocks with ``items``, ``scale``, ``range``
        and, where some look turned round, an empty ``reverse``), ``missing_codes`` and, where
        there are any, ``response_times``; plain values, ready for :class:`QuestionnaireSource`.
    comments : dict
        Why, and what to check, by dotted key (``items.0.range``).

    Raises
    ------
    InputError
        Where the file cannot be read or has nothing that looks like items.
    """
    layout = cells.look(Path(path))
    text = cells.table(layout, {}, missing={}, nrows=_PROPOSAL_ROWS)
    text = text.dropna(how="all").dropna(how="all", axis=1)
    numbers = {name: numerals.numbers(text[name]) for name in text.columns}
    words = {name: set(text[name][numbers[name].isna()].dropna()) for name in text.columns}

    def is_number(name: str) -> bool:
        """Numbers, but for at most two words that may stand for missing answers."""
        known = numbers[name].notna().sum()
        return len(words[name]) <= 2 and known > 0.8 * text[name].notna().sum()

    comments: dict[str, str] = {}
    id_column = _guess_id(text, numbers, comments=comments)
    left = [name for name in text.columns if name != id_column]
    times = [name for name in left if is_number(name) and _TIME_WORD.search(name)]
    groups: dict[str, list[str]] = {}
    for name in left:
        told = _ITEM_NAME.fullmatch(name)
        if told and is_number(name) and name not in times and not _NO_ITEM_WORD.search(name):
            groups.setdefault(told[1], []).append(name)
    groups = {stem: names for stem, names in groups.items() if len(names) > 1}
    if not groups:
        raise InputError(
            f"{path}: no columns look like items (numbers under names with a common beginning, "
            "such as A1, A2); write the study file without a table and name the items there"
        )

    answers = {
        stem: np.stack([np.asarray(numbers[name], np.float64) for name in names], axis=1)
        for stem, names in groups.items()
    }
    codes = _guess_codes(answers)
    section: dict[str, Any] = {
        "kind": "questionnaire",
        "path": str(path),
        "id_column": id_column,
        "items": [],
        "missing_codes": [
            *codes,
            *sorted({w for g in groups.values() for n in g for w in words[n]}),
        ],
    }
    for i, (stem, names) in enumerate(groups.items()):
        block = answers[stem]
        block[np.isin(block, codes) | np.isinf(block)] = np.nan
        low, high = (_plain(f.reduce(block, axis=None)) for f in (np.fmin, np.fmax))
        pattern = f"{stem}*"
        alike = [name for name in layout.names if fnmatchcase(name, pattern) and name != id_column]
        scale = re.sub(r"[_.\- ]+(?:q|item|i|v)?$", "", stem, flags=re.IGNORECASE) or stem
        entry: dict[str, Any] = {"items": [pattern] if alike == names else names, "scale": scale}
        labelled = _labelled_range(layout, names, low=low, high=high)
        if labelled:
            entry["range"] = list(labelled)
            comments[f"items.{i}.range"] = "from the value labels in the file"
        elif low < high:
            entry["range"] = [low, high]
            comments[f"items.{i}.range"] = (
                "lowest and highest answer found; put the lowest and highest possible one"
            )
        turned = _against(block, names)
        if turned:
            entry["reverse"] = []
            comments[f"items.{i}.reverse"] = (
                f"reverse-keyed? against the rest of the block run: {', '.join(turned)}"
            )
        section["items"].append(entry)
    n_items = sum(map(len, groups.values()))
    comments["items"] = f"{n_items} items in {len(groups)} blocks, by the beginning of their names"
    if section["missing_codes"]:
        comments["missing_codes"] = "guessed: these stand apart from the other answers; check"
    if times:
        section["response_times"] = times
        comments["response_times"] = "by their names; check"
    used = {id_column, *times, *(name for names in groups.values() for name in names)}
    rest = [name for name in layout.names if name in text.columns and name not in used]
    if rest:
        comments["path"] = f"columns kept as metadata only: {', '.join(rest)}"
    return section, comments


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
