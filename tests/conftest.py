"""What all tests share: real data, and an environment that leaves the user's own alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import forked
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    # Here rather than in a fixture: Prefect reads its settings when it is imported, which a test
    # module may do while it is collected. Commands started by tests inherit all of it. The cache
    # of sample data stays the user's, so that they are fetched once.
    home = config.stash[_home] = Path(tempfile.mkdtemp(prefix="ae-pipeline-tests-"))
    for name in (
        "PREFECT_API_URL",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_KEY",
        "PREFECT_PROFILE",
        "MLFLOW_RUN_ID",
    ):
        os.environ.pop(name, None)
    (home / "prefect").mkdir()
    os.environ.update(
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="true",
        MLFLOW_TRACKING_URI=f"sqlite:///{home}/mlflow.db",
        MLFLOW_REGISTRY_URI=f"sqlite:///{home}/mlflow.db",
        MLFLOW_DISABLE_TELEMETRY="true",
        MPLBACKEND="Agg",
        NO_COLOR="1",
        # Sums in one order, and two cores for whoever else needs them.
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Workers take whole files in this order: with the longest last, one would wait for the other.
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_home], ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and questionnaires that are no part of the repository."""
    place = Path(os.environ.get("AE_PIPELINE_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no test data at {place}; point AE_PIPELINE_TEST_DATA at it")
    return place


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Address of a real server for commands to share; each would start and stop one of its own."""
    import httpx

    from flows.server import start_server

    server = start_server(Path(os.environ["PREFECT_HOME"]) / "server.log")
    # a command waits for seconds only, which a busy machine does not keep
    httpx.get(f"{server.address}/health", timeout=150, trust_env=False).raise_for_status()
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def typed(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """An environment in which ``ae-pipeline`` is typed and starts at once, with that server."""
    from flows.server import api_token

    known = {"PREFECT_API_URL": prefect_server, "PREFECT_API_AUTH_STRING": api_token()}
    environment = {**os.environ, **known}
    with forked.ready(tmp_path_factory.mktemp("typed"), environment) as place:
        yield {**environment, "PATH": f"{place}:{BIN}:{environment['PATH']}"}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium (Debian: ``apt install chromium``), without a window."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds what keeps people from using a page; from npm."""
    place = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "--silent", "axe-core@4.14.1"]
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"axe-core cannot be had from npm: {error}")
    if done.returncode:
        pytest.skip(f"axe-core cannot be had from npm: {done.stderr.strip()[-200:]}")
    with tarfile.open(place / done.stdout.split()[-1]) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()
