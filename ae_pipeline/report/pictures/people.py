"""Figures of questionnaires: who stands out, answers beside what was expected, dimensions.

Scores are higher where answers are less like those of somebody who read the questions; loadings
are correlations of items (after reverse keying) with dimensions; intervals are 95%. A figure that
has nothing to show is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.report.drawing import (
    FLAG,
    GRID,
    HALF,
    INK,
    MUTED,
    SERIES,
    SPAN,
    WIDE,
    Picture,
    color_bar,
    figure,
    flags,
    floats,
    framed,
    house_style,
    legend,
    picture,
)
from ae_pipeline.report.wording import shorten, show, spoken

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["answers_beside", "group_rates", "loadings_map", "score_distribution", "scree"]

MAX_ITEMS = 80  # of one person's answers
MAX_ROWS = 60  # of a heat map, and of groups
N_BINS = 40


def score_distribution(persons: pd.DataFrame) -> Picture | None:
    """How scores are distributed, from where on people are flagged or proposed, and who leads.

    Parameters
    ----------
    persons : DataFrame
        ``id``, ``score``, ``flagged``, and where it is known ``proposed``.
    """
    values = floats(persons, "score")
    known = np.isfinite(values)
    if known.sum() < 3:
        return None
    limits = {"flagged": flags(persons)}
    if "proposed" in persons:
        limits["proposed for a look"] = persons["proposed"].fillna(False).to_numpy(bool)
    with house_style():
        fig, (ax,) = framed(WIDE, 2.7, room=(0.75, 0.1, 0.5, 0.35))
        edges = np.linspace(values[known].min(), values[known].max(), N_BINS + 1)
        counts, _ = np.histogram(values[known], edges)
        ax.stairs(counts, edges, fill=True, color=SERIES[0], alpha=0.55, label="people")
        says = []
        for (what, chosen), color, line in zip(
            limits.items(), (FLAG, INK), ("-", (0, (4, 2))), strict=False
        ):
            chosen = chosen & known
            if not chosen.any():
                continue
            limit, n = float(values[chosen].min()), int(chosen.sum())
            ax.axvline(limit, color=color, linestyle=line, linewidth=1.4, label=f"{what}: {n:,}")
            says.append(f"{n:,} {what}, from {show(limit)} on")
        top = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:5]
        ax.plot(values[top], np.zeros(len(top)), "D", color=FLAG, markersize=4, clip_on=False)
        names = [shorten(show(persons["id"].iloc[i]), 24) for i in top]
        ax.set_ylim(0, 1.05 * counts.max())
        ax.set(xlabel="score; higher is more suspicious", ylabel="people")
        legend(ax)
        said = "; ".join(says) or "nobody flagged"
        alt = (
            f"Histogram of {known.sum():,} people's scores, median "
            f"{show(float(np.median(values[known])))}, highest {show(float(values[top[0]]))}; "
            f"{said}. Highest: {', '.join(names)}."
        )
        caption = (
            f"Everybody's score; the diamonds are the five highest ({', '.join(names)}). A hump or "
            "a gap on the right is a group that answers unlike the others."
        )
        return picture(fig, alt, caption=caption, wide=True)


def answers_beside(
    answers: pd.DataFrame, name: str, *, onset: float | None = None, score: float | None = None
) -> Picture | None:
    """One person's answers beside what was expected of them, item by item, and the surprise.

    Parameters
    ----------
    answers : DataFrame
        ``item``, ``answer``, ``expected``, ``surprise``, ``usual_surprise``, and where known
        ``position``, ``lowest`` and ``highest`` (possible); one row an item, in order.
    name : str
        Who.
    onset : float, optional
        Position (from 1) at which careless responding seems to begin.
    score : float, optional
    """
    if answers.empty:
        return None
    total = len(answers)
    if total > MAX_ITEMS:
        worst = np.argsort(-floats(answers, "surprise"), kind="stable")[:MAX_ITEMS]
        answers = answers.iloc[np.sort(worst)]
    given, expected, surprise, usual, low, high = (
        floats(answers, column)
        for column in ("answer", "expected", "surprise", "usual_surprise", "lowest", "highest")
    )
    same = len(set(zip(low, high, strict=True))) == 1 or not np.isfinite(high - low).all()
    if not same:  # items of different ranges share an axis as positions in their range
        width = np.where(high > low, high - low, 1.0)
        given, expected = (given - low) / width, (expected - low) / width
    x = np.arange(len(answers))
    excess = surprise - usual
    strong = {int(i) for i in np.argsort(-excess, kind="stable")[:5] if excess[i] > 0}
    with house_style():
        names = [shorten(show(item), 14) for item in answers["item"]]
        room = 0.2 + 0.075 * max(map(len, names))
        fig, (top, below) = framed(WIDE, 3.4 + room, room=(0.75, 0.1, room, 0.35), heights=(2.2, 1))
        odd = np.isin(x, list(strong))
        top.vlines(x[~odd], given[~odd], expected[~odd], color=MUTED, linewidth=0.8)
        look: dict[str, Any] = {"color": FLAG, "linewidth": 3, "alpha": 0.7}
        top.vlines(x[odd], given[odd], expected[odd], label="most surprising", **look)
        look = {"markersize": 4.5, "linestyle": "none"}
        top.plot(x, expected, "D", mfc="none", mec=SERIES[1], label="expected", **look)
        top.plot(x, given, "o", color=INK, label="given", **look)
        top.set_ylabel("answer" if same else "answer, as a place\nin the item's range")
        if same and np.isfinite(high[0] - low[0]) and high[0] - low[0] <= 10:
            top.set_yticks(np.arange(low[0], high[0] + 1))
        below.bar(x, surprise, width=0.7, color=[FLAG if i in strong else SERIES[0] for i in x])
        below.plot(x, usual, "_", color=INK, markersize=7, label="usual")
        below.set_ylabel("surprise")
        places = floats(answers, "position")
        begins = None
        if onset is not None and np.isfinite(onset) and (places >= onset).any():
            begins = int(np.argmax(places >= onset))
            for ax in (top, below):
                ax.axvspan(begins - 0.5, len(x) - 0.5, color=SPAN, alpha=0.35, linewidth=0)
            label = "seems not to read from here on"
            top.plot([], [], color=SPAN, linewidth=6, alpha=0.6, label=label)
        small = 7 if len(x) > 30 else 8
        below.set_xticks(x, names, rotation=90, fontsize=small)
        below.set_xlim(-0.7, len(x) - 0.3)
        for ax in (top, below):
            ax.grid(visible=False, axis="x")
        legend(top, columns=5)
        top.set_title(shorten(name, 40), fontsize=9, loc="right")
        said = [
            f"{names[i]}: {show(float(floats(answers, 'answer')[i]))} given, "
            f"{show(float(floats(answers, 'expected')[i]))} expected"
            for i in sorted(strong, key=lambda i: -excess[i])
        ]
        told = f", score {show(score)}" if score is not None else ""
        alt = f"{name}{told}: answers and what was expected of them. Most surprising: "
        alt += "; ".join(said) or "none"
        if begins is not None:
            alt += f". Seems not to read from {names[begins]} on"
        ordered = np.isfinite(places).all() and len(places)
        caption = f"{name}{told}: {len(x)} answers"
        caption += " in the order of presentation" if ordered else ""
        caption += f", of {total} those that surprise most" if total > len(x) else ""
        caption += ". Surprise is minus the logarithm of the answer's probability given this "
        caption += "person's other answers; the dashes are what it usually is."
        return picture(fig, f"{alt}.", caption=caption, wide=True)


def group_rates(rates: pd.DataFrame) -> Picture | None:
    """Share of each group among the most abnormal tenth of all, with intervals.

    Parameters
    ----------
    rates : DataFrame
        From :func:`ae_pipeline.analysis.persons.flag_rates`.
    """
    if rates.empty or "worst_low" not in rates:
        return None
    total, rates = len(rates), rates.head(MAX_ROWS)
    share, low, high = (floats(rates, n) for n in ("share_of_worst", "worst_low", "worst_high"))
    flagged = floats(rates, "share_flagged")
    heads = rates["by"].astype(str).to_numpy()
    starts = np.flatnonzero(np.append(True, heads[1:] != heads[:-1]))
    place = np.arange(len(rates)) + 0.8 * np.searchsorted(starts, np.arange(len(rates)), "right")
    apart = (low > 0.1) | (high < 0.1)
    with house_style():
        fig, ax = figure(WIDE, 0.21 * place[-1] + 1.2)
        ax.axvline(0.1, color=MUTED, linestyle=(0, (4, 2)), linewidth=1)
        for chosen, color, label in (
            (~apart, SERIES[0], "no different from a tenth"),
            (apart, FLAG, "clearly more or less than a tenth"),
        ):
            if chosen.any():
                ax.hlines(place[chosen], low[chosen], high[chosen], color=color, linewidth=1.6)
                ax.plot(share[chosen], place[chosen], "o", color=color, markersize=5, label=label)
        some = flagged > 0
        if some.any():
            look: dict[str, Any] = {"mfc": "none", "mec": INK, "markersize": 4.5}
            ax.plot(flagged[some], place[some], "D", label="flagged", **look)
        labels = [
            f"{shorten(show(value), 22)}  ({int(n):,})"
            for value, n in zip(rates["value"], rates["people"], strict=True)
        ]
        ax.set_yticks(place, labels)
        for start in starts:
            where: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
            name = shorten(spoken(heads[start].removeprefix("total_")), 30)
            kind = "scale " if heads[start].startswith("total_") else ""
            ax.text(1.01, place[start], f"{kind}{name}", color=MUTED, fontsize=8, **where)
        ax.set(ylim=(place[-1] + 0.7, -0.2 + place[0] - 0.5), xlim=(0, None))
        ax.set_xlabel("share among the most abnormal tenth of all people (95% interval)")
        ax.grid(visible=False, axis="y")
        legend(ax)
        said = [
            f"{heads[i].removeprefix('total_')} {show(rates['value'].iloc[i])}: {share[i]:.0%}"
            for i in np.flatnonzero(apart)[:8]
        ]
        alt = (
            f"Shares of {len(rates)} groups among the most abnormal tenth. "
            f"{'Clearly not a tenth: ' + '; '.join(said) if said else 'None is clearly unlike it'}."
        )
        caption = (
            "Whom the score hits: a group far to the right of the broken line (a tenth) is found "
            "more often than others. People in brackets."
        )
        if total > len(rates):
            caption += f" The first {len(rates)} of {total} groups."
        return picture(fig, alt, caption=caption, wide=True)


def loadings_map(
    loadings: Sequence[Sequence[float]],
    items: Sequence[str],
    *,
    dimensions: Sequence[str],
    what: str,
    other: Sequence[Sequence[float]] | None = None,
    other_dimensions: Sequence[str] = (),
    other_what: str = "",
) -> Picture | None:
    """Items against dimensions, and beside it those of another method.

    Parameters
    ----------
    loadings, other : array of shape (items, dimensions)
        From -1 to 1.
    items : sequence of str
    dimensions, other_dimensions : sequence of str
    what, other_what : str
        Whose they are ('varimax factors').
    """
    parts = [(np.asarray(loadings, float), dimensions, what)]
    if other is not None:
        parts.append((np.asarray(other, float), other_dimensions, other_what))
    if not len(items) or not parts[0][0].size:
        return None
    order = _by_dimension(parts[0][0])
    total, order = len(order), order[:MAX_ROWS]
    names = [shorten(items[i], 16) for i in order]
    with house_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(WIDE, float(np.clip(0.17 * len(order) + 1.2, 2.2, 11))))
        axes: Any = fig.subplots(
            1, len(parts), sharey=True, squeeze=False, width_ratios=[p[0].shape[1] for p in parts]
        )[0]
        for ax, (values, columns, title) in zip(axes, parts, strict=True):
            image = ax.imshow(
                values[order], aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none"
            )
            ax.grid(visible=False)
            turn = 90 if len(columns) > 8 else 0
            ax.set_xticks(range(len(columns)), [shorten(c, 8) for c in columns], rotation=turn)
            ax.set_title(title, fontsize=9, loc="left")
            if len(columns) * len(parts) <= 14:
                _write_strong(ax, values[order])
        axes[0].set_yticks(range(len(names)), names)
        color_bar(fig, axes[-1], drawn=image, label="correlation with the item")
        heads = [
            f"{name}: {', '.join(items[i] for i in _strong_items(parts[0][0][:, k]))}"
            for k, name in enumerate(dimensions)
        ]
        alt = f"Loadings of {total} items on {len(dimensions)} {what}. {'; '.join(heads[:8])}."
        caption = (
            "Which items make up each dimension: red goes with it, blue against it. Items are "
            f"ordered by the {what} they belong to most."
        )
        if total > len(order):
            caption += f" The first {len(order)} of {total} items."
        return picture(fig, alt, caption=caption, wide=True)


def _by_dimension(loadings: NDArray[np.float64]) -> NDArray[np.int64]:
    """Items of one dimension together, strongest first."""
    own = np.abs(loadings).argmax(1)
    return np.lexsort((-np.abs(loadings).max(1), own))


def _strong_items(column: NDArray[np.float64]) -> list[int]:
    return [int(i) for i in np.argsort(-np.abs(column))[:3] if abs(column[i]) >= 0.3]


def _write_strong(ax: Axes, values: NDArray[np.float64]) -> None:
    """Numbers on the cells that matter, in a colour that reads on them."""
    for (i, k), value in np.ndenumerate(values):
        if abs(value) >= 0.3:
            color = "#ffffff" if abs(value) > 0.6 else "#1a1f24"
            text = f"{value:.2f}".replace("0.", ".").replace("-", "\u2212")
            ax.text(k, i, text, ha="center", va="center", fontsize=6.5, color=color)


def scree(curves: Mapping[str, Mapping[str, Any]], k: int) -> Picture | None:
    """Eigenvalues beside those of chance (parallel analysis), one pair for each correlation.

    Parameters
    ----------
    curves : mapping of str to mapping
        ``eigenvalues`` and ``chance`` (descending) and ``n``, by the kind of correlation.
    k : int
        Dimensions of the model.
    """
    from matplotlib.ticker import MaxNLocator

    curves = {name: found for name, found in curves.items() if found.get("eigenvalues")}
    if not curves:
        return None
    with house_style():
        fig, ax = figure(HALF, 3.1)
        wanted = max(*(2 * found["n"] + 3 for found in curves.values()), k + 2, 10)
        shown = min(wanted, max(len(found["eigenvalues"]) for found in curves.values()))
        says = []
        for i, (name, found) in enumerate(curves.items()):
            own, chance = (np.array(found[n])[:shown] for n in ("eigenvalues", "chance"))
            x = np.arange(1, len(own) + 1)
            mark = "os"[i % 2]
            ax.plot(x, own, marker=mark, markersize=4, color=SERIES[i], label=name)
            ax.plot(x, chance, color=SERIES[i], linestyle=(0, (3, 2)), linewidth=1)
            more = x <= found["n"]
            ax.plot(x[more], own[more], mark, markersize=8, mfc="none", mec=INK, linestyle="none")
            says.append(f"{name}: {found['n']} above chance, the first {show(float(own[0]))}")
        ax.plot([], [], color=INK, linestyle=(0, (3, 2)), linewidth=1, label="chance")
        ax.axvline(k, color=GRID, linewidth=1)
        where: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "va": "top"}
        side = "right" if k > shown / 2 else "left"
        ax.text(k, 0.98, f" the model's {k} ", ha=side, color=MUTED, fontsize=8, **where)
        ax.set(xlabel="dimension", ylabel="eigenvalue", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(ax, columns=2)
        caption = (
            "Rings: dimensions whose eigenvalue is above chance, the 95th percentile of those of "
        )
        caption += "shuffled answers."
        return picture(
            fig, f"Scree plot with parallel analysis. {'; '.join(says)}.", caption=caption
        )
