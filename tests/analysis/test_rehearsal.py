"""Planted deviations: what they change, what they leave, and what is concluded from them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import made
import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ae_pipeline.analysis.rehearsal import (
    ALTERATIONS,
    SIMPLEST_FIRST,
    altered,
    rehearse,
    summarise,
)
from ae_pipeline.data import Column, Samples
from ae_pipeline.kinds.eeg import EVENTS, with_events
from ae_pipeline.report.findings.training import rehearsal_sentence
from ae_pipeline.scoring.judge import raw_scores

BAND_HZ = (2.0, 20.0)


def copies_of(samples: Samples, band_hz: tuple[float, float] = BAND_HZ, seed: int = 0) -> Samples:
    alter = ALTERATIONS[samples.layout]
    if samples.kind == "eeg":
        alter = partial(with_events, band_hz=band_hz)
    return altered(samples, alter, rng=np.random.default_rng(seed))


def values_of(samples: Samples) -> np.ndarray:
    return np.asarray(samples.values[:])


@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_every_copy_differs_and_no_original_does(kind: str) -> None:
    samples = made.of_kind(kind, 60)
    if kind == "mnist":  # no quarter is empty
        samples = replace(samples, values=np.maximum(samples.values, np.float32(0.1)))
    before = values_of(samples).copy()
    copies = copies_of(samples)
    changed = (values_of(copies) != before).reshape(60, -1).any(1)
    assert changed.all()
    np.testing.assert_array_equal(values_of(samples), before)
    assert copies.values.dtype == np.float32
    assert np.isfinite(copies.values).all()
    pd.testing.assert_frame_equal(copies.meta, samples.meta)
    assert np.array_equal(values_of(copies), values_of(copies_of(samples)))  # same seed
    assert not np.array_equal(values_of(copies), values_of(copies_of(samples, seed=1)))


# --------------------------------------------------------------------------------- EEG


def test_events_lie_in_the_middle_of_a_window_on_some_of_its_channels() -> None:
    samples = made.eeg(54, channels=8, length=128)
    difference = values_of(copies_of(samples)) - values_of(samples)
    assert not difference[:, :, :12].any()
    assert not difference[:, :, 116:].any()
    n_channels = difference.any(2).sum(1)
    assert n_channels.min() >= 1
    assert n_channels.max() <= 2  # a quarter of them


def test_what_is_added_stays_in_the_band_of_the_cleaned_signal() -> None:
    samples = made.eeg(90, channels=4, length=256)
    difference = values_of(copies_of(samples)) - values_of(samples)
    power = np.abs(np.fft.rfft(difference, axis=2)) ** 2
    freqs_hz = np.fft.rfftfreq(256, 1 / made.SFREQ_HZ)
    outside = (freqs_hz < BAND_HZ[0] / 2) | (freqs_hz > 1.4 * BAND_HZ[1])
    share = power[:, :, outside].sum((1, 2)) / power.sum((1, 2))
    for i, kind in enumerate(EVENTS):
        if kind not in ("flat", "clipped"):  # these change the signal that is there
            assert share[i :: len(EVENTS)].max() < 0.05, kind


@pytest.mark.parametrize("band_hz", [(0.0, 30.4), (12.0, 28.0), (0.5, 2.5), (25.0, 28.0)])
def test_any_band_that_a_study_may_clean_to_can_be_rehearsed(band_hz: tuple[float, float]) -> None:
    samples = made.eeg(36, length=128)
    assert (values_of(copies_of(samples, band_hz)) != values_of(samples)).any((1, 2)).all()


def test_a_channel_that_hardly_moves_takes_no_event() -> None:
    samples = made.as_array(made.eeg(30, channels=3, length=64))
    values = values_of(samples).copy()
    values[:, 0] = 5  # flat
    values[:, 1] = 5
    values[:, 1, 30] = 80  # flat but for one sample: no deviation to measure an event by
    values[0] = 5
    samples = replace(samples, values=values)
    changed = (values_of(copies_of(samples)) != values).any(2)
    assert not changed[:, :2].any()
    assert changed[1:, 2].all()


# ------------------------------------------------------------------------------ images


def test_images_are_turned_inverted_noisy_or_lose_a_quarter() -> None:
    samples = made.digits(80, size=12)
    before, after = values_of(samples), values_of(copies_of(samples))
    assert after.min() >= 0
    assert after.max() <= 1
    np.testing.assert_array_equal(after[::4], np.rot90(before[::4], axes=(1, 2)))
    np.testing.assert_allclose(after[1::4], 1 - before[1::4], atol=1e-6)
    spread = (after[2::4] - before[2::4]).std((1, 2))
    assert spread.min() > 0.1
    for row in range(3, 80, 4):
        lost = after[row] != before[row]
        assert not after[row][lost].any()
        where = np.argwhere(lost)
        quarters = {(r // 6, c // 6) for r, c in where}
        assert len(quarters) <= 1


# ------------------------------------------------------------------------------ tables


def test_answers_stay_possible_and_missing_ones_stay_missing() -> None:
    samples = made.answers(200, missing=0.2)
    continuous = [i for i, column in enumerate(samples.columns) if not column.levels]
    copies = copies_of(samples)
    assert samples.mask is not None
    np.testing.assert_array_equal(copies.mask, samples.mask)
    values = values_of(copies)
    assert not values[~samples.mask].any()
    for i, column in enumerate(samples.columns):
        given = values[samples.mask[:, i], i]
        own = values_of(samples)[samples.mask[:, i], i]
        # of an item without levels somebody has given that answer; 0 stands for none
        assert set(given) <= set(own if i in continuous else column.levels)


def test_careless_answers_are_of_four_kinds() -> None:
    levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    columns = tuple(Column(f"q{i}", "ordinal", levels) for i in range(20))
    whole = made.answers(40, missing=0)
    values = np.full((40, 20), 3, np.float32)
    samples = replace(whole, values=values, columns=columns)
    after = values_of(copies_of(samples))
    assert all(len(np.unique(row)) > 2 for row in after[::4])  # at random
    assert all(len(np.unique(row)) == 1 for row in after[1::4])  # one answer throughout
    assert all(set(row[::2]) == {1} and set(row[1::2]) == {5} for row in after[2::4])
    assert (after[3::4, :10] == 3).all()  # random from the middle on
    assert all(len(np.unique(row[10:])) > 2 for row in after[3::4])


# --------------------------------------------------------------------------- rehearsal


def blank_background(n: int) -> Samples:
    """One bright square: three quarters of each image can be erased without a trace."""
    samples = tiny.images(n, seed=3)
    return replace(samples, values=np.where(samples.values > 0.5, samples.values, np.float32(0)))


def test_a_copy_like_its_original_is_left_out_with_it() -> None:
    bundle = tiny.pictures().bundle
    samples = blank_background(80)
    same = (values_of(copies_of(samples)) == samples.values).all((1, 2))
    assert 8 <= same.sum() <= 20  # of the twenty that lose a quarter
    frame = rehearse(
        bundle.ensemble,
        bundle.baselines,
        samples=samples,
        alter=ALTERATIONS[samples.layout],
        seed=0,
    )
    n = frame["altered"].sum()
    assert 60 <= n < 80
    assert len(frame) == 2 * n
    originals, copies = frame[~frame["altered"]], frame[frame["altered"]]
    assert list(originals["unit"]) == list(copies["unit"])
    assert (originals["pca"].to_numpy() != copies["pca"].to_numpy()).all()


def test_originals_are_scored_as_they_are() -> None:
    trained = tiny.table()
    bundle = trained.bundle
    samples = tiny.answers(50, seed=8)
    frame = rehearse(
        bundle.ensemble,
        bundle.baselines,
        samples=samples,
        alter=ALTERATIONS[samples.layout],
        seed=0,
    )
    own = frame[~frame["altered"]].set_index("unit")
    plain, _, _ = raw_scores(bundle.ensemble, bundle.baselines, samples=samples)
    plain = plain.set_index("recording").loc[own.index]
    np.testing.assert_allclose(own["ensemble"], plain["score"], rtol=1e-5)
    for name in SIMPLEST_FIRST[:-1]:
        np.testing.assert_allclose(own[name], plain[f"score_{name}"], rtol=1e-5)


def test_units_are_subjects_of_eeg_or_recordings_of_one_subject() -> None:
    trained = tiny.eeg()
    bundle, samples = trained.bundle, trained.data.samples
    alter = partial(with_events, band_hz=(1.0, 40.0))
    rehearsed = partial(
        rehearse, bundle.ensemble, bundle.baselines, samples=samples, alter=alter, seed=0
    )
    by_subject = rehearsed()
    assert set(by_subject["unit"]) <= set(samples.meta["subject"])
    by_recording = rehearsed(by_recording=True)
    assert set(by_recording["unit"]) <= set(samples.meta["recording"])
    assert len(by_subject) == 600
    summary = summarise(by_subject)
    assert summary["rows"] == 300
    assert summary["units"] == by_subject["unit"].nunique()


# --------------------------------------------------------------------------- summaries


def scored(n_units: int, seed: int = 0, **gains: float) -> pd.DataFrame:
    """One original and one copy a unit; a scorer lifts copies by its gain over noise of 1.

    Scorers of equal gain see the same noise and differ by a hundredth of it.
    """
    rng = np.random.default_rng(seed)
    copy = np.arange(2 * n_units) >= n_units
    shared = rng.normal(size=2 * n_units)
    columns = {
        name: gains.get(name, 0.0) * copy + shared + 0.01 * rng.normal(size=2 * n_units)
        for name in SIMPLEST_FIRST
    }
    units = [f"u{i}" for i in range(n_units)] * 2
    return pd.DataFrame({"unit": units, "altered": copy, **columns})


def test_areas_are_those_of_scikit_learn() -> None:
    frame = scored(200, robust_z=0.5, pca=1.0, autoencoder=-1.0, ensemble=3.0)
    frame["pca"] = frame["pca"].round()  # ties
    frame["isolation_forest"] = 0.5  # nothing but a tie
    summary = summarise(frame)
    for name, values in summary["scorers"].items():
        assert values["roc_area"] == pytest.approx(roc_auc_score(frame["altered"], frame[name]))
        low, high = values["interval"]
        assert low <= values["roc_area"] <= high
    assert summary["scorers"]["isolation_forest"]["roc_area"] == 0.5
    assert summary["rows"] == summary["units"] == 200


def test_the_interval_is_over_units_not_rows() -> None:
    frame = scored(30, ensemble=1.5, pca=1.0)
    often = pd.concat([frame] * 50, ignore_index=True)  # fifty equal windows of each subject
    once, repeated = summarise(frame), summarise(often)
    for name in SIMPLEST_FIRST:
        np.testing.assert_allclose(
            once["scorers"][name]["interval"], repeated["scorers"][name]["interval"]
        )
    beats = [summary["beats_baselines"]["ensemble"] for summary in (once, repeated)]
    np.testing.assert_allclose(beats[0]["interval"], beats[1]["interval"], atol=1e-12)
    own = often.assign(unit=[f"u{i}" for i in range(len(often) // 2)] * 2)
    low, high = summarise(own)["scorers"]["ensemble"]["interval"]
    wide = np.ptp(once["scorers"]["ensemble"]["interval"])
    assert high - low < wide / 4


def test_the_interval_holds_what_it_promises() -> None:
    truth = norm.cdf(1 / np.sqrt(2))  # two normal distributions one deviation apart
    held = 0
    for seed in range(60):
        low, high = summarise(scored(60, seed, ensemble=1.0))["scorers"]["ensemble"]["interval"]
        held += low <= truth <= high
    assert held >= 52  # 95% of 60 is 57; fewer than 52 has a probability of 0.02


def test_fewer_than_three_units_have_no_interval_and_no_verdict() -> None:
    frame = pd.concat([scored(2, seed, ensemble=5.0) for seed in range(20)], ignore_index=True)
    summary = summarise(frame)
    beats = summary["beats_baselines"]["ensemble"]
    assert beats["value"] is None
    assert beats["interval"] is None
    assert beats["difference"] > 0.4
    assert summary["scorers"]["ensemble"]["interval"] is None
    assert summary["recommended"] == "ensemble"  # still: nothing comes within a hundredth of it
    assert "too few subjects" in rehearsal_sentence(summary)


@pytest.mark.parametrize(
    ("gains", "recommended"),
    [
        ({}, "robust_z"),  # nobody finds anything: the simplest
        (dict.fromkeys(SIMPLEST_FIRST, 2.0), "robust_z"),
        ({"pca": 2.0, "isolation_forest": 2.0, "autoencoder": 2.0, "ensemble": 2.0}, "pca"),
        ({"isolation_forest": 2.0, "ensemble": 2.0}, "isolation_forest"),
        ({"robust_z": 1.0, "pca": 1.0, "autoencoder": 3.0, "ensemble": 3.0}, "autoencoder"),
        ({"robust_z": 2.0, "pca": 2.0, "autoencoder": 2.0, "ensemble": 4.0}, "ensemble"),
        ({"robust_z": 4.0, "ensemble": 2.0}, "robust_z"),
    ],
)
def test_the_simplest_that_does_not_lose_is_recommended(
    gains: dict[str, float], recommended: str
) -> None:
    summary = summarise(scored(300, **gains))
    assert summary["recommended"] == recommended
    names = {"pca": "PCA", "robust_z": "robust z-score", "isolation_forest": "Isolation Forest"}
    shown = names.get(recommended, f"the {recommended}")
    assert rehearsal_sentence(summary).endswith(f"does not lose: {shown}.")


def test_beating_the_baselines_means_beating_the_best_of_them_beyond_doubt() -> None:
    summary = summarise(scored(300, robust_z=1.0, pca=2.0, autoencoder=1.5, ensemble=3.0))
    ensemble, autoencoder = (summary["beats_baselines"][n] for n in ("ensemble", "autoencoder"))
    assert ensemble["against"] == autoencoder["against"] == "pca"
    assert ensemble["value"] is True
    assert ensemble["interval"][0] > 0
    assert autoencoder["value"] is False
    assert autoencoder["interval"][1] < 0
    areas = {name: values["roc_area"] for name, values in summary["scorers"].items()}
    assert ensemble["difference"] == pytest.approx(areas["ensemble"] - areas["pca"])
    equal = summarise(scored(300, pca=2.0, ensemble=2.0))["beats_baselines"]["ensemble"]
    assert equal["value"] is False
    assert equal["interval"][0] <= 0 <= equal["interval"][1]
