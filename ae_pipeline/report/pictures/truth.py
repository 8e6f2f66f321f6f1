"""Found against labelled, in a figure: for data in which what is abnormal is known.

Times are seconds from the recording's start, amplitudes microvolts; scores grow with abnormality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.report.drawing import (
    FLAG,
    INK,
    MUTED,
    SERIES,
    WIDE,
    Picture,
    envelope,
    flags,
    floats,
    house_style,
    legend,
    log_axis,
    picture,
)
from ae_pipeline.report.wording import shorten, show, spoken

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["recording_strip", "strips_by_kind"]

MAX_POINTS = 250  # of a row of the strips; more say no more and weigh much


def recording_strip(
    signal_uv: NDArray[np.floating[Any]],
    sfreq_hz: float,
    *,
    scores: pd.DataFrame,
    labelled: pd.DataFrame,
    threshold: float | None = None,
) -> Picture:
    """One channel of a recording above its score; what is labelled is shaded in both.

    Parameters
    ----------
    signal_uv : array of shape (times,)
    sfreq_hz : float
    scores : DataFrame
        The recording's windows: ``onset_s``, ``duration_s``, ``score``.
    labelled : DataFrame
        ``onset``, ``duration``, ``trial_type`` (what was planted) and ``named`` (what it was
        called, empty where it was not flagged).
    threshold : float, optional
    """
    from matplotlib.figure import Figure

    time = np.arange(len(signal_uv)) / sfreq_hz
    rows = scores.sort_values("onset_s")
    center = floats(rows, "onset_s") + floats(rows, "duration_s") / 2
    with house_style():
        fig = Figure(figsize=(WIDE, 3.9))
        trace, line = fig.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
        x, y = envelope(time, np.asarray(signal_uv, dtype=np.float64))
        trace.plot(x, y, color=INK, linewidth=0.6)
        trace.set_ylabel("EEG (µV)")
        x, y = envelope(center, floats(rows, "score"))
        line.plot(x, y, color=SERIES[0], label="score")
        if threshold is not None:
            said_is = f"threshold {show(float(threshold))}"
            line.axhline(threshold, color=INK, linestyle=(0, (4, 2)), linewidth=1, label=said_is)
        onset = floats(labelled, "onset")
        end = onset + floats(labelled, "duration")
        names = {
            column: [_plain(kind) for kind in labelled[column]]
            for column in ("trial_type", "named")
        }
        for ax, column, word in ((trace, "trial_type", "planted"), (line, "named", "named")):
            for i, name in enumerate(names[column]):
                shade = "planted" if ax is line and i == 0 else None
                ax.axvspan(onset[i], end[i], color=FLAG, alpha=0.3, linewidth=0, label=shade)
                ax.annotate(
                    f"{word}: {name}" if name else "not flagged",
                    ((onset[i] + end[i]) / 2, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=INK,
                )
            ax.grid(visible=False, axis="x")
        line.set(xlabel="time (s)", ylabel="score", xlim=(0, time[-1]))
        line.legend(loc="upper left", bbox_to_anchor=(0, -0.28), ncols=3, borderaxespad=0)
        said = [
            f"{kind} at {start:.0f} s, " + (f"named {name}" if name else "not flagged")
            for kind, name, start in zip(names["trial_type"], names["named"], onset, strict=True)
        ]
        alt = (
            f"{time[-1]:.0f} s of EEG and its score, with {len(labelled)} planted events: "
            f"{'; '.join(said)}."
        )
        caption = (
            "One new recording. Above, the signal with what was planted into it; below, the score "
            "of each two seconds and what the events found there were named. The model knew "
            "neither."
        )
        return picture(fig, alt, caption=caption, wide=True)


def strips_by_kind(scores: pd.DataFrame, kinds: Sequence[str], *, what: str) -> Picture:
    """Score of every row, a strip for each kind; flagged ones filled.

    Parameters
    ----------
    scores : DataFrame
        ``score``, ``flagged`` and ``kind``.
    kinds : sequence of str
        Values of ``kind``, from top to bottom.
    what : str
        What a row is, in the plural.
    """
    from matplotlib.figure import Figure

    values, flagged = floats(scores, "score"), flags(scores)
    kind = scores["kind"].to_numpy(object)
    rng = np.random.default_rng(0)
    with house_style():
        fig = Figure(figsize=(4.6, 0.62 * len(kinds) + 1.2))
        ax = fig.add_subplot()
        says = []
        for place, name in enumerate(kinds):
            rows = np.flatnonzero(kind == name)
            n, hits = len(rows), int(flagged[rows].sum())
            says.append(f"{name}: {hits} of {n} flagged")
            if n > MAX_POINTS:
                rows = rng.choice(rows, MAX_POINTS, replace=False)
            y = place + rng.uniform(-0.28, 0.28, len(rows))
            off = ~flagged[rows]
            ax.plot(values[rows][off], y[off], "o", mfc="none", mec=MUTED, ms=3, mew=0.6)
            ax.plot(values[rows][~off], y[~off], "D", color=FLAG, ms=3, mew=0)
        ax.plot([], [], "D", color=FLAG, ms=4, label="flagged")
        ax.plot([], [], "o", mfc="none", mec=MUTED, ms=4, label="not flagged")
        labels = [
            f"{shorten(name, 24)}\n{said.partition(': ')[2]}"
            for name, said in zip(kinds, says, strict=True)
        ]
        ax.set_yticks(range(len(kinds)), labels)
        log = float(values.min()) > 0 and float(values.max()) > 20 * float(np.median(values))
        if log:
            log_axis(ax, "x")
        label = f"score{' (logarithmic)' if log else ''}; higher is more abnormal"
        ax.set(xlabel=label, ylim=(len(kinds) - 0.5, -0.5))
        ax.grid(visible=False, axis="y")
        legend(ax)
        caption = f"Every mark is one of the new {what}; the model did not know which were altered."
        if any((kind == name).sum() > MAX_POINTS for name in kinds):
            caption += f" At most {MAX_POINTS} of a kind are drawn."
        return picture(fig, f"Scores by what was planted. {'; '.join(says)}.", caption=caption)


def _plain(kind: object) -> str:
    """``anomaly/line_noise`` as a person says it."""
    return spoken(str(kind).removeprefix("anomaly/")) if kind else ""
