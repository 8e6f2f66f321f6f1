"""Events of Curry recordings (``.cef`` or ``.ceo``), each with its own remark.

MNE gives every event of a type the first one's remark, and has no events at all where a remark is
not UTF-8.
"""

from __future__ import annotations

import re
from pathlib import Path

from ae_pipeline.data import Annotation

__all__ = ["curry_events"]

PER_EVENT = 11
"""Numbers of an event in the list; of interest are sample, type, first and last sample."""


def curry_events(path: Path, sfreq_hz: float) -> tuple[Annotation, ...]:
    """Events beside a ``.cdt`` or ``.dat`` file; none where there is no such file.

    Raises
    ------
    ValueError
        The file of events is damaged.
    """
    named = path.name if path.suffix.lower() == ".cdt" else path.stem
    for end in (".cef", ".ceo"):
        file = path.with_name(named + end)
        if file.is_file():
            break
    else:
        return ()
    content = file.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    numbers = [int(word) for row in _listed(text, "NUMBER_LIST") for word in row.split()]
    rows = [numbers[at : at + PER_EVENT] for at in range(0, len(numbers), PER_EVENT)]
    remarks = _listed(text, "REMARK_LIST")
    if len(remarks) != len(rows) or (rows and len(rows[-1]) != PER_EVENT):
        raise ValueError("numbers and remarks of events differ in length")
    return tuple(
        Annotation(row[0] / sfreq_hz, max(0, row[5] - row[4]) / sfreq_hz, said.strip() or f"{kind}")
        for row, said in zip(rows, remarks, strict=True)
        for kind in row[2:3]
    )


def _listed(text: str, name: str) -> list[str]:
    """Lines between ``NAME START_LIST`` and ``NAME END_LIST``."""
    found = re.search(rf"{name} START_LIST[^\n]*\n(.*?){name} END_LIST", text, re.DOTALL)
    return found[1].splitlines() if found else []
