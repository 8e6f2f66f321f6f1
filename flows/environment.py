"""Prefect's settings, before Prefect is imported."""

from __future__ import annotations

import os
from pathlib import Path

from ae_pipeline.runtime.files import project_root

__all__ = [
    "prepare_environment",
]


START_S = 90
"""Longest start of a server: on a slow machine the first one makes the database."""


def prepare_environment(root: Path | None = None) -> None:
    """Set what Prefect reads from the environment at its import, where the user has not.

    Parameters
    ----------
    root : Path, optional
        The project's root; Prefect keeps its database in ``data/prefect`` under it.
    """
    defaults = {
        "DO_NOT_TRACK": "true",
        "PREFECT_HOME": str((root or project_root()).absolute() / "data" / "prefect"),
        # The terminal belongs to the command line; Prefect's record gets every line.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_S),
        # One write for many tasks: sqlite spends seconds on locks otherwise.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
