"""Read a recording once: what is usable, how it will be cleaned, what is usual in it."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Recording, RobustStats
from ae_pipeline.eeg.eyes import eye_map
from ae_pipeline.eeg.filters import Filter, lowest_high_pass_hz
from ae_pipeline.eeg.holes import HasHoles, is_hole, without_holes
from ae_pipeline.eeg.interpolation import MOST_INTERPOLATED, spline_weights
from ae_pipeline.eeg.preprocess import BadChannel, Plan
from ae_pipeline.eeg.sampling import WindowSampler, measured_every, surveyed_stretches
from ae_pipeline.eeg.windows import Windowing, grid_of
from ae_pipeline.stats import robust_sd

if TYPE_CHECKING:
    from ae_pipeline.eeg.preprocess import Preprocess

__all__ = [
    "survey",
    "survey_with_stats",
]

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


def survey(
    recording: Recording, config: Preprocess, *, line_freq_hz: float | None, sfreq_hz: float
) -> Plan:
    """Read a recording once, stretch by stretch, and decide how it is cleaned.

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
        filter, not a number in most channels from beginning to end, no usable channel.
    """
    line_freq_hz = recording.line_freq_hz or line_freq_hz

    def look(recording: Recording) -> Plan:
        draft = _draft(recording, config, line_freq_hz=line_freq_hz, sfreq_hz=sfreq_hz)
        measured = _measure(recording, draft, line_freq_hz=line_freq_hz)
        return _decided(recording, config, draft=draft, measured=measured)

    try:
        return look(recording)
    except HasHoles:
        whole, note = without_holes(recording)
        plan = look(whole)
        return replace(plan, notes=(*plan.notes, note))


def survey_with_stats(
    recording: Recording,
    config: Preprocess,
    *,
    line_freq_hz: float | None,
    sfreq_hz: float,
    windowing: Windowing,
) -> tuple[Plan, RobustStats | None]:
    """:func:`survey`, and the recording's robust statistics from the same reading.

    Parameters
    ----------
    recording, config, line_freq_hz, sfreq_hz
        As in :func:`survey`.
    windowing : Windowing
        How the recording will be cut.

    Returns
    -------
    Plan
    RobustStats or None
        None where the recording is too short for them.

    Raises
    ------
    InputError
        As :func:`survey` and :func:`ae_pipeline.eeg.windows.cut`.
    """
    line_freq_hz = recording.line_freq_hz or line_freq_hz

    def look(recording: Recording) -> tuple[Plan, RobustStats | None]:
        draft = _draft(recording, config, line_freq_hz=line_freq_hz, sfreq_hz=sfreq_hz)
        grid = grid_of(recording, draft, windowing=windowing)
        sampler = WindowSampler(recording, draft, grid=grid, eyes=config.ocular != "off")
        measured = _measure(recording, draft, line_freq_hz=line_freq_hz, sampler=sampler)
        plan = _decided(recording, config, draft=draft, measured=measured)
        return plan, sampler.robust_stats(plan)

    try:
        return look(recording)
    except HasHoles:
        whole, note = without_holes(recording)
        plan, stats = look(whole)
        return replace(plan, notes=(*plan.notes, note)), stats


def _draft(
    recording: Recording, config: Preprocess, *, line_freq_hz: float | None, sfreq_hz: float
) -> Plan:
    """What of a plan follows from the settings alone: rates, filter and segments."""
    if recording.sfreq_hz < sfreq_hz * (1 - 1e-3):
        raise InputError(
            f"recording {recording.name!r} is sampled at {recording.sfreq_hz:g} Hz, {sfreq_hz:g} "
            f"Hz or more are expected; lower preprocess.sfreq_hz to {recording.sfreq_hz:g} (and "
            "train again) or drop the file"
        )
    ratio = Fraction(sfreq_hz / recording.sfreq_hz).limit_denominator(2000)
    design = _design(recording, config, line_freq_hz=line_freq_hz, sfreq_hz=sfreq_hz)
    segments, notes = _usable_segments(recording, design)
    nothing = (0.0,) * len(recording.ch_names)
    return Plan(
        recording=recording.name,
        ch_names=recording.ch_names,
        sfreq_in_hz=recording.sfreq_hz,
        sfreq_hz=sfreq_hz,
        up=ratio.numerator,
        down=ratio.denominator,
        filter=design,
        segments=segments,
        reference="none",
        bads=(),
        offset_uv=nothing,
        amplitude_uv=nothing,
        notes=notes,
    )


def _decided(
    recording: Recording, config: Preprocess, *, draft: Plan, measured: _Measurements
) -> Plan:
    """The plan, once the recording was measured."""
    bads = _bad_channels(recording, measured)
    good = [name for name in recording.ch_names if name not in {bad.name for bad in bads}]
    eyes: tuple[tuple[float, ...], ...] = ()
    notes = draft.notes
    if sum(bad.kind in DEAD for bad in bads) == len(recording.ch_names):
        found = "; ".join(sorted({bad.reason for bad in bads}))
        raise InputError(
            f"recording {recording.name!r} has no usable channel ({found}); check the file or "
            "drop it"
        )
    if config.ocular != "off":
        eyes, note = eye_map(recording, draft.segments, good=tuple(good), how=config.ocular)
        notes = (*notes, note)
    bads, replaced, replacing = _replacements(recording, bads, how=config.bad_channels)
    offset_uv = measured.offset_uv.copy()
    if replaced:  # what is made from the others stands where they make it stand
        at = [recording.ch_names.index(name) for name in replaced]
        offset_uv[at] = np.array(replacing) @ measured.offset_uv
    return replace(
        draft,
        reference=_reference(recording, config, n_good=len(good)),
        bads=bads,
        offset_uv=tuple(offset_uv.tolist()),
        amplitude_uv=tuple(measured.amplitude_uv.tolist()),
        line_noise_ratio=tuple(measured.line_noise_ratio.tolist()),
        notes=notes,
        replaced=replaced,
        replacing=replacing,
        ocular=eyes,
    )


def _replacements(
    recording: Recording,
    bads: tuple[BadChannel, ...],
    *,
    how: Literal["interpolate", "mask", "keep"],
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


def _reference(
    recording: Recording, config: Preprocess, *, n_good: int
) -> Literal["average", "none"]:
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
    recording: Recording, config: Preprocess, *, line_freq_hz: float | None, sfreq_hz: float
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


class _Measurements(NamedTuple):
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


def _measure(
    recording: Recording,
    draft: Plan,
    *,
    line_freq_hz: float | None,
    sampler: WindowSampler | None = None,
) -> _Measurements:
    """Every sample is checked for not-a-number; the rest is measured on stretches of 2 s.

    What the file stores as whole numbers is all there: then only minutes that are measured are
    read.
    """
    sfreq_hz = recording.sfreq_hz
    n_stretch = max(2, round(STRETCH_S * sfreq_hz))
    n_channels = len(recording.ch_names)
    missing, total = np.zeros(n_channels, np.int64), 0
    medians, deviations, ranges, powers = [], [], [], []
    shares, plateaus, similar, distances = [], [], [], []
    frequencies = np.fft.rfftfreq(n_stretch, 1 / sfreq_hz)
    around = np.abs(frequencies - (line_freq_hz or 0)) <= 4
    every = measured_every(draft.segments, sfreq_hz)
    stretches = surveyed_stretches(draft.segments, sfreq_hz, design=draft.filter, down=draft.down)
    for number, each in enumerate(stretches):
        if recording.whole_numbers and number % every:
            continue
        data = recording.read(each.start, each.stop)
        total += data.shape[1]
        if not np.isfinite(data.sum(axis=1)).all():
            holes = ~np.isfinite(data)
            missing += holes.sum(axis=1)
            if is_hole(holes).any():
                raise HasHoles
            data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
        if number % every:
            continue
        if sampler is not None:
            sampler.offer(each, data)
        n_here = data.shape[1]
        count = min(4, max(1, n_here // n_stretch))
        for start in np.linspace(0, max(0, n_here - n_stretch), count).astype(int):
            stretch = data[:, start : start + n_stretch].astype(np.float64)
            plateaus.append(_plateaus(stretch))
            median = np.median(stretch, axis=1, keepdims=True)
            medians.append(median[:, 0])
            stretch -= median
            deviations.append(robust_sd(stretch, 1, center=0))
            ranges.append(np.ptp(stretch, axis=1))
            largest, distance = _correlations_and_distances(stretch)
            similar.append(largest)
            distances.append(distance)
            if stretch.shape[1] == n_stretch:
                power = np.abs(np.fft.rfft(stretch * np.hanning(n_stretch))) ** 2
                powers.append(power[:, around])
                shares.append(
                    _line_share(power, np.asarray(frequencies), line_freq_hz=line_freq_hz)
                )
    offset_uv = np.median(medians, axis=0)
    amplitude_uv = np.median(deviations, axis=0)
    distance = np.median(distances, axis=0)
    np.fill_diagonal(distance, np.inf)
    return _Measurements(
        offset_uv=offset_uv,
        amplitude_uv=amplitude_uv,
        flat_share=np.mean(np.array(ranges) < FLAT_UV, axis=0),
        not_a_number=missing / total,
        line_noise_ratio=_line_noise_ratio(powers, frequencies[around], line_freq_hz=line_freq_hz),
        line_noise_share=np.median(shares, axis=0) if shares else np.zeros(n_channels),
        clipped_share=_clipped_share(np.array(plateaus), offset_uv, amplitude_uv=amplitude_uv),
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
    *,
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


def _correlations_and_distances(
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
    power: NDArray[Any], frequencies: NDArray[Any], *, line_freq_hz: float | None
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
    *,
    line_freq_hz: float | None,
) -> NDArray[np.float64]:
    """Power within 0.75 Hz of the line frequency against that 2 to 4 Hz away."""
    if line_freq_hz is None or not powers or not (frequencies >= line_freq_hz + 2).any():
        return np.empty(0)
    power = np.median(powers, axis=0)
    away = np.abs(frequencies - line_freq_hz)
    beside = power[:, away >= 2].mean(axis=1)
    at_line = power[:, away <= 0.75].mean(axis=1)
    ratio = np.zeros(len(beside))
    np.divide(at_line, beside, out=ratio, where=beside > 0)
    return ratio


def _bad_channels(recording: Recording, measured: _Measurements) -> tuple[BadChannel, ...]:
    """Channels that cannot be trusted, each for the first reason that holds."""
    # where channels have nothing in common at all (bipolar, simulated), one alone proves nothing
    comparable = (
        len(recording.ch_names) >= MIN_CHANNELS_FOR_CORRELATION
        and float(np.median(measured.correlation)) > 0.5
    )
    usual_distance_uv = float(np.median(measured.nearest_uv))
    alive = measured.amplitude_uv[measured.flat_share <= 0.5]
    usual_uv = float(np.median(alive)) if len(alive) >= 3 else math.inf
    bads = []
    for i, name in enumerate(recording.ch_names):
        amplitude, flat = float(measured.amplitude_uv[i]), float(measured.flat_share[i])
        missing = float(measured.not_a_number[i])
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
        elif measured.clipped_share[i] > MOST_CLIPPED:
            share = float(measured.clipped_share[i])
            bads.append(
                BadChannel(name, "clipped", f"clipped in {share:.1%} of the samples", share)
            )
        elif measured.line_noise_share[i] > MOST_LINE_NOISE:
            share = float(measured.line_noise_share[i])
            reason = f"{share:.0%} of its power is line noise"
            bads.append(BadChannel(name, "line_noise", reason, share))
        elif comparable and measured.correlation[i] < LEAST_CORRELATION:
            most = float(measured.correlation[i])
            reason = f"disconnected: correlates at most {most:.2f} with any other channel"
            bads.append(BadChannel(name, "disconnected", reason, most))
        elif measured.nearest_uv[i] < min(BRIDGED_UV, BRIDGED_SHARE * usual_distance_uv):
            apart, other = (
                float(measured.nearest_uv[i]),
                recording.ch_names[int(measured.nearest[i])],
            )
            reason = f"bridged with {other}: they differ by {apart:.2g} µV"
            bads.append(BadChannel(name, "bridged", reason, apart))
        elif name in recording.bads:
            bads.append(BadChannel(name, "marked", "marked as bad in the file", amplitude))
    return tuple(bads)
