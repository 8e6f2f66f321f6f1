"""Every command is registered once, shares its options with the others, and exits as it should."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
import typer
from typer.main import get_command

from ae_pipeline.cli import app, entry, execute, models, operation, options, samples, servers
from ae_pipeline.cli import studies as study_commands

GROUPS = (samples, study_commands, models, operation, servers)
FIXED = {  # contract of names: scripts and schedules rely on them
    "data list",
    "data fetch",
    "init",
    "validate",
    "train",
    "calibrate",
    "score",
    "evaluate",
    "compare",
    "generate",
    "complete",
    "up",
    "serve",
    "run-inbox",
    "status",
    "why",
    "ui",
    "promote",
    "clean",
    "demo",
    "retrain",
}


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {n}": c for n, c in inner.items()}
    return found


COMMANDS = commands()


def test_every_function_of_a_group_is_a_command() -> None:
    public = [name for group in GROUPS for name in group.__all__]
    assert sorted(public) == sorted(c.callback.__name__ for c in COMMANDS.values())
    assert set(COMMANDS) >= FIXED
    assert entry.app is app


def test_options_of_the_same_name_are_written_alike() -> None:
    spelled: dict[str, set[tuple[str, ...]]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option) or option.param_type_name == "option":
                spelled.setdefault(option.name, set()).add(tuple(option.opts))
    assert {name for name, ways in spelled.items() if len(ways) > 1} == set()
    assert spelled["out"] == {("--out", "-o")}
    assert spelled["as_json"] == {("--json",)}
    assert "Json" in options.__all__


class Done:
    """A job that has ended."""

    kind = "score"
    title = "done"
    exit_status = 1
    result: ClassVar = {"out": "nowhere", "verdict": "1 of 2"}


def test_a_job_ends_with_its_exit_status_and_one_json_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended:
        execute.finish(Done(), as_json=True)  # type: ignore[arg-type]
    assert ended.value.exit_code == 1
    assert json.loads(capsys.readouterr().out) == {"exit_status": 1, **Done.result}


def test_help_takes_less_than_half_a_second_of_computing() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "ae_pipeline", "--help"]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, cwd=root, env=dict(os.environ))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(spent) < 0.5
