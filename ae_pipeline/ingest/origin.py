"""Where a model's data came from, and how to read more like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.ingest.gather import gather
from ae_pipeline.runtime.files import digest_json
from ae_pipeline.scoring.bundle import BundleInfo
from ae_pipeline.study import load_study
from ae_pipeline.training.split import divide

__all__ = [
    "Origin",
    "origin",
]


@dataclass(frozen=True)
class Origin:
    """The data a model was trained on, and data of the same study that it never saw."""

    train: Samples
    held_out: Samples


def origin(folder: Path, info: BundleInfo, *, study: Path | None = None) -> Origin:
    """Read again what a bundle was trained on, by the study file beside it.

    Parameters
    ----------
    folder : Path
        The bundle; a training writes ``study.yaml`` into the folder around it.
    info : BundleInfo
    study : Path, optional
        Another place of the study file.

    Raises
    ------
    InputError
        Where the study or its data is not at hand, or has changed; the model works without.
    """
    file = study or folder.absolute().parent / "study.yaml"
    if not file.is_file():
        raise InputError(f"{file}: no study file beside the model; name it with --study")
    try:
        read = load_study(file)
        data = gather(read, lambda done, total, name: None)
    except StudyError as error:
        raise InputError(str(error)) from None
    if digest_json(sorted(data.digests.values())) != info.training_digest:
        raise InputError(f"{file}: its data is not what the model was trained on")
    division = divide(data.samples.meta, read.split)
    held = [rows for part in ("calibration", "test") if len(rows := division.rows(part))]
    # with few subjects every one of them trains, and blocks of time were kept back
    unseen = np.concatenate(held) if held else division.rows("validation")
    return Origin(data.samples.take(division.rows("train")), data.samples.take(unseen))
