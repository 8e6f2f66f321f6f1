from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_pipeline.data import InputError
from ae_pipeline.training.split import MIN_UNITS, Division, Split, divide

PARTS = ("train", "validation", "calibration", "test")


def windows(
    n_subjects: int,
    n_recordings: int = 1,
    n_windows: int = 40,
    length_s: float = 2.0,
    stride_s: float = 0.5,
) -> pd.DataFrame:
    rows = [
        (f"s{subject:02d}", f"s{subject:02d}_r{recording}", window * stride_s, length_s)
        for subject in range(n_subjects)
        for recording in range(n_recordings)
        for window in range(n_windows)
    ]
    return pd.DataFrame(rows, columns=["subject", "recording", "onset_s", "duration_s"])


def table(n: int) -> pd.DataFrame:
    names = [f"p{i}" for i in range(n)]
    return pd.DataFrame({"subject": names, "recording": names})


def parts_of(meta: pd.DataFrame, division: Division, by: str) -> pd.Series:
    return pd.Series(division.part).groupby(meta[by].to_numpy()).agg(lambda p: sorted(set(p)))


def assert_no_overlap(meta: pd.DataFrame, division: Division) -> None:
    """No window of one part shares a moment with a window of another."""
    used = meta.assign(part=division.part)
    used = used[used["part"] != ""]
    for _, rows in used.sort_values("onset_s").groupby("recording"):
        for one, other in itertools.pairwise(rows.itertuples()):
            if one.part != other.part:
                assert other.onset_s >= one.onset_s + one.duration_s - 1e-9


shares = st.sampled_from((0.0, 0.05, 0.15, 0.25))


@settings(max_examples=60, deadline=None)
@given(
    n_subjects=st.integers(MIN_UNITS, 40),
    n_recordings=st.integers(1, 3),
    n_windows=st.integers(1, 12),
    validation=shares,
    calibration=shares.filter(bool),
    test=shares,
    seed=st.integers(0, 99),
)
def test_a_subject_is_never_in_two_parts(
    n_subjects: int,
    n_recordings: int,
    n_windows: int,
    validation: float,
    calibration: float,
    test: float,
    seed: int,
) -> None:
    meta = windows(n_subjects, n_recordings, n_windows)
    asked = {"validation": validation, "calibration": calibration, "test": test}
    division = divide(meta, Split(**asked, seed=seed))
    of = parts_of(meta, division, "subject")
    assert (of.str.len() == 1).all()
    assert (division.unit, division.folds, division.claims) == ("subject", (), ())
    counts = of.str[0].value_counts()
    assert counts.sum() == n_subjects
    assert counts["train"] >= 1
    for part, share in asked.items():
        assert counts.get(part, 0) == (max(1, round(share * n_subjects)) if share else 0)


def test_parts_have_the_shares_that_were_asked_for() -> None:
    division = divide(table(200), Split(validation=0.1, calibration=0.3, test=0.2))
    assert [len(division.rows(part)) for part in PARTS] == [80, 20, 60, 40]
    assert division.unit == "row"


@pytest.mark.parametrize("n", range(MIN_UNITS, 14))
def test_rounding_never_leaves_training_with_nothing(n: int) -> None:
    for split in (
        Split(validation=0.01, calibration=0.44, test=0.44),
        Split(validation=0.3, calibration=0.3, test=0.3),
        Split(validation=0.01, calibration=0.88, test=0.01),
    ):
        division = divide(windows(n), split)
        assert all(len(division.rows(part)) for part in PARTS)


def test_the_split_follows_from_the_seed_and_the_names_alone() -> None:
    meta = windows(20)
    first, other = divide(meta, Split()), divide(meta, Split(seed=1))
    shuffled = meta.sample(frac=1, random_state=0)
    again = divide(shuffled, Split())
    assert parts_of(meta, first, "subject").equals(parts_of(shuffled, again, "subject"))
    assert not parts_of(meta, first, "subject").equals(parts_of(meta, other, "subject"))


@settings(max_examples=30, deadline=None)
@given(
    n_subjects=st.integers(2, MIN_UNITS - 1),
    n_recordings=st.integers(1, 4),
    n_windows=st.integers(30, 200),
    stride_s=st.sampled_from((0.3, 0.5, 2.0, 3.0)),
    seed=st.integers(0, 99),
)
def test_few_subjects_are_left_out_in_turn(
    n_subjects: int, n_recordings: int, n_windows: int, stride_s: float, seed: int
) -> None:
    meta = windows(n_subjects, n_recordings, n_windows, stride_s=stride_s)
    division = divide(meta, Split(seed=seed))
    assert division.unit == "subject"
    assert len(division.folds) == n_subjects
    assert np.array_equal(np.sort(np.concatenate(division.folds)), np.arange(len(meta)))
    assert all(meta["subject"].iloc[rows].nunique() == 1 for rows in division.folds)
    # calibration and test are the subjects left out; only validation comes from within
    assert set(division.part) <= {"train", "validation", ""}
    assert len(division.rows("train")) > len(division.rows("validation"))
    assert_no_overlap(meta, division)
    assert f"Only {n_subjects} subjects" in division.claims[0]
    assert "coarse" in division.claims[0]


@settings(max_examples=60, deadline=None)
@given(
    n_recordings=st.integers(1, MIN_UNITS - 1),
    n_windows=st.integers(12, 400),
    length_s=st.sampled_from((0.7, 1.0, 2.0)),
    stride_s=st.sampled_from((0.1, 0.3, 0.5, 2.0)),
    seed=st.integers(0, 99),
)
def test_parts_of_one_subject_are_blocks_of_time_that_never_touch(
    n_recordings: int, n_windows: int, length_s: float, stride_s: float, seed: int
) -> None:
    meta = windows(1, n_recordings, n_windows, length_s, stride_s)
    division = divide(meta, Split(seed=seed))
    assert (division.unit, division.folds) == ("block", ())
    assert_no_overlap(meta, division)
    assert "One subject only" in division.claims[0]
    assert "nothing can be claimed about other people" in division.claims[0]


def test_blocks_of_time_keep_the_shares_and_most_of_the_windows() -> None:
    meta = windows(1, n_windows=4800)  # 40 minutes
    division = divide(meta, Split(validation=0.125, calibration=0.25, test=0.25))
    share = {part: len(division.rows(part)) / len(meta) for part in PARTS}
    assert share["calibration"] == pytest.approx(0.25, abs=0.02)
    assert share["test"] == pytest.approx(0.25, abs=0.02)
    assert share["validation"] == pytest.approx(0.125, abs=0.02)
    assert sum(share.values()) > 0.97


def test_many_recordings_of_one_subject_stay_whole() -> None:
    meta = windows(1, n_recordings=12)
    division = divide(meta, Split())
    assert (parts_of(meta, division, "recording").str.len() == 1).all()
    assert all(len(division.rows(part)) for part in PARTS)
    assert division.unit == "recording"
    assert "One subject only: parts are recordings" in division.claims[0]


def test_recordings_are_divided_only_on_request_and_with_a_claim() -> None:
    meta = windows(5, n_recordings=4)
    division = divide(meta, Split(by="recording"))
    assert division.unit == "recording"
    assert (parts_of(meta, division, "recording").str.len() == 1).all()
    assert (parts_of(meta, division, "subject").str.len() > 1).any()
    assert "recordings of 5 subjects" in division.claims[0]
    few = divide(windows(2, n_recordings=2), Split(by="recording"))
    assert len(few.folds) == 4
    assert "Only 4 recordings" in few.claims[0]


def test_the_official_test_images_calibrate_and_test() -> None:
    meta = table(600)
    official = np.repeat(["train", "t10k"], [400, 200])
    meta["set"] = pd.Categorical(official, categories=["train", "t10k"])
    division = divide(meta, Split(validation=0.1, calibration=0.3, test=0.2))
    assert set(division.part[official == "train"]) == {"train", "validation"}
    assert set(division.part[official == "t10k"]) == {"calibration", "test"}
    assert [len(division.rows(part)) for part in PARTS] == [360, 40, 120, 80]
    without = divide(meta, Split(validation=0.1, calibration=0.3, test=0))
    assert [len(without.rows(part)) for part in PARTS] == [360, 40, 200, 0]


def test_a_column_of_the_users_own_named_set_changes_nothing() -> None:
    meta = table(100)
    meta["set"] = ["A", "B"] * 50
    assert np.array_equal(divide(meta, Split()).part, divide(table(100), Split()).part)


@pytest.mark.parametrize("n", [1, 3, MIN_UNITS - 1])
def test_too_few_rows_are_refused_in_one_line(n: int) -> None:
    with pytest.raises(InputError, match=f"{n} rows are too few.*at least {MIN_UNITS}") as caught:
        divide(table(n), Split())
    assert "\n" not in str(caught.value)


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValueError, match="together take 95%; leave at least 10% for training"):
        Split(validation=0.3, calibration=0.35, test=0.3)
