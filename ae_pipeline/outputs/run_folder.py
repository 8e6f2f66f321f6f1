"""A run's folder: what it holds and whom it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import Samples
from ae_pipeline.runtime.files import digest_files, read_json
from ae_pipeline.scoring.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.detectors.calibration import Detection
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.study import Study
    from ae_pipeline.training.history import History
    from ae_pipeline.training.split import Division

__all__ = [
    "ScoreRun",
    "TrainRun",
    "digests_of",
    "now",
    "refuse_foreign",
    "score_config",
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
    """A folder of results of one model with one configuration.

    ``copies`` is where recordings that may be flagged stand without names, each in a folder.
    """

    out: Path
    bundle: Bundle
    detection: Detection
    copies: Path | None = None

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


def now() -> str:
    """Return the time, for provenance."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digests_of(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, for provenance."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    return {str(f.relative_to(folder)): digest_files([f]) for f in files}


def refuse_foreign(out: Path, kind: str, *, config: Mapping[str, Any] | None = None) -> None:
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
