"""How alike generated and real data are: marginals, correlations, spectra, a classifier, copies.

Everything is measured in network units (see ``scaler.py``), against real data that the model was
not trained on. Where a figure has no natural scale, the same figure of other real data stands
beside it: real against real is as alike as can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.detectors.baselines import features
from ae_pipeline.models.scaler import Scaler

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Likeness", "compare", "copies", "correlations", "marginals", "spectra", "two_samples"]

Float = NDArray[np.float64]

MOST = 2_000
"""Samples of each kind that are compared."""

MAX_ENTRIES = 64
"""Entries whose correlations are compared; more are thinned out evenly."""


@dataclass(frozen=True)
class Likeness:
    """Generated against real.

    Parameters
    ----------
    figures : dict
        For ``metrics``: every figure with its interval and its value for other real data.
    marginals : DataFrame
        ``entry``, ``real_mean``, ``generated_mean``, ``real_sd``, ``generated_sd``, ``distance``.
    names : tuple of str
        Entries of the correlation matrices.
    real, generated : array of shape (k, k)
        Correlations.
    freqs_hz, real_power, generated_power : array
        EEG: mean log10 power over channels (frequencies,), else empty.
    """

    figures: dict[str, Any]
    marginals: pd.DataFrame
    names: tuple[str, ...]
    real: Float
    generated: Float
    freqs_hz: Float
    real_power: Float
    generated_power: Float


def compare(generated: Samples, held_out: Samples, *, train: Samples, scaler: Scaler) -> Likeness:
    """Everything at once.

    Parameters
    ----------
    generated : Samples
    held_out : Samples
        Real, and never seen by the model.
    train : Samples
        What the model was trained on.
    scaler : Scaler
    """
    rng = np.random.default_rng(0)
    drawn, real, learned = (_some(samples, rng) for samples in (generated, held_out, train))
    table = marginals(drawn, real, scaler=scaler)
    names, real_r, generated_r = correlations(drawn, real, scaler=scaler)
    _, _, train_r = correlations(learned, real, scaler=scaler)
    upper = np.triu_indices(len(names), 1)

    def away(r: Float) -> float | None:
        return float(np.abs(r[upper] - real_r[upper]).mean()) if len(upper[0]) else None

    freqs_hz, power = spectra([real, drawn, learned])
    figures: dict[str, Any] = {
        "generated": len(generated),
        "compared": len(drawn),
        "held_out": len(real),
        "marginal_distance": {
            "value": float(table["distance"].mean()),
            "training_data": float(marginals(learned, real, scaler=scaler)["distance"].mean()),
        },
        "correlation_difference": {"value": away(generated_r), "training_data": away(train_r)},
        "two_samples": {
            **two_samples(drawn, real, scaler=scaler),
            "training_data": two_samples(learned, real, scaler=scaler)["area"],
        },
        "copies": copies(drawn, real, train=learned, scaler=scaler),
    }
    if len(freqs_hz):
        figures["spectrum_difference_db"] = {
            "value": float(10 * np.abs(power[1] - power[0]).mean()),
            "training_data": float(10 * np.abs(power[2] - power[0]).mean()),
        }
    return Likeness(figures, table, names, real_r, generated_r, freqs_hz, power[0], power[1])


def _some(samples: Samples, rng: np.random.Generator) -> Samples:
    """A random choice in random order, so that any first part of it is one, too."""
    return samples.take(rng.permutation(len(samples))[:MOST])


def _matrix(samples: Samples, scaler: Scaler) -> Float:
    """Samples in network units, (n, p); NaN where missing."""
    values, mask = samples.batch(slice(None))
    x = scaler.transform(values, mask).astype(np.float64)
    if mask is not None:
        x[~mask] = np.nan
    flat: Float = x.reshape(len(x), -1)
    return flat


def _by_entry(samples: Samples, scaler: Scaler) -> tuple[tuple[str, ...], Float]:
    """What has a distribution of its own, (values, entries): items, channels, blocks of pixels."""
    if samples.layout == "grid":
        blocks = features(samples, scaler, rows=slice(None))[:, 0].astype(np.float64)
        return tuple(f"block {i + 1}" for i in range(blocks.shape[1])), blocks
    if samples.layout == "table":
        return samples.entries, _matrix(samples, scaler)
    x = _matrix(samples, scaler).reshape(len(samples), *samples.shape)
    return samples.entries, x.transpose(0, 2, 1).reshape(-1, samples.shape[0])


def marginals(generated: Samples, real: Samples, *, scaler: Scaler) -> pd.DataFrame:
    """Mean, spread, and the largest difference of the distribution functions of each entry.

    The distance is Kolmogorov's and Smirnov's: 0 alike, 1 apart.
    """
    import pandas as pd
    from scipy.stats import ks_2samp

    names, drawn = _by_entry(generated, scaler)
    _, known = _by_entry(real, scaler)
    rows = []
    for j, name in enumerate(names):
        a, b = (column[np.isfinite(column)] for column in (known[:, j], drawn[:, j]))
        if not len(a) or not len(b):
            continue
        a, b = (column[:: max(1, len(column) // 20_000)] for column in (a, b))
        rows.append(
            {
                "entry": name,
                "real_mean": a.mean(),
                "generated_mean": b.mean(),
                "real_sd": a.std(),
                "generated_sd": b.std(),
                "distance": float(ks_2samp(a, b, method="asymp").statistic),
            }
        )
    return pd.DataFrame(rows)


def correlations(
    generated: Samples, real: Samples, *, scaler: Scaler
) -> tuple[tuple[str, ...], Float, Float]:
    """Correlations between entries: names, real ones, generated ones."""
    import pandas as pd

    names, drawn = _by_entry(generated, scaler)
    _, known = _by_entry(real, scaler)
    kept = np.unique(np.linspace(0, len(names) - 1, min(len(names), MAX_ENTRIES)).astype(int))

    def r(x: Float) -> Float:
        few = x[:: max(1, len(x) // 50_000), kept]
        found = pd.DataFrame(few).corr(min_periods=10).to_numpy(np.float64, na_value=0.0)
        return np.asarray(np.nan_to_num(found), dtype=np.float64)

    return tuple(names[i] for i in kept), r(known), r(drawn)


def spectra(each: list[Samples]) -> tuple[Float, list[Float]]:
    """Mean log10 power over windows and channels at each frequency; empty for other data."""
    first = each[0]
    if first.layout != "series" or first.sfreq_hz is None:
        return np.zeros(0), [np.zeros(0)] * len(each)
    n_times = first.shape[1]
    freqs_hz = np.fft.rfftfreq(n_times, 1 / first.sfreq_hz)
    keep = (freqs_hz >= 1) & (freqs_hz <= min(45.0, 0.9 * first.sfreq_hz / 2))
    found: list[Float] = []
    for samples in each:
        values, _ = samples.batch(slice(None))
        power = np.abs(np.fft.rfft(values * np.hanning(n_times).astype(np.float32), axis=2)) ** 2
        mean = power[:, :, keep].mean((0, 1)).astype(np.float64)
        found.append(np.log10(mean + 1e-12))
    return np.asarray(freqs_hz[keep], dtype=np.float64), found


def two_samples(generated: Samples, real: Samples, *, scaler: Scaler) -> dict[str, Any]:
    """How well a classifier tells generated from real (Lopez-Paz and Oquab, 2017).

    A random forest on pixels, answers, or log powers of channels; the area under its curve on
    samples it was not fitted on. 0.5: it cannot; 1: always.

    Returns
    -------
    dict
        ``area`` and ``interval`` (95%, Hanley and McNeil, 1982).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    n = min(len(generated), len(real))
    parts = []
    for samples in (real, generated):
        few = samples.take(slice(0, n)) if len(samples) > n else samples
        if samples.layout == "series":
            seen = features(few, scaler, rows=slice(None)).reshape(len(few), -1).astype(np.float64)
        else:
            seen = _matrix(few, scaler)
        parts.append(np.nan_to_num(seen, nan=-9.0))
    if n < 20:
        return {"area": None, "interval": None}
    x, y = np.concatenate(parts), np.repeat([0, 1], n)
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    p = cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]
    area = float(roc_auc_score(y, p))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n - 1) * (q1 - area**2 + q2 - area**2)
    half = 1.96 * np.sqrt(max(spread, 0.0)) / n
    return {"area": area, "interval": [max(0.0, area - half), min(1.0, area + half)]}


def copies(
    generated: Samples, held_out: Samples, *, train: Samples, scaler: Scaler
) -> dict[str, Any]:
    """Whether training samples were memorised (after Meehan, Chaudhuri and Dasgupta, 2020).

    Of as many training as held-out samples, the nearest to a generated one is a training sample
    half of the time where nothing was memorised. The distances tell how near it is.

    Returns
    -------
    dict
        ``nearest_is_training`` with ``value``, ``interval`` (95%) and ``expected`` 0.5;
        ``distance_to_training`` (median of generated) beside ``held_out_to_training`` (median of
        held-out); ``identical`` (share of generated that equal a training sample) beside
        ``held_out_identical``; ``memorised``.
    """
    from scipy.stats import binomtest

    drawn, real, learned = (np.nan_to_num(_matrix(s, scaler)) for s in (generated, held_out, train))
    n = min(len(real), len(learned))
    to_train = _nearest(drawn, learned[:n])
    to_real = _nearest(drawn, real[:n])
    between = _nearest(real[:n], learned[:n])
    clear = to_train != to_real
    found: dict[str, Any] = {
        "distance_to_training": float(np.median(to_train)),
        "distance_to_held_out": float(np.median(to_real)),
        "held_out_to_training": float(np.median(between)),
        "identical": float((to_train < 1e-5).mean()),
        "held_out_identical": float((between < 1e-5).mean()),
        "nearest_is_training": {"value": None, "interval": None, "expected": 0.5},
        "memorised": None,
    }
    if clear.sum() >= 20:
        test = binomtest(int((to_train < to_real)[clear].sum()), int(clear.sum()))
        span = test.proportion_ci()
        found["nearest_is_training"] |= {
            "value": float(test.statistic),
            "interval": [float(span.low), float(span.high)],
        }
        found["memorised"] = bool(span.low > 0.5)
    return found


def _nearest(points: Float, others: Float) -> Float:
    """Root mean square distance of each point to the nearest of the others."""
    best = np.full(len(points), np.inf)
    squared = (others**2).sum(1)
    for start in range(0, len(points), 256):
        few = points[start : start + 256]
        distance = (few**2).sum(1)[:, None] + squared - 2 * few @ others.T
        best[start : start + 256] = distance.min(1)
    return np.asarray(np.sqrt(np.maximum(best, 0) / points.shape[1]), dtype=np.float64)
