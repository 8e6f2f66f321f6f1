"""Robust spread, intervals and the bootstrap: how large and how sure a number is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CurveAreas",
    "mean_interval",
    "median_and_robust_sd",
    "percentile_interval",
    "poisson_interval",
    "resampled_weights",
    "robust_sd",
    "share_interval",
]

Float = NDArray[np.float64]

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for normal data."""

N_RESAMPLES = 1000

N_LEVELS = 1000
"""Resamples, not the areas themselves, tell no more scores of positives apart than this."""

MIN_UNITS = 3
"""With fewer exchangeable units than this there is no interval."""


# ---------------------------------------------------------------------------------- spread


def robust_sd(
    values: NDArray[Any],
    axis: int | None = None,
    *,
    center: Any = None,
    omit_nan: bool = False,
) -> Any:
    """Return the robust standard deviation (1.4826 x median absolute deviation).

    Parameters
    ----------
    values : array
    axis : int, optional
        Of all values together by default.
    center : float or array, optional
        What deviations are measured from; the median by default.
    omit_nan : bool
        Leave missing values out rather than hand them on.

    Returns
    -------
    array or scalar
        In the precision of ``values``.

    Notes
    -----
    Not :func:`scipy.stats.median_abs_deviation`: its ``scale="normal"`` (1.482602) would change
    models in the sixth digit, and it computes the median again that most callers need, too.
    """
    median = np.nanmedian if omit_nan else np.median
    if center is None:
        center = median(values, axis=axis, keepdims=True)
    return MAD_TO_SD * median(np.abs(values - center), axis=axis)


def median_and_robust_sd(values: NDArray[Any], axis: int = 0) -> tuple[Any, Any]:
    """Return the median and :func:`robust_sd` along an axis."""
    center = np.median(values, axis=axis)
    return center, robust_sd(values, axis, center=np.expand_dims(center, axis))


# ------------------------------------------------------------------------------- intervals


def mean_interval(values: Float) -> list[float] | None:
    """Return the 95% interval of a mean over exchangeable units (Student's t).

    None for fewer than :data:`MIN_UNITS`.
    """
    from scipy.stats import sem, t

    n = len(values)
    if n < MIN_UNITS:
        return None
    mean, half = values.mean(), t.ppf(0.975, n - 1) * sem(values)
    return [float(mean - half), float(mean + half)]


def share_interval(k: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share, ``k`` of ``n`` > 0 (Wilson, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(k, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def poisson_interval(n_events: int) -> tuple[float, float]:
    """Return the exact 95% interval of an expected count (Garwood, 1936)."""
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * n_events)) / 2 if n_events else 0.0
    return low, float(chi2.ppf(0.975, 2 * n_events + 2)) / 2


def percentile_interval(resampled: Float) -> list[float] | None:
    """Return the 95% interval of resamples; those in which a number is undefined do not count."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]


def resampled_weights(
    n_units: int, n_resamples: int | None = None, *, rows: int | None = None
) -> Iterator[Float]:
    """Yield how often each unit counts: once (first row), then as often as it is drawn.

    Parameters
    ----------
    n_units : int
        Exchangeable units, drawn as a whole; fewer than :data:`MIN_UNITS` are not resampled.
    n_resamples : int, optional
    rows : int, optional
        Resamples at a time; all of them by default.

    Yields
    ------
    array of shape (rows, n_units)
        The same at every call, so that what is compared is paired.

    Notes
    -----
    Weights, and not :func:`scipy.stats.bootstrap`: every number here is a function of sums over
    units, so one matrix product gives it for all resamples without a copy of the data.
    """
    rng = np.random.default_rng(0)
    yield np.ones((1, n_units))
    left = (N_RESAMPLES if n_resamples is None else n_resamples) if n_units >= MIN_UNITS else 0
    while left > 0:
        size = left if rows is None else min(rows, left)
        yield rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=size).astype(float)
        left -= size


# ------------------------------------------------------------------------------------ areas


class CurveAreas:
    """Areas under ROC and precision-recall curves of several scorers, with intervals over units.

    Parameters
    ----------
    scores : dict of str to array of shape (n,)
        By scorer; differences are against the first.
    codes : array of int of shape (n,)
        Number of each row's exchangeable unit: 0, 1, ...
    n_resamples : int, optional
    """

    def __init__(
        self, scores: dict[str, Float], codes: NDArray[np.int64], *, n_resamples: int | None = None
    ) -> None:
        self.scores, self.codes, self.n_resamples = scores, codes, n_resamples
        self.n_units = int(codes.max()) + 1

    def of(self, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the areas of some rows against others, with intervals, by scorer."""
        default: Float | None = None
        result = {}
        for name, values in self.scores.items():
            roc, precision = self.curves(values, positive, negative=negative)
            default = roc if default is None else default
            difference = default - roc
            result[name] = {
                "roc_area": float(roc[0]),
                "interval": percentile_interval(roc[1:]),
                "average_precision": float(precision[0]),
                "average_precision_interval": percentile_interval(precision[1:]),
                "difference": float(difference[0]),
                "difference_interval": percentile_interval(difference[1:]),
            }
        return result

    def curves(
        self, values: Float, positive: NDArray[np.bool_], *, negative: NDArray[np.bool_]
    ) -> tuple[Float, Float]:
        """Return both areas, of the data and of every resample; NaN where a class is missing."""
        exact = self._count(values, positive, negative=negative)
        coarse = self._count(values, positive, negative=negative, n_levels=N_LEVELS)
        rows = 1 + int(4e6) // max(coarse[1].shape[1], self.n_units)  # what memory holds at once
        weights = resampled_weights(self.n_units, self.n_resamples, rows=rows)
        parts = [_areas(each, *(coarse if n else exact)) for n, each in enumerate(weights)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _count(
        self,
        values: Float,
        positive: NDArray[np.bool_],
        *,
        negative: NDArray[np.bool_],
        n_levels: int | None = None,
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
