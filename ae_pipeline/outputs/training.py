"""The files of a run: written whole, provenance last, pseudonymised beside.

``train`` fills a folder that replaces the old one as a whole. ``score`` writes the files of each
input once, its provenance last, and rebuilds what is about all of them (``scores.parquet``,
``group_*``) from those files. What leaves for MLflow stands in ``pseudonymised/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline import __version__, findings, report
from ae_pipeline.card import model_card
from ae_pipeline.config import StudyError
from ae_pipeline.data import Recording, Samples
from ae_pipeline.detectors.heads import head_numbers
from ae_pipeline.ingest.inputs import Failure, Input
from ae_pipeline.ingest.origin import source_of
from ae_pipeline.methods import methods_paragraph
from ae_pipeline.persons import N_SHOWN, PROPOSED, describe, flag_rates
from ae_pipeline.relevance import relevance
from ae_pipeline.restore import check_ending
from ae_pipeline.runtime.files import (
    digest_files,
    digest_json,
    harmless,
    pseudonyms,
    read_json,
    versions,
    write_bytes,
    write_frame,
    write_json,
    write_text,
    write_through,
)
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.scoring.bundle import Bundle, BundleInfo
from ae_pipeline.scoring.examples import Example, pick_examples
from ae_pipeline.scoring.recording import RecordingResult
from ae_pipeline.scoring.rows import RowsResult
from ae_pipeline.scoring.tables import contract_frame, latents_frame, recordings_frame
from ae_pipeline.training.snapshots import pictures

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.detectors.calibration import Detection
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.study import Study
    from ae_pipeline.training.history import History
    from ae_pipeline.training.split import Division

__all__ = [
    "SHARED",
    "ScoreRun",
    "TrainRun",
    "begin_score",
    "count_parameters",
    "is_done",
    "markdown",
    "model_folder",
    "open_model",
    "publish",
    "refuse_foreign",
    "registered_name",
    "score_config",
    "summary_markdown",
    "write_failure",
    "write_group",
    "write_recording",
    "write_rows",
    "write_train",
]


@dataclass(frozen=True)
class TrainRun:
    """What a training came to; ``frame`` and ``latents`` are its judged held-out rows."""

    study: Study
    key: str
    data: Gathered
    division: Division
    history: History
    bundle: Bundle
    frame: pd.DataFrame
    latents: NDArray[np.float32]
    metrics: dict[str, Any]

    def held_out(self) -> Samples:
        """The samples that ``frame`` judges, in its order."""
        division = self.division
        parts = [*division.folds, division.rows("calibration"), division.rows("test")]
        return self.data.samples.take(np.concatenate(parts))


@dataclass(frozen=True)
class ScoreRun:
    """A folder of results of one model with one configuration."""

    out: Path
    bundle: Bundle
    detection: Detection

    @property
    def config(self) -> dict[str, Any]:
        """What, beside the model, decides the numbers."""
        return score_config(self.detection)

    @property
    def identity(self) -> dict[str, Any]:
        """What every result in the folder has in common."""
        return {"model": self.bundle.digest, **self.config}


def score_config(detection: Detection) -> dict[str, Any]:
    """The part of a scoring's configuration that a key is made of."""
    return {"detection": detection.model_dump(mode="json")}


TABLE_ENDINGS = ("persons.parquet", "answers.parquet", "items.tsv")
"""What is written about each questionnaire, and put together for all of them."""

SHARED = "pseudonymised"
"""Subfolder with what may leave this machine."""

EVENT_SIDECAR = {
    "onset": {"Description": "Start of the event from the start of the recording", "Units": "s"},
    "duration": {"Description": "Length of the event", "Units": "s"},
    "trial_type": {"Description": "Kind of the deviation; anomaly/unexplained where not known"},
    "channel": {"Description": "Channels that deviate, strongest first", "Delimiter": ","},
    "score": {"Description": "Largest score of the event's windows; higher is more abnormal"},
    "p_value": {
        "Description": "Share of calibration windows at least as abnormal as the event's worst; "
        "descriptive, because windows of one recording depend on each other"
    },
    "false_alarms_per_hour": {
        "Description": "Events at least as large that clean calibration recordings raise",
        "Units": "1/h",
    },
    "reason": {"Description": "Why, in words"},
    "model_id": {"Description": "Model that found it"},
}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# --------------------------------------------------------------------------- the folder


def refuse_foreign(out: Path, kind: str, config: Mapping[str, Any] | None = None) -> None:
    """Refuse a folder that cannot be written or holds something other than this kind of result.

    Raises
    ------
    StudyError
        Before anything is written.
    """
    import os

    existing = next(place for place in (out, *out.parents) if place.exists())
    if not existing.is_dir():
        raise StudyError(f"{out}: {existing} is a file; name a folder with --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StudyError(f"{out}: {existing} cannot be written to; name another folder with --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    provenance = out / "provenance.json"
    if not provenance.is_file():
        visible = [child.name for child in out.iterdir() if not child.name.startswith(".")]
        if visible:
            raise StudyError(
                f"{out}: holds {visible[0]!r} and no results of ae-pipeline; name an empty or new "
                "folder with --out"
            )
        return
    there = read_json(provenance)
    if there.get("kind") != kind:
        raise StudyError(f"{out}: holds the results of '{there.get('kind')}'; name another folder")
    if config is not None and there.get("config") != dict(config):
        raise StudyError(
            f"{out}: holds results of another model or error rate; name another folder with --out"
        )


def model_folder(model: str) -> Path:
    """A bundle's folder from what a user names a model by."""
    if model.startswith(("runs:/", "models:/")):
        from ae_pipeline.tracking.registry import resolve
        from ae_pipeline.tracking.settings import load_settings

        return resolve(model, load_settings())
    return Path(model).expanduser()


def open_model(model: str, out: Path) -> tuple[Path, Bundle]:
    """A model's folder and the model, to write data of its kind to the file ``out``.

    Raises
    ------
    StudyError
        Where the model cannot be read or the file's ending says another kind of data.
    """
    place = model_folder(model)
    bundle = bundles.load(place)
    check_ending(bundle.info.kind, out)
    return place, bundle


def publish(
    out: Path, warn: Callable[[str], None], parent: str | None = None, register: bool = True
) -> dict[str, str]:
    """Send a finished folder to MLflow; where the server is away, say that it comes later.

    ``parent`` is the run that this one is shown under; ``register`` whether its model is
    registered.

    Returns
    -------
    dict
        ``run`` and ``model`` where they are known.
    """
    from ae_pipeline.tracking import publishing
    from ae_pipeline.tracking.connection import Unreachable
    from ae_pipeline.tracking.settings import load_settings

    try:
        published = publishing.publish(out, load_settings(), parent, register)
    except Unreachable as error:
        warn(f"{error}; the results are complete and will be published later")
        return {}
    found = {"run": published.run_id, "model": published.model_uri}
    return {name: value for name, value in found.items() if value}


def summary_markdown(out: Path) -> str:
    """The verdict and where things are."""
    summary = out / SHARED / "summary.md"
    return summary.read_text(encoding="utf-8") if summary.is_file() else ""


def _masked(frame: pd.DataFrame, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """A frame with pseudonyms for recordings and subjects, and no session."""
    out = frame.copy()
    for column, codes in names.items():
        if column in out:
            out[column] = out[column].astype(object).map(codes).astype("string")
    if "session" in out:
        out["session"] = ""
    if "reason" in out and "verdict" in out:  # a failure's reason names its file
        failed = (out["verdict"] == "failed").fillna(False)
        out.loc[failed, "reason"] = "failed; see the local report"
    return out


def _pseudonyms(frame: pd.DataFrame, kind: str) -> dict[str, dict[str, str]]:
    """The map that stays here; images are nobody, so they keep their names."""
    if kind == "mnist":
        return {}
    return {
        column: pseudonyms(sorted(set(frame[column].dropna().astype(str))), short)
        for column, short in (("recording", "rec"), ("subject", "sub"))
    }


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, (str, int, float))
            flat[f"{prefix}{name}"] = value if plain and value is not None else str(value)
    return flat


def _outputs(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    return {str(f.relative_to(folder)): digest_files([f]) for f in files}


# -------------------------------------------------------------------------------- train


def count_parameters(bundle: Bundle) -> int:
    """Trainable numbers of the autoencoder."""
    from ae_pipeline.models.layers import n_parameters

    return n_parameters(bundle.autoencoder.model)


def write_train(run: TrainRun, place: Path, growth: Path | None = None) -> None:
    """Everything ``train`` leaves, into an empty folder; provenance last.

    Parameters
    ----------
    run : TrainRun
    place : Path
        The empty folder.
    growth : Path, optional
        What :class:`ae_pipeline.training.snapshots.Snapshots` has kept.
    """
    import pandas as pd
    import yaml

    bundles.save(place / "model", run.bundle)
    digest = digest_files([place / "model/bundle.json", place / "model/weights.safetensors"])
    history = pd.DataFrame(run.history.rows)
    methods = methods_paragraph(run.bundle, run.study.detection)
    write_text(place / "methods.txt", methods + "\n")
    write_frame(place / "history.csv", history)
    write_json(place / "metrics.json", run.metrics)
    scores = contract_frame(run.frame, run.study.kind)
    latents = latents_frame(scores, run.latents)
    names = _pseudonyms(scores, run.bundle.info.kind)
    write_json(place / "pseudonyms.json", names)
    study = run.study.model_dump(mode="json")
    write_text(place / "study.yaml", yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    # what the worst and best look like, taken from rows that nothing was fitted on
    worst, best = pick_examples(run.bundle, run.held_out(), run.frame)

    about, answers = _write_items(run, place)
    if run.metrics.get("factors"):
        write_json(place / "latents.json", _latents_sidecar(run.metrics["factors"]))
    relevant = relevance(run.bundle.autoencoder, run.held_out(), run.study.training.seed)
    write_frame(place / "relevance.csv", relevant.frame())

    shared = place / SHARED
    view = findings.train_view(
        run.study,
        run.bundle,
        run.metrics,
        history,
        scores,
        latents,
        worst,
        best,
        digest,
        run.data.notes,
        relevant,
    )
    drawn: report.Drawn | None = None
    for folder, mapping in ((place, None), (shared, names)):
        hide = (lambda f: f) if mapping is None else (lambda f: _masked(f, names))
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        persons: tuple[report.Section, ...] = ()
        if about is not None and answers is not None:
            persons = _persons(hide(scores), about, hide(answers), folder == place, folder)
        page = replace(  # what says nothing of anybody was drawn once
            view,
            scores=hide(scores),
            latents=hide(latents),
            worst=_evidence(run.bundle, _with_frame(worst, hide)),
            best=_evidence(run.bundle, _with_frame(best, hide)),
            sections=(*view.sections, *persons),
        )
        if drawn is None or view.color_by in names:
            drawn = report.draw(page)
        write_text(folder / "report.html", report.train_page(page, drawn))
    assert drawn is not None
    for name, picture in report.train_figures(drawn).items():
        write_bytes(shared / "figures" / name, picture)
    headline = findings.train_headline(run.bundle.info, run.metrics, run.bundle.info.claims)
    summary = markdown(run.study.study, headline, run.study.hypothesis)
    write_text(shared / "summary.md", summary)
    model_id = replace(run.bundle, digest=digest).model_id
    write_text(shared / "model_card.md", model_card(run.bundle.info, run.metrics, model_id))
    for name, picture in ({} if growth is None else pictures(growth)).items():
        write_bytes(shared / "reconstructions" / name, picture)
    public = {**study, "source": {k: v for k, v in study["source"].items() if k != "path"}}
    public["model"] = run.bundle.info.model.model_dump(mode="json")  # without paths
    public.pop("outputs")
    write_text(shared / "study.yaml", yaml.safe_dump(public, sort_keys=False, allow_unicode=True))
    write_frame(shared / "history.csv", history)
    info = run.bundle.info
    numbers = {
        "train_loss": run.metrics["train_loss"],
        "validation_loss": run.metrics["validation_loss"],
        "test_loss": run.metrics["test_loss"],
        "pca_test_loss": run.metrics["baselines"]["pca"]["test_loss"],
        "gain_over_pca": run.metrics["beats_baselines"]["difference"],
        "parameters": run.metrics["parameters"],
        "epochs": run.metrics["epochs"],
        "seconds": run.metrics["seconds"],
        **head_numbers(run.metrics.get("head")),
    }
    record = {
        "kind": "train",
        "experiment": run.study.study,
        "run_name": f"train {info.model.architecture.kind} {info.model.objective.kind} "
        f"{info.model.latent_dim}",
        "key": digest_json([run.key, digest]),
        "work": run.key,
        "description": summary,
        "params": _flat(public),
        "metrics": {name: value for name, value in numbers.items() if value is not None},
        "tags": {
            "kind": info.kind,
            "model_digest": digest,
            "step": "train",
            "primary_metric": run.study.primary_metric,
        },
        "dataset": {
            "name": run.study.study,
            "digest": info.training_digest[:32],
            "source": info.kind,
            "rows": len(run.data.samples),
            "features": int(np.prod(info.shape)),
        },
        "model_name": registered_name(run.study.study),
        "input_example": {"shape": list(info.shape)},
    }
    write_json(shared / "run.json", record)
    write_json(
        place / "provenance.json",
        {
            "kind": "train",
            "status": "done",
            "key": run.key,
            "verdict": headline.verdict,
            "model": digest,
            "inputs": run.data.digests,
            "failed": [vars(failure) for failure in run.data.failures],
            "versions": dict(versions()),
            "finished": _now(),
            "outputs": _outputs(place),
        },
    )


def _latents_sidecar(found: Mapping[str, Any]) -> dict[str, Any]:
    """What each latent of a questionnaire is worth, beside ``latents.parquet``."""
    return {
        each["latent"]: {
            "Description": "Latent feature of the autoencoder's code, without a unit",
            "StabilityOverSeeds": each["seeds"],
            "StabilityOverHalves": each["halves"],
        }
        for each in found["stability"]
    } | {
        "Stability": {
            "Description": "Correlation of a latent with what the same model gives with another "
            "seed, or in half of the people, after linear alignment; 1 is the same latent"
        }
    }


def _write_items(run: TrainRun, place: Path) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """``items.csv`` of a questionnaire's held-out rows; and what is about their people."""
    person = run.bundle.ensemble.person
    if person is None:
        return None, None
    samples = run.held_out()
    about, answers, items = describe(person, samples, run.study.source, run.frame, run.latents)
    write_frame(place / "items.csv", harmless(_all_items([items], len(samples))))
    return about, answers


def _evidence(bundle: Bundle, example: Example) -> report.Evidence | None:
    """Samples beside their reconstruction; people are shown by :func:`_persons` instead."""
    return None if bundle.ensemble.person is not None else findings.evidence(bundle.info, example)


def _with_frame(example: Example, hide: Callable[[pd.DataFrame], pd.DataFrame]) -> Example:
    return Example(example.values, example.reconstructions, hide(example.frame))


def registered_name(title: str) -> str:
    """Name of a study's model: MLflow allows no slash or colon; spaces are awkward in a URI."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in title)


def markdown(title: str, headline: report.Headline, hypothesis: str | None = None) -> str:
    """The first screen of a report, as MLflow shows it."""
    lines = [f"# {title}", "", headline.verdict, ""]
    if hypothesis:
        lines += [f"*Hypothesis, stated before training:* {hypothesis}", ""]
    if headline.baseline:
        lines += [headline.baseline, ""]
    lines += ["| | | |", "|---|---|---|"]
    lines += [f"| {n.label} | {n.value} | {n.note} |" for n in headline.numbers]
    if headline.warnings:
        lines += ["", *(f"- **Note:** {warning}" for warning in headline.warnings)]
    lines += ["", "Next:", "", *(f"1. {step}" for step in headline.next_steps), ""]
    lines += ["_Research use, not a diagnosis._", ""]
    return "\n".join(lines)


# -------------------------------------------------------------------------------- score


def begin_score(run: ScoreRun) -> None:
    """Mark the folder as this model's before the first result stands in it."""
    run.out.mkdir(parents=True, exist_ok=True)
    provenance = run.out / "provenance.json"
    if not provenance.is_file():
        content = {"kind": "score", "status": "begun", "config": run.identity}
        write_json(provenance, content)


def is_done(out: Path, name: str, this: str) -> bool:
    """Whether the files of an input are there, complete, and made from the same things."""
    provenance = out / f"{name}_provenance.json"
    if not provenance.is_file():
        return False
    there = read_json(provenance)
    if there["key"] != this or there["status"] != "done":
        return False
    return all((out / file).is_file() for file in there["outputs"])


def write_failure(run: ScoreRun, failure: Failure, digest: str | None) -> None:
    """A failed input: its reason, and nothing else of it."""
    for stale in run.out.glob(f"{_glob_safe(failure.name)}_*"):
        if stale.name in _file_names(failure.name) | {
            f"{failure.name}_{ending}" for ending in TABLE_ENDINGS
        }:
            stale.unlink()
    folder = _bids_folder(failure.name)
    if folder is not None:
        for ending in BIDS_ENDINGS:
            (run.out / folder / f"{failure.name}_desc-anomaly_{ending}").unlink(missing_ok=True)
    summary = {
        "recording": failure.name,
        "subject": failure.subject,
        "verdict": "failed",
        "reason": failure.reason,
    }
    _write_provenance(run, failure.name, None, [], summary, digest, "failed")


def _glob_safe(name: str) -> str:
    import glob

    return glob.escape(name)


def _file_names(name: str) -> set[str]:
    endings = (
        "scores.parquet",
        "desc-anomaly_events.tsv",
        "desc-anomaly_events.json",
        "desc-anomaly_annot.fif",
        "bads.tsv",
        "desc-latent_features.tsv",
        "report.html",
        "examples.npz",
        "items.tsv",
    )
    return {f"{name}_{ending}" for ending in endings}


def _write_provenance(
    run: ScoreRun,
    name: str,
    this: str | None,
    files: list[str],
    summary: Mapping[str, Any],
    digest: str | None,
    status: str,
) -> None:
    info = run.bundle.info
    content = {
        "kind": "score-input",
        "status": status,
        "key": this,
        "input": digest,
        "model": run.bundle.digest,
        "model_id": run.bundle.model_id,
        "config": run.config,
        "preprocess": None if info.preprocess is None else info.preprocess.model_dump(mode="json"),
        "summary": {k: _plain(v) for k, v in summary.items()},
        "versions": dict(versions()),
        "finished": _now(),
        "outputs": {file: digest_files([run.out / file]) for file in files},
    }
    write_json(run.out / f"{name}_provenance.json", content)


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write_recording(run: ScoreRun, result: RecordingResult, this: str) -> None:
    """Files of one recording; provenance last."""
    out, info = run.out, run.bundle.info
    name = result.recording.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)  # from here on it is not done
    write_frame(out / f"{name}_scores.parquet", result.frame)
    write_frame(out / f"{name}_desc-anomaly_events.tsv", result.events)
    write_json(out / f"{name}_desc-anomaly_events.json", EVENT_SIDECAR)
    _write_annotations(out / f"{name}_desc-anomaly_annot.fif", result.events, result.recording)
    write_frame(out / f"{name}_bads.tsv", result.bads)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    assert info.threshold is not None
    view = findings.recording_view(run.bundle, result, info.threshold, run.detection)
    write_text(out / f"{name}_report.html", report.recording_page(view))
    files = sorted(_file_names(name) - {f"{name}_examples.npz", f"{name}_items.tsv"})
    files += _write_bids(out, result)
    digest = digest_files(result.recording.files)
    _write_provenance(run, name, this, files, result.summary, digest, "done")


def _bids_folder(name: str) -> Path | None:
    """Where BIDS tools look for what belongs to a recording; None without a BIDS name."""
    entities = dict(part.split("-", 1) for part in name.split("_") if "-" in part)
    if not name.startswith("sub-") or "task" not in entities:
        return None
    session = [f"ses-{entities['ses']}"] if "ses" in entities else []
    return Path(f"sub-{entities['sub']}", *session, "eeg")


def _write_bids(out: Path, result: RecordingResult) -> list[str]:
    """Events and channel states where mne-bids and other BIDS tools find them.

    Returns
    -------
    list of str
        Paths below ``out``; empty where the recording has no BIDS name.
    """
    import pandas as pd

    recording = result.recording
    folder = _bids_folder(recording.name)
    if folder is None:
        return []
    bads = dict(zip(result.bads["name"], result.bads["reason"], strict=True))
    channels = pd.DataFrame(
        {
            "name": recording.file_names,
            "type": "EEG",
            "units": "uV",
            "status": ["bad" if name in bads else "good" for name in recording.ch_names],
            "status_description": [bads.get(name, "n/a") for name in recording.ch_names],
        }
    )
    channels = channels[[name not in recording.filled for name in recording.ch_names]]
    stem = folder / f"{recording.name}_desc-anomaly"
    write_frame(out / f"{stem}_events.tsv", result.events)
    write_json(out / f"{stem}_events.json", EVENT_SIDECAR)
    write_frame(out / f"{stem}_channels.tsv", channels)
    return [f"{stem.as_posix()}_{ending}" for ending in BIDS_ENDINGS]


BIDS_ENDINGS = ("events.tsv", "events.json", "channels.tsv")


def _write_annotations(path: Path, events: pd.DataFrame, recording: Recording) -> None:
    """Events as MNE's annotations, with channels as the file spells them.

    So they go onto the recording as MNE opens it; without a channel an event is about the whole
    head, and channels that the file lacks are nobody's.
    """
    import mne

    spelled = dict(zip(recording.ch_names, recording.file_names, strict=True))
    channels = [
        tuple(
            spelled.get(c, c)
            for c in str(names).split(",")
            if c and c not in recording.filled and c != "n/a"
        )
        for names in events["channel"]
    ]
    annotations = mne.Annotations(
        events["onset"].to_numpy(float),
        events["duration"].to_numpy(float),
        events["trial_type"].astype(str).tolist(),
        ch_names=channels if len(events) else None,
    )
    with write_through(path) as temporary:
        annotations.save(temporary, overwrite=True, verbose="ERROR")


def write_rows(
    run: ScoreRun,
    item: Input,
    result: RowsResult,
    samples: Samples,
    notes: tuple[str, ...],
    this: str,
) -> None:
    """Files of one table or image file; provenance last."""
    out, name = run.out, item.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)
    write_frame(out / f"{name}_scores.parquet", result.frame)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    files = [f"{name}_scores.parquet", f"{name}_desc-latent_features.tsv", f"{name}_examples.npz"]
    _save_examples(out / f"{name}_examples.npz", result.worst, result.best)
    person = run.bundle.ensemble.person
    if person is not None:
        source = source_of(run.bundle.info)
        about, answers, items = describe(person, samples, source, result.frame, result.latents)
        write_frame(out / f"{name}_persons.parquet", about)
        write_frame(out / f"{name}_answers.parquet", answers)
        write_frame(out / f"{name}_items.tsv", items)
        files += [f"{name}_{ending}" for ending in TABLE_ENDINGS]
    summary = {"recording": name, "rows": len(result.frame), "notes": list(notes)}
    _write_provenance(run, name, this, files, summary, digest_files(item.files), "done")


def _save_examples(path: Path, worst: Example, best: Example) -> None:
    """Examples as plain arrays and JSON, so that the page can be made again from the folder."""
    arrays: dict[str, Any] = {}
    for which, example in (("worst", worst), ("best", best)):
        arrays[f"{which}_values"] = example.values
        arrays[f"{which}_reconstructions"] = example.reconstructions
        text = example.frame.to_json(orient="records")
        arrays[f"{which}_rows"] = np.frombuffer(text.encode(), np.uint8)
    with write_through(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _load_examples(paths: list[Path]) -> tuple[Example, Example]:
    import pandas as pd

    found: dict[str, list[Example]] = {"worst": [], "best": []}
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            for which, examples in found.items():
                rows = json.loads(arrays[f"{which}_rows"].tobytes())
                frame = pd.DataFrame(rows)
                examples.append(
                    Example(arrays[f"{which}_values"], arrays[f"{which}_reconstructions"], frame)
                )
    joined = []
    for which, sign in (("worst", -1), ("best", 1)):
        examples = found[which]
        frame = pd.concat([e.frame for e in examples], ignore_index=True)
        order = np.argsort(sign * frame["score"].to_numpy(), kind="stable")
        order = order[: len(examples[0].frame)]
        joined.append(
            Example(
                np.concatenate([e.values for e in examples])[order],
                np.concatenate([e.reconstructions for e in examples])[order],
                frame.iloc[order].reset_index(drop=True),
            )
        )
    return joined[0], joined[1]


# -------------------------------------------------------------------------------- group


def write_group(run: ScoreRun) -> dict[str, Any]:
    """Everything that is about all inputs of a folder, rebuilt from their own files.

    Returns
    -------
    dict
        Where things are and the verdict, for the terminal.
    """
    out = run.out
    provenances = [read_json(file) for file in sorted(out.glob("*_provenance.json"))]
    done = [p for p in provenances if p["status"] == "done"]
    failed = [p for p in provenances if p["status"] == "failed"]
    stems = [p["summary"]["recording"] for p in done]
    write_json(out / "dataset_description.json", _description(run.bundle.info))
    write_text(out / "methods.txt", methods_paragraph(run.bundle, run.detection) + "\n")
    if run.bundle.info.kind == "eeg":
        headline = _group_of_recordings(run, [p["summary"] for p in provenances], stems)
    else:
        headline = _group_of_rows(run, stems, [p["summary"] for p in failed], done)
    inputs = {p["summary"]["recording"]: p["input"] for p in done}
    _write_score_run(run, headline, inputs, len(failed))
    group = [
        name
        for name in (
            "scores.parquet",
            "recordings.parquet",
            "latents.parquet",
            "group_desc-quality.tsv",
            "group_report.html",
            "report.html",
            "persons.csv",
            "answers.csv",
            "flag_rates.csv",
            "items.csv",
            "dataset_description.json",
            "methods.txt",
        )
        if (out / name).is_file()
    ]
    provenance = {
        "kind": "score",
        "status": "done",
        "config": run.identity,
        "verdict": headline.verdict,
        "inputs": inputs,
        "failed": {p["summary"]["recording"]: p["summary"]["reason"] for p in failed},
        "versions": dict(versions()),
        "finished": _now(),
        "outputs": {name: digest_files([out / name]) for name in group},
    }
    write_json(out / "provenance.json", provenance)
    pages = [out / name for name in ("report.html", "group_report.html") if (out / name).is_file()]
    found = {"out": str(out), "verdict": headline.verdict, "scored": len(done)}
    return found | ({"report": str(pages[0])} if pages else {})


def _description(info: BundleInfo) -> dict[str, Any]:
    return {
        "Name": f"{info.study}: anomaly scores and latent features",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "ae-pipeline", "Version": __version__}],
    }


def _rebuilt(out: Path, stems: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All windows or rows and their latents, from the files of the inputs."""
    import pandas as pd

    if not stems:
        return pd.DataFrame(), pd.DataFrame()
    scores = [pd.read_parquet(out / f"{stem}_scores.parquet") for stem in stems]
    latents = [
        pd.read_csv(
            out / f"{stem}_desc-latent_features.tsv",
            sep="\t",
            na_values="n/a",
            dtype={"recording": "string", "subject": "string"},
        )
        for stem in stems
    ]
    return pd.concat(scores, ignore_index=True), pd.concat(latents, ignore_index=True)


def _group_of_recordings(
    run: ScoreRun, summaries: list[dict[str, Any]], stems: list[str]
) -> report.Headline:
    out, info = run.out, run.bundle.info
    recordings = recordings_frame(summaries, run.detection)
    scores, latents = _rebuilt(out, stems)
    view = findings.group_view(run.bundle, run.detection, recordings, scores)
    names = _pseudonyms(recordings, info.kind)
    write_json(out / "pseudonyms.json", names)
    for folder in (out, out / SHARED):
        shown = recordings if folder == out else _masked(recordings, names)
        write_frame(folder / "recordings.parquet", shown)
        if len(scores):
            write_frame(
                folder / "scores.parquet", scores if folder == out else _masked(scores, names)
            )
            write_frame(
                folder / "latents.parquet", latents if folder == out else _masked(latents, names)
            )
        page = view
        if folder != out:
            masked = _masked(scores, names) if len(scores) else scores
            page = findings.group_view(run.bundle, run.detection, shown, masked)
            page = _without_links(page)
        write_text(folder / "group_report.html", report.group_page(page))
    write_frame(out / "group_desc-quality.tsv", recordings)
    return view.headline


def _without_links(view: report.GroupView) -> report.GroupView:
    return replace(view, links={})


def _group_of_rows(
    run: ScoreRun,
    stems: list[str],
    failed: list[dict[str, Any]],
    done: list[dict[str, Any]],
) -> report.Headline:
    import pandas as pd

    from ae_pipeline.detectors.conformal import adjusted

    out, bundle = run.out, run.bundle
    if not stems:
        return report.Headline(
            f"Nothing could be scored: {len(failed)} input(s) failed.",
            warnings=tuple(f["reason"] for f in failed),
        )
    scores, latents = _rebuilt(out, stems)
    scores["q_value"] = adjusted(scores["p_value"].to_numpy(), run.detection.dependence)
    scores["flagged"] = scores["q_value"] <= run.detection.error_rate
    worst, best = _load_examples([out / f"{stem}_examples.npz" for stem in stems])
    items, about, answers = None, pd.DataFrame(index=scores.index), pd.DataFrame()
    if bundle.ensemble.person is not None:
        items = _all_items(
            [pd.read_csv(out / f"{s}_items.tsv", sep="\t", dtype={"item": str}) for s in stems],
            len(scores),
        )
        write_frame(out / "items.csv", harmless(items))
        about, answers = (
            pd.concat([pd.read_parquet(out / f"{s}_{what}.parquet") for s in stems])
            for what in ("persons", "answers")
        )
        about = about.reset_index(drop=True)
    names = _pseudonyms(scores, run.bundle.info.kind)
    write_json(out / "pseudonyms.json", names)
    notes = [note for p in done for note in p["summary"]["notes"]]
    headline: report.Headline | None = None
    drawn: report.Drawn | None = None
    for folder in (out, out / SHARED):
        hide: Callable[[pd.DataFrame], pd.DataFrame] = (
            (lambda f: f) if folder == out else (lambda f: _masked(f, names))
        )
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        sections: tuple[report.Section, ...] = ()
        if items is not None:
            sections = _persons(hide(scores), about, hide(answers), folder == out, folder)
        view = findings.rows_view(
            bundle,
            run.detection,
            hide(scores),
            hide(latents),
            _evidence(bundle, _with_frame(worst, hide)),
            _evidence(bundle, _with_frame(best, hide)),
            items,
            notes,
            sections,
        )
        headline = view.headline
        if drawn is None or view.color_by in names:
            drawn = report.draw(view)
        page = report.rows_page(view, drawn)
        write_text(folder / "report.html", page)
        write_text(folder / "group_report.html", page)
    assert headline is not None
    return headline


def _persons(
    scores: pd.DataFrame, about: pd.DataFrame, answers: pd.DataFrame, write: bool, out: Path
) -> tuple[report.Section, ...]:
    """``persons.csv``, ``answers.csv`` and ``flag_rates.csv``; and the same for the report."""
    import pandas as pd

    wanted = ["recording", "score", "p_value", "q_value", "flagged", "top_item", "reason"]
    others = [str(c) for c in scores if str(c).startswith("score_")]
    predicted = [c for c in scores if str(c).startswith(("predicted_", "probability_"))]
    persons = scores[[*wanted, *others, *predicted]].rename(columns={"recording": "id"})
    persons.insert(wanted.index("flagged") + 1, "proposed", persons["p_value"] <= PROPOSED)
    first = [c for c in map(str, about) if c.startswith(("onset_", "index_"))]
    rest = [c for c in map(str, about) if c not in first]
    at = list(persons).index("reason") + 1
    persons = pd.concat(
        [persons.iloc[:, :at], about[first], persons.iloc[:, at:], about[rest]], axis=1
    )
    rates = flag_rates(persons)
    place = scores[["recording"]].assign(_score=scores["score"])
    worst = place.nlargest(N_SHOWN, "_score", keep="first")["recording"].tolist()
    rank = {name: i for i, name in enumerate(worst)}
    answers = answers[answers["recording"].isin(worst)]
    answers = answers.assign(_r=answers["recording"].map(rank)).sort_values("_r", kind="stable")
    answers = answers.drop(columns="_r").reset_index(drop=True)
    if write:
        by_p = persons.sort_values(["p_value", "score"], ascending=[True, False], kind="stable")
        write_frame(out / "persons.csv", harmless(by_p))
        write_frame(out / "answers.csv", harmless(answers.rename(columns={"recording": "id"})))
        write_frame(out / "flag_rates.csv", harmless(rates))
    return findings.person_sections(persons, rates, answers)


def _all_items(parts: list[pd.DataFrame], n_people: int) -> pd.DataFrame:
    """The view of items over all inputs: counts added up, the rest from the largest input."""
    import pandas as pd

    largest = max(parts, key=lambda part: int(part["answered"].sum()))
    total = pd.concat(parts).groupby("item", sort=False)[["answered", "total_error"]].sum()
    total = total.loc[largest["item"]].reset_index()
    kept = largest.drop(columns=["item", "answered", "total_error"]).round(4)
    items = pd.DataFrame(
        {
            "item": total["item"],
            "mean_error": total["total_error"] / total["answered"].clip(lower=1),
            "answered": total["answered"],
            "share_missing": 1 - total["answered"] / n_people,
        }
    )
    return pd.concat([items, kept], axis=1)


def _write_score_run(
    run: ScoreRun, headline: report.Headline, inputs: Mapping[str, str], n_failed: int
) -> None:
    """What the MLflow run of a scoring says."""
    shared = run.out / SHARED
    summary = markdown(run.bundle.info.study, headline)
    write_text(shared / "summary.md", summary)
    record = {
        "kind": "score",
        "experiment": run.bundle.info.study,
        "run_name": f"score {len(inputs)} input{'s' if len(inputs) != 1 else ''}",
        "key": digest_json([sorted(inputs.values()), run.identity]),
        "description": summary,
        "params": _flat(run.config) | {"model_id": run.bundle.model_id},
        "metrics": {"inputs": float(len(inputs)), "failed": float(n_failed)},
        "tags": {"kind": run.bundle.info.kind, "model_digest": run.bundle.digest, "step": "score"},
        "dataset": {
            "name": run.bundle.info.study,
            "digest": digest_json(sorted(inputs.values()))[:32],
            "source": run.bundle.info.kind,
            "rows": len(inputs),
            "features": int(np.prod(run.bundle.info.shape)),
        },
        "model_name": None,
        "input_example": None,
    }
    write_json(shared / "run.json", record)
