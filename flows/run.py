"""What all flows share: a Prefect server to talk to, and a job's steps as its tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.files import project_root
from flows.server import api_token, start_server
from flows.servers import PREFECT_START_S, find_servers, prepare_environment

if TYPE_CHECKING:
    from ae_pipeline.jobs.job import Job, Progress, Step

__all__ = [
    "current_progress",
    "run_job",
    "run_name",
    "run_steps",
    "using",
]

NOTHING_KEPT: dict[str, Any] = {"persist_result": False, "result_serializer": "json"}
"""For each flow. Prefect writes down the exception of a failed one all the same, as a pickle."""
RETRY_DELAY_S = 1
TOKEN = "PREFECT_API_AUTH_STRING"

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def using(progress: Progress | None = None, schedules: bool = False) -> Iterator[None]:
    """Call flows inside: a server is there, and ``progress`` is told what happens.

    With ``schedules`` a server that is started for it begins runs when their time has come.

    Raises
    ------
    StudyError
        Where the server at ``PREFECT_API_URL`` does not answer, or none can be started.
    """
    prepare_environment()
    _reach_server(schedules)
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    token = _progress.set(progress)
    try:
        # Ending the heartbeat would make every flow a second longer.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        _progress.reset(token)


def current_progress() -> Progress | None:
    """Whom :func:`using` was given; None where a worker runs the flow."""
    return _progress.get()


def _reach_server(schedules: bool) -> None:
    """See to it that a server answers: the one that is configured, else one of this process."""
    home = Path(os.environ["PREFECT_HOME"])
    try:
        home.mkdir(parents=True, exist_ok=True)
        known = find_servers(project_root()).get("prefect")
        if known:
            # of 'ae-pipeline up'
            os.environ["PREFECT_API_URL"] = os.environ.get("PREFECT_API_URL") or known
            if os.environ["PREFECT_API_URL"].rstrip("/") == known:
                os.environ[TOKEN] = api_token()
        # Before the import, which takes as long as half of the start.
        own = (
            None
            if os.environ.get("PREFECT_API_URL")
            else start_server(home / "server.log", schedules)
        )
    except OSError as error:
        raise StudyError(
            f"Prefect cannot keep its record in {home} ({error.strerror}); set PREFECT_HOME, or "
            "use --no-prefect"
        ) from None

    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL

    refresh_global_settings_context()
    configured = PREFECT_API_URL.value()  # a profile of Prefect's may name one, too
    if own is not None and configured:
        own.stop()
    if configured and not _answers(timeout_s=5):
        raise StudyError(
            f"Prefect at {configured} does not answer; start it, unset PREFECT_API_URL, or use "
            "--no-prefect"
        )
    if own is not None and not configured:
        # The steps will need it, and its import takes as long as the rest of the start.
        import torch  # noqa: F401

        # In the environment, where Prefect's own threads and processes look.
        os.environ["PREFECT_API_URL"] = own.address
        os.environ[TOKEN] = api_token()
        os.environ["no_proxy"] = ",".join(
            filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"])
        )
        refresh_global_settings_context()
        if not _answers(timeout_s=PREFECT_START_S):
            raise StudyError(
                f"Prefect's server did not start (its reasons are in {home / 'server.log'}); use "
                "--no-prefect"
            )


def _answers(timeout_s: float) -> bool:
    """Whether the server that Prefect's settings name answers, asked once."""
    from prefect import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings={"timeout": timeout_s}) as client,
    ):
        return client.api_healthcheck() is None


def run_job(job: Job) -> dict[str, Any]:
    """Run a job as a flow; :func:`using` is not needed around it.

    Returns
    -------
    dict
        What :func:`run_steps` returns.

    Raises
    ------
    StudyError
        Where Prefect's server cannot be had, beside whatever the job raises.
    """
    with using(current_progress()):
        from prefect import flow

        @flow(name=job.kind, flow_run_name=run_name(job), **NOTHING_KEPT)
        def run() -> dict[str, Any]:
            return run_steps(job)

        return run()


def run_name(job: Job) -> str:
    """What a person recognises the run by: the study and the time."""
    return f"{job.title} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"


def run_steps(job: Job) -> dict[str, Any]:
    """Run a job's steps as tasks of the current flow, and leave its summary as an artifact.

    Returns
    -------
    dict
        ``kind``, ``title``, ``exit_status`` and ``result`` of the job.
    """
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import flow_run

    os.environ["AE_PIPELINE_FLOW_RUN"] = str(flow_run.id or "")  # MLflow's run is to name it
    for step in job.steps():
        _run_as_task(step)
    key = re.sub(r"[^a-z0-9]+", "-", f"{job.kind}-{job.title}".lower()).strip("-")
    create_markdown_artifact(job.summary(), key=key, description=f"{job.kind}: {job.title}")
    return {
        "kind": job.kind,
        "title": job.title,
        "exit_status": job.exit_status,
        "result": job.result,
    }


def _run_as_task(step: Step) -> None:
    """Run a step as a task without parameters or result: nothing heavy goes through Prefect."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    @task(
        name=step.name,
        retries=step.retries,
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=_may_pass,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run() -> None:
        step.run()

    run()


def _may_pass(task: Any, run: Any, state: Any) -> bool:
    """Whether a failure may be gone the next time: a bad input or study stays what it is."""
    return isinstance(state.result(raise_on_failure=False), OSError)
