"""Labelled abnormal events added to real EEG, for holding results against a known truth.

Conventions: a signal is (channels, times); microvolts or any other unit, since an event's
height is given in units of each channel's own robust deviation (1.4826 * median absolute
deviation over the whole signal). Times are seconds from the signal's start.

A kind is a small function in one of two tables. What is *added* is a waveform that is brought
into the recording's own band first, so that no detector can tell it by the edge of its spectrum,
and then faded in and out within the event. What is *changed* (flat, clipped, exchanged) acts on
the signal itself. Either way no sample outside the event's stretch is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.stats import robust_sd

__all__ = ["KINDS", "Event", "Strength", "deviation", "plant", "scatter"]

Float = NDArray[np.float64]
Strength = Literal["strong", "subtle"]
Signal = TypeVar("Signal", bound=NDArray[np.floating[Any]])


@dataclass(frozen=True)
class Event:
    """One abnormal event.

    Parameters
    ----------
    onset_s, duration_s : float
        The stretch that the event may touch.
    kind : str
        One of :data:`KINDS`.
    channels : tuple of int
        Rows of the signal, strongest first: each next one gets 0.8 of the one before.
        ``exchanged`` takes exactly two.
    strength : {'strong', 'subtle'}
        Heights are in the tables of this module.
    freq_hz : float, optional
        Frequency of ``line_noise`` (50), ``alpha`` (10) and ``rhythmic_sharp`` (3).
    """

    onset_s: float
    duration_s: float
    kind: str
    channels: tuple[int, ...]
    strength: Strength = "strong"
    freq_hz: float | None = None

    @property
    def trial_type(self) -> str:
        """The label in a truth table, ``anomaly/KIND``."""
        return f"anomaly/{self.kind}"


# ------------------------------------------------------------------- what is added

Shape = Callable[[Float, float, "np.random.Generator"], Float]
"""(seconds from onset, frequency in hertz, random numbers) -> waveform of any height."""


def _blink(t: Float, _freq_hz: float, _rng: np.random.Generator) -> Float:
    """One deflection of some 0.3 s that rises faster than it falls."""
    from_peak = t - 0.4 * t[-1]
    width_s = np.where(from_peak < 0, 0.06, 0.09)
    return np.asarray(np.exp(-0.5 * (from_peak / width_s) ** 2))


def _muscle(t: Float, _freq_hz: float, rng: np.random.Generator) -> Float:
    """White noise; the kind's own band makes it a muscle's."""
    return rng.standard_normal(t.size)


def _pop(t: Float, _freq_hz: float, rng: np.random.Generator) -> Float:
    """A step that discharges exponentially, as an electrode does that lost and found contact."""
    since = t - 0.15 * t[-1]
    return float(rng.choice((-1, 1))) * np.where(since < 0, 0.0, np.exp(-5 * since / t[-1]))


def _line_noise(t: Float, freq_hz: float, rng: np.random.Generator) -> Float:
    return np.asarray(np.sin(2 * np.pi * freq_hz * t + rng.uniform(0, 2 * np.pi)))


def _slow_drift(t: Float, _freq_hz: float, rng: np.random.Generator) -> Float:
    """One slow swing to either side over the whole event."""
    return np.asarray(rng.choice((-1, 1)) * np.sin(2 * np.pi * t / t[-1]))


def _rhythmic_sharp(t: Float, freq_hz: float, rng: np.random.Generator) -> Float:
    """Negative sharp waves of 0.1 s, each followed by a slow positive one, nearly regular."""
    wave = np.zeros_like(t)
    period = 1 / freq_hz
    for start in np.arange(0, t[-1], period):
        height, late = rng.uniform(0.85, 1.15), rng.uniform(-0.01, 0.01)
        since = (t - start - late) / period
        sharp = np.exp(-0.5 * ((since - 0.3) / 0.075) ** 2)
        slow = np.exp(-0.5 * ((since - 0.65) / 0.16) ** 2)
        wave += height * (0.5 * slow - sharp)
    return wave


def _alpha(t: Float, freq_hz: float, rng: np.random.Generator) -> Float:
    """A spindle: a rhythm that waxes and wanes while its frequency wanders a little."""
    wander = 0.3 * np.sin(2 * np.pi * 0.4 * t + rng.uniform(0, 2 * np.pi))
    rhythm = np.sin(2 * np.pi * freq_hz * t + wander)
    return np.asarray(rhythm * np.sin(np.pi * t / t[-1]))


@dataclass(frozen=True)
class _Added:
    """How a waveform is made, and how high its peak is in robust deviations."""

    shape: Shape
    strong: float
    subtle: float
    freq_hz: float = 0.0
    """Where it lies if the event names no frequency; 0: it has none of its own."""
    lowest_hz: float = 0.0
    """Narrows the recording's band from below."""
    independent: bool = False
    """Drawn anew for each channel, instead of one source seen by all."""


_ADDED: dict[str, _Added] = {
    "blink": _Added(_blink, 8.0, 3.0),
    "muscle": _Added(_muscle, 4.0, 0.7, lowest_hz=20.0, independent=True),
    "pop": _Added(_pop, 12.0, 3.0),
    "line_noise": _Added(_line_noise, 3.0, 0.5, freq_hz=50.0),
    "slow_drift": _Added(_slow_drift, 8.0, 3.0),
    "rhythmic_sharp": _Added(_rhythmic_sharp, 6.0, 1.5, freq_hz=3.0),
    "alpha": _Added(_alpha, 4.0, 1.5, freq_hz=10.0),
}

_FADE = 0.1
"""Share of the event's duration over which a waveform comes, and goes."""


def _waveform(
    event: Event, n: int, *, sfreq_hz: float, rng: np.random.Generator, band_hz: tuple[float, float]
) -> Float:
    """Waveform of peak 1 inside the band, zero at both ends."""
    from scipy.signal.windows import tukey

    added, (low_hz, high_hz) = _ADDED[event.kind], band_hz
    freq_hz = event.freq_hz or added.freq_hz
    if freq_hz and not low_hz <= freq_hz <= min(high_hz, sfreq_hz / 2):
        raise ValueError(
            f"{event.kind} at {freq_hz:g} Hz lies outside the recording's band of {low_hz:g} to "
            f"{high_hz:g} Hz; give the event a freq_hz inside"
        )
    # a recording that ends below a muscle's band still carries the muscle's lower part
    low_hz = max(low_hz, min(added.lowest_hz, high_hz / 2))
    fade = tukey(n, 2 * _FADE)
    wave = added.shape(np.arange(n) / sfreq_hz, freq_hz, rng) * fade
    wave = _band_limited(wave, sfreq_hz, low_hz=low_hz, high_hz=high_hz) * fade
    return np.asarray(wave / np.abs(wave).max())


def _band_limited(wave: Float, sfreq_hz: float, *, low_hz: float, high_hz: float) -> Float:
    """Zero-phase, with room on either side for the filter's tails."""
    from scipy.signal import butter, sosfiltfilt

    edges: tuple[float, ...] = tuple(f for f in (low_hz, high_hz) if 0 < f < sfreq_hz / 2)
    if not edges:
        return wave
    kind = "bandpass" if len(edges) == 2 else "highpass" if edges[0] == low_hz else "lowpass"
    room = round(sfreq_hz * max(1.0, 3 / edges[0]))
    sos = butter(2, edges if len(edges) == 2 else edges[0], kind, fs=sfreq_hz, output="sos")
    padded = sosfiltfilt(sos, np.pad(wave, room), padtype=None)
    return np.asarray(padded[room : room + wave.size])


# ----------------------------------------------------------------- what is changed

Change = Callable[[Float, Float, Strength], Float]
"""(stretch of the event's channels, their robust deviations as a column, strength) -> new."""


def _flat(stretch: Float, _deviation: Float, strength: Strength) -> Float:
    """The first value held; where subtle, a tenth of the signal is left."""
    held = stretch[:, :1]
    return held + (0.0 if strength == "strong" else 0.1) * (stretch - held)


def _clipped(stretch: Float, deviations: Float, strength: Strength) -> Float:
    """A gain too high for the amplifier, which stops at its rail."""
    gain, rail = (12.0, 6.0) if strength == "strong" else (4.0, 3.0)
    centre = np.median(stretch, axis=1, keepdims=True)
    swing = gain * (stretch - centre)
    return np.asarray(centre + np.clip(swing, -rail * deviations, rail * deviations))


def _exchanged(stretch: Float, _deviation: Float, _strength: Strength) -> Float:
    """Two channels in each other's place."""
    return stretch[::-1].copy()


_CHANGED: dict[str, Change] = {"flat": _flat, "clipped": _clipped, "exchanged": _exchanged}

KINDS: tuple[str, ...] = (*_ADDED, *_CHANGED)
"""Every kind of event that can be planted."""


# ------------------------------------------------------------------------ planting


def deviation(signal_uv: NDArray[np.floating[Any]]) -> Float:
    """Robust standard deviation of each channel, 1.4826 * MAD, shape (channels,)."""
    return np.asarray(robust_sd(np.asarray(signal_uv, dtype=float), 1))


def plant(
    signal_uv: Signal,
    sfreq_hz: float,
    *,
    event: Event,
    rng: np.random.Generator,
    band_hz: tuple[float, float],
) -> Signal:
    """Copy of a signal with one abnormal event in it.

    Parameters
    ----------
    signal_uv : array of shape (channels, times)
        Left as it is.
    sfreq_hz : float
    event : Event
    rng : Generator
        Where phases, signs and noise come from: the same state, the same event.
    band_hz : (low, high)
        What the recording's own filters let through; a low of 0 is direct current.

    Returns
    -------
    array of shape (channels, times)
        Equal to ``signal_uv`` outside the event's stretch and on other channels; same type.

    Raises
    ------
    ValueError
        The event lies outside the signal or its band, names a channel or kind that does not
        exist, or a channel has no variation to measure its height by.
    """
    first = round(event.onset_s * sfreq_hz)
    n = round(event.duration_s * sfreq_hz)
    rows = list(event.channels)
    _check(event, signal_uv.shape, first=first, n=n, sfreq_hz=sfreq_hz)
    heights = deviation(signal_uv[rows])[:, None]
    if not np.all(heights > 0):
        raise ValueError(f"{event.kind}: a channel without variation has no deviation to scale by")
    stretch = np.asarray(signal_uv[rows, first : first + n], dtype=float)
    if event.kind in _CHANGED:
        new = _CHANGED[event.kind](stretch, heights, event.strength)
    else:
        added = _ADDED[event.kind]
        waves = [
            _waveform(event, n, sfreq_hz=sfreq_hz, rng=rng, band_hz=band_hz)
            for _ in (rows if added.independent else rows[:1])
        ]
        height = added.strong if event.strength == "strong" else added.subtle
        falling = 0.8 ** np.arange(len(rows))[:, None]
        new = stretch + height * falling * heights * np.stack(waves)
    result = signal_uv.copy()
    result[rows, first : first + n] = new
    return result


def _check(event: Event, shape: tuple[int, ...], *, first: int, n: int, sfreq_hz: float) -> None:
    n_channels, n_times = shape
    if event.kind not in KINDS:
        raise ValueError(f"unknown kind of event {event.kind!r}; one of {', '.join(KINDS)}")
    if n < 8 or first < 0 or first + n > n_times:
        raise ValueError(
            f"{event.kind} at {event.onset_s:g} s for {event.duration_s:g} s does not fit a "
            f"signal of {n_times / sfreq_hz:g} s (and needs 8 samples at least)"
        )
    rows = event.channels
    if not rows or len(set(rows)) < len(rows) or not all(0 <= row < n_channels for row in rows):
        raise ValueError(f"{event.kind}: channels {rows} are not distinct ones of {n_channels}")
    if event.kind == "exchanged" and len(rows) != 2:
        raise ValueError(f"exchanged takes two channels, not {len(rows)}")


# ---------------------------------------------------------------------- scattering

LASTS_S: dict[str, tuple[float, float]] = {
    "blink": (0.4, 0.6),
    "muscle": (1.0, 2.5),
    "pop": (0.8, 1.5),
    "line_noise": (1.5, 3.0),
    "slow_drift": (1.5, 3.0),
    "rhythmic_sharp": (2.0, 4.0),
    "alpha": (1.0, 2.0),
    "flat": (1.0, 3.0),
    "clipped": (1.0, 2.5),
    "exchanged": (2.0, 4.0),
}
"""How long an event of each kind lasts, from and to, in seconds."""


def scatter(
    ch_names: Sequence[str],
    duration_s: float,
    *,
    rng: np.random.Generator,
    kinds: Sequence[str] = KINDS,
    strengths: Sequence[Strength] = ("strong", "subtle"),
    line_freq_hz: float = 35.0,
    apart_s: float = 2.5,
) -> list[Event]:
    """One event of each kind at random places of a recording, on channels where it occurs.

    Parameters
    ----------
    ch_names : sequence of str
        Names of the 10-20 system where there are any: blinks and the burst of alpha are frontal,
        muscle is temporal; other kinds, and other names, take random channels.
    duration_s : float
    rng : Generator
    kinds : sequence of str
    strengths : sequence of {'strong', 'subtle'}
        Given to the kinds in turn, in random order.
    line_freq_hz : float
        Of ``line_noise``; inside the recording's band, or it could not be seen.
    apart_s : float
        Least distance between events (s); as long as a window, and one between two holds neither.

    Returns
    -------
    list of Event
        In order of time.

    Raises
    ------
    ValueError
        They do not fit into the recording.
    """
    order = rng.permutation(len(kinds))
    lasts = np.array([rng.uniform(*LASTS_S[kinds[i]]) for i in order])
    room_s = duration_s - lasts.sum() - apart_s * (len(kinds) + 1)
    if room_s < 0:
        raise ValueError(f"{len(kinds)} events do not fit into {duration_s:g} s")
    free = np.diff(np.sort(rng.uniform(0, room_s, len(kinds))), prepend=0)
    onsets = np.cumsum(free + apart_s) + np.concatenate([[0], np.cumsum(lasts)[:-1]])
    turn = rng.permutation(len(kinds))
    return [
        Event(
            float(onset),
            float(length),
            kinds[i],
            _channels_of(kinds[i], ch_names, rng=rng),
            strengths[int(turn[i]) % len(strengths)],
            line_freq_hz if kinds[i] == "line_noise" else None,
        )
        for i, onset, length in zip(order, onsets, lasts, strict=True)
    ]


def _channels_of(
    kind: str, ch_names: Sequence[str], *, rng: np.random.Generator
) -> tuple[int, ...]:
    places = {
        "blink": ("Fp", "AF", "F"),
        "alpha": ("F", "AF", "Fp"),
        "muscle": ("T", "FT", "F7", "F8"),
    }
    everywhere = [int(row) for row in rng.permutation(len(ch_names))]
    wanted = [
        row for start in places.get(kind, ()) for row in everywhere if _is_at(ch_names[row], start)
    ]
    most = {"pop": 1, "flat": 1, "clipped": 1, "exchanged": 2, "muscle": 3, "blink": 4, "alpha": 5}
    n = most.get(kind, 1 + int(rng.integers(max(2, len(ch_names) // 3))))
    return tuple(list(dict.fromkeys(wanted + everywhere))[: min(n, len(ch_names))])


def _is_at(name: str, start: str) -> bool:
    """``Fp`` takes Fp1 and Fpz, ``F`` takes F3 but not FC3, ``F7`` takes only itself."""
    rest = name.upper().removeprefix(start.upper())
    return rest != name.upper() and (not rest or rest.isdigit() or rest == "Z")
