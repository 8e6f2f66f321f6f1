"""Events of trigger channels (BioSemi's Status, STI 014, TRIG, DIN), as MNE's ``find_events``.

A code counts when it rises: from rest, or over another code. Channels that hold no whole numbers
count when they rise over half of their range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation
from ae_pipeline.sources.formats.content import Content

__all__ = ["renamed_events", "trigger_events"]

COMPOSITE = re.compile(r"STATUS|STI ?(014|101)", re.IGNORECASE)
"""Channels that hold the codes of all others."""

GENERIC = re.compile(r"STATUS|^STI|TRIG|MARK|EVENT|MKR", re.IGNORECASE)
"""Names that say nothing about an event; others (EGI's DIN1, sync) are its name."""

SILENT = re.compile(r"PHOTIC|ANNOTATION", re.IGNORECASE)
"""Channels whose signal is no code."""

STATUS_BITS = 0xFFFF
"""Bits of BioSemi's Status that are triggers; those above say how the amplifier is."""

MOST_PER_S = 50.0
"""A channel that rises more often holds something else."""

Blocks = Iterable[tuple[float, NDArray[np.float64]]]


def trigger_events(
    content: Content, rows: Sequence[int]
) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Return the events of a file's trigger channels that it does not list itself, and notes.

    Parameters
    ----------
    content : Content
    rows : sequence of int
        Its trigger channels.
    """
    if content.codes is None:
        return (), ()
    rows = [row for row in rows if not SILENT.search(content.names[row])]
    rows = [row for row in rows if COMPOSITE.search(content.names[row])][:1] or rows
    events: list[Annotation] = []
    notes: list[str] = []
    listed_s = np.sort([one.onset_s for one in content.annotations])
    for row in rows:
        name, rate_hz = content.names[row], content.rates_hz[row]
        found, too_many = _rises(partial(content.codes, row), name, rate_hz=rate_hz)
        if too_many:
            notes.append(f"{name} changes too often to be triggers; no events are taken from it")
            continue
        if len(listed_s) and found and _are_listed(found, listed_s, within_s=2.5 / rate_hz):
            continue  # the same events, under better names
        codes = {code for _, code in found}
        alone = len(rows) == 1 and GENERIC.search(name)
        for onset_s, code in found:
            text = f"{code}" if alone else name if len(codes) == 1 else f"{name}/{code}"
            events.append(Annotation(onset_s, 0.0, text))
        if found:
            first = ", ".join(str(code) for code in sorted(codes)[:8])
            more = ", ..." if len(codes) > 8 else ""
            events_of = "1 event" if len(found) == 1 else f"{len(found)} events"
            notes.append(f"{events_of} from trigger channel {name} (codes {first}{more})")
    return tuple(events), tuple(notes)


def renamed_events(
    annotations: Iterable[Annotation], names: Mapping[str, str]
) -> Iterator[Annotation]:
    """Yield annotations under the names that a study gives to codes or descriptions.

    ``S  1`` and ``S 1`` stand for BrainVision's ``Stimulus/S  1`` as well; ``*`` for anything.
    """
    wanted = {" ".join(key.split()): name for key, name in names.items()}
    for one in annotations:
        text = " ".join(one.description.split())
        known = (text, text.rpartition("/")[2])
        fits = (key for key in wanted if any(fnmatchcase(name, key) for name in known))
        key = next((name for name in known if name in wanted), None) or next(fits, None)
        yield one if key is None else replace(one, description=wanted[key])


def _are_listed(
    found: Sequence[tuple[float, int]], listed_s: NDArray[np.float64], *, within_s: float
) -> bool:
    """Whether nearly all events lie where the file lists some."""
    onsets_s = np.array([onset_s for onset_s, _ in found])
    at, last = np.searchsorted(listed_s, onsets_s), len(listed_s) - 1
    beside = [listed_s[np.clip(at + step, 0, last)] - onsets_s for step in (-1, 0)]
    return bool((np.abs(beside).min(axis=0) < within_s).mean() > 0.9)


def _rises(
    blocks: Callable[[], Blocks], name: str, *, rate_hz: float
) -> tuple[list[tuple[float, int]], bool]:
    """Onset and code of every rise; and whether there are too many."""
    bits = STATUS_BITS if re.search("STATUS", name, re.IGNORECASE) else -1
    middle = _middle(blocks())
    found: list[tuple[float, int]] = []
    last, seconds = None, 0.0
    for onset_s, values in blocks():
        whole = np.rint(values) if middle is None else values > middle
        codes = whole.astype(np.int64) & bits
        if not len(codes):
            continue
        before = np.concatenate([codes[:1] if last is None else [last], codes[:-1]])
        at = np.flatnonzero((codes > before) & (codes > 0))
        found += [(onset_s + int(i) / rate_hz, int(codes[i])) for i in at]
        last = codes[-1]
        seconds += len(codes) / rate_hz
        if len(found) > 100 + MOST_PER_S * seconds:
            return [], True
    return found, False


def _middle(blocks: Blocks) -> float | None:
    """Half of the range of an analog signal; None where it holds whole numbers."""
    lowest, highest, analog = math.inf, -math.inf, False
    for _, values in blocks:
        finite = values[np.isfinite(values)]
        if len(finite):
            lowest, highest = min(lowest, finite.min()), max(highest, finite.max())
            analog |= bool(np.abs(finite - np.rint(finite)).max() > 1e-3)
    return float(lowest + highest) / 2 if analog else None
