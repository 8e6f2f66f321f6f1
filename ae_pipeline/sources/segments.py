"""Where a recording is uninterrupted: boundaries, gaps and padding at its ends."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ae_pipeline.data import Annotation
from ae_pipeline.sources.formats.content import Reader

__all__ = ["BOUNDARY", "dead_ends", "segments_of", "which_end", "within", "without"]

LOOK_S, PADDING_S = 10.0, 0.1
"""How much is read at once to look for padding, and from what length on it is some."""

BOUNDARY = re.compile(
    r"(bad[ _]?)?(edge[ _]?)?boundary|edge$|new segment|amplifier (dis|re)connected", re.IGNORECASE
)
"""MNE's ``BAD boundary`` and ``EDGE boundary``, EEGLAB's ``boundary``, BrainVision's segments."""


def within(annotations: Iterable[Annotation], duration_s: float) -> tuple[Annotation, ...]:
    """Annotations in order, cropped to the recording as MNE does."""
    kept = []
    for one in annotations:
        onset, end = max(0.0, one.onset_s), min(one.onset_s + one.duration_s, duration_s)
        if end >= 0 and onset <= duration_s:
            kept.append(replace(one, onset_s=onset, duration_s=max(0.0, end - onset)))
    return tuple(sorted(kept, key=lambda one: (one.onset_s, one.description)))


def segments_of(
    n_times: int,
    sfreq_hz: float,
    *,
    annotations: Iterable[Annotation],
    gaps: Iterable[tuple[int, int]],
    between: Iterable[int] = (),
) -> tuple[tuple[int, int], ...]:
    """Sample ranges without interruption."""
    cuts, holes = {0, n_times, *between}, list(gaps)
    for one in annotations:
        # the first sample at or after the instant; EEGLAB puts boundaries between samples
        start = math.ceil(one.onset_s * sfreq_hz - 0.01)
        stop = math.ceil((one.onset_s + one.duration_s) * sfreq_hz - 0.01)
        text = one.description
        if text.upper().startswith(("BAD_ACQ_SKIP", "BAD_DISCONNECTION")):
            cuts.add(start)
            holes.append((start, stop))
        elif BOUNDARY.match(text):
            cuts.add(start)
            if text.upper().startswith("BAD"):  # EEGLAB's duration is what was cut out before
                cuts.add(stop)
                holes.append((start, stop))
    for start, stop in holes:
        cuts |= {start, stop}
    edges = sorted(cut for cut in cuts if 0 <= cut <= n_times)
    pieces = itertools.pairwise(edges)
    return tuple(
        (a, b) for a, b in pieces if not any(start <= a and b <= stop for start, stop in holes)
    )


def dead_ends(reader: Reader, n_times: int, *, sfreq_hz: float) -> tuple[tuple[int, int], ...]:
    """Samples at the beginning and the end, at least ``PADDING_S``, in which no channel moves.

    Many a recorder, and many a cleaning, pads a file so: EDF fills up its last record. Filtered, it
    would look like an event; as calibration data it would set the threshold for all. Padding may
    stand on several values, one after the other.
    """
    look = max(2, round(LOOK_S * sfreq_hz))
    least = PADDING_S * sfreq_hz

    def from_start() -> Iterator[int]:
        for start in range(0, n_times - 1, look):
            moves = (np.diff(reader(start, min(start + look + 1, n_times)), axis=1) != 0).any(0)
            yield from (start + np.flatnonzero(moves) + 1).tolist()

    def from_end() -> Iterator[int]:
        for stop in range(n_times, 1, -look):
            moves = (np.diff(reader(max(0, stop - look - 1), stop), axis=1) != 0).any(0)
            yield from (n_times - stop + np.flatnonzero(moves[::-1]) + 1).tolist()

    first, last = (_still(steps, least=least) for steps in (from_start(), from_end()))
    if None in (first, last):
        return ()  # nothing moves anywhere: that is told as such
    assert first is not None
    assert last is not None
    ends = ((0, first), (n_times - last, n_times))
    return tuple((start, stop) for start, stop in ends if stop - start >= least)


def _still(steps: Iterator[int], *, least: float) -> int | None:
    """Samples from an end up to where the signal moves on; single steps lie between plateaus."""
    still: int | None = None
    for step in steps:
        if still is not None and step - still < least:
            return still
        still = step
    return None


def which_end(padding: tuple[tuple[int, int], ...], n_times: int) -> str:
    """Return where padding lies, in words."""
    if len(padding) == 2:
        return "at the beginning and at the end"
    return "at the end" if padding[0][1] == n_times else "at the beginning"


def without(
    segments: tuple[tuple[int, int], ...], padding: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    """Segments without padding; all of them where nothing would be left."""
    begin = max([stop for start, stop in padding if start == 0], default=0)
    end = min([start for start, _ in padding if start > 0], default=segments[-1][1])
    kept = tuple((max(a, begin), min(b, end)) for a, b in segments)
    return tuple((a, b) for a, b in kept if a < b) or segments
