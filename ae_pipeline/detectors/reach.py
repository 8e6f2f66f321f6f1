"""What a number of calibration recordings or rows allows to be flagged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Reach", "reach"]


@dataclass(frozen=True)
class Reach:
    """What a number of calibration recordings (or rows) allows to be said.

    Parameters
    ----------
    n_calibration, n_batch : int
        Exchangeable calibration units, and how many are judged together.
    error_rate : float
    smallest_p : float
        The smallest p-value that can come out.
    fewest : int or None
        How many of the batch must reach the smallest p before any is flagged; None where
        nothing can be flagged however abnormal it is.
    needed : int
        Calibration units with which a single abnormal one could be flagged.
    """

    n_calibration: int
    n_batch: int
    error_rate: float
    smallest_p: float
    fewest: int | None
    needed: int


def reach(
    n_calibration: int,
    n_batch: int,
    *,
    error_rate: float,
    dependence: Literal["positive", "any"] = "positive",
) -> Reach:
    """Plan how much calibration data a wanted error rate needs.

    Parameters
    ----------
    n_calibration : int
        Calibration recordings, respondents or images.
    n_batch : int
        How many are judged together.
    error_rate : float
    dependence : {'positive', 'any'}
    """
    smallest = 1 / (n_calibration + 1)
    strictness = 1.0
    if dependence == "any":  # Benjamini and Yekutieli's harmonic sum
        strictness = float((1 / np.arange(1, max(n_batch, 1) + 1)).sum())
    # k equal p-values have q = p * strictness * n / k
    fewest = int(np.ceil(smallest * strictness * n_batch / error_rate - 1e-9))
    needed = int(np.ceil(strictness * max(n_batch, 1) / error_rate - 1 - 1e-9))
    possible = max(fewest, 1) if fewest <= n_batch else None
    return Reach(n_calibration, n_batch, error_rate, smallest, possible, needed)
