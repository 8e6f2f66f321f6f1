"""Every command's help has an example, and the examples do what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.main import get_command

from ae_pipeline.cli import app
from ae_pipeline.data import InputError
from ae_pipeline.jobs.init import initial_study
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.sources.sample_data import fetch

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parent

TABLE = {"generate", "complete"}
SERVERS = {"up": "http://127.0.0.1", "ui": "http://127.0.0.1", "serve": "serv"}
ELSEWHERE = {  # minutes, or in need of a registered model: what runs them
    "compare": "jobs/test_compare.py",
    "demo": "jobs/test_main_job.py",
    "promote": "jobs/test_retrain.py",
    "retrain": "jobs/test_retrain.py",
}


def commands() -> dict[str, str]:
    """Name and help of every command."""
    found: dict[str, str] = {}

    def walk(group: Any, before: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                walk(command, f"{before}{name} ")
            elif not command.hidden:
                found[f"{before}{name}"] = command.help or ""

    walk(get_command(app), "")
    return found


def example(help_text: str) -> str:
    match = re.search(r"^\s*Example: (ae-pipeline .+)$", help_text, re.M)
    return match[1] if match else ""


COMMANDS = commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    assert example(COMMANDS[name]).startswith(f"ae-pipeline {name}")


def samples() -> tuple[Path, Path]:
    try:
        return fetch("eeg", lambda line: None), fetch("bfi", lambda line: None)
    except InputError as error:
        pytest.skip(str(error))


def study_of(kind: str, source: Path, place: Path, **more: object) -> Path:
    """A study called 'study', quick to train."""
    content = yaml.safe_load(initial_study(kind, source, name="study"))
    content["training"]["epochs"] = 2
    content |= more
    file = place / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the examples of EEG commands assume it."""
    eeg, _ = samples()
    place = tmp_path_factory.mktemp("recordings")
    (place / "mlflow.yaml").write_text("")
    for name in ("recordings", "normal"):
        shutil.copytree(eeg / "recordings", place / name)
    shutil.copy(eeg / "new/events.tsv", place / "events.tsv")
    (place / "inbox").mkdir()
    new = sorted((eeg / "new").glob("*.edf"))
    shutil.copy(new[0], place / "inbox/sub-07_eeg.edf")
    operation = {"inbox": "inbox", "settle_s": 0}
    study = study_of("eeg", place / "recordings", place, operation=operation)
    run_plainly(train_job(study, place / "derivatives/study"))
    model = str(place / "derivatives/study/model")
    run_plainly(score_job(model, [str(eeg / "new")], out=place / "results"))
    return place


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for tables."""
    _, bfi = samples()
    place = tmp_path_factory.mktemp("table")
    (place / "mlflow.yaml").write_text("")
    pd.read_csv(bfi / "bfi.csv", dtype="Int64").head(300).to_csv(place / "answers.csv", index=False)
    study = study_of("questionnaire", place / "answers.csv", place)
    run_plainly(train_job(study, place / "derivatives/study"))
    return place


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in SERVERS and n not in ELSEWHERE])
def test_the_example_does_what_it_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, typed: dict[str, str]
) -> None:
    place = request.getfixturevalue("table" if name in TABLE else "recordings")
    words = shlex.split(example(COMMANDS[name]))
    # what is there already is not written over: the command says so, which is no example
    here = tmp_path / "here"
    shutil.copytree(place, here, symlinks=True)
    if name == "init":
        (here / "study.yaml").unlink()
    if name == "score":
        shutil.rmtree(here / "results")
    if name == "why":
        subprocess.run(
            ["ae-pipeline", "run-inbox", "study.yaml", "--no-prefect"],
            cwd=here,
            env=typed,
            check=False,
            capture_output=True,
        )
    done = subprocess.run(
        words,
        cwd=here,
        env=typed,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def is_up(name: str, said: str) -> bool:
    """Whether a server has said so, and answers where it says that it is."""
    if SERVERS[name] not in said:
        return False
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    if found is None:
        return True
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(found[1]))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_and_stops(name: str, recordings: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            shlex.split(example(COMMANDS[name])),
            cwd=recordings,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
            # what was started in the background has Ctrl-C switched off, and so have its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        until = time.monotonic() + 120
        while not is_up(name, log.read_text()) and process.poll() is None:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.3)
        assert process.poll() is None, log.read_text()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    # MLflow itself may tell how it was interrupted
    assert not re.search(r'File ".*(ae_pipeline|flows)/', log.read_text())


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_not_run_here_is_run_elsewhere(name: str) -> None:
    assert name in (TESTS / ELSEWHERE[name]).read_text()
