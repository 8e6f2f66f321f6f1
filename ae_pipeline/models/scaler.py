"""From the data's own units to the network's and back; fitted on training data only.

* EEG: microvolts divided by each channel's robust deviation (1.4826 x median absolute
  deviation) over the training population. One scale for all recordings, so that a recording
  with the wrong gain stays visible.
* Tables: continuous columns standardised; the levels of an item spread over 0 to 1.
* Images are 0 to 1 already.

Network units end at :data:`LIMIT`, so that an error can be squared and summed in float32 and
every score stays finite, whatever an amplifier wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.stats import robust_sd

if TYPE_CHECKING:
    from ae_pipeline.data import Samples

__all__ = ["LIMIT", "Scaler"]

Float = NDArray[np.float32]

LIMIT = 1e9
"""Deviations beyond which nothing is told apart any more."""


@dataclass(frozen=True)
class Scaler:
    """``(x - center) / scale`` along a sample's first axis (channels or items).

    Parameters
    ----------
    center, scale : array of shape (k,), float32
        One a channel or item; empty arrays mean that nothing is changed.
    """

    center: Float
    scale: Float

    @classmethod
    def fit(cls, samples: Samples, seed: int = 0) -> Scaler:
        """Learn the scale of ``samples`` (the training part, and nothing else).

        Parameters
        ----------
        samples : Samples
            EEG windows are sampled (at most 2,000 of them) for the median.
        seed : int
            Which of them.
        """
        nothing = np.zeros(0, np.float32)
        if samples.layout == "grid":
            return cls(nothing, nothing)
        if samples.layout == "series":
            rows = np.random.default_rng(seed).permutation(len(samples))[:2000]
            values, _ = samples.batch(np.sort(rows))
            # one channel at a time: all of them at once would stand in memory four times over
            spread = [_robust_deviation(values[:, k]) for k in range(samples.shape[0])]
            center = np.zeros(samples.shape[0], np.float32)
            return cls(center, _no_zero(np.array(spread, np.float32)))
        values, mask = samples.batch(slice(None))
        observed = np.where(mask, values, np.nan) if mask is not None else values
        center = np.zeros(samples.shape[0], np.float32)
        scale = np.ones(samples.shape[0], np.float32)
        for index, column in enumerate(samples.columns):
            if column.type == "continuous":
                known = observed[:, index][np.isfinite(observed[:, index])]
                if known.size:
                    center[index], scale[index] = known.mean(), known.std()
            else:
                center[index] = column.levels[0]
                scale[index] = column.levels[-1] - column.levels[0]
        return cls(center, _no_zero(scale))

    def transform(self, values: Float, mask: NDArray[np.bool_] | None = None) -> Float:
        """Data of shape (n, k, ...) to network units; 0 where ``mask`` is False."""
        if self.center.size == 0:
            return values
        center, scale = self._broadcast(values.ndim)
        with np.errstate(over="ignore"):  # what exceeds float32 is cut off with the rest
            scaled = (values - center) * np.reciprocal(scale)  # to the bit what a network is shown
        np.clip(scaled, -LIMIT, LIMIT, out=scaled)
        return scaled if mask is None else np.where(mask, scaled, np.float32(0))

    def inverse(self, values: Float) -> Float:
        """Network units of shape (n, k, ...) back to the data's own."""
        if self.center.size == 0:
            return values
        center, scale = self._broadcast(values.ndim)
        return values * scale + center

    def _broadcast(self, n_dims: int) -> tuple[Float, Float]:
        shape = (1, -1) + (1,) * (n_dims - 2)
        return self.center.reshape(shape), self.scale.reshape(shape)


def _robust_deviation(signal: Float) -> float:
    """1.4826 x median absolute deviation; the plain one where most of a signal stands still."""
    deviation = float(robust_sd(signal))
    return deviation if deviation > 0 else float(signal.std(dtype=np.float64))


def _no_zero(scale: Float) -> Float:
    """A channel that never moved keeps its unit: dividing by almost nothing invents a signal."""
    return np.where(scale > 1e-6, scale, np.float32(1)).astype(np.float32)
