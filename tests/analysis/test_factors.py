"""Beside factor analysis: against data whose factors are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from respondents import people, trained

from ae_pipeline.analysis import factors


def simple_structure(n: int, seed: int = 0, loading: float = 0.7) -> tuple[Any, Any]:
    """Three factors with five items each."""
    rng = np.random.default_rng(seed)
    loadings = np.kron(np.eye(3), np.full((5, 1), loading))
    x = rng.standard_normal((n, 3)) @ loadings.T
    return x + np.sqrt(1 - loading**2) * rng.standard_normal(x.shape), loadings


def test_parallel_analysis_counts_the_factors_and_none_in_noise() -> None:
    x, _ = simple_structure(500)
    assert factors.parallel_analysis(x)["n"] == 3
    assert factors.parallel_analysis(np.random.default_rng(0).standard_normal((500, 15)))["n"] <= 1


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.4, 0.8])
def test_a_polychoric_correlation_is_that_of_the_variables_behind_the_answers(rho: float) -> None:
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 20_000)
    a = np.searchsorted([-1, 0, 0.5, 1.2], z[:, 0])
    b = np.searchsorted([-0.3, 0.8], z[:, 1])
    assert factors.polychoric(np.stack([a, b], 1))[0, 1] == pytest.approx(rho, abs=0.025)


@pytest.mark.parametrize("method", ["factors", "components"])
def test_known_factors_come_back(method: str) -> None:
    x, loadings = simple_structure(800)
    found = factors.Factors.fit(x, 3, method=method)
    assert factors.matched(loadings, found.loadings).min() > 0.97


def test_congruence_is_the_cosine_and_does_not_mind_the_order_or_the_sign() -> None:
    a = np.array([[1.0, 0], [1, 1], [0, 1]])
    assert factors.congruence(a, a)[0, 1] == pytest.approx(0.5)
    np.testing.assert_allclose(factors.matched(a, -a[:, ::-1]), 1)


def test_factors_that_are_there_agree_over_halves_and_those_of_noise_do_not() -> None:
    x, _ = simple_structure(600)
    assert factors.split_half_congruence(x, 3, n_splits=3).min() > 0.9
    noise = np.random.default_rng(0).standard_normal((600, 15))
    assert factors.split_half_congruence(noise, 3, n_splits=3).mean() < 0.8


def test_a_hidden_item_is_predicted_as_well_as_its_communality_allows() -> None:
    x, _ = simple_structure(2000)
    train, test = x[:1000], x[1000:]
    model = factors.Factors.fit(train, 3)
    groups = np.resize(np.arange(5), 15)
    guess = factors.predict_hidden(model, train, test=test, groups=groups)
    error = ((factors.standardised(test) - guess) ** 2).mean()
    # four items of loading 0.7 tell a factor with reliability 0.79 (Spearman, Brown)
    assert error == pytest.approx(1 - 0.49 * 0.794, abs=0.04)


def test_a_difference_has_an_interval_over_people() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((200, 4))
    known = np.ones(truth.shape, bool)
    good, bad = truth + 0.1, truth + rng.standard_normal(truth.shape)
    found = factors.gain(truth, good, second=bad, known=known)
    assert found["first"] == pytest.approx(0.01)
    assert found["interval"][0] > 0.5


def test_latents_are_the_same_up_to_a_linear_map() -> None:
    codes = np.random.default_rng(0).standard_normal((100, 3))
    turned = codes @ np.array([[0.0, 1, 2], [1, 0, 0], [0, -1, 1]]) + 5
    np.testing.assert_allclose(factors.aligned(turned, codes), 1)
    other = np.random.default_rng(1).standard_normal((100, 3))
    assert max(factors.aligned(other, codes)) < 0.5


def test_a_model_stands_beside_factor_analysis() -> None:
    person = trained().person
    assert person is not None
    found = factors.beside(
        person,
        people(400, 1),
        held_out=people(150, 20),
        k=4,
        seed=0,
        refit=lambda samples, seed: person.autoencoder,
    )
    assert found["parallel"]["pearson"] == 4
    assert found["parallel"]["polychoric"] == 4
    assert found["split_half"]["mean"] > 0.9
    assert found["hidden"]["factors"] < 0.7
    assert all(each["seeds"] == pytest.approx(1) for each in found["stability"])
    low, high = found["hidden"]["interval"]
    assert ("linear model is enough" in found["verdict"]) == (low <= 0)
    assert low < high
