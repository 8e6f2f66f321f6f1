"""Deployments on a real Prefect server: schedules, forms, no pile of late runs, no names kept."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lab
import pytest

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """What the test starts: Prefect reads its settings when it is imported."""
    import flows
    from ae_pipeline.config import StudyError
    from ae_pipeline.ingest.inbox import open_inbox

    told: dict[str, Any] = {}
    with flows.using():
        from prefect import get_client
        from prefect.states import Scheduled

        from flows import pipeline
        from flows.deployments import deployments

        inbox = open_inbox(Path("study.yaml"))
        ids = {each.name: each.apply() for each in deployments([inbox])}
        with get_client(sync_client=True) as client:
            for name, where in ids.items():
                there = client.read_deployment(where)
                told[name] = {
                    "cron": [s.schedule.model_dump(mode="json") for s in there.schedules],
                    "limit": there.global_concurrency_limit.limit,
                    "entrypoint": there.entrypoint,
                    "form": there.parameter_openapi_schema,
                }
            nightly = ids["inbox-small"]
            for hours in (50, 26, 2):
                due = datetime.now(UTC) - timedelta(hours=hours)
                run = client.create_flow_run_from_deployment(
                    nightly, state=Scheduled(scheduled_time=due)
                )
                with sqlite3.connect(Path(os.environ["PREFECT_HOME"]) / "prefect.db") as base:
                    base.execute(
                        "update flow_run set auto_scheduled = 1, expected_start_time = ? "
                        "where id = ?",
                        (due.strftime("%Y-%m-%d %H:%M:%S.%f"), str(run.id)),
                    )
            told["dropped"] = pipeline.drop_late("inbox/inbox-small")
            told["again"] = pipeline.drop_late(nightly)
            told["none"] = pipeline.drop_late("inbox/no-such")
        try:
            pipeline.score("no-model", ["recordings/Anna_rest.edf"], out="out")
        except StudyError as error:
            told["score"] = str(error)
    print(json.dumps(told))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_deployments_have_schedules_and_forms_and_keep_no_names(tmp_path: Path) -> None:
    study = lab.write_study(tmp_path, 1)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "mlflow.yaml").touch()
    with study.open("a") as file:
        file.write(
            'operation: {inbox: inbox, schedule: "0 2 * * *", retrain: "0 4 * * 0", '
            "time_zone: Europe/Vienna}\n"
        )
    home = tmp_path / "prefect"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        done = subprocess.run(
            [sys.executable, __file__],
            stdout=out,
            stderr=err,
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PREFECT_HOME": str(home)},
            start_new_session=True,
            timeout=170,
            check=False,
        )
    assert done.returncode == 0, (tmp_path / "err").read_text()
    told = json.loads((tmp_path / "out").read_text())
    night = told["inbox-small"]
    assert [(s["cron"], s["timezone"]) for s in night["cron"]] == [("0 2 * * *", "Europe/Vienna")]
    assert night["limit"] == 1
    assert told["retrain-small"]["cron"][0]["cron"] == "0 4 * * 0"
    assert told["score-small"]["cron"] == []
    assert night["entrypoint"] == "flows.pipeline.inbox", "as in an installed wheel"
    form = told["score-small"]["form"]["properties"]
    assert form["inputs"]["type"] == "array"
    assert "Files, folders" in form["inputs"]["description"]
    assert (told["dropped"], told["again"], told["none"]) == (3, 0, 0)
    assert "no-model" in told["score"]
    with sqlite3.connect(home / "prefect.db") as base:
        kept = base.execute("select parameters from flow_run where parameters like '%input%'")
        texts = [text for (text,) in kept]
    assert texts
    assert "Anna" not in "".join(texts)
    assert "input-" in texts[0]


if __name__ == "__main__":
    main()
