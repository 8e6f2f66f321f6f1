"""What a trained model does with data: score, calibrate, evaluate, generate, complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ae_pipeline.cli.console import console, tell
from ae_pipeline.cli.execute import run_job
from ae_pipeline.cli.options import File, Folder, Json, Model, NoCache, NoPrefect, StudyBeside
from ae_pipeline.config import StudyError

__all__ = ["calibrate", "complete", "evaluate", "generate", "score"]


def score(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs.", metavar="INPUT...")],
    model: Model,
    out: Folder,
    error_rate: Annotated[
        float | None, typer.Option(help="Share of false discoveries allowed among flags.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Recordings at a time, a process each.")] = 1,
    no_cache: NoCache = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Score new data with a trained model.

    Example: ae-pipeline score --model derivatives/study/model --out results recordings/
    """
    from ae_pipeline.jobs.score import score_job

    run_job(
        lambda p: score_job(
            model, inputs, out=out, error_rate=error_rate, progress=p, fresh=no_cache, jobs=jobs
        ),
        no_prefect=no_prefect,
        as_json=as_json,
    )


def calibrate(
    inputs: Annotated[list[str], typer.Argument(help="Normal data.", metavar="INPUT...")],
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    as_json: Json = False,
) -> None:
    """Calibrate a model on other normal data: same weights, other thresholds.

    Example: ae-pipeline calibrate --model derivatives/study/model --out recalibrated normal/
    """
    from ae_pipeline.jobs.recalibrate import recalibrate

    with console() as progress:
        result = recalibrate(model, inputs, out=out.absolute(), progress=progress)
    if as_json:
        tell(json.dumps(result))
    else:
        for name in ("n_calibration", "smallest_p", "threshold", "bundle"):
            tell(f"{name}: {result[name]}")
        tell(f"next: ae-pipeline score --model {out} --out RESULTS YOUR_DATA")
    raise typer.Exit(1 if result["failed"] else 0)


def evaluate(
    scores: Annotated[Path, typer.Option(help="scores.parquet of a scoring.")],
    truth: Annotated[Path, typer.Option(help="TSV of events or CSV of labels.")],
    as_json: Json = False,
) -> None:
    """Hold scores against labelled truth.

    Example: ae-pipeline evaluate --scores results/scores.parquet --truth events.tsv
    """
    import pandas as pd

    from ae_pipeline.analysis.evaluate import evaluate as hold_against
    from ae_pipeline.analysis.evaluate import read_truth
    from ae_pipeline.report.wording import bracketed, fixed

    if not scores.is_file():
        raise StudyError(f"{scores}: no such file; expected the scores.parquet of a scoring")
    try:
        frame = pd.read_parquet(scores)
    except (ValueError, OSError):
        raise StudyError(
            f"{scores}: not a parquet file; expected a scoring's scores.parquet"
        ) from None
    result = hold_against(frame, read_truth(truth))
    if as_json:
        tell(json.dumps(result))
        return
    tell(
        f"{result['positives']} positive, {result['negatives']} negative, "
        f"{result['left_out']} left out (partial overlap)"
    )
    tell(f"intervals (95%) are over {result['units']} {result['unit']}s")
    for name, areas in result["scorers"].items():
        tell(
            f"{name:24} ROC area {areas['roc_area']:.3f} {bracketed(areas['interval'], 3)}  "
            f"average precision {areas['average_precision']:.3f}"
        )
    if "found" in result:
        tell(f"{result['found']} of {result['events']} events were flagged")
    for name in ("any_overlap", "szcore"):
        if name in result.get("event_scores", {}):
            event = result["event_scores"][name]
            tell(
                f"events, {name:16} sensitivity {fixed(event['sensitivity'], 3)}  precision "
                f"{fixed(event['precision'], 3)}  F1 {fixed(event['f1'], 3)}  false alarms "
                f"{fixed(event['false_alarms_per_hour'], 3)}/h"
            )
    for kind, found in result.get("by_kind", {}).items():
        area = found["scorers"]["score"]["roc_area"]
        tell(f"{kind:24} ROC area {fixed(area, 3)}  {found['found']} of {found['events']} flagged")


def generate(
    model: Model,
    out: File,
    n: Annotated[int, typer.Option("-n", help="Windows, images or rows.")] = 100,
    codes: Annotated[
        str, typer.Option(help="prior (variational models), density (any model), or auto.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 0,
    noise: Annotated[
        bool, typer.Option(help="Draw around what is expected, or take that itself.")
    ] = True,
    study: StudyBeside = None,
    as_json: Json = False,
) -> None:
    """Generate data that looks like what a model was trained on, held against real data.

    Example: ae-pipeline generate --model derivatives/study/model -n 200 --out synthetic.csv
    """
    from ae_pipeline.jobs.generate import generate as make

    if codes not in ("auto", "prior", "density"):
        raise StudyError(f"--codes {codes}: expected auto, prior or density")
    with console() as progress:
        result = make(
            model,
            n,
            out=out.absolute(),
            seed=seed,
            codes=codes,  # type: ignore[arg-type]
            noise=noise,
            study=study,
            progress=progress,
        )
    if as_json:
        tell(json.dumps(result))
        return
    tell(result["verdict"])
    tell(f"next: open {result['report']}")
    tell(f"out: {result['out']}")


def complete(
    given: Annotated[str, typer.Argument(help="One recording, table or images.", metavar="INPUT")],
    model: Model,
    out: File,
    hide: Annotated[
        str | None,
        typer.Option(help="Known parts to predict: Fz,Cz or 12-12.5 (s) or lower or item1,item2."),
    ] = None,
    way: Annotated[
        str, typer.Option(help="one_pass, iterated, optimised, or auto: what measures best.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 0,
    study: StudyBeside = None,
    as_json: Json = False,
) -> None:
    """Predict what is missing or hidden from the rest, and measure how well that works.

    Example: ae-pipeline complete --model derivatives/study/model answers.csv --out completed.csv
    """
    from ae_pipeline.jobs.complete import complete as fill

    with console() as progress:
        result = fill(
            model,
            given,
            out=out.absolute(),
            hide=hide,
            way=way,
            study=study,
            seed=seed,
            progress=progress,
        )
    if as_json:
        tell(json.dumps(result))
        return
    tell(result["verdict"])
    if result["hidden"] is not None:
        errors = sorted(result["hidden"]["errors"].items(), key=lambda pair: pair[1])
        tell(f"{result['hidden']['what']}: " + ", ".join(f"{n} {e:.3g}" for n, e in errors))
    tell(f"next: open {result['report']}")
    tell(f"out: {result['out']}")
