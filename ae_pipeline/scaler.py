"""From the data's own units to the network's and back; fitted on training data only.

* EEG: microvolts divided by each channel's robust deviation (1.4826 x median absolute
  deviation) over the training population. One scale for all recordings, so that a recording
  with the wrong gain stays visible.
* Tables: continuous columns standardised; the levels of an item spread over 0 to 1.
* Images are 0 to 1 already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ae_pipeline.data import Samples

__all__ = ["Scaler"]

Float = NDArray[np.float32]


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
        if samples.kind == "mnist":
            return cls(nothing, nothing)
        if samples.kind == "eeg":
            rows = np.random.default_rng(seed).permutation(len(samples))[:2000]
            values, _ = samples.batch(np.sort(rows))
            by_channel = np.moveaxis(values, 1, 0).reshape(samples.shape[0], -1)
            center = np.zeros(samples.shape[0], np.float32)
            spread = 1.4826 * np.median(
                np.abs(by_channel - np.median(by_channel, 1, keepdims=True)), 1
            )
            return cls(center, _no_zero(spread.astype(np.float32)))
        assert samples.mask is not None or isinstance(samples.values, np.ndarray)
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
        scaled = (values - center) / scale
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


def _no_zero(scale: Float) -> Float:
    """A channel that never moved keeps its unit: dividing by (almost) zero would invent a signal."""
    return np.where(scale > 1e-6, scale, np.float32(1)).astype(np.float32)
