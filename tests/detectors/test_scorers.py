"""What holds for every scorer on every kind of data: autoencoder, ensemble, each baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from made import answers, as_array, of_kind

from ae_pipeline.data import Samples, Scorer
from ae_pipeline.detectors import baselines
from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.ensemble import Ensemble
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training import loop as train
from ae_pipeline.training.loop import FittedAutoencoder, Training, fit

KINDS: tuple[str, ...] = ("eeg", "mnist", "questionnaire")
NAMES = ("dense", "conv", "ensemble", *BASELINES)
EVERY = [pytest.param(name, kind, id=f"{name}-{kind}") for name in NAMES for kind in KINDS]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# in robust deviations, of which a normal sample has a few and each may be a twentieth of a view
CLOSE_DEVIATIONS = {"rtol": 1e-5, "atol": 1e-4}


def close(name: str) -> dict[str, float]:
    return CLOSE_DEVIATIONS if name == "ensemble" else CLOSE


def build(name: str, samples: Samples) -> Autoencoder:
    torch.manual_seed(0)
    architecture = "dense" if name == "ensemble" else name
    config = Model.model_validate(
        {"architecture": {"kind": architecture}, "objective": {"kind": "vanilla"}, "latent_dim": 4}
    )
    return Autoencoder(
        config,
        samples.layout,
        shape=samples.shape,
        columns=samples.columns,
        has_missing=samples.layout == "table",
    )


def fitted_on(name: str, samples: Samples) -> Scorer:
    scaler = Scaler.fit(samples)
    if name in BASELINES:
        return BASELINES[name].fit(samples, scaler, latent_dim=4, seed=0)
    training = Training(epochs=3, batch_size=16, device="cpu")
    fitted = fit(build(name, samples), samples, None, scaler, training)[0]
    return Ensemble.fit(fitted, samples, reference=None, seed=0) if name == "ensemble" else fitted


@cache
def trained(name: str, kind: str) -> tuple[Scorer, Samples]:
    """A scorer, and data of the same world that it has not seen."""
    return fitted_on(name, of_kind(kind, 80, seed=0)), of_kind(kind, 30, seed=1)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_a_rows_score_does_not_depend_on_the_other_rows(name: str, kind: str) -> None:
    scorer, samples = trained(name, kind)
    whole = scorer.score(samples)
    order = np.random.default_rng(0).permutation(len(samples))
    for rows in (order, order[:7], order[:1], np.repeat(order[:3], 5)):
        part = scorer.score(samples.take(rows))
        np.testing.assert_allclose(part.total, whole.total[rows], **close(name))
        np.testing.assert_allclose(part.by_entry, whole.by_entry[rows], **CLOSE)


@pytest.mark.parametrize(("name", "kind"), EVERY)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_do_not_depend_on_the_batch_size(
    name: str, kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, samples = trained(name, kind)
    expected = scorer.score(samples)
    monkeypatch.setattr(train, "SCORING_BATCH", size)
    monkeypatch.setattr(baselines, "CHUNK", size)
    scores = scorer.score(samples)
    np.testing.assert_allclose(scores.total, expected.total, **close(name))
    np.testing.assert_allclose(scores.by_entry, expected.by_entry, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_views_on_a_signal_score_as_plain_windows_do(name: str) -> None:
    scorer, samples = trained(name, "eeg")
    views, plain = scorer.score(samples), scorer.score(as_array(samples))
    np.testing.assert_allclose(views.total, plain.total, **close(name))
    np.testing.assert_allclose(views.by_entry, plain.by_entry, **CLOSE)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_a_scorer_is_rebuilt_from_its_state(name: str, kind: str) -> None:
    scorer, samples = trained(name, kind)
    state: dict[str, Any] = {k: array.copy() for k, array in scorer.state().items()}
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    again: Scorer
    if name in BASELINES:
        again = BASELINES[name](scorer.scaler, **state)  # type: ignore[attr-defined]
    elif isinstance(scorer, Ensemble):
        again = Ensemble.from_state(scorer.autoencoder, state)
    else:
        model = build(name, samples)
        scaler = Scaler(state.pop("scaler.center"), state.pop("scaler.scale"))
        model.load_state_dict({k: torch.from_numpy(array) for k, array in state.items()})
        again = FittedAutoencoder(model, scaler)
    np.testing.assert_array_equal(again.score(samples).total, scorer.score(samples).total)
    np.testing.assert_array_equal(again.score(samples).by_entry, scorer.score(samples).by_entry)


@pytest.mark.parametrize("name", NAMES)
def test_fitting_again_gives_the_same_scores_to_the_bit(name: str) -> None:
    scorer, samples = trained(name, "questionnaire")
    again = fitted_on(name, of_kind("questionnaire", 80, seed=0))
    np.testing.assert_array_equal(scorer.score(samples).total, again.score(samples).total)


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_under_a_missing_answer_changes_nothing(name: str) -> None:
    def elsewhere(samples: Samples) -> Samples:
        assert samples.mask is not None
        return replace(samples, values=np.where(samples.mask, samples.values, np.float32(3)))

    scorer, samples = trained(name, "questionnaire")
    expected = scorer.score(samples)
    scores = scorer.score(elsewhere(samples))
    np.testing.assert_array_equal(scores.total, expected.total)
    np.testing.assert_array_equal(scores.by_entry, expected.by_entry)
    again = fitted_on(name, elsewhere(of_kind("questionnaire", 80, seed=0)))
    np.testing.assert_array_equal(again.score(samples).total, expected.total)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_answer_deviates_from_nothing(name: str) -> None:
    scorer, samples = trained(name, "questionnaire")
    by_entry = scorer.score(samples).by_entry
    assert samples.mask is not None
    if by_entry.shape[1]:
        assert not by_entry[~samples.mask].any()


@pytest.mark.parametrize("name", NAMES)
def test_who_answered_nothing_still_gets_a_number(name: str) -> None:
    scorer, samples = trained(name, "questionnaire")
    nothing = replace(
        samples,
        values=np.zeros(samples.values.shape, np.float32),
        mask=np.zeros(samples.values.shape, bool),
    )
    assert np.isfinite(scorer.score(nothing).total).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_missing_is_the_same_with_and_without_a_mask(name: str) -> None:
    scorer, _ = trained(name, "questionnaire")
    plain = answers(30, missing=0.0, seed=1)
    full = replace(plain, mask=np.ones(plain.values.shape, bool))
    np.testing.assert_allclose(scorer.score(full).total, scorer.score(plain).total, rtol=1e-6)


def spoil_flat(values: np.ndarray) -> None:
    values[0, 0] = 0.0
    values[1] = 0.0
    values[2, 1] = 7.5


def spoil_gain(values: np.ndarray) -> None:
    values[0] *= 1e6
    values[1, 0] *= -1e6


def spoil_huge(values: np.ndarray) -> None:
    values[0] = 3e38
    values[1] *= 1e30
    values[2, 0, ::2] = -3e38


@pytest.mark.parametrize("spoil", [spoil_flat, spoil_gain, spoil_huge])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["array", "windows"])
def test_scores_are_finite_whatever_the_amplifier_wrote(
    name: str, spoil: Callable[[np.ndarray], None], form: str
) -> None:
    scorer, samples = trained(name, "eeg")
    values = np.asarray(samples.values[:])
    spoil(values)
    bad = replace(samples, values=values)
    if form == "windows":  # end to end on one signal, so that nothing overlaps
        n, channels, length = values.shape
        signal = np.moveaxis(values, 1, 2).reshape(n * length, channels)
        starts = np.arange(n) * length
        bad = replace(samples, values=replace(samples.values, signal=signal, starts=starts))
    scores = scorer.score(bad)
    assert np.isfinite(scores.total).all()
    assert np.isfinite(scores.by_entry).all()
    usual = scorer.score(samples).total
    np.testing.assert_allclose(scores.total[3:], usual[3:], **close(name))
    if spoil is not spoil_flat:
        # a forest sees only that something lies beyond its training data, not how far
        limit = np.median(usual) if name == "isolation_forest" else usual.max()
        assert scores.total[:2].min() > limit


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_that_was_flat_in_training_can_be_scored(name: str) -> None:
    samples = as_array(of_kind("eeg", 40))
    values = np.asarray(samples.values).copy()
    values[:, 1] = 0.0
    scorer = fitted_on(name, replace(samples, values=values))
    for other in (samples, replace(samples, values=values)):
        scores = scorer.score(other)
        assert np.isfinite(scores.total).all()
        assert np.isfinite(scores.by_entry).all()


@pytest.mark.parametrize("name", NAMES)
def test_constant_data_can_be_trained_on(name: str) -> None:
    samples = as_array(of_kind("eeg", 20))
    still = replace(samples, values=np.zeros(samples.values.shape, np.float32))
    scorer = fitted_on(name, still)
    assert np.isfinite(scorer.score(still).total).all()
    assert np.isfinite(scorer.score(samples).total).all()


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_entries_are_channels_or_items_or_nothing(name: str, kind: str) -> None:
    scorer, samples = trained(name, kind)
    scores = scorer.score(samples)
    assert scores.total.shape == (len(samples),)
    assert scores.total.dtype == np.float64
    cannot_say = kind == "mnist" or name == "isolation_forest"
    assert scores.by_entry.shape == (len(samples), 0 if cannot_say else samples.shape[0])


@pytest.mark.parametrize("name", ["dense", "conv", "ensemble", "pca", "robust_z"])
def test_a_channel_that_broke_is_the_one_that_is_named(name: str) -> None:
    scorer, samples = trained(name, "eeg")
    usual = scorer.score(samples)
    values = np.asarray(samples.values[:])
    rng = np.random.default_rng(0)
    rows = np.arange(5)
    for row in rows:
        channel = row % values.shape[1]
        values[row, channel] = values[row, channel].std() * 30 * rng.normal(size=values.shape[2])
    scores = scorer.score(replace(samples, values=values))
    assert set(np.argsort(scores.total)[-5:]) == set(rows)
    # each channel is compared with what it usually is: some are always hard
    excess = scores.by_entry / np.median(usual.by_entry, 0)
    np.testing.assert_array_equal(excess[rows].argmax(1), rows % values.shape[1])
