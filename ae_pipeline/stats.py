"""Intervals and bootstrap: how sure a number is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "interval",
]


def interval(differences: NDArray[np.float64]) -> list[float] | None:
    """95% interval of a mean over exchangeable units (Student's t); None for fewer than three."""
    from scipy.stats import t

    n = len(differences)
    if n < 3:
        return None
    half = t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    mean = differences.mean()
    return [float(mean - half), float(mean + half)]


Float = NDArray[np.float64]


N_RESAMPLES = 1000


N_LEVELS = 1000
"""Resamples, not the areas themselves, tell no more scores of positives apart than this."""


MIN_UNITS = 3
"""With fewer subjects than this there is no interval."""


def _weights(n_units: int, rows: int) -> Iterator[Float]:
    """How often each unit counts: once (first row), then as often as it is drawn.

    In blocks of ``rows``, and the same at every call: what is compared is paired.
    """
    rng = np.random.default_rng(0)
    yield np.ones((1, n_units))
    left = N_RESAMPLES if n_units >= MIN_UNITS else 0
    while left > 0:
        draws = [rng.integers(n_units, size=n_units) for _ in range(min(rows, left))]
        yield np.array([np.bincount(draw, minlength=n_units) for draw in draws], float)
        left -= len(draws)


def _interval(resampled: Float) -> list[float] | None:
    """95% percentile interval; draws in which a number is undefined do not count."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]


class _Areas:
    """Areas of all scorers under ROC and precision-recall curves, with intervals over units."""

    def __init__(self, scores: dict[str, Float], codes: NDArray[np.int64]) -> None:
        self.scores, self.codes = scores, codes
        self.n_units = int(codes.max()) + 1

    def of(self, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> dict[str, Any]:
        """Some rows against others."""
        default: Float | None = None
        result = {}
        for name, values in self.scores.items():
            roc, precision = self._curves(values, positive, negative=negative)
            default = roc if default is None else default
            difference = default - roc
            result[name] = {
                "roc_area": float(roc[0]),
                "interval": _interval(roc[1:]),
                "average_precision": float(precision[0]),
                "average_precision_interval": _interval(precision[1:]),
                "difference": float(difference[0]),
                "difference_interval": _interval(difference[1:]),
            }
        return result

    def _curves(
        self, values: Float, positive: NDArray[np.bool_], *, negative: NDArray[np.bool_]
    ) -> tuple[Float, Float]:
        """Both areas, of the data and of every resample; NaN where a class is missing."""
        exact = self._count(values, positive, negative=negative, n_levels=None)
        coarse = self._count(values, positive, negative=negative, n_levels=N_LEVELS)
        rows = 1 + int(4e6) // max(coarse[1].shape[1], self.n_units)  # what memory holds at once
        parts = [
            _areas(weights, *(coarse if n else exact))
            for n, weights in enumerate(_weights(self.n_units, rows))
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _count(
        self,
        values: Float,
        positive: NDArray[np.bool_],
        *,
        negative: NDArray[np.bool_],
        n_levels: int | None,
    ) -> tuple[Any, Any]:
        """Positives and negatives of each unit at the levels where positives stand.

        Nothing between those levels matters to either curve. Returns tables of shape
        (units, n) and (units, 2n + 1): column 2k + 1 of the second is level k, column 2k lies
        under it. More than ``n_levels`` neighbouring levels are counted as one.
        """
        from scipy.sparse import coo_array

        levels, level = np.unique(values[positive], return_inverse=True)
        step = 1 if n_levels is None else -(-len(levels) // n_levels)
        own = values[negative]
        under = np.searchsorted(levels, own)
        equal = levels[np.minimum(under, len(levels) - 1)] == own
        within = equal | ((under % step > 0) & (under < len(levels)))
        place = np.where(within, 2 * (under // step) + 1, 2 * -(-under // step))
        n = -(-len(levels) // step)
        tables = []
        for rows, at, width in ((positive, level // step, n), (negative, place, 2 * n + 1)):
            ones = np.ones(len(at))
            table = coo_array((ones, (self.codes[rows], at)), shape=(self.n_units, width))
            # a small table is faster in full, that of many rows would not fit
            tables.append(table.toarray() if self.n_units * width < 5e6 else table.tocsr())
        return tables[0], tables[1]


def _areas(weights: Float, positives: Any, negatives: Any) -> tuple[Float, Float]:
    """Areas under ROC and precision-recall curves for each row of unit weights."""
    hits, others = weights @ positives, weights @ negatives
    under = np.cumsum(others, axis=1)
    everything = under[:, -1]
    below, ties = under[:, 0:-1:2], others[:, 1::2]
    found = np.cumsum(hits[:, ::-1], axis=1)[:, ::-1]  # at a level and above
    alarms = everything[:, None] - below
    total = found[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = np.einsum("ij,ij->i", hits, below + ties / 2) / (total * everything)
        share = (hits * found / np.maximum(found + alarms, 1)).sum(1)
        # a class that was not drawn leaves nothing to say
        return roc, np.where(everything > 0, share / total, np.nan)


def _wilson(k: int, n: int) -> tuple[float, float]:
    z = 1.96
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
