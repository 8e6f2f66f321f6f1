"""What the latent features are good for: a linear probe of a label (Alain and Bengio, 2017)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cross_validated_probe", "linear_probe"]

FOLDS = 5
LEAST_OF_A_CLASS = 10
"""With fewer of one class a fold says nothing about it: such classes are left out."""


def linear_probe(codes: NDArray[Any], labels: NDArray[Any], *, new: NDArray[Any]) -> NDArray[Any]:
    """Labels of ``new`` codes by logistic regression on standardised ``codes``.

    Parameters
    ----------
    codes : array of shape (n, latent_dim)
    labels : array of shape (n,)
    new : array of shape (m, latent_dim)

    Returns
    -------
    array of shape (m,)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a thousand steps are close enough
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return np.asarray(model.fit(codes, labels).predict(new))


def cross_validated_probe(
    codes: NDArray[Any], labels: NDArray[Any], *, units: NDArray[Any]
) -> NDArray[np.float64] | None:
    """Whether the probe is right about each row, fitted without the row's unit (subject).

    Parameters
    ----------
    codes : array of shape (n, latent_dim)
    labels : array of shape (n,)
    units : array of shape (n,)
        Rows of one unit are never in the fit and in the judgement at once.

    Returns
    -------
    array of shape (n,) or None
        1 or 0; NaN for rows of classes with fewer than ten members or units. None where fewer
        than two classes are left.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    right = np.full(len(labels), np.nan)
    pairs = {(label, unit) for label, unit in zip(labels.tolist(), units.tolist(), strict=True)}
    counts: dict[Any, int] = {}
    for label, _ in pairs:
        counts[label] = counts.get(label, 0) + 1
    kept = [label for label, count in counts.items() if count >= LEAST_OF_A_CLASS]
    if len(kept) < 2:
        return None
    rows = np.flatnonzero(np.isin(labels, kept))
    own_unit_each = len(set(units[rows].tolist())) == len(rows)
    kind = StratifiedKFold if own_unit_each else StratifiedGroupKFold
    folds = kind(FOLDS, shuffle=True, random_state=0)
    for fit, judge in folds.split(codes[rows], labels[rows], units[rows]):
        found = linear_probe(codes[rows[fit]], labels[rows[fit]], new=codes[rows[judge]])
        right[rows[judge]] = found == labels[rows[judge]]
    return right
