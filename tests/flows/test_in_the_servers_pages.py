"""The reviewer's way through MLflow's pages, and the form in Prefect's, in a real browser.

Pictures of each station go to ``AE_PIPELINE_SCREENSHOTS`` where that is set: they are to be
looked at, which no test does.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lab
import pytest
from servers_at_hand import free_port

from ae_pipeline.tracking.settings import load_settings
from flows.servers import find_servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.servers, pytest.mark.browser, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "ae_pipeline")


@dataclass
class Site:
    """A project with a model, a night with something flagged and failed, and both servers."""

    place: Path
    mlflow: str
    prefect: str

    def shot(self, page: Page, name: str) -> None:
        kept = os.environ.get("AE_PIPELINE_SCREENSHOTS")
        if kept:
            Path(kept).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{kept}/{name}.png")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    study = lab.write_study(place, 3)
    study.write_text(study.read_text().replace("epochs: 2", "epochs: 8"))
    with study.open("a") as file:
        file.write("operation: {inbox: inbox, settle_s: 0}\ndetection: {error_rate: 0.4}\n")
    for number in range(2):
        lab.write_edf(place / f"inbox/N{number:02d}_rest.edf", lab.noise(seconds=8, seed=number))
    loud = lab.noise(seconds=8, seed=9)
    loud[:, 300:600] *= 20
    lab.write_edf(place / "inbox/N02_rest.edf", loud)
    (place / "inbox/N09_rest.edf").write_bytes(b"no recording")
    ports = free_port(), free_port()
    (place / "mlflow.yaml").write_text(f"server: {{port: {ports[1]}}}\n")
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_T", "MLFLOW_R"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place / "data/prefect")}
    environment["AE_PIPELINE_CACHE"] = str(place / "cache")

    def run(*arguments: str) -> None:
        with (place / "log").open("ab") as log:
            subprocess.run(
                [*COMMAND, *arguments],
                stdout=log,
                stderr=log,
                cwd=place,
                env=environment,
                check=False,
                timeout=300,
            )

    run("train", "study.yaml", "--no-prefect")
    with (place / "up.txt").open("wb") as log:
        servers = subprocess.Popen(
            [*COMMAND, "up", "--port", str(ports[0])],
            stdout=log,
            stderr=log,
            cwd=place,
            env=environment,
            start_new_session=True,
        )
    serving = None
    try:
        until = time.monotonic() + 200
        while not find_servers(place):
            assert servers.poll() is None, (place / "up.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.5)
        run("run-inbox", "study.yaml")
        with (place / "serve.txt").open("wb") as log:
            serving = subprocess.Popen(
                [*COMMAND, "serve", "study.yaml"],
                stdout=log,
                stderr=log,
                cwd=place,
                env=environment,
                start_new_session=True,
            )
        found = find_servers(place)
        yield Site(place, found["mlflow"], found["prefect"].removesuffix("/api"))
    finally:
        for process in filter(None, (serving, servers)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def test_a_reviewer_finds_the_summary_the_report_and_the_model(site: Site, tab: Page) -> None:
    settings = load_settings(site.place)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{site.place}/data/mlflow/mlflow.db")
    assert settings.server.port == int(site.mlflow.rpartition(":")[2])
    experiment = client.get_experiment_by_name("small").experiment_id
    runs = {r.info.run_name: r for r in client.search_runs([experiment])}
    night = next(run for name, run in runs.items() if name.startswith("night"))
    train = next(run for name, run in runs.items() if name.startswith("train"))
    children = [r for r in runs.values() if "mlflow.parentRunId" in r.data.tags]
    assert any("failed" in r.info.run_name for r in children)

    tab.goto(f"{site.mlflow}/#/experiments")
    tab.get_by_text("small", exact=True).first.wait_for()
    site.shot(tab, "1-experiments")
    tab.goto(f"{site.mlflow}/#/experiments/{experiment}/runs")
    tab.get_by_text(night.info.run_name).first.wait_for()
    site.shot(tab, "2-runs")
    tab.get_by_text(night.info.run_name).first.click()
    tab.get_by_text(re.compile("3 scored")).first.wait_for()
    site.shot(tab, "3-night")
    tab.goto(f"{site.mlflow}/#/experiments/{experiment}/runs/{train.info.run_id}")
    tab.get_by_text(re.compile("reproduces windows it never saw")).first.wait_for()
    site.shot(tab, "4-training")
    tab.goto(f"{site.mlflow}/#/experiments/{experiment}/runs/{train.info.run_id}/artifacts")
    tab.get_by_text("report.html").first.click()
    tab.locator("iframe").first.wait_for()
    tab.wait_for_timeout(4000)
    site.shot(tab, "5-report")
    tab.goto(f"{site.mlflow}/#/models/small/versions/1")
    tab.get_by_text("Intended use").first.wait_for()
    site.shot(tab, "6-model")
    text = tab.content()
    for name in ("N02_rest", "P00_rest", str(site.place)):
        assert name not in text.replace(f"{site.place}/data/mlflow", "")


def test_prefect_shows_the_night_and_a_form(site: Site, tab: Page) -> None:
    import httpx

    token = (site.place / "data/prefect/api-token").read_text().strip()
    names = {}
    for name in ("inbox", "retrain", "score"):
        address = f"{site.prefect}/api/deployments/name/{name}/{name}-small"
        until = time.monotonic() + 120
        while (found := httpx.get(address, auth=tuple(token.split(":")))).status_code != 200:
            assert time.monotonic() < until, found.text
            time.sleep(1)
        names[found.json()["name"]] = found.json()["id"]
    assert set(names) == {"inbox-small", "retrain-small", "score-small"}
    tab.goto(f"{site.prefect}/runs")
    tab.locator("input[type=password]").fill(token)
    tab.keyboard.press("Enter")
    tab.get_by_text(re.compile("small 20")).first.wait_for()
    site.shot(tab, "7-prefect-runs")
    tab.goto(f"{site.prefect}/deployments/deployment/{names['score-small']}/run")
    tab.get_by_text(re.compile("Files, folders, globs")).first.wait_for()
    site.shot(tab, "8-form")
    assert "N02_rest" not in tab.content()
