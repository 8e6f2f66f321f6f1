"""A recording at a glance: its score over time, small enough for a row of a table.

Drawn as SVG by hand, a kilobyte or two each, because a group has hundreds of them. All strips of
a page have the same height for the same score: the threshold stands at half of it, and what
exceeds twice the threshold is cut. Each strip is as wide as its recording is long.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from ae_pipeline.report.drawing import floats
from ae_pipeline.report.wording import seconds, shorten, show

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["strips"]

WIDTH, HEIGHT = 192, 30
BINS = 96
MOST = 2_000
"""Strips of a page; more recordings have none."""


def strips(scores: pd.DataFrame | None, threshold: float | None) -> dict[str, Markup]:
    """A strip for each recording.

    Parameters
    ----------
    scores : DataFrame
        ``recording``, ``onset_s``, ``duration_s``, ``score``; one row a window, those of a
        recording after each other.
    threshold : float, optional
        Score over which a window is flagged.
    """
    if scores is None or scores.empty or not {"recording", "onset_s", "score"} <= set(scores):
        return {}
    values = floats(scores, "score")
    known = np.isfinite(values)
    if not known.any():
        return {}
    low = float(np.quantile(values[known], 0.02))
    limit = float(values[known].max()) if threshold is None else float(threshold)
    high = low + (2 * (limit - low) if threshold is not None and limit > low else 1.0)
    if threshold is None:
        high = max(limit, low + 1.0)
    found: dict[str, Markup] = {}
    rows = scores[known]
    names = rows["recording"].to_numpy(dtype=object)
    edges = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    for start, stop in list(pairwise([*edges.tolist(), len(names)]))[:MOST]:
        name = str(names[start])
        found[name] = _strip(name, rows.iloc[start:stop], low=low, high=high, threshold=threshold)
    return found


def _strip(
    name: str, rows: pd.DataFrame, *, low: float, high: float, threshold: float | None
) -> Markup:
    onset, duration = floats(rows, "onset_s"), floats(rows, "duration_s")
    score = floats(rows, "score")
    end = max(float((onset + duration).max()), 1e-9)
    peak = np.full(BINS, -np.inf)
    n_steps = int(np.ceil(float(duration.max()) / (end / BINS))) + 1
    for step in np.linspace(0, 0.999, n_steps):  # a window may be as long as some bars
        column = ((onset + step * duration) / end * BINS).astype(int)
        np.maximum.at(peak, np.minimum(column, BINS - 1), score)
    over = np.zeros(BINS, bool) if threshold is None else peak > threshold
    top = np.round(HEIGHT * (1 - np.clip((peak - low) / (high - low), 0.04, 1)), 1)
    there = np.isfinite(peak)
    n_over = 0 if threshold is None else int((score > threshold).sum())
    worst = int(score.argmax())
    says = (
        f"{shorten(name, 60)}: score over {seconds(end)} s, highest {show(float(score[worst]))} "
        f"at {seconds(float(onset[worst]))} s, {n_over} windows over the threshold"
    )
    line = ""
    if threshold is not None:
        at = HEIGHT * (1 - (threshold - low) / (high - low))
        line = (
            f'<path d="M0,{at:.1f}H{WIDTH}" style="stroke: var(--muted); stroke-dasharray: 3 2"/>'
        )
    # the numbers are ours, the words are escaped  # nosec B704
    return Markup(
        f'<svg class="glance" role="img" aria-label="{escape(says)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
        f'<path d="{_bars(top, ~there, full=True)}" style="fill: var(--span)"/>'
        f'<path d="{_bars(top, there & ~over)}" style="fill: var(--c1)"/>'
        f'<path d="{_bars(top, over)}" style="fill: var(--flag)"/>{line}</svg>'
    )


def _bars(top: NDArray[np.float64], chosen: NDArray[np.bool_], *, full: bool = False) -> str:
    """Bars of equal width that stand on the floor, as one path."""
    step = WIDTH / BINS
    return "".join(
        f"M{i * step:g},{HEIGHT}V{0 if full else top[i]:g}h{step:g}V{HEIGHT}z"
        for i in np.flatnonzero(chosen)
    )
