"""A cautious name for an event, with the evidence for it.

Rules a reader can check, on one window of EEG before re-referencing (microvolts) and on how far
each channel's features are from what is usual in the recording. The rules are tried in a fixed
order, from what leaves the plainest trace to what resembles much else; where none holds, the event
is ``unexplained``. A name says what an event looks like, never what caused it.

The names are those of the events file: blink, muscle, pop, flat, clipped, line_noise, slow_drift,
rhythmic_sharp, alpha, exchanged, unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Finding, RobustStats
from ae_pipeline.eeg.features import FEATURE_BANDS_HZ, by_channel, deviations_from, feature_names

__all__ = ["CATEGORY", "TAGS", "Tag", "tag"]

Float = NDArray[np.float64]

CATEGORY: dict[str, str] = {
    "flat": "technical",
    "clipped": "technical",
    "line_noise": "technical",
    "exchanged": "technical",
    "pop": "technical",
    "blink": "physiological",
    "muscle": "physiological",
    "alpha": "physiological",
    "slow_drift": "physiological",
    "rhythmic_sharp": "unusual",
    "unexplained": "unexplained",
}
"""What a recording with such events is called."""

TAGS = tuple(CATEGORY)

MANY = 6
"""Channels that decide what a window looks like, at most; all that look so are named."""

PIECE_S = 0.25
FAINT = 0.25
"""Share of its usual line length below which a piece of a channel counts as flat."""

FLAT_SHARE = 0.35
"""Share of a window's pieces that are faint, for it to count as flat."""

STANDING = 0.1
"""Share of samples, in half a second, that stand at a rail for three samples or more."""

CLIPPED_SHARE = 0.4
"""Share of samples near either rail after a filter, which rounds them (a sine has 0.29)."""

NARROW = 0.4
"""Share of the power above 20 Hz within 1 Hz of its peak, for a line; muscle has a fifth there."""

STEEP = 0.85
"""Share of a deflection's height that a pop covers within 30 ms; a blink covers half."""

SELDOM = 0.08
"""Share of a window in which a pop jumps; muscle jumps all the time."""

ALONE = 2.0
"""Times that one channel moves more than any other, where an electrode is the cause."""

PERIODIC = 0.45
"""Correlation of a rhythm with itself one period later."""

EXPLAINED = 0.4
"""Share of the deviation that is left once two exchanged channels are put back."""

LEAST_LEFT = 4.0
"""Robust deviations of what the others do not predict, without which nothing is exchanged."""

LEAST_RISE = 1.0
"""Rise of log power (2.7 times) without which no rhythm is named."""


@dataclass(frozen=True)
class Tag:
    """What an event looks like.

    Parameters
    ----------
    kind : str
        One of :data:`TAGS`.
    channels : tuple of int
        All on which it shows, strongest first.
    band : str
        Band that deviates most, by name; empty where windows are too short for any.
    evidence : Finding
        What was measured, and at which channels.
    """

    kind: str
    channels: tuple[int, ...]
    band: str
    evidence: Finding


@dataclass(frozen=True)
class _WindowView:
    """One window with everything the rules ask for."""

    signal: Float  # (channels, times), microvolts, centred
    raw: Float | None  # the same before any filter, at its own rate
    sfreq_hz: float
    ch_names: Sequence[str]
    frontal: NDArray[np.bool_]
    names: tuple[str, ...]  # of the features
    rise: Float  # (channels, features): log power over the usual
    own: Float  # (channels, features): the same in robust deviations
    order: tuple[int, ...]  # channels that decide, strongest first
    shown: tuple[int, ...]  # all that deviate as they do, strongest first
    left: Float  # (channels,): log power that the others do not predict, in deviations
    stats: RobustStats

    def of(self, table: Float, feature: str, *, channel: int) -> float:
        return float(table[channel, self.names.index(feature)]) if feature in self.names else 0.0


def tag(
    signal: NDArray[np.floating[Any]],
    raw: NDArray[np.floating[Any]] | None,
    *,
    stats: RobustStats,
    sfreq_hz: float,
    ch_names: Sequence[str],
    positions_m: NDArray[np.floating[Any]] | None = None,
) -> Tag:
    """Name what one window shows.

    Parameters
    ----------
    signal : array of shape (channels, times)
        The window before re-referencing, microvolts.
    raw : array of shape (channels, times at the recording's rate), optional
        The same before any filter: where rails are still rails.
    stats : RobustStats
        Of the recording, or of the training data where it is too short.
    sfreq_hz : float
        Of ``signal``.
    ch_names : sequence of str
    positions_m : array of shape (channels, 3), optional
        Which channels are frontal, where names do not say.
    """
    view = _window_view(
        signal, raw, stats=stats, sfreq_hz=sfreq_hz, ch_names=ch_names, positions_m=positions_m
    )
    for rule in _RULES:
        found = rule(view)
        if found is not None:
            kind, channels, numbers = found
            shown = tuple(channels)
            # a blink spreads over the head; what was measured is in front
            at = [c for c in shown if view.frontal[c] or kind != "blink"]
            evidence = Finding(kind, numbers, tuple(ch_names[c] for c in at))
            return Tag(kind, shown, _band(view, channels[0]), evidence)
    top = view.order[0]
    deviation = {"robust_sd": float(np.abs(view.own[top]).max())}
    evidence = Finding("unexplained", deviation, (ch_names[top],))
    return Tag("unexplained", view.shown, _band(view, top), evidence)


def _window_view(
    signal: NDArray[np.floating[Any]],
    raw: NDArray[np.floating[Any]] | None,
    *,
    stats: RobustStats,
    sfreq_hz: float,
    ch_names: Sequence[str],
    positions_m: NDArray[np.floating[Any]] | None,
) -> _WindowView:
    window = np.asarray(signal, np.float32)[None]
    names = feature_names(sfreq_hz, window.shape[2])
    away = deviations_from([stats], window, sfreq_hz=sfreq_hz)[0]
    each = by_channel(away, len(names))[0].max(1)
    strongest = np.argsort(-each, kind="stable")
    shown = tuple(int(i) for i in strongest if each[i] >= each[strongest[0]] / 3)
    own = away[0, :, : len(names)].astype(float)
    left = away[0, :, len(names) :].astype(float)
    return _WindowView(
        np.asarray(signal, float) - np.mean(signal, axis=1, keepdims=True),
        None if raw is None else np.asarray(raw, float),
        sfreq_hz,
        ch_names,
        _frontal(ch_names, positions_m),
        names,
        own * stats.spread[:, : len(names)],
        own,
        shown[:MANY],
        shown,
        np.abs(left).max(1) if left.size else np.abs(own).max(1),
        stats,
    )


def _frontal(
    ch_names: Sequence[str], positions_m: NDArray[np.floating[Any]] | None
) -> NDArray[np.bool_]:
    """Where blinks are largest: Fp and AF by name, else the foremost fifth of the head."""
    by_name = np.array([name.upper().startswith(("FP", "AF")) for name in ch_names])
    if by_name.any() or positions_m is None or not np.isfinite(positions_m).all():
        return by_name
    front = np.asarray(positions_m, float)[:, 1]
    return np.asarray(front > front.min() + 0.8 * (front.max() - front.min()))


def _band(view: _WindowView, channel: int) -> str:
    bands = [i for i, name in enumerate(view.names) if name in FEATURE_BANDS_HZ]
    if not bands:
        return ""
    return view.names[bands[int(np.abs(view.own[channel, bands]).argmax())]]


_Found = tuple[str, Sequence[int], Mapping[str, float]] | None


def _showing(view: _WindowView, shows: Callable[[int], bool], *, feature: str) -> list[int]:
    """All channels that show something, those that decide first; none where no such one does."""
    deciding = [channel for channel in view.order if shows(channel)]
    if not deciding:
        return []
    rest = [c for c in range(len(view.own)) if c not in view.order and shows(c)]
    return [
        channel
        for some in (deciding, rest)
        for channel in sorted(some, key=lambda c: -view.of(view.own, feature, channel=c))
    ]


def _flat(view: _WindowView) -> _Found:
    """No fast activity for a good part of the window: what slow there is, the filter makes."""
    usual = np.sqrt(np.exp(view.stats.center[:, len(view.names) - 1].astype(float)))
    step = max(2, round(PIECE_S * view.sfreq_hz))
    steps = np.abs(np.diff(view.signal, axis=1))
    pieces = np.array_split(steps, max(1, steps.shape[1] // step), axis=1)
    faint = [piece.mean(1) < FAINT * usual for piece in pieces]
    shares = np.mean(faint, axis=0)
    if shares[list(view.order[:3])].max() < FLAT_SHARE:
        return None
    flat = np.flatnonzero(shares >= FLAT_SHARE)
    flat = flat[np.argsort(-shares[flat], kind="stable")]
    return "flat", flat.tolist(), {"share": float(shares.max()), "of_usual": FAINT}


def _clipped(view: _WindowView) -> _Found:
    """Samples pile up at rails, on a channel that is not smaller than usual."""
    source = view.signal if view.raw is None else view.raw
    rate = view.sfreq_hz * source.shape[1] / view.signal.shape[1]
    n = max(8, round(0.5 * rate))
    least = STANDING if view.raw is not None else CLIPPED_SHARE

    def share(channel: int) -> float:
        if view.of(view.rise, "peak", channel=channel) < 0.3:
            return 0.0
        x = source[channel] - np.median(source[channel])
        pieces = (x[start : start + n] for start in range(0, len(x) - n + 1, n // 2))
        wide = [piece for piece in pieces if np.ptp(piece) >= 0.6 * np.ptp(x)]
        return max((_at_rails(piece, view.raw is not None) for piece in wide), default=0.0)

    if max(map(share, view.order[:2])) < least:
        return None
    shares = {channel: share(channel) for channel in range(len(source))}
    found = [channel for channel in shares if shares[channel] >= least]
    found.sort(key=lambda channel: -shares[channel])
    return "clipped", found, {"share": shares[found[0]]}


def _at_rails(piece: Float, before_filter: bool) -> float:
    """Share of samples at the extremes; before any filter only those that stand there count."""
    margin = (0.002 if before_filter else 0.05) * np.ptp(piece)
    share = 0.0
    for at in (piece >= piece.max() - margin, piece <= piece.min() + margin):
        standing = at[:-2] & at[1:-1] & at[2:]
        share += float((standing if before_filter else at).mean())
    return share


def _spectrum(view: _WindowView, channel: int) -> tuple[Float, Float]:
    x = view.signal[channel] * np.hanning(view.signal.shape[1])
    power: Float = np.abs(np.fft.rfft(x)) ** 2
    freqs_hz: Float = np.fft.rfftfreq(len(x), 1 / view.sfreq_hz).astype(np.float64)
    return freqs_hz, power


def _line_noise(view: _WindowView) -> _Found:
    return _fast(view, narrow=True)


def _muscle(view: _WindowView) -> _Found:
    return _fast(view, narrow=False)


def _fast(view: _WindowView, narrow: bool) -> _Found:
    """Power above 20 Hz: one line is mains, a broad rise is muscle."""

    def shows(channel: int) -> bool:
        rise = view.of(view.rise, "gamma", channel=channel)
        return (
            rise > max(LEAST_RISE, view.of(view.rise, "theta", channel=channel) + 0.5)
            and view.of(view.own, "gamma", channel=channel) > 3
        )

    found = _showing(view, shows, feature="gamma")
    if not found:
        return None
    freqs_hz, power = _spectrum(view, found[0])
    fast = freqs_hz >= 20
    peak_hz = float(freqs_hz[fast][power[fast].argmax()])
    line = fast & (np.abs(freqs_hz - peak_hz) <= 1)
    share = float(power[line].sum() / max(float(power[fast].sum()), 1e-9))
    if (share >= NARROW) != narrow:
        return None
    if narrow:
        return "line_noise", found, {"peak_hz": peak_hz, "share": share}
    return "muscle", found, {"times": _times(view, "gamma", channel=found[0])}


def _times(view: _WindowView, band: str, *, channel: int) -> float:
    """Power of a channel's band as times of the usual."""
    return float(np.exp(view.of(view.rise, band, channel=channel)))


def _alpha(view: _WindowView) -> _Found:
    def shows(channel: int) -> bool:
        others = [view.of(view.rise, b, channel=channel) for b in ("delta", "theta", "beta")]
        return view.of(view.rise, "alpha", channel=channel) > max(LEAST_RISE, max(others) + 0.3)

    found = _showing(view, shows, feature="alpha")
    if not found:
        return None
    freqs_hz, power = _spectrum(view, found[0])
    inside = (freqs_hz >= 7) & (freqs_hz <= 14)
    peak_hz = float(freqs_hz[inside][power[inside].argmax()])
    times = _times(view, "alpha", channel=found[0])
    return "alpha", found, {"times": times, "peak_hz": peak_hz}


def _exchanged(view: _WindowView) -> _Found:
    """Everything fits again once two channels are back in each other's place."""
    if len(view.ch_names) < 4 or view.left.max() < LEAST_LEFT:
        return None
    n_own = len(view.names)
    usual_power = np.exp(view.stats.center[:, n_own:].astype(float)).sum(1)
    covariance = view.signal @ view.signal.T / view.signal.shape[1]
    others = view.stats.residual_weights.astype(float)
    product = others @ covariance
    power = np.einsum("ij,ij->i", product, others)

    strongest = np.argsort(-view.left, kind="stable")[: 2 * MANY]
    one, other = (strongest[i] for i in np.triu_indices(len(strongest), 1))
    # how badly channels fit with two in each other's place, by power alone: exchanging two changes
    # two columns of ``others`` by as much, with other signs
    change = others[:, other] - others[:, one]
    apart = covariance[one, one] - 2 * covariance[one, other] + covariance[other, other]
    gain = 2 * change * (product[:, one] - product[:, other]) + change**2 * apart
    changed = np.maximum(power[:, None] + gain, 0) / usual_power[:, None]
    fit_best = np.argsort(np.log1p(changed).sum(0), kind="stable")[:4]
    pairs = [(int(one[i]), int(other[i])) for i in fit_best]
    tried = np.stack([view.signal, *(_exchange(view.signal, pair) for pair in pairs)])
    away = deviations_from([view.stats], tried.astype(np.float32), sfreq_hz=view.sfreq_hz)[0][
        :, :, n_own:
    ]
    total = np.square(np.minimum(np.abs(away), 20)).sum((1, 2))
    best = int(total[1:].argmin())
    pair, share = pairs[best], float(total[1 + best] / total[0])
    if share > EXPLAINED:
        return None
    return "exchanged", pair, {"share_gone": 1 - share}


def _exchange(signal: Float, pair: tuple[int, int]) -> Float:
    """A signal with two channels in each other's place."""
    exchanged = signal.copy()
    exchanged[list(pair)] = signal[list(pair[::-1])]
    return exchanged


def _deflection(view: _WindowView, channel: int) -> tuple[float, float, float]:
    """(height in usual deviations, steepness, width at half height in s) of the largest swing."""
    x = view.signal[channel] - np.median(view.signal[channel])
    at = int(np.abs(x).argmax())
    height = float(abs(x[at]))
    k = max(1, round(0.03 * view.sfreq_hz))
    near = slice(max(0, at - 4 * k), at + 4 * k)
    steep = float(np.abs(x[k:] - x[:-k])[near].max() / max(height, 1e-9))
    above = np.sign(x[at]) * x > height / 2
    first = last = at
    while first > 0 and above[first - 1]:
        first -= 1
    while last < len(x) - 1 and above[last + 1]:
        last += 1
    return height, steep, (last - first + 1) / view.sfreq_hz


def _rhythmic_sharp(view: _WindowView) -> _Found:
    """The same wave again, 2.5 to 4 times a second, at least four times."""

    def shows(channel: int) -> bool:
        return max(view.of(view.rise, name, channel=channel) for name in ("delta", "theta")) > 0.5

    found = _showing(view, shows, feature="delta")
    if not found:
        return None
    x = view.signal[found[0]]
    t = np.arange(len(x)) / view.sfreq_hz
    x = x - np.polyval(np.polyfit(t, x, 3), t)
    lags = np.arange(round(view.sfreq_hz / 4), round(view.sfreq_hz / 2.5) + 1)
    if 2 * lags[-1] >= len(x):
        return None
    again = _echoes(x, lags)
    best = int(again.argmax())
    second, between = _echoes(x, np.array([2 * lags[best], lags[best] // 2]))
    if again[best] < PERIODIC or second < PERIODIC / 2 or between > 0.3:
        return None
    rate_hz = view.sfreq_hz / int(lags[best])
    return "rhythmic_sharp", found, {"rate_hz": rate_hz, "correlation": float(again[best])}


def _echoes(x: NDArray[Any], lags: NDArray[np.intp]) -> NDArray[np.float64]:
    """How well ``x`` correlates with itself ``lags`` samples later, of what overlaps."""
    n = len(x) - lags
    sums, squares = (np.concatenate([[0.0], np.cumsum(each)]) for each in (x, np.square(x)))
    products = np.correlate(x, x, "full")[len(x) - 1 + lags]
    shared = products - (sums[-1] - sums[lags]) * sums[n] / n
    later = squares[-1] - squares[lags] - np.square(sums[-1] - sums[lags]) / n
    earlier = squares[n] - np.square(sums[n]) / n
    return np.asarray(shared / np.sqrt(np.maximum(later * earlier, 1e-24)), dtype=np.float64)


def _pop(view: _WindowView) -> _Found:
    """A step on one channel alone."""
    top = max(view.order[:2], key=lambda c: view.of(view.own, "peak", channel=c))
    height, steep, _ = _deflection(view, top)
    k = max(1, round(0.03 * view.sfreq_hz))
    jumps = np.abs(view.signal[top, k:] - view.signal[top, :-k])
    if (jumps > jumps.max() / 2).mean() > SELDOM:
        return None
    others = np.delete(view.own[:, view.names.index("peak")], top)
    if view.of(view.rise, "peak", channel=top) < 0.8 or steep < STEEP:
        return None
    if len(others) and view.of(view.own, "peak", channel=top) < ALONE * float(
        np.partition(others, -1)[-1]
    ):
        return None
    return "pop", (top,), {"height_uv": height, "share_within_30_ms": steep}


def _blink(view: _WindowView) -> _Found:
    """A short smooth deflection, largest in front, of one sign there."""
    front = [c for c in view.order if view.frontal[c]]
    if not front or not view.frontal[view.order[0]]:
        return None
    top = max(front, key=lambda c: view.of(view.own, "peak", channel=c))
    height, steep, width_s = _deflection(view, top)
    if (
        view.of(view.rise, "peak", channel=top) < 0.6
        or steep >= STEEP
        or not 0.06 <= width_s <= 0.5
    ):
        return None
    spread = tuple(dict.fromkeys((*front, *view.shown)))
    return "blink", spread, {"height_uv": height, "width_ms": 1000 * width_s}


def _slow_drift(view: _WindowView) -> _Found:
    def shows(channel: int) -> bool:
        least = max(LEAST_RISE, view.of(view.rise, "theta", channel=channel) + 0.7)
        return view.of(view.rise, "slow", channel=channel) > least

    found = _showing(view, shows, feature="slow")
    if not found:
        return None
    _, _, width_s = _deflection(view, found[0])
    if width_s < 0.25:
        return None
    return "slow_drift", found, {"times": _times(view, "slow", channel=found[0])}


_RULES = (
    _exchanged,
    _flat,
    _clipped,
    _line_noise,
    _pop,
    _muscle,
    _alpha,
    _rhythmic_sharp,
    _blink,
    _slow_drift,
)
