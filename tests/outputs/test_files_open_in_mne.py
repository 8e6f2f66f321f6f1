"""What is written about a recording is opened by MNE, on the recording itself."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path

import edf_files
import edfio
import mne
import numpy as np
import pandas as pd
import pytest
import tiny
from lab import noise

from ae_pipeline.jobs.score import score_job
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.sources.eeg import EegSource, find, open_recording

LABELS = ("EEG FZ-REF", "EEG CZ-REF", "EEG PZ-REF", "EEG OZ-REF")
LOUD_S = 40.0
"""Where the signal is loud, in seconds of signal."""
GAP_S = 100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model") / "model"
    bundles.save(place, tiny.eeg().bundle)
    return place


def signal() -> np.ndarray:
    values = noise(seconds=60, seed=7)
    loud = slice(round(LOUD_S * 100), round((LOUD_S + 2) * 100))
    values[2, loud] += 500 * np.sin(2 * np.pi * 20 * np.arange(200) / 100)
    return values


def written(place: Path) -> dict[str, Path]:
    """One recording as EDF, as a cropped FIF with and without a date, and with a gap."""
    edf_files.write_edf(
        place / "plain.edf",
        signal(),
        list(LABELS),
        recording=edfio.Recording(startdate=datetime.date(2019, 3, 17)),
        starttime=datetime.time(13, 30, 5),
        annotations=[edfio.EdfAnnotation(12.5, 1.0, "go")],
    )
    edf_files.discontinuous(place / "gap.edf", signal(), gap_after=30, gap_s=GAP_S, names=LABELS)
    raw = mne.io.read_raw_edf(place / "plain.edf", verbose="ERROR")
    raw.crop(5.0).save(place / "cropped_raw.fif", verbose="ERROR")
    raw.set_meas_date(None).save(place / "undated_raw.fif", verbose="ERROR")
    return {file.stem: file for file in sorted(place.iterdir())}


@pytest.fixture(scope="module")
def scored(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    """Recordings by name, and their results."""
    place = tmp_path_factory.mktemp("scored")
    (place / "recordings").mkdir()
    files = written(place / "recordings")
    job = score_job(str(model), [str(place / "recordings")], out=place / "out")
    for step in list(job.steps())[:-1]:  # all but publishing
        step.run()
    assert job.exit_status == 0
    return files, place / "out"


def loudest_s(raw: mne.io.BaseRaw) -> float:
    return float(raw.times[np.abs(np.diff(raw.get_data(), axis=1)).max(0).argmax()])


@pytest.mark.parametrize("name", ["plain", "gap", "cropped_raw", "undated_raw"])
def test_annotations_are_added_to_those_of_the_recording(
    scored: tuple[dict[str, Path], Path], name: str
) -> None:
    files, out = scored
    raw = mne.io.read_raw(files[name], verbose="ERROR")
    marks = mne.read_annotations(out / f"{name}_desc-anomaly_annot.fif")
    assert marks.orig_time == raw.annotations.orig_time
    assert (marks.orig_time is None) == (name == "undated_raw")
    own = list(raw.annotations.description)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # MNE warns of what lies outside of the recording
        if name == "undated_raw":  # MNE would shift its own a second time
            raw.set_annotations(marks)
        else:
            raw.set_annotations(raw.annotations + marks)
            assert sorted(raw.annotations.description) == sorted([*own, *marks.description])
    begins = raw.annotations.onset - raw.first_time
    ends, here = begins + raw.annotations.duration, loudest_s(raw)
    ours = np.char.startswith(raw.annotations.description, "anomaly/")
    assert ((begins <= here + 0.1) & (here - 0.1 <= ends) & ours).any(), (begins, ends, here)
    assert any("EEG PZ-REF" in names for names in raw.annotations.ch_names)


def test_tables_have_the_clock_and_annotations_what_mne_counts(
    scored: tuple[dict[str, Path], Path],
) -> None:
    _, out = scored
    for name, gap_s in (("plain", 0), ("gap", GAP_S)):
        events = pd.read_csv(out / f"{name}_desc-anomaly_events.tsv", sep="\t")
        marks = mne.read_annotations(out / f"{name}_desc-anomaly_annot.fif")
        late = events["onset"] > 30
        assert late.any()
        np.testing.assert_allclose(marks.onset[late], events["onset"][late] - gap_s, atol=1e-6)
        assert set(",".join(events["channel"].dropna()).split(",")) <= set(LABELS)


def test_bad_channels_go_into_info_as_they_are(model: Path, tmp_path: Path) -> None:
    values = signal()
    values[1] = 0
    (tmp_path / "in").mkdir()
    edf_files.write_edf(tmp_path / "in/flat.edf", values, list(LABELS))
    job = score_job(str(model), [str(tmp_path / "in")], out=tmp_path / "out")
    for step in list(job.steps())[:-1]:
        step.run()
    raw = mne.io.read_raw(tmp_path / "in/flat.edf", verbose="ERROR")
    bads = pd.read_csv(tmp_path / "out/flat_bads.tsv", sep="\t")["name"].tolist()
    raw.info["bads"] += bads  # refuses names that the recording does not have
    assert raw.info["bads"] == ["EEG CZ-REF"]


@pytest.mark.parametrize(
    "told",
    [
        {"starttime": datetime.time(23, 59, 58)},
        {"recording": edfio.Recording(startdate=datetime.date(1985, 2, 28))},
        {"recording": edfio.Recording(startdate=datetime.date(2031, 1, 2), equipment_code="x")},
    ],
)
def test_a_recording_began_when_mne_says(tmp_path: Path, told: dict[str, object]) -> None:
    edf_files.write_edf(tmp_path / "a.edf", signal(), list(LABELS), **told)
    raw = mne.io.read_raw(tmp_path / "a.edf", verbose="ERROR")
    one = open_recording(next(iter(find([tmp_path / "a.edf"]))), EegSource(path=tmp_path))
    assert one.orig_time == raw.info["meas_date"]


def test_an_impossible_date_is_none(tmp_path: Path) -> None:
    path = edf_files.write_edf(tmp_path / "a.edf", signal(), list(LABELS))
    content = bytearray(path.read_bytes())
    content[88:168] = b"".ljust(80)
    content[168:176] = b"31.02.xx"
    path.write_bytes(content)
    one = open_recording(next(iter(find([path]))), EegSource(path=tmp_path))
    assert one.orig_time is None
    assert mne.io.read_raw(path, verbose="ERROR").info["meas_date"] is None
