"""The files of a run: written whole, provenance last, pseudonymised beside.

``train`` fills a folder that replaces the old one as a whole. ``score`` writes the files of each
input once, its provenance last, and rebuilds what is about all of them (``scores.parquet``,
``group_*``) from those files. What leaves for MLflow stands in ``pseudonymised/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import __version__, bundle as bundles, findings, report
from ae_pipeline.bundle import Bundle, BundleInfo
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.folder import (
    digest_files,
    digest_json,
    pseudonyms,
    read_json,
    versions,
    write_frame,
    write_json,
    write_text,
    write_through,
)
from ae_pipeline.gather import Failure, Input
from ae_pipeline.score import (
    Example,
    RecordingResult,
    RowsResult,
    contract_frame,
    latents_frame,
    pick_examples,
    recordings_frame,
)

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.experiment import ScoreJob, TrainJob

__all__ = [
    "begin_score",
    "is_done",
    "model_folder",
    "publish",
    "refuse_foreign",
    "source_of",
    "summary_markdown",
    "write_failure",
    "write_group",
    "write_recording",
    "write_rows",
    "write_train",
]

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
        from ae_pipeline import tracking

        return tracking.resolve(model, tracking.load_settings())
    return Path(model).expanduser()


def source_of(info: BundleInfo) -> Any:
    """The study's source as a bundle keeps it, for reading other inputs."""
    from pydantic import TypeAdapter

    from ae_pipeline.study import AnySource

    adapter: TypeAdapter[Any] = TypeAdapter(AnySource)
    return adapter.validate_python({**info.source, "path": "."})


def publish(job: TrainJob | ScoreJob) -> None:
    """Send a finished folder to MLflow; where the server is away, say that it comes later."""
    from ae_pipeline import tracking

    job.progress.stage("publishing to MLflow")
    try:
        published = tracking.publish(job.out, tracking.load_settings())
    except tracking.Unreachable as error:
        job.progress.warn(f"{error}; the results are complete and will be published later")
        return
    job.result["run"] = published.run_id
    if published.model_uri:
        job.result["model"] = published.model_uri


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


def _pseudonyms(*frames: pd.DataFrame) -> dict[str, dict[str, str]]:
    known: dict[str, set[str]] = {"recording": set(), "subject": set()}
    for frame in frames:
        for column, names in known.items():
            if column in frame:
                names |= set(frame[column].dropna().astype(str))
    return {
        "recording": pseudonyms(sorted(known["recording"]), "rec"),
        "subject": pseudonyms(sorted(known["subject"]), "sub"),
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


def write_train(job: TrainJob, place: Path) -> None:
    """Everything ``train`` leaves, into an empty folder; provenance last."""
    import pandas as pd
    import yaml

    bundles.save(place / "model", job.bundle)
    digest = digest_files([place / "model/bundle.json", place / "model/weights.safetensors"])
    history = pd.DataFrame(job.history.rows)
    write_frame(place / "history.csv", history)
    write_json(place / "metrics.json", job.metrics)
    scores = contract_frame(job.frame, job.study.kind)
    latents = latents_frame(scores, job.latents)
    names = _pseudonyms(scores)
    write_json(place / "pseudonyms.json", names)
    study = job.study.model_dump(mode="json")
    write_text(place / "study.yaml", yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    # what the worst and best look like, taken from rows that nothing was fitted on
    rows = _held_out_rows(job)
    worst, best = pick_examples(job.bundle, job.data.samples.take(rows), job.frame)

    shared = place / SHARED
    for folder, mapping in ((place, None), (shared, names)):
        hide = (lambda f: f) if mapping is None else (lambda f: _masked(f, names))
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        view = findings.train_view(
            job.study,
            job.bundle,
            job.metrics,
            history,
            hide(scores),
            hide(latents),
            _with_frame(worst, hide),
            _with_frame(best, hide),
            digest,
            job.data.notes,
        )
        write_text(folder / "report.html", report.train_page(view))
    headline = findings.train_headline(job.bundle.info, job.metrics, job.bundle.info.claims)
    summary = _markdown(job.title, headline, job.study.hypothesis)
    write_text(shared / "summary.md", summary)
    public = {**study, "source": {k: v for k, v in study["source"].items() if k != "path"}}
    public.pop("outputs")
    write_text(shared / "study.yaml", yaml.safe_dump(public, sort_keys=False, allow_unicode=True))
    write_frame(shared / "history.csv", history)
    info = job.bundle.info
    numbers = {
        "train_loss": job.metrics["train_loss"],
        "validation_loss": job.metrics["validation_loss"],
        "test_loss": job.metrics["test_loss"],
        "pca_test_loss": job.metrics["baselines"]["pca"]["test_loss"],
        "gain_over_pca": job.metrics["beats_baselines"]["difference"],
        "parameters": job.metrics["parameters"],
        "epochs": job.metrics["epochs"],
        "seconds": job.metrics["seconds"],
    }
    run = {
        "kind": "train",
        "experiment": job.title,
        "run_name": f"train {info.model.architecture.kind} {info.model.objective.kind} "
        f"{info.model.latent_dim}",
        "key": digest_json([job.key, digest]),
        "description": summary,
        "params": _flat(public),
        "metrics": {name: value for name, value in numbers.items() if value is not None},
        "tags": {"kind": info.kind, "model_digest": digest, "step": "train"},
        "dataset": {
            "name": job.title,
            "digest": info.training_digest[:32],
            "source": info.kind,
            "rows": len(job.data.samples),
            "features": int(np.prod(info.shape)),
        },
        "model_name": _registered_name(job.title),
        "input_example": {"shape": [1, *info.shape]},
    }
    write_json(shared / "run.json", run)
    write_json(
        place / "provenance.json",
        {
            "kind": "train",
            "status": "done",
            "key": job.key,
            "verdict": headline.verdict,
            "model": digest,
            "inputs": job.data.digests,
            "failed": [vars(failure) for failure in job.data.failures],
            "versions": dict(versions()),
            "finished": _now(),
            "outputs": _outputs(place),
        },
    )


def _held_out_rows(job: TrainJob) -> np.ndarray:
    """Rows of the samples that ``job.frame`` judges, in its order."""
    division = job.division
    parts = [*division.folds] if division.folds else []
    parts += [division.rows("calibration"), division.rows("test")]
    return np.concatenate([part for part in parts if len(part)])


def _with_frame(example: Example, hide: Callable[[pd.DataFrame], pd.DataFrame]) -> Example:
    return Example(example.values, example.reconstructions, hide(example.frame))


def _registered_name(title: str) -> str:
    """MLflow allows no slash or colon; spaces are awkward in a URI."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in title)


def _markdown(title: str, headline: report.Headline, hypothesis: str | None = None) -> str:
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


def begin_score(job: ScoreJob) -> None:
    """Mark the folder as this model's before the first result stands in it."""
    job.out.mkdir(parents=True, exist_ok=True)
    provenance = job.out / "provenance.json"
    if not provenance.is_file():
        content = {"kind": "score", "status": "begun", "config": _score_config(job)}
        write_json(provenance, content)


def _score_config(job: ScoreJob) -> dict[str, Any]:
    return {"model": job.bundle.digest, **job.config}


def is_done(out: Path, name: str, this: str) -> bool:
    """Whether the files of an input are there, complete, and made from the same things."""
    provenance = out / f"{name}_provenance.json"
    if not provenance.is_file():
        return False
    there = read_json(provenance)
    if there["key"] != this or there["status"] != "done":
        return False
    return all((out / file).is_file() for file in there["outputs"])


def write_failure(job: ScoreJob, failure: Failure, digest: str | None) -> None:
    """A failed input: its reason, and nothing else of it."""
    for stale in job.out.glob(f"{_glob_safe(failure.name)}_*"):
        if stale.name in _file_names(failure.name):
            stale.unlink()
    summary = {
        "recording": failure.name,
        "subject": failure.subject,
        "verdict": "failed",
        "reason": failure.reason,
    }
    _write_provenance(job, failure.name, None, [], summary, digest, "failed")


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
    job: ScoreJob,
    name: str,
    this: str | None,
    files: list[str],
    summary: Mapping[str, Any],
    digest: str | None,
    status: str,
) -> None:
    info = job.bundle.info
    content = {
        "kind": "score-input",
        "status": status,
        "key": this,
        "input": digest,
        "model": job.bundle.digest,
        "model_id": job.bundle.model_id,
        "config": job.config,
        "preprocess": None if info.preprocess is None else info.preprocess.model_dump(mode="json"),
        "summary": {k: _plain(v) for k, v in summary.items()},
        "versions": dict(versions()),
        "finished": _now(),
        "outputs": {file: digest_files([job.out / file]) for file in files},
    }
    write_json(job.out / f"{name}_provenance.json", content)


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write_recording(job: ScoreJob, result: RecordingResult, this: str) -> None:
    """Files of one recording; provenance last."""
    out, info = job.out, job.bundle.info
    name = result.recording.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)  # from here on it is not done
    write_frame(out / f"{name}_scores.parquet", result.frame)
    write_frame(out / f"{name}_desc-anomaly_events.tsv", result.events)
    write_json(out / f"{name}_desc-anomaly_events.json", EVENT_SIDECAR)
    _write_annotations(out / f"{name}_desc-anomaly_annot.fif", result.events)
    write_frame(out / f"{name}_bads.tsv", result.bads)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    assert info.threshold is not None
    page = report.recording_page(findings.recording_view(job.bundle, result, info.threshold))
    write_text(out / f"{name}_report.html", page)
    files = sorted(_file_names(name) - {f"{name}_examples.npz", f"{name}_items.tsv"})
    digest = digest_files(result.recording.files)
    _write_provenance(job, name, this, files, result.summary, digest, "done")


def _write_annotations(path: Path, events: pd.DataFrame) -> None:
    """Events as MNE's annotations; without a channel list they are about the whole head."""
    import mne

    channels = [tuple(c for c in str(names).split(",") if c) for names in events["channel"]]
    annotations = mne.Annotations(
        events["onset"].to_numpy(float),
        events["duration"].to_numpy(float),
        events["trial_type"].astype(str).tolist(),
        ch_names=channels if len(events) else None,
    )
    with write_through(path) as temporary:
        annotations.save(temporary, overwrite=True, verbose="ERROR")


def write_rows(
    job: ScoreJob,
    item: Input,
    result: RowsResult,
    samples: Samples,
    notes: tuple[str, ...],
    this: str,
) -> None:
    """Files of one table or image file; provenance last."""
    import pandas as pd

    out, name = job.out, item.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)
    write_frame(out / f"{name}_scores.parquet", result.frame)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    files = [f"{name}_scores.parquet", f"{name}_desc-latent_features.tsv", f"{name}_examples.npz"]
    _save_examples(out / f"{name}_examples.npz", result.worst, result.best)
    if samples.entries:
        given = samples.mask if samples.mask is not None else np.ones(result.by_entry.shape, bool)
        items = pd.DataFrame(
            {
                "item": samples.entries,
                "answered": given.sum(0),
                "total_error": (result.by_entry * given).sum(0),
            }
        )
        write_frame(out / f"{name}_items.tsv", items)
        files.append(f"{name}_items.tsv")
    summary = {"recording": name, "rows": len(result.frame), "notes": list(notes)}
    _write_provenance(job, name, this, files, summary, digest_files(item.files), "done")


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


def write_group(job: ScoreJob) -> dict[str, Any]:
    """Everything that is about all inputs of a folder, rebuilt from their own files.

    Returns
    -------
    dict
        Where things are and the verdict, for the terminal.
    """
    out = job.out
    provenances = [read_json(file) for file in sorted(out.glob("*_provenance.json"))]
    done = [p for p in provenances if p["status"] == "done"]
    failed = [p for p in provenances if p["status"] == "failed"]
    stems = [p["summary"]["recording"] for p in done]
    write_json(out / "dataset_description.json", _description(job.bundle.info))
    if job.bundle.info.kind == "eeg":
        headline = _group_of_recordings(job, [p["summary"] for p in provenances], stems)
    else:
        headline = _group_of_rows(job, stems, [p["summary"] for p in failed], done)
    inputs = {p["summary"]["recording"]: p["input"] for p in done}
    _write_score_run(job, headline, inputs)
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
            "items.csv",
            "dataset_description.json",
        )
        if (out / name).is_file()
    ]
    provenance = {
        "kind": "score",
        "status": "done",
        "config": _score_config(job),
        "verdict": headline.verdict,
        "inputs": inputs,
        "failed": {p["summary"]["recording"]: p["summary"]["reason"] for p in failed},
        "versions": dict(versions()),
        "finished": _now(),
        "outputs": {name: digest_files([out / name]) for name in group},
    }
    write_json(out / "provenance.json", provenance)
    first = "report.html" if (out / "report.html").is_file() else "group_report.html"
    return {
        "out": str(out),
        "report": str(out / first),
        "verdict": headline.verdict,
        "scored": len(done),
    }


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
    job: ScoreJob, summaries: list[dict[str, Any]], stems: list[str]
) -> report.Headline:
    out, info = job.out, job.bundle.info
    recordings = recordings_frame(summaries, job.detection.error_rate)
    scores, latents = _rebuilt(out, stems)
    view = findings.group_view(
        info, job.bundle.digest, recordings, job.bundle.calibration.n_recordings
    )
    names = _pseudonyms(recordings)
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
        page = (
            view
            if folder == out
            else findings.group_view(
                info, job.bundle.digest, shown, job.bundle.calibration.n_recordings
            )
        )
        if folder != out:
            page = _without_links(page)
        write_text(folder / "group_report.html", report.group_page(page))
    write_frame(out / "group_desc-quality.tsv", recordings)
    return view.headline


def _without_links(view: report.GroupView) -> report.GroupView:
    from dataclasses import replace

    return replace(view, links={})


def _group_of_rows(
    job: ScoreJob,
    stems: list[str],
    failed: list[dict[str, Any]],
    done: list[dict[str, Any]],
) -> report.Headline:
    import pandas as pd

    from ae_pipeline.calibrate import benjamini_hochberg

    out, bundle = job.out, job.bundle
    if not stems:
        return report.Headline(
            f"Nothing could be scored: {len(failed)} input(s) failed.",
            warnings=tuple(f["reason"] for f in failed),
        )
    scores, latents = _rebuilt(out, stems)
    scores["q_value"] = benjamini_hochberg(scores["p_value"].to_numpy())
    scores["flagged"] = scores["q_value"] <= job.detection.error_rate
    worst, best = _load_examples([out / f"{stem}_examples.npz" for stem in stems])
    items = None
    if bundle.info.entries:
        parts = [pd.read_csv(out / f"{s}_items.tsv", sep="\t", dtype={"item": str}) for s in stems]
        total = pd.concat(parts).groupby("item", sort=False).sum().loc[list(bundle.info.entries)]
        items = pd.DataFrame(
            {
                "item": list(bundle.info.entries),
                "mean_error": (total["total_error"] / total["answered"].clip(lower=1)).to_numpy(),
                "answered": total["answered"].to_numpy(),
                "share_missing": 1 - total["answered"].to_numpy() / len(scores),
            }
        )
        write_frame(out / "items.csv", items)
    names = _pseudonyms(scores)
    write_json(out / "pseudonyms.json", names)
    notes = [note for p in done for note in p["summary"]["notes"]]
    headline: report.Headline | None = None
    for folder in (out, out / SHARED):
        hide: Callable[[pd.DataFrame], pd.DataFrame] = (
            (lambda f: f) if folder == out else (lambda f: _masked(f, names))
        )
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        view = findings.rows_view(
            bundle,
            bundle.info.study,
            hide(scores),
            hide(latents),
            findings.evidence(bundle.info, _with_frame(worst, hide)),
            findings.evidence(bundle.info, _with_frame(best, hide)),
            items,
            notes,
        )
        headline = view.headline
        page = report.rows_page(view)
        write_text(folder / "report.html", page)
        write_text(folder / "group_report.html", page)
    if bundle.info.kind == "questionnaire":
        wanted = ["recording", "score", "p_value", "q_value", "flagged", "top_item", "reason"]
        others = [c for c in scores if c.startswith("score_")]
        persons = scores[[*wanted[:2], *others, *wanted[2:]]].rename(columns={"recording": "id"})
        write_frame(out / "persons.csv", persons.sort_values("p_value", kind="stable"))
    assert headline is not None
    return headline


def _write_score_run(job: ScoreJob, headline: report.Headline, inputs: Mapping[str, str]) -> None:
    """What the MLflow run of a scoring says."""
    shared = job.out / SHARED
    summary = _markdown(job.title, headline)
    write_text(shared / "summary.md", summary)
    run = {
        "kind": "score",
        "experiment": job.title,
        "run_name": f"score {len(inputs)} input{'s' if len(inputs) != 1 else ''}",
        "key": digest_json([sorted(inputs.values()), _score_config(job)]),
        "description": summary,
        "params": _flat(job.config) | {"model_id": job.bundle.model_id},
        "metrics": {"inputs": float(len(inputs)), "failed": float(len(job.failures))},
        "tags": {"kind": job.bundle.info.kind, "model_digest": job.bundle.digest, "step": "score"},
        "dataset": {
            "name": job.title,
            "digest": digest_json(sorted(inputs.values()))[:32],
            "source": job.bundle.info.kind,
            "rows": len(inputs),
            "features": int(np.prod(job.bundle.info.shape)),
        },
        "model_name": None,
        "input_example": None,
    }
    write_json(shared / "run.json", run)
