"""Windows above a threshold joined to events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Span",
    "find_events",
]


Float = NDArray[np.float64]


BEYOND = 1.5
"""So many times as far from usual as any clean window makes a recording unusual by one event."""


TOUCH_S = 1e-9
"""Windows this close touch each other: onsets are sums of rounded numbers."""


@dataclass(frozen=True)
class Span:
    """Neighbouring flagged windows: rows ``first`` to ``last`` (inclusive) of one recording."""

    first: int
    last: int
    peak: int
    onset_s: float
    end_s: float
    score: float


def find_events(
    onset_s: Float, duration_s: Float, *, scores: Float, threshold: float
) -> list[Span]:
    """Merge neighbouring windows above the threshold.

    Parameters
    ----------
    onset_s, duration_s, scores : array of shape (n,)
        Windows of one recording in order of time.
    threshold : float
        A window is flagged where its score is above it.

    Returns
    -------
    list of Span
        Flagged windows that overlap or touch belong to one event.
    """
    spans: list[Span] = []
    end_s = onset_s + duration_s
    group: list[int] = []

    def close() -> None:
        peak = max(group, key=lambda row: scores[row])
        spans.append(
            Span(
                group[0],
                group[-1],
                peak,
                float(onset_s[group[0]]),
                float(end_s[group[-1]]),
                float(scores[peak]),
            )
        )

    for row in np.flatnonzero(scores > threshold):
        if group and onset_s[row] > end_s[group[-1]] + TOUCH_S:
            close()
            group = []
        group.append(int(row))
    if group:
        close()
    return spans
