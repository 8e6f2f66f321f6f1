"""What MLflow is to show of a run, and a finished folder sent there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ae_pipeline.outputs.masking import SHARED
from ae_pipeline.runtime.files import write_json, write_text
from ae_pipeline.tracking.record import Record

__all__ = ["flat", "publish", "summary_markdown", "write_record"]

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


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            plain = value is not None and isinstance(value, (str, int, float))
            found[f"{prefix}{name}"] = value if plain else str(value)
    return found


def write_record(shared: Path, record: Record) -> None:
    """Write what MLflow is to show of a run into the folder that leaves; summary first."""
    write_text(shared / "summary.md", record.description)
    write_json(shared / "run.json", record.model_dump(mode="json"))
