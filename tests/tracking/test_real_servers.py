"""The servers of a lab: PostgreSQL under both, MLflow with passwords, models behind HTTP.

Each is the real one, a system package run as its own user; without it the test says so and skips.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tiny
from runs import all_runs, run_folder
from servers_at_hand import free_port

from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.tracking.connection import Unreachable
from ae_pipeline.tracking.publishing import publish
from ae_pipeline.tracking.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@contextmanager
def running(command: list[str], place: Path, address: str, **environment: str) -> Iterator[None]:
    """A server for as long as the block runs; it answers at ``address`` when the block begins."""
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=place,
            env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | environment,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 180
        while True:
            assert process.poll() is None, (place / "server.log").read_text()[-3000:]
            assert time.monotonic() < until, (place / "server.log").read_text()[-3000:]
            try:
                urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --------------------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL without databases of ours, run as the user postgres."""
    pytest.importorskip("psycopg2", reason="pip install 'ae-pipeline[postgres]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found or os.geteuid() or not shutil.which("runuser"):
        pytest.skip("needs PostgreSQL (Debian: apt install postgresql) and root to become its user")
    place = Path(subprocess.check_output(["mktemp", "-d", "/tmp/ae-pg-XXXX"], text=True).strip())
    shutil.chown(place, "postgres")
    port = free_port()

    def as_postgres(*command: str) -> None:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", *command],
            check=True,
            cwd=place,
            stdout=subprocess.DEVNULL,
        )

    tools = found[-1].parent
    as_postgres(str(tools / "initdb"), "-D", f"{place}/data", "-A", "trust", "-U", "lab")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    log = f"{place}/log"
    as_postgres(
        str(tools / "pg_ctl"), "-D", f"{place}/data", "-o", options, "-l", log, "-w", "start"
    )
    try:
        for name in ("mlflow", "prefect"):
            as_postgres(
                str(tools / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "lab", name
            )
        yield f"lab@127.0.0.1:{port}"
    finally:
        as_postgres(str(tools / "pg_ctl"), "-D", f"{place}/data", "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


def rows(postgres: str, database: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg2

    connection = psycopg2.connect(f"postgresql://{postgres}/{database}")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def test_mlflow_on_postgresql(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mlflow.yaml").write_text(f"tracking_uri: postgresql://{postgres}/mlflow\n")
    settings = load_settings(tmp_path)
    published = publish(run_folder(tmp_path / "out"), settings)
    assert publish(tmp_path / "out", settings) == published
    assert len(all_runs(settings)) == 1
    stored = rows(postgres, "mlflow", "select status from runs")
    assert stored == [("FINISHED",)]


def test_prefect_on_postgresql(postgres: str, tmp_path: Path) -> None:
    address = f"postgresql+asyncpg://{postgres}/prefect"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/flows/test_flows.py"), "again"],
            stdout=out,
            stderr=err,
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect")}
            | {"PREFECT_API_DATABASE_CONNECTION_URL": address},
            start_new_session=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, (tmp_path / "err").read_text()[-3000:]
    assert json.loads((tmp_path / "out").read_text())["result"] == {"done": ["one"]}
    runs = rows(postgres, "prefect", "select state_type from flow_run")
    assert [str(state) for (state,) in runs] == ["COMPLETED"]
    assert not list((tmp_path / "prefect").glob("*.db"))


# ---------------------------------------------------------------------------- passwords


def test_mlflow_with_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's own passwords need pip install flask-wtf")
    port, secret = free_port(), "correct-horse-battery"
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path}/users.db\n"
        f"admin_username = lab\nadmin_password = {secret}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [str(BIN / "mlflow"), "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "project"
    place.mkdir()
    (place / "mlflow.yaml").write_text(f"tracking_uri: http://127.0.0.1:{port}\n")
    settings = load_settings(place)
    folder = run_folder(tmp_path / "out")
    with running(command, tmp_path, f"http://127.0.0.1:{port}/health", **environment):
        with pytest.raises(Unreachable) as refused:
            publish(folder, settings)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "lab")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-horse-battery")
        with pytest.raises(Unreachable) as wrong:
            publish(folder, settings)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)
        published = publish(folder, settings)
    for error in (refused, wrong):
        assert "horse" not in str(error.value)
    assert published.run_url.startswith(f"http://127.0.0.1:{port}/")
    assert secret not in (folder / "published.json").read_text()


# -------------------------------------------------------------------------------- models


@pytest.mark.parametrize("kind", ["eeg", "table"])
def test_a_model_is_served_without_a_pickle(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mlflow.yaml").touch()
    settings = load_settings(tmp_path)
    made = getattr(tiny, kind)()
    bundles.save(tmp_path / "bundle", made.bundle)
    shape = made.bundle.info.shape
    folder = run_folder(tmp_path / "out", tmp_path / "bundle", input_example={"shape": shape})
    publish(folder, settings)
    values: Any = made.data.samples.take(slice(0, 3)).batch(slice(None))[0]
    if kind == "table":
        names = made.bundle.info.entries
        values = np.maximum(values, 1)
        body = {"inputs": {n: values[:, i].astype(float).tolist() for i, n in enumerate(names)}}
    else:
        body = {"inputs": np.asarray(values).tolist()}
    port = free_port()
    command = [str(BIN / "mlflow"), "models", "serve", "-m", "models:/moods@newest"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONPATH": str(ROOT),
    }
    with running(command, tmp_path, f"http://127.0.0.1:{port}/ping", **environment):
        request = Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        answer = json.loads(urlopen(request, timeout=60).read())
    column = "score_autoencoder" if kind == "eeg" else "score"
    scores = [row[column] for row in answer["predictions"]]
    expected = made.bundle.judge_values(np.asarray(values))[column]
    if kind == "eeg":
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert len(scores) == 3
    assert np.isfinite(scores).all()
