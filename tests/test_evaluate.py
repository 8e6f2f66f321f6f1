from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from ae_pipeline.data import InputError
from ae_pipeline.evaluate import evaluate, label_windows, read_truth


def scored(n_recordings: int = 4, n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Windows of 2 s, one every 0.5 s."""
    rng = np.random.default_rng(seed)
    frames = [
        pd.DataFrame(
            {
                "recording": f"r{i}",
                "onset_s": np.arange(n) * 0.5,
                "duration_s": 2.0,
                "score": rng.normal(size=n),
                "score_pca": np.round(rng.normal(size=n), 1),
                "flagged": False,
            }
        )
        for i in range(n_recordings)
    ]
    return pd.concat(frames, ignore_index=True)


def events(*rows: tuple[str, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["recording", "onset", "duration"])
    return frame.assign(trial_type="anomaly/pop")


def people(n: int = 50) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    ids = [f"{i:03d}" for i in range(n)]
    scores = pd.DataFrame({"recording": ids, "score": rng.normal(size=n), "flagged": False})
    scores["onset_s"] = scores["duration_s"] = np.nan
    return scores, pd.DataFrame({"id": ids, "label": rng.integers(0, 2, n).astype(float)})


# ------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (2.0, 2.0, 1),  # the window itself
        (2.5, 2.0, 1),  # three quarters of both
        (2.51, 2.0, np.nan),  # less
        (1.5, 2.0, 1),
        (1.4, 2.0, np.nan),
        (0.0, 60.0, 1),  # a long event holds the window
        (2.9, 0.2, 1),  # a short event inside
        (3.85, 0.2, 1),  # three quarters of a short event
        (3.9, 0.2, np.nan),
        (4.0, 1.0, 0),  # touches without sharing a moment
        (0.0, 2.0, 0),
        (0.5, 3.0, 1),  # 1.5 s of the window's 2 s
        (3.0, 0.0, 1),  # an instant inside
        (1.0, 0.0, 0),
        (2.1 + 0.2, 0.4, 1),  # sums of rounded numbers
    ],
)
def test_a_window_is_positive_from_three_quarters_of_the_shorter(
    onset: float, duration: float, expected: float
) -> None:
    window = pd.DataFrame({"recording": ["r"], "onset_s": [2.0], "duration_s": [2.0]})
    label = label_windows(window, events(("r", onset, duration)))
    assert label == pytest.approx([expected], nan_ok=True)


def test_one_event_that_fills_a_window_is_enough_in_any_order() -> None:
    window = pd.DataFrame({"recording": ["r"], "onset_s": [0.0], "duration_s": [2.0]})
    inside, partly = ("r", 0.5, 0.2), ("r", 1.8, 2.0)
    assert label_windows(window, events(inside, partly)).tolist() == [1]
    assert label_windows(window, events(partly, inside)).tolist() == [1]


def test_events_count_in_their_own_recording_only() -> None:
    frame = scored(2, 20)
    label = label_windows(frame, events(("r1", 4.0, 1.0), ("r9", 0.0, 9.0)))
    assert (label[:20] == 0).all()
    assert np.nansum(label[20:]) == 3  # the windows from 3, 3.5 and 4 s hold all of 4-5 s
    assert np.isnan(label[20:]).sum() == 2  # those from 2.5 and 4.5 s hold half of it


# -------------------------------------------------------------------------------- areas


def test_areas_are_those_of_scikit_learn() -> None:
    frame = scored()
    truth = events(("r0", 3.0, 4.0), ("r1", 10.0, 0.3), ("r3", 20.0, 6.0))
    label = label_windows(frame, truth)
    kept = np.isfinite(label)
    result = evaluate(frame, truth)
    assert result["positives"] == (label == 1).sum()
    assert result["negatives"] == (label == 0).sum()
    assert result["left_out"] == np.isnan(label).sum() > 0
    for name in ("score", "score_pca"):
        area = result["scorers"][name]
        assert area["roc_area"] == pytest.approx(roc_auc_score(label[kept], frame[name][kept]))
        expected = average_precision_score(label[kept], frame[name][kept])
        assert area["average_precision"] == pytest.approx(expected)
        low, high = area["interval"]
        assert 0 <= low < area["roc_area"] < high <= 1


def naive_interval(y: NDArray[Any], values: NDArray[Any], groups: NDArray[Any]) -> list[float]:
    rng, names, areas = np.random.default_rng(0), np.unique(groups), []
    for _ in range(200):
        drawn = names[rng.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(groups == name) for name in drawn])
        if 0 < y[rows].sum() < len(rows):
            areas.append(roc_auc_score(y[rows], values[rows]))
    return [float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))]


def test_intervals_draw_whole_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ae_pipeline.evaluate.N_RESAMPLES", 200)
    frame = scored(3, 24)
    truth = events(("r0", 2.0, 2.0), ("r2", 6.0, 3.0))
    label = label_windows(frame, truth)
    kept = np.isfinite(label)
    groups = frame["recording"].to_numpy(object)[kept]
    expected = naive_interval(label[kept], frame["score_pca"].to_numpy()[kept], groups)
    assert evaluate(frame, truth)["scorers"]["score_pca"]["interval"] == pytest.approx(expected)


def test_two_recordings_have_no_interval() -> None:
    result = evaluate(scored(2), events(("r0", 3.0, 2.0)))
    assert result["scorers"]["score"]["interval"] is None


def test_found_events_are_those_that_a_flagged_window_touches() -> None:
    frame = scored(2)
    frame.loc[[10, 70], "flagged"] = True  # r0 from 5 to 7 s, r1 from 5 to 7 s
    truth = events(("r0", 6.5, 3.0), ("r0", 7.5, 1.0), ("r1", 0.0, 5.5), ("r7", 5.0, 2.0))
    result = evaluate(frame, truth)
    assert (result["found"], result["events"]) == (2, 3)  # r7 was not scored


def test_rows_are_labelled_by_their_id() -> None:
    scores, truth = people()
    result = evaluate(scores, truth.sample(frac=1, random_state=0).iloc[:40])
    known = truth.sample(frac=1, random_state=0).iloc[:40].set_index("id")["label"]
    y = scores["recording"].map(known)
    expected = roc_auc_score(y[y.notna()], scores["score"][y.notna()])
    assert result["scorers"]["score"]["roc_area"] == pytest.approx(expected)
    assert (result["left_out"], "found" in result) == (10, False)


def test_a_perfect_detector_has_an_area_of_one() -> None:
    scores, truth = people()
    scores["score"] = truth["label"]
    area = evaluate(scores, truth)["scorers"]["score"]
    assert area == {"roc_area": 1.0, "interval": [1.0, 1.0], "average_precision": 1.0}


def test_many_rows_and_events_are_quick() -> None:
    frame = scored(50, 2000)
    truth = events(*((f"r{i % 50}", 2.0 * i % 900, 1.0) for i in range(2000)))
    started = time.process_time()
    evaluate(frame, truth)
    assert time.process_time() - started < 12


# ------------------------------------------------------------------------------ refusals


def refusal(scores: pd.DataFrame, truth: pd.DataFrame) -> str:
    with pytest.raises(InputError) as caught:
        evaluate(scores, truth)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_truth_of_another_data_set_is_refused() -> None:
    told = refusal(scored(), events(("S001", 1.0, 1.0)))
    assert "share no recording (truth has 'S001', scores have 'r0')" in told
    scores, truth = people()
    assert "share no id" in refusal(scores, truth.assign(id="x" + truth["id"]))


@pytest.mark.parametrize("rows", [[("r0", 3000.0, 500.0), ("r1", 9000.0, 500.0)], [("r0", 40, 2)]])
def test_times_in_another_unit_are_refused(rows: list[tuple[str, float, float]]) -> None:
    assert "milliseconds or samples?" in refusal(scored(), events(*rows))


def test_one_class_alone_is_refused() -> None:
    assert "0 of 239 windows" in refusal(scored(), events(("r0", 31.4, 2.0)))
    scores, truth = people()
    assert "50 of 50" in refusal(scores, truth.assign(label=1.0))


def test_events_for_rows_of_a_table_are_refused() -> None:
    scores, _ = people()
    assert "expected id, label" in refusal(scores, events(("001", 1.0, 1.0)))


def test_a_table_that_holds_no_scores_is_refused() -> None:
    assert "lack columns" in refusal(pd.DataFrame({"a": [1]}), events(("r0", 1.0, 1.0)))


# ------------------------------------------------------------------------------- reading


def test_truth_is_read_from_tsv_and_csv(tmp_path: Path) -> None:
    tsv, csv = tmp_path / "truth.tsv", tmp_path / "labels.csv"
    tsv.write_text(
        "recording\tonset\tduration\ttrial_type\tchannel\n007\t1.5\t2\tanomaly/pop\tFz\n"
    )
    csv.write_text("\ufeffid,label\n007,1\n008,0\n")
    assert read_truth(tsv)[["recording", "onset", "duration"]].iloc[0].tolist() == ["007", 1.5, 2]
    assert read_truth(csv)["id"].tolist() == ["007", "008"]
    csv.write_text("id,label\n1,True\n2,False\n")
    assert read_truth(csv)["label"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tsv", "", "not readable"),
        ("a.csv", "id;label\n1;0\n", "has columns id;label"),
        ("a.csv", "recording,onset\nr,1\n", "expected recording, onset, duration"),
        ("a.csv", "id,label\n", "has no rows"),
        ("a.csv", "id,label\n1,0\n2,careless\n", "label of row 3 is careless; expected 0"),
        ("a.csv", "id,label\n1,0\n2,3\n", "label of row 3 is 3; expected 0"),
        ("a.csv", "id,label\n1,0\n1,1\n", "the same id stands with label 0 and 1"),
        (
            "a.tsv",
            "recording\tonset\tduration\ttrial_type\nr\tearly\t1\tx\n",
            "onset of row 2 is early; expected seconds",
        ),
        ("a.tsv", "recording\tonset\tduration\ttrial_type\nr\t1\tn/a\tx\n", "duration of row 2"),
        ("a.tsv", "recording\tonset\tduration\ttrial_type\nr\t1\t-1\tx\n", "is -1; expected"),
    ],
)
def test_an_unusable_truth_file_is_named(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_truth(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_truth_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such truth file"):
        read_truth(tmp_path / "truth.tsv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not readable"):
        read_truth(tmp_path / "b.csv")
