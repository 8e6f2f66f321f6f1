"""What a reader of files hands on: names, types, rates, and a way to read the signal.

Conventions: microvolts, float32; times are seconds from the recording's start; positions are
metres in MNE's head frame, NaN where not known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, InputError

__all__ = ["Content", "Float", "Reader", "Signal", "check_bounds", "scale_of"]

Float = NDArray[np.float32]
Reader = Callable[[int, int], Float]
"""``reader(start, stop)``: (channels, stop - start) in microvolts."""


VOLTS = {"u": 1e-6, "micro": 1e-6, "m": 1e-3, "milli": 1e-3, "n": 1e-9, "nano": 1e-9, "": 1.0}


def scale_of(unit: str) -> float | None:
    """Return volts per unit (``uV``, ``µV``, ``microvolts``, ...); None for any other unit."""
    bare = re.sub("[\u00b5\u03bc]|\x83\xca", "u", unit.strip()).lower()
    found = re.fullmatch(r"(u|micro|m|milli|n|nano|)(v|volts?)", bare)
    return VOLTS[found[1]] if found else None


HIGHEST_HZ, LONGEST_S = 1e6, 100 * 365.25 * 86400
"""No amplifier is faster and no recording longer; a header that says so is damaged."""


def check_bounds(name: str, rates_hz: Iterable[float], duration_s: float) -> None:
    """Check that sampling rates and the length are possible, before anything is allocated.

    Parameters
    ----------
    name : str
        File name, for the message.
    rates_hz : iterable of float
    duration_s : float

    Raises
    ------
    InputError
        A rate above 1 MHz, a time beyond a century, or either not a number.
    """
    for rate_hz in rates_hz:
        if not 0 <= rate_hz <= HIGHEST_HZ:
            raise InputError(
                f"{name}: its header gives a sampling rate of {rate_hz:.4g} Hz; EEG is sampled "
                "at up to 1 MHz. The header is damaged; export the file again"
            )
    if not (math.isfinite(duration_s) and abs(duration_s) <= LONGEST_S):
        raise InputError(
            f"{name}: its header gives times of {duration_s:.4g} s, beyond a century. The header "
            "is damaged; export the file again"
        )


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
    codes: Callable[[int], Iterable[tuple[float, NDArray[np.float64]]]] | None = None
    """``codes(row)``: one channel's stored values, unscaled, in blocks with their onset (s)."""
    volts: tuple[float, ...] = ()
    """What the reader took a one in each channel for, in volts; empty where not known."""
    bads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    epoched: bool = False
    whole_numbers: bool = False
    line_freq_hz: float | None = None
    state: Mapping[str, str] = field(default_factory=dict)
    orig_time: datetime | None = None
    """When the recording began, as MNE reads it from the file (``info["meas_date"]``)."""
    first_time_s: float = 0.0
    """From ``orig_time`` to the first sample; more than 0 where a FIF file was cropped."""
