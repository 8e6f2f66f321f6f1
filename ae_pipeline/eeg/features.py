"""Features of each channel in a window, and their usual range in a recording.

Two groups of features, each a logarithm, for every channel of a window of EEG before
re-referencing (an average reference spreads one channel's fault over all of them):

* the channel's own: power in bands, peak, line length;
* the same of what is left of it once it is predicted from the other channels. Neighbours see
  much of the same brain; what only one electrode sees is noise, an artefact, or exchanged wires.

A :class:`~ae_pipeline.data.RobustStats` holds how channels predict each other and the median and
spread of every feature, in one recording or in the training population. Half of the windows, those
that fit best, decide about the prediction (the idea of the minimum covariance determinant,
Rousseeuw 1984), so that events in a recording do not make themselves usual.

Conventions: signals are (windows, channels, times) in microvolts; deviations are signed robust
standard deviations (1.4826 * median absolute deviation).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import RobustStats
from ae_pipeline.stats import median_and_robust_sd

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AT_ONCE",
    "BANDS_HZ",
    "FEATURE_BANDS_HZ",
    "MIN_WINDOWS",
    "REGIONS",
    "band_powers",
    "by_channel",
    "by_region",
    "channel_features",
    "deviations_from",
    "feature_names",
    "fit_robust_stats",
    "largest",
    "line_length",
    "state_of",
]

Float = NDArray[np.float32]

FEATURE_BANDS_HZ: dict[str, tuple[float, float]] = {
    "slow": (0.4, 1.6),
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
"""Bands of the features, Hz; ``slow`` overlaps delta, because a window resolves little there."""

MIN_WINDOWS = 20
"""With fewer windows a recording has no robust statistics."""

KEPT = 0.5
"""Share of windows that the prediction of channels from each other is fitted on."""

N_STEPS = 6
"""Concentration steps; the kept half hardly changes after four."""

RIDGE = 1e-3
"""Of the mean variance of a channel, added to each: channels of a recording that was cleaned by
independent components, or re-referenced, are linearly dependent."""

LEAST_SPREAD = 0.05
"""A twentieth of a power more or less is no deviation, however alike the windows are."""

FLOOR_UV = 1e-3
"""Below any amplifier's noise; keeps a flat channel finite."""

LIMIT_UV = 1e7
"""Ten volts: what is more than any amplifier gives can still be squared and summed."""

REGIONS: dict[str, tuple[str, ...]] = {
    "frontal": ("FP", "AF", "F"),
    "central": ("FC", "C", "CP"),
    "temporal": ("FT", "T", "TP"),
    "posterior": ("P", "PO", "O", "I"),
}
"""Names of the 10-20 and 10-10 systems without their numbers."""

OTHER_STATE = 2.0
"""Robust deviations of the training data, averaged over a region and typical of a recording, from
which on it was made in another state: of people at rest few differ by as much."""

AT_ONCE = 16
"""Windows whose features are computed together: more leave the processor's cache."""

N_LARGEST = 3
"""Deviations that are averaged: an artefact seldom moves only one feature of one channel."""


@lru_cache(maxsize=32)
def feature_names(sfreq_hz: float, n_times: int) -> tuple[str, ...]:
    """Names of a channel's features in a window of ``n_times``; bands that fit, then two more."""
    freqs_hz = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    bands = tuple(
        name
        for name, (low, high) in FEATURE_BANDS_HZ.items()
        if ((freqs_hz >= low) & (freqs_hz < high)).any() and high <= sfreq_hz / 2
    )
    return (*bands, "peak", "line_length")


def channel_features(
    signal: Float, sfreq_hz: float, *, residual_weights: Sequence[Float] = ()
) -> Float:
    """Compute logarithms of band powers, peak and line length.

    Parameters
    ----------
    signal : array of shape (n, channels, times)
        Microvolts.
    sfreq_hz : float
    residual_weights : sequence of arrays of shape (channels, channels)
        Of :class:`RobustStats`, one after the other; ignored where there is one channel only.

    Returns
    -------
    array of shape (1 + len(residual_weights), n, channels, features)
        Of the channels themselves, then of what each of ``residual_weights`` leaves of them;
        features in the order of :func:`feature_names`.
    """
    import torch

    n, n_channels, n_times = signal.shape
    many = bool(residual_weights) and n_channels > 1
    n_sets = 1 + len(residual_weights) * many
    found = np.empty((n_sets, n, n_channels, len(feature_names(sfreq_hz, n_times))), np.float32)
    weights = torch.from_numpy(np.concatenate(residual_weights)) if many else None
    with torch.inference_mode():
        for start in range(0, n, AT_ONCE):
            few = torch.from_numpy(signal[start : start + AT_ONCE]).clamp(-LIMIT_UV, LIMIT_UV)
            signals = [few]
            if weights is not None:
                # one product a window: rounding must not depend on how many stand in the batch
                residual = torch.bmm(weights.expand(len(few), *weights.shape), few)
                signals.append(residual.clamp_(-LIMIT_UV, LIMIT_UV))
            logs = torch.cat([_log_features(each, sfreq_hz) for each in signals], 1)
            by_set = logs.unflatten(1, (-1, n_channels)).movedim(1, 0)
            found[:, start : start + AT_ONCE] = by_set.numpy()
    return found


def _log_features(signal: Tensor, sfreq_hz: float) -> Tensor:
    """Features of windows that fit into the processor's cache together; they are changed."""
    import torch

    signal.sub_(signal.mean(2, keepdim=True))
    names = feature_names(sfreq_hz, signal.shape[2])
    bands = [FEATURE_BANDS_HZ[name] for name in names[:-2]]
    powers = band_powers(signal, sfreq_hz, bands=bands)
    others = torch.stack([torch.maximum(signal.amax(2), -signal.amin(2)), line_length(signal)], 2)
    return torch.cat([powers, others.square_()], 2).add_(FLOOR_UV**2).log_()


def band_powers(signal: Tensor, sfreq_hz: float, *, bands: Sequence[tuple[float, float]]) -> Tensor:
    """Mean power of windows (n, channels, times) under a Hann taper, (n, channels, bands in Hz)."""
    import torch

    n, n_channels, n_times = signal.shape
    if not bands:
        return signal.new_empty(n, n_channels, 0)
    taper, bins, weights = _taper_and_weights(n_times, sfreq_hz, bands=tuple(bands))
    spectrum = torch.fft.rfft(signal * taper)[:, :, bins]
    return torch.view_as_real(spectrum).square().flatten(2) @ weights


@lru_cache(maxsize=32)
def _taper_and_weights(
    n_times: int, sfreq_hz: float, *, bands: tuple[tuple[float, float], ...]
) -> tuple[Tensor, slice, Tensor]:
    """Taper, frequencies that any band has, and the weight of their squared parts in each band."""
    import torch

    freqs_hz = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    edges = [np.searchsorted(freqs_hz, band).tolist() for band in bands]
    first, last = min(low for low, _ in edges), max(high for _, high in edges)
    weights = np.zeros((last - first, 2, len(bands)), np.float32)
    for band, (low, high) in enumerate(edges):
        weights[low - first : high - first, :, band] = 1 / ((high - low) * n_times)
    taper = torch.from_numpy(np.hanning(n_times).astype(np.float32))
    return taper, slice(first, last), torch.from_numpy(weights.reshape(-1, len(bands)))


def line_length(signal: Tensor) -> Tensor:
    """Mean absolute step from sample to sample, (n, channels)."""
    return (signal[:, :, 1:] - signal[:, :, :-1]).abs_().mean(2)


def fit_robust_stats(signal: Float, sfreq_hz: float) -> RobustStats | None:
    """Learn from windows of one recording, or of many.

    Parameters
    ----------
    signal : array of shape (n, channels, times)
        Before re-referencing.
    sfreq_hz : float

    Returns
    -------
    RobustStats or None
        None for fewer than :data:`MIN_WINDOWS` windows.
    """
    if len(signal) < MIN_WINDOWS:
        return None
    weights = _residual_weights(signal)
    x = np.concatenate(channel_features(signal, sfreq_hz, residual_weights=[weights]), axis=2)
    center, spread = median_and_robust_sd(x)
    return RobustStats(weights, center, np.maximum(spread, np.float32(LEAST_SPREAD)))


def deviations_from(stats: Sequence[RobustStats], signal: Float, *, sfreq_hz: float) -> list[Float]:
    """Compute how far features are from the median in each of ``stats``.

    Parameters
    ----------
    stats : sequence of RobustStats
    signal : array of shape (n, channels, times)
        Before re-referencing.
    sfreq_hz : float

    Returns
    -------
    list of arrays of shape (n, channels, features)
        Signed robust standard deviations, one array for each of ``stats``.
    """
    weights = [each.residual_weights for each in stats]
    own, *residual = channel_features(signal, sfreq_hz, residual_weights=weights)
    found = []
    for i, each in enumerate(stats):
        x = np.concatenate((own, *residual[i : i + 1]), axis=2)
        x -= each.center
        x /= each.spread
        found.append(x)
    return found


def _residual_weights(signal: Float) -> Float:
    """Prediction of each channel from the others, by the half of the windows that fit best."""
    n_channels, n_times = signal.shape[1:]
    if n_channels == 1:
        return np.ones((1, 1), np.float32)
    covariances = np.empty((len(signal), n_channels, n_channels), np.float32)
    for rows in (slice(at, at + AT_ONCE) for at in range(0, len(signal), AT_ONCE)):
        centred = np.clip(signal[rows], -LIMIT_UV, LIMIT_UV)
        centred -= centred.mean(2, keepdims=True)
        np.matmul(centred, centred.transpose(0, 2, 1), out=covariances[rows])
    covariances /= np.float32(n_times)
    kept = np.arange(len(signal))
    for _ in range(N_STEPS - 1):
        weights = _regression_residuals(covariances[kept].mean(0, dtype=np.float64))
        weights = weights.astype(np.float32)
        variances = np.einsum("nij,ij->ni", np.matmul(weights, covariances), weights)
        logs = np.log(np.maximum(variances, FLOOR_UV**2))
        away = np.abs(logs - np.median(logs, 0))
        worst = (away / np.maximum(np.median(away, 0), LEAST_SPREAD)).max(1)
        kept = np.argsort(worst, kind="stable")[: max(2, round(KEPT * len(worst)))]
    return _regression_residuals(covariances[kept].mean(0, dtype=np.float64)).astype(np.float32)


def _regression_residuals(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of the precision matrix over its diagonal: regression of each channel on the others."""
    n = len(covariance)
    ridge = RIDGE * max(float(np.trace(covariance)) / n, FLOOR_UV**2)
    precision = np.linalg.inv(covariance + ridge * np.eye(n))
    return np.asarray(precision / np.diag(precision)[:, None])


def by_channel(deviations: Float, n_own: int) -> Float:
    """How much each channel's features deviate, (n, channels, features).

    The geometric mean of a feature's own deviation and that of what the others do not predict:
    an event on one channel moves the prediction of its neighbours as well, but not their power.

    Parameters
    ----------
    deviations : array of shape (n, channels, features)
        From :func:`deviations_from`.
    n_own : int
        How many of them are a channel's own.
    """
    away = np.abs(deviations)
    if away.shape[2] == n_own:
        return away
    return np.asarray(np.sqrt(away[:, :, :n_own] * away[:, :, n_own:]))


def largest(deviations: Float) -> NDArray[np.float64]:
    """Logarithm of the mean of the three largest absolute deviations, (n,)."""
    import torch

    flat = torch.from_numpy(np.abs(deviations.reshape(len(deviations), -1)))
    top = flat.topk(min(N_LARGEST, flat.shape[1]), 1).values.numpy()
    return np.asarray(np.log(np.maximum(top.mean(1, dtype=np.float64), 1e-3)))


def by_region(deviations: Float, ch_names: Sequence[str], *, n_own: int) -> tuple[list[str], Float]:
    """Mean deviation of own features over the channels of each region.

    Parameters
    ----------
    deviations : array of shape (n, channels, features)
    ch_names : sequence of str
    n_own : int
        How many features are a channel's own.

    Returns
    -------
    regions : list of str
        Those that have channels; one named ``all channels`` where names say nothing.
    means : array of shape (n, regions, n_own)
    """
    bare = [name.upper().rstrip("0123456789Z") for name in ch_names]
    rows = {
        region: [i for i, name in enumerate(bare) if name in starts]
        for region, starts in REGIONS.items()
    }
    rows = {region: where for region, where in rows.items() if where}
    if not rows:
        rows = {"all channels": list(range(len(ch_names)))}
    own = deviations[:, :, :n_own]
    return list(rows), np.stack([own[:, where].mean(1) for where in rows.values()], 1)


def state_of(
    stats: RobustStats, population: RobustStats, *, ch_names: Sequence[str], names: Sequence[str]
) -> tuple[str, str, float] | None:
    """In which band and region a whole recording differs most from the training data.

    Parameters
    ----------
    stats, population : RobustStats
        Of the recording and of the training data.
    ch_names : sequence of str
    names : sequence of str
        From :func:`feature_names`.

    Returns
    -------
    (band, region, times) or None
        ``times`` the usual power; None where the recording is as others are.
    """
    n_own, n_bands = len(names), len(names) - 2
    if n_bands < 1:
        return None
    rise = (stats.center - population.center)[None]
    regions, away = by_region(rise / population.spread, ch_names, n_own=n_own)
    away = away[0, :, :n_bands]
    region, band = np.unravel_index(int(np.abs(away).argmax()), away.shape)
    if abs(away[region, band]) < OTHER_STATE:
        return None
    times = float(np.exp(by_region(rise, ch_names, n_own=n_own)[1][0, region, band]))
    return names[int(band)], regions[int(region)], times


BANDS_HZ: dict[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
"""The usual EEG bands, Hz."""
