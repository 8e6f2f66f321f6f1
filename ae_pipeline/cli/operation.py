"""A study over time: its inbox, its models, what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ae_pipeline.cli.console import console, err, tell
from ae_pipeline.cli.execute import finish, run_job, run_steps
from ae_pipeline.cli.options import Json, NoCache, NoPrefect, StudyFile

__all__ = ["clean", "promote", "retrain", "run_inbox", "status", "why"]


def status(study: StudyFile, as_json: Json = False) -> None:
    """Say what of a study is done, and what of its inbox.

    Example: ae-pipeline status study.yaml
    """
    from ae_pipeline.runtime.files import read_json
    from ae_pipeline.study import load_study

    checked = load_study(study)
    out = checked.outputs.root / checked.study
    provenance = out / "provenance.json"
    found: dict[str, Any] = {"study": checked.study, "out": str(out), "trained": False}
    if provenance.is_file():
        there = read_json(provenance)
        published = out / "published.json"
        found |= {
            "trained": there["status"] == "done",
            "finished": there.get("finished"),
            "verdict": there.get("verdict"),
            "failed": len(there.get("failed", [])),
            "published": published.is_file(),
        }
    if checked.operation is not None:
        from ae_pipeline.ingest.inbox import open_inbox
        from ae_pipeline.jobs.status import overview

        found |= overview(open_inbox(study))
    if as_json:
        tell(json.dumps(found))
        return
    inputs = found.pop("inputs", [])
    for key, value in found.items():
        tell(f"{key}: {value}")
    for each in inputs:
        tell(f"{each['state']:10} {each['recording']}: {each['because']}")
    if not found["trained"]:
        tell(f"next: ae-pipeline train {study}")
    elif "inbox" in found:
        tell(f"next: ae-pipeline run-inbox {study}")


def run_inbox(
    study: StudyFile,
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], metavar="DATE", help="First day of arrival."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], metavar="DATE", help="Last day of arrival."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, also where nothing seems changed.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Backfill with this model, into a folder of its own.")
    ] = None,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Score what is new in a study's inbox, once, and say what happened.

    Example: ae-pipeline run-inbox study.yaml
    """
    from ae_pipeline.jobs.night import night_job

    days = [None if day is None else day.date() for day in (since, until)]
    with console() as progress:
        job = night_job(
            study, days[0], until=days[1], verify=verify, model=model, progress=progress
        )
        # with nothing to do, a server would take longer to start than the run takes
        alone = not (job.begin() or os.environ.get("PREFECT_API_URL"))
        run_steps(job, no_prefect=no_prefect or alone)
    finish(job, as_json=as_json)


def why(
    file: Annotated[Path, typer.Argument(help="A file of an inbox.", metavar="FILE")],
    study: Annotated[
        Path | None, typer.Option(help="Study file; the one that has run on this inbox by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which part of its key made a file run again.

    Example: ae-pipeline why inbox/sub-07_eeg.edf
    """
    from ae_pipeline.ingest.inbox import open_inbox
    from ae_pipeline.jobs import status

    lines = status.why(open_inbox(study or status.study_of(file)), file)
    tell(json.dumps({"file": str(file), "why": lines}) if as_json else "\n".join(lines))


def retrain(
    study: StudyFile,
    no_cache: NoCache = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Train a study anew as the challenger, and say which flags would change with it.

    Example: ae-pipeline retrain study.yaml
    """
    from ae_pipeline.jobs.retrain import retrain_job

    run_job(
        lambda p: retrain_job(study, p, fresh=no_cache),
        no_prefect=no_prefect,
        as_json=as_json,
    )


def promote(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@challenger, models:/NAME/VERSION, runs:/ID/model.")
    ],
    reason: Annotated[str, typer.Option(help="Why, in a sentence; kept with the model.")],
    as_json: Json = False,
) -> None:
    """Make a model the champion of its name.

    Example: ae-pipeline promote models:/rest@challenger --reason "fewer false alarms at site B"
    """
    from ae_pipeline.tracking import registry
    from ae_pipeline.tracking.settings import load_settings

    result = registry.promote(load_settings(), model, reason=reason)
    if as_json:
        tell(json.dumps(result))
        return
    before = f" (before: version {result['replaced']})" if result["replaced"] else ""
    tell(f"champion: {result['name']} version {result['version']}{before}")
    tell("next: inboxes keep the model they have; name this one under operation.model to change")


def clean(
    studies: Annotated[
        list[Path] | None,
        typer.Argument(help="Studies whose results are looked at.", metavar="STUDY"),
    ] = None,
    days: Annotated[
        float, typer.Option(help="Keep unfinished and cached things so long.", min=0)
    ] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what killed runs have left, old caches, and runs that were deleted in MLflow.

    Results and records stay. Without STUDY the folder derivatives here is looked at.

    Example: ae-pipeline clean --dry-run
    """
    from ae_pipeline.jobs.clean import leftovers, remove
    from ae_pipeline.study import load_study
    from ae_pipeline.tracking.commands import deleted_runs
    from ae_pipeline.tracking.connection import Unreachable
    from ae_pipeline.tracking.settings import load_settings

    roots = [load_study(study).outputs.root for study in studies or ()]
    found = leftovers(roots or [Path("derivatives").absolute()], days)
    settings = load_settings()
    try:
        runs = deleted_runs(settings, days)
        if runs and not dry_run:
            _collect_garbage(settings, days)
            left = set(deleted_runs(settings, days))  # deleted too recently
            runs = [run for run in runs if run not in left]
    except Unreachable as error:
        err(f"warning: {error}; runs deleted there are not looked at")
        runs = []
    if not dry_run:
        remove(found)
    size = sum(each.size for each in found)
    if as_json:
        told = [{"path": str(e.path), "why": e.why, "size": e.size} for e in found]
        done = {"removed": not dry_run, "bytes": size, "found": told, "mlflow_runs": runs}
        tell(json.dumps(done))
        return
    for each in found:
        tell(f"{each.path}: {each.why} ({each.size / 1e6:.1f} MB)")
    for run in runs:
        tell(f"MLflow run {run}: deleted there; goes {round(days)} days after that")
    n, verb = len(found) + len(runs), "would be removed; run it without --dry-run"
    if not n:
        tell("nothing to remove")
        return
    what = f"{n} leftover{'s' if n > 1 else ''}, {size / 1e6:.1f} MB"
    tell(f"{what} {verb if dry_run else 'removed'}")


def _collect_garbage(settings: Any, days: float) -> None:
    """MLflow's own gc, which removes what a person has deleted there."""
    from ae_pipeline.tracking.commands import gc_command

    gc = gc_command(settings, days)
    if gc is None:
        return
    environment = {**os.environ, **gc[1]}
    done = subprocess.run(gc[0], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        err(f"warning: MLflow's gc: {' '.join(done.stderr.split())[-200:]}")
