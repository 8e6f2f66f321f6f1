"""The same weights with other calibration data: what ``ae-pipeline calibrate`` does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inputs import Failure, Input, find_inputs
from ae_pipeline.jobs.job import Progress
from ae_pipeline.kind import Source, kind_of
from ae_pipeline.report.findings.reasons import claims
from ae_pipeline.runtime.messages import unexpected
from ae_pipeline.tracking.registry import model_folder

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.scoring.bundle import Bundle

    _Part = tuple[pd.DataFrame, NDArray[np.float32]]

__all__ = ["recalibrate"]

_LOG = logging.getLogger(__name__)


def recalibrate(
    model: str, inputs: Sequence[str], *, out: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a bundle with the same weights and other calibration data.

    Parameters
    ----------
    model : str
        As in :func:`score_job`.
    inputs : sequence of str
        Normal data that nothing was fitted on.
    out : Path
        Folder of the new bundle; must not hold anything.
    progress : Progress, optional

    Returns
    -------
    dict
        ``bundle``, ``n_calibration``, ``smallest_p``, ``threshold`` and ``failed`` (reasons).

    Raises
    ------
    StudyError
        Where the model or the folder cannot be used.
    InputError
        Where no input is left to calibrate with.
    """
    import pandas as pd

    from ae_pipeline.runtime.files import write_folder
    from ae_pipeline.scoring import bundle as bundles
    from ae_pipeline.scoring.judge import Judge

    progress = progress or Progress()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out}: is there already; name a new folder with --out")
    old = bundles.load(model_folder(model))
    parts, failed = _scored(old, inputs, progress=progress)
    if not parts:
        first = f"; {'the first: ' * (len(failed) > 1)}{failed[0]}" if failed else ""
        raise InputError(f"none of {len(failed)} inputs can calibrate this model{first}")
    for reason in failed:
        _LOG.warning(reason)
    frame = pd.concat([frame for frame, _ in parts], ignore_index=True)
    unit = "row"
    if "onset_s" in frame:
        unit = "subject" if frame["subject"].nunique() > 1 else "recording"
    judge, _ = Judge.fit(
        frame,
        np.concatenate([by_entry for _, by_entry in parts]),
        unit=unit,
        detection=old.info.detection,
        windowed=kind_of(old.info.kind).events,
    )
    calibration = judge.calibration
    info = old.info.model_copy(
        update={
            "threshold": judge.threshold,
            "exchangeable_unit": unit,
            "claims": (
                f"Calibrated anew on {calibration.n_units} {unit}s given by name: "
                "p-values hold for data like these, if nothing was fitted on them.",
                *claims(calibration.withdrawn(old.info.detection), unit),
            ),
        }
    )
    with write_folder(out) as place:
        bundles.save(place, replace(old, info=info, calibration=calibration))
    return {
        "bundle": str(out),
        "n_calibration": calibration.n_units,
        "smallest_p": calibration.smallest_p,
        "threshold": judge.threshold,
        "failed": failed,
    }


def _scored(
    bundle: Bundle, inputs: Sequence[str], *, progress: Progress
) -> tuple[list[_Part], list[str]]:
    """Scores of the inputs that can be used, and why the others cannot."""
    source = bundle.info.source
    parts: list[_Part] = []
    failed: list[str] = []
    for item in find_inputs(source, inputs):
        if isinstance(item, Failure):
            failed.append(item.reason)
            continue
        progress.stage(f"scoring {item.name}")
        try:
            parts += list(_raw_parts(bundle, source, item=item))  # a recording whole or not
        except InputError as error:
            failed.append(str(error))
        except Exception as error:
            failed.append(unexpected(error, item.path))
    return parts, failed


def _raw_parts(bundle: Bundle, source: Source, *, item: Input) -> Iterator[_Part]:
    """Scores of an input without any judgement, part by part."""
    from ae_pipeline.scoring.judge import raw_scores

    for samples, _ in kind_of(source.kind).samples(bundle, source, item=item):
        frame, scores, _ = raw_scores(bundle.ensemble, bundle.baselines, samples=samples)
        yield frame, scores.by_entry
