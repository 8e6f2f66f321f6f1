"""Words and numbers that all findings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.report import Evidence
from ae_pipeline.scoring.bundle import Bundle, BundleInfo
from ae_pipeline.scoring.examples import Example

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "evidence",
]


LOSS_NAMES = {"eeg": "mean squared error", "mnist": "binary cross-entropy"}


THINGS = {"eeg": "windows", "mnist": "images", "questionnaire": "respondents"}


NEVER = "Research use, not a diagnosis."


def evidence(info: BundleInfo, example: Example) -> Evidence:
    """Examples for a page, in the data's units."""
    units = {"eeg": "µV", "mnist": "", "questionnaire": "answer"}
    return Evidence(
        example.values,
        example.reconstructions,
        example.frame,
        info.sfreq_hz,
        info.entries,
        units[info.kind],
        [column["levels"] for column in info.columns] or None,
        example.normal,
        example.normal_s,
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:.{digits}g}"


def _span(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"95% interval {bounds[0]:.3g} to {bounds[1]:.3g}"


def _no_promise(bundle: Bundle, detection: Detection) -> str:
    """Why a recording without events is not yet clean; empty where it is."""
    what = f"{bundle.info.exchangeable_unit}s"
    return bundle.calibration.no_promise(detection.error_rate, what)


def _listed(kinds: pd.Series, onsets_s: pd.Series, *, channels: pd.Series) -> str:
    return ", ".join(
        f"{kind.replace('_', ' ')} at {onset_s:.1f} s ({channel.split(',')[0]})"
        for kind, onset_s, channel in zip(kinds, onsets_s, channels, strict=True)
    )


def _alarms(bundle: Bundle) -> tuple[str, str]:
    """Alarms an hour to expect of clean recordings, with their interval."""
    calibration = bundle.calibration
    rate, low, high = calibration.alarm_rate(bundle.info.detection.false_alarms_per_hour)
    return (
        f"{rate:.1f} an hour",
        f"{low:.1f} to {high:.1f} (95%), on {calibration.n_units} calibration "
        f"{bundle.info.exchangeable_unit}s, each judged by the others, {calibration.hours:.2g} h",
    )
