"""From a recording to windows: views on cleaned signal, never copies.

Conventions: windows are (channels, times) in float32 microvolts at the plan's rate; their onsets
are seconds from the recording's start. A window lies on the grid ``segment start + k * stride``,
crosses no edge of a segment and touches no stretch annotated ``BAD...``; or it lies at an event,
or is one of the file's own epochs. Which windows there are follows from annotations and plan
alone, before any signal is read.

:func:`cut` streams one recording (scoring), :func:`materialise` lays many end to end in one
memory-mapped file (training).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ae_pipeline.config import Config
from ae_pipeline.data import Axis, InputError, Recording, RobustStats, Samples, Windows
from ae_pipeline.eeg.cleaning import apply, clean_stretch
from ae_pipeline.eeg.preprocess import Plan

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Grid",
    "Windowing",
    "count_windows",
    "cut",
    "cut_again",
    "grid_of",
    "meta_of",
    "samples_of",
    "some_names",
]

Float = NDArray[np.float32]


class Windowing(Config):
    """How a recording is cut."""

    length_s: Annotated[float, Field(ge=0.001, allow_inf_nan=False)] = 2.0
    """Length of a window (s): as long as what you look for; 1 to 4 s suits resting EEG."""
    stride_s: Annotated[float, Field(ge=0.001, allow_inf_nan=False)] = 0.5
    """Step from one window to the next (s); shorter than length_s lets windows overlap, which
    finds an event wherever it falls."""
    at: Literal["stride", "epochs"] | tuple[str, ...] = "stride"
    """Where windows start: stride cuts all along; epochs takes each of the file's own epochs as
    one window; names of events or annotations (wildcards allowed: ["S 1*"]) cut one at each."""
    offset_s: float = 0.0
    """Only with names of events: where a window starts, counted from its event (s); -0.2 begins
    0.2 s before it."""

    @field_validator("at", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value not in ("stride", "epochs") else value


@dataclass(frozen=True)
class Grid:
    """Where the windows of one recording are.

    ``starts[i]`` holds the first samples of segment i's windows, at the plan's rate, counted from
    the segment's start; ``onsets_s[i]`` the same in seconds from the recording's start.
    """

    length: int
    starts: tuple[NDArray[np.int64], ...]
    onsets_s: tuple[NDArray[np.float64], ...]


def count_windows(recording: Recording, plan: Plan, *, windowing: Windowing) -> int:
    """How many windows :func:`cut` gives; no signal is read.

    Raises
    ------
    InputError
        There is none, as in :func:`cut`.
    """
    return sum(len(starts) for starts in grid_of(recording, plan, windowing=windowing).starts)


def cut(
    recording: Recording,
    plan: Plan,
    *,
    windowing: Windowing,
    robust_stats: RobustStats | None = None,
    block_s: float = 60.0,
) -> Iterator[Samples]:
    """Stream the windows of a recording.

    Parameters
    ----------
    recording : Recording
    plan : Plan
        From :func:`ae_pipeline.eeg.survey.survey` of the same recording.
    windowing : Windowing
    robust_stats : RobustStats, optional
        Of the recording, from :func:`ae_pipeline.eeg.survey.survey_with_stats`; handed on.
    block_s : float
        About how much signal is in memory at a time; neither windows nor values depend on it.

    Yields
    ------
    Samples
        In order, at least one window each: ``values`` and ``raw`` (the same windows before
        filter and reference, at the recording's own rate) are views on a block; ``meta`` has
        ``recording``, ``subject``, ``session``, ``window`` (running over the recording),
        ``onset_s``, ``duration_s``.

    Raises
    ------
    InputError
        A window is longer than every uninterrupted stretch, or none is clear of ``BAD_*``.
    """
    grid = grid_of(recording, plan, windowing=windowing)
    stats = {} if robust_stats is None else {recording.name: robust_stats}
    enough = block_s * plan.rate_hz
    waiting: list[_Piece] = []
    done = 0
    for piece in _pieces(recording, plan, grid=grid, block_s=block_s):
        waiting.append(piece)
        # short segments share a chunk: models work in batches
        if sum(p.clean.shape[1] for p in waiting) >= enough:
            chunk = _chunk(recording, plan, grid=grid, pieces=waiting, done=done)
            yield replace(chunk, robust_stats=stats)
            done += len(chunk)
            waiting = []
    if waiting:
        chunk = _chunk(recording, plan, grid=grid, pieces=waiting, done=done)
        yield replace(chunk, robust_stats=stats)


def cut_again(
    recording: Recording, plan: Plan, *, windowing: Windowing, numbers: Sequence[int]
) -> Samples:
    """A few windows again by their numbers, equal to what :func:`cut` gave but for rounding.

    Returns
    -------
    Samples
        In the order of ``numbers``, which are all that ``meta`` holds.
    """
    import pandas as pd

    grid = grid_of(recording, plan, windowing=windowing)
    before = np.cumsum([0, *(len(starts) for starts in grid.starts)])
    n, n_raw = len(numbers), grid.length * plan.down // plan.up
    values = np.empty((n, len(plan.ch_names), grid.length), np.float32)
    common = np.empty((n, 1, grid.length), np.float32)
    raw = np.empty((n, len(plan.ch_names), n_raw), np.float32)
    for i, number in enumerate(numbers):
        segment = int(np.searchsorted(before, number, side="right")) - 1
        start = int(grid.starts[segment][number - before[segment]])
        stretch = clean_stretch(
            plan, recording, segment=segment, start=start, stop=start + grid.length
        )
        values[i], common[i] = stretch
        at = plan.segments[segment][0] + start * plan.down // plan.up
        raw[i] = np.nan_to_num(recording.read(at, at + n_raw), nan=0.0, posinf=0.0, neginf=0.0)
    meta = pd.DataFrame({"window": list(numbers)})
    return samples_of(
        values, meta, plan=plan, raw=raw, common=None if plan.reference == "none" else common
    )


class _Piece(NamedTuple):
    """A stretch of one segment with the windows that end in its last block.

    The last row of ``clean`` is what the reference took away.
    """

    clean: Float
    raw: Float
    starts: NDArray[np.int64]
    raw_starts: NDArray[np.int64]
    onsets_s: NDArray[np.float64]


def _pieces(recording: Recording, plan: Plan, *, grid: Grid, block_s: float) -> Iterator[_Piece]:
    up, down = plan.up, plan.down  # a cleaned sample stands for down / up recorded ones
    clean = raw = np.empty((0, 0), np.float32)
    segment = begin = raw_begin = -1  # of which segment, and from where in it, `clean` is
    for block in apply(plan, recording, block_s=block_s):
        if block.segment != segment:
            segment, begin, raw_begin = block.segment, block.start, block.raw_start
            clean, raw = block.cleaned, block.raw
        else:
            # what windows still to come need from before this block
            keep = max(begin, block.start - (grid.length - 1))
            raw_keep = keep * down // up
            clean = np.concatenate([clean[:, keep - begin :], block.cleaned], axis=1)
            raw = np.concatenate([raw[:, raw_keep - raw_begin :], block.raw], axis=1)
            begin, raw_begin = keep, raw_keep
        starts = grid.starts[segment]
        ends = starts + grid.length
        here = (ends > block.start) & (ends <= begin + clean.shape[1])
        if here.any():
            starts = starts[here]
            raw_starts = starts * down // up - raw_begin
            yield _Piece(clean, raw, starts - begin, raw_starts, grid.onsets_s[segment][here])


def _chunk(
    recording: Recording, plan: Plan, *, grid: Grid, pieces: list[_Piece], done: int
) -> Samples:
    clean, starts = _joined([(piece.clean, piece.starts) for piece in pieces])
    raw, raw_starts = _joined([(piece.raw, piece.raw_starts) for piece in pieces])
    onsets_s = np.concatenate([piece.onsets_s for piece in pieces])
    common = None if plan.reference == "none" else Windows(clean[-1:].T, starts, grid.length)
    return samples_of(
        Windows(clean[:-1].T, starts, grid.length),
        meta_of(recording, plan, grid=grid, onsets_s=onsets_s, done=done),
        plan=plan,
        raw=Windows(raw.T, raw_starts, grid.length * plan.down // plan.up),
        common=common,
    )


def _joined(parts: list[tuple[Float, NDArray[np.int64]]]) -> tuple[Float, NDArray[np.int64]]:
    """Signals end to end, and the starts in them."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(signal.shape[1] for signal, _ in parts[:-1])])
    starts = [start + offset for (_, start), offset in zip(parts, offsets, strict=True)]
    return np.concatenate([signal for signal, _ in parts], axis=1), np.concatenate(starts)


# --------------------------------------------------------------------------------- grid


def grid_of(recording: Recording, plan: Plan, *, windowing: Windowing) -> Grid:
    """Where windows are; InputError where there is none."""
    rate_hz = plan.rate_hz
    length = max(1, round(windowing.length_s * rate_hz))
    hop = windowing.stride_s * rate_hz
    if windowing.at == "epochs":
        _check_epochs(recording, plan, windowing=windowing)
        length = min([length, *(plan.n_out(segment) for segment in range(len(plan.segments)))])
    longest = max(plan.n_out(segment) for segment in range(len(plan.segments)))
    if length > longest:
        whole = longest / rate_hz >= recording.duration_s - 1 / rate_hz
        stretch = "" if whole else "the longest uninterrupted stretch of "
        raise InputError(
            f"window of {windowing.length_s:g} s exceeds {stretch}recording {recording.name!r} "
            f"({longest / rate_hz:.3g} s); shorten windows.length_s or drop the file"
        )
    starts, onsets_s = [], []
    for segment, (first, _) in enumerate(plan.segments):
        begin_s = first / plan.sfreq_in_hz
        if windowing.at == "stride":
            count = int((plan.n_out(segment) - length) // hop) + 2
            here = np.round(np.arange(max(0, count)) * hop).astype(np.int64)
        elif windowing.at == "epochs":
            here = np.zeros(1, np.int64)
        else:
            events_s = _events_s(recording, windowing.at) + windowing.offset_s
            here = np.round((events_s - begin_s) * rate_hz).astype(np.int64)
        here = np.unique(here[(here >= 0) & (here + length <= plan.n_out(segment))])
        onset_s = begin_s + here / rate_hz
        clear = _clear(onset_s, length / rate_hz, recording=recording)
        starts.append(here[clear])
        onsets_s.append(onset_s[clear])
    if not any(len(here) for here in starts):
        if isinstance(windowing.at, tuple) and not len(_events_s(recording, windowing.at)):
            have = [*dict.fromkeys(a.description for a in recording.annotations)]
            raise InputError(
                f"recording {recording.name!r} has no event named {' or '.join(windowing.at)} "
                f"(windows.at); it has {', '.join(have[:8]) or 'none at all'}"
            )
        bad_s = sum(end - onset for onset, end in recording.bad_spans())
        raise InputError(
            f"recording {recording.name!r} has no window of {windowing.length_s:g} s clear of "
            f"BAD annotations ({bad_s:.3g} of {recording.duration_s:.3g} s are bad); shorten "
            "windows.length_s, look at the annotations or drop the file"
        )
    return Grid(length, tuple(starts), tuple(onsets_s))


def _check_epochs(recording: Recording, plan: Plan, *, windowing: Windowing) -> None:
    """One window an epoch needs epochs, and windows as long as they are."""
    if not recording.epoched:
        raise InputError(
            f"recording {recording.name!r} is continuous, windows.at asks for the file's own "
            "epochs; set windows.at to stride or to names of events"
        )
    first, last = plan.segments[0]
    epoch_s = (last - first) / plan.sfreq_in_hz
    if abs(epoch_s - windowing.length_s) > 1.5 / min(plan.rate_hz, plan.sfreq_in_hz):
        raise InputError(
            f"recording {recording.name!r} holds epochs of {epoch_s:.4g} s, windows.length_s is "
            f"{windowing.length_s:g} s; set it to {epoch_s:.4g} or windows.at to stride"
        )


def _events_s(recording: Recording, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Onsets of the annotations that any of the names (with wildcards) stands for."""
    onsets = [
        one.onset_s
        for one in recording.annotations
        if any(fnmatchcase(one.description.casefold(), name.casefold()) for name in names)
    ]
    return np.array(onsets, np.float64)


def _clear(
    onsets_s: NDArray[np.float64], duration_s: float, *, recording: Recording
) -> NDArray[np.bool_]:
    """Which windows touch no bad stretch; half a sample of slack for rounded annotations."""
    slack = 0.5 / recording.sfreq_hz
    clear = np.ones(len(onsets_s), bool)
    for onset, end in recording.bad_spans():
        clear &= (onsets_s + duration_s <= onset + slack) | (onsets_s >= end - slack)
    return clear


def meta_of(
    recording: Recording, plan: Plan, *, grid: Grid, onsets_s: NDArray[np.float64], done: int
) -> pd.DataFrame:
    """Keys of the windows at ``onsets_s``, the first of which has the number ``done``."""
    import pandas as pd

    return pd.DataFrame(
        {
            "recording": recording.name,
            "subject": recording.subject,
            "session": recording.session,
            "window": np.arange(done, done + len(onsets_s)),
            "onset_s": onsets_s,
            "duration_s": grid.length / plan.rate_hz,
        }
    )


def samples_of(
    values: Float | Windows,
    meta: pd.DataFrame,
    *,
    plan: Plan,
    raw: Float | Windows | None = None,
    common: Float | Windows | None = None,
) -> Samples:
    """Windows as :class:`Samples` with their axes."""
    channels = Axis("channel", plan.ch_names, unit="uV")
    times = Axis("time", step=1 / plan.rate_hz, unit="s")
    return Samples(
        "eeg", values, meta, (channels, times), sfreq_hz=plan.sfreq_hz, raw=raw, common=common
    )


def some_names(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
