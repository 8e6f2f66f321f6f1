"""A kind that another package brings goes through every command without a line of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ae_pipeline import kind
from ae_pipeline.cli import app
from ae_pipeline.config import StudyError
from ae_pipeline.jobs.init import initial_study
from ae_pipeline.study import Study

TOY = Path(__file__).parent / "toy"
SFREQ_HZ = 50


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(TOY)
    kind.forget()
    yield
    sys.modules.pop("wearable", None)
    kind.forget()


def person(file: Path, seed: int, *, seconds: int = 20) -> Path:
    """Three sensors that see two rhythms, and noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(seconds * SFREQ_HZ) / SFREQ_HZ
    rhythms = np.sin(2 * np.pi * np.array([[1.0], [3.0]]) * time_s + rng.random((2, 1)))
    mixing = np.array([[1.0, 0.2], [0.5, 0.5], [0.1, 1.0]])
    signal = mixing @ rhythms + 0.1 * rng.normal(size=(3, len(time_s)))
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(signal.T, columns=["x", "y", "z"]).to_csv(file, index=False)
    return file


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def the_others_are_done_where_a_reader_has_not_foreseen_a_file(model: Path, new: Path) -> None:
    Path("mlflow.yaml").write_text("")  # the log stays here
    words = new.with_name("a-words.csv")
    words.write_text("x,y,z\na,b,c\n")
    given = ["score", "--model", model, "--out", "guarded", words, new, "--no-prefect"]
    result = CliRunner().invoke(app, [str(word) for word in given])
    assert result.exit_code == 1
    assert "a-words.csv: unexpected error (ValueError), please report it" in result.stderr
    assert "Traceback" not in result.output
    assert "could not convert string to float" in Path("data/errors.log").read_text()
    assert set(pd.read_parquet("guarded/scores.parquet")["recording"]) == {"odd"}
    words.unlink()


@pytest.mark.usefixtures("installed")
def test_it_goes_through_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        person(tmp_path / f"people/p{i:02d}.csv", i)
    new = person(tmp_path / "new/odd.csv", 99)
    table = pd.read_csv(new)
    table.loc[5 * SFREQ_HZ : 10 * SFREQ_HZ - 1, "x"] = 4.0  # a sensor that hangs
    table.to_csv(new, index=False)
    run("init", "wearable", tmp_path / "people", "-o", "study.yaml")
    assert "sfreq_hz: 50.0" in Path("study.yaml").read_text()
    assert "preprocess" not in Path("study.yaml").read_text()
    assert "240" in run("validate", "study.yaml")
    run("train", "study.yaml", "--out", "trained", "--no-prefect")
    model = tmp_path / "trained/model"
    run("score", "--model", model, "--out", "scored", new, "--no-prefect")
    scores = pd.read_parquet("scored/scores.parquet")
    assert len(scores) == 20
    assert set(scores.nlargest(5, "score")["window"]) == {5, 6, 7, 8, 9}
    for page in ("trained/report.html", "scored/report.html"):
        text = Path(page).read_text()
        assert "stretches" in text
        assert not any(word in text for word in ("EEG", "respondent", "questionnaire"))
    the_others_are_done_where_a_reader_has_not_foreseen_a_file(model, new)
    run("generate", "--model", model, "-n", "30", "--out", "made.csv")
    assert pd.read_csv("made.csv").shape == (30 * SFREQ_HZ, 3)
    said = json.loads(
        run("complete", "--model", model, new, "--out", "whole.csv", "--hide", "y", "--json")
    )
    assert set(said["measured"]) == {"channels", "time"}
    whole = pd.read_csv("whole.csv")
    np.testing.assert_allclose(whole[["x", "z"]], table[["x", "z"]], atol=1e-5)
    assert not np.allclose(whole["y"], table["y"])
    run("calibrate", "--model", model, "--out", "again", tmp_path / "people")
    run(
        "compare",
        "study.yaml",
        "--architecture",
        "dense",
        "--latent-dim",
        "2",
        "--seeds",
        "1",
        "--out",
        "compared",
        "--jobs",
        "1",
        "--no-prefect",
    )
    assert Path("compared/report.html").is_file()


@pytest.mark.usefixtures("installed")
def test_it_is_among_the_kinds_a_study_may_name(tmp_path: Path) -> None:
    assert kind.names() == ("eeg", "mnist", "questionnaire", "wearable")
    assert kind.provider("wearable") == "wearable==1.0"
    assert kind.provider("eeg") is None
    given = {"study": "s", "source": {"kind": "wearable", "path": tmp_path, "sfreq_hz": 25}}
    study = Study.model_validate(given)
    assert study.model_dump(mode="json")["source"]["sfreq_hz"] == 25
    assert study.training.epochs == 6


def test_without_its_package_a_kind_is_named_as_what_is_missing() -> None:
    with pytest.raises(StudyError, match="kind 'wearable' is not installed; expected one of eeg"):
        initial_study("wearable")
