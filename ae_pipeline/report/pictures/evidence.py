"""Samples beside their reconstruction: EEG traces, a person's answers, images.

EEG amplitudes are in the unit of the evidence (microvolts), times in seconds from the
recording's start; images run from 0 to 1; NaN is what was not observed.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape
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
    inline_svg,
    legend,
    picture,
    polyline,
)
from ae_pipeline.report.views import Evidence
from ae_pipeline.report.wording import p_value, seconds, shorten, show

if TYPE_CHECKING:
    import pandas as pd

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
    caption = _caption(evidence.meta, row)
    alt = (
        f"{rank}, from {seconds(float(time[0]))} s: signal and reconstruction in "
        f"{evidence.unit or 'the data unit'}; furthest apart in "
        f"{', '.join(shorten(name, 24) for name in names[:3])}, "
        f"by {show(float(off[chosen[0]]))} {evidence.unit} on average."
    )
    panels = [_Panel("", time, (("reconstruction", expected), ("signal", signal)))]
    if beside is not None:
        normal, normal_s = beside
        then = normal_s + np.arange(normal.shape[1]) / (evidence.sfreq_hz or 1.0)
        when = f"nearest normal window, {seconds(normal_s)} s"
        panels = [
            replace(panels[0], title=f"{rank}, {seconds(float(time[0]))} s"),
            _Panel(when, then, (("signal", normal),)),
        ]
        alt += f" Beside it the nearest normal window, from {seconds(normal_s)} s."
        caption += (
            f" Right: the same channels at {seconds(normal_s)} s, the window clear of events "
            "with the nearest code."
        )
    if len(evidence.values[row]) > len(chosen):
        caption += f" The {len(chosen)} of {len(evidence.values[row])} channels furthest off."
    if cut:
        caption += f" Cut at ±{show(float(f'{1.2 * lane:.2g}'))} {evidence.unit}."
    svg = _lanes(panels, [shorten(name, 14) for name in names], lane=lane, unit=evidence.unit)
    return Picture(inline_svg(*svg, alt=alt), alt, caption, wide=beside is not None)


@dataclass(frozen=True)
class _Panel:
    """Channels below each other over one stretch of time; each series is (channels, times)."""

    title: str
    time: NDArray[np.float64]
    series: tuple[tuple[str, NDArray[np.float64]], ...]


_LOOKS = {"reconstruction": ("var(--c2)", 1.5), "signal": ("var(--ink)", 0.9)}
LANE_PT, GAP_PT, RIGHT_PT, BELOW_PT = 26.0, 22.0, 29.0, 32.0


def _lanes(
    panels: Sequence[_Panel], labels: Sequence[str], *, lane: float, unit: str
) -> tuple[str, float, float]:
    """SVG of panels side by side, its width and height in points.

    By hand: a recording's page has nine, which take matplotlib longer than all that was computed.
    """
    titled = any(panel.title for panel in panels)
    left, top = 14 + 5.4 * max(map(len, labels)), 40.0 if titled else 25.0
    size = 72 * (WIDE if len(panels) > 1 else HALF)
    width = (size - left - RIGHT_PT - GAP_PT * (len(panels) - 1)) / len(panels)
    floor = top + LANE_PT * (len(labels) + 0.8)
    middles = top + LANE_PT * (0.9 + np.arange(len(labels)))
    parts = [
        _text(left - 4, y + 3, label, anchor="end")
        for y, label in zip(middles, labels, strict=True)
    ]
    key = left
    for name, _ in panels[0].series:
        color, weight = _LOOKS[name]
        parts.append(
            f'<path d="M{key:.0f} {top - 7:.0f}h13" '
            f'style="stroke: {color}; stroke-width: {weight}"/>'
        )
        parts.append(_text(key + 17, top - 4, name))
        key += 30 + 4.6 * len(name)
    for number, panel in enumerate(panels):
        start = left + number * (width + GAP_PT)
        first, last = float(panel.time[0]), float(panel.time[-1])
        across = width / ((last - first) or 1.0)
        parts.append(_text(start, 11, panel.title, size_pt=9) if panel.title else "")
        parts += _time_axis(start, across, first=first, last=last, top=top, floor=floor)
        for name, signal in panel.series:
            color, weight = _LOOKS[name]
            lines = []
            for values, middle in zip(signal, middles, strict=True):
                x, y = envelope(panel.time, np.clip(values, -1.2 * lane, 1.2 * lane))
                y = np.clip(middle - y * (LANE_PT / lane), top, floor)
                lines.append(polyline(start + (x - first) * across, y))
            # in tenths of a point, so that coordinates are short
            parts.append(
                f'<path transform="scale(.1)" d="{"".join(lines)}" style="fill: none; '
                f'stroke: {color}; stroke-width: {10 * weight:g}"/>'
            )
    bar = float(f"{lane:.0e}")  # one significant digit
    half, at, level = bar / lane * LANE_PT / 2, size - RIGHT_PT + 6, float(middles[0])
    parts.append(
        f'<path d="M{at:.1f} {level - half:.1f}v{2 * half:.1f}" '
        'style="stroke: var(--ink); stroke-width: 2"/>'
    )
    said = f"{show(bar)} {unit}".strip()
    parts.append(_text(at + 11, level, said, anchor="middle", turned=True))
    return "".join(parts), size, floor + BELOW_PT


def _time_axis(
    start: float, across: float, *, first: float, last: float, top: float, floor: float
) -> list[str]:
    """Grid lines and numbers for seconds from ``first`` to ``last``."""
    from matplotlib.ticker import MaxNLocator

    ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(first, last))
    digits = max(0, -int(np.floor(np.log10(ticks[1] - ticks[0]) + 1e-9)))
    drawn = []
    for tick in ticks[(ticks >= first - 1e-9) & (ticks <= last + 1e-9)]:
        x = start + (tick - first) * across
        drawn.append(
            f'<path d="M{x:.1f} {top:.0f}V{floor:.1f}" '
            'style="stroke: var(--grid); stroke-width: 0.6"/>'
        )
        drawn.append(_text(x, floor + 13, f"{tick:.{digits}f}", anchor="middle"))
    end = start + (last - first) * across
    drawn.append(
        f'<path d="M{start:.1f} {floor:.1f}H{end:.1f}" '
        'style="stroke: var(--muted); stroke-width: 0.8"/>'
    )
    drawn.append(_text((start + end) / 2, floor + 26, "time (s)", anchor="middle", size_pt=9))
    return drawn


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size_pt: int = 8, turned: bool = False
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"{turn} style="font-size: {size_pt}px; '
        f'text-anchor: {anchor}; fill: var(--ink)">{escape(text)}</text>'
    )


def _normal(
    evidence: Evidence, row: int, *, chosen: NDArray[np.intp]
) -> tuple[NDArray[np.float64], float] | None:
    """The nearest normal window of some channels around their medians, and when it begins."""
    if evidence.normal is None or evidence.normal_s is None:
        return None
    normal = np.array(evidence.normal[row], dtype=np.float64)[chosen]
    return normal - np.nanmedian(normal, axis=1, keepdims=True), float(evidence.normal_s[row])


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
