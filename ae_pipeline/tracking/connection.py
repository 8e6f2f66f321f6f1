"""MLflow's client, quiet and in a hurry to say that nobody answers; its errors are one."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.workers import environment
from ae_pipeline.tracking.settings import Settings, is_server, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Unreachable", "accepted", "connected", "cut", "import_mlflow", "quoted"]

KEY = "ae_pipeline.key"
"""Tag of runs and models: the identity of the work they come from."""

LONGEST_TAG = 8000
"""MLflow's own limit."""


class Unreachable(Exception):
    """MLflow cannot be had now; nothing is lost, the folder can be published later.

    The message is one line: which MLflow, and what it said.
    """


def import_mlflow() -> Any:
    """MLflow, told before its import to keep quiet and to itself."""
    quiet = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_AGENT_HINT": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


@contextmanager
def connected(settings: Settings) -> Iterator[MlflowClient]:
    """MLflow's client; its errors become :class:`Unreachable`, what it says stays unsaid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow = import_mlflow()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        tracking, registry = settings.tracking_uri, settings.registry_uri
        # Parts of MLflow look up the address for themselves, so the client's own is not enough.
        address = {"MLFLOW_TRACKING_URI": tracking, "MLFLOW_REGISTRY_URI": registry}
        brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
        patient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
        try:
            with environment(brief, override=False):
                for uri in {tracking, registry}:
                    _knock(uri)
            with environment(address), environment(patient, override=False):
                mlflow.set_tracking_uri(tracking)
                mlflow.set_registry_uri(registry)
                try:
                    yield mlflow.MlflowClient(tracking, registry)
                finally:
                    mlflow.set_tracking_uri(None)
                    mlflow.set_registry_uri("")
        except (MlflowException, SQLAlchemyError, OSError) as error:  # HTTP's errors are OSErrors
            cause = error.__cause__ or error.__context__
            if is_server(tracking) and isinstance(cause, OSError):
                raise Unreachable(f"MLflow at {shown(tracking)} does not answer") from error
            reason = shown(" ".join(str(getattr(error, "orig", error)).split()))
            raise Unreachable(f"MLflow at {shown(tracking)}: {cut(reason, 200)}") from error


def _knock(uri: str) -> None:
    """Raise within seconds where nobody answers: MLflow itself would try for minutes."""
    kind = urlsplit(uri).scheme.partition("+")[0]
    if is_server(uri):
        from mlflow import MlflowClient

        MlflowClient(uri).search_experiments(max_results=1)
    if kind not in ("sqlite", "postgresql", "mysql", "mssql"):
        return
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if kind == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    timed = {"connect_timeout": 4} if kind in ("postgresql", "mysql") else {}
    try:
        engine = sqlalchemy.create_engine(url, connect_args=timed)
    except ModuleNotFoundError as error:
        raise Unreachable(f"MLflow at {shown(uri)}: install the package {error.name}") from None
    try:
        sqlalchemy.inspect(engine)
    finally:
        engine.dispose()


def quoted(text: str) -> str:
    """The text as MLflow's searches want it."""
    if "'" in text:
        raise StudyError(f"run.json: key {text!r} holds a quotation mark; use a digest")
    return f"'{text}'"


def accepted(name: str) -> str:
    """Return a parameter's name in the characters that MLflow takes, at most 250 of them."""
    return re.sub(r"[^\w.\- :]", "-", name)[:250]


def cut(text: str, longest: int) -> str:
    """The text, or its beginning where MLflow takes no more."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
