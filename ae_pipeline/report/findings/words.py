"""Words and numbers that all findings share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ae_pipeline.kind import kind_of
from ae_pipeline.report import Evidence
from ae_pipeline.report.wording import spoken
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.examples import Example

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["alarms_number", "evidence", "places"]


def evidence(bundle: Bundle, example: Example) -> Evidence | None:
    """Examples for a page, in the data's units; people have sections of their own instead."""
    info = bundle.info
    if bundle.ensemble.person is not None:
        return None
    return Evidence(
        example.values,
        example.reconstructions,
        example.frame,
        info.sfreq_hz,
        info.entries,
        kind_of(info.kind).words.unit_shown,
        [column["levels"] for column in info.columns] or None,
        example.normal,
        example.normal_s,
    )


def places(kinds: pd.Series, onsets_s: pd.Series, *, channels: pd.Series) -> str:
    """What something looks like, when, and where most."""
    return ", ".join(
        f"{spoken(kind)} at {onset_s:.1f} s ({channel.split(',')[0]})"
        for kind, onset_s, channel in zip(kinds, onsets_s, channels, strict=True)
    )


def alarms_number(bundle: Bundle) -> tuple[str, str]:
    """Alarms an hour to expect of clean recordings, with their interval."""
    calibration = bundle.calibration
    rate, low, high = calibration.alarm_rate(bundle.info.detection.false_alarms_per_hour)
    return (
        f"{rate:.1f} an hour",
        f"{low:.1f} to {high:.1f} (95%), on {calibration.n_units} calibration "
        f"{bundle.info.exchangeable_unit}s, each judged by the others, {calibration.hours:.2g} h",
    )
