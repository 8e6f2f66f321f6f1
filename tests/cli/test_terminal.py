"""What the command prints for a person: narrow, without colour, and no garbage in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from ae_pipeline.cli.console import print_result, print_worst

ROOT = Path(__file__).resolve().parents[2]


def scored(place: Path, n: int, eeg: bool) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "recording": [f"sub-{i:02d}_task-rest_with_a_long_name[bold]" for i in range(n)],
            "verdict": "clean",
            "events_per_hour": rng.gamma(1, 3, n),
            "flagged": rng.random(n) > 0.5,
            "score": rng.normal(0, 5, n),
            "p_value": rng.random(n),
            "q_value": np.nan,
        }
    )
    frame.to_parquet(place / ("recordings.parquet" if eeg else "scores.parquet"))
    return place


@pytest.mark.parametrize("eeg", [True, False])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_worst_are_shown_in_any_width(
    tmp_path: Path,
    eeg: bool,
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_worst(scored(tmp_path, 30, eeg))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(len(line) <= max(width, 50) for line in out.splitlines())
    assert "... and 22 more in" in out
    if width == 200:
        rows = out.splitlines()[1:9]
        assert all("[bold]" in row for row in rows)  # a name is text, never markup
        column = 3 if eeg else 2
        values = [float(row.split()[column]) for row in rows]
        assert values == sorted(values, reverse=True)


def said(*words: str) -> tuple[int, str]:
    """Exit status and standard error of a command that ends at once."""
    command = [sys.executable, "-m", "ae_pipeline", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("trian", "study.yaml"), "Did you mean 'train'"),
        (("data", "list", "--jsn"), "--json"),
        (("clean", "--days", "-1"), "'--days'"),
        (("up", "--port", "99999999"), "'--port'"),
    ],
)
def test_a_slip_gets_one_line_and_what_to_do(words: tuple[str, ...], expected: str) -> None:
    status, text = said(*words)
    assert status == 2
    first, second = text.splitlines()
    assert first.startswith("error: ")
    assert expected in first
    assert second.startswith("next: ")


def test_nothing_asked_is_answered_with_help_and_no_error() -> None:
    status, text = said()
    assert status == 2
    assert "error" not in text
    assert "demo" in text


def test_a_job_without_results_ends_with_its_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nothing:
        kind = "score"
        title = "x"
        exit_status = 1
        result: ClassVar = {"out": str(tmp_path), "verdict": "v"}

    print_result(Nothing())  # type: ignore[arg-type]
    assert capsys.readouterr().out == f"v\nout: {tmp_path}\n"


PROGRESS = """
import logging, time
from types import SimpleNamespace
from ae_pipeline.cli.console import console
with console() as progress:
    progress.stage("EEG: training: a network learns to reproduce what is normal, [bold] and more")
    for epoch in range(1, 5):
        progress.training(SimpleNamespace(
            is_best=True, epoch=epoch, n_epochs=9, train_loss=0.5, validation_loss=0.6
        ))
        time.sleep(0.3)
    logging.getLogger("ae_pipeline.x").warning("said last")
"""


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_time_that_is_left_is_seen_on_a_terminal_of_any_width(width: int) -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRESS], stdin=child, stderr=child, env=environment
    )
    os.close(child)
    shown = b""
    with suppress(OSError):  # Linux says so when the other end is closed
        while piece := os.read(parent, 65536):
            shown += piece
    os.close(parent)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    lines = [line for line in re.split(r"[\r\n]+", text) if line]
    assert max(map(len, lines)) <= width
    assert any(re.search(r"[━╸╺]+ .*0:00:0\d$", line.rstrip()) for line in lines)
    assert "\x1b[3" not in shown.decode()  # NO_COLOR is set for all tests
    assert lines[-1] == "warning: said last"
