"""A schedule's time comes, and the night happens, with nobody there."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import lab
import pytest

from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.train import train_job

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "ae_pipeline")


def scheduled_runs(home: Path) -> list[tuple[str, str]]:
    """(deployment, state) of runs that Prefect's schedule began, oldest first."""
    if not (home / "prefect.db").is_file():
        return []
    with sqlite3.connect(home / "prefect.db") as base:
        if not base.execute("select 1 from sqlite_master where name = 'flow_run'").fetchall():
            return []  # it is being made
        return base.execute(
            "select deployment.name, flow_run.state_type from flow_run join deployment "
            "on deployment.id = flow_run.deployment_id where flow_run.auto_scheduled "
            "and flow_run.start_time is not null order by flow_run.start_time"
        ).fetchall()


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_every_minute_means_every_minute(tmp_path: Path) -> None:
    study = lab.write_study(tmp_path, 3)
    (tmp_path / "mlflow.yaml").touch()
    run_plainly(train_job(study))
    lab.write_edf(tmp_path / "inbox/N00_rest.edf", lab.noise(seconds=8, seed=20))
    with study.open("a") as file:
        file.write('operation: {inbox: inbox, settle_s: 0, schedule: "* * * * *"}\n')
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "study.yaml"],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )
    outcome = tmp_path / "derivatives/small-inbox"
    try:
        until = time.monotonic() + 300
        done: list[tuple[str, str]] = []
        while len(done) < 2:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(1)
            runs = scheduled_runs(tmp_path / "prefect")
            done = [run for run in runs if run[1] == "COMPLETED"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert {name for name, _ in done} == {"inbox-small"}
    nights = [json.loads(f.read_text()) for f in sorted(outcome.glob("nights/*/night.json"))]
    assert [night["scored"] for night in nights[:2]] == [["N00_rest"], []]
    assert "Nothing new" in (outcome / "digest.html").read_text()
