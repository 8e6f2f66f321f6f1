"""The files of each input that was scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.analysis.persons import describe
from ae_pipeline.data import Samples
from ae_pipeline.ingest.inputs import Failure, Input
from ae_pipeline.outputs.bids import (
    EVENT_ENDINGS,
    bids_folder,
    in_file_spelling,
    source_dataset,
    write_annotations,
    write_events,
)
from ae_pipeline.outputs.masking import Masking
from ae_pipeline.outputs.run_folder import now
from ae_pipeline.report.findings.reasons import (
    RecordingTables,
    recording_tables,
    scores_table,
    with_reasons,
)
from ae_pipeline.report.findings.recording import recording_view
from ae_pipeline.runtime.files import (
    digest_files,
    read_json,
    versions,
    write_frame,
    write_json,
    write_text,
    write_through,
)
from ae_pipeline.scoring.examples import Example
from ae_pipeline.scoring.recording import RecordingResult
from ae_pipeline.scoring.rows import RowsResult
from ae_pipeline.scoring.tables import latents_frame, may_be_flagged

if TYPE_CHECKING:
    from ae_pipeline.outputs.run_folder import ScoreRun

__all__ = [
    "begin_score",
    "is_done",
    "write_failure",
    "write_recording",
    "write_rows",
]


RECORDING_ENDINGS = (
    "scores.parquet",
    "desc-anomaly_annot.fif",
    "bads.tsv",
    "desc-latent_features.tsv",
    "report.html",
)
"""What is written about each recording, beside its events."""

ROW_ENDINGS = ("scores.parquet", "desc-latent_features.tsv", "examples.npz")
"""What is written about each table or file of images."""

TABLE_ENDINGS = ("persons.parquet", "answers.parquet", "items.tsv")
"""What is written about each questionnaire, and put together for all of them."""


def begin_score(run: ScoreRun) -> None:
    """Mark the folder as this model's before the first result stands in it."""
    run.out.mkdir(parents=True, exist_ok=True)
    provenance = run.out / "provenance.json"
    if not provenance.is_file():
        content = {"kind": "score", "status": "begun", "config": run.identity}
        write_json(provenance, content)


def is_done(run: ScoreRun, name: str, *, this: str) -> bool:
    """Whether the files of an input are there, complete, and made from the same things."""
    provenance = run.out / f"{name}_provenance.json"
    if not provenance.is_file():
        return False
    there = read_json(provenance)
    if there["key"] != this or there["status"] != "done":
        return False
    needs_copy = run.copies is not None and may_be_flagged(there["summary"], run.detection)
    if needs_copy and not _copy_of(run, name).is_dir():
        return False
    return all((run.out / file).is_file() for file in there["outputs"])


def _copy_of(run: ScoreRun, name: str) -> Path:
    """Where a recording stands without its name."""
    assert run.copies is not None
    return run.copies / Masking().recording(name)


def write_failure(run: ScoreRun, failure: Failure, *, digest: str | None) -> None:
    """A failed input: its reason, and nothing else of it."""
    stale = [*RECORDING_ENDINGS, *ROW_ENDINGS, *TABLE_ENDINGS]
    folder = run.out / (bids_folder(failure.name) or "")
    for place, endings in ((run.out, stale), (folder, EVENT_ENDINGS)):
        for ending in endings:
            (place / f"{failure.name}_{ending}").unlink(missing_ok=True)
    summary = {
        "recording": failure.name,
        "subject": failure.subject,
        "verdict": "failed",
        "reason": failure.reason,
    }
    _write_provenance(
        run, failure.name, this=None, files=[], summary=summary, digest=digest, status="failed"
    )


def _write_provenance(
    run: ScoreRun,
    name: str,
    *,
    this: str | None,
    files: list[str],
    summary: Mapping[str, Any],
    digest: str | None,
    status: str,
    source: Mapping[str, str] | None = None,
) -> None:
    info = run.bundle.info
    content = {
        "kind": "score-input",
        "status": status,
        "key": this,
        "input": digest,
        "source_dataset": source,
        "model": run.bundle.digest,
        "model_id": run.bundle.model_id,
        "config": run.config,
        "preprocess": None if info.preprocess is None else info.preprocess.model_dump(mode="json"),
        "summary": {k: _plain(v) for k, v in summary.items()},
        "versions": dict(versions()),
        "finished": now(),
        "outputs": {file: digest_files([run.out / file]) for file in files},
    }
    write_json(run.out / f"{name}_provenance.json", content)


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write_recording(
    run: ScoreRun, result: RecordingResult, *, this: str, digest: str | None
) -> None:
    """Files of one recording; provenance last."""
    out, info = run.out, run.bundle.info
    name = result.recording.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)  # from here on it is not done
    tables = recording_tables(run.bundle, result)
    spelled = in_file_spelling(tables)
    write_frame(out / f"{name}_scores.parquet", tables.scores)
    write_annotations(
        out / f"{name}_desc-anomaly_annot.fif", spelled.events, recording=result.recording
    )
    write_frame(out / f"{name}_bads.tsv", spelled.bads)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    assert info.threshold is not None
    view = recording_view(run.bundle, tables, threshold=info.threshold, detection=run.detection)
    write_text(out / f"{name}_report.html", report.recording_page(view))
    if run.copies is not None and may_be_flagged(tables.row, run.detection):
        _write_copy(run, tables)
    files = [f"{name}_{ending}" for ending in RECORDING_ENDINGS] + write_events(out, spelled)
    _write_provenance(
        run,
        name,
        this=this,
        files=files,
        summary=tables.row,
        digest=digest,
        status="done",
        source=source_dataset(result.recording.path),
    )


def _write_copy(run: ScoreRun, tables: RecordingTables) -> None:
    """The page and the events of a recording without names, for MLflow."""
    assert run.bundle.info.threshold is not None
    masked, place = Masking().tables(tables), _copy_of(run, tables.result.recording.name)
    view = recording_view(
        run.bundle, masked, threshold=run.bundle.info.threshold, detection=run.detection
    )
    write_text(place / "report.html", report.recording_page(view))
    write_frame(place / "events.tsv", in_file_spelling(masked).events)


def write_rows(
    run: ScoreRun,
    item: Input,
    *,
    result: RowsResult,
    samples: Samples,
    notes: tuple[str, ...],
    this: str,
) -> None:
    """Files of one table or image file; provenance last."""
    out, name = run.out, item.name
    (out / f"{name}_provenance.json").unlink(missing_ok=True)
    scores = scores_table(result.frame, run.bundle)
    write_frame(out / f"{name}_scores.parquet", scores)
    latents = latents_frame(result.frame, result.latents)
    write_frame(out / f"{name}_desc-latent_features.tsv", latents)
    files = [f"{name}_{ending}" for ending in ROW_ENDINGS]
    worst, best = (with_reasons(each, run.bundle) for each in (result.worst, result.best))
    _save_examples(out / f"{name}_examples.npz", worst, best=best)
    person = run.bundle.ensemble.person
    if person is not None:
        source = run.bundle.info.source
        about, answers, items = describe(
            person, samples, source=source, frame=result.frame, latents=result.latents
        )
        write_frame(out / f"{name}_persons.parquet", about)
        write_frame(out / f"{name}_answers.parquet", answers)
        write_frame(out / f"{name}_items.tsv", items)
        files += [f"{name}_{ending}" for ending in TABLE_ENDINGS]
    summary = {"recording": name, "rows": len(result.frame), "notes": list(notes)}
    _write_provenance(
        run,
        name,
        this=this,
        files=files,
        summary=summary,
        digest=item.digest,
        status="done",
    )


def _save_examples(path: Path, worst: Example, *, best: Example) -> None:
    """Examples as plain arrays and JSON, so that the page can be made again from the folder."""
    arrays: dict[str, Any] = {}
    for which, example in (("worst", worst), ("best", best)):
        arrays[f"{which}_values"] = example.values
        arrays[f"{which}_reconstructions"] = example.reconstructions
        text = example.frame.to_json(orient="records")
        arrays[f"{which}_rows"] = np.frombuffer(text.encode(), np.uint8)
    with write_through(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
