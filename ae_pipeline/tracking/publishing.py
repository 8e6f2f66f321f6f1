"""Finished run folders to runs in MLflow, each once, however often it is tried."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ae_pipeline.config import StudyError, explain
from ae_pipeline.runtime.files import (
    cache_dir,
    digest_json,
    is_alive,
    locked,
    read_json,
    write_json,
)
from ae_pipeline.tracking.connection import (
    KEY,
    LONGEST_TAG,
    Unreachable,
    accepted,
    connected,
    cut,
    quoted,
)
from ae_pipeline.tracking.record import Child, Published, Record
from ae_pipeline.tracking.registry import send_model
from ae_pipeline.tracking.settings import Settings, is_server, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["experiment_id", "origin", "publish"]

KIND = "ae_pipeline.kind"
PROCESS = "ae_pipeline.process"
WORK = "ae_pipeline.work"
PARENT = "mlflow.parentRunId"
"""MLflow's own tag."""

# MLflow's own limits; it refuses, or cuts with a warning, what is longer.
LONGEST_PARAM = 6000
LONGEST_DATASET_DIGEST = 36
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100

HOW_TO_READ = """\
Each run opens on its summary; the page with everything is `report.html` under Artifacts.

- **train**: a model with its card, the losses, figures, reconstructions over the epochs.
- **score**, **night**: what was found in new data; below a night stands a run for each recording
  that was flagged or failed.
- **retrain**, **compare**: models side by side.

Names of people and files are pseudonyms; the map stays where the results are.
"""
"""Stands above an experiment's runs."""


def publish(
    folder: Path, settings: Settings, *, parent: str | None = None, register: bool = True
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
    with locked(cache_dir("mlflow") / "publish.lock"), connected(settings) as client:
        experiment = experiment_id(
            client, settings.experiment or record.experiment, settings=settings
        )
        _close_killed(client, experiment)
        run = (
            _find(client, experiment, record=record)
            or _adopt(client, experiment, record=record, settings=settings)
            or _create(client, experiment, record=record, settings=settings)
        )
        if parent is not None and run.data.tags.get(PARENT) != parent:
            client.set_tag(run.info.run_id, PARENT, parent)
        is_new = run.info.status != "FINISHED"
        if is_new:
            _send(client, run, record=record, content=folder / "pseudonymised")
            for child in record.children:
                place = folder / "pseudonymised" / "children" / child.name
                _send_child(
                    client, run, record=record, child=child, content=place, settings=settings
                )
        wanted = register and record.model_name and (folder / "model").is_dir()
        if wanted and (is_new or not _published(client, run, settings=settings).model_uri):
            send_model(
                client, run, record=record, name=str(record.model_name), folder=folder / "model"
            )
        if is_new:
            client.set_terminated(run.info.run_id)
        published = _published(client, run, settings=settings)
    write_json(folder / "published.json", asdict(published))
    return published


def _record(folder: Path) -> Record:
    file = folder / "pseudonymised" / "run.json"
    if not file.is_file():
        raise StudyError(f"{folder}: nothing to publish (no {file.relative_to(folder)})")
    try:
        return Record.model_validate(read_json(file))
    except ValidationError as error:
        raise explain(error, Record, where=str(file)) from None


def experiment_id(client: MlflowClient, name: str, *, settings: Settings) -> str:
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


def _find(client: MlflowClient, experiment: str, *, record: Record) -> Run | None:
    """The run of this work: the finished one, else the one that a killed publish has left."""
    found = client.search_runs(
        [experiment],
        f"tags.`{KEY}` = {quoted(record.key)} and tags.`{KIND}` = '{record.kind}'",
    )
    return min(found, key=lambda run: run.info.status != "FINISHED", default=None)


def _create(client: MlflowClient, experiment: str, *, record: Record, settings: Settings) -> Run:
    return client.create_run(experiment, tags=_tags(record, settings), run_name=record.run_name)


def _tags(record: Record, settings: Settings) -> dict[str, str]:
    tags = settings.tags | record.tags | origin()
    tags |= {KEY: record.key, KIND: record.kind, "mlflow.note.content": record.description}
    return {name: cut(text, LONGEST_TAG) for name, text in tags.items()}


def origin() -> dict[str, str]:
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

    checkout = Path(__file__).parents[2]
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


def _adopt(
    client: MlflowClient, experiment: str, *, record: Record, settings: Settings
) -> Run | None:
    """The run that showed this work while it went on, now under its final name and key."""
    if record.work is None:
        return None
    found = client.search_runs(
        [experiment],
        f"tags.`{WORK}` = {quoted(record.work)} and attributes.status != 'FINISHED'",
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
    *,
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
    run = _find(client, experiment, record=own) or _create(
        client, experiment, record=own, settings=settings
    )
    if run.info.status == "FINISHED":
        return
    now = run.info.start_time
    numbers = {n: v for n, v in child.metrics.items() if v is not None and isfinite(v)}
    client.log_batch(run.info.run_id, [Metric(n, v, now, 0) for n, v in numbers.items()])
    if content.is_dir():
        client.log_artifacts(run.info.run_id, str(content))
    client.set_terminated(run.info.run_id)


def _send(client: MlflowClient, run: Run, *, record: Record, content: Path) -> None:
    """Everything but the model. Sending it again changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    run_id, now = run.info.run_id, run.info.start_time
    if (content / "summary.md").is_file():
        client.log_artifact(run_id, str(content / "summary.md"))
    params = [
        Param(accepted(name), "null" if value is None else cut(str(value), LONGEST_PARAM))
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
    _send_growth(client, run, pictures=content / "reconstructions")
    client.log_artifacts(run_id, str(content))


def _send_growth(client: MlflowClient, run: Run, *, pictures: Path) -> None:
    """Pictures by epoch, which MLflow shows with a slider."""
    files = sorted(pictures.glob("epoch-*.png")) if pictures.is_dir() else []
    if not files or client.list_artifacts(run.info.run_id, "images"):
        return
    from mlflow import Image

    for file in files:
        epoch = int(file.stem.partition("-")[2])
        client.log_image(run.info.run_id, Image(str(file)), key="reconstruction", step=epoch)


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


def _published(client: MlflowClient, run: Run, *, settings: Settings) -> Published:
    base = settings.tracking_uri.rstrip("/")
    if not is_server(base):
        base = f"http://{settings.server.host}:{settings.server.port}"
    info = run.info
    versions = client.search_model_versions(f"run_id = '{info.run_id}'")
    model = min(versions, key=lambda found: int(found.version), default=None)
    return Published(
        run_id=info.run_id,
        run_url=f"{shown(base)}/#/experiments/{info.experiment_id}/runs/{info.run_id}",
        tracking_uri=shown(settings.tracking_uri),
        model_uri=None if model is None else f"runs:/{info.run_id}/model",
        model_name=None if model is None else model.name,
        model_version=None if model is None else str(model.version),
    )
