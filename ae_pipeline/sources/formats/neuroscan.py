"""Neuroscan (``.cnt``): 16 or 32 bits, which not every header says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import mne

__all__ = ["open_neuroscan"]

LOOK = 2000
"""Samples that are compared."""


def open_neuroscan(path: Path) -> mne.io.BaseRaw:
    """Open lazily; where the header leaves it open, as the width that gives smooth signals.

    Raises
    ------
    RuntimeError
        MNE opens it with neither width.
    """
    import mne

    try:
        return mne.io.read_raw_cnt(path, preload=False, verbose="WARNING")
    except RuntimeError as error:
        if "data_format" not in str(error):
            raise
        widths: tuple[Literal["int16", "int32"], ...] = ("int16", "int32")
        opened = [
            mne.io.read_raw_cnt(path, data_format=width, preload=False, verbose="WARNING")
            for width in widths
        ]
    return min(opened, key=_roughness)


def _roughness(raw: mne.io.BaseRaw) -> float:
    """Steps from sample to sample against the signal's range; wrong widths mix channels up."""
    data = raw[:, : min(LOOK, raw.n_times)][0]
    steps, spread = np.abs(np.diff(data, axis=1)).mean(axis=1), data.std(axis=1)
    moving = spread > 0
    return float(np.median(steps[moving] / spread[moving])) if moving.any() else np.inf
