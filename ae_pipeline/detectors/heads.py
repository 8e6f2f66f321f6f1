"""Heads fitted, judged and applied: what the code says of a label that some samples have.

A fitted head is linear on standardised features: a logistic regression (classes, weighted to be
equally frequent, so that a rare one is predicted, too) or a ridge regression (numbers), kept as
arrays. What it is worth is judged by subjects it was not fitted on:
by cross-validation in which a subject is never on both sides, and by the held-out parts. Intervals
are bootstraps over subjects, because windows of one person are not independent. Beside every
figure stand chance and the same reading of simple features of the input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Samples
from ae_pipeline.detectors.baselines import CHUNK, features
from ae_pipeline.models.heads import Head
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.stats import percentile_interval, resampled_weights

if TYPE_CHECKING:
    from ae_pipeline.training.known import Known

__all__ = [
    "FittedHead",
    "column_name",
    "cross_validate",
    "describe",
    "fit_head",
    "head_features",
    "head_numbers",
    "judge_head",
]

MAX_FIT_ROWS = 10_000
"""A linear reading of a few features needs no more."""

PENALTIES = (0.01, 0.1, 1.0)
FOLDS = 5
BOOTSTRAPS = 2_000

MIN_SUBJECTS = 8
"""With fewer subjects than this a head's figures have no interval."""


# ------------------------------------------------------------------------------- labels


# ------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class FittedHead:
    """A linear reading, as arrays.

    Parameters
    ----------
    head : Head
    classes : tuple of str
        Empty for regression.
    fill, center, scale : array of shape (p,)
        What stands for a missing feature, and the standardisation.
    weights : array of shape (p, k)
    bias : array of shape (k,)
        k classes (2 for two), or 1 number.
    """

    head: Head
    classes: tuple[str, ...]
    fill: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        names = ("fill", "center", "scale", "weights", "bias")
        return {name: getattr(self, name) for name in names}

    def outputs(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (n, classes), or predicted numbers (n, 1), from features (n, p)."""
        x = (np.where(np.isfinite(x), x, self.fill) - self.center) / self.scale
        linear: NDArray[np.float64] = x @ self.weights + self.bias
        if not self.classes:
            return linear
        linear = linear - linear.max(1, keepdims=True)
        raised = np.exp(linear)
        return np.asarray(raised / raised.sum(1, keepdims=True), dtype=np.float64)

    def predict(
        self, samples: Samples, latents: NDArray[Any], scaler: Scaler
    ) -> dict[str, NDArray[Any]]:
        """Columns for a scores file: ``predicted_TARGET``, and a probability for each class."""
        outputs = self.outputs(
            head_features(self.head.from_, samples, latents=latents, scaler=scaler)
        )
        target = column_name(self.head.target)
        if not self.classes:
            return {f"predicted_{target}": outputs[:, 0]}
        names = np.array(self.classes, dtype=object)
        found: dict[str, NDArray[Any]] = {f"predicted_{target}": names[outputs.argmax(1)]}
        for i, name in enumerate(self.classes):
            found[f"probability_{target}_{column_name(name)}"] = outputs[:, i]
        return found


def column_name(text: str) -> str:
    """What a target or class is called within a column's name: no spaces."""
    return re.sub(r"\s+", "_", text.strip())


def head_features(
    what: Literal["latents", "input", "both"],
    samples: Samples,
    *,
    latents: NDArray[Any],
    scaler: Scaler,
) -> NDArray[np.float64]:
    """What a head reads: codes, simple features of the input, or both, (n, p), NaN if missing."""
    parts = [] if what == "input" else [np.asarray(latents, dtype=np.float64)]
    if what != "latents":
        chunks = [features(samples, scaler, rows=rows) for rows in samples.chunks(CHUNK)]
        parts.append(np.concatenate([c.reshape(len(c), -1) for c in chunks]).astype(np.float64))
    return np.concatenate(parts, 1)


def fit_head(
    known: Known, x: NDArray[np.float64], *, rows: NDArray[np.int64], seed: int
) -> FittedHead:
    """Fit on the labelled among ``rows``.

    Parameters
    ----------
    known : Known
    x : array of shape (n, p)
        Features of all samples, as :func:`head_features` gives them.
    rows : array of int
    seed : int
        Which rows, where there are more than a linear reading needs.

    Raises
    ------
    InputError
        Where fewer than two classes (or subjects) are among them.
    """
    rows = rows[known.is_known[rows]]
    if len(rows) > MAX_FIT_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MAX_FIT_ROWS])
    y, unit = known.values[rows], known.unit[rows]
    if len(np.unique(y)) < 2 or len(np.unique(unit)) < 2:
        raise InputError(
            f"model.head.target {known.head.target!r}: the training part knows "
            f"{len(np.unique(y))} different value(s) of {len(np.unique(unit))} subject(s), too "
            "few to learn from; label more, or lower the shares of split"
        )
    seen = x[rows]
    given = np.isfinite(seen)
    fill = np.where(given, seen, 0).sum(0) / np.maximum(given.sum(0), 1)
    seen = np.where(given, seen, fill)
    center, scale = seen.mean(0), seen.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = (seen - center) / scale
    weights, bias = (_logistic if known.classes else _ridge)(
        z, y, unit=unit, known=known, seed=seed
    )
    return FittedHead(known.head, known.classes, fill, center, scale, weights, bias)


def _inner(unit: NDArray[np.str_], n: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds that choose a penalty; no subject on both sides."""
    from sklearn.model_selection import GroupKFold

    n = min(n, len(np.unique(unit)))
    return list(GroupKFold(n).split(unit, groups=unit)) if n > 1 else []


def _logistic(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    unit: NDArray[np.str_],
    known: Known,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression

    def make(penalty: float) -> Any:
        # as if classes were equally frequent: else a rare one would never be predicted
        return LogisticRegression(C=penalty, max_iter=300, tol=1e-3, class_weight="balanced")

    best = PENALTIES[-1]
    few = np.sort(np.random.default_rng(seed).permutation(len(z))[:2_000])
    folds = [(few[a], few[b]) for a, b in _inner(unit[few], 3) if len(np.unique(y[few[a]])) > 1]
    if folds:
        losses = []
        for penalty in PENALTIES:
            loss = 0.0
            for inside, outside in folds:
                model = make(penalty).fit(z[inside], y[inside])
                p = np.full((len(outside), len(known.classes)), 1e-6)
                p[:, model.classes_.astype(int)] = model.predict_proba(z[outside])
                truth = y[outside].astype(int)
                chosen = np.log(np.maximum(p[np.arange(len(outside)), truth], 1e-6))
                loss -= float((chosen / np.bincount(truth)[truth]).sum())
            losses.append(loss)
        best = PENALTIES[int(np.argmin(losses))]
    model = make(best).fit(z, y)
    n_classes = len(known.classes)
    weights = np.zeros((z.shape[1], n_classes))
    bias = np.full(n_classes, -30.0)  # a class that no training row has is never predicted
    there = model.classes_.astype(int)
    if len(there) == 2:
        weights[:, there[1]], bias[there] = model.coef_[0], [0.0, float(model.intercept_[0])]
    else:
        weights[:, there], bias[there] = model.coef_.T, model.intercept_
    return weights, bias


def _ridge(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    unit: NDArray[np.str_],
    known: Known,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.linear_model import RidgeCV

    penalties = len(z) * np.logspace(-4, 1, 6)
    model = RidgeCV(penalties, cv=_inner(unit, 3) or None).fit(z, y)
    return model.coef_.reshape(-1, 1), np.atleast_1d(model.intercept_).astype(np.float64)


# ------------------------------------------------------------------------------ judging


def cross_validate(
    known: Known,
    rows: NDArray[np.int64],
    *,
    seed: int,
    predict: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
) -> dict[str, Any] | None:
    """Predict every labelled row by a head that was fitted on other subjects.

    Parameters
    ----------
    known : Known
    rows : array of int
        Rows that may be used on either side.
    seed : int
        Which subjects stand together.
    predict : callable
        ``predict(inside, outside)`` gives the outputs of ``outside``, fitted on ``inside``.

    Returns
    -------
    dict or None
        As :func:`judge_head` with ``folds``; None where subjects are too few.
    """
    rows = rows[known.is_known[rows]]
    units = np.unique(known.unit[rows])
    n_folds = min(FOLDS, len(units))
    if n_folds < 3:
        return None
    folds = _deal(known, rows, units=units, n_folds=n_folds, seed=seed)
    outputs = np.full((len(rows), max(1, len(known.classes))), np.nan)
    for fold in range(n_folds):
        outside = folds == fold
        inside = rows[~outside]
        if len(np.unique(known.values[inside])) < 2 or not outside.any():
            return None
        outputs[outside] = predict(inside, rows[outside])
    return {"folds": n_folds, **judge_head(known, rows, outputs=outputs)}


def _deal(
    known: Known, rows: NDArray[np.int64], *, units: NDArray[np.str_], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """A fold for each row: whole subjects, each class (or third of the range) spread evenly."""
    values = known.values[rows]
    _, place = np.unique(known.unit[rows], return_inverse=True)
    mean = np.bincount(place, values) / np.bincount(place)
    order = np.random.default_rng(seed).permutation(len(units))
    order = order[np.argsort(mean[order], kind="stable")]
    fold = np.empty(len(units), np.int64)
    fold[order] = np.arange(len(units)) % n_folds
    return fold[place]


def judge_head(
    known: Known, rows: NDArray[np.int64], *, outputs: NDArray[np.float64]
) -> dict[str, Any]:
    """How right outputs are, with 95% intervals over subjects.

    Returns
    -------
    dict
        ``rows``, ``subjects``; classes: ``balanced_accuracy`` (what counts), ``accuracy``,
        ``chance``; numbers: ``r2`` (what counts), ``mean_absolute_error``, ``chance`` (0).
        Each measure is ``{value, interval}``; the interval is None with fewer than 8 subjects.
    """
    truth = known.values[rows]
    units, place = np.unique(known.unit[rows], return_inverse=True)
    if known.classes:
        k = len(known.classes)
        counts = np.zeros((len(units), k, k))
        np.add.at(counts, (place, truth.astype(int), outputs.argmax(1)), 1)
        measures: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
            "balanced_accuracy": _balanced,
            "accuracy": lambda c: c.trace(axis1=-2, axis2=-1) / c.sum((-1, -2)),
        }
        sums = counts
        there = int((counts.sum((0, 2)) > 0).sum())
        chance = 1 / max(there, 1)
    else:
        error = truth - outputs[:, 0]
        each = np.stack([np.ones_like(truth), truth, truth**2, error**2, np.abs(error)], 1)
        sums = np.zeros((len(units), each.shape[1]))
        np.add.at(sums, place, each)
        measures = {"r2": _r2, "mean_absolute_error": lambda s: s[..., 4] / s[..., 0]}
        chance = 0.0
    found: dict[str, Any] = {"rows": len(rows), "subjects": len(units)}
    for name, measure in measures.items():
        value = float(measure(sums.sum(0)))
        found[name] = {"value": _or_none(value), "interval": _interval(sums, measure)}
    return {**found, "chance": chance}


def _balanced(counts: NDArray[Any]) -> NDArray[Any]:
    """Mean share of each class that is found, over the classes that are there."""
    n = counts.sum(-1)
    found = np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(n, 1)
    there = n > 0
    return np.asarray((found * there).sum(-1) / np.maximum(there.sum(-1), 1))


def _r2(sums: NDArray[Any]) -> NDArray[Any]:
    total = sums[..., 2] - sums[..., 1] ** 2 / sums[..., 0]
    return np.asarray(1 - sums[..., 3] / np.maximum(total, 1e-12))


def _interval(
    sums: NDArray[Any], measure: Callable[[NDArray[Any]], NDArray[Any]]
) -> list[float] | None:
    """Percentile bootstrap over subjects."""
    if len(sums) < MIN_SUBJECTS:
        return None
    blocks = list(resampled_weights(len(sums), BOOTSTRAPS, rows=200))[1:]
    return percentile_interval(np.concatenate([measure(np.tensordot(w, sums, 1)) for w in blocks]))


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def head_numbers(found: Mapping[str, Any] | None) -> dict[str, float | None]:
    """The figures that count, for a run's record."""
    numbers: dict[str, float | None] = {}
    for part in ("held_out", "cross_validation"):
        judged = (found or {}).get(part) or {}
        for measure in ("balanced_accuracy", "r2"):
            if measure in judged:
                numbers[f"head_{part}_{measure}"] = judged[measure]["value"]
    return numbers


def describe(found: Mapping[str, Any] | None) -> Sequence[str]:
    """The result in sentences, for the report and the terminal."""
    if not found:
        return ()
    classes = found["classes"]
    measure, words = ("balanced_accuracy", "balanced accuracy") if classes else ("r2", "R²")
    lines = []
    names = {"held_out": "On held-out data", "cross_validation": "In cross-validation by subject"}
    for part, name in names.items():
        judged = found.get(part)
        if not judged:
            continue
        rivals = [
            f"{what.replace('_', ' ')} {judged[key][measure]['value']:.3f}"
            for key, what in (("from_input", "simple features of the input"),)
            if judged.get(key) and judged[key][measure]["value"] is not None
        ]
        value, span = judged[measure]["value"], judged[measure]["interval"]
        if value is None:
            continue
        lines.append(
            f"{name} {found['target']} is predicted from {found['from']} with a {words} of "
            f"{value:.3f}"
            + (f" [{span[0]:.3f}, {span[1]:.3f}]" if span else " (too few for an interval)")
            + f"; chance {judged['chance']:.3f}"
            + "".join(f", {rival}" for rival in rivals)
            + f" ({judged['subjects']} subjects, {judged['rows']} rows)."
        )
    return lines
