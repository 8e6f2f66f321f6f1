from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from ae_pipeline.data import Finding, InputError
from ae_pipeline.detectors.calibration import Calibration, Detection, recording_score
from ae_pipeline.detectors.conformal import adjusted, conformal_p, conformal_p_without_own
from ae_pipeline.detectors.events import find_events

LEVELS = np.arange(1, 20) / 20


def calibration(
    scores: NDArray[np.float64],
    n_recordings: int = 1,
    length_s: float = 2.0,
    stride_s: float = 0.5,
) -> Calibration:
    n = len(scores) // n_recordings
    recording = np.repeat(np.arange(n_recordings), n)
    return Calibration(
        {"score": np.asarray(scores, float)},
        recording,
        recording,
        np.tile(np.arange(n) * stride_s, n_recordings),
        np.full(n * n_recordings, length_s),
        np.zeros(0, np.float32),
    )


def smooth(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.convolve(np.random.default_rng(seed).gamma(2, 1, n), np.ones(4) / 4, "same")


# ----------------------------------------------------------------------------- p-values


def test_a_conformal_p_is_the_rank_among_the_reference_and_itself() -> None:
    reference = np.array([1.0, 2.0, 3.0, 4.0])
    p = conformal_p(np.array([5.0, 4.0, 3.5, 0.0]), reference)
    assert p == pytest.approx([1 / 5, 2 / 5, 2 / 5, 5 / 5])


@pytest.mark.parametrize("ties", [False, True])
def test_conformal_p_values_are_valid(ties: bool) -> None:
    # P(p <= a) <= a over draws of reference and sample together; equal where nothing is tied
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((20_000, 20))
    if ties:
        draws = np.round(draws)
    p = np.array([conformal_p(row[:1], row[1:])[0] for row in draws])
    share = (p[:, None] <= LEVELS + 1e-12).mean(0)
    noise = 4 * np.sqrt(LEVELS * (1 - LEVELS) / len(p))
    assert (share <= LEVELS + noise).all()
    if not ties:
        assert (share >= LEVELS - noise).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_left_out_scores_are_judged_by_all_others(values: list[int]) -> None:
    scores = np.array(values, float)
    each = [conformal_p(scores[[i]], np.delete(scores, i))[0] for i in range(len(scores))]
    assert conformal_p(scores, scores, left_out=True) == pytest.approx(each)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=40))
def test_windows_are_judged_by_those_of_the_other_recordings(rows: list[tuple[int, int]]) -> None:
    group, scores = np.array(rows).T[0], np.array(rows, float).T[1]
    expected = [conformal_p(scores[[i]], scores[group != g])[0] for i, g in enumerate(group)]
    assert conformal_p_without_own(scores, group) == pytest.approx(expected)


# ------------------------------------------------------------------------------ q-values


def defined_q(p: NDArray[np.float64]) -> list[float]:
    """The definition: the smallest level at which the step-up procedure rejects."""
    n, ordered = len(p), np.sort(p)
    return [
        min(1.0, min(n * ordered[k - 1] / k for k in range(1, n + 1) if ordered[k - 1] >= one))
        for one in p
    ]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_q_values_are_those_of_benjamini_and_hochberg(values: list[int]) -> None:
    p = np.array(values) / 50
    q = adjusted(p)
    assert q == pytest.approx(defined_q(p))
    assert q == pytest.approx(false_discovery_control(p))


def test_the_false_discovery_rate_holds_for_p_values_of_one_calibration_set() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        reference, normal = rng.standard_normal(200), rng.standard_normal(90)
        odd = rng.standard_normal(10) + 4
        q = adjusted(conformal_p(np.append(normal, odd), reference))
        flagged = q <= 0.1
        shares.append(flagged[:90].sum() / max(1, flagged.sum()))
    assert np.mean(shares) <= 0.1
    assert np.mean(shares) > 0.04  # and not by flagging nothing


def test_no_p_values_have_no_q_values() -> None:
    assert len(adjusted(np.zeros(0))) == 0


# -------------------------------------------------------------------------------- events


def test_neighbouring_flagged_windows_are_one_event() -> None:
    onset = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 10.0, 12.0, 20.0])
    scores = np.array([5.0, 0.0, 7.0, 0.0, 0.0, 6.0, 8.0, 9.0])
    spans = find_events(onset, np.full(8, 2.0), scores=scores, threshold=4.0)
    # 0-2 and 1-3 overlap; 10-12 and 12-14 touch; 20-22 stands alone
    assert [(s.onset_s, s.end_s, s.score) for s in spans] == [(0, 3, 7), (10, 14, 8), (20, 22, 9)]
    assert [(s.first, s.last, s.peak) for s in spans] == [(0, 2, 2), (5, 6, 6), (7, 7, 7)]
    assert find_events(onset, np.full(8, 2.0), scores=scores, threshold=9.0) == []  # above, not at


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.sampled_from([(2.0, 0.5), (2.0, 2.0), (1.0, 1.7), (0.3, 0.1)]),
)
def test_events_are_the_pieces_that_flagged_windows_cover(
    flags: list[bool], shape: tuple[float, float]
) -> None:
    length, stride = shape
    onset = np.arange(len(flags)) * stride
    spans = find_events(
        onset, np.full(len(flags), length), scores=np.array(flags, float), threshold=0.5
    )
    pieces: list[list[float]] = []
    for start in onset[np.array(flags)]:
        if pieces and start <= pieces[-1][1] + 1e-9:
            pieces[-1][1] = start + length
        else:
            pieces.append([start, start + length])
    assert np.allclose([[s.onset_s, s.end_s] for s in spans], pieces)


# ---------------------------------------------------------------------------- thresholds


def events_at(c: Calibration, threshold: float, unit: int | None = None) -> int:
    total = 0
    for recording in np.unique(c.recording):
        rows = c.recording == recording
        if unit in (None, c.unit[rows][0]):
            scores = c.scores["score"][rows]
            total += len(
                find_events(c.onset_s[rows], c.duration_s[rows], scores=scores, threshold=threshold)
            )
    return total


def walked_down(c: Calibration, rate: float, without: int | None = None) -> float:
    """The threshold by its definition: from the largest score down to the first too low one.

    A new unit is counted beside the others, as one that raises as many as the worst of them has
    so far. At most half of the windows are above it.
    """
    found = np.inf
    kept = [int(unit) for unit in np.unique(c.unit) if unit != without]
    hours = sum(c._seconds[c.unit == unit].sum() for unit in kept) / 3600
    scores = np.sort(c.scores["score"][c.unit != without])[::-1]
    worst = 0
    for candidate in dict.fromkeys(scores):
        counts = [events_at(c, candidate, unit=unit) for unit in kept]
        worst = max(worst, *counts)
        if sum(counts) + worst > rate * hours * (len(kept) + 1) / len(kept) + 1e-9:
            break
        found = candidate
    return max(float(found), scores[len(scores) // 2])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", [(2.0, 0.5), (2.0, 2.0), (1.0, 3.0)])
def test_the_threshold_is_the_lowest_that_keeps_the_alarm_rate(
    shape: tuple[float, float], ties: bool
) -> None:
    scores = smooth(600)
    c = calibration(np.round(scores, 1) if ties else scores, 4, *shape)
    two_of_each = replace(c, unit=c.recording // 2)
    for rate in (1, 30, 120, 400, 10_000):
        for one in (c, two_of_each):
            for without in (None, 1):
                threshold = one.event_threshold(rate, without)
                assert threshold == walked_down(one, rate, without)
            assert one.false_alarms_per_hour(one.event_threshold(rate)) <= rate + 1e-9


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.integers(0, 6),
    st.sampled_from([(2.0, 0.5), (2.0, 2.0), (1.0, 3.0)]),
)
def test_alarm_rates_count_events_at_any_threshold(
    values: list[int], threshold: int, shape: tuple[float, float]
) -> None:
    c = calibration(np.array(values), 1, *shape)
    assert c.false_alarms_per_hour(threshold) * c.hours == pytest.approx(events_at(c, threshold))


@pytest.mark.parametrize("rate", [6, 1000, 1e9])
def test_calibration_data_never_lead_to_everything_flagged(rate: float) -> None:
    # scores that only rise merge into one event at any threshold, and any rate allows one an hour
    rising = calibration(np.arange(8000.0), 1)
    level = calibration(np.ones(8000), 2)
    noise = calibration(smooth(8000), 4)
    for c in (rising, level, noise):
        for without in (None, 0):
            kept = c.scores["score"][c.recording != without]
            assert (kept > c.event_threshold(rate, without)).sum() <= len(kept) / 2
    assert (rising.scores["score"] > rising.event_threshold(rate)).mean() == 0.5


def test_a_slightly_lower_threshold_raises_too_many_events() -> None:
    c = calibration(smooth(2000), 4)
    threshold = c.event_threshold(30)
    lower = c.scores["score"][c.scores["score"] < threshold].max()
    # with one more recording like the worst of them
    n_events, worst = c.alarms(lower).sum(), c.alarms(lower).max()
    assert (n_events + worst) / (c.hours * 5 / 4) > 30


def test_alarms_are_at_most_those_allowed_on_new_recordings_like_these() -> None:
    # the promise in use: thresholds of one half of a clean population held against the other
    rates = []
    for seed in range(40):
        scores = smooth(7200 * 4, seed)
        threshold = calibration(scores[: 7200 * 2], 2).event_threshold(6)
        rates.append(calibration(scores[7200 * 2 :], 2).false_alarms_per_hour(threshold))
    assert np.mean(rates) == pytest.approx(6, rel=0.25)


def test_left_out_alarms_are_those_at_the_threshold_of_the_others() -> None:
    c = calibration(smooth(4000), 8)
    c = replace(c, unit=c.recording // 2)
    for recording, count in enumerate(c.left_out_alarms(60)):
        unit = recording // 2
        rows = c.unit != unit
        others = replace(
            c,
            scores={"score": c.scores["score"][rows]},
            recording=c.recording[rows],
            unit=c.unit[rows],
            onset_s=c.onset_s[rows],
            duration_s=c.duration_s[rows],
        )
        threshold = others.event_threshold(60)
        assert threshold == c.event_threshold(60, without=unit)
        assert count == c.alarms(threshold)[recording]
    rate, low, high = c.alarm_rate(60)
    assert rate == pytest.approx(c.left_out_alarms(60).sum() / c.hours)
    assert low < rate < high


def test_several_recordings_of_a_subject_are_one_voice() -> None:
    # scores of the recordings: subject 0 has 1, 2 and 3, subject 1 has 4
    c = calibration(np.repeat([1.0, 2.0, 3.0, 4.0], 10), 4)
    c = replace(c, unit=np.repeat([0, 0, 0, 1], 10))
    assert c.n_units == 2
    assert c.recording_p(5.0) == pytest.approx(1 / 3)
    assert c.recording_p(3.0) == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert c.recording_p(0.0) == pytest.approx(1.0)


def test_a_longer_recording_is_not_more_abnormal_for_its_length() -> None:
    rng = np.random.default_rng(0)
    short = [recording_score(rng.standard_normal(100), 100) for _ in range(200)]
    long = [recording_score(rng.standard_normal(2000), 100) for _ in range(200)]
    assert np.mean(long) == pytest.approx(np.mean(short), abs=0.05)


def test_one_huge_event_makes_a_recording_unusual() -> None:
    c, wanted = calibration(smooth(7200, 3), 4), Detection()
    most = float(c.scores["score"].max())
    assert c.compare_events(1, 0.1, top=most, detection=wanted).kind == "usual_events"
    far = c.compare_events(1, 0.1, top=4 * most, detection=wanted)
    assert (far.kind, far.numbers["n_events"]) == ("far_event", 1)
    assert far.numbers["times"] > 3
    many = c.compare_events(40, 0.1, top=most, detection=wanted)
    assert many.kind == "many_events"
    assert many.numbers["per_hour"] == pytest.approx(400)


def test_trimming_leaves_out_the_most_abnormal_units_and_withdraws_the_claims() -> None:
    c = calibration(np.repeat([1.0, 9.0, 2.0, 3.0, 4.0], 10), 5)
    kept = c.not_trimmed(0.2)
    assert sorted({*c.recording[~kept]}) == [1]
    assert c.not_trimmed(0.1).all()  # a tenth of five is none
    assert "trimmed" not in {finding.kind for finding in c.withdrawn(Detection())}
    assert c.withdrawn(Detection(trim=0.2))[0] == Finding("trimmed", {"share": 0.2})


def test_a_rate_that_so_few_subjects_cannot_promise_is_not_promised() -> None:
    # every recording holds a burst of its own height: the highest raises an alarm by the others
    scores = np.tile(np.r_[np.ones(20), 5.0, np.ones(19)], 3) * np.repeat([1.0, 1.1, 1.2], 40)
    c = calibration(scores, 3)
    (found,) = c.withdrawn(Detection(false_alarms_per_hour=1))
    assert (found.kind, found.numbers["n_units"]) == ("rate_not_reached", 3)
    quiet = calibration(np.ones(120), 3)
    assert quiet.withdrawn(Detection(false_alarms_per_hour=1)) == ()


def test_with_nothing_left_there_is_no_threshold_to_cross() -> None:
    assert calibration(smooth(50), 1).event_threshold(6, without=0) == np.inf


def test_thresholds_are_fast_with_a_hundred_recordings() -> None:
    scores = smooth(100 * 5000)
    c = calibration(scores, 100)
    started = time.process_time()
    thresholds = [c.event_threshold(6, without=unit) for unit in range(100)]
    p = conformal_p_without_own(scores, c.recording)
    c.false_alarms_per_hour(c.event_threshold(6))
    assert time.process_time() - started < 2
    assert np.isfinite(thresholds).all()
    assert p.min() > 0


# ------------------------------------------------------------- what calibration rests on


def test_hours_count_every_moment_once() -> None:
    c = calibration(np.zeros(3), length_s=2.0, stride_s=0.5)
    c = replace(
        c,
        scores={"score": np.zeros(7)},
        recording=np.array([0, 0, 0, 0, 1, 1, 1]),
        onset_s=np.array([0.0, 0.5, 1.0, 10.0, 0.0, 5.0, 5.5]),
        duration_s=np.full(7, 2.0),
    )
    # 0-3 and 10-12 of the first, 0-2 and 5-7.5 of the second
    assert c.hours * 3600 == pytest.approx(3 + 2 + 2 + 2.5)


def frame_of(onsets: list[float], recording: list[str], duration_s: float = 2.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "recording": recording,
            "subject": recording,
            "onset_s": onsets,
            "duration_s": duration_s,
            "score": np.arange(len(onsets), dtype=float),
            "score_pca": 1.0,
        }
    )


NONE = np.zeros((0, 0), np.float32)


def test_recordings_are_numbers_not_names() -> None:
    frame = frame_of([0, 1, 0, 1, 2], ["Dora", "Dora", "Emil", "Emil", "Emil"])
    c = Calibration.from_frame(frame, np.zeros((5, 2), np.float32), unit="subject")
    assert c.recording.tolist() == [0, 0, 1, 1, 1]
    assert set(c.scores) == {"score", "score_pca"}
    assert c.n_units == 2
    assert c.smallest_p == pytest.approx(1 / 3)
    assert not any(np.issubdtype(array.dtype, np.str_) for array in c.state().values())


def test_stretches_of_one_subject_are_units_of_their_own() -> None:
    onsets = [0.0, 0.5, 1.0, 9.0, 9.5, 30.0, 0.0, 0.5]
    frame = frame_of(onsets, ["a"] * 6 + ["b"] * 2)
    c = Calibration.from_frame(frame, np.zeros((8, 0), np.float32), unit="block")
    assert len(np.unique(c.recording)) == 4
    assert [len(set(c.recording[rows])) for rows in ([0, 1, 2], [3, 4], [5], [6, 7])] == [1] * 4
    whole = Calibration.from_frame(frame, np.zeros((8, 0), np.float32), unit="recording")
    assert whole.n_units == 2


def test_windows_that_stand_apart_by_plan_are_one_stretch() -> None:
    onsets = [0.0, 5.0, 10.0, 15.0, 60.0, 65.0]
    frame = frame_of(onsets, ["a"] * 6)
    c = Calibration.from_frame(frame, np.zeros((6, 0), np.float32), unit="block")
    assert c.n_units == 2


def test_rows_are_units_of_their_own() -> None:
    frame = pd.DataFrame({"recording": ["x", "y", "z"], "score": [1.0, 2.0, 3.0]})
    c = Calibration.from_frame(frame, np.zeros((3, 0), np.float32), unit="row")
    assert (c.n_units, c.hours) == (3, 0)


def test_the_usual_error_of_an_item_is_that_of_given_answers() -> None:
    frame = pd.DataFrame({"recording": list("abcde"), "score": np.arange(5.0)})
    errors = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 7, 0], [5, 9, 0]], np.float32)
    c = Calibration.from_frame(frame, errors, unit="row")
    assert c.entry_median.tolist() == [3, 8, 0]
    assert (c.usual_error > 0).all()  # an item that nobody answered is no infinite ratio
    assert c.usual_error[:2].tolist() == [3, 8]


def test_a_recordings_score_is_the_mean_of_its_worst_twentieth() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(100.0))
    assert recording_score(scores, 100) == pytest.approx(np.mean([95, 96, 97, 98, 99]))
    assert recording_score(np.array([3.0, 4.0]), 40) == 4.0
    c = calibration(np.append(np.zeros(40), np.arange(40.0)), 2)
    assert c.recording_scores == pytest.approx([0.0, 38.5])


def test_recording_level_p_values_are_valid() -> None:
    # windows of one recording depend on each other; recordings do not
    rng = np.random.default_rng(1)
    p = []
    for _ in range(2000):
        level = rng.standard_normal(20)
        windows = level[:, None] + 0.3 * rng.standard_normal((20, 30))
        scores = np.array([recording_score(w, 30) for w in windows])
        p.append(conformal_p(scores[:1], scores[1:])[0])
    share = (np.array(p)[:, None] <= LEVELS + 1e-12).mean(0)
    assert np.allclose(share, LEVELS, atol=0.045)


def test_no_calibration_data_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="larger share or add recordings") as caught:
        Calibration.from_frame(frame_of([], []), NONE, unit="subject")
    assert "\n" not in str(caught.value)


def test_a_calibration_comes_back_from_its_arrays() -> None:
    c = Calibration.from_frame(
        frame_of([0, 1], ["a", "b"]), np.ones((2, 3), np.float32), unit="subject"
    )
    again = Calibration.from_state(c.state())
    assert set(again.scores) == set(c.scores)
    for name, array in c.state().items():
        assert np.array_equal(again.state()[name], array)
