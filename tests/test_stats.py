"""Robust spread, intervals and areas against scipy, scikit-learn and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import average_precision_score, roc_auc_score

from ae_pipeline.stats import (
    CurveAreas,
    mean_interval,
    median_and_robust_sd,
    percentile_interval,
    poisson_interval,
    resampled_weights,
    robust_sd,
    share_interval,
)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_robust_sd_is_scipys_to_the_fifth_digit(axis: int | None) -> None:
    x = np.random.default_rng(0).normal(3, 2, (501, 4))
    expected = scipy_stats.median_abs_deviation(x, axis=axis, scale="normal")
    assert robust_sd(x, axis) == pytest.approx(expected, rel=2e-6)
    if axis is not None:
        median, sd = median_and_robust_sd(x, axis)
        assert median == pytest.approx(np.median(x, axis))
        assert sd == pytest.approx(robust_sd(x, axis))
        assert robust_sd(x.astype(np.float32), axis).dtype == np.float32


def test_missing_values_are_left_out_and_a_known_center_is_taken() -> None:
    x = np.array([1.0, np.nan, 3.0, 5.0])
    assert robust_sd(x, omit_nan=True) == pytest.approx(1.4826 * 2)
    assert robust_sd(x[2:], center=0) == pytest.approx(1.4826 * 4)


def test_a_mean_has_students_interval() -> None:
    x = np.random.default_rng(0).normal(1, 2, 17)
    expected = scipy_stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert mean_interval(x) == pytest.approx([expected.low, expected.high])
    assert mean_interval(x[:2]) is None


def test_shares_and_counts_have_exact_intervals() -> None:
    assert share_interval(0, 10)[0] == 0
    assert share_interval(3, 10) == pytest.approx((0.1078, 0.6032), abs=1e-4)  # Wilson, 1927
    low, high = poisson_interval(4)
    assert scipy_stats.poisson.sf(3, low) == pytest.approx(0.025)
    assert scipy_stats.poisson.cdf(4, high) == pytest.approx(0.025)
    assert poisson_interval(0) == pytest.approx((0, 3.689), abs=1e-3)


def test_resamples_draw_as_many_units_as_there_are_whatever_the_blocks() -> None:
    whole = np.concatenate(list(resampled_weights(5, 100)))
    blocks = np.concatenate(list(resampled_weights(5, 100, rows=7)))
    assert whole.shape == (101, 5)
    assert (whole == blocks).all()
    assert (whole[0] == 1).all()
    assert (whole.sum(1) == 5).all()
    assert len(list(resampled_weights(2, 100))) == 1  # too few to draw from
    assert percentile_interval(np.array([np.nan])) is None


def test_resampled_areas_count_ties_half() -> None:
    rng = np.random.default_rng(1)
    score, y = rng.integers(0, 4, 60).astype(float), rng.random(60) < 0.4
    unit = np.repeat(np.arange(12), 5)
    roc, precision = CurveAreas({"a": score}, unit, n_resamples=20).curves(score, y, negative=~y)
    for n, weights in enumerate(np.concatenate(list(resampled_weights(12, 20)))):
        given = weights[unit]
        assert roc[n] == pytest.approx(roc_auc_score(y, score, sample_weight=given))
        expected = average_precision_score(y, score, sample_weight=given)
        assert precision[n] == pytest.approx(expected)
