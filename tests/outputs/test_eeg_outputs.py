"""From recordings to what a laboratory gets: files other tools read, and nobody's name in them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import edfio
import mne
import mne_bids
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from lab import noise

from ae_pipeline.config import StudyError
from ae_pipeline.jobs.job import Job
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report.findings.methods import methods_paragraph

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "T3", "T4")
PERSON = ("Mustermann", "Erika", "MRN4711", "17-mar-1961", "1961-03-17", "17.03.61")
"""What a header says of a person, and must stand in no output."""


def patient() -> edfio.Patient:
    import datetime

    return edfio.Patient(
        code="MRN4711", sex="F", birthdate=datetime.date(1961, 3, 17), name="Erika_Mustermann"
    )


def write(path: Path, signal_uv: np.ndarray, prefix: str = "EEG ", **keys: object) -> Path:
    """An EDF as an amplifier writes it, with a person in its header and names of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    signals = [
        edfio.EdfSignal(
            row,
            100,
            label=f"{prefix}{name.upper()}-REF",
            physical_dimension="uV",
            physical_range=(-1000, 1000),
        )
        for row, name in zip(signal_uv, NAMES, strict=True)
    ]
    edfio.Edf(
        signals,
        patient=patient(),
        recording=edfio.Recording(
            hospital_administration_code="MRN4711", investigator_technician_code="Dr_Erika"
        ),
        **keys,
    ).write(path)
    return path


def eeg(seed: int) -> np.ndarray:
    """Microvolts; a rhythm that all channels share beside their own noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(6000) / 100
    rhythm = 20 * np.sin(2 * np.pi * 9.7 * t + rng.random()) * (1 + 0.3 * np.sin(0.7 * t))
    return noise(len(NAMES), 60, seed) + rng.uniform(0.8, 1.2, (len(NAMES), 1)) * rhythm


STUDY = """
study: small
source: {kind: eeg, path: recordings}
preprocess: {high_pass_hz: 1, low_pass_hz: 30, reference: average}
windows: {length_s: 1, stride_s: 0.5}
model: {architecture: {kind: dense, hidden: [16]}, objective: {kind: vanilla}, latent_dim: 3}
training: {epochs: 2}
"""


def odd(seed: int) -> np.ndarray:
    """A recording with a loose electrode and a large deflection at 20 s."""
    signal = eeg(seed)
    signal[4] = np.random.default_rng(seed).normal(0, 12, signal.shape[1])
    signal[7, 2000:2200] += 300 * np.hanning(200)
    return signal


def work(job: Job) -> int:
    """Everything but publishing."""
    for step in job.steps():
        if "MLflow" not in step.name:
            step.run()
    return job.exit_status


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and results of three recordings: a BIDS one, an odd one, one of ten times the gain.

    The BIDS root is ``new``, the results ``out``.
    """
    place = tmp_path_factory.mktemp("laboratory")
    for subject in range(4):
        write(place / f"recordings/P{subject:02d}_rest.edf", eeg(subject))
    (place / "study.yaml").write_text(STUDY)
    work(train_job(place / "study.yaml"))
    root = place / "new"
    (root / "sub-07/eeg").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    write(root / "sub-07/eeg/sub-07_task-rest_eeg.edf", odd(20))
    write(root / "sub-08/eeg/sub-08_task-rest_eeg.edf", 10 * eeg(21))
    write(root / "sub-09/eeg/sub-09_task-rest_eeg.edf", eeg(22))
    job = score_job(str(place / "derivatives/small/model"), [str(root)], out=place / "out")
    assert work(job) == 0
    return place


def results(laboratory: Path) -> pd.DataFrame:
    return pd.read_parquet(laboratory / "out/recordings.parquet").set_index("recording")


def test_a_loose_electrode_is_reported_and_interpolated(laboratory: Path) -> None:
    bads = pd.read_csv(laboratory / "out/sub-07_task-rest_bads.tsv", sep="\t")
    row = bads.set_index("name").loc["EEG C3-REF", "reason"]
    assert "disconnected" in row
    assert "interpolated" in row
    assert results(laboratory).loc["sub-07_task-rest", "verdict"] == "unusual"  # the deflection
    assert "C3" in results(laboratory).loc["sub-07_task-rest", "quality_findings"]


def test_a_gain_off_in_all_channels_is_no_secret(laboratory: Path) -> None:
    row = results(laboratory).loc["sub-08_task-rest"]
    assert "gain off in all channels" in row["quality_findings"]
    assert row["verdict"] == "technical"
    assert "gain" not in results(laboratory).loc["sub-09_task-rest", "quality_findings"]


def test_annotations_go_back_onto_the_recording(laboratory: Path) -> None:
    out = laboratory / "out"
    file = laboratory / "new/sub-07/eeg/sub-07_task-rest_eeg.edf"
    assert not list(out.glob("*_events.*"))  # they are where BIDS tools look
    events = pd.read_csv(out / "sub-07/eeg/sub-07_task-rest_desc-anomaly_events.tsv", sep="\t")
    assert len(events)
    marks = mne.read_annotations(out / "sub-07_task-rest_desc-anomaly_annot.fif")
    raw = mne.io.read_raw(file, verbose="ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw.set_annotations(marks)  # refuses channels that the recording does not have
    np.testing.assert_allclose(raw.annotations.onset, events["onset"], atol=1e-3)
    np.testing.assert_allclose(raw.annotations.duration, events["duration"], atol=1e-3)
    assert list(raw.annotations.description) == list(events["trial_type"])
    assert all(set(names) <= set(raw.ch_names) for names in raw.annotations.ch_names)
    assert any("EEG P4-REF" in names for names in raw.annotations.ch_names)


def test_mne_bids_finds_and_reads_what_was_written(laboratory: Path, tmp_path: Path) -> None:
    out = laboratory / "out"
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "ae-pipeline"
    place = mne_bids.BIDSPath(
        subject="07", task="rest", description="anomaly", datatype="eeg", root=out
    )
    events_tsv = place.copy().update(suffix="events", extension=".tsv")
    assert events_tsv.match() == [events_tsv]
    place.update(suffix="channels", extension=".tsv")
    channels = pd.read_csv(place.match()[0].fpath, sep="\t")
    loose = channels.set_index("name").loc["EEG C3-REF"]
    assert loose["status"] == "bad"
    assert "disconnected" in loose["status_description"]
    # beside the recording, mne-bids takes them for its events
    place = mne_bids.BIDSPath(subject="07", task="rest", root=tmp_path, datatype="eeg")
    raw = mne.io.read_raw(
        laboratory / "new/sub-07/eeg/sub-07_task-rest_eeg.edf", verbose="ERROR"
    ).set_meas_date(None)
    raw.set_annotations(None)
    raw.info["line_freq"] = 50
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(raw, place, verbose="ERROR")
        target = place.copy().update(suffix="events", extension=".tsv").fpath
        target.write_bytes(events_tsv.fpath.read_bytes())
        back = mne_bids.read_raw_bids(place, verbose="ERROR")
    events = pd.read_csv(events_tsv.fpath, sep="\t")
    np.testing.assert_allclose(back.annotations.onset, events["onset"], atol=1e-3)
    assert list(back.annotations.description) == list(events["trial_type"])


def test_latents_are_keyed_by_window(laboratory: Path) -> None:
    scores = pd.read_parquet(laboratory / "out/scores.parquet")
    latents = pd.read_parquet(laboratory / "out/latents.parquet")
    keys = ["recording", "window", "onset_s"]
    pd.testing.assert_frame_equal(scores[keys], latents[keys], check_dtype=False)
    assert not latents.duplicated(["recording", "window"]).any()
    one = pd.read_csv(laboratory / "out/sub-07_task-rest_desc-latent_features.tsv", sep="\t")
    there = latents[latents["recording"] == "sub-07_task-rest"]
    np.testing.assert_allclose(one["z00"], there["z00"], rtol=1e-4)


def test_no_name_of_a_header_is_in_any_output(laboratory: Path) -> None:
    header = (laboratory / "new/sub-07/eeg/sub-07_task-rest_eeg.edf").read_bytes()[:256]
    assert b"Mustermann" in header
    assert b"MRN4711" in header
    checked = 0
    for folder in ("out", "derivatives"):
        for file in (laboratory / folder).rglob("*"):
            if not file.is_file():
                continue
            content = file.read_bytes().decode("latin-1")
            if file.suffix == ".parquet":
                content = str(pq.read_table(file).to_pydict())
            for word in PERSON:
                assert word.casefold() not in content.casefold(), (file.name, word)
            checked += 1
    assert checked > 30


def test_the_methods_paragraph_says_what_was_done_and_by_what(laboratory: Path) -> None:
    text = (laboratory / "out/methods.txt").read_text()
    assert "\n" not in text.strip()
    for words in (
        "high-pass 1 Hz",
        "low-pass 30 Hz",
        "average of the good channels",
        "windows of 1 s every 0.5 s",
        "interpolated by spherical splines",
        "12 EEG channels",
        f"mne {mne.__version__}",
        "ae-pipeline",
        "dense, objective vanilla, 3 latent features",
        "at most 6 events an hour",
        "Hamming window of 3.3",  # seconds for a high-pass at 1 Hz
        "4 recordings of 4 participants",
        "4 calibration subjects",
        "cross-conformal",  # each left out in turn: fewer than eight
        "bound is weaker",
        "by adamw (learning rate 0.001)",
        "early stopping after 10 epochs",
        "measured, each by the threshold of the others",
        "ensemble of reconstruction error",
    ):
        assert words in text, words
    for page in ("group_report.html", "sub-07_task-rest_report.html"):
        assert "Methods, to paste" in (laboratory / "out" / page).read_text()
    assert (laboratory / "derivatives/small/methods.txt").is_file()


@pytest.mark.parametrize("kind", ["table", "pictures"])
def test_other_kinds_have_their_paragraph_too(kind: str) -> None:
    bundle = getattr(tiny, kind)().bundle
    text = methods_paragraph(bundle, bundle.info.detection)
    assert "autoencoder" in text
    assert "filter" not in text
    assert "n/a" not in text.replace("seed n/a", "")


def test_the_group_page_ranks_and_says_why_at_a_glance(laboratory: Path) -> None:
    page = (laboratory / "out/group_report.html").read_text()
    assert len(page) < 10_000_000
    for name in ("sub-07_task-rest", "sub-08_task-rest"):
        assert f"{name}_report.html" in page
    assert "gain off in all channels" in page
    quality = pd.read_csv(laboratory / "out/group_desc-quality.tsv", sep="\t")
    assert set(quality["recording"]) == set(results(laboratory).index)


def test_windows_at_events_train_and_score(tmp_path: Path) -> None:
    go = [edfio.EdfAnnotation(5.0 + 10 * i, None, "go") for i in range(6)]
    pause = [edfio.EdfAnnotation(34.5, 2.0, "BAD_pause")]
    for subject in range(4):
        write(tmp_path / f"recordings/P{subject}.edf", eeg(subject), annotations=[*go, *pause])
    study = {**yaml.safe_load(STUDY), "windows": {"at": "go", "length_s": 1.0, "offset_s": -0.2}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    work(train_job(tmp_path / "study.yaml"))
    new = write(tmp_path / "new.edf", eeg(9), annotations=[*go, *pause])
    model = tmp_path / "derivatives/small/model"
    assert work(score_job(str(model), [str(new)], out=tmp_path / "out")) == 0
    scores = pd.read_parquet(tmp_path / "out/scores.parquet")
    assert scores["onset_s"].tolist() == pytest.approx([4.8, 14.8, 24.8, 44.8, 54.8])


def test_recordings_in_processes_of_their_own_score_the_same(
    laboratory: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.edf").write_bytes(b"nothing of the kind" * 99)
    model = str(laboratory / "derivatives/small/model")
    inputs = [str(laboratory / "new"), str(tmp_path / "broken.edf")]
    job = score_job(model, inputs, out=tmp_path / "out", jobs=2)
    assert work(job) == 1
    assert len(job.failures) == 1
    assert "broken.edf" in job.failures[0].reason
    keys = ["recording", "window"]
    apart = pd.read_parquet(tmp_path / "out/scores.parquet").sort_values(keys)
    here = pd.read_parquet(laboratory / "out/scores.parquet").sort_values(keys)
    pd.testing.assert_frame_equal(
        apart.reset_index(drop=True), here.reset_index(drop=True), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(StudyError, match="--jobs 0"):
        score_job(model, inputs, out=tmp_path / "out", jobs=0)
