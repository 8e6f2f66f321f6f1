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
from ae_pipeline.runtime.operation import Dask, Processes, Sequential
from ae_pipeline.runtime.workers import Died, each, n_workers

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


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Dask scheduler with two workers, as a cluster has them."""
    pytest.importorskip("distributed", reason="Dask is an extra: pip install 'ae-pipeline[dask]'")
    place = tmp_path_factory.mktemp("dask")
    note = place / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
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
