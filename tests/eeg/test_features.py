"""Channel features and what is stats of them, against signals whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from ae_pipeline.eeg.features import (
    FEATURE_BANDS_HZ,
    MIN_WINDOWS,
    by_channel,
    channel_features,
    deviations_from,
    feature_names,
    fit_robust_stats,
    largest,
)

SFREQ_HZ = 128.0


def head(n: int = 120, channels: int = 8, times: int = 256, seed: int = 0) -> NDArray[np.float32]:
    """Windows (microvolts) of three sources seen by all channels, and a little noise of each."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).normal(size=(channels, 3))
    sources = np.cumsum(rng.normal(size=(n, 3, times)), axis=2)
    sources -= sources.mean(2, keepdims=True)
    return (mixing @ sources + 0.3 * rng.normal(size=(n, channels, times))).astype(np.float32)


def test_band_powers_are_those_of_a_periodogram() -> None:
    x = head(5)
    (found,) = channel_features(x, SFREQ_HZ)
    names = feature_names(SFREQ_HZ, x.shape[2])
    assert names == (*FEATURE_BANDS_HZ, "peak", "line_length")
    window = np.hanning(x.shape[2])
    freqs_hz, power = signal.periodogram(x, SFREQ_HZ, window, detrend="constant", axis=2)
    # a density counts both sides of the spectrum and divides by rate and window
    power *= SFREQ_HZ * np.square(window).sum() / 2 / x.shape[2]
    for i, (low, high) in enumerate(FEATURE_BANDS_HZ.values()):
        inside = (freqs_hz >= low) & (freqs_hz < high)
        np.testing.assert_allclose(
            found[:, :, i], np.log(power[:, :, inside].mean(2) + 1e-6), atol=0.02
        )
    centred = x - x.mean(2, keepdims=True)
    np.testing.assert_allclose(found[:, :, -2], 2 * np.log(np.abs(centred).max(2)), atol=1e-3)


def test_bands_above_the_nyquist_or_below_the_resolution_are_left_out() -> None:
    assert feature_names(64.0, 128) == (*list(FEATURE_BANDS_HZ)[:5], "peak", "line_length")
    assert feature_names(100.0, 10) == ("alpha", "beta", "gamma", "peak", "line_length")


def test_what_is_left_of_a_channel_is_a_regression_on_the_others() -> None:
    x = head()
    stats = fit_robust_stats(x, SFREQ_HZ)
    assert stats is not None
    np.testing.assert_allclose(np.diag(stats.residual_weights), 1)
    flat = x.transpose(1, 0, 2).reshape(8, -1).astype(float)
    flat -= flat.mean(1, keepdims=True)
    for channel in range(8):
        others = np.delete(flat, channel, 0)
        weights = np.linalg.lstsq(others.T, flat[channel], rcond=None)[0]
        left = stats.residual_weights[channel].astype(float) @ flat
        assert left.var() == pytest.approx((flat[channel] - weights @ others).var(), rel=0.1)


def test_events_in_a_third_of_the_windows_do_not_make_themselves_usual() -> None:
    x = head()
    clean, spoilt = fit_robust_stats(x, SFREQ_HZ), x.copy()
    rng = np.random.default_rng(1)
    spoilt[:40, 2] += 20 * rng.normal(size=(40, x.shape[2])).astype(np.float32)
    stats = fit_robust_stats(spoilt, SFREQ_HZ)
    assert clean is not None
    assert stats is not None
    assert np.abs(stats.residual_weights - clean.residual_weights).max() < 0.1
    away = largest(deviations_from([stats], spoilt, sfreq_hz=SFREQ_HZ)[0])
    assert away[:40].min() > away[40:].max()


def test_the_usual_deviates_by_one_robust_deviation_around_nothing() -> None:
    x = head()
    stats = fit_robust_stats(x, SFREQ_HZ)
    assert stats is not None
    away = deviations_from([stats], x, sfreq_hz=SFREQ_HZ)[0]
    np.testing.assert_allclose(np.median(away, 0), 0, atol=1e-4)
    np.testing.assert_allclose(1.4826 * np.median(np.abs(away), 0), 1, atol=1e-3)


@pytest.mark.parametrize("change", ["exchanged", "faint", "noise"])
def test_a_channel_that_is_not_what_the_others_say_is_named(change: str) -> None:
    x = head()
    stats = fit_robust_stats(x, SFREQ_HZ)
    assert stats is not None
    odd, rng = x[:20].copy(), np.random.default_rng(2)
    if change == "exchanged":
        odd[:, [1, 6]] = odd[:, [6, 1]]
    elif change == "faint":
        odd[:, 1] *= 0.05
    else:
        odd[:, 1] += 3 * rng.normal(size=odd[:, 1].shape).astype(np.float32)
    away = deviations_from([stats], odd, sfreq_hz=SFREQ_HZ)[0]
    assert (
        largest(away)
        > np.quantile(largest(deviations_from([stats], x, sfreq_hz=SFREQ_HZ)[0]), 0.99)
    ).all()
    top = by_channel(away, away.shape[2] // 2).max(2).argmax(1)
    assert np.isin(top, [1, 6] if change == "exchanged" else [1]).mean() > 0.9


def test_few_windows_say_nothing_and_one_channel_has_no_others() -> None:
    assert fit_robust_stats(head(MIN_WINDOWS - 1), SFREQ_HZ) is None
    stats = fit_robust_stats(head()[:, :1], SFREQ_HZ)
    assert stats is not None
    assert stats.residual_weights.tolist() == [[1.0]]
    assert stats.center.shape == (1, 8)


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_nothing_is_infinite(value: float) -> None:
    stats = fit_robust_stats(head(), SFREQ_HZ)
    assert stats is not None
    away = deviations_from([stats], np.full((3, 8, 256), value, np.float32), sfreq_hz=SFREQ_HZ)[0]
    assert np.isfinite(away).all()
    assert np.isfinite(largest(away)).all()


def test_deviations_do_not_depend_on_the_company() -> None:
    x = head()
    stats = fit_robust_stats(x, SFREQ_HZ)
    assert stats is not None
    whole = deviations_from([stats], x, sfreq_hz=SFREQ_HZ)[0]
    for rows in (slice(3, 4), slice(10, 40)):
        np.testing.assert_allclose(
            deviations_from([stats], x[rows], sfreq_hz=SFREQ_HZ)[0], whole[rows], atol=1e-5
        )
