"""Predictions of answers: from the person's other answers, and from the answers before alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column
from ae_pipeline.detectors.answers import level_counts, presentation_order, range_numbers

__all__ = [
    "conditional_means",
    "context_mixture",
    "cut_into_levels",
    "from_answers_before",
    "level_curves",
    "levels_from_curves",
    "shrunk_precision",
]

Float = NDArray[np.float64]

PRIOR = 0.5
"""Count of each answer before any is given (Krichevsky and Trofimov, 1981)."""


# --------------------------------------------------------------------- from the questions


def shrunk_precision(keyed: Float, mean: Float, *, columns: Sequence[Column]) -> Float:
    """Inverse of the covariance, shrunk (Ledoit and Wolf, 2004); missing answers at the mean."""
    from sklearn.covariance import LedoitWolf

    filled = np.where(np.isnan(keyed), mean, keyed)
    nominal = np.array([column.type == "nominal" for column in columns], bool)
    covariance = np.diag(np.maximum(filled.var(0), 1e-4))
    usable = np.flatnonzero(~nominal)
    if len(usable) > 1 and len(filled) > 1:
        shrunk = LedoitWolf().fit(filled[:, usable]).covariance_
        covariance[np.ix_(usable, usable)] = shrunk + 1e-4 * np.eye(len(usable))
    return np.asarray(np.linalg.inv(covariance), dtype=np.float64)


def conditional_means(keyed: Float, mean: Float, *, precision: Float) -> Float:
    """Mean of each answer given the others under a normal distribution, (n, items)."""
    filled = np.where(np.isnan(keyed), mean, keyed)
    return np.asarray(filled - ((filled - mean) @ precision) / np.diag(precision))


def _features(predicted: Float) -> Float:
    """Constant, the predicted mean and its square, (..., 3)."""
    bounded = np.clip(predicted, -4, 4)
    return np.stack([np.ones_like(bounded), bounded, bounded**2], -1)


def level_curves(
    predicted: Float, level: NDArray[np.int64], *, count: NDArray[np.int64]
) -> tuple[Float, Float]:
    """For each item a multinomial logit of its levels on the predicted mean."""
    from sklearn.linear_model import LogisticRegression

    n_items = predicted.shape[1]
    curves = np.zeros((n_items, int(count.max()), 3))
    scale = np.stack([predicted.mean(0), np.maximum(predicted.std(0), 1e-6)], 1)
    for j in range(n_items):
        known = level[:, j] >= 0
        curves[j, :, 0] = -6.0  # levels that nobody chose
        there = np.unique(level[known, j])
        if len(there) < 2:
            curves[j, there, 0] = 0.0
            continue
        x = _features((predicted[known, j] - scale[j, 0]) / scale[j, 1])[:, 1:]
        model = LogisticRegression(C=1.0, max_iter=300).fit(x, level[known, j])
        coefficients = np.column_stack([model.intercept_, model.coef_])
        if len(there) == 2:
            coefficients = np.vstack([np.zeros(3), coefficients])
        curves[j, there] = coefficients
    return curves, scale


def levels_from_curves(
    predicted: Float, curves: Float, *, scale: Float, count: NDArray[np.int64]
) -> Float:
    """Probability of each level, (n, items, levels)."""
    x = _features((predicted - scale[:, 0]) / scale[:, 1])
    logits = np.einsum("njf,jkf->njk", x, curves)
    logits = np.where(np.arange(curves.shape[1]) < count[:, None], logits, -np.inf)
    logits -= logits.max(2, keepdims=True)
    p = np.exp(logits)
    return np.asarray(p / p.sum(2, keepdims=True), dtype=np.float64)


def cut_into_levels(mean: Float, width: Float, *, count: NDArray[np.int64], most: int) -> Float:
    """A normal prediction of a position, cut into an item's levels, (n, items, most)."""
    from scipy.special import ndtr

    p = np.zeros((*mean.shape, most))
    for j, k in enumerate(count):
        edges = (np.arange(k - 1) + 0.5) / max(k - 1, 1)
        below = ndtr((edges - mean[:, j : j + 1]) / width[j])
        full = np.hstack([np.zeros((len(mean), 1)), below, np.ones((len(mean), 1))])
        p[:, j, :k] = np.diff(full, axis=1)
    return p


# ------------------------------------------------------------------ from the answers before


def from_answers_before(level: NDArray[np.int64], columns: Sequence[Column]) -> Float:
    """Log probability of each answer by a predictor that knows the person's answers only.

    Within items of one range it mixes: all levels alike; how often the person gave each so far;
    and, where the order is known, what followed the same answer, and the same two answers. Each
    one's share grows with how well it predicted the person (Bayesian mixture), so nothing has to
    be said about which patterns there are.
    """
    order = presentation_order(columns)
    blocks, count = range_numbers(columns), level_counts(columns)
    turned = np.array([column.reverse for column in columns], bool)
    raw = np.where(level < 0, -1, np.where(turned, count - 1 - level, level))
    logs = np.zeros(level.shape)
    for block in np.unique(blocks):
        items = np.flatnonzero(blocks == block)
        if order is not None:
            items = order[np.isin(order, items)]
        lengths = (0, 1, 2) if order is not None else (0,)
        logs[:, items] = context_mixture(raw[:, items], int(count[items[0]]), lengths=lengths)
    return logs


def context_mixture(level: NDArray[np.int64], k: int, *, lengths: tuple[int, ...]) -> Float:
    """Log probabilities of answers by contexts of several lengths, mixed by their success."""
    n, n_items = level.shape
    rows = np.arange(n)
    # k stands for "no answer" in a context
    counts = [np.full((n, (k + 1) ** length, k), PRIOR, np.float32) for length in lengths]
    log_share = np.full((n, len(lengths) + 1), -np.log(len(lengths) + 1))
    history = np.full((n, max(lengths) + 1), k)
    out = np.zeros((n, n_items))
    for j in range(n_items):
        known = level[:, j] >= 0
        answer = np.where(known, level[:, j], 0)
        places = []
        said = np.full((n, len(lengths) + 1), 1 / k)
        for e, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            place = np.zeros(n, np.int64)
            for back in range(length):
                place = place * (k + 1) + history[:, back]
            places.append(place)
            at = count[rows, place]
            said[:, e] = at[rows, answer] / at.sum(1)
        joint = log_share + np.log(said)
        top = joint.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(joint - top).sum(1))
        out[:, j] = np.where(known, total, 0.0)
        log_share = np.where(known[:, None], joint - total[:, None], log_share)
        for count, place in zip(counts, places, strict=True):
            count[rows[known], place[known], answer[known]] += 1
        if max(lengths):
            history = np.column_stack([np.where(known, level[:, j], k), history[:, :-1]])
    return out
