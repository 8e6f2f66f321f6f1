from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made import SFREQ_HZ, answers, as_array, digits, eeg, of_kind
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest as Forest

from ae_pipeline.data import Samples
from ae_pipeline.detectors.baselines import (
    BASELINES,
    IsolationForest,
    PrincipalComponents,
    RobustZ,
    features,
    score_all,
)
from ae_pipeline.eeg.features import BANDS_HZ
from ae_pipeline.models.likelihoods import Likelihood
from ae_pipeline.models.scaler import Scaler


def network_units(samples: Samples, scaler: Scaler) -> np.ndarray:
    values, mask = samples.batch(slice(None))
    return scaler.transform(values, mask).reshape(len(samples), -1)


def fit_pca(samples: Samples, latent_dim: int = 4) -> PrincipalComponents:
    pca = PrincipalComponents.fit(samples, Scaler.fit(samples), latent_dim=latent_dim, seed=0)
    assert isinstance(pca, PrincipalComponents)
    return pca


# --------------------------------------------------------------------- principal components


@pytest.mark.parametrize("kind", ["eeg", "mnist"])
def test_pca_error_is_that_of_sklearns_inverse_transform(kind: str) -> None:
    train, new = of_kind(kind, 60), of_kind(kind, 30, seed=1)
    pca = fit_pca(train)
    reference = PCA(4, svd_solver="full").fit(network_units(train, pca.scaler))
    x = network_units(new, pca.scaler)
    again = reference.inverse_transform(reference.transform(x))
    scores = pca.score(new)
    np.testing.assert_allclose(scores.total, ((x - again) ** 2).mean(1), rtol=1e-3, atol=1e-5)
    if kind == "eeg":
        by_channel = ((x - again) ** 2).reshape(30, 4, -1).mean(2)
        np.testing.assert_allclose(scores.by_entry, by_channel, rtol=1e-3, atol=1e-5)


def test_pca_of_a_table_is_sklearns_too() -> None:
    train, new = answers(80, missing=0.0), answers(30, missing=0.0, seed=1)
    pca = fit_pca(train)
    reference = PCA(4, svd_solver="full").fit(network_units(train, pca.scaler))
    x = network_units(new, pca.scaler)
    error = (x - reference.inverse_transform(reference.transform(x))) ** 2
    np.testing.assert_allclose(pca.score(new).total, error.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pca.score(new).by_entry, error, rtol=1e-3, atol=1e-5)


def test_no_linear_map_of_that_size_does_better_than_pca() -> None:
    samples = as_array(eeg(60))
    pca = fit_pca(samples)
    x = network_units(samples, pca.scaler) - pca.mean
    rng = np.random.default_rng(0)
    for _ in range(5):
        basis = pca.components + 0.1 * rng.normal(size=pca.components.shape).astype(np.float32)
        code = np.linalg.lstsq(basis.T, x.T, rcond=None)[0]
        assert ((x - code.T @ basis) ** 2).mean() > pca.score(samples).total.mean()


def test_pca_puts_missing_answers_at_the_mean_of_those_given() -> None:
    train, new = answers(80, missing=0.3), answers(20, missing=0.3, seed=1)
    pca = fit_pca(train)
    x, given = network_units(train, pca.scaler), train.mask
    assert given is not None
    assert new.mask is not None
    means = np.array([x[given[:, i], i].mean() for i in range(x.shape[1])])
    reference = PCA(4, svd_solver="full").fit(np.where(given, x, means))
    np.testing.assert_allclose(pca.mean, reference.mean_, atol=1e-5)
    seen = np.where(new.mask, network_units(new, pca.scaler), pca.mean)
    error = (seen - reference.inverse_transform(reference.transform(seen))) ** 2
    expected = [row[shown].mean() for row, shown in zip(error, new.mask, strict=True)]
    np.testing.assert_allclose(pca.score(new).total, expected, rtol=1e-3, atol=1e-5)


def test_pca_has_as_many_components_as_the_code_or_as_the_data_allow() -> None:
    assert fit_pca(eeg(40), 5).components.shape == (5, 4 * 33)
    few = fit_pca(answers(5, missing=0.0), 11)
    assert few.components.shape == (4, 12)
    np.testing.assert_allclose(few.components @ few.components.T, np.eye(4), atol=1e-4)


def test_pcas_gaussian_loss_is_its_score() -> None:
    samples = eeg(30)
    pca = fit_pca(samples)
    np.testing.assert_array_equal(pca.losses(samples, "gaussian"), pca.score(samples).total)


def test_pcas_loss_of_an_image_is_the_cross_entropy_of_what_it_reconstructs() -> None:
    samples = digits(30)
    pca = fit_pca(samples)
    x, again, _ = pca.project(samples, slice(None))
    by_margin = [
        F.binary_cross_entropy(
            torch.from_numpy(np.clip(again, margin, 1 - margin)),
            torch.from_numpy(x),
            reduction="none",
        ).mean(1)
        for margin in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    ]
    best = min(by_margin, key=lambda loss: float(loss.mean()))
    np.testing.assert_allclose(pca.losses(samples, "bernoulli"), best, rtol=1e-4)


def test_pcas_loss_of_a_table_is_a_fair_distribution_over_the_levels() -> None:
    samples = answers(200, missing=0.2)
    pca = fit_pca(samples)
    likelihood = Likelihood("mixed", "table", shape=samples.shape, columns=samples.columns)
    losses = pca.losses(samples, likelihood.by_column)
    assert losses.shape == (200,)
    assert np.isfinite(losses).all()
    # between knowing nothing at all of the levels and knowing everything
    levels = [len(c.levels) for c in samples.columns if c.levels]
    ordinal = {i: f for i, f in likelihood.by_column.items() if f[0] == "categorical"}
    assert samples.mask is not None
    only = np.zeros_like(samples.mask)
    only[:, list(ordinal)] = samples.mask[:, list(ordinal)]
    answered = only.any(1)
    mean = pca.losses(replace(samples, mask=only), likelihood.by_column)[answered].mean()
    assert 0 < mean < np.log(max(levels))


def test_pcas_loss_leaves_out_what_is_missing() -> None:
    samples = answers(60, missing=0.3)
    pca = fit_pca(samples)
    assert samples.mask is not None
    elsewhere = np.where(samples.mask, samples.values, np.float32(2))
    by_column = Likelihood("mixed", "table", shape=samples.shape, columns=samples.columns).by_column
    np.testing.assert_array_equal(
        pca.losses(samples, by_column), pca.losses(replace(samples, values=elsewhere), by_column)
    )


# ------------------------------------------------------------------------ isolation forest


@pytest.mark.parametrize(
    ("kind", "n"), [("eeg", 30), ("mnist", 60), ("questionnaire", 60), ("questionnaire", 400)]
)
def test_isolation_forest_scores_as_scikit_learn_does(kind: str, n: int) -> None:
    train, new = of_kind(kind, n), of_kind(kind, 50, seed=1)
    scaler = Scaler.fit(train)
    forest = IsolationForest.fit(train, scaler, latent_dim=4, seed=3)
    assert isinstance(forest, IsolationForest)

    def shown(samples: Samples) -> np.ndarray:
        x = features(samples, scaler, rows=slice(None)).reshape(len(samples), -1)
        return np.where(np.isnan(x), forest.fill, x)

    reference = Forest(random_state=3).fit(shown(train))
    for samples in (train, new):
        expected = -reference.score_samples(shown(samples))
        np.testing.assert_allclose(forest.score(samples).total, expected, rtol=0, atol=1e-6)


def test_the_forest_sees_a_missing_answer_as_the_median_one() -> None:
    train = answers(200, missing=0.2)
    scaler = Scaler.fit(train)
    forest = IsolationForest.fit(train, scaler, latent_dim=4, seed=0)
    assert isinstance(forest, IsolationForest)
    x = network_units(train, scaler)
    assert train.mask is not None
    medians = [np.median(x[train.mask[:, i], i]) for i in range(x.shape[1])]
    np.testing.assert_allclose(forest.fill, medians, atol=1e-6)
    new = answers(20, missing=0.5, seed=1)
    filled = np.where(new.mask, new.values, scaler.inverse(forest.fill[None]))
    complete = replace(new, values=filled.astype(np.float32), mask=None)
    np.testing.assert_allclose(forest.score(new).total, forest.score(complete).total, atol=1e-6)


# -------------------------------------------------------------------------------- robust z


def test_a_planted_outlier_ranks_first_and_names_its_channel() -> None:
    train, new = eeg(80), as_array(eeg(30, seed=1))
    robust = RobustZ.fit(train, Scaler.fit(train), latent_dim=4, seed=0)
    values = np.asarray(new.values).copy()
    values[17, 2, 10:12] += 40 * values[:, 2].std()  # an electrode pop
    scores = robust.score(replace(new, values=values))
    assert scores.total.argmax() == 17
    assert scores.by_entry[17].argmax() == 2
    assert scores.total[17] == scores.by_entry[17, 2]


def test_robust_z_is_the_deviation_from_the_median() -> None:
    train = answers(200, missing=0.2)
    scaler = Scaler.fit(train)
    robust = RobustZ.fit(train, scaler, latent_dim=4, seed=0)
    x = network_units(train, scaler)
    assert train.mask is not None
    observed = np.where(train.mask, x, np.nan)
    center = np.nanmedian(observed, 0)
    mad = 1.4826 * np.nanmedian(np.abs(observed - center), 0)
    spread = np.where(mad > 1e-3, mad, np.nanstd(observed, 0))
    z = np.abs(observed - center) / spread
    scores = robust.score(train)
    np.testing.assert_allclose(scores.by_entry, np.nan_to_num(z), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores.total, np.sqrt(np.nanmean(z**2, 1)), rtol=1e-4)


def test_an_answer_at_the_median_counts_as_an_answer() -> None:
    train = answers(200, missing=0.0)
    robust = RobustZ.fit(train, Scaler.fit(train), latent_dim=4, seed=0)
    scores = robust.score(train)
    expected = np.sqrt((scores.by_entry.astype(float) ** 2).mean(1))
    np.testing.assert_allclose(scores.total, expected, rtol=1e-5)


def test_an_item_that_nobody_answered_upsets_no_baseline() -> None:
    samples = answers(60)
    assert samples.mask is not None
    mask = samples.mask.copy()
    mask[:, 3] = False
    silent = replace(samples, mask=mask)
    scaler = Scaler.fit(silent)
    for baseline in BASELINES.values():
        assert np.isfinite(
            baseline.fit(silent, scaler, latent_dim=4, seed=0).score(samples).total
        ).all()


# -------------------------------------------------------------------------------- features


@pytest.mark.parametrize(
    ("freq_hz", "band"), [(2.0, 0), (6.0, 1), (10.0, 2), (20.0, 3), (31.0, None)]
)
def test_a_rhythm_stands_out_in_its_band(freq_hz: float, band: int | None) -> None:
    samples = as_array(eeg(1, 2, 128))
    time_s = np.arange(128) / SFREQ_HZ
    values = np.zeros((1, 2, 128), np.float32)
    values[0, 1] = np.sin(2 * np.pi * freq_hz * time_s)
    unit = Scaler(np.zeros(2, np.float32), np.ones(2, np.float32))
    found = features(replace(samples, values=values), unit, rows=slice(None))
    bands = [name for name, (_, high) in BANDS_HZ.items() if high <= SFREQ_HZ / 2]
    assert bands == ["delta", "theta", "alpha", "beta"]  # 32 Hz is the highest there is
    assert found.shape == (1, 2, len(bands) + 2)
    if band is not None:
        assert found[0, 1, : len(bands)].argmax() == band
    np.testing.assert_allclose(found[0, 0], np.log(1e-6))  # flat, and finite
    peak_to_peak, line_length = np.exp(found[0, 1, -2:])
    assert peak_to_peak == pytest.approx(2, rel=0.05)
    assert line_length == pytest.approx(np.abs(np.diff(values[0, 1])).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_features_that_two_share_change_no_score(kind: str) -> None:
    train, new = of_kind(kind, 60), of_kind(kind, 30, seed=1)
    scaler = Scaler.fit(train)
    fitted = {
        name: scorer.fit(train, scaler, latent_dim=2, seed=0) for name, scorer in BASELINES.items()
    }
    together = score_all(fitted, new)
    assert list(together) == list(BASELINES)
    for name, scorer in fitted.items():
        alone = scorer.score(new)
        np.testing.assert_array_equal(together[name].total, alone.total)
        np.testing.assert_array_equal(together[name].by_entry, alone.by_entry)


def test_images_are_seen_in_blocks_of_four_by_four() -> None:
    samples = digits(3, size=10)
    found = features(samples, Scaler.fit(samples), rows=slice(None))
    assert found.shape == (3, 1, 4)
    np.testing.assert_allclose(
        found[:, 0, 3], np.asarray(samples.values)[:, 4:8, 4:8].mean((1, 2)), rtol=1e-5
    )


def test_a_missing_answer_is_no_answer() -> None:
    samples = answers(40, missing=0.3)
    found = features(samples, Scaler.fit(samples), rows=slice(None))
    assert samples.mask is not None
    np.testing.assert_array_equal(np.isnan(found[:, :, 0]), ~samples.mask)
