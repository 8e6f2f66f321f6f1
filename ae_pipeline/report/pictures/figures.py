"""The charts of the reports: training, scores over time, groups, the latent space.

Half-width figures are 4.6 inches wide and scale down to a phone; wide ones (9.2 inches) scroll
sideways there. Times are seconds from the recording's start. A chart that has nothing to show is
None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.report.drawing import (
    FLAG,
    GRID,
    HALF,
    INK,
    MARKERS,
    MAX_BINS,
    MUTED,
    PAPER,
    SERIES,
    SPAN,
    WIDE,
    Picture,
    color_bar,
    envelope,
    figure,
    flags,
    floats,
    framed,
    house_style,
    legend,
    log_axis,
    merge,
    picture,
    time_unit,
)
from ae_pipeline.report.wording import seconds, shorten, show

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["heat_map", "latent_map", "loss_curve", "ranking", "score_histogram", "timeline"]

MAX_POINTS = 2_000  # of a scatter; more say no more and weigh much
MAX_GROUPS = 10  # of a legend
MAX_BARS = 40  # of a ranking


# ------------------------------------------------------------------------------- training


def loss_curve(history: pd.DataFrame) -> Picture | None:
    """Loss of the training and the validation part over epochs.

    Parameters
    ----------
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss``.
    """
    from matplotlib.ticker import MaxNLocator

    if history.empty or "epoch" not in history:
        return None
    names = {"train_loss": "training part", "validation_loss": "validation part"}
    curves = {label: floats(history, key) for key, label in names.items()}
    curves = {label: values for label, values in curves.items() if np.isfinite(values).any()}
    if not curves:
        return None
    epoch = floats(history, "epoch")
    marker = "o" if len(epoch) <= 30 else ""
    with house_style():
        fig, ax = figure(HALF, 3.1)
        says = []
        for i, (label, values) in enumerate(curves.items()):
            look: dict[str, Any] = {"color": SERIES[i], "linestyle": ("-", "--")[i]}
            ax.plot(epoch, values, label=label, marker=marker, markersize=3, **look)
            seen = values[np.isfinite(values)]
            says.append(f"{label}: from {show(seen[0])} to {show(seen[-1])}")
        held = curves.get("validation part", next(iter(curves.values())))
        lowest = int(np.nanargmin(held))
        ax.plot(epoch[lowest], held[lowest], "o", mfc="none", mec=INK, markersize=8)
        best = f"lowest {show(float(held[lowest]))} at epoch {show(int(epoch[lowest]))}"
        says.append(best)
        ax.set(xlabel="epoch", ylabel="loss per entry")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(ax)
        caption = f"Mean loss of a channel's sample, pixel or item; the ring marks its {best}."
        return picture(fig, f"Loss over {len(epoch)} epochs. {'; '.join(says)}.", caption=caption)


# --------------------------------------------------------------------------------- scores


def score_histogram(
    scores: pd.DataFrame, by: str | None = "part", *, threshold: float | None = None
) -> Picture | None:
    """Distribution of ``score``, a line for each value of the column ``by``.

    Parameters
    ----------
    scores : DataFrame
        With ``score``; ``flagged`` draws flagged rows apart where ``by`` is not given.
    by : str, optional
        A column with few values (``part``).
    threshold : float, optional
        Drawn as a line; without it, the lowest flagged score is.
    """
    values = floats(scores, "score")
    finite = np.isfinite(values)
    if not finite.any():
        return None
    flagged = flags(scores)
    groups = {"all": finite}
    if by is not None and by in scores and scores[by].notna().any():
        names = scores[by].map(show).to_numpy(dtype=object)
        order = {"train": 0, "validation": 1, "calibration": 2, "test": 3}
        found = sorted(set(names), key=lambda name: (order.get(name, 9), name))
        groups = {name: finite & (names == name) for name in found[:MAX_GROUPS]}
    elif flagged.any():
        groups = {"not flagged": finite & ~flagged, "flagged": finite & flagged}
    line_at, line_is = threshold, "threshold"
    if (threshold is None or not np.isfinite(threshold)) and flagged.any() and by is None:
        line_at, line_is = float(values[flagged & finite].min()), "lowest flagged"
    edges, log = _bins(values[finite], line_at)
    relative = len(groups) > 1 and "flagged" not in groups  # parts differ in size
    with house_style():
        entries = (len(groups) if len(groups) > 1 else 0) + 1
        fig, (ax,) = framed(HALF, 3.1, room=(0.7, 0.1, 0.5, 0.1 + 0.2 * -(-entries // 3)))
        says = []
        for i, (name, rows) in enumerate((n, r) for n, r in groups.items() if r.any()):
            height = np.histogram(values[rows], edges)[0].astype(float)
            color = FLAG if name == "flagged" else SERIES[i % len(SERIES)]
            label = f"{shorten(name, 16)} ({rows.sum():,})" if len(groups) > 1 else None
            height = 100 * height / rows.sum() if relative else height
            line = ("-", "--", "-.", ":")[i % 4]
            ax.stairs(height, edges, color=color, label=label, linestyle=line, linewidth=1.4)
            if not relative:
                ax.stairs(height, edges, fill=True, color=color, alpha=0.25)
            says.append(f"{shorten(name, 40)}: median {show(float(np.median(values[rows])))}")
        if line_at is not None and np.isfinite(line_at):
            ax.axvline(line_at, color=INK, linestyle=(0, (4, 2)), linewidth=1, label=line_is)
            says.append(f"{line_is} {show(float(line_at))}")
        if log:
            log_axis(ax, "x")
        ax.set(xlabel=f"score{' (logarithmic)' if log else ''}; higher is more abnormal")
        ax.set_ylabel("share of the part (%)" if relative else "count")
        if len(groups) > 1 or line_at is not None:
            legend(ax)
        caption = (
            "How scores spread in each part; parts that look alike mean that the model meets "
            "new data as it met the old."
            if relative
            else "How scores spread; what lies to the right is further from what the model knows."
        )
        return picture(
            fig, f"Histogram of {finite.sum():,} scores. {'; '.join(says)}.", caption=caption
        )


def timeline(
    scores: pd.DataFrame,
    threshold: float | None = None,
    *,
    bad_spans: Sequence[tuple[float, float]] = (),
    events: pd.DataFrame | None = None,
) -> Picture | None:
    """Score over a recording, with threshold, flagged stretches and stretches marked bad.

    Parameters
    ----------
    scores : DataFrame
        ``onset_s``, ``duration_s``, ``score``, ``flagged``; one row a window, any order.
    threshold : float, optional
    bad_spans : sequence of (onset_s, end_s)
    events : DataFrame, optional
        With ``onset``; the first few are numbered as in the table of events.
    """
    rows = _by_time(scores)
    if rows is None:
        return None
    onset, duration, values, flagged = rows
    end = max([float((onset + duration).max()), *(float(stop) for _, stop in bad_spans)])
    unit, scale = time_unit(end)
    center = onset + duration / 2
    x, y = envelope(center, values)
    floor = float(values.min())
    log = floor > 0 and float(values.max()) > 20 * float(np.median(values))
    with house_style():
        fig, (ax,) = framed(WIDE, 2.9, room=(0.75, 0.15, 0.5, 0.5))
        hair = end / 500  # what is shorter would not be seen
        for spans, color, alpha, label in (
            (merge(bad_spans, hair), SPAN, 0.9, "marked bad, not scored"),
            (merge(_stretches(onset, duration, chosen=flagged), hair), FLAG, 0.3, "flagged"),
        ):
            if spans:
                ax.broken_barh(
                    [(start / scale, (stop - start) / scale) for start, stop in spans],
                    (0, 1),
                    transform=ax.get_xaxis_transform(),
                    facecolor=color,
                    alpha=alpha,
                    linewidth=0,
                    label=label,
                )
        ax.plot(x / scale, y, color=SERIES[0], linewidth=1, label="score")
        if threshold is not None and np.isfinite(threshold):
            label = f"threshold {show(float(threshold))}"
            ax.axhline(threshold, color=INK, linestyle=(0, (4, 2)), linewidth=1, label=label)
        _number_events(ax, events, scale=scale, end=end)
        if log:
            log_axis(ax, "y")
        ax.set(xlim=(0, end / scale), xlabel=f"time ({unit})")
        ax.set_ylabel("score (logarithmic)" if log else "score")
        ax.grid(visible=False, axis="x")
        legend(ax, columns=4, above=0.09)
        alt = (
            f"Score of {len(values):,} windows over {seconds(end)} s: median "
            f"{show(float(np.median(values)))}, highest {show(float(values.max()))} at "
            f"{seconds(float(onset[int(values.argmax())]))} s; {int(flagged.sum()):,} windows "
            f"flagged, {len(bad_spans):,} stretches marked bad."
        )
        caption = "Score of each window over the recording; numbers are those of the events."
        if events is None or events.empty:
            caption = "Score of each window over the recording."
        if threshold is not None and np.isfinite(threshold):
            caption += " Above the dashed line a window belongs to an event."
        if len(x) < len(values):
            caption += " Long recordings are drawn as the lowest and highest score of each bin."
        return picture(fig, alt, caption=caption, wide=True)


def heat_map(
    scores: pd.DataFrame, channel_scores: NDArray[np.floating[Any]], *, ch_names: Sequence[str]
) -> Picture | None:
    """Score of each of two or more channels over time; the highest of a bin is shown.

    Parameters
    ----------
    scores : DataFrame
        ``onset_s``, ``duration_s``; rows as in ``channel_scores``.
    channel_scores : array of shape (windows, channels)
    ch_names : sequence of str
    """
    by_channel = np.asarray(channel_scores)
    onset, duration = floats(scores, "onset_s"), floats(scores, "duration_s")
    if len(ch_names) < 2 or by_channel.shape != (len(onset), len(ch_names)):
        return None  # of one channel the timeline says it all
    if not np.isfinite(onset).any() or not np.isfinite(by_channel).any():
        return None
    if not (np.diff(onset) >= 0).all():  # a day of many channels is not copied without need
        keep = np.flatnonzero(np.isfinite(onset))
        order = keep[np.argsort(onset[keep], kind="stable")]
        onset, duration, by_channel = onset[order], duration[order], by_channel[order]
    steps = np.diff(onset)
    stride = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    width = max(stride, (onset[-1] - onset[0] + stride) / MAX_BINS)
    column = np.floor((onset - onset[0]) / width + 1e-6).astype(int)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    grid = np.full((column[-1] + 1, len(ch_names)), np.nan)
    grid[column[first]] = np.fmax.reduceat(by_channel, first, axis=0)
    # onsets stand on the grid of samples: a column without one belongs to the window over it
    begins = onset[0] + np.arange(len(grid)) * width
    before = np.searchsorted(onset, begins, side="right") - 1
    covered = np.isin(np.arange(len(grid)), column, invert=True)
    covered &= begins < (onset + duration)[before] - 1e-6
    grid[covered] = by_channel[before[covered]]
    grid[~np.isfinite(grid)] = np.nan
    low, high = np.nanpercentile(grid, [5, 99.5])
    unit, scale = time_unit(float(onset[-1]))
    with house_style():
        step = int(np.ceil(len(ch_names) / 40))
        shown = range(0, len(ch_names), step)
        labels = [shorten(ch_names[i], 12) for i in shown]
        height = float(np.clip(0.17 * len(ch_names) + 1.1, 1.9, 7.5))
        left = 0.2 + 0.075 * max(map(len, labels))
        fig, (ax,) = framed(WIDE, height, room=(left, 0.65, 0.5, 0.1))
        image = ax.imshow(
            grid.T,
            aspect="auto",
            cmap="viridis",
            vmin=low,
            vmax=high if high > low else low + 1,
            interpolation="none",
            extent=(
                onset[0] / scale,
                (onset[0] + len(grid) * width) / scale,
                len(ch_names) - 0.5,
                -0.5,
            ),
        )
        ax.grid(visible=False)
        ax.set_yticks(list(shown), labels)
        ax.set(xlabel=f"time ({unit})")
        color_bar(fig, ax, drawn=image, label="score of the channel")
        peak = np.nan_to_num(np.fmax.reduce(grid, axis=0), nan=-np.inf)
        strongest = np.argsort(-peak, kind="stable")[:3]
        names = ", ".join(shorten(ch_names[i], 24) for i in strongest)
        alt = f"Score of {len(ch_names)} channels over time; highest in {names}."
        caption = (
            "Which channel, when: bright is abnormal. A bright row is a channel, a bright "
            "column a moment. Gaps are empty."
        )
        return picture(fig, alt, caption=caption, wide=True)


def ranking(recordings: pd.DataFrame) -> Picture | None:
    """Score of each recording of a group, in the given order (worst first), at most 40.

    Parameters
    ----------
    recordings : DataFrame
        ``recording``, ``score``, ``flagged``.
    """
    values = floats(recordings, "score")
    rows = np.flatnonzero(np.isfinite(values))
    if len(rows) < 2:
        return None
    total, rows = len(rows), rows[:MAX_BARS]
    flagged = flags(recordings)[rows]
    names = [shorten(name, 24) for name in recordings["recording"].iloc[rows]]
    with house_style():
        fig, ax = figure(HALF, 0.19 * len(rows) + 1.0)
        place = np.arange(len(rows))
        left = min(0.0, float(values[rows].min()))
        ax.hlines(place, left, values[rows], color=GRID, linewidth=1)
        for chosen, color, marker, label in (
            (flagged, FLAG, "D", "flagged"),
            (~flagged, SERIES[0], "o", "not flagged"),
        ):
            if chosen.any():
                ax.plot(
                    values[rows][chosen],
                    place[chosen],
                    marker,
                    color=color,
                    markersize=5,
                    label=f"{label} ({chosen.sum()})",
                )
        ax.set_yticks(place, names)
        ax.set(xlabel="score; higher is more abnormal", ylim=(len(rows) - 0.4, -0.6))
        ax.grid(visible=False, axis="y")
        legend(ax)
        alt = (
            f"Scores of {len(rows)} recordings, worst first, from "
            f"{show(float(values[rows[0]]))} ({names[0]}) to {show(float(values[rows[-1]]))} "
            f"({names[-1]}); {flagged.sum()} flagged."
        )
        caption = "Recordings by their score, worst first."
        if total > len(rows):
            caption += f" The {len(rows)} at the top of {total:,}."
        return picture(fig, alt, caption=caption)


# -------------------------------------------------------------------------------- latents


def latent_map(
    latents: pd.DataFrame, color: pd.Series[Any] | None = None, *, color_name: str = "score"
) -> Picture | None:
    """The latent space in two dimensions: the first two principal components of ``z..``.

    Parameters
    ----------
    latents : DataFrame
        ``z00``, ``z01``, ...; other columns are not looked at.
    color : Series, optional
        A value a row: few different ones, or text, are categories; else a quantity.
    color_name : str
        What ``color`` is.
    """
    import pandas as pd

    names = [name for name in latents.columns if re.fullmatch(r"z\d+", str(name))]
    z = latents[names].to_numpy(dtype=np.float64, na_value=np.nan)
    rows = np.flatnonzero(np.isfinite(z).all(axis=1)) if names else np.array([], dtype=int)
    if len(rows) < 3:
        return None
    z = z[rows] - z[rows].mean(axis=0)
    axes = ["first component", "second component"]
    if len(names) == 1:
        flat = np.random.default_rng(0).uniform(-1, 1, len(rows))
        plane, axes, said = np.column_stack([z[:, 0], flat]), ["z00", "(spread at random)"], ""
    else:
        directions, power, _ = np.linalg.svd(z.T @ z)
        plane = z @ directions[:, :2]
        part = 100 * power / max(float(power.sum()), 1e-30)
        axes = [f"{name} ({part[i]:.0f}\u00a0%)" for i, name in enumerate(axes)]
        said = f" They hold {part[:2].sum():.0f}\u00a0% of the variance of {len(names)} latents."
    total = len(rows)
    if total > MAX_POINTS:
        few = np.sort(np.random.default_rng(0).choice(total, MAX_POINTS, replace=False))
        plane, rows = plane[few], rows[few]
        said += f" {MAX_POINTS:,} of {total:,} points, drawn at random."
    values = None if color is None else color.iloc[rows]
    values = None if values is None or values.isna().all() else values
    is_quantity = values is not None and (
        pd.api.types.is_float_dtype(values)
        or (
            pd.api.types.is_numeric_dtype(values)
            and not pd.api.types.is_bool_dtype(values)
            and values.nunique() > 2 * MAX_GROUPS
        )
    )
    with house_style():
        kinds = 0 if values is None or is_quantity else min(values.nunique(), MAX_GROUPS) + 1
        right, top = (0.75 if is_quantity else 0.1), 0.1 + 0.2 * -(-kinds // 3)
        fig, (ax,) = framed(HALF, 3.9, room=(0.7, right, 0.5, top))
        if values is None:
            ax.plot(*plane.T, "o", color=SERIES[0], markersize=3, alpha=0.6, mew=0)
        elif is_quantity:
            _color_by_quantity(fig, ax, plane=plane, values=values, name=color_name)
        else:
            _color_by_category(ax, plane, values=values)
        ax.set(xlabel=axes[0], ylabel=axes[1])
        ax.set_aspect("equal", adjustable="datalim")
        by = "" if values is None else f", coloured by {shorten(color_name, 40)}"
        caption = f"Neighbours look alike to the model{by}.{said}"
        return picture(fig, f"Map of {len(rows):,} points in latent space{by}.", caption=caption)


def _color_by_quantity(
    fig: Figure, ax: Axes, *, plane: NDArray[np.float64], values: pd.Series[Any], name: str
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    # viridis without its ends, which vanish on a dark or a light page
    colors = LinearSegmentedColormap.from_list("mid", colormaps["viridis"](np.linspace(0.12, 0.9)))
    number = values.to_numpy(dtype=np.float64, na_value=np.nan)
    low, high = np.nanpercentile(number, [1, 99])
    order = np.argsort(np.nan_to_num(number, nan=-np.inf))  # the highest on top
    x, y = plane[order].T
    points = ax.scatter(x, y, c=number[order], s=10, cmap=colors, vmin=low, vmax=high, linewidths=0)
    color_bar(fig, ax, drawn=points, label=name)


def _color_by_category(ax: Axes, plane: NDArray[np.float64], *, values: pd.Series[Any]) -> None:
    text = values.map(show)
    counts = text.value_counts()
    kept = sorted(counts.index[:MAX_GROUPS], key=_natural)
    other = ~text.isin(kept).to_numpy()
    if other.any():
        label = f"{len(counts) - len(kept)} others"
        ax.plot(*plane[other].T, ".", color=MUTED, markersize=3, alpha=0.5, mew=0, label=label)
    for i, name in enumerate(kept):
        chosen = (text == name).to_numpy()
        look: dict[str, Any] = {
            "color": SERIES[i % len(SERIES)],
            "markersize": 3.6,
            "alpha": 0.75,
            "mew": 0,
        }
        ax.plot(*plane[chosen].T, MARKERS[i], label=shorten(name, 14), **look)
    for name in kept if len(kept) > 1 else ():
        middle = np.median(plane[(text == name).to_numpy()], axis=0)
        box = {"boxstyle": "round,pad=0.15", "fc": PAPER, "ec": "none", "alpha": 0.8}
        ax.text(
            middle[0], middle[1], shorten(name, 14), ha="center", va="center", fontsize=8, bbox=box
        )
    legend(ax, columns=5 if max(map(len, kept)) < 8 else 3)


def _natural(text: str) -> tuple[float, str]:
    try:
        return (float(text.replace("−", "-")), text)
    except ValueError:
        return (float("inf"), text)


# ------------------------------------------------------------------------- pieces


def _by_time(
    scores: pd.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]] | None:
    """Onset, duration, score and flag of the usable rows, ordered in time."""
    onset, values = floats(scores, "onset_s"), floats(scores, "score")
    rows = np.flatnonzero(np.isfinite(onset) & np.isfinite(values))
    if not len(rows):
        return None
    rows = rows[np.argsort(onset[rows], kind="stable")]
    duration = np.nan_to_num(floats(scores, "duration_s"))
    return onset[rows], duration[rows], values[rows], flags(scores)[rows]


def _stretches(
    onset: NDArray[np.float64], duration: NDArray[np.float64], *, chosen: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    return [(float(a), float(a + b)) for a, b in zip(onset[chosen], duration[chosen], strict=True)]


def _number_events(ax: Axes, events: pd.DataFrame | None, *, scale: float, end: float) -> None:
    """1, 2, 3 ... over the first events of the table, where there is room."""
    if events is None:
        return
    taken: list[float] = []
    for number, onset in enumerate(floats(events, "onset")[:20], start=1):
        if np.isfinite(onset) and all(abs(onset - other) > end / 45 for other in taken):
            taken.append(float(onset))
            where: dict[str, Any] = {
                "transform": ax.get_xaxis_transform(),
                "ha": "center",
                "va": "bottom",
            }
            ax.text(onset / scale, 0.995, str(number), fontsize=7.5, **where)


def _bins(values: NDArray[np.float64], line_at: float | None) -> tuple[NDArray[np.float64], bool]:
    """Edges of a histogram, and whether they are spaced by the logarithm."""
    low, high = float(values.min()), float(values.max())
    if line_at is not None and np.isfinite(line_at):
        low, high = min(low, line_at), max(high, line_at)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if low > 0 and high > 20 * float(np.median(values)):
        return np.geomspace(low, high, 41), True
    return np.linspace(low, high, 41), False
