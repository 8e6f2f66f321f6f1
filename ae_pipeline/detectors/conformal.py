"""Conformal p-values and the false discovery rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ae_pipeline.detectors.events import Float

__all__ = [
    "adjusted",
    "conformal_p",
    "conformal_p_without_own",
]


def conformal_p(scores: Float, reference: Float, *, left_out: bool = False) -> Float:
    """Share of reference scores at least as large, counting the sample itself.

    Parameters
    ----------
    scores : array of shape (n,)
    reference : array of shape (m,)
        Calibration scores in any order.
    left_out : bool
        The scores are themselves part of the reference: each is judged by the others.

    Returns
    -------
    array of shape (n,)
        ``(1 + #{reference >= score}) / (m + 1)``; with ``left_out`` the sample's own entry
        is the 1. Valid (P(p <= a) <= a) where the sample is exchangeable with the reference.
    """
    ordered = np.sort(reference)
    at_least = len(ordered) - np.searchsorted(ordered, scores, "left")
    if left_out:
        return np.asarray(at_least / max(len(ordered), 1), dtype=np.float64)
    return np.asarray((1 + at_least) / (len(ordered) + 1), dtype=np.float64)


def conformal_p_without_own(scores: Float, group: NDArray[np.int64]) -> Float:
    """Each score judged by those of all other groups (calibration subjects).

    Parameters
    ----------
    scores, group : array of shape (n,)

    Returns
    -------
    array of shape (n,)
        :func:`conformal_p` with the scores of the other groups as reference.
    """
    ordered = np.sort(scores)
    at_least = len(scores) - np.searchsorted(ordered, scores, "left")
    p = np.empty(len(scores))
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        own = np.sort(scores[rows])
        own_at_least = len(own) - np.searchsorted(own, scores[rows], "left")
        p[rows] = (1 + at_least[rows] - own_at_least) / (len(scores) - len(own) + 1)
    return p


def adjusted(p: Float, dependence: Literal["positive", "any"] = "positive") -> Float:
    """Adjusted p-values (q): flagging q <= a keeps the expected false share among flagged at a.

    Parameters
    ----------
    p : array of shape (n,)
    dependence : {'positive', 'any'}
        Benjamini and Hochberg (1995), which holds for independent p-values and for conformal
        ones that share their calibration data (Bates et al., 2023), or Benjamini and Yekutieli
        (2001), which holds under any dependence.
    """
    from scipy.stats import false_discovery_control

    if not len(p):
        return p
    method = "bh" if dependence == "positive" else "by"
    return np.asarray(false_discovery_control(p, method=method), dtype=np.float64)
