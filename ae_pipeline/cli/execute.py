"""Run a job from the command line, as a Prefect flow or plainly, and print what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from ae_pipeline.cli.console import console, print_result, tell

if TYPE_CHECKING:
    from ae_pipeline.jobs.job import Job

__all__ = ["finish", "run_job", "run_steps"]


def run_job(make: Callable[[Any], Job], *, no_prefect: bool, as_json: bool) -> None:
    """Make a job with a progress display, run it, print its result, and exit with its status."""
    from ae_pipeline.training import distributed

    if distributed.rank():  # under torchrun one process speaks for all
        from ae_pipeline.jobs.job import Progress, run_plainly

        job = make(Progress())
        run_plainly(job)
        raise typer.Exit(job.exit_status)  # nothing else of the command is theirs
    with console() as progress:
        job = make(progress)  # a study error costs no Prefect server
        run_steps(job, no_prefect=no_prefect)
    finish(job, as_json=as_json)


def run_steps(job: Job, *, no_prefect: bool) -> None:
    """Run a job's steps, as a Prefect flow unless that is refused."""
    if no_prefect:
        from ae_pipeline.jobs.job import run_plainly

        run_plainly(job)
    else:
        import flows

        flows.run_job(job)


def finish(job: Job, *, as_json: bool) -> None:
    """Print the result of a job and exit with its status."""
    if as_json:
        tell(json.dumps({"exit_status": job.exit_status, **job.result}, default=str))
    else:
        print_result(job)
    raise typer.Exit(job.exit_status)
