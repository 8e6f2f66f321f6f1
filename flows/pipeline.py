"""The flows: each builds its job from plain parameters and runs the job's steps."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import Flow, flow, get_client
from prefect.runtime import deployment, flow_run

from ae_pipeline.jobs.demo.job import KINDS, DemoJob
from ae_pipeline.jobs.night import night_job
from ae_pipeline.jobs.retrain import retrain_job
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.outputs.masking import pseudonyms
from flows.run import NOTHING_KEPT, current_progress, run_name, run_steps

if TYPE_CHECKING:
    from ae_pipeline.jobs.job import Job

__all__ = ["demo", "drop_late", "inbox", "retrain", "score", "train"]


@flow(flow_run_name="{study}", **NOTHING_KEPT)
def train(
    study: str,
    out: str | None = None,
    *,
    overrides: list[str] | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Train a study's model, score the data held out from it, report and publish.

    Parameters
    ----------
    study : str
        Study file.
    out : str, optional
        Folder for the results; the study's own by default.
    overrides : list of str, optional
        ``a.b=value``.
    fresh : bool
        Train again even where the results are there.
    """
    place = Path(out) if out else None
    return _run(
        train_job(
            Path(study), place, overrides=overrides or (), progress=current_progress(), fresh=fresh
        )
    )


@flow(flow_run_name="{model}", **NOTHING_KEPT)
def score(
    model: str,
    inputs: list[str],
    *,
    out: str,
    error_rate: float | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Score recordings, images or a questionnaire with a model.

    Parameters
    ----------
    model : str
        A bundle's folder, ``runs:/RUN_ID/model`` or ``models:/NAME@ALIAS``.
    inputs : list of str
        Files, folders, globs or BIDS roots.
    out : str
        Folder for the results.
    error_rate : float, optional
        Share of false discoveries allowed, instead of the model's own.
    fresh : bool
        Score again what is done already.
    """
    _hide("inputs", inputs)
    return _run(
        score_job(
            model,
            inputs,
            out=Path(out),
            error_rate=error_rate,
            progress=current_progress(),
            fresh=fresh,
        )
    )


@flow(flow_run_name="{study}", **NOTHING_KEPT)
def inbox(
    study: str,
    since: date | None = None,
    *,
    until: date | None = None,
    verify: bool = False,
    model: str | None = None,
) -> dict[str, Any]:
    """Score what is new in a study's inbox, once, and say what happened.

    Parameters
    ----------
    study : str
        Study file with ``operation.inbox``.
    since, until : date, optional
        A backfill: what arrived on these days and is not scored by the study's model yet.
    verify : bool
        Read every file, also where size and time are unchanged.
    model : str, optional
        A backfill with this model, into a folder of its own.
    """
    _drop_late()
    return _run(
        night_job(
            Path(study), since, until=until, verify=verify, model=model, progress=current_progress()
        )
    )


@flow(flow_run_name="{study}", **NOTHING_KEPT)
def retrain(study: str) -> dict[str, Any]:
    """Train a study anew; the result becomes the challenger, compared with the champion.

    Parameters
    ----------
    study : str
        Study file.
    """
    _drop_late()
    return _run(retrain_job(Path(study), current_progress()))


@flow(flow_run_name="demo", **NOTHING_KEPT)
def demo(
    kinds: list[str] | None = None, out: str = "demo", *, quick: bool = False
) -> dict[str, Any]:
    """Do the main job on real sample data.

    Parameters
    ----------
    kinds : list of str, optional
        Some of eeg, mnist and questionnaire; all by default.
    out : str
        Folder for the results.
    quick : bool
        Fewer epochs and images.
    """
    return _run(DemoJob(kinds or KINDS, Path(out), quick=quick, progress=current_progress()))


def drop_late(deployment: str | UUID, but: UUID | None = None) -> int:
    """Cancel scheduled runs of a deployment whose time has passed: the next one does their work.

    Parameters
    ----------
    deployment : str or UUID
        ``FLOW/DEPLOYMENT``, or its id.
    but : UUID, optional
        The run that is to stay.

    Returns
    -------
    int
        How many were cancelled.
    """
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled

    now, dropped = datetime.now(UTC), 0
    with get_client(sync_client=True) as client:
        if isinstance(deployment, str):
            try:
                deployment = client.read_deployment_by_name(deployment).id
            except ObjectNotFound:
                return 0
        waiting = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        )
        for run in waiting:
            due = run.expected_start_time
            if run.id != but and run.auto_scheduled and due is not None and due < now:
                message = "its time had passed; the run that is at work does what it would have"
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
                dropped += 1
    return dropped


def _drop_late() -> None:
    """Cancel runs that should have been by now: this one does their work."""
    if deployment.id is not None:
        drop_late(UUID(str(deployment.id)), but=UUID(str(flow_run.id)))


def _hide(name: str, values: list[str]) -> None:
    """Put pseudonyms where Prefect keeps what a person has typed: paths name people."""
    hidden = list(pseudonyms(values, "input").values())
    with get_client(sync_client=True) as client:
        given = dict(flow_run.parameters)
        client.update_flow_run(flow_run.id, parameters={**given, name: hidden})


def _run(job: Job) -> dict[str, Any]:
    """Run the steps under a name that was not known when the flow started."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=run_name(job))
    return run_steps(job)


def _explain_forms(*flows: Flow[..., Any]) -> None:
    """Show what the docstrings say beside each field of the forms in Prefect's pages.

    Prefect reads them in Google's style only.
    """
    for each in flows:
        text = inspect.cleandoc(each.__doc__ or "")
        lines = [text.partition("\n\nParameters\n")[0], "", "Args:"]
        for names, said in re.findall(r"^(\w[\w, ]*) : .*\n((?: {4}.*\n?)+)", text, re.MULTILINE):
            lines += [f"    {name}: {' '.join(said.split())}" for name in names.split(", ")]
        each.__doc__ = "\n".join(lines)


_explain_forms(demo, inbox, retrain, score, train)
