"""What a reader of files hands on: names, types, rates, and a way to read the signal.

Conventions: microvolts, float32; times are seconds from the recording's start; positions are
metres in MNE's head frame, NaN where not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation

__all__ = ["MNE_WARNED", "Content", "Reader", "Signal"]

Float = NDArray[np.float32]
Reader = Callable[[int, int], Float]
"""``reader(start, stop)``: (channels, stop - start) in microvolts."""


MNE_WARNED = "MNE warned about this file when opening it; mne.io.read_raw shows the text"


@dataclass(frozen=True)
class Signal:
    """Some channels of a file, ready to be read."""

    n_times: int
    gaps: tuple[tuple[int, int], ...]
    reader: Reader
    cuts: tuple[int, ...] = ()
    """Samples before which uninterrupted signal ends, without a gap (epochs laid end to end)."""


@dataclass(frozen=True)
class Content:
    """What a file holds, whatever its format; nothing of the signal has been read."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rates_hz: tuple[float, ...]
    positions_m: NDArray[np.float64]
    annotations: tuple[Annotation, ...]
    files: tuple[Path, ...]
    signal: Callable[[list[int]], Signal]
    bads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    epoched: bool = False
    whole_numbers: bool = False
    line_freq_hz: float | None = None
    state: Mapping[str, str] = field(default_factory=dict)
