"""The default detector against truth: densities, shares, spectra, deviations, independence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from made import eeg as short_windows
from scipy import signal, stats
from sklearn.metrics import r2_score
from sklearn.mixture import GaussianMixture

from ae_pipeline.data import Samples
from ae_pipeline.detectors.ensemble import (
    COUNTS_HALF,
    LINEAR_TO,
    NETWORK_VIEWS,
    TWO_SIDED,
    Ensemble,
)
from ae_pipeline.detectors.personfit import VIEWS
from ae_pipeline.eeg.features import BANDS_HZ
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.training import loop as training

KINDS = (tiny.eeg, tiny.table, tiny.pictures)
EEG_BANDS = list(BANDS_HZ.values())


@pytest.fixture(params=KINDS, ids=["eeg", "table", "pictures"])
def trained(request: pytest.FixtureRequest) -> tiny.Trained:
    trained: tiny.Trained = request.param()
    return trained


def part(trained: tiny.Trained, name: str) -> Samples:
    return trained.data.samples.take(trained.division.rows(name))


def changed(samples: Samples, change: Callable[[np.ndarray], np.ndarray]) -> Samples:
    values = change(samples.batch(slice(None))[0].copy())
    return replace(samples, values=values.astype(np.float32))


def times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: factor * x


def everywhere(level: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.full_like(x, level)


def in_network_units(
    trained: tiny.Trained, samples: Samples
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Samples and their reconstructions (n, *shape), and what was observed."""
    values, mask = samples.batch(slice(None))
    scaler = trained.fitted.scaler
    return (
        scaler.transform(values, mask),
        scaler.transform(trained.fitted.reconstruct(samples)),
        mask,
    )


# ------------------------------------------------------------------------------- views


@pytest.mark.parametrize("n_components", [1, 5])
def test_the_density_of_codes_is_that_of_the_mixture(
    trained: tiny.Trained, n_components: int
) -> None:
    codes = trained.fitted.latents(part(trained, "train")).astype(np.float64)
    mixture = GaussianMixture(n_components, reg_covar=1e-4, random_state=0).fit(codes)
    ensemble = replace(
        trained.bundle.ensemble,
        log_weights=np.log(mixture.weights_),
        means=mixture.means_,
        precisions_cholesky=mixture.precisions_cholesky_,
    )
    seen = ensemble.view_scores(part(trained, "test"))
    expected = mixture.score_samples(seen.latents.astype(np.float64))
    np.testing.assert_allclose(seen.views["latent"], -expected, rtol=1e-9, atol=1e-9)


def test_one_component_is_the_normal_distribution_of_all_training_codes() -> None:
    trained = tiny.eeg()
    ensemble, codes = trained.bundle.ensemble, trained.fitted.latents(part(trained, "train"))
    assert ensemble.means.shape == (1, 3)  # 357 windows: not enough to tell two apart
    np.testing.assert_allclose(ensemble.means[0], codes.mean(0), rtol=1e-4, atol=1e-4)
    ridge = 1e-3 * codes.var(0).mean() * np.eye(3)
    normal = stats.multivariate_normal(codes.mean(0), np.cov(codes.T, bias=True) + ridge)
    seen = ensemble.view_scores(part(trained, "test"))
    np.testing.assert_allclose(
        seen.views["latent"], -normal.logpdf(seen.latents), rtol=1e-3, atol=1e-3
    )


def test_the_share_not_explained_is_one_minus_r_squared(trained: tiny.Trained) -> None:
    samples = part(trained, "test")
    x, made, mask = in_network_units(trained, samples)
    share = np.exp(trained.bundle.ensemble.view_scores(samples).views["relative"])
    least = trained.bundle.ensemble.least_variance[0]
    rows = [n for n in range(len(x)) if np.ptp(x[n] if mask is None else x[n][mask[n]]) > 0]
    assert len(rows) > 0.9 * len(x)
    for n in rows[:30]:
        seen = np.ones(x[n].shape, bool) if mask is None else mask[n]
        own = x[n][seen].astype(float).var()
        if own < least:
            continue  # a nearly constant sample counts as having the least variance
        expected = 1 - r2_score(x[n][seen].astype(float), made[n][seen].astype(float))
        assert share[n] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_error_is_that_of_the_autoencoder(trained: tiny.Trained) -> None:
    samples = part(trained, "test")
    seen, scores = trained.bundle.ensemble.view_scores(samples), trained.fitted.score(samples)
    np.testing.assert_array_equal(seen.autoencoder.total, scores.total)
    np.testing.assert_allclose(np.exp(seen.views["error"]), scores.total, rtol=1e-4)
    np.testing.assert_array_equal(seen.latents, trained.fitted.latents(samples))
    both, person = trained.bundle.ensemble.score(samples), trained.bundle.ensemble.person
    np.testing.assert_array_equal(both.by_entry, seen.by_entry)
    if person is not None:
        surprise = person.predict_answers(samples).surprise
        np.testing.assert_allclose(both.by_entry, surprise, rtol=1e-6)
    elif trained.study.kind != "eeg":
        np.testing.assert_array_equal(both.by_entry, scores.by_entry)
    np.testing.assert_array_equal(both.total, seen.total)


def test_the_spectrum_is_the_largest_deviation_of_band_power_from_its_reconstruction() -> None:
    trained, samples = tiny.eeg(), part(tiny.eeg(), "test")
    ensemble = trained.bundle.ensemble

    def log_power(x: np.ndarray) -> np.ndarray:
        freqs_hz, power = signal.periodogram(x, tiny.SFREQ_HZ, "hann", detrend=False)
        bands = [
            power[..., (freqs_hz >= low) & (freqs_hz < high)].mean(-1) for low, high in EEG_BANDS
        ]
        return np.asarray(np.log(np.stack(bands, -1)))

    def differences(samples: Samples) -> np.ndarray:
        x, made, _ = in_network_units(trained, samples)
        return np.asarray(log_power(x.astype(float)) - log_power(made.astype(float)))

    usual = differences(part(trained, "validation"))
    center = np.median(usual, 0)
    spread = stats.median_abs_deviation(usual, 0, scale="normal")
    np.testing.assert_allclose(ensemble.band_center, center, atol=2e-3)
    np.testing.assert_allclose(ensemble.band_spread, spread, rtol=1e-2)
    largest = (np.abs(differences(samples) - center) / spread).max((1, 2))
    view = ensemble.view_scores(samples).views["spectrum"]
    np.testing.assert_allclose(view, np.log(largest), atol=2e-2)


def test_only_signals_have_a_spectrum() -> None:
    assert set(tiny.eeg().bundle.ensemble.view_scores(part(tiny.eeg(), "test")).views) == {
        *("error", "relative", "spread", "latent", "spectrum"),
        *("own", "neighbours", "population"),
    }
    for trained in (tiny.table(), tiny.pictures()):
        views = trained.bundle.ensemble.view_scores(part(trained, "test")).views
        own = () if trained.data.samples.kind == "mnist" else VIEWS
        assert set(views) == {"error", "relative", "spread", "latent", *own}


def untrained(samples: Samples) -> training.FittedAutoencoder:
    config = Model.model_validate({**tiny.MODEL, "objective": {"kind": "vanilla"}})
    model = Autoencoder(config, samples.layout, shape=samples.shape)
    return training.FittedAutoencoder(model, Scaler.fit(samples))


@pytest.mark.parametrize(("length", "n_bands"), [(33, 4), (12, 1), (3, 0)])
def test_bands_that_windows_are_too_short_for_are_left_out(length: int, n_bands: int) -> None:
    # at 64 Hz gamma lies above the Nyquist; 12 samples resolve 5.3 Hz, 3 samples nothing
    samples = short_windows(60, length=length)
    ensemble = Ensemble.fit(untrained(samples), samples, reference=None, seed=0)
    assert ensemble.band_center.shape == ((4, n_bands) if n_bands else (0, 0))
    seen = ensemble.view_scores(samples)
    assert ("spectrum" in seen.views) == (n_bands > 0)
    assert np.isfinite(seen.total).all()


# --------------------------------------------------------------------------- deviations


def test_the_reference_deviates_by_one_robust_deviation_around_nothing(
    trained: tiny.Trained,
) -> None:
    ensemble = trained.bundle.ensemble
    seen = ensemble.view_scores(part(trained, "validation"))
    by_data = 0
    for i, name in enumerate(seen.deviations):
        view = seen.views[name]
        assert np.median(view) == pytest.approx(ensemble.center[i], abs=1e-6)
        deviation = LINEAR_TO * np.sinh(seen.deviations[name] / LINEAR_TO)
        if name not in TWO_SIDED:
            # the median: half on either side (of 40 values two are in the middle)
            assert min((deviation >= 0).mean(), (deviation <= 0).mean()) >= 0.5
        above, below = view >= ensemble.center[i], view <= ensemble.center[i]
        for side, spread in ((above, ensemble.above[i]), (below, ensemble.below[i])):
            assert spread >= ensemble.least_spread
            usual = 1.4826 * np.median(np.abs(deviation[side]))
            if ensemble.person is not None and side is below:
                assert usual == 0  # only what speaks for carelessness counts
            elif spread > ensemble.least_spread:
                by_data += 1
                assert usual == pytest.approx(1, abs=1e-3)
            else:
                assert usual <= 1 + 1e-3
    assert by_data >= 2


def test_every_view_of_a_sample_adds_to_its_score(trained: tiny.Trained) -> None:
    ensemble = trained.bundle.ensemble
    seen = ensemble.view_scores(part(trained, "test"))
    for i, name in enumerate(seen.deviations):
        view = seen.views[name]
        away = view - ensemble.center[i]
        scaled = np.where(away < 0, away / ensemble.below[i], away / ensemble.above[i])
        bounded = np.abs(scaled) if name in TWO_SIDED else np.maximum(scaled, ensemble.most_normal)
        expected = LINEAR_TO * np.arcsinh(bounded / LINEAR_TO)
        np.testing.assert_allclose(seen.deviations[name], expected)
    network = np.sum(
        [seen.deviations[n] for n in seen.deviations if n in (*NETWORK_VIEWS, *VIEWS)], 0
    )
    if trained.study.kind != "eeg":
        np.testing.assert_allclose(seen.total, network)
        return
    half = [seen.deviations["population"], seen.deviations["own"]]
    half.append((network - ensemble.sum_center) / ensemble.sum_spread)
    members = [*(COUNTS_HALF * member for member in half), seen.deviations["neighbours"]]
    np.testing.assert_allclose(seen.total, np.log(np.exp(members).sum(0)))


def test_what_is_reconstructed_too_well_is_unusual() -> None:
    trained = tiny.eeg()
    samples, ensemble = part(trained, "test"), trained.bundle.ensemble
    usual = ensemble.view_scores(samples)
    for factor in (0.0, 0.1, 0.3):
        faint = ensemble.view_scores(changed(samples, times(factor)))
        assert (faint.autoencoder.total < usual.autoencoder.total).all()
        assert faint.deviations["error"].min() > np.quantile(usual.deviations["error"], 0.95)
        assert (faint.total > np.median(usual.total)).all()


def test_a_constant_sample_scores_higher_than_usual(trained: tiny.Trained) -> None:
    samples = part(trained, "test")
    usual = trained.bundle.ensemble.view_scores(samples).total
    for level in (5,) if trained.study.kind == "questionnaire" else (0, 0.1):
        flat = changed(samples, everywhere(level))
        if samples.mask is not None:
            flat = replace(flat, mask=np.ones_like(samples.mask))
        assert trained.bundle.ensemble.view_scores(flat).total.min() > np.median(usual)


def test_an_added_tone_raises_the_spectrum() -> None:
    trained = tiny.eeg()
    samples, ensemble = part(trained, "test"), trained.bundle.ensemble
    t = np.arange(samples.shape[1]) / tiny.SFREQ_HZ

    def tone(x: np.ndarray) -> np.ndarray:
        x[:, 1] += 10 * np.sin(2 * np.pi * 20 * t)  # microvolts, as much as the alpha rhythm
        return x

    usual, odd = ensemble.view_scores(samples), ensemble.view_scores(changed(samples, tone))
    assert (odd.deviations["spectrum"] > usual.deviations["spectrum"]).mean() > 0.95
    limit = np.quantile(usual.deviations["spectrum"], 0.95)
    assert np.median(odd.deviations["spectrum"]) > limit
    assert (odd.total > usual.total).mean() > 0.95


def test_a_channel_with_a_tenth_of_its_gain_raises_the_score() -> None:
    trained = tiny.eeg()
    samples, ensemble = part(trained, "test"), trained.bundle.ensemble

    def fade(x: np.ndarray) -> np.ndarray:
        x[:, 1] *= 0.1
        return x

    usual, odd = ensemble.view_scores(samples), ensemble.view_scores(changed(samples, fade))
    assert (odd.total > usual.total).mean() > 0.95
    assert np.median(odd.total) > np.quantile(usual.total, 0.9)
    by_network = {name: np.median(odd.deviations[name]) for name in NETWORK_VIEWS}
    assert max(by_network, key=by_network.__getitem__) == "spectrum"
    assert np.median(odd.deviations["own"]) > by_network["spectrum"]


# ------------------------------------------------------------------------------ fitting


def test_without_a_validation_part_the_training_data_is_the_reference(
    trained: tiny.Trained,
) -> None:
    inside = part(trained, "train")
    ensemble = Ensemble.fit(trained.fitted, inside, reference=None, seed=0)
    seen = ensemble.view_scores(inside)
    for i, name in enumerate(seen.deviations):
        assert np.median(seen.views[name]) == pytest.approx(ensemble.center[i], abs=1e-6)
    few = Ensemble.fit(
        trained.fitted, inside, reference=part(trained, "validation").take(np.arange(3)), seed=0
    )
    for name, array in few.state().items():
        np.testing.assert_array_equal(array, ensemble.state()[name])


def test_the_reference_moves_only_what_is_usual() -> None:
    trained = tiny.eeg()
    inside, held = part(trained, "train"), part(trained, "validation")
    louder = changed(held, times(2))
    one, other = (
        Ensemble.fit(trained.fitted, inside, reference=each, seed=0) for each in (held, louder)
    )
    for name in ("log_weights", "means", "precisions_cholesky"):
        np.testing.assert_array_equal(one.state()[name], other.state()[name])
    # twice the signal is four times the squared error of a network that is almost linear
    assert other.center[0] - one.center[0] == pytest.approx(np.log(4), abs=0.3)


def test_fitting_again_gives_the_same_numbers(trained: tiny.Trained) -> None:
    again = Ensemble.fit(
        trained.fitted, part(trained, "train"), reference=part(trained, "validation"), seed=0
    )
    for name, array in trained.bundle.ensemble.state().items():
        np.testing.assert_array_equal(again.state()[name], array)


# ------------------------------------------------------- what scores must not depend on


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_do_not_depend_on_the_company(
    trained: tiny.Trained, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, samples = trained.bundle.ensemble, part(trained, "test")
    whole = ensemble.view_scores(samples)
    monkeypatch.setattr(training, "SCORING_BATCH", size)
    rows = np.random.default_rng(0).permutation(len(samples))[:20]
    for chosen in (np.arange(len(samples)), rows, rows[:1]):
        seen = ensemble.view_scores(samples.take(chosen))
        np.testing.assert_allclose(seen.total, whole.total[chosen], rtol=0, atol=1e-5)
        for name, view in seen.views.items():
            np.testing.assert_allclose(view, whole.views[name][chosen], rtol=0, atol=1e-5)


def test_an_ensemble_comes_back_from_a_bundle(trained: tiny.Trained, tmp_path: Path) -> None:
    bundles.save(tmp_path, trained.bundle)
    loaded = bundles.load(tmp_path).ensemble
    for name, array in trained.bundle.ensemble.state().items():
        np.testing.assert_array_equal(loaded.state()[name], array)
    samples = part(trained, "test")
    expected = trained.bundle.ensemble.score(samples)
    np.testing.assert_array_equal(loaded.score(samples).total, expected.total)
    np.testing.assert_array_equal(loaded.score(samples).by_entry, expected.by_entry)


@pytest.mark.parametrize("spoil", [0.0, 1e6], ids=["zero", "huge"])
@pytest.mark.parametrize("trained", [tiny.eeg, tiny.pictures], indirect=True)
def test_scores_are_finite_and_large_for_what_no_sample_is(
    trained: tiny.Trained, spoil: float
) -> None:
    samples, ensemble = part(trained, "test"), trained.bundle.ensemble
    usual = ensemble.view_scores(samples)
    odd = ensemble.view_scores(changed(samples, times(spoil)))
    assert np.isfinite(odd.latents).all()
    for values in (odd.total, *odd.views.values(), *odd.deviations.values()):
        assert np.isfinite(values).all()
    assert odd.total.min() > usual.total.max()


def test_who_answered_nothing_or_always_the_same_gets_a_number() -> None:
    trained, samples = tiny.table(), part(tiny.table(), "test")
    assert samples.mask is not None
    nothing = changed(replace(samples, mask=np.zeros_like(samples.mask)), everywhere(0))
    same = changed(replace(samples, mask=np.ones_like(samples.mask)), everywhere(1))
    usual = trained.bundle.ensemble.view_scores(samples)
    for odd in (nothing, same):
        seen = trained.bundle.ensemble.view_scores(odd)
        assert np.isfinite(seen.total).all()
        assert seen.total.min() > np.median(usual.total)
