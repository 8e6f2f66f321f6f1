"""What a questionnaire file suggests for its study."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ae_pipeline.data import InputError
from ae_pipeline.sources import cells
from ae_pipeline.sources.questionnaire import (
    _ITEM_NAME,
    _NO_ITEM_WORD,
    _PROPOSAL_ROWS,
    _TIME_WORD,
    _against,
    _guess_codes,
    _guess_id,
    _labelled_range,
    _plain,
)

__all__ = [
    "propose",
]


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
    numbers = {name: cells.numbers(text[name]) for name in text.columns}
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
