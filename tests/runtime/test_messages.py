"""Messages of the package: a library's user has them by logging, a command beside its progress."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ae_pipeline.runtime.messages import LOGGER, Message, heard, kept, replay
from ae_pipeline.runtime.operation import Processes
from ae_pipeline.runtime.workers import each

ROOT = Path(__file__).resolve().parents[2]
LOG = logging.getLogger("ae_pipeline.jobs.anything")


def test_a_library_user_sees_messages_by_logging_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ae_pipeline"):
        LOG.info("100% read")
        LOG.warning("two recordings only")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "100% read"),
        ("WARNING", "two recordings only"),
    ]


def test_importing_the_package_prints_no_warning_where_logging_is_not_set_up() -> None:
    code = "import logging, ae_pipeline; logging.getLogger('ae_pipeline.x').warning('unheard')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_kept_messages_reach_nobody_until_they_are_replayed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = (LOGGER.handlers[:], LOGGER.level, LOGGER.propagate)
    with kept() as messages:
        LOG.info("a")
        LOG.debug("not of interest")
        LOG.warning("b %s")
    assert messages == [
        Message("ae_pipeline.jobs.anything", logging.INFO, "a"),
        Message("ae_pipeline.jobs.anything", logging.WARNING, "b %s"),
    ]
    assert (LOGGER.handlers, LOGGER.level, LOGGER.propagate) == before
    assert caplog.records == []
    replay(messages, "EEG: ")
    assert [r.getMessage() for r in caplog.records] == ["EEG: b %s"]  # info is below the level


def test_what_is_heard_is_not_said_twice(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    with heard(lambda message: said.append(message.text)):
        LOG.warning("once")
    assert said == ["once"]
    assert caplog.records == []


def divide(number: int) -> list[Message]:
    """What a piece of work in another process may do: warn by itself, by numpy, and by name."""
    with kept() as messages:
        LOG.warning("from %d", number)
        np.log(np.array([0.0]) - number)
        warnings.warn("of another package", stacklevel=1)
    return messages


COMMAND = """
import sys, warnings
import numpy as np
sys.path.insert(0, {tests!r})
from ae_pipeline.runtime import messages
from test_messages import work

if __name__ == "__main__":
    messages.configure()
    work()
"""


def work() -> None:
    np.log(np.array([-1.0]))
    for _, told in each(Processes(workers=2), divide, items=[1, 2]):
        replay(told)


def test_warnings_of_other_packages_stay_off_the_terminal_and_go_into_the_log(
    tmp_path: Path,
) -> None:
    script, log = tmp_path / "command.py", tmp_path / "log"
    script.write_text(COMMAND.format(tests=str(Path(__file__).parent)))
    environment = {**os.environ, "AE_PIPELINE_LOG": str(log), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = log.read_text()
    for expected in ("invalid value encountered in log", "of another package", "from 1", "from 2"):
        assert expected in text


def test_a_log_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ae_pipeline", "data", "list"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "AE_PIPELINE_LOG": str(tmp_path / "nowhere/log")},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: AE_PIPELINE_LOG: ")
