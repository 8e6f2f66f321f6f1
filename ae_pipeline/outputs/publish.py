"""A finished folder, sent to MLflow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.outputs.score import SHARED
from ae_pipeline.runtime.files import digest_files, digest_json, write_json, write_text

if TYPE_CHECKING:
    from ae_pipeline.outputs.run_folder import ScoreRun

__all__ = [
    "markdown",
    "publish",
    "summary_markdown",
]

_LOG = logging.getLogger(__name__)


def publish(out: Path, parent: str | None = None, *, register: bool = True) -> dict[str, str]:
    """Send a finished folder to MLflow; where the server is away, log that it comes later.

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
        published = publishing.publish(out, load_settings(), parent=parent, register=register)
    except Unreachable as error:
        _LOG.warning(f"{error}; the results are complete and will be published later")
        return {}
    found = {"run": published.run_id, "model": published.model_uri}
    return {name: value for name, value in found.items() if value}


def summary_markdown(out: Path) -> str:
    """The verdict and where things are."""
    summary = out / SHARED / "summary.md"
    return summary.read_text(encoding="utf-8") if summary.is_file() else ""


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


def markdown(title: str, headline: report.Headline, *, hypothesis: str | None = None) -> str:
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


def _write_score_run(
    run: ScoreRun, headline: report.Headline, *, inputs: Mapping[str, str], n_failed: int
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
