"""Facts become sentences in one place; nothing else is said than what was found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny

from ae_pipeline.data import Finding
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.reach import reach
from ae_pipeline.eeg.tags import TAGS, Tag
from ae_pipeline.report.findings.reasons import (
    SENTENCES,
    VIEWS,
    allowed,
    bad_channels,
    events_table,
    kinds_in_words,
    looks,
    reason,
    reasons,
    recording_tables,
    scores_table,
)
from ae_pipeline.report.wording import count, interval, listed, number, times
from ae_pipeline.scoring.recording import RecordingResult, score_recording
from ae_pipeline.scoring.rows import score_rows
from ae_pipeline.scoring.tables import EVENT_COLUMNS

PLANTED = ((12.0, 1.0, 1), (40.0, 2.0, 3))


@pytest.fixture(scope="module")
def planted() -> RecordingResult:
    bundle = tiny.eeg().bundle
    recording = tiny.one_recording("Zoe_1", "Zoe", planted=PLANTED)
    return score_recording(bundle, recording, judge=bundle.by_calibration)


def test_reasons_say_how_much_and_where() -> None:
    frame = pd.DataFrame(
        {
            "score": [-1.0, 2000.0],
            "score_autoencoder": [3.0, 1500.0],
            "top_view": ["spectrum", "error"],
            "top_deviation": [4.25, 1234.5],
            "top_entry": ["Fz", "Oz"],
            "top_ratio": [2, 123],
        }
    )
    plain = [
        "power in a band unusual (4.2 robust SD), error 2.0 times the usual",
        "signal error (1,234 robust SD), error 1,000 times the usual",
    ]
    where = [", most at Fz (2.0 times its usual)", ", most at Oz (123 times its usual)"]
    assert reasons(frame, 1.5) == [a + b for a, b in zip(plain, where, strict=True)]
    assert reasons(frame.drop(columns=["top_entry", "top_ratio"]), 1.5) == plain
    assert all("inf" not in said for said in reasons(frame, 0.0))


def test_the_scores_file_has_a_reason_in_its_place(planted: RecordingResult) -> None:
    table = scores_table(planted.frame, tiny.eeg().bundle, tags=planted.tags)
    assert list(table)[-2:] == ["top_band", "reason"]
    assert str(table["reason"].dtype) == "string"
    assert len(table) == len(planted.frame)
    near = planted.near["window"].tolist()
    unflagged = [i for i in near if not planted.frame["flagged"].iloc[i]]
    assert all(looks(planted.tags[i]) in table["reason"].iloc[i] for i in unflagged)
    pictures = tiny.images(30, seed=1)
    rows = score_rows(
        tiny.pictures().bundle, pictures, detection=tiny.pictures().study.detection
    ).frame
    assert list(scores_table(rows, tiny.pictures().bundle))[-2:] == ["reason", "label"]


def test_an_event_says_what_it_looks_like_and_what_was_measured(planted: RecordingResult) -> None:
    scores = scores_table(planted.frame, tiny.eeg().bundle, tags=planted.tags)
    table = events_table(planted, scores)
    assert tuple(table) == EVENT_COLUMNS
    for event, said in zip(planted.events.itertuples(), table["reason"], strict=True):
        assert looks(planted.tags[event.window]) in said
        assert f"{event.nearest_normal_s:.1f} s" in said


def test_every_kind_of_event_has_its_words(planted: RecordingResult) -> None:
    assert set(TAGS) <= set(SENTENCES)
    assert set(planted.frame["top_view"]) <= set(VIEWS)
    pop = Tag(
        "pop", (0,), "", Finding("pop", {"height_uv": 80, "share_within_30_ms": 0.9}, ("C3",))
    )
    assert looks(pop) == "pop-like: a step of 80 µV at C3 alone, 90% of it within 30 ms"
    counted = {"pop": 1, "unexplained": 1, "clipped": 1}
    assert kinds_in_words(counted) == "2 technical (1 pop, 1 clipped), 1 unexplained"


def test_a_fault_of_the_recording_comes_before_its_events(planted: RecordingResult) -> None:
    bads = Finding("bad_channels", {"n": 2}, ("Fz", "Cz"))
    kinds, compared = Finding("event_kinds", {"pop": 1}), Finding("usual_events", {"n_events": 1})
    said = reason([kinds, compared], unit="subject", verdict="technical", strongest="the pop")
    assert said == "1 technical (1 pop), the pop; 1 event, as many as clean recordings raise"
    said = reason([bads, compared], unit="subject", verdict="technical")
    assert said == "2 bad channels: Fz, Cz; 1 event, as many as clean recordings raise"
    far = Finding("far_event", {"n_events": 1, "times": 3.0, "hours": 1.0})
    said = reason([bads, kinds, far], unit="subject", verdict="technical", strongest="the pop")
    assert said.startswith("1 technical (1 pop), the pop; 1 event, one of them 3.0 times")
    assert said.endswith("; 2 bad channels: Fz, Cz")
    few = Finding("too_few", {"n_units": 3, "smallest_p": 0.25})
    assert "'clean' cannot be promised" in reason([few], unit="subject", verdict="nothing flagged")
    tables = recording_tables(tiny.eeg().bundle, planted)
    assert tables.row["verdict"] == planted.summary["verdict"]
    assert tables.row["quality_findings"] == ""
    assert bad_channels(planted).empty


def test_what_calibration_allows_is_said_only_where_it_limits() -> None:
    assert allowed(reach(1000, 1, error_rate=0.05), "rows") == ""
    assert "smallest p 0.25" in allowed(reach(3, 10, error_rate=0.05), "subjects")
    assert "39 of 40" not in allowed(reach(99, 40, error_rate=0.05), "subjects")
    assert Detection().error_rate == 0.05


def test_numbers_read_the_same_everywhere() -> None:
    assert [count(n, "event") for n in (0, 1, 2000)] == ["0 events", "1 event", "2,000 events"]
    assert listed([f"s{i}" for i in range(20)]) == "s0, s1, s2, s3, s4, s5, s6, s7 and 12 more"
    assert (number(None), number(np.inf), number(1.23456)) == ("n/a", "n/a", "1.235")
    assert interval((0.5, 1.25)) == "95% interval 0.5 to 1.25"
    assert interval(None) == interval((np.nan, np.nan)) == ""
    assert (times(2), times(1234.5)) == ("2.0 times", "1,234 times")
