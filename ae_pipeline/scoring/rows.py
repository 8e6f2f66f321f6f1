"""Rows of a table scored and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.personfit import MANY_ROWS
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.examples import pick_examples
from ae_pipeline.scoring.judge import Judged, false_discoveries
from ae_pipeline.scoring.tables import contract_frame

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.scoring.examples import Example

__all__ = [
    "RowsResult",
    "score_rows",
]


@dataclass(frozen=True)
class RowsResult:
    """What is found in images or respondents, as facts; see :class:`RecordingResult`."""

    frame: pd.DataFrame
    latents: NDArray[np.float32]
    by_entry: NDArray[np.float32]
    worst: Example
    best: Example


def score_rows(
    bundle: Bundle,
    samples: Samples,
    *,
    detection: Detection,
    advance: Callable[[int], None] = lambda rows: None,
) -> RowsResult:
    """Judge images or respondents, a part of them at a time; p and q across all.

    Parameters
    ----------
    bundle : Bundle
    samples : Samples
    detection : Detection
    advance : callable
        Told how many rows are judged.

    Raises
    ------
    InputError
        Where the rows are not what the model was trained on.
    """
    parts = []
    with one_thread(samples.layout != "grid"):
        for rows in samples.chunks(MANY_ROWS):
            parts.append(bundle.judge(samples.take(rows)))
            advance(rows.stop)
    judged = Judged.join(parts)
    frame = judged.frame
    frame["q_value"], frame["flagged"] = false_discoveries(frame["p_value"].to_numpy(), detection)
    worst, best = pick_examples(bundle, samples, frame=frame)
    return RowsResult(
        contract_frame(frame, samples.layout), judged.latents, judged.by_entry, worst, best
    )
