"""Maps of how much each electrode deviates, seen from above, the nose on top.

Positions are metres in MNE's head frame (x to the right, y to the front, z up); values are larger
where a channel deviates more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.report.drawing import (
    INK,
    WIDE,
    Picture,
    color_bar,
    floats,
    framed,
    house_style,
    picture,
)
from ae_pipeline.report.wording import shorten, spoken

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["scalp_maps"]

MAX_MAPS = 6
CENTRE_M = np.array([0.0, 0.0, 0.04])
"""Of a sphere through usual electrodes, in the head frame."""

MIN_ELECTRODES = 8
STEPS = 56
STEP = 2.4
"""From one head to the next, in their radii."""


def scalp_maps(
    scores: pd.DataFrame,
    events: pd.DataFrame,
    *,
    channel_scores: NDArray[np.floating[Any]],
    ch_names: Sequence[str],
    positions_m: NDArray[np.floating[Any]],
) -> Picture | None:
    """The worst window of each of the strongest events, at most six; None without positions.

    Parameters
    ----------
    scores : DataFrame
        ``onset_s``, ``score``; rows as in ``channel_scores``.
    events : DataFrame
        ``onset``, ``duration``, ``trial_type``, ``score``, ``number``.
    channel_scores : array of shape (windows, channels)
    ch_names : sequence of str
    positions_m : array of shape (channels, 3)
    """
    from scipy.interpolate import RBFInterpolator

    places = np.asarray(positions_m, float).reshape(-1, 3)
    by_channel = np.asarray(channel_scores, float)
    known = np.isfinite(places).all(1)
    if events.empty or known.sum() < MIN_ELECTRODES or by_channel.shape[1] != len(places):
        return None
    flat = _from_above(places[known])
    onset, total = floats(scores, "onset_s"), floats(scores, "score")
    shown = events.sort_values("score", ascending=False, kind="stable").head(MAX_MAPS)
    edge = np.linspace(-1.05, 1.05, STEPS)
    grid = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2)
    values, titles, tops = [], [], []
    start, lasts = floats(shown, "onset"), floats(shown, "duration")
    for i in range(len(shown)):
        inside = np.flatnonzero((onset >= start[i] - 1e-6) & (onset < start[i] + lasts[i]))
        if not len(inside):
            continue
        worst = by_channel[inside[int(np.argmax(total[inside]))]]
        values.append(worst[known])
        tops.append(shorten(ch_names[int(np.nanargmax(worst))], 16))
        kind = spoken(str(shown["trial_type"].iloc[i]).removeprefix("anomaly/"))
        titles.append(f"{shown['number'].iloc[i]}: {shorten(kind, 16)}")
    if not values:
        return None
    high = float(np.nanmax(values)) or 1.0
    smooth = RBFInterpolator(flat, np.nan_to_num(np.stack(values, -1)), smoothing=1e-3)(grid)
    smooth[np.hypot(*grid.T) > 1.05] = np.nan
    turn = np.linspace(0, 2 * np.pi, 100)
    with house_style():
        # one pair of axes with the heads side by side: six take six times as long
        fig, (ax,) = framed(WIDE, 2.1, room=(0.1, 0.6, 0.05, 0.3))
        ax.axis("off")
        for i, title in enumerate(titles):
            middle = i * STEP
            image = ax.imshow(
                smooth[:, i].reshape(STEPS, STEPS),
                extent=(middle - 1.05, middle + 1.05, -1.05, 1.05),
                origin="lower",
                cmap="viridis",
                vmin=0,
                vmax=high,
            )
            ax.plot(middle + 1.05 * np.cos(turn), 1.05 * np.sin(turn), color=INK, lw=0.8)
            ax.plot(middle + np.array([-0.1, 0, 0.1]), [1.05, 1.17, 1.05], color=INK, lw=0.8)
            ax.plot(middle + flat[:, 0], flat[:, 1], ".", color=INK, ms=1.5)
            ax.text(middle, 1.25, title, fontsize=8, ha="center", va="bottom")
        ax.set(aspect="equal", xlim=(-1.1, STEP * (MAX_MAPS - 1) + 1.1), ylim=(-1.1, 1.2))
        color_bar(fig, ax, drawn=image, label="deviation")
        alt = "Scalp maps of the strongest events; most at " + "; ".join(
            f"{top} (event {title})" for top, title in zip(tops, titles, strict=True)
        )
        caption = (
            "How much each electrode deviates in the worst window of an event, in robust standard "
            "deviations, from above; numbers as in the table. Smooth between electrodes."
        )
        return picture(fig, alt, caption=caption, wide=True)


def _from_above(places_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Azimuthal projection: the angle from the vertex becomes the distance from the middle."""
    away = places_m - CENTRE_M
    polar = np.arccos(np.clip(away[:, 2] / np.linalg.norm(away, axis=1), -1, 1))
    around = np.arctan2(away[:, 1], away[:, 0])
    radius = np.minimum(polar / (np.pi / 2), 1.15) * 0.95
    return np.stack([radius * np.cos(around), radius * np.sin(around)], 1)
