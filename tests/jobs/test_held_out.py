from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy import stats

from ae_pipeline.detectors.conformal import conformal_p
from ae_pipeline.jobs.fit import train_metrics
from ae_pipeline.jobs.train import calibration_units
from ae_pipeline.scoring.judge import judge_held_out
from ae_pipeline.stats import mean_interval
from ae_pipeline.training.history import History


def judged(trained: tiny.Trained) -> tuple[pd.DataFrame, np.ndarray]:
    chosen = (trained.frame["part"] == "calibration").to_numpy()
    return judge_held_out(
        trained.bundle, trained.frame, by_entry=trained.by_entry, calibration=chosen
    ), chosen


# ------------------------------------------------------------------------------- judging


def test_calibration_recordings_are_judged_by_the_others() -> None:
    trained = tiny.eeg()
    frame, chosen = judged(trained)
    own = frame[chosen]
    assert own["recording"].nunique() == 4
    for name, rows in own.groupby("recording"):
        others = own.loc[own["recording"] != name, "score"].to_numpy()
        assert rows["p_value"].to_numpy() == pytest.approx(
            conformal_p(rows["score"].to_numpy(), others)
        )
        unit = trained.calibration.recording[np.flatnonzero(own["recording"] == name)[0]]
        limit = trained.calibration.event_threshold(20, without=int(unit))
        assert rows["flagged"].tolist() == (rows["score"] > limit).tolist()


def test_test_recordings_are_judged_by_all_calibration_recordings() -> None:
    trained = tiny.eeg()
    frame, chosen = judged(trained)
    test = frame[~chosen]
    assert (test["part"] == "test").all()
    expected = conformal_p(test["score"].to_numpy(), trained.calibration.scores["score"])
    assert test["p_value"].to_numpy() == pytest.approx(expected)
    assert test["flagged"].tolist() == (test["score"] > trained.bundle.info.threshold).tolist()
    assert frame["q_value"].isna().all()  # windows of one recording depend on each other
    assert set(frame["top_entry"]) <= set(tiny.CHANNELS)


def test_rows_get_q_values_within_their_part() -> None:
    trained = tiny.table()
    frame, chosen = judged(trained)
    own, rest = frame[chosen], frame[~chosen]
    scores = own["score"].to_numpy()
    expected = [conformal_p(scores[[i]], np.delete(scores, i))[0] for i in range(len(scores))]
    assert own["p_value"].to_numpy() == pytest.approx(expected)
    for part in (own, rest):
        expected = stats.false_discovery_control(part["p_value"])
        assert part["q_value"].to_numpy() == pytest.approx(expected)
    assert frame["flagged"].tolist() == (frame["q_value"] <= 0.05).tolist()


def test_the_given_frame_stays_as_it_is() -> None:
    before = tiny.table().frame.copy()
    judged(tiny.table())
    pd.testing.assert_frame_equal(before, tiny.table().frame)


# ---------------------------------------------------------------------------- the bundle


def test_a_bundle_says_what_it_rests_on() -> None:
    info, division = tiny.eeg().bundle.info, tiny.eeg().division
    assert info.training["parts"] == {
        part: len(division.rows(part)) for part in ("train", "validation", "calibration", "test")
    }
    assert (info.unit, info.exchangeable_unit, info.entries) == ("uV", "subject", tiny.CHANNELS)
    assert info.preprocess is not None
    assert (info.sfreq_hz, info.preprocess.sfreq_hz) == (100, 100)
    assert info.training["epochs"] == 2
    assert "path" not in info.model_dump()["source"]


def test_only_windows_have_a_threshold() -> None:
    eeg = tiny.eeg()
    assert eeg.bundle.info.threshold == eeg.calibration.event_threshold(20)
    assert eeg.calibration.false_alarms_per_hour(eeg.bundle.info.threshold) <= 20
    assert tiny.table().bundle.info.threshold is None
    assert tiny.pictures().bundle.info.threshold is None


def test_the_order_of_the_inputs_does_not_change_the_training_digest() -> None:
    from ae_pipeline.jobs.fit import Fitted, Prepared, make_bundle

    trained = tiny.eeg()
    digests = dict(reversed(trained.data.digests.items()))
    data = replace(trained.data, digests=digests)
    prepared = Prepared(trained.study, data, trained.division, known=None, key="")
    fitted = Fitted(trained.bundle.ensemble, trained.baselines, trained.chance, trained.history)
    again = make_bundle(prepared, fitted, judge=trained.bundle.by_calibration)
    assert again.info.training_digest == trained.bundle.info.training_digest


# --------------------------------------------------------------------------- the metrics


def test_intervals_are_those_of_students_t() -> None:
    x = np.random.default_rng(0).normal(1, 2, 17)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert mean_interval(x) == pytest.approx([expected.low, expected.high])
    assert mean_interval(x[:2]) is None


def history() -> History:
    rows = [
        {"epoch": 1, "train_loss": 3.0, "validation_loss": 2.0, "seconds": 1.5},
        {"epoch": 2, "train_loss": 2.5, "validation_loss": 1.5, "seconds": 1.0},
        {"epoch": 3, "train_loss": 2.0, "validation_loss": 1.7, "seconds": 1.0},
    ]
    return History(rows=list(rows), best_epoch=2, best_loss=1.5)


def held_out(part: str = "test") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "part": [part] * 6,
            "subject": list("aabbcc"),
            "recording": list("uvwxyz"),
            "score": [-5.0, 0.0, 7.0, 1.0, 50.0, 2.0],  # of views: no loss
            "score_autoencoder": [1.0, 2.0, 3.0, 1.0, 2.0, 2.0],
            "pca_loss": [2.0, 3.0, 4.1, 2.1, 3.2, 3.0],
            "chance_loss": [4.0, 4.0, 4.0, 4.0, 4.0, 4.0],
            "n_observed": [10, 10, 10, 10, 10, 40],
        }
    )


def test_losses_are_means_per_entry_at_the_saved_epoch() -> None:
    metrics = train_metrics(7, history(), frame=held_out(), windowed=False)
    assert (metrics["parameters"], metrics["epochs"], metrics["best_epoch"]) == (7, 3, 2)
    assert (metrics["train_loss"], metrics["validation_loss"]) == (2.5, 1.5)
    assert metrics["seconds"] == pytest.approx(3.5)
    # sum of the losses of all entries over their number, not a mean of means
    assert metrics["test_loss"] == pytest.approx((10 * 9 + 40 * 2) / 90)
    expected = (10 * (2 + 3 + 4.1 + 2.1 + 3.2) + 40 * 3) / 90
    assert metrics["baselines"]["pca"]["test_loss"] == pytest.approx(expected)
    assert metrics["baselines"]["chance"]["test_loss"] == pytest.approx(4)
    assert metrics["explained_share"] == pytest.approx(1 - (10 * 9 + 40 * 2) / 90 / 4)


def test_a_gain_is_over_the_better_of_the_linear_model_and_chance() -> None:
    worse = held_out().assign(pca_loss=9.0, chance_loss=1.5)  # than ln of the number of answers
    metrics = train_metrics(7, history(), frame=worse, windowed=False)
    assert metrics["best_baseline"] == "chance"
    assert metrics["beats_baselines"]["value"] is False
    assert metrics["beats_baselines"]["difference"] == pytest.approx(1.5 - 11 / 6)
    assert metrics["explained_share"] < 0


def test_a_win_is_over_subjects_where_windows_depend_on_each_other() -> None:
    over_subjects = train_metrics(7, history(), frame=held_out(), windowed=True)["beats_baselines"]
    gains = np.array([1.0, 1.1, 1.1])
    assert over_subjects["difference"] == pytest.approx(gains.mean())
    assert over_subjects["interval"] == pytest.approx(mean_interval(gains))
    assert over_subjects["value"] is True
    over_rows = train_metrics(7, history(), frame=held_out(), windowed=False)["beats_baselines"]
    assert over_rows["interval"] == pytest.approx(mean_interval(np.array([1, 1, 1.1, 1.1, 1.2, 1])))


def test_what_cannot_be_known_is_null() -> None:
    frame = held_out().iloc[:4]  # two subjects
    metrics = train_metrics(7, history(), frame=frame, windowed=True)
    assert metrics["beats_baselines"]["value"] is None
    assert metrics["beats_baselines"]["interval"] is None
    json.dumps(metrics, allow_nan=False)


def test_without_a_test_part_the_subjects_left_out_are_the_test() -> None:
    metrics = train_metrics(7, history(), frame=held_out("calibration"), windowed=True)
    assert metrics["test_units"] == 3
    assert metrics["test_loss"] == pytest.approx((10 * 9 + 40 * 2) / 90)


def test_metrics_of_real_models_are_plain_numbers() -> None:
    for trained in (tiny.eeg(), tiny.table(), tiny.pictures()):
        metrics = train_metrics(
            5, trained.history, frame=trained.frame, windowed=trained.study.kind == "eeg"
        )
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
        test = trained.frame[trained.frame["part"] == "test"]
        assert metrics["test_rows"] == len(test)
        if trained.study.kind == "mnist":
            assert metrics["test_loss"] == pytest.approx(test["score_autoencoder"].mean())


@pytest.mark.parametrize("kind", ["eeg", "table", "pictures"])
def test_units_that_will_calibrate_are_counted_before_training(kind: str) -> None:
    trained = getattr(tiny, kind)()
    planned = calibration_units(trained.data, trained.division)
    assert planned == trained.calibration.n_units
    assert calibration_units(trained.data, trained.division, trim=0.49) == planned - int(
        0.49 * planned
    )
    if kind == "eeg":  # recordings with a bad channel do not calibrate
        rows = trained.division.rows("calibration")
        names = trained.data.samples.meta["recording"].astype(str).iloc[rows]
        data = replace(trained.data, technical=frozenset([names.iloc[0]]))
        assert calibration_units(data, trained.division) == planned - 1
