"""What MLflow gets to see: finished run folders are published, models are fetched by their URI.

The run folder is the record and MLflow a view of it: :func:`publish` sends what the experiment
has put into ``pseudonymised/`` (and the bundle in ``model/``), once, whenever a server can be
had. A killed publish is continued by the next one. This is the only module that imports mlflow,
inside its functions, and the only one that reads ``mlflow.yaml``.

Addresses are MLflow's own (``sqlite:////absolute/path``, ``postgresql://``, ``https://``). What
leaves the machine carries no path of it, no user name and no password.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version as installed
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator

from ae_pipeline.config import Config, StudyError, explain
from ae_pipeline.folder import (
    cache_dir,
    digest_files,
    digest_json,
    is_alive,
    locked,
    project_root,
    read_json,
    write_folder,
    write_json,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from ae_pipeline.bundle import Bundle

__all__ = [
    "Child",
    "Example",
    "Lineage",
    "Live",
    "Published",
    "Record",
    "Server",
    "Settings",
    "Unreachable",
    "aliases",
    "deleted_runs",
    "gc_command",
    "load_settings",
    "point",
    "promote",
    "publish",
    "resolve",
    "ui_command",
    "watched",
]

ALIAS = "newest"
CHAMPION = "champion"
KEY = "ae_pipeline.key"
KIND = "ae_pipeline.kind"
DIGEST = "ae_pipeline.bundle"
PROCESS = "ae_pipeline.process"
WORK = "ae_pipeline.work"
REASON = "ae_pipeline.promoted_because"
LIVE_AFTER_S = 20.0
LIVE_S = 5.0
"""Seconds between two looks of a training's listener: few calls, each with all there is."""
PARENT = "mlflow.parentRunId"
"""MLflow's own tag."""

HOW_TO_READ = """\
Each run opens on its summary; the page with everything is `report.html` under Artifacts.

- **train**: a model with its card, the losses, figures, reconstructions over the epochs.
- **score**, **night**: what was found in new data; below a night stands a run for each recording
  that was flagged or failed.
- **retrain**, **compare**: models side by side.

Names of people and files are pseudonyms; the map stays where the results are.
"""
"""Stands above an experiment's runs."""

# MLflow's own limits; it refuses, or cuts with a warning, what is longer.
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_DATASET_DIGEST = 36
LONGEST_MODEL_DESCRIPTION = 5000
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100


class Unreachable(Exception):
    """MLflow cannot be had now; nothing is lost, the folder can be published later.

    The message is one line: which MLflow, and what it said.
    """


# ----------------------------------------------------------------------------- settings


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
    own, shipped = root / "mlflow.yaml", Path(__file__).with_name("mlflow.yaml")
    settings = next((_read(file) for file in (own, shipped) if file.is_file()), Settings())

    tracking = _absolute(settings.tracking_uri, root)
    tracking = _absolute(os.environ.get("MLFLOW_TRACKING_URI") or tracking, Path.cwd())
    registry = _absolute(settings.registry_uri, root)
    registry = _absolute(os.environ.get("MLFLOW_REGISTRY_URI") or registry, Path.cwd())
    artifacts = settings.artifact_root
    if artifacts == "auto" and not _is_server(tracking):
        artifacts = "data/mlflow/artifacts"
    if artifacts != "auto" and urlsplit(artifacts).scheme == "":
        artifacts = (root / Path(artifacts).expanduser()).as_uri()
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
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{file}: not readable as YAML ({reason})") from None
    if not isinstance(content, dict):
        raise StudyError(f"{file}: holds no settings; write lines such as 'tracking_uri: auto'")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise explain(error, Settings, str(file)) from None


def _absolute(uri: str, root: Path) -> str:
    """A relative sqlite file made absolute; every other address as it is."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri or path.startswith(("/", ":")) else f"sqlite:///{root / path}"


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _shown(text: str) -> str:
    """The text without users and passwords in addresses."""
    return re.sub(r"://[^/@\s]*@", "://", text)


# --------------------------------------------------------------------------- connection


@contextmanager
def _environment(values: Mapping[str, str], override: bool = False) -> Iterator[None]:
    """Set environment variables (those not set already, unless ``override``) for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({n: v for n, v in values.items() if override or before[n] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _import_mlflow() -> Any:
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
def _connected(settings: Settings) -> Iterator[MlflowClient]:
    """MLflow's client; its errors become :class:`Unreachable`, what it says stays unsaid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow = _import_mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        tracking, registry = settings.tracking_uri, settings.registry_uri
        # Parts of MLflow look up the address for themselves, so the client's own is not enough.
        address = {"MLFLOW_TRACKING_URI": tracking, "MLFLOW_REGISTRY_URI": registry}
        brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
        patient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
        try:
            with _environment(brief):
                for uri in {tracking, registry}:
                    _knock(uri)
            with _environment(address, override=True), _environment(patient):
                mlflow.set_tracking_uri(tracking)
                mlflow.set_registry_uri(registry)
                try:
                    yield mlflow.MlflowClient(tracking, registry)
                finally:
                    mlflow.set_tracking_uri(None)
                    mlflow.set_registry_uri("")
        except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
            if isinstance(error.__cause__ or error.__context__, RequestException):
                raise Unreachable(f"MLflow at {_shown(tracking)} does not answer") from error
            reason = _shown(" ".join(str(getattr(error, "orig", error)).split()))
            raise Unreachable(f"MLflow at {_shown(tracking)}: {_cut(reason, 200)}") from error


def _knock(uri: str) -> None:
    """Raise within seconds where nobody answers: MLflow itself would try for minutes."""
    kind = urlsplit(uri).scheme.partition("+")[0]
    if _is_server(uri):
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
        raise Unreachable(f"MLflow at {_shown(uri)}: install the package {error.name}") from None
    try:
        sqlalchemy.inspect(engine)
    finally:
        engine.dispose()


# --------------------------------------------------------------------------- publishing


class Lineage(Config):
    """Where a run's data came from, as MLflow lists it."""

    name: str
    """Name of the data set."""
    digest: str
    """Digest of its content."""
    source: str
    """Where it can be had; no path of this machine."""
    rows: int | None = None
    """Number of windows, images or respondents."""
    features: int | None = None
    """Entries of one of them."""


class Example(Config):
    """What a model takes."""

    shape: tuple[int, ...]
    """Shape of one sample."""


class Child(Config):
    """A run below another: a recording that a night has flagged, or that failed."""

    name: str
    """Identity within its parent, and its folder below ``children/``; a pseudonym."""
    run_name: str
    """What a person recognises the run by."""
    description: str
    """Readable summary (Markdown)."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """Results; null where a thing cannot be known."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What runs are found by."""


class Record(Config):
    """Contents of ``pseudonymised/run.json``: a run as MLflow is to show it, no identities."""

    kind: Literal["train", "score", "compare", "night", "comparison"]
    """What was done."""
    experiment: str
    """The study's name."""
    run_name: str
    """What a person recognises the run by."""
    key: str
    """Identity of the work; equal keys are published once."""
    work: str | None = None
    """Identity that was known before the work began; the run that was live meanwhile has it."""
    description: str
    """Readable summary (Markdown), with which the run opens."""
    params: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Settings of the run."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """Results of the run; null where a thing cannot be known."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What runs are found by."""
    dataset: Lineage | None = None
    """Where the data came from."""
    model_name: str | None = None
    """Name under which the bundle in ``model/`` is registered."""
    input_example: Example | None = None
    """Size of the example that the model is stored with; none is stored where it is null."""
    children: tuple[Child, ...] = ()
    """Runs below this one."""


@dataclass(frozen=True)
class Published:
    """Where MLflow shows a run."""

    run_id: str
    run_url: str
    """Page of the run; of ``ae-pipeline ui`` where there is no server."""
    tracking_uri: str
    model_uri: str | None = None
    model_name: str | None = None
    model_version: str | None = None


def publish(
    folder: Path, settings: Settings, parent: str | None = None, register: bool = True
) -> Published:
    """Send a finished run folder to MLflow; a run that is there already is only looked up.

    ``pseudonymised/`` becomes the run (``run.json``: see :class:`Record`; every file an artifact,
    ``history.csv`` metrics by epoch), ``model/`` a registered model with the alias ``newest``.
    Where it went is written to ``published.json``.

    Parameters
    ----------
    folder : Path
        A run folder of ``train``, ``score`` or ``compare``.
    settings : Settings
        From :func:`load_settings`.
    parent : str, optional
        Run that this one is shown under.
    register : bool
        Whether the model in the folder is stored and registered, too.

    Raises
    ------
    Unreachable
        Where MLflow does not answer or refuses; calling again later continues.
    StudyError
        Where the folder holds nothing to publish.
    """
    record = _record(folder)
    # One at a time: two publishers of the same work would each find nothing and send it twice.
    with locked(cache_dir("mlflow") / "publish.lock"), _connected(settings) as client:
        experiment = _experiment(client, settings.experiment or record.experiment, settings)
        _close_killed(client, experiment)
        run = (
            _find(client, experiment, record)
            or _adopt(client, experiment, record, settings)
            or _create(client, experiment, record, settings)
        )
        if parent is not None and run.data.tags.get(PARENT) != parent:
            client.set_tag(run.info.run_id, PARENT, parent)
        is_new = run.info.status != "FINISHED"
        if is_new:
            _send(client, run, record, folder / "pseudonymised")
            for child in record.children:
                place = folder / "pseudonymised" / "children" / child.name
                _send_child(client, run, record, child, place, settings)
        wanted = register and record.model_name and (folder / "model").is_dir()
        if wanted and (is_new or not _published(client, run, settings).model_uri):
            _send_model(client, run, record, str(record.model_name), folder / "model")
        if is_new:
            client.set_terminated(run.info.run_id)
        published = _published(client, run, settings)
    write_json(folder / "published.json", asdict(published))
    return published


def _record(folder: Path) -> Record:
    file = folder / "pseudonymised" / "run.json"
    if not file.is_file():
        raise StudyError(f"{folder}: nothing to publish (no {file.relative_to(folder)})")
    try:
        return Record.model_validate(read_json(file))
    except ValidationError as error:
        raise explain(error, Record, str(file)) from None


def _experiment(client: MlflowClient, name: str, settings: Settings) -> str:
    """Id of the experiment, made where it is not there."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise Unreachable(
            f"the experiment {name!r} was deleted in MLflow; restore it there, or name another "
            "under 'experiment' in mlflow.yaml"
        )
    if found is not None:
        return str(found.experiment_id)
    root = settings.artifact_root
    folder = re.sub(r"[^\w.-]+", "-", name)
    # so that MLflow's pages show runs of training, not evaluations of language models
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": HOW_TO_READ}
    place = None if root == "auto" else f"{root}/{folder}"
    return client.create_experiment(name, place, tags=tags)


def _find(client: MlflowClient, experiment: str, record: Record) -> Run | None:
    """The run of this work: the finished one, else the one that a killed publish has left."""
    found = client.search_runs(
        [experiment],
        f"tags.`{KEY}` = {_quoted(record.key)} and tags.`{KIND}` = '{record.kind}'",
    )
    return min(found, key=lambda run: run.info.status != "FINISHED", default=None)


def _quoted(text: str) -> str:
    if "'" in text:
        raise StudyError(f"run.json: key {text!r} holds a quotation mark; use a digest")
    return f"'{text}'"


def _create(client: MlflowClient, experiment: str, record: Record, settings: Settings) -> Run:
    return client.create_run(experiment, tags=_tags(record, settings), run_name=record.run_name)


def _tags(record: Record, settings: Settings) -> dict[str, str]:
    tags = settings.tags | record.tags | _origin()
    tags |= {KEY: record.key, KIND: record.kind, "mlflow.note.content": record.description}
    return {name: _cut(text, LONGEST_TAG) for name, text in tags.items()}


def _origin() -> dict[str, str]:
    """Which process, which state of the code, which Prefect run: what a run can be traced by."""
    tags = {PROCESS: f"{_host()} {os.getpid()}"}
    flow_run = os.environ.get("AE_PIPELINE_FLOW_RUN")
    commit = _commit()
    tags |= {"prefect.flow_run": flow_run} if flow_run else {}
    return tags | ({"mlflow.source.git.commit": commit, "commit": commit} if commit else {})


def _host() -> str:
    """Name of this machine by which it knows itself again, and nobody else does."""
    return digest_json(socket.gethostname())[:12]


@cache
def _commit() -> str:
    """Commit of the code that runs, where it runs from a checkout."""
    import subprocess

    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():  # installed: a commit around it is somebody else's
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _close_killed(client: MlflowClient, experiment: str) -> None:
    """Runs that say they are at work and whose process on this machine is gone: killed."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        host, _, process = run.data.tags.get(PROCESS, "").partition(" ")
        if host == _host() and process.isdigit() and not is_alive(int(process)):
            client.set_terminated(run.info.run_id, "KILLED")


def _adopt(client: MlflowClient, experiment: str, record: Record, settings: Settings) -> Run | None:
    """The run that showed this work while it went on, now under its final name and key."""
    if record.work is None:
        return None
    found = client.search_runs(
        [experiment],
        f"tags.`{WORK}` = {_quoted(record.work)} and attributes.status != 'FINISHED'",
        max_results=1,
    )
    if not found:
        return None
    run_id = found[0].info.run_id
    for name, text in _tags(record, settings).items():
        client.set_tag(run_id, name, text)
    client.update_run(run_id, "RUNNING", record.run_name)
    return client.get_run(run_id)


def _send_child(
    client: MlflowClient,
    parent: Run,
    record: Record,
    child: Child,
    content: Path,
    settings: Settings,
) -> None:
    """A run below ``parent``; one that a killed call has begun is taken up."""
    from mlflow.entities import Metric

    own = record.model_copy(
        update={
            "key": f"{record.key}/{child.name}",
            "run_name": child.run_name,
            "description": child.description,
            "tags": child.tags | {PARENT: parent.info.run_id},
        }
    )
    experiment = parent.info.experiment_id
    run = _find(client, experiment, own) or _create(client, experiment, own, settings)
    if run.info.status == "FINISHED":
        return
    now = run.info.start_time
    numbers = {n: v for n, v in child.metrics.items() if v is not None and isfinite(v)}
    client.log_batch(run.info.run_id, [Metric(n, v, now, 0) for n, v in numbers.items()])
    if content.is_dir():
        client.log_artifacts(run.info.run_id, str(content))
    client.set_terminated(run.info.run_id)


class Live:
    """A training's losses in MLflow while it goes on, as far as MLflow can be had.

    Everything happens in a thread, so that training never waits; whatever fails ends it quietly,
    since :func:`publish` sends all of it once more. Left behind by a process that was killed,
    its run is closed as killed by the next :func:`publish` into the experiment.

    Parameters
    ----------
    settings : Settings
    experiment, run_name : str
    work : str
        ``Record.work`` of the run that :func:`publish` is to make of it.
    """

    def __init__(self, settings: Settings, experiment: str, run_name: str, work: str) -> None:
        import threading

        self._settings = settings
        self._what = (experiment, run_name, work)
        self._waiting: list[tuple[str, float, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def epoch(self, epoch: int, losses: Mapping[str, float | None]) -> None:
        """Losses of an epoch that has ended."""
        self._waiting += [(f"epoch/{n}", v, epoch) for n, v in losses.items() if v is not None]

    def close(self, patience_s: float = 10.0) -> None:
        """Send what is left and end."""
        self._end.set()
        self._thread.join(patience_s)

    def _work(self) -> None:
        from contextlib import suppress

        with suppress(Unreachable, StudyError):
            self._send()

    def _send(self) -> None:
        experiment, run_name, work = self._what
        with _connected(self._settings) as client:
            from mlflow.entities import Metric

            place = _experiment(client, self._settings.experiment or experiment, self._settings)
            found = client.search_runs([place], f"tags.`{WORK}` = {_quoted(work)}", max_results=1)
            tags = self._settings.tags | _origin() | {WORK: work}
            run = found[0] if found else client.create_run(place, tags=tags, run_name=run_name)
            if run.info.status == "FINISHED":
                return
            client.set_tag(run.info.run_id, PROCESS, tags[PROCESS])
            client.update_run(run.info.run_id, "RUNNING")
            ended = False
            while not ended:
                ended = self._end.wait(LIVE_S)
                batch, self._waiting = self._waiting, []
                metrics = [Metric(n, v, run.info.start_time, e) for n, v, e in batch if isfinite(v)]
                for start in range(0, len(metrics), METRICS_A_BATCH):
                    client.log_batch(
                        run.info.run_id, metrics=metrics[start : start + METRICS_A_BATCH]
                    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _send(client: MlflowClient, run: Run, record: Record, content: Path) -> None:
    """Everything but the model. Sending it again changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    run_id, now = run.info.run_id, run.info.start_time
    if (content / "summary.md").is_file():
        client.log_artifact(run_id, str(content / "summary.md"))
    params = [
        Param(name, "null" if value is None else _cut(str(value), LONGEST_PARAM))
        for name, value in record.params.items()
    ]
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])
    numbers = [(name, value, 0) for name, value in record.metrics.items() if value is not None]
    numbers += _history(content / "history.csv")
    metrics = [Metric(name, value, now, step) for name, value, step in numbers if isfinite(value)]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    if record.dataset is not None:
        data = record.dataset
        profile = {"rows": data.rows, "features": data.features}
        dataset = Dataset(
            data.name,
            data.digest[:LONGEST_DATASET_DIGEST],
            "local",
            json.dumps({"uri": data.source}),
            profile=json.dumps({name: n for name, n in profile.items() if n is not None}),
        )
        client.log_inputs(run_id, [DatasetInput(dataset)])
    _send_growth(client, run, content / "reconstructions")
    client.log_artifacts(run_id, str(content))


def _send_growth(client: MlflowClient, run: Run, pictures: Path) -> None:
    """Pictures by epoch, which MLflow shows with a slider."""
    files = sorted(pictures.glob("epoch-*.png")) if pictures.is_dir() else []
    if not files or client.list_artifacts(run.info.run_id, "images"):
        return
    import numpy as np
    from PIL import Image

    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        epoch = int(file.stem.partition("-")[2])
        client.log_image(run.info.run_id, pixels, key="reconstruction", step=epoch)


def _history(file: Path) -> Iterator[tuple[str, float, int]]:
    """(metric, value, epoch) of every number in ``history.csv``.

    The metrics have names of their own, ``epoch/train_loss``: MLflow shows a name's last step as
    its value, and the epoch that was saved need not be the last.
    """
    if not file.is_file():
        return
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            epoch = int(row.pop("epoch"))
            yield from ((f"epoch/{name}", float(text), epoch) for name, text in row.items() if text)


def _published(client: MlflowClient, run: Run, settings: Settings) -> Published:
    base = settings.tracking_uri.rstrip("/")
    if not _is_server(base):
        base = f"http://{settings.server.host}:{settings.server.port}"
    info = run.info
    versions = client.search_model_versions(f"run_id = '{info.run_id}'")
    model = min(versions, key=lambda found: int(found.version), default=None)
    return Published(
        run_id=info.run_id,
        run_url=f"{_shown(base)}/#/experiments/{info.experiment_id}/runs/{info.run_id}",
        tracking_uri=_shown(settings.tracking_uri),
        model_uri=None if model is None else f"runs:/{info.run_id}/model",
        model_name=None if model is None else model.name,
        model_version=None if model is None else str(model.version),
    )


# ------------------------------------------------------------------------------- models

# MLflow stores this text beside the bundle and runs it to load the model (models from code):
# nothing is pickled. The names of predict's arguments are MLflow's.
MODEL_CODE = """\
import mlflow
import numpy as np
import pandas as pd

from ae_pipeline import bundle


class Detector(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.bundle = bundle.load(context.artifacts["bundle"])

    def predict(self, context, model_input: {takes}, params=None):
        if isinstance(model_input, dict):  # what MLflow makes of a table with a signature
            model_input = pd.DataFrame(model_input)
        return self.bundle.judge_values(model_input)


mlflow.models.set_model(Detector())
"""

REQUIRED = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "scikit-learn", "torch")


def _send_model(client: MlflowClient, run: Run, record: Record, name: str, folder: Path) -> None:
    """Store and register the bundle; what an earlier, killed call has done is taken up."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    run_id, experiment = run.info.run_id, run.info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    model = found[0] if found else None
    if model is None:
        tags = {KEY: record.key, DIGEST: _digest(folder)}
        model = client.create_logged_model(experiment, "model", source_run_id=run_id, tags=tags)
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as place:
            _save_model(Path(place), folder, record, model, run_id)
            client.log_model_artifacts(model.model_id, f"{place}/pyfunc")
        client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    registered = list(client.search_model_versions(f"run_id = '{run_id}'"))
    if not registered:
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name)
        registered = [
            client.create_model_version(
                name,
                f"models:/{model.model_id}",
                run_id=run_id,
                tags={KEY: record.key},
                description=_cut(_card(folder) or record.description, LONGEST_MODEL_DESCRIPTION),
                model_id=model.model_id,
            )
        ]
    client.set_registered_model_alias(name, ALIAS, str(registered[0].version))


def _card(bundle: Path) -> str:
    """The model card of a run folder; empty where it has none."""
    file = bundle.parent / "pseudonymised" / "model_card.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _save_model(place: Path, folder: Path, record: Record, model: LoggedModel, run_id: str) -> None:
    """Write the bundle as an MLflow model to ``place/pyfunc``."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, infer_signature
    from mlflow.types import Schema, TensorSpec

    from ae_pipeline import __version__, bundle

    detector = bundle.load(folder)
    table = detector.info.kind == "questionnaire"
    signature = example = None
    if record.input_example is not None:
        example = _example(detector, record.input_example.shape)
        signature = infer_signature(example, detector.judge_values(example))
        if table:
            # As tensors, since MLflow refuses whole numbers for columns declared as decimal.
            number = np.dtype("float64")
            signature.inputs = Schema([TensorSpec(number, (-1,), name) for name in example])
    takes = "pd.DataFrame" if table else "np.ndarray"
    code = place / "detector.py"
    code.write_text(MODEL_CODE.format(takes=takes), encoding="utf-8")
    # MLflow writes down where the parts came from; a copy keeps this machine's paths out of it.
    shutil.copytree(folder, place / "model")
    required = [f"{name}=={installed(name).split('+')[0]}" for name in REQUIRED]
    mlflow.pyfunc.save_model(
        place / "pyfunc",
        python_model=str(code),
        artifacts={"bundle": str(place / "model")},
        signature=signature,
        input_example=example,
        pip_requirements=[f"ae-pipeline=={__version__}", *required],
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            model_id=model.model_id,
        ),
    )


def _example(detector: Bundle, shape: tuple[int, ...]) -> Any:
    """Two invented samples: an array, or for a questionnaire a table with the items' names."""
    import numpy as np
    import pandas as pd

    if detector.info.kind != "questionnaire":
        return np.zeros((2, *shape), np.float32)
    row = {item["name"]: float((item["levels"] or (0,))[0]) for item in detector.info.columns}
    return pd.DataFrame([row, row])


def _digest(bundle: Path) -> str:
    return digest_files(sorted(file for file in bundle.rglob("*") if file.is_file()))


def resolve(uri: str, settings: Settings) -> Path:
    """Folder of the bundle that a model URI names; fetched once, then kept in the cache.

    Parameters
    ----------
    uri : str
        ``runs:/RUN_ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    settings : Settings
        From :func:`load_settings`.

    Raises
    ------
    StudyError
        Where the URI has another form, names nothing, or MLflow cannot be had.
    """
    form = re.fullmatch(
        r"runs:/(?P<run>[^/]+)/(?P<path>[^/]+)"
        r"|models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))",
        uri,
    )
    if form is None:
        raise StudyError(
            f"model {uri!r}: expected a bundle's folder, runs:/RUN_ID/model, models:/NAME@ALIAS "
            "or models:/NAME/VERSION"
        )
    try:
        with _connected(settings) as client:
            model = _named(client, form.groupdict())
            if model is None:
                raise StudyError(f"model {uri!r}: its run in MLflow holds no such model")
            return _fetch(model, settings)
    except Unreachable as error:
        raise StudyError(f"model {uri!r} cannot be had from {error}") from error


def _named(client: MlflowClient, parts: Mapping[str, str | None]) -> LoggedModel | None:
    run_id, path, name = parts["run"], parts["path"] or "model", parts["name"]
    if name and parts["alias"]:
        run_id = client.get_model_version_by_alias(name, parts["alias"]).run_id
    elif name:
        run_id = client.get_model_version(name, str(parts["version"])).run_id
    outputs = client.get_run(run_id).outputs if run_id else None
    made = outputs.model_outputs if outputs else []
    models = (client.get_logged_model(output.model_id) for output in made)
    return next((model for model in models if model.name == path), None)


def _fetch(model: LoggedModel, settings: Settings) -> Path:
    """The model's bundle, where it lies if that is this machine, else from the cache."""
    from mlflow.artifacts import download_artifacts

    expected = model.tags.get(DIGEST, "")
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise StudyError(f"model {model.model_id} in MLflow was not published by ae-pipeline")
    location = f"{model.artifact_location.rstrip('/')}/artifacts/model"
    if urlsplit(location).scheme in ("", "file"):
        bundle = Path(download_artifacts(location, tracking_uri=settings.tracking_uri))
        _verify(bundle, expected, model.model_id)
        return bundle
    place = cache_dir("models") / expected
    if not place.is_dir():
        with write_folder(place) as new:
            fetched = download_artifacts(location, None, None, str(new), settings.tracking_uri)
            _verify(Path(fetched), expected, model.model_id)
    return place / "model"


def _verify(bundle: Path, expected: str, model_id: str) -> None:
    if _digest(bundle) != expected:
        raise StudyError(f"model {model_id} in MLflow was changed after it was published")


@contextmanager
def watched(
    experiment: str, work: str, listener: Callable[[Any], None]
) -> Iterator[Callable[[Any], None]]:
    """Give a listener to a training's events that tells ``listener``, and MLflow meanwhile.

    Trainings shorter than :data:`LIVE_AFTER_S` are published when they are done, and only then.
    """
    started, live = time.monotonic(), list[Live]()
    earlier: list[Any] = []

    def told(event: Any) -> None:
        listener(event)
        if not hasattr(event, "is_best"):
            return
        if not live:
            earlier.append(event)
            if time.monotonic() - started < LIVE_AFTER_S:
                return
            live.append(Live(load_settings(), experiment, "training now", work))
        for each in [*earlier, *([] if earlier else [event])]:
            losses = {"train_loss": each.train_loss, "validation_loss": each.validation_loss}
            live[0].epoch(each.epoch, losses)
        earlier.clear()

    try:
        yield told
    finally:
        for each in live:
            each.close()


def aliases(settings: Settings, name: str) -> dict[str, str]:
    """Version of each alias of a registered model; empty where there is no such model."""
    from contextlib import suppress

    with _connected(settings) as client:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            found = client.get_registered_model(name).aliases
            return {alias: str(version) for alias, version in found.items()}
    return {}


def point(settings: Settings, name: str, alias: str, version: str) -> None:
    """Let an alias of a registered model name a version."""
    with _connected(settings) as client:
        client.set_registered_model_alias(name, alias, version)


def promote(settings: Settings, model: str, reason: str) -> dict[str, str | None]:
    """Make a model the champion of its name; the reason is kept with the version.

    Parameters
    ----------
    settings : Settings
    model : str
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN_ID/model``, or the folder of
        a bundle that has been published.
    reason : str
        Why, in a person's words.

    Returns
    -------
    dict
        ``name``, ``version``, and ``replaced``: the version that was champion before, or None.

    Raises
    ------
    StudyError
        Where the reason is empty, the model is not registered, or MLflow cannot be had.
    """
    if not reason.strip():
        raise StudyError("--reason: say in a sentence why this model is to be the champion")
    try:
        with _connected(settings) as client:
            name, version = _registered(client, model)
            replaced = client.get_registered_model(name).aliases.get(CHAMPION)
            client.set_model_version_tag(name, version, REASON, _cut(reason, LONGEST_TAG))
            if replaced is not None and str(replaced) != version:
                client.set_model_version_tag(name, version, "ae_pipeline.replaced", str(replaced))
                client.set_registered_model_alias(name, "former", str(replaced))
            client.set_registered_model_alias(name, CHAMPION, version)
    except Unreachable as error:
        raise StudyError(f"model {model!r}: {error}") from error
    return {
        "name": name,
        "version": version,
        "replaced": None if replaced is None else str(replaced),
    }


def _registered(client: MlflowClient, model: str) -> tuple[str, str]:
    """Name and version that a user's way of naming a model stands for."""
    form = re.fullmatch(
        r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))"
        r"|runs:/(?P<run>[^/]+)/[^/]+",
        model,
    )
    parts: dict[str, str | None] = {} if form is None else form.groupdict()
    if form is None:
        record = Path(model).expanduser().absolute().parent / "published.json"
        if not record.is_file():
            raise StudyError(
                f"model {model!r}: expected models:/NAME@ALIAS, models:/NAME/VERSION, "
                "runs:/RUN_ID/model, or the model folder of a training that was published"
            )
        known = read_json(record)
        if not known.get("model_name"):
            raise StudyError(f"model {model!r}: its run registered no model")
        return str(known["model_name"]), str(known["model_version"])
    if parts["run"]:
        versions = list(client.search_model_versions(f"run_id = '{_quoted(parts['run'])[1:-1]}'"))
        if not versions:
            raise StudyError(f"model {model!r}: its run registered no model")
        return str(versions[0].name), str(versions[0].version)
    name = str(parts["name"])
    if parts["alias"]:
        return name, str(client.get_model_version_by_alias(name, parts["alias"]).version)
    return name, str(client.get_model_version(name, str(parts["version"])).version)


def deleted_runs(settings: Settings, days: float) -> list[str]:
    """Runs that a person has deleted so long ago: what :func:`gc_command` removes for good.

    Raises
    ------
    Unreachable
        Where MLflow does not answer.
    """
    kind, _, place = settings.tracking_uri.partition("///")
    if _is_server(settings.tracking_uri) or (kind == "sqlite:" and not Path(place).is_file()):
        return []
    with _connected(settings) as client:
        store = client._tracking_client.store  # what gc itself asks, which has no dry run
        found = store._get_deleted_runs(older_than=round(days) * 24 * 3600 * 1000)
    return [str(run) for run in found]


def gc_command(settings: Settings, days: float) -> tuple[list[str], dict[str, str]] | None:
    """MLflow's own command for runs that were deleted so long ago; None where a server does it."""
    if _is_server(settings.tracking_uri):
        return None
    command = [sys.executable, "-m", "mlflow", "gc", "--older-than", f"{round(days)}d"]
    environment = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    return command, environment


# ----------------------------------------------------------------------------------- ui


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
    if _is_server(settings.tracking_uri):
        raise StudyError(
            f"MLflow has its own server; open {_shown(settings.tracking_uri)} in a browser"
        )
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--no-serve-artifacts"]
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
