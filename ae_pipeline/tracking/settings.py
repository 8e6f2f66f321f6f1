"""Where MLflow is: ``mlflow.yaml``, which is read nowhere else, and MLflow's own variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator

from ae_pipeline.config import Config, StudyError, explain, from_home, parse_yaml
from ae_pipeline.runtime.files import project_root

__all__ = ["Server", "Settings", "is_server", "load_settings", "shown"]


class Server(Config):
    """Where the MLflow page of this project is served."""

    host: str = "127.0.0.1"
    """Network address; 127.0.0.1 is this computer only."""
    port: int = 5000
    """Port."""


class Settings(Config):
    """Contents of ``mlflow.yaml``.

    What :func:`load_settings` returns has absolute addresses and no ``auto``, but for an
    ``artifact_root`` that is left to a tracking server.
    """

    tracking_uri: str = "auto"
    """Where runs are recorded."""
    registry_uri: str = "auto"
    """Where models are registered; ``auto`` is the same place."""
    experiment: str | None = None
    """Experiment that runs are filed under; each study has its own where it is null."""
    artifact_root: str = "auto"
    """Where reports and models are kept."""
    server: Server = Server()
    """Where ``ae-pipeline ui`` listens."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Written on every run."""

    @field_validator("tracking_uri", "registry_uri", "artifact_root")
    @classmethod
    def _without_secrets(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ValueError(
                "holds a password; take it out, and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD (for a database, MLFLOW_TRACKING_URI) in the environment"
            )
        return uri

    @field_validator("tracking_uri", "registry_uri")
    @classmethod
    def _not_a_folder(cls, uri: str) -> str:
        if uri != "auto" and urlsplit(uri).scheme in ("", "file"):
            raise ValueError(
                "is a folder, and MLflow no longer keeps runs in folders; use "
                "sqlite:///FOLDER/mlflow.db, a database or a server's address"
            )
        return uri


def load_settings(root: Path | None = None) -> Settings:
    """Read ``mlflow.yaml``, put MLflow's environment variables over it, make places absolute.

    Parameters
    ----------
    root : Path, optional
        Folder of ``mlflow.yaml``; the project's root by default. Relative places start here.

    Raises
    ------
    StudyError
        Where the file is no YAML, has an unknown key, a wrong value or a password.
    """
    root = (root or project_root()).absolute()
    own, shipped = root / "mlflow.yaml", Path(__file__).parents[1] / "mlflow.yaml"
    settings = next((_read(file) for file in (own, shipped) if file.is_file()), Settings())

    tracking = _absolute(settings.tracking_uri, root)
    tracking = _absolute(os.environ.get("MLFLOW_TRACKING_URI") or tracking, Path.cwd())
    registry = _absolute(settings.registry_uri, root)
    registry = _absolute(os.environ.get("MLFLOW_REGISTRY_URI") or registry, Path.cwd())
    artifacts = settings.artifact_root
    if artifacts == "auto" and not is_server(tracking):
        artifacts = "data/mlflow/artifacts"
    if artifacts != "auto" and urlsplit(artifacts).scheme == "":
        artifacts = (root / from_home(artifacts)).as_uri()
    if tracking == "auto":
        tracking = _absolute("sqlite:///data/mlflow/mlflow.db", root)
    return settings.model_copy(
        update={
            "tracking_uri": tracking,
            "registry_uri": tracking if registry == "auto" else registry,
            "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings.experiment,
            "artifact_root": artifacts,
        }
    )


def _read(file: Path) -> Settings:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{file}: not readable as YAML ({reason})") from None
    content = parse_yaml(text, str(file)) or {}
    if not isinstance(content, dict):
        raise StudyError(f"{file}: holds no settings; write lines such as 'tracking_uri: auto'")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise explain(error, Settings, where=str(file)) from None


def _absolute(uri: str, root: Path) -> str:
    """A relative sqlite file made absolute; every other address as it is."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri or path.startswith(("/", ":")) else f"sqlite:///{root / path}"


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def shown(text: str) -> str:
    """The text without users and passwords in addresses."""
    return re.sub(r"://[^/@\s]*@", "://", text)
