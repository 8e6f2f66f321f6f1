"""The established indices of careless responding, each as its authors define it.

Conventions: ``answers`` is (n, items), NaN where missing; raw answers are as the person gave
them, keyed ones after reverse keying, both as positions in the possible range (0 lowest, 1
highest) unless said otherwise. An index that cannot be had for a person is NaN. Meade and Craig
(2012) and Curran (2016) review them; the signs are theirs, so high is careless for some and
conscientious for others (:data:`CARELESS`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CARELESS",
    "even_odd",
    "guttman_errors",
    "longstring",
    "mahalanobis",
    "pair_consistency",
    "person_total",
    "variability",
]

Float = NDArray[np.float64]

CARELESS = {
    "longstring": "high",
    "irv": "both",
    "mahalanobis": "high",
    "even_odd": "low",
    "synonyms": "low",
    "antonyms": "high",
    "person_total": "low",
    "guttman_errors": "high",
    "lz": "low",
    "response_time": "low",
}
"""Which values of an index speak of careless responding."""

LEAST_PAIRS = 3
"""Pairs a correlation within a person takes at least."""


def longstring(answers: Float) -> Float:
    """Longest run of the same answer one after another (Johnson, 2005).

    Parameters
    ----------
    answers : array of shape (n, items)
        As given, in the order in which people saw the items; a missing answer is passed over.

    Returns
    -------
    array of shape (n,)
    """
    n, n_items = answers.shape
    last, run, longest = np.full(n, np.nan), np.zeros(n), np.zeros(n)
    for j in range(n_items):
        given = ~np.isnan(answers[:, j])
        same = given & (answers[:, j] == last)
        run = np.where(same, run + 1, np.where(given, 1.0, run))
        last = np.where(given, answers[:, j], last)
        longest = np.maximum(longest, run)
    return np.where(longest > 0, longest, np.nan)


def variability(answers: Float, blocks: Sequence[int] | NDArray[np.int64]) -> Float:
    """Intra-individual response variability (Dunn et al., 2018), within blocks of one range.

    Straight-lining makes it low, random answering high: both ends are unusual.

    Parameters
    ----------
    answers : array of shape (n, items)
        As given.
    blocks : sequence of int of length items
        Items of one range share a number; blocks of fewer than three items are left out.

    Returns
    -------
    array of shape (n,)
        Standard deviation of a person's answers in a block, averaged over blocks by the
        number of answers.
    """
    blocks = np.asarray(blocks)
    total, weight = np.zeros(len(answers)), np.zeros(len(answers))
    for block in np.unique(blocks):
        part = answers[:, blocks == block]
        known = (~np.isnan(part)).sum(1)
        if part.shape[1] < 3:
            continue
        spread = _quiet(np.nanstd, part)
        usable = known >= 3
        total += np.where(usable, np.nan_to_num(spread) * known, 0.0)
        weight += np.where(usable, known, 0)
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def mahalanobis(answers: Float, mean: Float, *, precision: Float) -> Float:
    """Squared distance from the mean answers in units of their covariance (Mahalanobis, 1936).

    Parameters
    ----------
    answers : array of shape (n, items)
        A missing answer stands at its mean, and the distance is scaled up to all items.
    mean : array of shape (items,)
    precision : array of shape (items, items)
    """
    known = ~np.isnan(answers)
    away = np.where(known, answers - mean, 0.0)
    squared = ((away @ precision) * away).sum(1)
    n_known = known.sum(1)
    scaled = squared * answers.shape[1] / np.maximum(n_known, 1)
    return np.where(n_known > 0, scaled, np.nan)


def even_odd(keyed: Float, scales: Sequence[int] | NDArray[np.int64]) -> Float:
    """Consistency of odd with even items of each scale within a person (Jackson, 1976).

    Parameters
    ----------
    keyed : array of shape (n, items)
    scales : sequence of int of length items
        Negative for items of no scale. At least three scales of two items are needed.

    Returns
    -------
    array of shape (n,)
        Correlation over scales, stepped up to full length (Spearman, Brown); high is consistent.
    """
    scales = np.asarray(scales)
    odd, even = [], []
    for scale in np.unique(scales[scales >= 0]):
        part = keyed[:, scales == scale]
        if part.shape[1] > 1:
            odd.append(_quiet(np.nanmean, part[:, ::2]))
            even.append(_quiet(np.nanmean, part[:, 1::2]))
    if len(odd) < LEAST_PAIRS:
        return np.full(len(keyed), np.nan)
    r = _row_correlation(np.stack(odd, 1), np.stack(even, 1))
    return np.asarray(np.maximum(2 * r / (1 + np.maximum(r, -0.999)), -1.0))


def pair_consistency(answers: Float, pairs: NDArray[np.int64]) -> Float:
    """Correlation over pairs of items within a person: psychometric synonyms or antonyms.

    Parameters
    ----------
    answers : array of shape (n, items)
        As given.
    pairs : array of int of shape (pairs, 2)
        Items that correlate strongly over people, positively (synonyms) or negatively
        (antonyms; Goldberg, in Johnson, 2005).
    """
    if len(pairs) < LEAST_PAIRS:
        return np.full(len(answers), np.nan)
    return _row_correlation(answers[:, pairs[:, 0]], answers[:, pairs[:, 1]])


def person_total(
    answers: Float, profile: Float, *, scales: Sequence[int] | NDArray[np.int64]
) -> Float:
    """Correlation of a person's answers with everybody's (Donlon and Fischer, 1968).

    Within scales: what a person has of a trait is taken out first, on both sides, so that an
    extreme sufferer, whose scales stand the other way round than most people's, is not taken for
    a careless one.

    Parameters
    ----------
    answers : array of shape (n, items)
        As given.
    profile : array of shape (items,)
        Mean answers of the people learned from.
    scales : sequence of int of length items
        Items of one scale share a number.

    Returns
    -------
    array of shape (n,)
        0 for somebody who gave the same answer throughout every scale.
    """
    scales = np.asarray(scales)
    own = answers.astype(float).copy()
    usual = np.where(np.isnan(answers), np.nan, profile)
    for scale in np.unique(scales):
        items = np.flatnonzero(scales == scale)
        own[:, items] -= _quiet(np.nanmean, own[:, items])[:, None]
        usual[:, items] -= _quiet(np.nanmean, usual[:, items])[:, None]
    own, usual = np.nan_to_num(own), np.nan_to_num(usual)
    size = np.sqrt((own**2).sum(1) * (usual**2).sum(1))
    return np.where(size > 1e-9, (own * usual).sum(1) / np.maximum(size, 1e-9), 0.0)


def guttman_errors(
    keyed: Float, easiness: Sequence[Float], *, scales: Sequence[int] | NDArray[np.int64]
) -> Float:
    """Normed Guttman errors of ordinal answers (Emons, 2008): harder steps taken, easier not.

    Parameters
    ----------
    keyed : array of int levels of shape (n, items), NaN where missing
        Levels from 0, after reverse keying.
    easiness : sequence of arrays
        For each item the share of people at or above each level from 1 on; empty for items
        without levels.
    scales : sequence of int of length items
        Errors are counted within scales.

    Returns
    -------
    array of shape (n,)
        Errors over the most that are possible with the person's scale totals, 0 to 1.
    """
    scales = np.asarray(scales)
    errors, most = np.zeros(len(keyed)), np.zeros(len(keyed))
    for scale in np.unique(scales):
        items = [int(j) for j in np.flatnonzero(scales == scale) if len(easiness[int(j)])]
        if len(items) < 3:
            continue
        share = np.concatenate([easiness[j] for j in items])
        order = np.argsort(-share, kind="stable")
        steps = np.concatenate(
            [keyed[:, [j]] > np.arange(len(easiness[j]))[None] for j in items], 1
        )[:, order]
        known = np.concatenate(
            [np.repeat(~np.isnan(keyed[:, [j]]), len(easiness[j]), 1) for j in items], 1
        )[:, order]
        taken = steps & known
        not_before = np.cumsum(known & ~taken, 1)  # easier steps that were not taken
        errors += np.where(taken, not_before, 0).sum(1)
        n_taken = taken.sum(1)
        most += n_taken * (known.sum(1) - n_taken)
    return np.where(most > 0, errors / np.maximum(most, 1), np.where(most == 0, 0.0, np.nan))


def _row_correlation(a: Float, b: Float) -> Float:
    """Correlation of each row of ``a`` with that of ``b`` over what both have; NaN for few."""
    both = ~(np.isnan(a) | np.isnan(b))
    n = both.sum(1)
    count = np.maximum(n, 1)
    a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
    a = np.where(both, a - (a.sum(1) / count)[:, None], 0.0)
    b = np.where(both, b - (b.sum(1) / count)[:, None], 0.0)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    r = np.where(size > 1e-9, (a * b).sum(1) / np.maximum(size, 1e-9), np.nan)
    return np.where(n >= LEAST_PAIRS, r, np.nan)


def _quiet(statistic: object, part: Float) -> Float:
    """A statistic over rows that leaves out NaN, and says nothing where all of them are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(part, axis=1), dtype=np.float64)  # type: ignore[operator]
