"""The scikit-learn interface: its contract, pipelines and searches, the same numbers to the bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ae_pipeline
from ae_pipeline.estimator import Autoencoder
from ae_pipeline.scoring.judge import raw_columns

EXPECTED_FAILURES: dict[str, str] = {}
"""Checks of scikit-learn that the tabular default may fail, with the reason: none."""


@parametrize_with_checks([Autoencoder()], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_scikit_learn_finds_its_contract_kept(estimator: Any, check: Any) -> None:
    check(estimator)


def table(n: int = 300, seed: int = 0) -> np.ndarray:
    """Six columns of two hidden variables and a little noise."""
    hidden = np.random.default_rng(seed).normal(size=(n, 2))
    mixing = np.random.default_rng(9).normal(size=(2, 6))
    return hidden @ mixing * 10 + 5 + np.random.default_rng(seed + 1).normal(size=(n, 6))


FAST: dict[str, Any] = {"latent_dim": 2, "epochs": 40, "learning_rate": 1e-2, "device": "cpu"}


def test_the_package_offers_it_without_loading_it() -> None:
    assert ae_pipeline.Autoencoder is Autoencoder
    code = (
        "import sys, ae_pipeline; assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules); "
        "ae_pipeline.Autoencoder; assert 'sklearn' in sys.modules; assert 'mlflow' not in "
        "sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_seed_gives_the_same_numbers_to_the_bit() -> None:
    X = table()
    one, same, other = (
        Autoencoder(**FAST, objective="variational", random_state=seed).fit(X) for seed in (1, 1, 2)
    )
    assert one.transform(X).tobytes() == same.transform(X).tobytes()
    assert one.sample(20).tobytes() == same.sample(20).tobytes()
    assert one.transform(X).tobytes() != other.transform(X).tobytes()


def test_scores_are_those_of_the_command_line() -> None:
    X = table()
    model = Autoencoder(**FAST).fit(X)
    columns, _, _ = raw_columns(model._ensemble, {}, samples=model._samples(X))
    np.testing.assert_allclose(model.score_samples(X), -columns["score"], atol=1e-6)


def test_the_callers_random_numbers_stay_the_callers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Autoencoder(**FAST).set_params(epochs=1).fit(table(50))
    assert torch.equal(torch.rand(3), expected)


def test_codes_of_a_two_dimensional_table_bring_it_back() -> None:
    X = table(600)
    model = Autoencoder(**FAST).set_params(epochs=80).fit(X)
    back = model.inverse_transform(model.transform(X))
    assert np.mean((back - X) ** 2) < 0.1 * X.var()
    assert model.get_feature_names_out().tolist() == ["autoencoder0", "autoencoder1"]
    drawn = model.sample(2000)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.2 * X.std())
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.25)


def test_outliers_are_those_that_break_the_pattern() -> None:
    X = table(600)
    model = Autoencoder(**FAST, contamination=0.1).fit(X)
    assert (model.predict(X) == -1).mean() == pytest.approx(0.1, abs=0.01)
    odd = X[:50].copy()
    odd[:, 0] += 40
    assert (model.predict(odd) == -1).mean() > 0.9
    assert model.score_samples(odd).mean() < model.score_samples(X).mean()


def test_missing_values_are_masked_not_filled() -> None:
    X = table(400)
    holes = X.copy()
    holes[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    model = Autoencoder(**FAST, objective="masked").fit(holes)
    assert np.isfinite(model.transform(holes)).all()
    assert np.isfinite(model.score_samples(holes)).all()
    assert np.isfinite(model.sample(50)).all()


def test_it_works_in_a_pipeline_and_a_grid_search() -> None:
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), Autoencoder(**FAST), LogisticRegression(max_iter=500))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.8
    search = GridSearchCV(
        Autoencoder(epochs=25, learning_rate=1e-2, device="cpu"), {"latent_dim": [1, 2]}, cv=2
    ).fit(table(200))
    assert search.best_params_ == {"latent_dim": 2}  # the table has two hidden variables
    assert clone(search.best_estimator_).latent_dim == 2


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_images_and_windows_work_alike(architecture: str) -> None:
    part = {"kind": architecture} | (
        {"kernel": 3, "channels": [4]} if architecture == "conv" else {}
    )
    images = tiny.images(60).values[:]
    model = Autoencoder(part, latent_dim=3, kind="mnist", epochs=3, device="cpu").fit(images)
    assert model.inverse_transform(model.transform(images)).shape == images.shape
    assert model.sample(4).shape == (4, 8, 8)
    flat = clone(model).set_params(shape=(8, 8)).fit(images.reshape(60, -1))
    np.testing.assert_array_equal(flat.transform(images.reshape(60, -1)), model.transform(images))
    windows = np.asarray(tiny.eeg().data.samples.values[:40])
    model = Autoencoder(part, latent_dim=3, kind="eeg", epochs=3, device="cpu").fit(windows)
    assert model.transform(windows).shape == (40, 3)
    assert model.sample(2).shape == (2, 4, 100)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latent_dim": 6}, "latent_dim: 6 is not below the input's 6"),
        ({"architecture": "convolutional"}, "'convolutional' is not known; one of"),
        ({"objective": {"kind": "sparse", "wieght": 1}}, "did you mean 'weight'"),
        ({"architecture": "conv"}, "kernel: 7 exceeds the input"),
        ({"contamination": 0.9}, "contamination: 0.9 given"),
        ({"epochs": 0}, "epochs: should be greater than 0"),
        ({"likelihood": "bernoulli"}, "the continuous item 'x0' does not have"),
        ({"kind": "mnist", "shape": (2, 3)}, "pixels of"),
    ],
)
def test_settings_that_cannot_work_say_what_to_change(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Autoencoder(**settings).fit(table(50))
