"""The two currencies of the pipeline: :class:`Recording` and :class:`Samples`.

Conventions, everywhere in the package:

* EEG amplitudes are microvolts, float32; times are seconds from the recording's start.
* An array of EEG is (channels, times); a stack of windows is (windows, channels, times).
* A mask is True where a value was observed.

A ``Recording`` is lazy: it knows its metadata and reads any stretch of signal on demand, so
that 24 h of 64 channels (5.7 GB) never stand in memory. ``Samples`` are what models see:
images and questionnaires are ``Samples`` from the start, EEG becomes ``Samples`` by windowing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


__all__ = [
    "SAME_PLACE",
    "Annotation",
    "Axis",
    "Block",
    "Column",
    "Doubt",
    "Finding",
    "InputError",
    "Layout",
    "Recording",
    "RobustStats",
    "Samples",
    "Scorer",
    "Scores",
    "Windows",
    "axes_of",
    "readable",
]

Layout = Literal["series", "grid", "table"]
"""Form of one sample: channels over time, an image of 0 to 1, or one number an item."""
Float = NDArray[np.float32]


SAME_PLACE = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Electrodes that the 10-20 system of 1958 and the 10-10 system of 1991 name differently."""


class InputError(Exception):
    """One input (file, recording, table) cannot be used; the others go on (exit status 1).

    The message is one line: which file, channel, column or row, what was found, what was
    expected, what to do.

    Examples
    --------
    >>> from ae_pipeline.sources.questionnaire import find
    >>> try:
    ...     find("missing.csv")
    ... except InputError as error:
    ...     print(error)
    missing.csv: no such file or folder; expected a CSV, TSV, Excel or SPSS file
    """

    def __init__(self, message: str) -> None:
        super().__init__(readable(message))


def readable(text: str) -> str:
    """Return text whose undecodable bytes (of file names that are not UTF-8) are Latin-1.

    Parameters
    ----------
    text : str
    """
    if text.isascii() or not any("\udc80" <= c <= "\udcff" for c in text):
        return text
    return "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)


# --------------------------------------------------------------------------- recordings


@dataclass(frozen=True)
class Finding:
    """One fact that was found; :mod:`ae_pipeline.report.findings` puts it into words.

    Parameters
    ----------
    kind : str
        What was found, such as ``gain_off``.
    numbers : mapping of str to number
        How much, by name; a physical number carries its unit.
    where : tuple of str
        Channels, items, or other names it is about.
    """

    kind: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """A stretch of a recording with a label, as MNE has it."""

    onset_s: float
    duration_s: float
    description: str


@dataclass(frozen=True)
class Block:
    """A stretch of signal with a halo on either side.

    ``data`` is (channels, left + core + right) in microvolts; ``start`` is the sample index of
    the core's first sample in the recording. A halo is shorter than asked for (down to none)
    where the segment ends.
    """

    data: Float
    start: int
    left: int
    right: int

    @property
    def n_core(self) -> int:
        """Samples between the halos."""
        return int(self.data.shape[1]) - self.left - self.right


@dataclass(frozen=True)
class Recording:
    """One EEG recording: who, what, and a way to read any part of it.

    Parameters
    ----------
    name : str
        The BIDS entity string, else the path relative to the input root with ``/`` as ``__``,
        without extension; the stem of every output file.
    subject, session : str
        From BIDS entities, else a pattern, else the folder, else the file's name. ``session``
        is empty where there is none.
    path : Path
        The file that was named.
    files : tuple of Path
        Every file the content comes from (``.vhdr`` with ``.eeg`` and ``.vmrk``, ...); what a
        digest of the recording has to cover.
    ch_names : tuple of str
        EEG channels only, in the file's order.
    positions_m : array of shape (channels, 3)
        Electrode positions in metres in MNE's head frame; NaN where not known.
    sfreq_hz : float
    n_times : int
    annotations : tuple of Annotation
    reader : callable
        ``reader(start, stop)`` returns float32 microvolts of shape (channels, stop - start).
    segments : tuple of (start, stop)
        Sample ranges of uninterrupted signal, in order; nothing is filtered or windowed across
        their edges (gaps, EDF+ discontinuities, ``BAD_boundary``, ``EDGE``).
    """

    name: str
    subject: str
    session: str
    path: Path
    files: tuple[Path, ...]
    ch_names: tuple[str, ...]
    positions_m: NDArray[np.float64]
    sfreq_hz: float
    n_times: int
    annotations: tuple[Annotation, ...]
    reader: Callable[[int, int], Float] = field(repr=False)
    segments: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    """What the reader guessed or left out, in words, for the report (no identifiers)."""
    bads: tuple[str, ...] = ()
    """Channels that the file itself (or its BIDS sidecar) marks as bad."""
    bipolar: bool = False
    """True where the channels are differences between electrodes: no common reference."""
    file_names: tuple[str, ...] = ()
    """The channels as the file spells them, so that what is written fits back onto the file."""
    epoched: bool = False
    """True where the file holds epochs, laid end to end here; each is a segment."""
    line_freq_hz: float | None = None
    """Mains frequency that a sidecar states; before the study's."""
    state: Mapping[str, str] = field(default_factory=dict)
    """What sidecars say of person and amplifier (age, sex, reference, amplifier); no names."""
    filled: tuple[str, ...] = ()
    """Channels that the file lacks and that were interpolated from the others."""
    padding_s: tuple[tuple[float, float], ...] = ()
    """Stretches (onset_s, end_s) at either end in which no channel moves; no segment has them."""
    whole_numbers: bool = False
    """True where the file stores whole numbers, among which there is no NaN."""
    eog: tuple[str, ...] = ()
    """Eye channels at the same rate, for correction; never among ``ch_names``."""
    eog_reader: Callable[[int, int], Float] | None = field(default=None, repr=False)
    """Like ``reader``, for the eye channels."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Sample ranges of the clock for which the file holds no samples; MNE counts without them."""
    orig_time: datetime | None = None
    """When the recording began, as MNE reads it from the file (``info["meas_date"]``)."""
    first_time_s: float = 0.0
    """From ``orig_time`` to the first sample; more than 0 where a FIF file was cropped."""

    def __post_init__(self) -> None:
        if not self.segments:
            object.__setattr__(self, "segments", ((0, self.n_times),))
        if not self.file_names:
            object.__setattr__(self, "file_names", self.ch_names)

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.n_times / self.sfreq_hz

    def time_in_file_s(self, time_s: float) -> float:
        """Seconds of signal in the file before an instant: MNE's clock, which has no gaps."""
        at = time_s * self.sfreq_hz
        before = sum(min(max(at - start, 0.0), stop - start) for start, stop in self.gaps)
        return (at - before) / self.sfreq_hz

    def read(self, start: int, stop: int) -> Float:
        """Signal of samples ``start`` to ``stop`` (exclusive), (channels, n) in microvolts."""
        return self.reader(start, stop)

    def pick(self, ch_names: tuple[str, ...]) -> Recording:
        """The same recording with some of its channels, in the given order and spelling.

        T3, T4, T5, T6 and T7, T8, P7, P8 are the same places.

        Raises
        ------
        InputError
            Where it lacks one of them.
        """
        if ch_names == self.ch_names:
            return self
        have = {SAME_PLACE.get(name, name): i for i, name in enumerate(self.ch_names)}
        lacking = [name for name in ch_names if SAME_PLACE.get(name, name) not in have]
        if lacking:
            raise InputError(
                f"recording {self.name!r} lacks {len(lacking)} of the model's {len(ch_names)} "
                f"channels ({', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}); score "
                "it with a model trained on its montage"
            )
        order = [have[SAME_PLACE.get(name, name)] for name in ch_names]
        index = np.array(order)
        reader = self.reader
        return replace(
            self,
            ch_names=ch_names,
            file_names=tuple(self.file_names[i] for i in order),
            positions_m=self.positions_m[index],
            bads=tuple(
                name
                for name, i in zip(ch_names, order, strict=True)
                if self.ch_names[i] in self.bads
            ),
            reader=lambda start, stop: reader(start, stop)[index],
        )

    def blocks(self, length_s: float, halo_s: float = 0.0) -> Iterator[Block]:
        """Walk through the recording in blocks that never cross a segment's edge.

        Every sample is read once, also those that blocks share.

        Parameters
        ----------
        length_s : float
            Length of a block's core; the last of a segment is shorter.
        halo_s : float
            Signal wanted on either side of the core (for filters), as far as the segment has it.

        Yields
        ------
        Block
            In order; the cores of one segment follow each other without gap or overlap.
        """
        n_core = max(1, round(length_s * self.sfreq_hz))
        n_halo = round(halo_s * self.sfreq_hz)
        for first, last in self.segments:
            known = np.empty((len(self.ch_names), 0), np.float32)  # of the block before
            for start in range(first, last, n_core):
                stop = min(start + n_core, last)
                begin, end = max(first, start - n_halo), min(last, stop + n_halo)
                data, fresh = known, begin + known.shape[1]
                if fresh < end:
                    new = self.read(fresh, end)
                    data = np.concatenate([known, new], axis=1) if known.shape[1] else new
                if stop < last:
                    known = data[:, stop - n_halo - end :].copy() if n_halo else known
                yield Block(data, start, start - begin, end - stop)

    def bad_spans(self) -> tuple[tuple[float, float], ...]:
        """Stretches (onset_s, end_s) annotated ``BAD...``; no window may touch them."""
        return tuple(
            (a.onset_s, a.onset_s + a.duration_s)
            for a in self.annotations
            if a.description.upper().startswith("BAD")
        )


# ------------------------------------------------------------------------------ samples


class Doubt(str):
    """A note that bears on every claim about the data: shown wherever results are."""


@dataclass(frozen=True)
class Column:
    """What one entry of a table is: decides its likelihood and how it is scaled.

    ``levels`` are the possible answers of a categorical, ordinal or binary item, ascending;
    ``block`` is its scale, ``bounds`` the possible range where one is declared.
    """

    name: str
    type: Literal["continuous", "ordinal", "nominal", "binary"] = "continuous"
    levels: tuple[float, ...] = ()
    block: str = ""
    bounds: tuple[float, float] | None = None
    reverse: bool = False
    """Whether the values are turned round (lowest + highest - answer)."""
    position: int | None = None
    """Place in the order in which people saw the items, from 0; None where it is not known."""


@dataclass(frozen=True)
class Axis:
    """One axis of a sample: what it counts, its labels (channels, items) and its unit."""

    name: Literal["channel", "time", "item", "row", "column"]
    labels: tuple[str, ...] = ()
    step: float | None = None
    unit: str = ""


def axes_of(
    layout: Layout, entries: tuple[str, ...] = (), *, sfreq_hz: float | None = None, unit: str = ""
) -> tuple[Axis, ...]:
    """Return the axes of samples with this layout.

    Parameters
    ----------
    layout : {'series', 'grid', 'table'}
    entries : tuple of str
        Names of the channels or items.
    sfreq_hz : float, optional
        Series only.
    unit : str
        Unit of the channels.
    """
    if layout == "series":
        step = None if sfreq_hz is None else 1 / sfreq_hz
        return (Axis("channel", entries, unit=unit), Axis("time", step=step, unit="s"))
    return (Axis("item", entries),) if layout == "table" else (Axis("row"), Axis("column"))


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over one long signal, without a copy of any of them.

    Behaves like an array of shape (windows, channels, length) under ``[...]`` with an integer
    array or a slice, which gathers just those windows.

    Parameters
    ----------
    signal : array of shape (times, channels), float32
        Cleaned segments laid end to end (a memory map where they exceed memory).
    starts : array of shape (windows,), int64
        First sample of each window; no window spans two segments.
    length : int
        Samples a window.
    """

    signal: Float
    starts: NDArray[np.int64]
    length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(windows, channels, length)."""
        return (len(self.starts), self.signal.shape[1], self.length)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Any) -> Float:
        if not len(self):  # the signal may be shorter than a window
            return np.empty(self.shape, np.float32)
        view = np.lib.stride_tricks.sliding_window_view(self.signal, self.length, axis=0)
        return np.ascontiguousarray(view[self.starts[rows]])

    def take(self, rows: Any) -> Windows:
        """The same signal with fewer (or repeated) windows; no signal is copied."""
        return replace(self, starts=self.starts[rows])


@dataclass(frozen=True)
class RobustStats:
    """How the channels of EEG predict each other, and the usual range of their features.

    Parameters
    ----------
    residual_weights : float32 array of shape (channels, channels)
        Row i makes of all channels what is left of channel i: 1 on the diagonal, minus the
        regression weights of the others beside it.
    center, spread : float32 arrays of shape (channels, features)
        Median and robust standard deviation; a channel's own features, then those of what is
        left of it (one channel has no others, and only its own).
    """

    residual_weights: Float
    center: Float
    spread: Float


@dataclass(frozen=True)
class Samples:
    """What models are fitted to and asked about.

    Parameters
    ----------
    kind : str
        Name of the kind of data; what depends on the form of a sample asks ``layout``.
    values : array of shape (n, *shape), float32, or Windows
        Microvolts for EEG, 0 to 1 for images, the answers as given for tables. Where ``mask``
        is False the value is 0 and means nothing.
    meta : DataFrame with n rows
        ``recording``, ``subject`` always; ``window``, ``onset_s``, ``duration_s`` for EEG;
        ``label`` for images where known; columns a study keeps for tables.
    axes : tuple of Axis
        One for each axis of a sample.
    mask : array of bool of shape (n, *shape), optional
        True where observed; None means that everything was.
    columns : tuple of Column
        Tables only: one for each item.
    sfreq_hz : float, optional
        EEG only.
    raw : array or Windows, optional
        EEG only: the same windows before filter and reference, at the recording's own rate.
    common : array of shape (n, 1, times) or Windows, optional
        EEG only: what the reference took away; ``values + common`` is the signal before it.
        None where nothing was taken.
    robust_stats : mapping of recording to RobustStats
        EEG only: median and spread of each channel's features in each recording; one that is too
        short has none.
    response_times : tuple of str
        Tables only: columns of ``meta`` that hold response times.
    scaled : array of shape (n, *shape), optional
        The values in the network's units, where they are known already.
    """

    kind: str
    values: Float | Windows
    meta: pd.DataFrame
    axes: tuple[Axis, ...]
    mask: NDArray[np.bool_] | None = None
    columns: tuple[Column, ...] = ()
    sfreq_hz: float | None = None
    raw: Float | Windows | None = None
    common: Float | Windows | None = None
    robust_stats: Mapping[str, RobustStats] = field(default_factory=dict)
    response_times: tuple[str, ...] = ()
    scaled: Float | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.meta):
            raise ValueError(f"{len(self.values)} values but {len(self.meta)} rows of meta")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.values.shape[1:])

    @property
    def layout(self) -> Layout:
        """Form of one sample, as its axes say."""
        first = self.axes[0].name
        return "series" if first == "channel" else "table" if first == "item" else "grid"

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of what a score can be attributed to: channels, items, or nothing (pixels)."""
        return self.axes[0].labels if self.axes[0].name in ("channel", "item") else ()

    def take(self, rows: Any) -> Samples:
        """Some of the samples, by integer array, boolean array or slice."""
        if not isinstance(rows, slice):
            chosen = np.asarray(rows) if len(rows) else np.empty(0, np.intp)
            rows = np.arange(len(self))[chosen]  # refuses a selection made for other samples

        def pick(values: Any) -> Any:
            if values is None:
                return None
            return values.take(rows) if isinstance(values, Windows) else values[rows]

        return replace(
            self,
            values=pick(self.values),
            mask=pick(self.mask),
            raw=pick(self.raw),
            common=pick(self.common),
            scaled=pick(self.scaled),
            meta=self.meta.iloc[rows].reset_index(drop=True),
        )

    def batch(self, rows: Any) -> tuple[Float, NDArray[np.bool_] | None]:
        """Values and mask of some rows as plain arrays."""
        return np.asarray(self.values[rows]), None if self.mask is None else self.mask[rows]

    def unreferenced(self, rows: Any) -> Float:
        """EEG: some windows before re-referencing, (n, channels, times) in microvolts."""
        values = np.asarray(self.values[rows])
        return values if self.common is None else values + np.asarray(self.common[rows])

    def chunks(self, size: int) -> Iterator[slice]:
        """Row ranges of at most ``size``, in order."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


# ------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Scores:
    """How abnormal samples are by one scorer; higher is more abnormal, always finite.

    Parameters
    ----------
    total : array of shape (n,), float64
    by_entry : array of shape (n, k), float32
        The same for each channel or item; k = 0 where a scorer cannot say.
    """

    total: NDArray[np.float64]
    by_entry: Float

    @classmethod
    def join(cls, parts: list[Scores]) -> Scores:
        """Scores of consecutive batches as one."""
        return cls(
            np.concatenate([part.total for part in parts]),
            np.concatenate([part.by_entry for part in parts]),
        )


class Scorer(Protocol):
    """The seam between detectors and everything that calibrates, explains and reports them."""

    def score(self, samples: Samples) -> Scores:
        """Score every sample on its own: a row's score does not depend on the other rows."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays (what a bundle stores)."""
