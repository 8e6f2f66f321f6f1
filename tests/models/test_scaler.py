from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made import COLUMNS, answers, as_array, digits, eeg, of_kind

from ae_pipeline.data import Samples, Windows
from ae_pipeline.models.scaler import LIMIT, Scaler


def values_of(samples: Samples) -> np.ndarray:
    return np.asarray(samples.values[:])


@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_there_and_back_again(kind: str) -> None:
    samples = of_kind(kind)
    scaler = Scaler.fit(samples)
    values = values_of(samples)
    again = scaler.inverse(scaler.transform(values))
    np.testing.assert_allclose(again, values, rtol=1e-5, atol=1e-4)


def test_eeg_is_in_robust_deviations_of_each_channel() -> None:
    rng = np.random.default_rng(0)
    deviation_uv = np.array([1.0, 10.0, 300.0], np.float32)
    signal = (rng.normal(size=(20_000, 3)) * deviation_uv).astype(np.float32)
    signal[:200] *= 1e4  # an artefact does not change what is usual
    windows = Windows(signal, np.arange(0, 19_900, 100), 100)
    samples = replace(eeg(199, 3, 100), values=windows)
    scaler = Scaler.fit(samples)
    np.testing.assert_allclose(scaler.scale, deviation_uv, rtol=0.05)
    assert not scaler.center.any()


def test_a_wrong_gain_stays_visible() -> None:
    """One scale for all recordings: ten times the amplitude is ten times the network units."""
    samples = as_array(eeg())
    scaler = Scaler.fit(samples)
    values = values_of(samples)
    tenfold = scaler.transform(10 * values)
    np.testing.assert_allclose(tenfold, 10 * scaler.transform(values), rtol=1e-6)


def test_a_flat_channel_keeps_its_unit() -> None:
    samples = as_array(eeg())
    values = values_of(samples)
    values[:, 2] = 5.0
    scaler = Scaler.fit(replace(samples, values=values))
    assert scaler.scale[2] == 1
    assert (scaler.transform(values)[:, 2] == 5).all()


def test_a_channel_that_mostly_stands_still_is_scaled_by_what_moves() -> None:
    samples = as_array(eeg())
    values = values_of(samples)
    values[: len(values) * 2 // 3, 1] = 0.0
    scaler = Scaler.fit(replace(samples, values=values))
    assert scaler.scale[1] == pytest.approx(values[:, 1].std(), rel=1e-5)


def test_windows_and_plain_arrays_have_one_scale() -> None:
    samples = eeg()
    views, plain = Scaler.fit(samples), Scaler.fit(as_array(samples))
    np.testing.assert_array_equal(views.scale, plain.scale)


def test_images_are_left_as_they_are() -> None:
    samples = digits()
    scaler = Scaler.fit(samples)
    values = values_of(samples)
    assert scaler.transform(values) is values  # not even copied: 70,000 of them are 220 MB
    assert scaler.inverse(values) is values


def test_table_columns_are_scaled_by_what_they_are() -> None:
    samples = answers(200, missing=0.2)
    assert samples.mask is not None
    scaler = Scaler.fit(samples)
    scaled = scaler.transform(values_of(samples), samples.mask)
    assert (scaled[~samples.mask] == 0).all()
    for i, column in enumerate(COLUMNS):
        known = scaled[samples.mask[:, i], i]
        if column.levels:
            n = len(column.levels)
            assert set(np.rint(known * (n - 1)).astype(int)) == set(range(n))
            np.testing.assert_allclose(known * (n - 1), np.rint(known * (n - 1)), atol=1e-6)
        else:
            assert known.mean() == pytest.approx(0, abs=1e-4)
            assert known.std() == pytest.approx(1, abs=1e-4)


def test_hidden_values_do_not_move_the_scale() -> None:
    samples = answers(100, missing=0.3)
    assert samples.mask is not None
    elsewhere = np.where(samples.mask, values_of(samples), np.float32(1e6))
    a, b = Scaler.fit(samples), Scaler.fit(replace(samples, values=elsewhere))
    np.testing.assert_array_equal(a.scale, b.scale)
    np.testing.assert_array_equal(a.center, b.center)
    masked = a.transform(elsewhere, samples.mask)
    np.testing.assert_array_equal(masked, a.transform(values_of(samples), samples.mask))


def test_an_item_that_nobody_answered_keeps_its_unit() -> None:
    samples = answers(30, missing=0.1)
    assert samples.mask is not None
    mask = samples.mask.copy()
    mask[:, 0] = False
    scaler = Scaler.fit(replace(samples, mask=mask))
    assert (scaler.center[0], scaler.scale[0]) == (0, 1)


def test_network_units_end_where_squares_still_fit_float32() -> None:
    samples = as_array(eeg())
    scaler = Scaler.fit(samples)
    values = values_of(samples)
    values[0, 0, :3] = [3e38, -3e38, 1e12]
    scaled = scaler.transform(values)
    assert scaled.dtype == np.float32
    assert scaled[0, 0, 0] == LIMIT
    assert scaled[0, 0, 1] == -LIMIT
    assert np.isfinite(np.square(scaled).sum())
    np.testing.assert_array_equal(scaled[1:], scaler.transform(values[1:]))


def test_the_same_seed_looks_at_the_same_windows() -> None:
    samples = eeg(2100, 1, 6)
    again = Scaler.fit(samples, seed=3)
    np.testing.assert_array_equal(Scaler.fit(samples, seed=3).scale, again.scale)
