"""What a model that knows nothing of a sample loses: the yardstick beside every loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples, Scorer
from ae_pipeline.detectors.baselines import PrincipalComponents, family_loss
from ae_pipeline.models.likelihoods import FAMILIES

__all__ = ["Chance"]


@dataclass(frozen=True)
class Chance:
    """Predict every sample by the training data's marginals.

    Parameters
    ----------
    flat : PrincipalComponents
        Without components: it predicts the mean of each entry.
    shares : dict of int to array of shape (levels,)
        How often each level of a column was given, one added to every count.
    families : str or dict
        One likelihood for all entries, or (family, levels) for each column.
    """

    flat: PrincipalComponents
    shares: dict[int, NDArray[np.float64]]
    families: dict[int, tuple[str, int]] | str

    @classmethod
    def fit(
        cls, samples: Samples, pca: Scorer, *, families: dict[int, tuple[str, int]] | str
    ) -> Chance:
        """Fit on the training part, whose principal components are known."""
        assert isinstance(pca, PrincipalComponents)
        flat = replace(pca, components=pca.components[:0])
        shares = {}
        if not isinstance(families, str):
            x, _, mask = flat.project(samples, slice(None))
            given = np.ones(x.shape, bool) if mask is None else mask
            for i, (family, levels) in families.items():
                if FAMILIES[family].needs_levels:
                    level = _levels(x[given[:, i], i], levels)
                    counts = np.bincount(level, minlength=levels) + 1.0
                    shares[i] = counts / counts.sum()
        return cls(flat, shares, families)

    def losses(self, samples: Samples) -> NDArray[np.float64]:
        """Return the mean loss per entry of each sample, (n,), natural logarithm."""
        if isinstance(self.families, str):
            return self.flat.losses(samples, self.families)
        x, again, mask = self.flat.project(samples, slice(None))
        lost = np.zeros(x.shape)
        for i, (family, levels) in self.families.items():
            if i in self.shares:
                lost[:, i] = -np.log(self.shares[i])[_levels(x[:, i], levels)]
            else:
                lost[:, i] = family_loss(family, levels, x=x[:, i], again=again[:, i], residual=1)
        given = np.ones(x.shape, bool) if mask is None else mask
        return np.asarray((lost * given).sum(1) / np.maximum(given.sum(1), 1), np.float64)


def _levels(x: NDArray[Any], n_levels: int) -> NDArray[np.int64]:
    """Number of each level; an answer that is not given has one that does not count."""
    level: NDArray[np.int64] = np.rint(x * (n_levels - 1)).astype(np.int64)
    return np.clip(level, 0, n_levels - 1)
