"""A study, from its file to a trained model: init, validate, train, compare."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from ae_pipeline.cli.console import console, tell
from ae_pipeline.cli.execute import run_job
from ae_pipeline.cli.options import Json, NoCache, NoPrefect, Out, Set, StudyFile
from ae_pipeline.config import StudyError, from_home

__all__ = ["compare", "init", "train", "validate"]

_LOG = logging.getLogger(__name__)


def init(
    kind: Annotated[str, typer.Argument(help="eeg, mnist or questionnaire.", metavar="KIND")],
    source: Annotated[
        Path | None, typer.Argument(help="Your data: the study file is made to fit it.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Study file to write.")] = Path(
        "study.yaml"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
) -> None:
    """Write a commented study file.

    Example: ae-pipeline init eeg recordings/ -o study.yaml
    """
    from ae_pipeline.jobs.init import initial_study
    from ae_pipeline.runtime.files import write_text

    if out.exists():
        raise StudyError(f"{out}: exists already; name another file with -o, or remove it")
    resolved = None if source is None else from_home(source).absolute()
    text = initial_study(kind, resolved, name=name)
    write_text(out, text)
    tell(out)
    next_step = "set source.path in it, then" if source is None else "read it, then"
    tell(f"next: {next_step} ae-pipeline validate {out}")


def validate(
    study: StudyFile,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Check a study and its data; nothing is trained.

    Example: ae-pipeline validate study.yaml
    """
    from ae_pipeline.detectors.reach import reach
    from ae_pipeline.ingest.gather import gather
    from ae_pipeline.jobs.train import calibration_units
    from ae_pipeline.report.findings.reasons import allowed as in_words
    from ae_pipeline.study import load_study
    from ae_pipeline.training.split import divide

    checked = load_study(study, overrides or [])
    with console() as progress:
        progress.stage("reading the data")
        data = gather(checked, progress.advance)
        division = divide(data.samples.meta, checked.split)
        for line in (*data.notes, *division.claims):
            _LOG.warning(line)
        for failure in data.failures:
            _LOG.warning(failure.reason)
        progress.stage("building the model")
        from ae_pipeline.models.autoencoder import Autoencoder

        samples = data.samples
        Autoencoder(checked.model, samples.layout, shape=samples.shape, columns=samples.columns)
        from ae_pipeline.jobs.fit import known_labels

        known = known_labels(checked, data)
        if known is not None:
            n_known = int(known.is_known.sum())
            _LOG.info(f"{known.head.target}: {n_known} of {len(samples)} samples have a label")
    n_calibration = calibration_units(data, division, trim=checked.detection.trim)
    parts = {str(part): int((division.part == part).sum()) for part in sorted({*division.part})}
    what = f"{division.unit}s"
    allowed = reach(
        n_calibration,
        10,
        error_rate=checked.detection.error_rate,
        dependence=checked.detection.dependence,
    )
    planned = {
        f"calibration_{what}": n_calibration,
        "smallest_p": allowed.smallest_p,
        "for_one_among_ten": allowed.needed,
    }
    found = {
        **planned,
        "rows": len(data.samples),
        "shape": data.samples.shape,
        **data.facts,
        "parts": parts,
    }
    if as_json:
        tell(json.dumps({**found, "failed": [f.reason for f in data.failures]}))
    else:
        for key, value in found.items():
            tell(f"{key}: {value}")
        limit = in_words(allowed, what)
        if limit:
            tell(f"judging 10 {what} together: {limit}")
        tell(f"next: ae-pipeline train {study}")
    raise typer.Exit(1 if data.failures else 0)


def train(
    study: StudyFile,
    overrides: Set = None,
    out: Out = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    jobs: Annotated[int, typer.Option(help="Recordings read at a time, a process each.")] = 1,
    no_cache: NoCache = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Train a study's model, calibrate it, report on it.

    Example: ae-pipeline train study.yaml --set training.epochs=20
    """
    from ae_pipeline.jobs.train import train_job

    given = [*(overrides or []), *([] if seed is None else [f"training.seed={seed}"])]
    run_job(
        lambda p: train_job(study, out, overrides=given, progress=p, fresh=no_cache, jobs=jobs),
        no_prefect=no_prefect,
        as_json=as_json,
    )


def compare(
    study: StudyFile,
    architectures: Annotated[
        list[str] | None,
        typer.Option("--architecture", help="dense, conv, recurrent, attention; repeat it."),
    ] = None,
    objectives: Annotated[
        list[str] | None, typer.Option("--objective", help="vanilla, denoising, ...; repeat it.")
    ] = None,
    latent_dims: Annotated[
        list[int] | None, typer.Option("--latent-dim", help="Latent features; repeat it.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Times each model is trained.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override for all models: a.b=value.")
    ] = None,
    out: Out = None,
    jobs: Annotated[
        int | None, typer.Option(help="Models trained at a time; one a core by default.")
    ] = None,
    no_cache: NoCache = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Train a grid of models of one study and say which to take, and why.

    Example: ae-pipeline compare study.yaml --architecture dense --architecture conv --seeds 3
    """
    from ae_pipeline.jobs.compare.job import CompareJob

    run_job(
        lambda progress: CompareJob(
            study,
            architectures or (),
            objectives=objectives or (),
            latent_dims=latent_dims or (),
            seeds=seeds,
            out=out,
            overrides=overrides or (),
            jobs=jobs,
            progress=progress,
            fresh=no_cache,
        ),
        no_prefect=no_prefect,
        as_json=as_json,
    )
