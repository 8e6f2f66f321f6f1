"""Servers that run until they are stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ae_pipeline.cli.console import err

__all__ = ["serve", "ui", "up"]


def up(
    port: Annotated[int, typer.Option(help="Port of Prefect's server.", min=1, max=65535)] = 4200,
) -> None:
    """Start a local Prefect server and MLflow server together (this computer only).

    Example: ae-pipeline up
    """
    import flows

    flows.up(err, port)


def serve(
    studies: Annotated[list[Path], typer.Argument(help="Study files.", metavar="STUDY...")],
) -> None:
    """Keep studies scheduled: inboxes scored, models retrained, forms in Prefect's pages.

    Example: ae-pipeline serve study.yaml
    """
    from ae_pipeline.ingest.inbox import open_inbox

    inboxes = [open_inbox(study) for study in studies]
    import flows

    with flows.using(schedules=True):
        if os.environ.get("PREFECT_API_AUTH_STRING"):
            err(flows.entrance(os.environ["PREFECT_API_URL"]))
        flows.serve(inboxes)


def ui() -> None:
    """Open the MLflow UI on this project's mlflow.yaml.

    Example: ae-pipeline ui
    """
    from ae_pipeline.tracking.commands import ui_command
    from ae_pipeline.tracking.settings import load_settings

    settings = load_settings()
    command, environment = ui_command(settings)
    err(f"MLflow at http://{settings.server.host}:{settings.server.port} (stop with Ctrl-C)")
    os.execvpe(command[0], command, {**os.environ, **environment})
