"""Flows against a real Prefect server, each in a process of its own, as the command runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import flows
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.jobs.job import Progress, Step
from flows.run import current_progress
from flows.server import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Play:
    """A job whose steps do what their name says."""

    plot: list[str]
    kind: str = "train"
    title: str = "Mood & sleep"
    exit_status: int = 0
    result: dict[str, Any] = field(default_factory=lambda: {"done": []})
    tries: int = 0

    def steps(self) -> Iterator[Step]:
        for name in self.plot:
            # what comes later may depend on what came before
            assert self.result["done"] == self.plot[: self.plot.index(name)]
            yield Step(name, lambda name=name: self.play(name), 2 if "read" in name else 0)

    def play(self, name: str) -> None:
        self.tries += 1
        if name == "read a disk that hangs once" and self.tries == 2:
            raise OSError("hangs")
        if name == "write to a full disk":
            raise OSError("full")
        if name == "read a bad recording":
            raise InputError("sub-01.edf: truncated")
        if name == "wait to be killed":
            Path("waiting").touch()
            time.sleep(60)
        self.result["done"].append(name)

    def summary(self) -> str:
        return f"# {len(self.result['done'])} steps"


def play(plot: list[str]) -> dict[str, Any]:
    job = Play(plot)
    try:
        given = flows.run_job(job)
    except Exception as error:
        return {"error": [type(error).__name__, str(error)], "tries": job.tries}
    return {**given, "tries": job.tries}


def main() -> None:
    """What the tests start; it prints one JSON object and nothing else."""
    if sys.argv[1] == "wait":
        play(["wait to be killed"])
        return
    if sys.argv[1] == "again":
        print(json.dumps(play(["one"])))
        return
    told: dict[str, Any] = {
        "good": play(["one", "read a disk that hangs once", "two"]),
        "broken": play(["one", "write to a full disk", "two"]),
        "bad": play(["read a bad recording"]),
    }
    progress = Progress()
    with flows.using(progress):
        told["progress"] = current_progress() is progress
        try:
            flows.train("no-such-study.yaml")
        except StudyError as error:
            told["train"] = str(error)
    from prefect.flows import load_flow_from_entrypoint

    from flows import pipeline

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    told["deployments"] = [
        load_flow_from_entrypoint(str(ROOT / deployment["entrypoint"])).name
        for deployment in deployments
    ]
    told["flows"] = [
        getattr(pipeline, name).name for name in pipeline.__all__ if name != "drop_late"
    ]
    again = [sys.executable, __file__, "again"]
    told["again"] = json.loads(subprocess.run(again, capture_output=True, check=True).stdout)
    told["servers"] = servers()
    print(json.dumps(told))


def servers() -> list[str]:
    """Processes that run a server of ours on this database."""
    home = os.environ["PREFECT_HOME"].encode()
    return [
        place.name
        for place in Path("/proc").glob("[0-9]*")
        if b"flows/server.py" in _read(place / "cmdline") and home in _read(place / "environ")
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


# --------------------------------------------------------------------------- the record


@dataclass
class Played:
    told: dict[str, Any]
    terminal: str
    database: Path
    left_over: list[str]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.database) as connection:
            return connection.execute(query).fetchall()


def start(place: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    # Into files and in a session of its own: an orphan would hold a pipe open for ever.
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdout=out,
            stderr=err,
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Everything that is played with one server, and what is left when its process has ended."""
    place = tmp_path_factory.mktemp("flows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(place / "prefect"))
        process = start(place, "all")
        assert process.wait(150) == 0, (place / "err").read_text()
        left_over = servers()
    told = json.loads((place / "out").read_text())
    return Played(told, (place / "err").read_text(), place / "prefect/prefect.db", left_over)


@pytest.mark.slow
def test_steps_run_in_order_as_tasks_and_the_result_comes_back(played: Played) -> None:
    steps = ["one", "read a disk that hangs once", "two"]
    assert played.told["good"] == {
        "kind": "train",
        "title": "Mood & sleep",
        "exit_status": 0,
        "result": {"done": steps},
        "tries": 4,
    }
    tasks = played.rows(
        "select t.name, t.run_count, t.state_type from task_run t join flow_run f "
        "on f.id = t.flow_run_id where f.state_type = 'COMPLETED' and f.name like 'Mood%' "
        "order by f.start_time, t.start_time"
    )
    names = [(name.rpartition("-")[0], count) for name, count, _ in tasks]
    assert names == [("one", 1), (steps[1], 2), ("two", 1), ("one", 1)]
    assert {state for *_, state in tasks} == {"COMPLETED"}


@pytest.mark.slow
def test_only_what_may_pass_is_tried_again_and_only_where_asked(played: Played) -> None:
    assert played.told["broken"] == {"error": ["OSError", "full"], "tries": 2}
    # retries are allowed here, but a truncated file stays truncated
    assert played.told["bad"] == {"error": ["InputError", "sub-01.edf: truncated"], "tries": 1}


@pytest.mark.slow
def test_failures_are_recorded_and_reach_the_caller_as_they_are(played: Played) -> None:
    assert played.told["train"].startswith("no-such-study.yaml")
    failed = played.rows("select state_type, name from flow_run where state_type != 'COMPLETED'")
    assert [state for state, _ in failed] == ["FAILED"] * 3
    assert [name.startswith("Mood & sleep 20") for _, name in failed] == [True, True, False]
    states = played.rows("select message from flow_run_state where type = 'FAILED'")
    assert any("sub-01.edf: truncated" in message for (message,) in states)
    assert played.terminal == ""


@pytest.mark.slow
def test_the_summary_is_an_artifact(played: Played) -> None:
    found = played.rows("select key, type, data from artifact where type = 'markdown'")
    assert ("train-mood-sleep", "markdown", '"# 3 steps"') in found
    assert len(found) == 2


@pytest.mark.slow
def test_nothing_is_kept_as_a_pickle(played: Played) -> None:
    stored = list((played.database.parent / "storage").rglob("*"))
    assert stored, "Prefect keeps the exceptions of failed flows"
    for file in stored:
        json.loads(file.read_text())


@pytest.mark.slow
def test_the_server_of_a_process_ends_with_it_and_serves_its_children(played: Played) -> None:
    assert len(played.told["servers"]) == 1, "the child used its parent's"
    assert played.told["again"]["result"] == {"done": ["one"]}
    assert played.left_over == []


@pytest.mark.slow
def test_flows_get_the_progress_and_deployments_name_them(played: Played) -> None:
    assert played.told["progress"] is True
    assert played.told["flows"] == ["demo", "inbox", "retrain", "score", "train"]
    assert played.told["deployments"] == ["train", "score", "inbox", "retrain"]


@pytest.mark.slow
def test_a_killed_process_leaves_no_server(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(played.database.parent, tmp_path / "prefect")  # saves making one
    monkeypatch.setenv("PREFECT_HOME", str(home))
    process = start(tmp_path, "wait")
    try:
        until = time.monotonic() + 90
        while not (tmp_path / "waiting").exists():
            assert process.poll() is None, (tmp_path / "err").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        assert len(servers()) == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    until = time.monotonic() + PATIENCE_S + 4
    while servers() and time.monotonic() < until:
        time.sleep(0.1)
    assert servers() == []


def test_an_absent_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    process = start(tmp_path, "again", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert process.wait(60) == 0, (tmp_path / "err").read_text()
    kind, message = json.loads((tmp_path / "out").read_text())["error"]
    assert kind == "StudyError"
    assert "http://127.0.0.1:9/api" in message
    assert "--no-prefect" in message
    assert servers() == []


# ---------------------------------------------------------------------- the environment


def test_prefect_is_set_up_before_its_import_and_the_user_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    before = set(os.environ)
    try:
        flows.prepare_environment(tmp_path)
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "data" / "prefect")
        assert os.environ["DO_NOT_TRACK"] == "true"
        assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"
        assert not (tmp_path / "data").exists()
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]


def test_importing_flows_does_not_import_prefect() -> None:
    code = "import sys, flows; print('prefect' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = flows.trian


if __name__ == "__main__":
    main()
