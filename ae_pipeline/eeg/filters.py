"""One FIR kernel for band-pass and notch, and resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Filter",
    "lowest_high_pass_hz",
    "resampling_margin",
    "resampling_taps",
]


Float = NDArray[np.float32]


HAMMING_LENGTH = 3.3
"""Length of a Hamming-windowed FIR kernel times its narrowest transition (s Hz), as in MNE."""


@dataclass(frozen=True)
class Filter:
    """What the FIR kernel is made from; equal filters have equal kernels.

    Parameters
    ----------
    sfreq_hz : float
        Rate of the signal that is filtered.
    high_pass_hz, low_pass_hz : float, optional
        Edges of the pass band; transitions lie outside of it.
    low_transition_hz : float
        Width of the transition above ``low_pass_hz``.
    notch_hz : tuple of float
    """

    sfreq_hz: float
    high_pass_hz: float | None
    low_pass_hz: float | None
    low_transition_hz: float
    notch_hz: tuple[float, ...] = ()

    @property
    def band_pass(self) -> NDArray[np.float64]:
        """Kernel of the band-pass alone; it is what has to fit into a segment."""
        return _band_pass(self)

    @property
    def kernel(self) -> NDArray[np.float64]:
        """Band-pass and notch in one: symmetric, of odd length."""
        return _kernel(self)


def lowest_high_pass_hz(segment_s: float, sfreq_hz: float = 100.0) -> float:
    """Lowest ``high_pass_hz`` whose kernel fits an uninterrupted stretch of ``segment_s``.

    The transition below the high-pass is as wide as the frequency itself up to 2 Hz, then 2 Hz,
    then a quarter of the frequency (MNE's rule), and the kernel lasts 3.3 / transition seconds,
    rounded up to an odd number of samples at ``sfreq_hz`` (or any higher rate).
    """
    room_s = segment_s - 2 / sfreq_hz
    if room_s <= 0:
        return math.inf
    transition = HAMMING_LENGTH / room_s
    frequency = transition if transition <= 2 else 4 * transition
    return math.ceil(frequency * 1000) / 1000


@lru_cache(maxsize=32)
def _band_pass(design: Filter) -> NDArray[np.float64]:
    if design.high_pass_hz is None and design.low_pass_hz is None:
        return np.ones(1)
    from mne.filter import create_filter

    kernel: NDArray[np.float64] = create_filter(
        None,
        design.sfreq_hz,
        design.high_pass_hz,
        design.low_pass_hz,
        h_trans_bandwidth=design.low_transition_hz or "auto",
        verbose="ERROR",
    )
    return kernel


@lru_cache(maxsize=32)
def _kernel(design: Filter) -> NDArray[np.float64]:
    kernel = _band_pass(design)
    if not design.notch_hz:
        return kernel
    from mne.filter import create_filter

    notch = np.array(design.notch_hz)
    half_width = notch / 400 + 0.5  # mne.filter.notch_filter's defaults
    stop_band = create_filter(
        None,
        design.sfreq_hz,
        notch + half_width,
        notch - half_width,
        l_trans_bandwidth=0.5,
        h_trans_bandwidth=0.5,
        verbose="ERROR",
    )
    return np.convolve(kernel, stop_band)


def resampling_margin(up: int, down: int) -> int:
    """Input samples that the resampling kernel reaches to either side, a multiple of ``down``."""
    if up == down:
        return 0
    return math.ceil((10 * max(up, down) / up + 1) / down) * down


@lru_cache(maxsize=32)
def resampling_taps(up: int, down: int) -> Float | None:
    """SciPy's (and MNE's) default anti-aliasing kernel for ``resample_poly``."""
    if up == down:
        return None
    from scipy.signal import firwin

    most = max(up, down)
    taps: Float = firwin(20 * most + 1, 1 / most, window=("kaiser", 5.0)).astype(np.float32)
    return taps
