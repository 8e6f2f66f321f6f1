"""The same work by every runner, real processes and a real Dask scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.files import is_alive
from ae_pipeline.runtime.operation import Dask, Processes, Sequential
from ae_pipeline.runtime.workers import Died, each, environment, n_workers

ROOT = Path(__file__).resolve().parents[2]


def work(item: int) -> tuple[int, int, str | None]:
    if item == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 99:
        raise OSError("full")
    return item**2, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def test_one_after_another_is_in_this_process() -> None:
    assert [(i, r[0]) for i, r in each(Sequential(), work, items=[1, 2, 3])] == [
        (1, 1),
        (2, 4),
        (3, 9),
    ]
    assert {r[1] for _, r in each(Sequential(), work, items=[1, 2])} == {os.getpid()}
    assert n_workers(Sequential()) == 1


@pytest.mark.slow
def test_one_that_ends_its_process_takes_nobody_with_it() -> None:
    items = [1, 13, 2, 3, 4]
    found = dict(each(Processes(workers=2), work, items=items))
    assert isinstance(found.pop(13), Died)
    assert {item: result[0] for item, result in found.items()} == {1: 1, 2: 4, 3: 9, 4: 16}
    assert os.getpid() not in {result[1] for result in found.values()}
    assert {result[2] for result in found.values()} == {"1"}
    with pytest.raises(OSError, match="full"):
        list(each(Processes(workers=2), work, items=[1, 99]))
    given = dict(each(Processes(workers=2), work, items=[1, 2], threads=2))
    assert {result[2] for result in given.values()} == {"2"}


def number_then_wait(item: int) -> int:
    Path(os.environ["AE_TEST_PLACE"], f"{os.getpid()}").touch()
    time.sleep(600)
    return item


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = (
        "from test_workers import number_then_wait as work\n"
        "from ae_pipeline.runtime.operation import Processes\n"
        "from ae_pipeline.runtime.workers import each\n"
        "if __name__ == '__main__': list(each(Processes(workers=2), work, items=[1, 2]))\n"
    )
    file = tmp_path / "start.py"
    file.write_text(code)
    inside = tmp_path / "inside"
    inside.mkdir()
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    variables = os.environ | {"PYTHONPATH": path, "AE_TEST_PLACE": str(inside)}
    parent = subprocess.Popen([sys.executable, str(file)], env=variables)
    until = time.monotonic() + 120
    while len(list(inside.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    parent.kill()  # no handler of its own runs
    parent.wait(30)
    processes = [int(file.name) for file in inside.iterdir()]
    assert len(processes) == 2
    until = time.monotonic() + 30
    while any(is_alive(process) for process in processes) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(is_alive(process) for process in processes)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Dask scheduler with two workers, as a cluster has them."""
    pytest.importorskip("distributed", reason="Dask is an extra: pip install 'ae-pipeline[dask]'")
    place = tmp_path_factory.mktemp("dask")
    note = place / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    python = [sys.executable, "-c", "import sys; from dask.__main__ import main; main()"]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        *[["worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2,
    ]
    with (place / "log").open("wb") as log:
        running = [
            subprocess.Popen(
                [*python, *command, "--scheduler-file", str(note)],
                stdout=log,
                stderr=log,
                cwd=place,
                env=environment,
            )
            for command in commands
        ]
    try:
        until = time.monotonic() + 60
        while not note.is_file() and time.monotonic() < until:
            time.sleep(0.1)
        import json

        yield json.loads(note.read_text())["address"]
    finally:
        for process in reversed(running):  # workers would wait for a scheduler that has gone
            process.kill()
        for process in running:
            process.wait(30)


@pytest.mark.slow
def test_dask_does_the_same_on_an_existing_scheduler(scheduler: str) -> None:
    found = dict(each(Dask(scheduler=scheduler), work, items=[1, 2, 3, 4]))
    assert {item: result[0] for item, result in found.items()} == {1: 1, 2: 4, 3: 9, 4: 16}
    assert os.getpid() not in {result[1] for result in found.values()}


def test_a_scheduler_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(StudyError, match="does not answer"):
        list(each(Dask(scheduler="tcp://127.0.0.1:9"), work, items=[1]))


def test_variables_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_SET", "before")
    monkeypatch.delenv("AE_UNSET", raising=False)
    with environment({"AE_SET": "a", "AE_UNSET": "b"}):
        assert (os.environ["AE_SET"], os.environ["AE_UNSET"]) == ("a", "b")
    assert os.environ["AE_SET"] == "before"
    assert "AE_UNSET" not in os.environ
    with environment({"AE_SET": "a", "AE_UNSET": "b"}, override=False):
        assert (os.environ["AE_SET"], os.environ["AE_UNSET"]) == ("before", "b")
