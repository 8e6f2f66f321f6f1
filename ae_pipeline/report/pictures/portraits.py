"""Figures of what a model makes: generated against real, traversals, completions, what matters.

Conventions as in ``drawing.py``: arrays in, :class:`Picture` out. Samples are (m, *shape): images
(rows, columns), windows (channels, times), rows of a table (items,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Layout
from ae_pipeline.report.drawing import (
    HALF,
    INK,
    MUTED,
    SERIES,
    WIDE,
    Picture,
    color_bar,
    figure,
    house_style,
    legend,
    picture,
)
from ae_pipeline.report.wording import shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "correlation_maps",
    "grid_of_images",
    "grid_of_tables",
    "grid_of_windows",
    "marginal_scatter",
    "matrix",
    "power_lines",
    "rows_of",
]

Float = NDArray[np.floating[Any]]
MAX_NAMES = 40


def marginal_scatter(marginals: pd.DataFrame) -> Picture | None:
    """Mean and spread of each entry, real against generated."""
    if marginals.empty:
        return None
    with house_style():
        fig, ax = figure(HALF, 3.9)
        for i, (what, marker) in enumerate((("mean", "o"), ("sd", "^"))):
            ax.plot(
                marginals[f"real_{what}"],
                marginals[f"generated_{what}"],
                marker,
                color=SERIES[i],
                markersize=4,
                alpha=0.7,
                mew=0,
                label={"mean": "mean", "sd": "standard deviation"}[what],
            )
        low, high = ax.get_xlim()
        ax.plot([low, high], [low, high], color=MUTED, lw=0.8, label="alike")
        ax.set(xlabel="real, held out", ylabel="generated")
        legend(ax)
        caption = (
            "Every channel, item or block of pixels, in network units: on the line, generated data "
            "has the mean and the spread of real data."
        )
        return picture(
            fig, "Means and standard deviations, real against generated.", caption=caption
        )


def correlation_maps(names: Sequence[str], real: Float, *, generated: Float) -> Picture | None:
    """Correlations of real data below the diagonal, of generated data above."""
    k = len(names)
    if k < 2:
        return None
    both = np.where(np.tri(k, k, -1, dtype=bool), real, generated)
    np.fill_diagonal(both, np.nan)
    with house_style():
        fig, ax = figure(HALF, 4.2)
        drawn = ax.imshow(both, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        _names(ax, names)
        ax.grid(False)
        color_bar(fig, ax, drawn=drawn, label="correlation")
        caption = (
            "Correlations: below the diagonal of real held-out data, above it of generated data. "
            "The more the two halves mirror each other, the better."
        )
        return picture(fig, "Correlations, real and generated.", caption=caption)


def _names(ax: Axes, names: Sequence[str]) -> None:
    """As many names on both axes as can be read."""
    step = max(1, -(-len(names) // MAX_NAMES))
    places = list(range(0, len(names), step))
    labels = [shorten(names[i], 12) for i in places]
    size = 8 if len(places) <= 16 else 5
    ax.set_xticks(places, labels, rotation=90, fontsize=size)
    ax.set_yticks(places, labels, fontsize=size)


def power_lines(freqs_hz: Float, real: Float, *, generated: Float) -> Picture | None:
    """Mean spectrum of real and generated windows."""
    if not len(freqs_hz):
        return None
    with house_style():
        fig, ax = figure(HALF, 3.6)
        ax.plot(freqs_hz, 10 * real, color=SERIES[0], label="real, held out")
        ax.plot(freqs_hz, 10 * generated, "--", color=SERIES[1], label="generated")
        ax.set(xlabel="frequency (Hz)", ylabel="power (dB)")
        legend(ax)
        return picture(
            fig,
            "Spectra of real and generated EEG.",
            caption="Mean power over channels and windows.",
        )


def grid_of_images(
    rows: Sequence[tuple[str, Float]], columns: Sequence[str], *, alt: str, caption: str
) -> Picture:
    """Images in a grid: each row a name and (n, height, width) of 0 to 1."""
    most = max(len(images) for _, images in rows)
    with house_style():
        from matplotlib.figure import Figure

        side = min(0.9, WIDE / (most + 1))
        fig = Figure(figsize=(side * most + 1.1, side * len(rows) + 0.3))
        axes = fig.subplots(len(rows), most, squeeze=False)
        for i, (name, images) in enumerate(rows):
            for j in range(most):
                ax = axes[i, j]
                ax.set_xticks([])
                ax.set_yticks([])
                ax.grid(False)
                for spine in ax.spines.values():
                    spine.set_visible(False)
                if j < len(images):
                    ax.imshow(images[j], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                if i == 0 and j < len(columns):
                    ax.set_title(shorten(columns[j], 10), fontsize=8, color=INK)
            axes[i, 0].set_ylabel(
                shorten(name, 18), rotation=0, ha="right", va="center", fontsize=8, color=INK
            )
        return picture(fig, alt, caption=caption, wide=most > 8)


def grid_of_windows(
    rows: Sequence[tuple[str, Float]],
    sfreq_hz: float,
    *,
    names: Sequence[str],
    steps: Sequence[str],
    alt: str,
    caption: str,
) -> Picture:
    """Windows (n, channels, times): each row a panel, its n windows drawn over each other.

    Only the channel that differs most between them is drawn.
    """
    with house_style():
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        fig = Figure(figsize=(WIDE, 1.15 * len(rows) + 0.5))
        axes = fig.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
        for ax, (name, windows) in zip(axes, rows, strict=True):
            spread = np.asarray(windows).std(0).mean(1)
            channel = int(spread.argmax())
            time_s = np.arange(windows.shape[2]) / sfreq_hz
            colors = colormaps["viridis"](np.linspace(0.3, 0.85, len(windows)))
            for window, color, step in zip(windows, colors, steps, strict=True):
                ax.plot(time_s, window[channel], color=color, lw=1, label=shorten(step, 10))
            ax.set_ylabel(f"{shorten(name, 12)}\n{shorten(names[channel], 8)} (µV)", fontsize=7)
        axes[-1].set_xlabel("time in the window (s)")
        legend(axes[0], columns=min(len(steps), 8), above=0.05)
        return picture(fig, alt, caption=caption, wide=True)


def grid_of_tables(
    rows: Sequence[tuple[str, Float]],
    names: Sequence[str],
    *,
    steps: Sequence[str],
    alt: str,
    caption: str,
    label: str = "network units",
) -> Picture:
    """Rows of answers (n, items): each row a band of n lines over the items."""
    blocks = np.concatenate([np.asarray(values) for _, values in rows])
    n = len(steps)
    with house_style():
        fig, ax = figure(WIDE, 0.16 * len(blocks) + 1.4)
        drawn = ax.imshow(blocks, aspect="auto", cmap="viridis", interpolation="nearest")
        ax.set_yticks(
            [i * n + (n - 1) / 2 for i in range(len(rows))],
            [shorten(name, 24) for name, _ in rows],
            fontsize=8,
        )
        for i in range(1, len(rows)):
            ax.axhline(i * n - 0.5, color="white", lw=1.5)
        step = max(1, -(-len(names) // 60))
        places = list(range(0, len(names), step))
        ax.set_xticks(places, [shorten(names[i], 12) for i in places], rotation=90, fontsize=6)
        ax.grid(False)
        color_bar(fig, ax, drawn=drawn, label=label)
        return picture(
            fig, alt, caption=f"{caption} Within a band from top: {', '.join(steps)}.", wide=True
        )


def matrix(
    values: Float,
    rows: Sequence[str],
    *,
    columns: Sequence[str],
    label: str,
    alt: str,
    caption: str,
) -> Picture:
    """A matrix in colours, rows and columns named."""
    wide = len(columns) > 16
    with house_style():
        fig, ax = figure(WIDE if wide else HALF, 0.19 * len(rows) + 1.3)
        drawn = ax.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0)
        step = max(1, -(-len(columns) // 60))
        places = list(range(0, len(columns), step))
        size = 8 if len(places) <= 12 else 6
        ax.set_xticks(places, [shorten(columns[i], 12) for i in places], rotation=90, fontsize=size)
        ax.set_yticks(range(len(rows)), [shorten(name, 20) for name in rows], fontsize=7)
        ax.grid(False)
        color_bar(fig, ax, drawn=drawn, label=label)
        return picture(fig, alt, caption=caption, wide=wide)


def rows_of(
    layout: Layout,
    rows: Sequence[tuple[str, Float]],
    *,
    steps: Sequence[str],
    names: Sequence[str],
    sfreq_hz: float | None,
    caption: str,
) -> Picture:
    """Named rows of samples, drawn by their layout: images, windows or answers.

    Parameters
    ----------
    layout : {'series', 'grid', 'table'}
    rows : sequence of (name, array of shape (n, *shape))
    steps : sequence of n str
        What the samples of a row differ by.
    names : sequence of str
        Channels or items.
    sfreq_hz : float, optional
        EEG only.
    caption : str
    """
    alt = f"{len(rows)} rows of {len(steps)} samples each: {', '.join(name for name, _ in rows)}."
    if layout == "grid":
        return grid_of_images(rows, steps, alt=alt, caption=caption)
    if layout == "series":
        return grid_of_windows(
            rows, float(sfreq_hz or 1), names=names, steps=steps, alt=alt, caption=caption
        )
    return grid_of_tables(rows, names, steps=steps, alt=alt, caption=caption, label="answer")
