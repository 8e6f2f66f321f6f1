"""Indices of careless responding against answers whose index is known."""

from __future__ import annotations

import numpy as np
import pytest

from ae_pipeline.detectors import indices

NAN = np.nan
RNG = np.random.default_rng(0)


def test_longstring_is_the_longest_run_and_passes_over_what_is_missing() -> None:
    answers = np.array([[1, 1, 1, 2, 2], [1, NAN, 1, 1, 2], [1, 2, 1, 2, 1], [NAN] * 5])
    assert indices.longstring(answers)[:3].tolist() == [3, 3, 1]
    assert np.isnan(indices.longstring(answers)[3])


def test_variability_is_low_for_one_answer_and_counted_within_blocks_of_one_range() -> None:
    answers = np.array([[0.5] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]])
    found = indices.variability(answers, [0, 0, 0, 1, 1, 1])
    assert found[0] == 0
    assert found[1] == 0  # all of it lies between the blocks
    assert found[2] == pytest.approx(np.std([0, 1, 0]))


def test_mahalanobis_is_the_distance_in_units_of_the_covariance() -> None:
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = RNG.standard_normal((10, 2))
    found = indices.mahalanobis(x, np.zeros(2), precision=np.linalg.inv(covariance))
    expected = [row @ np.linalg.solve(covariance, row) for row in x]
    np.testing.assert_allclose(found, expected)
    half = indices.mahalanobis(np.array([[1.0, NAN]]), np.zeros(2), precision=np.eye(2))
    assert half[0] == pytest.approx(2.0)  # scaled up to both items


def test_even_odd_is_high_for_a_consistent_person_and_needs_three_scales() -> None:
    scales = np.repeat([0, 1, 2, 3], 4)
    level = RNG.random(4)
    consistent = np.repeat(level, 4)
    found = indices.even_odd(np.stack([consistent, RNG.random(16)]), scales)
    assert found[0] == pytest.approx(1)
    assert found[1] < 0.999
    assert np.isnan(indices.even_odd(np.ones((1, 8)), np.repeat([0, 1], 4))).all()


def test_pairs_correlate_within_a_person_as_numpy_says() -> None:
    answers = RNG.random((5, 8))
    pairs = np.array([[0, 4], [1, 5], [2, 6], [3, 7]])
    expected = [np.corrcoef(row[:4], row[4:])[0, 1] for row in answers]
    np.testing.assert_allclose(indices.pair_consistency(answers, pairs), expected)
    assert np.isnan(indices.pair_consistency(answers, pairs[:2])).all()


def test_an_extreme_sufferer_is_not_careless_by_the_person_total_correlation() -> None:
    profile = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    sufferer = np.array([[0.7, 0.8, 0.9, 0.1, 0.2, 0.3]])  # both scales turned over, not the items
    scales = [0, 0, 0, 1, 1, 1]
    assert indices.person_total(sufferer, profile, scales=scales)[0] == pytest.approx(1)
    assert np.corrcoef(sufferer[0], profile)[0, 1] < 0
    assert indices.person_total(sufferer[:, ::-1], profile, scales=scales)[0] == pytest.approx(-1)
    assert indices.person_total(np.full((1, 6), 0.5), profile, scales=scales)[0] == 0


def test_guttman_errors_count_harder_steps_taken_before_easier_ones() -> None:
    easiness = [np.array([0.9]), np.array([0.6]), np.array([0.3])]
    answers = np.array([[1.0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
    found = indices.guttman_errors(answers, easiness, scales=[0, 0, 0])
    np.testing.assert_allclose(found, [0, 1, 0.5, 0])
