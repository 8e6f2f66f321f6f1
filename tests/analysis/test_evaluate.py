from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring

from ae_pipeline.analysis.evaluate import evaluate, named_events, read_truth
from ae_pipeline.data import InputError


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


def label_windows(scores: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """1 where an event shares three quarters of the shorter, 0 where none touches, else NaN."""
    labels = []
    for row in scores.itertuples():
        shares = [
            (
                min(row.onset_s + row.duration_s, event.onset + max(event.duration, 1e-3))
                - max(row.onset_s, event.onset)
            )
            / min(row.duration_s, max(event.duration, 1e-3))
            for event in truth.itertuples()
            if event.recording == row.recording
        ]
        most = max(shares, default=0)
        labels.append(1 if most >= 0.75 - 1e-6 else 0 if most <= 0 else np.nan)
    return np.array(labels, float)


def counted(window: pd.DataFrame, truth: pd.DataFrame) -> list[int]:
    """Positives, negatives and left out windows, beside one that is surely each of the first."""
    sure = pd.DataFrame({"recording": ["yes", "no"], "onset_s": 0.0, "duration_s": 2.0})
    frame = pd.concat([window, sure], ignore_index=True).assign(score=0.0, flagged=False)
    frame["score"] = np.arange(len(frame), dtype=float)
    everything = pd.concat([truth, events(("yes", 0.0, 2.0))], ignore_index=True)
    found = evaluate(frame, everything)
    return [found["positives"] - 1, found["negatives"] - 1, found["left_out"]]


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
    clear = {"recording": ["r"], "onset_s": [62.0], "duration_s": [2.0]}  # where r ends
    given = pd.concat([window, pd.DataFrame(clear)], ignore_index=True)
    truth = events(("r", onset, duration))
    counts = [int(expected == 1), int(expected == 0) + 1, int(np.isnan(expected))]
    assert counted(given, truth) == counts
    assert label_windows(window, truth) == pytest.approx([expected], nan_ok=True)


def test_one_event_that_fills_a_window_is_enough_in_any_order() -> None:
    window = pd.DataFrame({"recording": ["r"], "onset_s": [0.0], "duration_s": [2.0]})
    inside, partly = ("r", 0.5, 0.2), ("r", 1.8, 2.0)
    clear = {"recording": ["r"], "onset_s": [10.0], "duration_s": [2.0]}
    window = pd.concat([window, pd.DataFrame(clear)], ignore_index=True)
    assert counted(window, events(inside, partly)) == [1, 1, 0]
    assert counted(window, events(partly, inside)) == [1, 1, 0]


def test_events_count_in_their_own_recording_only() -> None:
    frame = scored(2, 20)
    # in r1 the windows from 3, 3.5 and 4 s hold all of 4-5 s, those from 2.5 and 4.5 s half of it
    found = evaluate(frame, events(("r1", 4.0, 1.0), ("r9", 0.0, 9.0)))
    assert (found["positives"], found["negatives"], found["left_out"]) == (3, 35, 2)


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


def drawn_rows(names: NDArray[Any], groups: NDArray[Any], n: int) -> list[NDArray[np.intp]]:
    rng = np.random.default_rng(0)
    often = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), n)
    draws = [np.repeat(names, times) for times in often]
    return [np.concatenate([np.flatnonzero(groups == name) for name in drawn]) for drawn in draws]


def spread(values: list[float]) -> list[float]:
    return [float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))]


@pytest.mark.parametrize("unit", ["recording", "subject"])
def test_intervals_draw_whole_units(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ae_pipeline.stats.N_RESAMPLES", 200)
    frame = scored(6, 24)
    if unit == "subject":  # two recordings each
        frame["subject"] = "s" + (frame["recording"].str[1:].astype(int) // 2).astype(str)
    truth = events(("r0", 2.0, 2.0), ("r1", 6.0, 3.0), ("r4", 6.0, 3.0), ("r5", 1.0, 3.0))
    label = label_windows(frame, truth)
    kept = frame[np.isfinite(label)]
    y, own, other = label[kept.index], kept["score"].to_numpy(), kept["score_pca"].to_numpy()
    names = np.unique(frame[unit].to_numpy(object))
    draws = drawn_rows(names, kept[unit].to_numpy(object), 200)
    draws = [rows for rows in draws if 0 < y[rows].sum() < len(rows)]
    areas = np.array([[roc_auc_score(y[r], v[r]) for r in draws] for v in (own, other)])
    precision = [average_precision_score(y[r], other[r]) for r in draws]
    result = evaluate(frame, truth)
    assert (result["unit"], result["units"]) == (unit, len(names))
    assert result["units_with_positives"] == (2 if unit == "subject" else 4)
    pca = result["scorers"]["score_pca"]
    assert pca["interval"] == pytest.approx(spread(list(areas[1])))
    assert pca["average_precision_interval"] == pytest.approx(spread(precision))
    assert pca["difference"] == pytest.approx(roc_auc_score(y, own) - roc_auc_score(y, other))
    assert pca["difference_interval"] == pytest.approx(spread(list(areas[0] - areas[1])))


def test_recordings_are_drawn_where_there_is_one_subject() -> None:
    truth = events(("r0", 3.0, 2.0), ("r2", 3.0, 2.0))
    assert evaluate(scored().assign(subject="s"), truth)["unit"] == "recording"
    scores, labels = people()
    result = evaluate(scores.assign(subject=scores["recording"]), labels)
    assert (result["unit"], result["units"]) == ("row", 50)


@pytest.mark.parametrize("subjects", [None, ["a", "a", "b", "b"]])
def test_two_units_have_no_interval(subjects: list[str] | None) -> None:
    frame = scored(2 if subjects is None else 4)
    if subjects:
        frame["subject"] = np.repeat(subjects, 60)
    result = evaluate(frame, events(("r0", 3.0, 2.0)))
    assert result["units"] == 2
    assert result["scorers"]["score"]["interval"] is None
    assert result["event_scores"]["any_overlap"]["sensitivity_interval"] is None


def test_counting_neighbouring_levels_as_one_hardly_changes_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = scored(10, 400)
    truth = events(*((f"r{i}", 10.0 + 3 * i, 60.0) for i in range(10)))
    frame["score"] += 2 * (label_windows(frame, truth) == 1)
    exact = evaluate(frame, truth)["scorers"]["score"]
    monkeypatch.setattr("ae_pipeline.stats.N_LEVELS", 200)
    coarse = evaluate(frame, truth)["scorers"]["score"]
    assert coarse["roc_area"] == exact["roc_area"]
    for name in ("interval", "average_precision_interval"):
        assert coarse[name] != exact[name]
        assert coarse[name] == pytest.approx(exact[name], abs=2e-3)


def test_each_kind_of_event_is_held_against_all_negatives() -> None:
    frame = scored()
    frame.loc[[10, 70], "flagged"] = True
    truth = events(("r0", 3.0, 4.0), ("r1", 10.0, 0.3), ("r3", 20.0, 6.0), ("r1", 5.0, 1.0))
    truth["trial_type"] = ["anomaly/pop", "anomaly/blink", "anomaly/pop", None]
    result = evaluate(frame, truth)
    negative = label_windows(frame, truth) == 0
    pops = label_windows(frame, truth.iloc[[0, 2]]) == 1
    chosen = negative | pops
    kind = result["by_kind"]["anomaly/pop"]
    assert (kind["events"], kind["found"], kind["windows"]) == (2, 1, pops.sum())
    for name in ("score", "score_pca"):
        expected = roc_auc_score(pops[chosen], frame[name][chosen])
        assert kind["scorers"][name]["roc_area"] == pytest.approx(expected)
    assert [result["by_kind"][name]["found"] for name in ("anomaly/blink", "n/a")] == [0, 1]


def test_a_kind_without_a_window_has_no_area() -> None:
    truth = events(("r0", 3.0, 4.0), ("r1", 31.4, 2.0))  # the last window has 0.1 s of it
    truth["trial_type"] = ["a", "b"]
    assert evaluate(scored(), truth)["by_kind"]["b"] == {
        "events": 1,
        "found": 0,
        "windows": 0,
        "scorers": {},
    }


# ------------------------------------------------------------------------------- events


def spans(flagged: pd.DataFrame) -> list[tuple[float, float]]:
    """What flagged windows of 2 s cover, neighbours together."""
    out: list[tuple[float, float]] = []
    for onset in flagged["onset_s"]:
        if out and onset <= out[-1][1]:
            out[-1] = (out[-1][0], onset + 2.0)
        else:
            out.append((onset, onset + 2.0))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_events_of_one_recording_are_scored_as_by_timescoring(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = scored(1, 6000)
    frame["flagged"] = rng.random(len(frame)) < 0.01
    onsets = np.sort(np.round(np.cumsum(rng.uniform(20, 300, 12)), 1))
    true = [(float(t), round(float(t) + 5.5, 1)) for t in onsets]
    result = evaluate(frame, events(*(("r0", a, b - a) for a, b in true)))["event_scores"]
    n = round(10 * (5999 * 0.5 + 2))
    reference, hypothesis = Annotation(true, 10, n), Annotation(spans(frame[frame.flagged]), 10, n)
    parameters = EventScoring.Parameters(0, 0, 0, np.inf, 0)
    for name, expected in (
        ("szcore", EventScoring(reference, hypothesis)),
        ("any_overlap", EventScoring(reference, hypothesis, parameters)),
    ):
        scores = result[name]
        assert scores["found"] == expected.tp
        assert scores["true_events"] == expected.refTrue
        assert scores["sensitivity"] == pytest.approx(expected.sensitivity)
        assert scores["precision"] == pytest.approx(expected.precision)
        assert scores["f1"] == pytest.approx(expected.f1)
        assert scores["false_alarms_per_24h"] == pytest.approx(expected.fpRate)
        assert scores["false_alarms_per_hour"] == pytest.approx(expected.fpRate / 24)
    assert result["szcore"]["parameters"] == vars(EventScoring.Parameters())
    assert result["any_overlap"]["parameters"]["maxEventDuration"] is None


def test_hits_and_false_alarms_are_counted_over_all_recordings() -> None:
    frame = scored(3).assign(subject=np.repeat(["a", "a", "b"], 60))
    frame.loc[[10, 11, 40, 70, 130], "flagged"] = True
    # r0: 5-7.5 s and 20-22 s; r1: 5-7 s; r2: 5-7 s
    truth = events(("r0", 6.0, 0.0), ("r0", 12.0, 1.0), ("r1", 3.0, 3.0), ("r2", 25.0, 1.0))
    result = evaluate(frame, truth)
    hours = 3 * 31.5 / 3600
    assert result["event_scores"]["hours"] == pytest.approx(hours)
    scores = result["event_scores"]["any_overlap"]
    assert (scores["true_events"], scores["found"], scores["false_alarms"]) == (4, 2, 2)
    assert scores["sensitivity"] == scores["precision"] == scores["f1"] == 0.5
    assert scores["false_alarms_per_hour"] == pytest.approx(2 / hours)
    assert scores["mean_over_units"]["sensitivity"] == pytest.approx((2 / 3 + 0) / 2)
    assert result["found"] == 2


def test_events_in_several_channels_at_once_are_one_event() -> None:
    frame = scored(1)
    frame.loc[10, "flagged"] = True  # 5 to 7 s
    # the second lies within the first, whose end must not be lost
    truth = events(("r0", 2.0, 4.0), ("r0", 2.5, 1.0), ("r0", 20.0, 1.0))
    scores = evaluate(frame, truth)["event_scores"]["any_overlap"]
    assert (scores["true_events"], scores["found"], scores["false_alarms"]) == (2, 1, 0)


def test_an_alarm_of_many_windows_finds_no_more_than_it_touches() -> None:
    # one flagged window in a long event is one event found, and moves no area
    frame = scored(1)
    truth = events(("r0", 5.0, 20.0))
    before = evaluate(frame, truth)
    frame.loc[20, "flagged"] = True
    after = evaluate(frame, truth)
    assert (before["found"], after["found"]) == (0, 1)
    assert before["scorers"] == after["scorers"]


def test_an_event_that_no_window_covers_is_counted_as_such() -> None:
    frame = scored(1)
    frame = frame[(frame["onset_s"] < 10) | (frame["onset_s"] > 20)]
    result = evaluate(frame, events(("r0", 2.0, 1.0), ("r0", 14.0, 1.0)))
    assert (result["events"], result["uncovered"]) == (2, 1)
    assert result["event_scores"]["any_overlap"]["true_events"] == 2
    assert result["event_scores"]["hours"] * 3600 == pytest.approx(11.5 + 11.0)


def test_the_order_of_windows_does_not_matter() -> None:
    frame = scored()
    frame["flagged"] = frame["score"] > 2
    truth = events(("r0", 3.0, 4.0), ("r1", 10.0, 0.3), ("r3", 20.0, 6.0))
    shuffled = frame.sample(frac=1, random_state=0)
    assert evaluate(shuffled, truth.iloc[::-1]) == evaluate(frame, truth)


def test_what_cannot_be_known_is_null_in_json() -> None:
    frame = scored(1)
    result = evaluate(frame, events(("r0", 3.0, 4.0)))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["event_scores"]["szcore"]["precision"] is None  # nothing flagged
    assert result["event_scores"]["szcore"]["sensitivity"] == 0


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
    assert area["roc_area"] == area["average_precision"] == 1
    assert area["interval"] == area["average_precision_interval"] == [1, 1]


def test_many_windows_and_events_are_quick() -> None:
    frame = scored(50, 4000)
    truth = events(*((f"r{i % 50}", 2.0 * i % 1900, 1.0) for i in range(2000)))
    frame["flagged"] = frame["score"] > 3
    started = time.process_time()
    evaluate(frame, truth)
    assert time.process_time() - started < 6


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


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("r0", 3000.0, 5.0), ("r1", 9000.0, 5.0)], "row 3 of the truth has onset 9000 in 'r1'"),
        ([("r0", 3.0, 2.0), ("r1", 34.0, 2.0)], "row 3 of the truth has onset 34 in 'r1'"),
        ([("r0", 3.0, 2.0), ("r1", 30.0, 500.0)], "row 3 of the truth has duration 500 in 'r1'"),
    ],
)
def test_times_in_another_unit_are_refused(rows: list[tuple[str, float, float]], told: str) -> None:
    message = refusal(scored(), events(*rows))
    assert f"{told}, whose windows end at 31.5 s" in message
    assert "milliseconds or samples?" in message


def test_an_event_in_the_rest_after_the_last_window_is_allowed() -> None:
    assert evaluate(scored(), events(("r0", 3.0, 2.0), ("r0", 32.5, 1.0)))["uncovered"] == 1


def test_one_class_alone_is_refused() -> None:
    assert "0 of 239 windows" in refusal(scored(), events(("r0", 31.4, 2.0)))
    scores, truth = people()
    assert "50 of 50" in refusal(scores, truth.assign(label=1.0))


def test_events_for_rows_of_a_table_are_refused() -> None:
    scores, _ = people()
    assert "expected id, label" in refusal(scores, events(("001", 1.0, 1.0)))


def test_a_table_that_holds_no_scores_is_refused() -> None:
    truth = events(("r0", 1.0, 1.0))
    told = refusal(pd.DataFrame({"recording": ["r0"]}), truth)
    assert "lack columns (score, onset_s, duration_s, flagged)" in told
    assert "lack columns (flagged)" in refusal(scored().drop(columns="flagged"), truth)
    assert "have no rows" in refusal(scored().iloc[:0], truth)


def test_a_score_that_is_no_number_is_named() -> None:
    frame = scored()
    frame.loc[70, "score_pca"] = np.nan
    told = refusal(frame, events(("r0", 3.0, 2.0)))
    assert "score_pca of row 70 ('r1') is nan; expected a number" in told


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
        ("a.tsv", "recording\tonset\tduration\ttrial_type\nr\tinf\t1\tx\n", "is inf; expected"),
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


def test_an_event_is_named_right_by_kind_and_channel() -> None:
    names = ["recording", "onset", "duration", "trial_type", "channel"]
    truth = pd.DataFrame(
        [
            ("a", 10.0, 2.0, "anomaly/pop", "Cz"),
            ("a", 20.0, 2.0, "anomaly/pop", "Cz"),
            ("a", 30.0, 2.0, "anomaly/pop", "Cz"),
            ("a", 40.0, 2.0, "anomaly/pop", "Cz,Fz"),
            ("b", 10.0, 2.0, "anomaly/pop", "Cz"),
        ],
        columns=names,
    )
    found = pd.DataFrame(
        [
            ("a", 8.0, 2.1, "anomaly/flat", "Cz"),  # shares less with the first than the next
            ("a", 11.0, 4.0, "anomaly/pop", "Pz,Cz"),
            ("a", 20.0, 2.0, "anomaly/blink", "Cz"),
            ("a", 30.0, 2.0, "anomaly/pop", "Pz"),
            ("a", 41.0, 2.0, "anomaly/pop", "Fz"),
        ],
        columns=names,
    )
    named = named_events(found, truth)
    assert named["named"].str.removeprefix("anomaly/").tolist() == [
        "pop",
        "blink",
        "pop",
        "pop",
        "",
    ]
    assert named["right"].tolist() == [True, False, False, True, False]
    nothing = named_events(found.iloc[:0], truth)
    assert not nothing["right"].any()
