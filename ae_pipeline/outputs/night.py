"""The files of a run of an inbox: the digest here, and what MLflow is to show of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_pipeline.outputs.masking import SHARED, Masking
from ae_pipeline.outputs.publish import write_record
from ae_pipeline.report.findings import night as digest
from ae_pipeline.report.findings.night import Night
from ae_pipeline.runtime.files import digest_json, write_json, write_text
from ae_pipeline.tracking.record import Child, Lineage, Record

__all__ = ["NightRun", "copies_of", "write_night"]

NUMBERS = ("score", "p_value", "q_value", "events_per_hour", "usable_share")
"""What MLflow shows of a recording."""

MASKS = Masking()


@dataclass(frozen=True)
class NightRun:
    """A run of an inbox and where it belongs.

    Parameters
    ----------
    night : Night
    folder : Path
        Of this run.
    inbox, results : Path
        Where the newest digest stands, and the results of the model.
    model_digest : str
    inputs : tuple of str
        Digest of each input that was new.
    is_newest : bool
        Whether its digest is the inbox's own: not of another model's backfill.
    """

    night: Night
    folder: Path
    inbox: Path
    results: Path
    model_digest: str
    inputs: tuple[str, ...]
    is_newest: bool


def copies_of(folder: Path) -> Path:
    """Return the folder of a night in which recordings stand that may leave, each without names."""
    return folder / SHARED / "children"


def write_night(run: NightRun) -> None:
    """Write the local pages with names, those that leave with pseudonyms, then the record."""
    night, shared = run.night, run.folder / SHARED
    reports = {
        name: f"{night.model_id}/{name}_report.html"
        for name in night.scored
        if (run.results / f"{name}_report.html").is_file()
    }
    up = {name: f"../../{address}" for name, address in reports.items()}
    masked = night.masked(MASKS.recording)
    for folder, shown, links in ((run.folder, night, up), (shared, masked, {})):
        write_text(folder / "digest.md", digest.markdown(shown))
        write_text(folder / "digest.html", digest.page(shown, links))
    write_json(run.folder / "pseudonyms.json", {n: MASKS.recording(n) for n in night.names()})
    if run.is_newest:
        write_text(run.inbox / "digest.md", digest.markdown(night))
        write_text(run.inbox / "digest.html", digest.page(night, reports))
    write_record(shared, _record(run, masked))


def _record(run: NightRun, masked: Night) -> Record:
    return Record(
        kind="night",
        experiment=masked.study,
        run_name=f"night {masked.began[:16].replace('T', ' ')}",
        key=digest_json([run.folder.name, str(run.inbox), masked.began]),
        description=digest.markdown(masked),
        params={"model_id": masked.model_id},
        metrics={
            **{name: float(len(getattr(masked, name))) for name in digest.COUNTED},
            "seconds": masked.seconds,
        },
        tags={"step": "night", "model_digest": run.model_digest},
        dataset=Lineage(
            name=masked.study,
            digest=digest_json(sorted(run.inputs))[:32],
            source="inbox",
            rows=len(masked.scored),
        ),
        children=_children(run),
    )


def _children(run: NightRun) -> tuple[Child, ...]:
    """A run for each recording that a reviewer has to look at; other copies do not leave."""
    night, place, known = run.night, copies_of(run.folder), _judged(run)
    children = []
    for name in [*night.flagged, *night.failed]:
        row, code, failed = known.get(name, {}), MASKS.recording(name), name in night.failed
        verdict = "failed" if failed else str(row.get("verdict", "flagged"))
        reason = "See the local digest." if failed else night.flagged[name]
        child = Child(
            name=code,
            run_name=f"{code} {verdict if failed else f'flagged: {verdict}'}",
            description=f"# {code}: {verdict}\n\n{reason}\n",
            metrics={n: float(row[n]) for n in NUMBERS if row.get(n) is not None},
            tags={"verdict": verdict, "pseudonym": code, "step": "recording"},
        )
        write_text(place / code / "summary.md", child.description)
        children.append(child)
    shown = {child.name for child in children}
    for other in [copy for copy in place.glob("*") if copy.name not in shown]:
        shutil.rmtree(other)
    return tuple(children)


def _judged(run: NightRun) -> Mapping[str, Mapping[str, Any]]:
    """Rows of ``recordings.parquet`` by recording; empty for tables."""
    file = run.results / "recordings.parquet"
    if not run.night.flagged or not file.is_file():
        return {}
    import pandas as pd

    frame = pd.read_parquet(file).set_index("recording")
    frame = frame.astype(object).where(frame.notna(), None)
    return {str(name): dict(row) for name, row in frame.iterrows()}
