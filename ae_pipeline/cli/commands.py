"""The command line. Heavy modules are imported inside the commands, so that help is instant.

Progress and warnings go to standard error, results to standard output; ``--json`` prints one
JSON object. Exit status: 0 all done, 1 some or all inputs failed, 2 usage, study or bundle error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ae_pipeline.cli.console import _console, _err, _last_resort, _print_result
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError

if TYPE_CHECKING:
    from ae_pipeline.jobs.job import Job

__all__ = [
    "app",
    "calibrate",
    "clean",
    "compare",
    "complete",
    "data_app",
    "data_fetch",
    "data_list",
    "demo",
    "evaluate",
    "generate",
    "init",
    "main",
    "promote",
    "retrain",
    "run_inbox",
    "score",
    "serve",
    "status",
    "train",
    "ui",
    "up",
    "validate",
    "why_command",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Autoencoders for EEG recordings, images and questionnaires: what is normal in your "
    "data, and what is not.",
)
data_app = typer.Typer(no_args_is_help=True, help="Real sample data sets, verified by digest.")
app.add_typer(data_app, name="data")

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same steps without Prefect.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do again what is done already.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).", metavar="STUDY")]


def main() -> None:
    """Entry point: errors a user can mend are one line each, without a traceback."""
    # Threads that wait for each other by computing keep others from it: beside other work, two
    # took twenty times longer than one. This many rounds cost nothing where the machine is ours.
    # It is read when PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (StudyError, InputError) as error:
        _err(f"error: {error}")
        sys.exit(2 if isinstance(error, StudyError) else 1)
    except KeyboardInterrupt:
        _err("interrupted; run the same command again to go on from where it was")
        sys.exit(130)
    except Exception as error:
        sys.exit(_last_resort(error))


# ----------------------------------------------------------------------------- progress


def _run(make: Callable[[Any], Job], flow: str, *, no_prefect: bool, as_json: bool) -> None:
    """Make a job and run it, as a Prefect flow or plainly; print what came out."""
    from ae_pipeline.training import distributed as together

    if together.rank():  # under torchrun one process speaks for all
        from ae_pipeline.jobs.job import Progress, run_plainly

        run_plainly(make(Progress()))
        return
    if no_prefect:
        from ae_pipeline.jobs.job import run_plainly as run

        with _console() as progress:
            job = make(progress)
            run(job)
    else:
        with _console() as progress:
            job = make(progress)  # a study error costs no Prefect server
            import flows

            flows.run_job(job)
    _finish(job, as_json)


def _finish(job: Job, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"exit_status": job.exit_status, **job.result}, default=str))
    else:
        _print_result(job)
    raise typer.Exit(job.exit_status)


# ----------------------------------------------------------------------------- commands


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the sample data sets.

    Example: ae-pipeline data list
    """
    from ae_pipeline.sources.sample_data import SAMPLES

    if as_json:
        fields = ("name", "kind", "what", "size", "licence", "citation")
        print(json.dumps([{f: getattr(s, f) for f in fields} for s in SAMPLES.values()]))
        return
    for sample in SAMPLES.values():
        print(f"{sample.name:6} {sample.what} ({sample.size}; {sample.licence})")
    print("next: ae-pipeline data fetch NAME")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from 'ae-pipeline data list'.")],
    as_json: Json = False,
) -> None:
    """Fetch a sample data set, check it, and print its folder.

    Example: ae-pipeline data fetch mnist
    """
    from ae_pipeline.sources.sample_data import fetch

    place = fetch(name, _err)
    print(json.dumps({"name": name, "path": str(place)}) if as_json else place)


@app.command()
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
    resolved = None if source is None else source.expanduser().absolute()
    text = initial_study(kind, resolved, name=name)
    write_text(out, text)
    print(out)
    next_step = "set source.path in it, then" if source is None else "read it, then"
    print(f"next: {next_step} ae-pipeline validate {out}")


@app.command()
def validate(
    study: StudyFile,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override: a.b=value.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a study and its data; nothing is trained.

    Example: ae-pipeline validate study.yaml
    """
    from ae_pipeline.detectors.calibration import reach
    from ae_pipeline.ingest.gather import gather
    from ae_pipeline.study import load_study
    from ae_pipeline.training.split import divide

    checked = load_study(study, overrides or [])
    with _console() as progress:
        progress.stage("reading the data")
        data = gather(checked, progress.say, advance=progress.advance)
        division = divide(data.samples.meta, checked.split)
        for line in (*data.notes, *division.claims):
            progress.warn(line)
        for failure in data.failures:
            progress.warn(failure.reason)
        progress.stage("building the model")
        from ae_pipeline.models.autoencoder import Autoencoder

        samples = data.samples
        Autoencoder(checked.model, samples.kind, shape=samples.shape, columns=samples.columns)
        from ae_pipeline.jobs.fit import known_labels

        known = known_labels(checked, data)
        if known is not None:
            n_known = int(known.is_known.sum())
            progress.say(f"{known.head.target}: {n_known} of {len(samples)} samples have a label")
    rows_or_recordings = division.rows("calibration")
    column = "recording" if division.unit in ("recording", "block") else "subject"
    meta = data.samples.meta
    n_calibration = int(meta[column].iloc[rows_or_recordings].nunique())
    if division.folds:
        n_calibration = int(meta[column].nunique())
    parts = {str(part): int((division.part == part).sum()) for part in sorted({*division.part})}
    what = "rows" if checked.kind != "eeg" else f"{column}s"
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
        print(json.dumps({**found, "failed": [f.reason for f in data.failures]}))
    else:
        for key, value in found.items():
            print(f"{key}: {value}")
        sentence = allowed.sentence(what)
        if sentence:
            print(f"judging 10 {what} together: {sentence}")
        print(f"next: ae-pipeline train {study}")
    raise typer.Exit(1 if data.failures else 0)


@app.command()
def train(
    study: StudyFile,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override: a.b=value.")
    ] = None,
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
    _run(
        lambda p: train_job(study, out, overrides=given, progress=p, fresh=no_cache, jobs=jobs),
        "train",
        no_prefect=no_prefect,
        as_json=as_json,
    )


@app.command()
def score(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs.", metavar="INPUT...")],
    model: Annotated[str, typer.Option(help="Bundle folder, runs:/ID/model, models:/NAME@ALIAS.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
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

    _run(
        lambda p: score_job(
            model, inputs, out=out, error_rate=error_rate, progress=p, fresh=no_cache, jobs=jobs
        ),
        "score",
        no_prefect=no_prefect,
        as_json=as_json,
    )


@app.command()
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

    _run(
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
        "compare",
        no_prefect=no_prefect,
        as_json=as_json,
    )


@app.command()
def calibrate(
    inputs: Annotated[list[str], typer.Argument(help="Normal data.", metavar="INPUT...")],
    model: Annotated[str, typer.Option(help="Bundle folder, runs:/ID/model, models:/NAME@ALIAS.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    as_json: Json = False,
) -> None:
    """Calibrate a model on other normal data: same weights, other thresholds.

    Example: ae-pipeline calibrate --model derivatives/study/model --out recalibrated normal/
    """
    from ae_pipeline.jobs.recalibrate import recalibrate

    with _console() as progress:
        result = recalibrate(model, inputs, out=out.absolute(), progress=progress)
    if as_json:
        print(json.dumps(result))
    else:
        for name in ("n_calibration", "smallest_p", "threshold", "bundle"):
            print(f"{name}: {result[name]}")
        print(f"next: ae-pipeline score --model {out} --out RESULTS YOUR_DATA")
    raise typer.Exit(1 if result["failed"] else 0)


@app.command()
def generate(
    model: Annotated[str, typer.Option(help="Bundle folder, runs:/ID/model, models:/NAME@ALIAS.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help=".fif or .edf; idx3-ubyte or .png; .csv or .tsv."),
    ],
    n: Annotated[int, typer.Option("-n", help="Windows, images or rows.")] = 100,
    codes: Annotated[
        str, typer.Option(help="prior (variational models), density (any model), or auto.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 0,
    noise: Annotated[
        bool, typer.Option(help="Draw around what is expected, or take that itself.")
    ] = True,
    study: Annotated[
        Path | None, typer.Option(help="Study file, where it does not lie beside the model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Generate data that looks like what a model was trained on, held against real data.

    Example: ae-pipeline generate --model derivatives/study/model -n 200 --out synthetic.csv
    """
    from ae_pipeline.jobs.generate import generate as make

    if codes not in ("auto", "prior", "density"):
        raise StudyError(f"--codes {codes}: expected auto, prior or density")
    with _console() as progress:
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
        print(json.dumps(result))
        return
    print(result["verdict"])
    print(f"next: open {result['report']}")
    print(f"out: {result['out']}")


@app.command()
def complete(
    given: Annotated[str, typer.Argument(help="One recording, table or images.", metavar="INPUT")],
    model: Annotated[str, typer.Option(help="Bundle folder, runs:/ID/model, models:/NAME@ALIAS.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help=".fif or .edf; idx3-ubyte or .png; .csv or .tsv."),
    ],
    hide: Annotated[
        str | None,
        typer.Option(help="Known parts to predict: Fz,Cz or 12-12.5 (s) or lower or item1,item2."),
    ] = None,
    way: Annotated[
        str, typer.Option(help="one_pass, iterated, optimised, or auto: what measures best.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 0,
    study: Annotated[
        Path | None, typer.Option(help="Study file, where it does not lie beside the model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict what is missing or hidden from the rest, and measure how well that works.

    Example: ae-pipeline complete --model derivatives/study/model answers.csv --out completed.csv
    """
    from ae_pipeline.jobs.complete import complete as fill

    with _console() as progress:
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
        print(json.dumps(result))
        return
    print(result["verdict"])
    if result["hidden"] is not None:
        errors = sorted(result["hidden"]["errors"].items(), key=lambda pair: pair[1])
        print(f"{result['hidden']['what']}: " + ", ".join(f"{n} {e:.3g}" for n, e in errors))
    print(f"next: open {result['report']}")
    print(f"out: {result['out']}")


@app.command()
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
        print(json.dumps(result))
        return
    print(
        f"{result['positives']} positive, {result['negatives']} negative, "
        f"{result['left_out']} left out (partial overlap)"
    )
    print(f"intervals (95%) are over {result['units']} {result['unit']}s")
    for name, areas in result["scorers"].items():
        print(
            f"{name:24} ROC area {areas['roc_area']:.3f}{_span(areas['interval'])}  "
            f"average precision {areas['average_precision']:.3f}"
        )
    if "found" in result:
        print(f"{result['found']} of {result['events']} events were flagged")
    for name in ("any_overlap", "szcore"):
        if name in result.get("event_scores", {}):
            event = result["event_scores"][name]
            print(
                f"events, {name:16} sensitivity {_number(event['sensitivity'])}  precision "
                f"{_number(event['precision'])}  F1 {_number(event['f1'])}  false alarms "
                f"{_number(event['false_alarms_per_hour'])}/h"
            )
    for kind, found in result.get("by_kind", {}).items():
        area = found["scorers"]["score"]["roc_area"]
        print(f"{kind:24} ROC area {_number(area)}  {found['found']} of {found['events']} flagged")


def _span(bounds: list[float] | None) -> str:
    return "" if bounds is None else f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


@app.command()
def demo(
    kinds: Annotated[
        list[str] | None, typer.Argument(help="eeg, mnist, questionnaire; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "derivatives/demo"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer epochs.")] = False,
    textbook: Annotated[
        bool, typer.Option("--textbook", help="The text's worked example (with mnist).")
    ] = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Do the main job on real data: three data sets, three reports, one index page.

    Example: ae-pipeline demo --quick
    """
    if textbook:
        from ae_pipeline.jobs.demo.textbook import TextbookJob

        if kinds not in (None, [], ["mnist"]):
            raise StudyError("--textbook: the worked example is of digits: demo mnist --textbook")
        _run(
            lambda p: TextbookJob(out / "textbook", quick, progress=p),
            "demo",
            no_prefect=no_prefect,
            as_json=as_json,
        )
    from ae_pipeline.jobs.demo.job import KINDS, DemoJob

    unknown = [kind for kind in kinds or () if kind not in KINDS]
    if unknown:
        raise StudyError(f"demo {unknown[0]}: expected {', '.join(KINDS)}")
    _run(
        lambda p: DemoJob(kinds or KINDS, out, quick=quick, progress=p),
        "demo",
        no_prefect=no_prefect,
        as_json=as_json,
    )


@app.command()
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
        print(json.dumps(found))
        return
    inputs = found.pop("inputs", [])
    for key, value in found.items():
        print(f"{key}: {value}")
    for each in inputs:
        print(f"{each['state']:10} {each['recording']}: {each['because']}")
    if not found["trained"]:
        print(f"next: ae-pipeline train {study}")
    elif "inbox" in found:
        print(f"next: ae-pipeline run-inbox {study}")


@app.command("run-inbox")
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
    import os

    from ae_pipeline.jobs.night import night_job

    days = [None if day is None else day.date() for day in (since, until)]
    with _console() as progress:
        job = night_job(
            study, days[0], until=days[1], verify=verify, model=model, progress=progress
        )
        # with nothing to do, a server would take longer to start than the run takes
        if no_prefect or not (job.begin() or os.environ.get("PREFECT_API_URL")):
            from ae_pipeline.jobs.job import run_plainly

            run_plainly(job)
        else:
            import flows

            flows.run_job(job)
    _finish(job, as_json)


@app.command("why")
def why_command(
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
    from ae_pipeline.jobs.status import study_of, why

    lines = why(open_inbox(study or study_of(file)), file)
    print(json.dumps({"file": str(file), "why": lines}) if as_json else "\n".join(lines))


@app.command()
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

    _run(
        lambda p: retrain_job(study, p, fresh=no_cache),
        "retrain",
        no_prefect=no_prefect,
        as_json=as_json,
    )


@app.command()
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
        print(json.dumps(result))
        return
    before = f" (before: version {result['replaced']})" if result["replaced"] else ""
    print(f"champion: {result['name']} version {result['version']}{before}")
    print("next: inboxes keep the model they have; name this one under operation.model to change")


@app.command()
def serve(
    studies: Annotated[list[Path], typer.Argument(help="Study files.", metavar="STUDY...")],
) -> None:
    """Keep studies scheduled: inboxes scored, models retrained, forms in Prefect's pages.

    Example: ae-pipeline serve study.yaml
    """
    from ae_pipeline.ingest.inbox import open_inbox

    inboxes = [open_inbox(study) for study in studies]
    import flows

    with flows.using(schedules=True):
        flows.serve(inboxes)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of Prefect's server.", min=1, max=65535)] = 4200,
) -> None:
    """Start a local Prefect server and MLflow server together (this computer only).

    Example: ae-pipeline up
    """
    import flows

    flows.up(_err, port)


@app.command()
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
    except Unreachable as error:
        _err(f"warning: {error}; runs deleted there are not looked at")
        runs = []
    if not dry_run:
        remove(found)
        if runs:
            _collect_garbage(settings, days)
    size = sum(each.size for each in found)
    if as_json:
        told = [{"path": str(e.path), "why": e.why, "size": e.size} for e in found]
        done = {"removed": not dry_run, "bytes": size, "found": told, "mlflow_runs": runs}
        print(json.dumps(done))
        return
    for each in found:
        print(f"{each.path}: {each.why} ({each.size / 1e6:.1f} MB)")
    for run in runs:
        print(f"MLflow run {run}: deleted there at least {round(days)} days ago")
    n, verb = len(found) + len(runs), "would be removed; run it without --dry-run"
    if not n:
        print("nothing to remove")
        return
    print(
        f"{n} leftover{'s' if n > 1 else ''}, {size / 1e6:.1f} MB", verb if dry_run else "removed"
    )


def _collect_garbage(settings: Any, days: float) -> None:
    """MLflow's own gc, which removes what a person has deleted there."""
    import os
    import subprocess

    from ae_pipeline.tracking.commands import gc_command

    gc = gc_command(settings, days)
    if gc is None:
        return
    environment = {**os.environ, **gc[1]}
    done = subprocess.run(gc[0], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        _err(f"warning: MLflow's gc: {' '.join(done.stderr.split())[-200:]}")


@app.command()
def ui() -> None:
    """Open the MLflow UI on this project's mlflow.yaml.

    Example: ae-pipeline ui
    """
    import os

    from ae_pipeline.tracking.commands import ui_command
    from ae_pipeline.tracking.settings import load_settings

    settings = load_settings()
    command, environment = ui_command(settings)
    _err(f"MLflow at http://{settings.server.host}:{settings.server.port} (stop with Ctrl-C)")
    os.execvpe(command[0], command, {**os.environ, **environment})
