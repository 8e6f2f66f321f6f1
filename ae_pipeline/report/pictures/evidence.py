"""Samples beside their reconstruction: EEG traces, a person's answers, images.

EEG amplitudes are in the unit of the evidence (microvolts), times in seconds from the
recording's start; images run from 0 to 1; NaN is what was not observed.
"""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.report.drawing import (
    FLAG,
    HALF,
    INK,
    MUTED,
    SERIES,
    WIDE,
    Picture,
    envelope,
    floats,
    framed,
    house_style,
    legend,
    picture,
)
from ae_pipeline.report.views import Evidence
from ae_pipeline.report.wording import p_value, seconds, shorten, show

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["ImageCard", "answers", "image_cards", "png", "traces"]

MAX_CHANNELS = 8  # of a trace plot
MAX_ITEMS = 60  # of a person's answers


@dataclass(frozen=True)
class ImageCard:
    """One image with its reconstruction and their difference, each as (data URI, alt, name)."""

    images: tuple[tuple[str, str, str], ...]
    caption: str


def traces(evidence: Evidence, row: int, *, rank: str) -> Picture:
    """Signal and reconstruction of one window, the most deviating channels on top.

    Parameters
    ----------
    evidence : Evidence
        EEG: values of shape (m, channels, times) in microvolts.
    row : int
    rank : str
        'most abnormal window 1', for the text alternative.
    """
    signal = np.array(evidence.values[row], dtype=np.float64)
    expected = np.array(evidence.reconstructions[row], dtype=np.float64)
    seen = np.isfinite(signal - expected)
    square = np.where(seen, (signal - expected) ** 2, 0).sum(axis=1)
    off = np.where(seen.any(axis=1), np.sqrt(square / np.maximum(seen.sum(axis=1), 1)), -1.0)
    signal[~seen.any(axis=1)] = expected[~seen.any(axis=1)] = 0  # drawn only if nothing else is
    chosen = np.argsort(-off, kind="stable")[:MAX_CHANNELS]
    chosen = chosen[off[chosen] >= 0] if (off >= 0).any() else chosen
    names = [_entry(evidence, int(i)) for i in chosen]
    start = _known(evidence.meta, row, column="onset_s") or 0.0
    time = start + np.arange(signal.shape[1]) / (evidence.sfreq_hz or 1.0)
    middle = np.nanmedian(signal[chosen], axis=1, keepdims=True)
    signal, expected = signal[chosen] - middle, expected[chosen] - middle
    spread = np.nan_to_num(np.nanmax(signal, axis=1) - np.nanmin(signal, axis=1))
    # one channel far beyond the others would flatten them: it is cut, and the caption says so
    lane = float(min(spread.max(), 4 * float(np.median(spread)) or spread.max())) or 1.0
    cut = bool((np.abs(np.nan_to_num([signal, expected])) > 1.2 * lane).any())
    beside = _normal(evidence, row, chosen=chosen)
    with house_style():
        labels = [shorten(name, 14) for name in names]
        left = 0.2 + 0.075 * max(map(len, labels))
        height = 0.36 * len(chosen) + 1.15
        if beside is None:
            fig, (ax,) = framed(HALF, height, room=(left, 0.4, 0.45, 0.35))
        else:
            fig, (ax, other) = framed(WIDE, height + 0.2, room=(left, 0.4, 0.45, 0.55), columns=2)
        place = -np.arange(len(chosen)) * lane
        _lanes(
            ax,
            time,
            signal=expected,
            place=place,
            lane=lane,
            color=SERIES[1],
            weight=1.5,
            label="reconstruction",
        )
        _lanes(
            ax, time, signal=signal, place=place, lane=lane, color=INK, weight=0.9, label="signal"
        )
        ax.set_yticks(place, labels)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(place[-1] - 0.9 * lane, 0.9 * lane)
        caption = _caption(evidence.meta, row)
        alt = (
            f"{rank}, from {seconds(float(time[0]))} s: signal and reconstruction in "
            f"{evidence.unit or 'the data unit'}; furthest apart in "
            f"{', '.join(shorten(name, 24) for name in names[:3])}, "
            f"by {show(float(off[chosen[0]]))} {evidence.unit} on average."
        )
        last = ax
        if beside is not None:
            normal, normal_s = beside
            then = normal_s + np.arange(normal.shape[1]) / (evidence.sfreq_hz or 1.0)
            _lanes(
                other, then, signal=normal, place=place, lane=lane, color=INK, weight=0.9, label=""
            )
            other.tick_params(axis="y", length=0, labelleft=False)
            ax.set_title(f"{rank}, {seconds(float(time[0]))} s", fontsize=9, loc="left", pad=20)
            when = f"nearest normal window, {seconds(normal_s)} s"
            other.set_title(when, fontsize=9, loc="left", pad=20)
            other.set(xlabel="time (s)", xlim=(then[0], then[-1]))
            alt += f" Beside it the nearest normal window, from {seconds(normal_s)} s."
            caption += (
                f" Right: the same channels at {seconds(normal_s)} s, the window clear of events "
                "with the nearest code."
            )
            last = other
        for each in fig.axes:
            each.spines["left"].set_visible(False)
            each.grid(visible=False, axis="y")
        _scale_bar(last, lane, unit=evidence.unit)
        ax.set(xlabel="time (s)", xlim=(time[0], time[-1]))
        legend(ax)
        if len(evidence.values[row]) > len(chosen):
            caption += f" The {len(chosen)} of {len(evidence.values[row])} channels furthest off."
        if cut:
            caption += f" Cut at ±{show(float(f'{1.2 * lane:.2g}'))} {evidence.unit}."
        return picture(fig, alt, caption=caption, wide=beside is not None)


def _normal(
    evidence: Evidence, row: int, *, chosen: NDArray[np.intp]
) -> tuple[NDArray[np.float64], float] | None:
    """The nearest normal window of some channels around their medians, and when it begins."""
    if evidence.normal is None or evidence.normal_s is None:
        return None
    normal = np.array(evidence.normal[row], dtype=np.float64)[chosen]
    return normal - np.nanmedian(normal, axis=1, keepdims=True), float(evidence.normal_s[row])


def _lanes(
    ax: Axes,
    time: NDArray[np.float64],
    *,
    signal: NDArray[np.float64],
    place: NDArray[np.floating[Any]],
    lane: float,
    color: str,
    weight: float,
    label: str,
) -> None:
    """Channels below each other, each cut off before it runs into others."""
    for values, base in zip(signal, place, strict=True):
        x, y = envelope(time, np.clip(values, -1.2 * lane, 1.2 * lane))
        ax.plot(x, y + base, color=color, linewidth=weight, label=label)
        label = ""


def answers(evidence: Evidence, row: int, *, rank: str) -> Picture:
    """What one respondent answered against what the model expected, item by item.

    Parameters
    ----------
    evidence : Evidence
        A table: values of shape (m, items); an unanswered item is NaN.
    row : int
    rank : str
        'most abnormal respondent 1', for the text alternative.
    """
    given = np.asarray(evidence.values[row], dtype=np.float64).ravel()
    expected = np.asarray(evidence.reconstructions[row], dtype=np.float64).ravel()
    off = np.nan_to_num(np.abs(given - expected), nan=-1.0)
    furthest = np.argsort(-off, kind="stable")
    chosen = np.sort(furthest[:MAX_ITEMS])
    strong = [int(i) for i in furthest[:5] if off[i] > 0]
    place = np.arange(len(chosen))
    labels = [shorten(_entry(evidence, int(i)), 14) for i in chosen]
    with house_style():
        below = 0.2 + 0.075 * max(map(len, labels), default=0)
        fig, (ax,) = framed(WIDE, 3.0, room=(0.5, 0.1, below, 0.35))
        for x, item in enumerate(chosen):
            if off[item] > 0:
                look: dict[str, Any] = {"color": MUTED, "linewidth": 0.8}
                if int(item) in strong:
                    look = {"color": FLAG, "linewidth": 3, "alpha": 0.7}
                ax.plot([x, x], [given[item], expected[item]], solid_capstyle="butt", **look)
        look = {"markersize": 4.5, "linestyle": "none"}
        ax.plot(place, expected[chosen], "D", mfc="none", mec=SERIES[1], label="expected", **look)
        ax.plot(place, given[chosen], "o", color=INK, label="given", **look)
        ax.plot([], [], color=FLAG, linewidth=3, alpha=0.7, label="furthest apart")
        ax.set_xticks(place, labels, rotation=90, fontsize=7 if len(chosen) > 30 else 8)
        ax.set(xlim=(-0.7, len(chosen) - 0.3), ylabel=shorten(evidence.unit, 20) or "answer")
        levels = sorted({level for item in evidence.levels or () for level in item})
        if 1 < len(levels) <= 11:
            ax.set_yticks(levels, [show(float(level)) for level in levels])
        ax.grid(visible=False, axis="x")
        legend(ax)
        said = [
            f"{shorten(_entry(evidence, i), 24)}: {show(float(given[i]))} given, "
            f"{show(float(expected[i]))} expected"
            for i in strong
        ]
        alt = f"{rank}: given and expected answers. {'; '.join(said) or 'No difference'}."
        caption = _caption(evidence.meta, row)
        if len(given) > len(chosen):
            caption += f" The {len(chosen)} of {len(given)} items furthest off."
        return picture(fig, alt, caption=caption, wide=True)


def image_cards(evidence: Evidence, what: str) -> list[ImageCard]:
    """Each image beside its reconstruction and their difference.

    Parameters
    ----------
    evidence : Evidence
        Images of shape (m, rows, columns), (m, 1, rows, columns) or square ones flattened,
        from 0 to 1.
    what : str
        'most abnormal image', for the text alternative.
    """
    values = _as_images(np.asarray(evidence.values, dtype=np.float64))
    expected = _as_images(np.asarray(evidence.reconstructions, dtype=np.float64))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    high = high if high > low else low + 1
    reach = float(np.nanmax(np.abs(values - expected))) or 1.0
    cards = []
    for i in range(len(values)):
        caption = _caption(evidence.meta, i)
        says = f"{what} {i + 1} ({caption.rstrip('.')})"
        off = show(float(np.nanmean(np.abs(values[i] - expected[i]))))
        images = (
            (png(values[i], "gray", low=low, high=high), f"Original of {says}", "original"),
            (
                png(expected[i], "gray", low=low, high=high),
                f"Reconstruction of {says}",
                "reconstruction",
            ),
            (
                png(values[i] - expected[i], "RdBu_r", low=-reach, high=reach),
                f"Difference, original minus reconstruction, of {says}: {off} on average",
                "difference",
            ),
        )
        cards.append(ImageCard(images, caption))
    return cards


def _as_images(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, rows, columns), whatever singleton or flattened form came."""
    if values.ndim == 2:
        side = round(values.shape[1] ** 0.5)
        if side * side == values.shape[1]:
            return values.reshape(len(values), side, side)
        return values[:, None, :]
    return np.asarray(values.reshape(len(values), -1, *values.shape[-2:]).mean(axis=1))


def png(pixels: NDArray[Any], colors: str = "gray", *, low: float = 0.0, high: float = 1.0) -> str:
    """An image as a data URI; the page enlarges it."""
    from matplotlib.image import imsave

    content = io.BytesIO()
    imsave(content, pixels, cmap=colors, vmin=low, vmax=high, format="png")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode('ascii')}"


def _entry(evidence: Evidence, index: int) -> str:
    return evidence.entries[index] if index < len(evidence.entries) else str(index + 1)


def _known(meta: pd.DataFrame, row: int, *, column: str) -> float | None:
    if column not in meta:
        return None
    value = floats(meta, column)[row]
    return float(value) if np.isfinite(value) else None


def _caption(meta: pd.DataFrame, row: int) -> str:
    """'sub-01 · 12.00 to 14.00 s · score 3.2 · p 0.004 · reason.' as far as it is known."""
    import pandas as pd

    words = []
    for column, form in (("recording", "{}"), ("label", "label {}")):
        if column in meta and pd.notna(meta[column].iloc[row]):
            words.append(form.format(shorten(show(meta[column].iloc[row]), 60)))
    onset, length = _known(meta, row, column="onset_s"), _known(meta, row, column="duration_s")
    if onset is not None:
        until = "" if length is None else f" to {seconds(onset + length)}"
        words.append(f"{seconds(onset)}{until} s")
    score, p = _known(meta, row, column="score"), _known(meta, row, column="p_value")
    words += [] if score is None else [f"score\u00a0{show(score)}"]
    words += [] if p is None else [f"p\u00a0{p_value(p)}"]
    for column in ("top_channel", "top_item", "top_band"):
        if column in meta and pd.notna(meta[column].iloc[row]):
            most = "mostly " if column == "top_band" else ""
            words.append(most + shorten(meta[column].iloc[row], 60))
    if "reason" in meta and pd.notna(meta["reason"].iloc[row]):
        words.append(shorten(meta["reason"].iloc[row], 300))
    return f"{' · '.join(words).rstrip('.')}."


def _scale_bar(ax: Axes, lane: float, *, unit: str) -> None:
    """A vertical bar of a round size at the right edge, with its size in the data's unit."""
    size = float(f"{lane:.0e}")  # one significant digit
    edge = ax.get_yaxis_transform()
    ax.plot([1.02, 1.02], [-size / 2, size / 2], color=INK, lw=2, clip_on=False, transform=edge)
    ax.text(
        1.035,
        0,
        f"{show(size)} {unit}".strip(),
        transform=edge,
        rotation=90,
        va="center",
        ha="left",
        fontsize=8,
    )
