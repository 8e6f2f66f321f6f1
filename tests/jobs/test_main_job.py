"""The main job on real data, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ae_pipeline.analysis.evaluate import named_events, read_truth
from ae_pipeline.data import InputError
from ae_pipeline.eeg.survey import survey_with_stats
from ae_pipeline.eeg.windows import cut
from ae_pipeline.jobs.demo.job import KINDS, DemoJob
from ae_pipeline.jobs.init import initial_study
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.scoring.bundle import Bundle, load
from ae_pipeline.sources import eeg
from ae_pipeline.sources.sample_data import fetch
from ae_pipeline.training import loop as train

COMMAND = Path(sys.executable).with_name("ae-pipeline")


def run(place: Path, *words: object, timeout_s: float = 170) -> tuple[int, str, str]:
    """The installed command in a session of its own, output in files (a server may outlive it)."""
    out, err = place / "stdout.txt", place / "stderr.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [str(COMMAND), *map(str, words)],
            cwd=place,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return status, out.read_text(), err.read_text()


def have(name: str) -> None:
    """Sample data, or a skip with the reason."""
    try:
        fetch(name, lambda line: None)
    except InputError as error:
        pytest.skip(str(error))


def in_reports(place: Path) -> pd.DataFrame:
    """The events that the pages of recordings show."""
    rows = []
    for file in sorted(place.glob("*_report.html")):
        if file.name == "group_report.html":
            continue
        for row in re.findall(r"<tr>(.*?)</tr>", file.read_text(), re.S):
            cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row, re.S)]
            if len(cells) > 4 and cells[3].startswith("anomaly/"):
                onset, duration = (float(text.replace(",", "")) for text in cells[1:3])
                name = file.name.removesuffix("_report.html")
                rows.append((name, onset, duration, cells[3], cells[4]))
    names = ["recording", "onset", "duration", "trial_type", "channel"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.slow
def test_quick_demo_ends_with_an_index_of_three_kinds(tmp_path: Path) -> None:
    for name in ("eeg", "bfi", "mnist"):
        have(name)
    (tmp_path / "mlflow.yaml").write_text("")
    status, out, err = run(tmp_path, "demo", "--quick", "-o", "demo", "--json")
    assert status == 0, err
    assert "Traceback" not in err
    result = json.loads(out)
    page = Path(result["report"]).read_text()
    for kind in KINDS:
        assert f"{kind}/new-data/" in page
        assert (tmp_path / "demo" / kind / "training/model/bundle.json").is_file()
    eeg = result["eeg_truth"]
    assert eeg["found"] >= 11  # of 16 planted, 11 of them strong
    assert eeg["scorers"]["score"]["roc_area"] > 0.8
    truth = read_truth(fetch("eeg", lambda line: None) / "new/events.tsv")
    strong = truth[truth["strength"] == "strong"]
    assert len(strong) >= 10
    named = named_events(in_reports(tmp_path / "demo/eeg/new-data"), strong)
    assert named["right"].mean() >= 0.8, named  # kind and channel, as a reader sees them
    assert "planted: " in page
    assert f"{int(named['right'].sum())} of {len(strong)}" in page
    assert result["mnist_truth"]["scorers"]["score"]["roc_area"] > 0.9
    assert result["mnist_train"]["metrics"]["parameters"] == 407_834
    assert result["mnist_train"]["run"]


def initial(place: Path, kind: str, source: Path, **changes: object) -> Path:
    """What ``init`` writes for some data, with a few settings changed, under ``place``."""
    content = yaml.safe_load(initial_study(kind, source, name="study"))
    for dotted, value in changes.items():
        part, _, name = dotted.partition("__")
        content[part][name] = value
    study = place / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    return study


SMALL = {
    "model__architecture": {"kind": "dense", "hidden": [16]},
    "model__latent_dim": 1,
    "training__epochs": 2,
}


@pytest.mark.slow
def test_eegmat_people_are_scored_by_a_model_of_others(shared_data: Path, tmp_path: Path) -> None:
    place = tmp_path / "train"
    place.mkdir()
    files = sorted((shared_data / "eegmat").glob("*.edf"))
    for file in files:
        if file.name < "Subject04":
            (place / file.name).symlink_to(file)
    study = initial(tmp_path, "eeg", place, **SMALL, preprocess__sfreq_hz=125)
    out = tmp_path / "out"
    run_plainly(train_job(study, out))
    info = json.loads((out / "model/bundle.json").read_text())
    assert len(info["entries"]) == 19  # without ECG and the reference difference
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test_units"] == 4
    assert metrics["beats_baselines"]["interval"] is not None
    scores = pd.read_parquet(out / "scores.parquet")
    assert scores["subject"].nunique() == 4
    new = [str(file) for file in files if file.name >= "Subject04"]
    job = score_job(str(out / "model"), new, out=tmp_path / "scored")
    run_plainly(job)
    assert job.exit_status == 0
    recordings = pd.read_parquet(tmp_path / "scored/recordings.parquet")
    assert sorted(recordings["recording"]) == [
        "Subject04_1",
        "Subject04_2",
        "Subject05_1",
        "Subject05_2",
    ]
    # real, normal EEG of people the model never saw: not everything may be flagged
    scores = pd.read_parquet(tmp_path / "scored/scores.parquet")
    assert scores["flagged"].mean() < 0.2
    same_in_any_pieces(load(out / "model"), Path(new[0]), scores)


def same_in_any_pieces(bundle: Bundle, file: Path, scored: pd.DataFrame) -> None:
    """To 1e-5, not of the range but as numbers: by other blocks, other batches and alone."""
    info = bundle.info
    recording = eeg.open_recording(eeg.find([file])[0], info.source).pick(info.entries)
    plan, stats = survey_with_stats(
        recording,
        info.preprocess,
        line_freq_hz=50.0,
        sfreq_hz=info.sfreq_hz,
        windowing=info.windows,
    )
    cutting = partial(cut, recording, plan, windowing=info.windows, robust_stats=stats)
    expected = scored[scored["recording"] == recording.name]
    names = [name for name in expected if name == "score" or name.startswith("score_")]
    for block_s, batch in ((7.0, 64), (20.0, 1), (60.0, 17)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "SCORING_BATCH", batch)
            blocks = [bundle.judge(samples).frame for samples in cutting(block_s=block_s)]
        found = pd.concat(blocks)
        for name in names:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    first = next(cutting()).take(slice(3, 4))
    alone = bundle.judge(first).frame
    for name in names:
        np.testing.assert_allclose(alone[name], expected[name].iloc[3:4], rtol=0, atol=1e-5)


# Every recording at hand with a model of its own kind: scored, or refused and why.
RECORDINGS = {
    "eegmmidb/S001R01_trimmed.edf": "scored",
    "eegmmidb/S001R03.edf": "scored",
    "eegmmidb/S001R04.edf": "scored",
    "eegmmidb/S001R05.edf": "scored",
    "eegmmidb/S001R06.edf": "scored",
    "eegmmidb/S001R02_trimmed.edf": "scored",
    "eeglab_sample/eeglab_data.set": "scored",
    "eeglab_sample/test.edf": "scored",
    "eeglab_sample/test.bdf": "scored",
    "eeglab_sample/testbva.vhdr": "scored",
    "formats/test.edf": "scored",
    "formats/test.vhdr": "scored",
    "formats/test.bdf": "high_pass_hz",  # 1 s long: no filter fits
    "resting_fif/data_resting_EO_200Hz_raw.fif": "scored",
}


def _train_on(file: Path, place: Path, changes: dict[str, float]) -> None:
    study = initial(place, "eeg", file, **SMALL, **changes)
    run_plainly(train_job(study, place / "out"))


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_is_scored_or_refused(shared_data: Path, tmp_path: Path, name: str) -> None:
    file = shared_data / name
    changes = {"preprocess__high_pass_hz": 1.0, "windows__length_s": 1.0}
    if RECORDINGS[name] != "scored":
        with pytest.raises(InputError, match=RECORDINGS[name]) as refused:
            _train_on(file, tmp_path, changes)
        assert "\n" not in str(refused.value)
        return
    _train_on(file, tmp_path, changes)
    job = score_job(str(tmp_path / "out/model"), [str(file)], out=tmp_path / "scored")
    run_plainly(job)
    assert job.exit_status == 0
    scores = pd.read_parquet(tmp_path / "scored/scores.parquet")
    assert len(scores)
    assert np.isfinite(scores["score"]).all()


def test_every_recording_at_hand_is_in_the_table(shared_data: Path) -> None:
    folders = ("eegmmidb", "eeglab_sample", "formats", "resting_fif")
    endings = (".edf", ".bdf", ".vhdr", ".set", ".fif")
    found = {
        f"{folder}/{file.name}"
        for folder in folders
        for file in (shared_data / folder).iterdir()
        if file.name.endswith(endings)
    }
    assert found == set(RECORDINGS)


def test_the_careless_survey_trains_and_scores(shared_data: Path, tmp_path: Path) -> None:
    items = shared_data / "careless/items.csv"
    study = initial(tmp_path, "questionnaire", items, training__epochs=10)
    run_plainly(train_job(study, tmp_path / "out"))
    job = score_job(str(tmp_path / "out/model"), [str(items)], out=tmp_path / "scored")
    run_plainly(job)
    assert job.exit_status == 0
    persons = pd.read_csv(tmp_path / "scored/persons.csv", dtype={"id": str})
    assert len(persons) == len(pd.read_csv(items))
    assert {"id", "score", "p_value", "q_value", "flagged"} <= set(persons)
    # half of whom are worth a look failed attention checks, of all people a tenth did
    checks = pd.read_csv(shared_data / "careless/metrics.csv").set_index("subject")["infreq"]
    proposed = persons[persons["proposed"] & persons["id"].isin(checks.index)]
    assert 3 <= len(proposed) <= 80  # few, after so few epochs
    assert (checks.loc[proposed["id"]] >= 2).mean() > 0.3
    page = (tmp_path / "scored/report.html").read_text(encoding="utf-8")
    assert "are proposed for a look" in page
    assert "answers and what was expected of them" in page
    table = pd.read_csv(tmp_path / "scored/items.csv")
    assert len(table) == 50
    assert table["mean_error"].between(0, 10).all()
    assert (tmp_path / "scored/report.html").is_file()


def test_demo_refuses_kinds_it_does_not_have(tmp_path: Path) -> None:
    assert DemoJob(["mnist", "eeg"], tmp_path, quick=True).kinds == ["eeg", "mnist"]
    status, _, err = run(tmp_path, "demo", "meg")
    assert status == 2
    assert "expected eeg" in err
