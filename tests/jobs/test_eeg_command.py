"""Real recordings as laboratories have them, through the installed command."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from edf_files import discontinuous

from ae_pipeline.data import Finding
from ae_pipeline.eeg.features import FEATURE_BANDS_HZ
from ae_pipeline.eeg.tags import CATEGORY
from ae_pipeline.report import recording_page
from ae_pipeline.report.findings.reasons import (
    evidence_of,
    looks,
    recording_tables,
    sentence,
)
from ae_pipeline.report.findings.recording import recording_view
from ae_pipeline.scoring.bundle import Bundle, load
from ae_pipeline.scoring.recording import RecordingResult, score_recording
from ae_pipeline.sources.eeg import EegSource, find, open_recording
from ae_pipeline.sources.faults import Event, plant

COMMAND = Path(sys.executable).with_name("ae-pipeline")
NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
SFREQ_HZ = 100
STUDY = """
study: people
source: {kind: eeg, path: recordings}
preprocess: {high_pass_hz: 1, low_pass_hz: 40, sfreq_hz: 100}
windows: {length_s: 2, stride_s: 1}
model: {architecture: {kind: dense, hidden: [16]}, objective: {kind: vanilla}, latent_dim: 3}
training: {epochs: 2}
"""
LINE_AT_S, ALPHA_AT_S, HOLE_S = 20.0, 40.0, 300


def real(file: Path, seconds: float) -> np.ndarray:
    """Ten channels of a real recording at 100 Hz, microvolts."""
    recording = open_recording(find([file])[0], EegSource(path=file)).pick(NAMES)
    signal = recording.read(0, round(seconds * recording.sfreq_hz)).astype(np.float64)
    return mne.filter.resample(signal, SFREQ_HZ, recording.sfreq_hz, method="polyphase")


def edf(path: Path, signal: np.ndarray, notes: tuple[edfio.EdfAnnotation, ...] = ()) -> Path:
    limit = float(np.abs(signal).max()) + 1
    signals = [
        edfio.EdfSignal(
            row, SFREQ_HZ, label=name, physical_dimension="uV", physical_range=(-limit, limit)
        )
        for row, name in zip(signal, NAMES, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, annotations=list(notes)).write(path)
    return path


def epochs(path: Path, signal: np.ndarray) -> Path:
    """Epochs of 4 s, as somebody has cut and saved them."""
    info = mne.create_info(list(NAMES), SFREQ_HZ, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(signal * 1e-6, info, verbose="ERROR")
    cut = mne.make_fixed_length_epochs(raw, 4.0, preload=True, verbose="ERROR")
    cut.save(path, verbose="ERROR")
    return path


def with_events(signal: np.ndarray) -> np.ndarray:
    """A second of 35 Hz on C4, and two of a rhythm of 10 Hz at the back of the head."""
    signal = signal.copy()
    t = np.arange(2 * SFREQ_HZ) / SFREQ_HZ
    at = round(LINE_AT_S * SFREQ_HZ)
    signal[NAMES.index("C4"), at : at + 200] += 60 * np.sin(2 * np.pi * 35 * t)
    at = round(ALPHA_AT_S * SFREQ_HZ)
    for name in ("O1", "O2", "P3", "P4"):
        signal[NAMES.index(name), at : at + 200] += 90 * np.sin(2 * np.pi * 10 * t)
    return signal


FOUR = (
    Event(10, 0.8, "blink", (0, 1)),
    Event(25, 2, "muscle", (2, 4)),
    Event(45, 1, "pop", (7,)),
    Event(65, 2, "alpha", (3, 5)),
)


def with_four(signal: np.ndarray) -> np.ndarray:
    """What nearly every recording has, and something on one electrode."""
    rng = np.random.default_rng(0)
    for event in FOUR:
        signal = plant(signal, SFREQ_HZ, event=event, rng=rng, band_hz=(1.0, 40.0))
    return signal


@dataclass(frozen=True)
class Scored:
    status: int
    said: str
    out: Path

    def scores(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.out / f"{name}_scores.parquet")


@pytest.fixture(scope="module")
def scored(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Three people train; of a fourth there are epochs, a gap, events, and nothing usable."""
    place = tmp_path_factory.mktemp("people")
    (place / "mlflow.yaml").write_text("")
    for n in range(3):
        signal = real(shared_data / f"eegmat/Subject0{n}_1.edf", 90)
        edf(place / f"recordings/P{n}_rest.edf", signal)
    (place / "study.yaml").write_text(STUDY)
    signal = real(shared_data / "eegmat/Subject04_1.edf", 80)
    new = place / "new"
    edf(new / "events.edf", with_events(signal))
    epochs(new / "cut-epo.fif", signal)
    hole = signal.shape[1] // 2 // SFREQ_HZ
    discontinuous(new / "gap.edf", signal, hole, HOLE_S, NAMES)
    edf(new / "rejected.edf", signal, (edfio.EdfAnnotation(0.0, 80.0, "BAD_all of it"),))
    run(place, "train", "study.yaml")
    model = place / "derivatives/people/model"
    done = run(place, "score", "--model", model, "--out", "out", new, check=False)
    return Scored(done.returncode, done.stderr, place / "out")


def run(place: Path, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *map(str, words), "--no-prefect"],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert not check or done.returncode == 0, done.stderr
    return done


def test_epochs_of_a_real_recording_are_scored_and_no_window_spans_two(scored: Scored) -> None:
    frame = scored.scores("cut-epo")
    assert len(frame) == 20 * 3  # 80 s in epochs of 4 s, each with windows at 0, 1 and 2 s
    assert ((frame["onset_s"] % 4) <= 2).all()
    assert np.isfinite(frame["score"]).all()
    assert mne.read_annotations(scored.out / "cut-epo_desc-anomaly_annot.fif") is not None


def test_no_window_lies_in_a_gap_and_times_after_it_are_real(scored: Scored) -> None:
    frame = scored.scores("gap")
    before = frame["onset_s"] + 2 <= 40
    after = frame["onset_s"] >= 40 + HOLE_S
    assert (before | after).all()
    assert before.sum() == after.sum() == 39
    row = pd.read_parquet(scored.out / "recordings.parquet").set_index("recording").loc["gap"]
    assert row["duration_s"] == 80 + HOLE_S
    assert row["usable_share"] <= 80 / (80 + HOLE_S)


def test_a_recording_all_of_which_is_rejected_is_one_line_and_the_others_are_scored(
    scored: Scored,
) -> None:
    assert scored.status == 1
    lines = [line for line in scored.said.splitlines() if line.startswith("warning: ")]
    assert sum("rejected" in line for line in lines) == 1
    assert any("80 of 80 s are bad" in line for line in lines)
    table = pd.read_parquet(scored.out / "recordings.parquet").set_index("recording")
    assert table["verdict"].eq("failed").sum() == 1
    assert "BAD" in table.loc["rejected", "reason"]
    assert not (scored.out / "rejected_scores.parquet").exists()
    assert "rejected" not in set(pd.read_parquet(scored.out / "scores.parquet")["recording"])


@pytest.mark.parametrize(
    ("at_s", "band", "channels"),
    [(LINE_AT_S, "gamma", {"C4"}), (ALPHA_AT_S, "alpha", {"O1", "O2", "P3", "P4"})],
)
def test_the_band_of_an_event_is_named(
    scored: Scored, at_s: float, band: str, channels: set[str]
) -> None:
    frame = scored.scores("events")
    assert set(frame["top_band"]) <= set(FEATURE_BANDS_HZ)
    row = frame[frame["onset_s"] == at_s].iloc[0]
    assert row["top_band"] == band
    assert row["top_channel"] in channels
    assert row["score"] > frame["score"].quantile(0.9)


@pytest.fixture(scope="module")
def four(scored: Scored, shared_data: Path) -> Callable[[float], tuple[Bundle, RecordingResult]]:
    """A fifth person with four events, judged at any threshold."""
    bundle = load(scored.out.parent / "derivatives/people/model")
    signal = with_four(real(shared_data / "eegmat/Subject05_1.edf", 80))
    path = edf(scored.out.parent / "four.edf", signal)
    recording = open_recording(find([path])[0], EegSource(path=path))

    def judged(threshold: float) -> tuple[Bundle, RecordingResult]:
        judge = replace(bundle.by_calibration, threshold=threshold)
        return bundle, score_recording(bundle, recording, judge=judge)

    return judged


def test_highest_windows_below_the_threshold_are_listed_with_what_they_look_like(
    four: Callable[[float], tuple[Bundle, RecordingResult]],
) -> None:
    bundle, result = four(5.0)
    tables = recording_tables(bundle, result)
    assert result.events.empty
    near = result.near.head(len(FOUR)).sort_values("onset_s")
    for event, (_, row) in zip(FOUR, near.iterrows(), strict=True):
        assert row["onset_s"] < event.onset_s + event.duration_s
        assert row["onset_s"] + row["duration_s"] > event.onset_s
        assert row["looks_like"] == event.kind
        assert NAMES.index(row["channel"].split(",")[0]) in event.channels
        assert 0.5 < row["reached"] < 1
        assert result.tags[row["window"]].kind == event.kind
        said = tables.scores.set_index("onset_s").loc[row["onset_s"], "reason"]
        assert said.startswith(f"not flagged; {looks(result.tags[row['window']])}")
    assert result.summary["verdict"] == "nothing flagged"
    too_few = Finding("too_few", {"n_units": 3, "smallest_p": 0.25})
    assert too_few in result.findings
    assert sentence(too_few) in tables.row["reason"]
    view = recording_view(bundle, tables, threshold=5.0, detection=bundle.info.detection)
    assert view.headline.verdict.startswith("Nothing was flagged: 0 events")
    assert "muscle at 25.0 s (F3)" in view.headline.next_steps[0]
    page = recording_page(view)
    assert "Highest windows, below the threshold: not flagged" in page
    assert html.escape(evidence_of(result.tags[near["window"].iloc[1]])) in page


def test_where_most_is_flagged_only_the_rest_is_listed_below_the_threshold(
    four: Callable[[float], tuple[Bundle, RecordingResult]],
) -> None:
    bundle, _ = four(5.0)
    assert bundle.info.threshold is not None
    _, result = four(bundle.info.threshold)
    found = set(result.events["trial_type"].str.removeprefix("anomaly/"))
    assert found | set(result.near["looks_like"].head(1)) >= {event.kind for event in FOUR}
    ends = result.events["onset"] + result.events["duration"]
    for onset_s in result.near["onset_s"]:
        assert ((onset_s >= ends) | (onset_s + 2 <= result.events["onset"])).all()
    assert len(result.events) + len(result.near) <= 6
    tables = recording_tables(bundle, result)
    headline = recording_view(
        bundle, tables, threshold=5.0, detection=bundle.info.detection
    ).headline
    strongest = result.events.loc[result.events["score"].idxmax(), "trial_type"]
    assert result.summary["verdict"] == CATEGORY[strongest.removeprefix("anomaly/")]
    assert headline.verdict.startswith("The strongest event ")
    assert "2 physiological (1 " in headline.verdict  # brain or cable
    assert "1 technical (1 pop), the strongest (muscle) at 24.0 s on F3" in headline.verdict
    by_score = result.events.sort_values("score", ascending=False)["onset"]
    places = [headline.next_steps[0].index(f" at {onset_s:.1f} s") for onset_s in by_score[:3]]
    assert places == sorted(places)
