"""MLflow's own commands: its pages, and the removal of what a person has deleted there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.own_pages import OwnPages
from ae_pipeline.tracking.connection import connected
from ae_pipeline.tracking.settings import Settings, is_server, shown

__all__ = ["deleted_runs", "gc_command", "own_pages_only", "ui_command"]


APP = "ae-pipeline"
"""Name of :func:`own_pages_only` among MLflow's applications."""

MOST_RUNS = 50_000
"""MLflow's own limit of a search."""


def deleted_runs(settings: Settings, days: float) -> list[str]:
    """Runs that a person has deleted and that ended so long ago.

    :func:`gc_command` removes for good those of them that were deleted so long ago, too, which
    MLflow tells nobody but its own ``gc``.

    Raises
    ------
    Unreachable
        Where MLflow does not answer.
    """
    kind, _, place = settings.tracking_uri.partition("///")
    if is_server(settings.tracking_uri) or (kind == "sqlite:" and not Path(place).is_file()):
        return []
    with connected(settings) as client:
        from mlflow.entities import ViewType

        ended_ms = 1000 * (time.time() - round(days) * 24 * 3600)
        experiments = client.search_experiments(view_type=ViewType.ALL)
        deleted = client.search_runs(
            [each.experiment_id for each in experiments],
            run_view_type=ViewType.DELETED_ONLY,
            max_results=MOST_RUNS,
        )
    ends = {run.info.run_id: run.info.end_time or run.info.start_time for run in deleted}
    return [str(name) for name, end in ends.items() if end <= ended_ms]


def gc_command(settings: Settings, days: float) -> tuple[list[str], dict[str, str]] | None:
    """MLflow's own command for runs that were deleted so long ago; None where a server does it."""
    if is_server(settings.tracking_uri):
        return None
    command = [sys.executable, "-m", "mlflow", "gc", "--older-than", f"{round(days)}d"]
    environment = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    return command, environment


def own_pages_only() -> OwnPages:
    """MLflow's server, for its own pages only (entry point of ``mlflow.app``)."""
    from mlflow.server.fastapi_app import app

    origins = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "").split(",")
    return OwnPages(app, hosts=(), origins=origins)  # it checks the host itself


def ui_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Command that serves MLflow's pages on this project, and the environment it wants.

    Returns
    -------
    command : list of str
        To be run until the user stops it; it listens at ``settings.server``.
    environment : dict
        To be put over ``os.environ``; the databases' addresses are here, since a command line
        can be read by every user of the machine.

    Raises
    ------
    StudyError
        Where a tracking server serves them already.
    """
    if is_server(settings.tracking_uri):
        raise StudyError(
            f"MLflow has its own server; open {shown(settings.tracking_uri)} in a browser"
        )
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--no-serve-artifacts"]
    command += ["--app-name", APP]
    command += ["--host", settings.server.host, "--port", str(settings.server.port)]
    environment = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_root,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_REGISTRY_STORE_URI": settings.registry_uri,
        # Seven processes and a gigabyte for features that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return command, environment
