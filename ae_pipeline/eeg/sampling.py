"""Robust statistics of a recording, from windows spread evenly over it.

Training learns them from the cleaned signal on disk; scoring keeps the same windows while the
survey reads the recording, so that they are known before the pass that scores. Which windows these
are follows from the plan's segments and the windowing alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Block, RobustStats
from ae_pipeline.eeg.cleaning import Cleaner, channel_map
from ae_pipeline.eeg.features import fit_robust_stats
from ae_pipeline.eeg.filters import resampling_margin

if TYPE_CHECKING:
    from ae_pipeline.data import Recording
    from ae_pipeline.eeg.filters import Filter
    from ae_pipeline.eeg.preprocess import Plan
    from ae_pipeline.eeg.windows import Grid

__all__ = [
    "Stretch",
    "WindowSampler",
    "measured_every",
    "sample_windows",
    "surveyed_stretches",
]

Float = NDArray[np.float32]

STRETCH_S = 60.0
MOST_S = 1800.0
"""Signal that windows are taken from: all of a short recording, stretches all over a long one."""

MOST_WINDOWS = 400
"""Windows that decide: a median of more moves by a hundredth of a deviation."""

FEWEST_WINDOWS = 64
MOST_NUMBERS = 2**23
"""Numbers held at once for it (32 MB): fewer windows where there are very many channels."""


class Stretch(NamedTuple):
    """Part of a segment that the survey reads at once; samples of the recording."""

    segment: int
    start: int
    stop: int


def surveyed_stretches(
    segments: tuple[tuple[int, int], ...], sfreq_hz: float, *, design: Filter, down: int
) -> list[Stretch]:
    """Segments in stretches of a minute, or longer where the filter's kernel is."""
    length = max(STRETCH_S * sfreq_hz, 2 * len(design.kernel))
    step = max(1, round(length / down)) * down  # what is resampled starts on whole steps
    return [
        Stretch(number, start, min(start + step, last))
        for number, (first, last) in enumerate(segments)
        for start in range(first, last, step)
    ]


def measured_every(segments: tuple[tuple[int, int], ...], sfreq_hz: float) -> int:
    """Of a recording longer than an hour the survey measures every so many stretches."""
    return max(1, round(sum(b - a for a, b in segments) / sfreq_hz / 3600))


def sample_windows(plan: Plan, grid: Grid) -> dict[Stretch, NDArray[np.int64]]:
    """Choose the windows that decide what is usual: those that one stretch suffices for.

    Returns
    -------
    dict
        Numbers of windows (as in ``meta``, over the recording) by the stretch they lie in.
    """
    up, down = plan.up, plan.down
    halo = len(plan.filter.kernel) // 2 + resampling_margin(up, down)
    before = np.cumsum([0, *(len(starts) for starts in grid.starts)])
    stretches = surveyed_stretches(plan.segments, plan.sfreq_in_hz, design=plan.filter, down=down)
    inside: list[tuple[Stretch, NDArray[np.int64]]] = []
    for each in stretches[:: measured_every(plan.segments, plan.sfreq_in_hz)]:
        first, last = plan.segments[each.segment]
        low = 0 if each.start == first else -(-(each.start + halo - first) * up // down)
        end = plan.n_out(each.segment)
        high = end if each.stop == last else (each.stop - halo - first) * up // down
        starts = grid.starts[each.segment]
        clear = np.flatnonzero((starts >= low) & (starts + grid.length <= high))
        if len(clear):
            inside.append((each, clear + before[each.segment]))
    seconds = sum(each.stop - each.start for each, _ in inside) / plan.sfreq_in_hz
    if seconds > MOST_S:
        n = max(1, round(len(inside) * MOST_S / seconds))
        inside = [inside[i] for i in _evenly(len(inside), n)]
    total = sum(len(numbers) for _, numbers in inside)
    room = max(FEWEST_WINDOWS, MOST_NUMBERS // (len(plan.ch_names) * grid.length))
    chosen = _evenly(total, min(total, MOST_WINDOWS, room))
    found, done = {}, 0
    for each, numbers in inside:
        here = chosen[(chosen >= done) & (chosen < done + len(numbers))] - done
        done += len(numbers)
        if len(here):
            found[each] = numbers[here]
    return found


def _evenly(n: int, count: int) -> NDArray[np.int64]:
    """``count`` of ``n`` places, spread evenly."""
    return np.unique(np.linspace(0, n - 1, count).round().astype(np.int64))


@dataclass(frozen=True)
class _Wanted:
    """Windows of a stretch: where they are kept, and their first cleaned samples in it."""

    rows: slice
    starts: NDArray[np.int64]


class WindowSampler:
    """Keeps the sampled windows of a recording, filtered, while its survey reads it.

    Channels are mixed afterwards (bad channels, eyes), when the survey has said how: that is a map
    over channels, the filter is one over time, and their order does not matter.

    Parameters
    ----------
    recording : Recording
    draft : Plan
        Filter, rates and segments; what the survey is to find out is not looked at.
    grid : Grid
    eyes : bool
        Whether eye channels are kept, too.
    """

    def __init__(self, recording: Recording, draft: Plan, *, grid: Grid, eyes: bool) -> None:
        self.eog_reader = recording.eog_reader if eyes else None
        rows = (*draft.ch_names, *(recording.eog if self.eog_reader is not None else ()))
        self.cleaner = Cleaner(replace(draft, ch_names=rows, offset_uv=(0.0,) * len(rows)))
        self.length, self.sfreq_hz = grid.length, draft.sfreq_hz
        chosen = sample_windows(draft, grid)
        before = np.cumsum([0, *(len(starts) for starts in grid.starts)])
        self.wanted: dict[Stretch, _Wanted] = {}
        n = 0
        for each, numbers in chosen.items():
            starts = grid.starts[each.segment][numbers - before[each.segment]]
            first = draft.segments[each.segment][0]
            begin = (each.start - first) * draft.up // draft.down
            self.wanted[each] = _Wanted(slice(n, n + len(starts)), starts - begin)
            n += len(starts)
        self.kept = np.empty((n, len(rows), grid.length), np.float32)

    def offer(self, stretch: Stretch, data: Float) -> None:
        """Filter a stretch of signal (channels, samples) that holds sampled windows."""
        wanted = self.wanted.get(stretch)
        if wanted is None:
            return
        if self.eog_reader is not None:
            eyes = np.nan_to_num(self.eog_reader(stretch.start, stretch.stop))
            data = np.concatenate([data, eyes])
        data = data - np.median(data[:, ::16], axis=1, keepdims=True)  # float32 has seven digits
        cleaned = self.cleaner(Block(data, stretch.start, 0, 0))[:-1]
        for row, start in enumerate(wanted.starts, start=wanted.rows.start):
            self.kept[row] = cleaned[:, start : start + self.length]

    def robust_stats(self, plan: Plan) -> RobustStats | None:
        """What the windows say, with the channels as ``plan`` makes them; None for too few."""
        mixed = channel_map(plan, self.kept.shape[1])
        windows = self.kept if mixed is None else np.matmul(mixed, self.kept)
        return fit_robust_stats(windows, self.sfreq_hz)
