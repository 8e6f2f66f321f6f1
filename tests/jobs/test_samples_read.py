"""How often train, score and complete read the samples of a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from ae_pipeline.jobs.complete import complete
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.scoring import recording as scoring
from ae_pipeline.sources.formats import edf

SFREQ_HZ, SECONDS, CHANNELS = 100, 1800, ("F3", "F4", "Cz", "O1", "O2")
STUDY = """\
study: read
source: {kind: eeg, path: normal}
preprocess: {high_pass_hz: 1, low_pass_hz: 40}
windows: {length_s: 2.0, stride_s: 1.0}
model: {architecture: {kind: dense, hidden: [8]}, objective: {kind: vanilla}, latent_dim: 2}
training: {epochs: 1}
"""

Times = Callable[[str], float]


def write(path: Path, seed: int) -> Path:
    """Half an hour of noise that the channels share, with a few bursts."""
    rng = np.random.default_rng(seed)
    n = SFREQ_HZ * SECONDS
    shared = rng.normal(0, 10, n)
    for at in rng.integers(0, n - 200, 8):
        shared[at : at + 200] *= 6
    signals = [
        edfio.EdfSignal(
            shared + rng.normal(0, 5, n),
            SFREQ_HZ,
            label=name,
            physical_dimension="uV",
            physical_range=(-400, 400),
        )
        for name in CHANNELS
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals).write(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read")
    write(folder / "normal/S01_rest.edf", 0)
    write(folder / "new/S02_rest.edf", 1)
    (folder / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture
def times_read(monkeypatch: pytest.MonkeyPatch) -> Times:
    """How many times the seconds of a file that were read are those that it has."""
    seconds: Counter[str] = Counter()
    records = edf._Edf.records

    def counted(self: edf._Edf, first: int, last: int) -> Any:
        seconds[self.path.name] += (last - first) * self.record_s
        return records(self, first, last)

    monkeypatch.setattr(edf._Edf, "records", counted)
    return lambda name: seconds[name] / SECONDS


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    run(train_job(place / "study.yaml"))
    return place / "derivatives/read/model"


def run(job: Any) -> None:
    for step in job.steps():
        if "MLflow" not in step.name:
            step.run()
    assert job.exit_status == 0


def test_train_reads_a_recording_twice(
    place: Path, times_read: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(place / "cache"))
    other = ["source.line_freq_hz=60"]  # above what 100 samples a second hold
    run(train_job(place / "study.yaml", place / "other", overrides=other))
    assert 1.9 < times_read("S01_rest.edf") <= 2.1


@pytest.mark.parametrize("held", [True, False])
def test_score_reads_a_recording_at_most_twice(
    place: Path,
    model: Path,
    times_read: Times,
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
) -> None:
    if not held:
        monkeypatch.setattr(scoring, "HELD_NUMBERS", 0)
    new = place / "new/S02_rest.edf"
    run(score_job(str(model), [str(new)], out=place / f"scored-{held}"))
    assert times_read(new.name) <= (1.1 if held else 2.1)


def test_complete_reads_a_recording_twice(place: Path, model: Path, times_read: Times) -> None:
    new = place / "new/S02_rest.edf"
    complete(str(model), str(new), out=place / "completed.edf", hide="Cz")
    assert times_read(new.name) <= 2.1
