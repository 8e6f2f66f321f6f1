"""From raw to clean signal: survey a recording once, then stream it.

Conventions: signals are (channels, times), float32 microvolts; a plan belongs to one recording.

:func:`survey` walks once through a recording and returns a frozen :class:`Plan`: what the
filter is, which channels are bad and why, whether there is a common reference. :func:`apply`
then yields :class:`CleanBlock` after block, raw and cleaned side by side, because what is wrong
with a channel shows before filtering and re-referencing.

The filter is one linear-phase FIR kernel, MNE's own band-pass convolved with MNE's own notch,
run by overlap-save in float32 over frames that start on a fixed grid of each segment: what comes
out does not depend on the size of the blocks. Segments are continued at their edges by odd
reflection as MNE does. A symmetric kernel maps that continuation onto itself, so that one pass
with the folded kernel equals MNE's two passes, edges included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, field_validator, model_validator

from ae_pipeline.config import Config
from ae_pipeline.data import Block, InputError, Recording
from ae_pipeline.spatial import MOST_INTERPOLATED, eye_map, spline_weights

__all__ = [
    "BadChannel",
    "CleanBlock",
    "Filter",
    "Plan",
    "Preprocess",
    "apply",
    "clean_stretch",
    "lowest_high_pass_hz",
    "survey",
]

Float = NDArray[np.float32]

HAMMING_LENGTH = 3.3
"""Length of a Hamming-windowed FIR kernel times its narrowest transition (s Hz), as in MNE."""

MIN_CHANNELS_FOR_AVERAGE = 16
"""With fewer electrodes the average over the scalp is no estimate of zero (Nunez 2006)."""

FLAT_UV = 0.1
"""A stretch that moves less than this, peak to peak, holds no brain."""

MOST_CLIPPED = 0.02
"""Share of samples at the extremes: real EEG at 16 bits stays under a tenth of this."""

MOST_LINE_NOISE = 0.5
"""Share of a channel's power at the line frequency: above, mains is what was recorded."""

LEAST_CORRELATION = 0.2
"""With its most similar neighbour; real scalp channels have at least 0.5, loose ones noise."""

MIN_CHANNELS_FOR_CORRELATION = 8

BRIDGED_UV = 0.6
"""Two electrodes that differ by less (standard deviation) are joined by gel: what is left is the
amplifiers' own noise; neighbours on a scalp differ by several microvolts (Alschuler 2014)."""

BRIDGED_SHARE = 0.25
"""And by less than this share of what nearest channels of the recording usually differ by."""

DEAD = ("not_a_number", "flat", "amplitude", "marked")
"""Kinds of finding that leave nothing to score; the others are findings about real signal."""

REPLACED = (*DEAD, "disconnected")
"""Kinds whose channel holds no brain all along and is made from the others; a channel that clips
now and then, hums or is bridged still shows events, so it stays and only leaves the reference."""

STRETCH_S = 2.0
"""What the survey looks at, a few times a minute: long enough for 0.5 Hz resolution."""


# ------------------------------------------------------------------------------- config


class Preprocess(Config):
    """Filters, reference and sampling rate."""

    high_pass_hz: PositiveFloat | None = 0.5
    """Slower signal is removed (Hz; null keeps it). The filter is 3.3 / high_pass_hz seconds long
    and has to fit an uninterrupted stretch: raise it for short trials."""
    low_pass_hz: PositiveFloat | None = 45.0
    """Faster signal is removed (Hz; null keeps it). Muscle and line noise dominate above 45 Hz."""
    notch: Literal["auto", "off"] | PositiveFloat | tuple[PositiveFloat, ...] = "auto"
    """Line noise: auto removes source.line_freq_hz and its harmonics where the low-pass leaves
    them in; off, one frequency or a list of frequencies (Hz) otherwise."""
    reference: Literal["auto", "average", "none"] = "auto"
    """auto re-references to the average of the good channels where there are at least 16
    channels and none are differences of two electrodes; average or none decide it."""
    bad_channels: Literal["interpolate", "mask", "keep"] = "interpolate"
    """Channels that hold no brain all along (flat, disconnected, far too large, marked bad):
    interpolate makes them from the others where positions are known (else they are masked); mask
    sets them to zero; keep leaves them in. All are reported and leave the average reference."""
    ocular: Literal["off", "regression", "ica"] = "off"
    """Eye movements and blinks: regression takes out what EOG channels explain; ica takes out the
    components that follow the eyes (EOG, else frontal channels); off leaves them to be found."""
    sfreq_hz: PositiveFloat | None = None
    """Sampling rate the model works at (Hz); null takes the lowest rate among the recordings.
    Recordings below it are refused."""

    @field_validator("notch", mode="before")
    @classmethod
    def _off_is_not_false(cls, value: Any) -> Any:
        return "off" if value is False or value is None else value  # YAML 1.1 reads off as false

    @model_validator(mode="after")
    def _ordered(self) -> Preprocess:
        high, low = self.high_pass_hz, self.low_pass_hz
        if high is not None and low is not None and high >= low:
            raise ValueError(
                f"high_pass_hz ({high:g} Hz) must lie below low_pass_hz ({low:g} Hz): what is "
                "above the one and below the other is kept"
            )
        if low is not None and self.sfreq_hz is not None and low >= self.sfreq_hz / 2:
            raise ValueError(
                f"low_pass_hz ({low:g} Hz) must lie below half of sfreq_hz "
                f"({self.sfreq_hz / 2:g} Hz); lower it or raise sfreq_hz"
            )
        return self


# --------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Filter:
    """What the FIR kernel is made from; equal filters have equal kernels.

    Parameters
    ----------
    sfreq_hz : float
        Rate of the signal that is filtered.
    high_pass_hz, low_pass_hz : float, optional
        Edges of the pass band; transitions lie outside of it.
    low_transition_hz : float
        Width of the transition above ``low_pass_hz``.
    notch_hz : tuple of float
    """

    sfreq_hz: float
    high_pass_hz: float | None
    low_pass_hz: float | None
    low_transition_hz: float
    notch_hz: tuple[float, ...] = ()

    @property
    def band_pass(self) -> NDArray[np.float64]:
        """Kernel of the band-pass alone; it is what has to fit into a segment."""
        return _band_pass(self)

    @property
    def kernel(self) -> NDArray[np.float64]:
        """Band-pass and notch in one: symmetric, of odd length."""
        return _kernel(self)


@dataclass(frozen=True)
class BadChannel:
    """A channel left out of the reference, why in words, and what was measured."""

    name: str
    kind: Literal[
        "not_a_number",
        "flat",
        "amplitude",
        "clipped",
        "line_noise",
        "disconnected",
        "bridged",
        "marked",
    ]
    reason: str
    measured: float


@dataclass(frozen=True)
class Plan:
    """How one recording is cleaned; plain values throughout (``dataclasses.asdict`` for JSON).

    Parameters
    ----------
    recording : str
    ch_names : tuple of str
    sfreq_in_hz, sfreq_hz : float
        Rate of the recording, and of the cleaned signal.
    up, down : int
        The cleaned rate is exactly ``sfreq_in_hz * up / down``.
    filter : Filter
    segments : tuple of (start, stop)
        Samples of the recording that can be cleaned; no output exists elsewhere.
    reference : {'average', 'none'}
    bads : tuple of BadChannel
    offset_uv : tuple of float
        Constant of each channel, taken out before filtering (float32 has seven digits, and an
        amplifier without a high-pass stands at tens of millivolts).
    amplitude_uv : tuple of float
        Median over stretches of 2 s of the robust standard deviation inside, for each channel.
    line_noise_ratio : tuple of float
        Power at the line frequency against its neighbourhood; empty where it cannot be known.
    notes : tuple of str
    replaced : tuple of str
        Channels that hold no brain and are made from the others, or masked.
    replacing : tuple of tuple of float
        Their weights, (replaced, channels); zeros throughout where one is masked.
    ocular : tuple of tuple of float
        Map from channels and eye channels to channels without the eyes, (channels, channels + eye
        channels); empty without correction.
    """

    recording: str
    ch_names: tuple[str, ...]
    sfreq_in_hz: float
    sfreq_hz: float
    up: int
    down: int
    filter: Filter
    segments: tuple[tuple[int, int], ...]
    reference: Literal["average", "none"]
    bads: tuple[BadChannel, ...]
    offset_uv: tuple[float, ...]
    amplitude_uv: tuple[float, ...]
    line_noise_ratio: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    replacing: tuple[tuple[float, ...], ...] = ()
    ocular: tuple[tuple[float, ...], ...] = ()

    @property
    def rate_hz(self) -> float:
        """Exact rate of the cleaned signal (``sfreq_hz`` but for odd clocks)."""
        return self.sfreq_in_hz * self.up / self.down

    @property
    def bad_names(self) -> tuple[str, ...]:
        """Names of the bad channels."""
        return tuple(bad.name for bad in self.bads)

    def n_out(self, segment: int) -> int:
        """Samples of cleaned signal in a segment."""
        first, last = self.segments[segment]
        return (last - first) * self.up // self.down


@dataclass(frozen=True)
class CleanBlock:
    """A stretch of a segment before and after cleaning; blocks of a segment follow seamlessly.

    Parameters
    ----------
    raw : array of shape (channels, n_raw)
        As recorded, at the recording's own rate.
    cleaned : array of shape (channels + 1, n)
        Filtered, re-referenced, at ``plan.rate_hz``; bad channels replaced as the plan says. The
        last row is what the reference took away from every channel; zeros without one.
    segment : int
        Index into ``plan.segments``.
    raw_start, start : int
        First sample of ``raw`` and of ``clean``, counted from the segment's start at their own
        rate; both stand for the same instant.
    onset_s : float
        That instant, in seconds from the recording's start.
    """

    raw: Float
    cleaned: Float
    segment: int
    raw_start: int
    start: int
    onset_s: float

    @property
    def clean(self) -> Float:
        """The channels, (channels, n)."""
        return self.cleaned[:-1]

    @property
    def common(self) -> Float:
        """What the reference took away, (1, n)."""
        return self.cleaned[-1:]


# ------------------------------------------------------------------------------- survey


def lowest_high_pass_hz(segment_s: float, sfreq_hz: float = 100.0) -> float:
    """Lowest ``high_pass_hz`` whose kernel fits an uninterrupted stretch of ``segment_s``.

    The transition below the high-pass is as wide as the frequency itself up to 2 Hz, then 2 Hz,
    then a quarter of the frequency (MNE's rule), and the kernel lasts 3.3 / transition seconds,
    rounded up to an odd number of samples at ``sfreq_hz`` (or any higher rate).
    """
    room_s = segment_s - 2 / sfreq_hz
    if room_s <= 0:
        return math.inf
    transition = HAMMING_LENGTH / room_s
    frequency = transition if transition <= 2 else 4 * transition
    return math.ceil(frequency * 1000) / 1000


def survey(
    recording: Recording, config: Preprocess, line_freq_hz: float | None, sfreq_hz: float
) -> Plan:
    """Look through a recording once, in blocks, and decide how it is cleaned.

    Parameters
    ----------
    recording : Recording
    config : Preprocess
    line_freq_hz : float, optional
        Mains frequency, for ``notch: auto`` and the line-noise ratio, where the recording's own
        sidecar states none.
    sfreq_hz : float
        Rate of the cleaned signal.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        Sampling rate below ``sfreq_hz`` or too low for the pass band, no segment as long as the
        filter, not a number in all channels at once, no usable channel.
    """
    where = f"recording {recording.name!r}"
    line_freq_hz = recording.line_freq_hz or line_freq_hz
    if recording.sfreq_hz < sfreq_hz * (1 - 1e-3):
        raise InputError(
            f"{where} is sampled at {recording.sfreq_hz:g} Hz, {sfreq_hz:g} Hz or more are "
            f"expected; lower preprocess.sfreq_hz to {recording.sfreq_hz:g} (and train again) "
            "or drop the file"
        )
    ratio = Fraction(sfreq_hz / recording.sfreq_hz).limit_denominator(2000)
    design = _design(recording, config, line_freq_hz, sfreq_hz)
    segments, notes = _usable_segments(recording, design)
    look = _look(recording, segments, line_freq_hz)
    bads = _bad_channels(recording, look)
    good = [name for name in recording.ch_names if name not in {bad.name for bad in bads}]
    eyes: tuple[tuple[float, ...], ...] = ()
    if sum(bad.kind in DEAD for bad in bads) == len(recording.ch_names):
        found = "; ".join(sorted({bad.reason for bad in bads}))
        raise InputError(f"{where} has no usable channel ({found}); check the file or drop it")
    if config.ocular != "off":
        eyes, note = eye_map(recording, segments, tuple(good), config.ocular)
        notes = (*notes, note)
    bads, replaced, replacing = _replacements(recording, bads, config.bad_channels)
    offset_uv = look.offset_uv.copy()
    if replaced:  # what is made from the others stands where they make it stand
        at = [recording.ch_names.index(name) for name in replaced]
        offset_uv[at] = np.array(replacing) @ look.offset_uv
    return Plan(
        recording=recording.name,
        ch_names=recording.ch_names,
        sfreq_in_hz=recording.sfreq_hz,
        sfreq_hz=sfreq_hz,
        up=ratio.numerator,
        down=ratio.denominator,
        filter=design,
        segments=segments,
        reference=_reference(recording, config, len(good)),
        bads=bads,
        offset_uv=tuple(offset_uv.tolist()),
        amplitude_uv=tuple(look.amplitude_uv.tolist()),
        line_noise_ratio=tuple(look.line_noise_ratio.tolist()),
        notes=notes,
        replaced=replaced,
        replacing=replacing,
        ocular=eyes,
    )


def _replacements(
    recording: Recording, bads: tuple[BadChannel, ...], how: Literal["interpolate", "mask", "keep"]
) -> tuple[tuple[BadChannel, ...], tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """What becomes of bad channels: reasons that say so, those replaced, and their weights."""
    names = recording.ch_names
    gone = tuple(bad.name for bad in bads if bad.kind in REPLACED and how != "keep")
    good = np.array([name not in {bad.name for bad in bads} for name in names])
    weights = np.zeros((len(gone), len(names)), np.float32)
    word = "masked"
    if how == "interpolate" and gone and not recording.bipolar:
        lost = np.array([name in gone for name in names])
        usable = good | lost  # what is bad otherwise neither gives nor takes
        try:
            if lost.mean() > MOST_INTERPOLATED:
                raise ValueError
            made = spline_weights(recording.positions_m[usable], good[usable])
            weights[np.ix_(np.arange(len(gone)), np.flatnonzero(good))] = made
            word = "interpolated from the others"
        except ValueError:
            word = "masked, because it cannot be interpolated"
    told = tuple(
        replace(bad, reason=f"{bad.reason}; {word if bad.name in gone else 'not in the reference'}")
        for bad in bads
    )
    in_order = tuple(name for name in names if name in gone)
    return told, in_order, tuple(tuple(row) for row in weights.tolist())


def _reference(recording: Recording, config: Preprocess, n_good: int) -> Literal["average", "none"]:
    if config.reference == "average" and recording.bipolar:
        raise InputError(
            f"recording {recording.name!r} has differences of electrodes as channels "
            f"({', '.join(recording.ch_names[:3])}, ...), which have no average reference; "
            "set preprocess.reference to auto or none"
        )
    if config.reference == "average" and n_good < 2:
        raise InputError(
            f"recording {recording.name!r} has {n_good} channels good enough for an average "
            "reference, two are needed; set preprocess.reference to none or drop the file"
        )
    if config.reference == "auto":
        many = len(recording.ch_names) >= MIN_CHANNELS_FOR_AVERAGE and n_good >= 2
        return "average" if many and not recording.bipolar else "none"
    return config.reference


def _design(
    recording: Recording, config: Preprocess, line_freq_hz: float | None, sfreq_hz: float
) -> Filter:
    """The filter for this recording's rate; MNE's transition widths."""
    nyquist = recording.sfreq_hz / 2
    top = min(nyquist, sfreq_hz / 2)
    low_pass, transition = config.low_pass_hz, 0.0
    if low_pass is not None:
        if low_pass >= top:
            raise InputError(
                f"recording {recording.name!r}: low_pass_hz {low_pass:g} Hz needs more than "
                f"{2 * low_pass:g} samples a second, there are {2 * top:g}; lower "
                f"preprocess.low_pass_hz below {top:g}"
            )
        transition = min(max(0.25 * low_pass, 2.0), top - low_pass)
    passes = top if low_pass is None else low_pass + transition
    if config.notch == "off":
        notches: tuple[float, ...] = ()
    elif config.notch == "auto":
        line = line_freq_hz or math.inf
        harmonics = range(1, 1 + math.floor(min(passes / line, 100)))
        notches = tuple(line * k for k in harmonics if line * k < min(passes, nyquist - 2))
    else:
        notches = config.notch if isinstance(config.notch, tuple) else (config.notch,)
        for notch in notches:
            if notch > nyquist - 2:
                raise InputError(
                    f"recording {recording.name!r}: a notch at {notch:g} Hz does not fit below "
                    f"half its sampling rate ({nyquist:g} Hz); change preprocess.notch"
                )
    return Filter(recording.sfreq_hz, config.high_pass_hz, low_pass, transition, notches)


def _usable_segments(
    recording: Recording, design: Filter
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Segments as long as the band-pass kernel, and what is said about the others."""
    need = len(design.band_pass)
    usable = tuple((a, b) for a, b in recording.segments if b - a >= need)
    sfreq_hz = recording.sfreq_hz
    if not usable:
        longest = max(b - a for a, b in recording.segments) / sfreq_hz
        lowest = lowest_high_pass_hz(longest, sfreq_hz)
        fits = design.high_pass_hz is not None and lowest < (design.low_pass_hz or sfreq_hz / 2)
        advice = f"raise preprocess.high_pass_hz to at least {lowest:g} or " if fits else ""
        if recording.epoched:
            advice = (
                "set preprocess.high_pass_hz to null (epochs are high-passed before they are cut) "
                f"or {advice or 'use the continuous recording, or '}"
            )
        raise InputError(
            f"recording {recording.name!r}: a high-pass of {design.high_pass_hz or 0:g} Hz needs "
            f"{need / sfreq_hz:.1f} s without interruption, its longest stretch has "
            f"{longest:.1f} s; {advice}drop the file"
        )
    skipped = [(b - a) / sfreq_hz for a, b in recording.segments if b - a < need]
    if not skipped:
        return usable, ()
    note = (
        f"{len(skipped)} of {len(recording.segments)} uninterrupted stretches "
        f"({sum(skipped):.1f} s in all) are shorter than the filter "
        f"({need / sfreq_hz:.1f} s) and left out"
    )
    return usable, (note,)


class _Look(NamedTuple):
    """What the survey measured, one value a channel."""

    offset_uv: NDArray[np.float64]
    amplitude_uv: NDArray[np.float64]
    flat_share: NDArray[np.float64]
    not_a_number: NDArray[np.float64]  # share of samples
    line_noise_ratio: NDArray[np.float64]
    line_noise_share: NDArray[np.float64]  # of the power above 1 Hz
    clipped_share: NDArray[np.float64]  # of samples
    correlation: NDArray[np.float64]  # with the most similar other channel
    nearest_uv: NDArray[np.float64]  # deviation of the difference from the nearest other channel
    nearest: NDArray[np.intp]  # and which that is


def _look(
    recording: Recording, segments: tuple[tuple[int, int], ...], line_freq_hz: float | None
) -> _Look:
    """Every sample is checked for not-a-number; the rest is measured on stretches of 2 s.

    What the file stores as whole numbers is all there: then only minutes that are measured are
    read.
    """
    sfreq_hz = recording.sfreq_hz
    n_stretch = max(2, round(STRETCH_S * sfreq_hz))
    n_channels = len(recording.ch_names)
    seconds = sum(b - a for a, b in segments) / sfreq_hz
    every = max(1, round(seconds / 60 / 60))  # in more than an hour, not in each minute
    minute = max(1, round(60 * sfreq_hz))
    minutes = [(s, min(s + minute, b)) for a, b in segments for s in range(a, b, minute)]
    if recording.whole_numbers:
        minutes, every = minutes[::every], 1
    missing, total = np.zeros(n_channels, np.int64), 0
    medians, deviations, ranges, powers = [], [], [], []
    shares, plateaus, similar, distances = [], [], [], []
    frequencies = np.fft.rfftfreq(n_stretch, 1 / sfreq_hz)
    around = np.abs(frequencies - (line_freq_hz or 0)) <= 4
    for number, block in enumerate(replace(recording, segments=tuple(minutes)).blocks(60.0)):
        data = block.data
        total += data.shape[1]
        if not np.isfinite(data.sum(axis=1)).all():
            holes = ~np.isfinite(data)
            missing += holes.sum(axis=1)
            everywhere = np.flatnonzero(holes.all(axis=0))
            if len(everywhere):
                at_s = (block.start + int(everywhere[0])) / sfreq_hz
                raise InputError(
                    f"recording {recording.name!r} holds no numbers (NaN) in any channel at "
                    f"{at_s:.2f} s; annotate the place BAD_ACQ_SKIP, cut it out or drop the file"
                )
            data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
        if number % every:
            continue
        n_here = data.shape[1]
        count = min(4, max(1, n_here // n_stretch))
        for start in np.linspace(0, max(0, n_here - n_stretch), count).astype(int):
            stretch = data[:, start : start + n_stretch].astype(np.float64)
            plateaus.append(_plateaus(stretch))
            median = np.median(stretch, axis=1, keepdims=True)
            medians.append(median[:, 0])
            stretch -= median
            deviations.append(1.4826 * np.median(np.abs(stretch), axis=1))
            ranges.append(np.ptp(stretch, axis=1))
            largest, distance = _alike(stretch)
            similar.append(largest)
            distances.append(distance)
            if stretch.shape[1] == n_stretch:
                power = np.abs(np.fft.rfft(stretch * np.hanning(n_stretch))) ** 2
                powers.append(power[:, around])
                shares.append(_line_share(power, np.asarray(frequencies), line_freq_hz))
    offset_uv = np.median(medians, axis=0)
    amplitude_uv = np.median(deviations, axis=0)
    distance = np.median(distances, axis=0)
    np.fill_diagonal(distance, np.inf)
    return _Look(
        offset_uv=offset_uv,
        amplitude_uv=amplitude_uv,
        flat_share=np.mean(np.array(ranges) < FLAT_UV, axis=0),
        not_a_number=missing / total,
        line_noise_ratio=_line_noise_ratio(powers, frequencies[around], line_freq_hz),
        line_noise_share=np.median(shares, axis=0) if shares else np.zeros(n_channels),
        clipped_share=_clipped_share(np.array(plateaus), offset_uv, amplitude_uv),
        correlation=np.median(similar, axis=0),
        nearest_uv=distance.min(axis=1) if len(distance) > 1 else np.full(n_channels, np.inf),
        nearest=distance.argmin(axis=1),
    )


def _plateaus(stretch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lowest value, share of samples in runs of three or more there, highest, share: (4, n)."""
    rows = []
    for extreme in (stretch.min(axis=1), stretch.max(axis=1)):
        at = stretch == extreme[:, None]
        inside = at[:, :-2] & at[:, 1:-1] & at[:, 2:]
        rows += [extreme, inside.mean(axis=1)]
    return np.array(rows)


def _clipped_share(
    plateaus: NDArray[np.float64],
    offset_uv: NDArray[np.float64],
    amplitude_uv: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Share of samples held at a channel's extremes over the whole recording.

    A pause in the recording holds its value, too, but hardly ever at the very extreme, and once.
    """
    share = np.zeros(plateaus.shape[2])
    for values, held, pick in (
        (plateaus[:, 0], plateaus[:, 1], np.min),
        (plateaus[:, 2], plateaus[:, 3], np.max),
    ):
        extreme = pick(values, axis=0)
        away = np.abs(extreme - offset_uv) > np.maximum(amplitude_uv, FLAT_UV)
        at = (values == extreme) & (held > 0)
        again = at.sum(axis=0) >= 2  # an amplifier clips more than once
        share += np.where(away & again, np.where(at, held, 0).mean(axis=0), 0)
    return share


def _alike(
    stretch: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest correlation of each channel with another, and deviations of pairs' differences.

    (channels,), absolute, 0 for a flat one; and (channels, channels).
    """
    centred = stretch - stretch.mean(axis=1, keepdims=True)
    product = centred @ centred.T
    energy = np.diag(product)
    distance = np.sqrt(np.maximum(energy[:, None] + energy - 2 * product, 0) / stretch.shape[1])
    norm = np.sqrt(energy)
    scale = np.outer(norm, norm)
    correlation = np.abs(np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0))
    np.fill_diagonal(correlation, 0)
    return correlation.max(axis=1), distance


def _line_share(
    power: NDArray[Any], frequencies: NDArray[Any], line_freq_hz: float | None
) -> NDArray[np.float64]:
    """Share of the power above 1 Hz that lies within 0.75 Hz of the line frequency."""
    if line_freq_hz is None:
        return np.zeros(len(power))
    total = power[:, frequencies >= 1].sum(axis=1)
    at_line = power[:, np.abs(frequencies - line_freq_hz) <= 0.75].sum(axis=1)
    return np.asarray(np.divide(at_line, total, out=np.zeros(len(power)), where=total > 0))


def _line_noise_ratio(
    powers: list[NDArray[np.float64]],
    frequencies: NDArray[np.float64],
    line_freq_hz: float | None,
) -> NDArray[np.float64]:
    """Power within 0.75 Hz of the line frequency against that 2 to 4 Hz away."""
    if line_freq_hz is None or not powers or frequencies[-1] < line_freq_hz + 2:
        return np.empty(0)
    power = np.median(powers, axis=0)
    away = np.abs(frequencies - line_freq_hz)
    beside = power[:, away >= 2].mean(axis=1)
    at_line = power[:, away <= 0.75].mean(axis=1)
    ratio = np.zeros(len(beside))
    np.divide(at_line, beside, out=ratio, where=beside > 0)
    return ratio


def _bad_channels(recording: Recording, look: _Look) -> tuple[BadChannel, ...]:
    """Channels that cannot be trusted, each for the first reason that holds."""
    # where channels have nothing in common at all (bipolar, simulated), one alone proves nothing
    comparable = (
        len(recording.ch_names) >= MIN_CHANNELS_FOR_CORRELATION
        and float(np.median(look.correlation)) > 0.5
    )
    usual_distance_uv = float(np.median(look.nearest_uv))
    alive = look.amplitude_uv[look.flat_share <= 0.5]
    usual_uv = float(np.median(alive)) if len(alive) >= 3 else math.inf
    bads = []
    for i, name in enumerate(recording.ch_names):
        amplitude, flat = float(look.amplitude_uv[i]), float(look.flat_share[i])
        missing = float(look.not_a_number[i])
        if missing:
            bads.append(
                BadChannel(
                    name, "not_a_number", f"not a number in {missing:.2%} of samples", missing
                )
            )
        elif flat > 0.5:
            bads.append(BadChannel(name, "flat", f"flat in {flat:.0%} of the recording", flat))
        elif amplitude > 10 * usual_uv:
            reason = f"amplitude {amplitude:.0f} µV where the others have {usual_uv:.3g} µV"
            bads.append(BadChannel(name, "amplitude", reason, amplitude))
        elif look.clipped_share[i] > MOST_CLIPPED:
            share = float(look.clipped_share[i])
            bads.append(
                BadChannel(name, "clipped", f"clipped in {share:.1%} of the samples", share)
            )
        elif look.line_noise_share[i] > MOST_LINE_NOISE:
            share = float(look.line_noise_share[i])
            reason = f"{share:.0%} of its power is line noise"
            bads.append(BadChannel(name, "line_noise", reason, share))
        elif comparable and look.correlation[i] < LEAST_CORRELATION:
            most = float(look.correlation[i])
            reason = f"disconnected: correlates at most {most:.2f} with any other channel"
            bads.append(BadChannel(name, "disconnected", reason, most))
        elif look.nearest_uv[i] < min(BRIDGED_UV, BRIDGED_SHARE * usual_distance_uv):
            apart, other = float(look.nearest_uv[i]), recording.ch_names[int(look.nearest[i])]
            reason = f"bridged with {other}: they differ by {apart:.2g} µV"
            bads.append(BadChannel(name, "bridged", reason, apart))
        elif name in recording.bads:
            bads.append(BadChannel(name, "marked", "marked as bad in the file", amplitude))
    return tuple(bads)


# -------------------------------------------------------------------------------- apply


def apply(plan: Plan, recording: Recording, block_s: float = 60.0) -> Iterator[CleanBlock]:
    """Stream a recording through its plan.

    Parameters
    ----------
    plan : Plan
        From :func:`survey` of the same recording.
    recording : Recording
    block_s : float
        About how much signal is in memory at a time; no number depends on it.

    Yields
    ------
    CleanBlock
        In order; together they cover ``plan.segments``. ``raw`` is as recorded; ``clean`` is
        without the eyes, if that was asked for, and with bad channels replaced.
    """
    clean = _Cleaner(plan)
    n_core = clean.step * max(1, round(block_s * plan.sfreq_in_hz / clean.step))
    within = replace(recording, segments=plan.segments)
    hop_s, halo_s = n_core / plan.sfreq_in_hz, clean.halo / plan.sfreq_in_hz
    numbers = {first: number for number, (first, _) in enumerate(plan.segments)}
    segment = 0
    for block in within.blocks(hop_s, halo_s):
        segment = numbers.get(block.start, segment)
        raw_start = block.start - plan.segments[segment][0]
        start = raw_start * plan.up // plan.down  # exact: blocks start on multiples of down
        stop = min((raw_start + block.n_core) * plan.up // plan.down, plan.n_out(segment))
        block = _without_holes(clean, block)
        cleaned = clean(replace(block, data=_mapped(plan, recording, block)))
        yield CleanBlock(
            raw=block.data[:, block.left : block.left + block.n_core],
            cleaned=cleaned[:, : stop - start],
            segment=segment,
            raw_start=raw_start,
            start=start,
            onset_s=block.start / plan.sfreq_in_hz,
        )


def clean_stretch(
    plan: Plan, recording: Recording, segment: int, start: int, stop: int
) -> tuple[Float, Float]:
    """One stretch of a segment again, the same numbers as :func:`apply` gave.

    Parameters
    ----------
    plan : Plan
    recording : Recording
    segment : int
    start, stop : int
        Samples at the plan's rate, counted from the segment's start.

    Returns
    -------
    clean : array of shape (channels, stop - start)
    common : array of shape (1, stop - start)
        What the reference took away.
    """
    clean = _Cleaner(plan)
    first, last = plan.segments[segment]
    begin = start * plan.down // plan.up // clean.step * clean.step
    n_frames = -(-(math.ceil(stop * plan.down / plan.up) - begin) // clean.step)
    core = first + begin, min(first + begin + n_frames * clean.step, last)
    outer = max(first, core[0] - clean.halo), min(last, core[1] + clean.halo)
    data = recording.read(*outer)
    block = _without_holes(clean, Block(data, core[0], core[0] - outer[0], outer[1] - core[1]))
    cleaned = clean(replace(block, data=_mapped(plan, recording, block)))
    at = begin * plan.up // plan.down
    return cleaned[:-1, start - at : stop - at], cleaned[-1:, start - at : stop - at]


def _without_holes(clean: _Cleaner, block: Block) -> Block:
    if not clean.has_holes:
        return block
    return replace(block, data=np.nan_to_num(block.data, nan=0.0, posinf=0.0, neginf=0.0))


def _mapped(plan: Plan, recording: Recording, block: Block) -> Float:
    """A block without the eyes and with bad channels made from the others.

    These are maps over channels, the filter is one over time: their order does not matter.
    """
    data = block.data
    if plan.ocular:
        eyes = np.zeros((0, data.shape[1]), np.float32)
        if recording.eog_reader is not None:
            begin = block.start - block.left
            eyes = np.nan_to_num(recording.eog_reader(begin, begin + data.shape[1]))
        seen = np.concatenate([data, eyes]) if len(eyes) else data
        data = np.array(plan.ocular, np.float32)[:, : len(seen)] @ seen
    if plan.replaced:
        at = [plan.ch_names.index(name) for name in plan.replaced]
        made = np.array(plan.replacing, np.float32) @ data
        data = data.copy() if data is block.data else data
        data[at] = made
    return data


class _Cleaner:
    """Filter, reference and resampling of one plan, frame by frame.

    A frame of ``n_fft`` samples gives ``step`` of them filtered, with a margin on either side
    for the resampling kernel; frames start at multiples of ``step`` from a segment's start.
    """

    def __init__(self, plan: Plan) -> None:
        from scipy import fft

        kernel = plan.filter.kernel
        self.up, self.down = plan.up, plan.down
        self.half = len(kernel) // 2
        self.margin = _resampling_margin(plan.up, plan.down)
        self.halo = self.half + self.margin
        self.n_fft = fft.next_fast_len(
            max(8192, 8 * self.halo, 2 * self.halo + 4 * plan.down), real=True
        )
        self.step = (self.n_fft - 2 * self.halo) // plan.down * plan.down
        self.response = fft.rfft(kernel, self.n_fft).astype(np.complex64)
        self.taps = _resampling_taps(plan.up, plan.down)
        names, bad = plan.ch_names, set(plan.bad_names)
        good = np.array([name not in bad for name in names])
        self.weights = (good / good.sum()).astype(np.float32)
        self.average = plan.reference == "average"
        self.has_holes = any(channel.kind == "not_a_number" for channel in plan.bads)
        self.offset = np.array(plan.offset_uv, np.float32)[:, None]
        # the constant goes with a high-pass and comes back without one
        self.constant = self.offset * np.float32(kernel.sum())
        self.common_constant = np.float32(0)
        if self.average:
            self.common_constant = self.weights @ self.constant
            self.constant = self.constant - self.common_constant
        self.keeps_constant = plan.filter.high_pass_hz is None

    def __call__(self, block: Block) -> Float:
        """Cleaned core of a block, above what the reference took from it, (channels + 1, n).

        The last frame of a segment runs over its end.
        """
        from scipy import fft

        n_frames = -(-block.n_core // self.step)
        signal = self._continued(block, n_frames * self.step + 2 * self.halo)
        n_out = self.step * self.up // self.down
        out = np.empty((len(signal) + 1, n_frames * n_out), np.float32)
        out[-1] = 0
        skip = self.margin * self.up // self.down
        for frame in range(n_frames):
            begin = frame * self.step
            frame_signal = signal[:, begin : begin + self.step + 2 * self.halo]
            spectrum = fft.rfft(frame_signal, self.n_fft)
            spectrum *= self.response
            filtered = fft.irfft(spectrum, self.n_fft, overwrite_x=True)
            valid = filtered[:, 2 * self.half : 2 * self.half + self.step + 2 * self.margin]
            here = slice(frame * n_out, (frame + 1) * n_out)
            if self.average:
                common = (self.weights @ valid)[None]
                valid -= common
                out[-1:, here] = self._resampled(common, block, begin)[:, skip : skip + n_out]
            out[:-1, here] = self._resampled(valid, block, begin)[:, skip : skip + n_out]
        if self.keeps_constant:
            out[:-1] += self.constant
            out[-1] += self.common_constant
        return out

    def _resampled(self, valid: Float, block: Block, begin: int) -> Float:
        from scipy.signal import resample_poly

        if self.taps is None:
            return valid
        self._mirror(valid, block, begin)
        resampled: Float = resample_poly(valid, self.up, self.down, axis=1, window=self.taps)
        return resampled

    def _mirror(self, valid: Float, block: Block, begin: int) -> None:
        """Continue filtered signal at a segment's edges as MNE does when it resamples."""
        margin = self.margin
        if begin == 0 and block.left == 0:
            valid[:, :margin] = valid[:, 2 * margin : margin : -1]
        if block.right < self.halo:
            end = margin + block.n_core + block.right - begin
            beyond = min(margin, valid.shape[1] - end)
            if beyond > 0:
                valid[:, end : end + beyond] = valid[:, end - 2 : end - 2 - beyond : -1]

    def _continued(self, block: Block, length: int) -> Float:
        """The block with a full halo on both sides, then zeros up to ``length``.

        Beyond a segment's edge the signal goes on as its odd reflection, and as zero where even
        that ends (MNE's ``reflect_limited``).
        """
        n_channels, n = block.data.shape
        before, after = self.halo - block.left, self.halo - block.right
        out = np.zeros((n_channels, length), np.float32)
        data = out[:, before : before + n]
        np.subtract(block.data, self.offset, out=data)
        mirrored = min(before, n - 1)
        out[:, before - mirrored : before] = 2 * data[:, :1] - data[:, mirrored:0:-1]
        mirrored = min(after, n - 1)
        end = before + n
        reflection = 2 * data[:, -1:] - data[:, -2 : -mirrored - 2 : -1]
        out[:, end : end + mirrored] = reflection
        return out


# ------------------------------------------------------------------------------ kernels


@lru_cache(maxsize=32)
def _band_pass(design: Filter) -> NDArray[np.float64]:
    if design.high_pass_hz is None and design.low_pass_hz is None:
        return np.ones(1)
    from mne.filter import create_filter

    kernel: NDArray[np.float64] = create_filter(
        None,
        design.sfreq_hz,
        design.high_pass_hz,
        design.low_pass_hz,
        h_trans_bandwidth=design.low_transition_hz or "auto",
        verbose="ERROR",
    )
    return kernel


@lru_cache(maxsize=32)
def _kernel(design: Filter) -> NDArray[np.float64]:
    kernel = _band_pass(design)
    if not design.notch_hz:
        return kernel
    from mne.filter import create_filter

    notch = np.array(design.notch_hz)
    half_width = notch / 400 + 0.5  # mne.filter.notch_filter's defaults
    stop_band = create_filter(
        None,
        design.sfreq_hz,
        notch + half_width,
        notch - half_width,
        l_trans_bandwidth=0.5,
        h_trans_bandwidth=0.5,
        verbose="ERROR",
    )
    return np.convolve(kernel, stop_band)


def _resampling_margin(up: int, down: int) -> int:
    """Input samples that the resampling kernel reaches to either side, a multiple of ``down``."""
    if up == down:
        return 0
    return math.ceil((10 * max(up, down) / up + 1) / down) * down


@lru_cache(maxsize=32)
def _resampling_taps(up: int, down: int) -> Float | None:
    """SciPy's (and MNE's) default anti-aliasing kernel for ``resample_poly``."""
    if up == down:
        return None
    from scipy.signal import firwin

    most = max(up, down)
    taps: Float = firwin(20 * most + 1, 1 / most, window=("kaiser", 5.0)).astype(np.float32)
    return taps
