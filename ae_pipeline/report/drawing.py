"""How figures are drawn: one style, colours that follow the page, SVG that fits into HTML.

Conventions: a figure is drawn in the colours of the light scheme, which become CSS variables of
the page (``--ink``, ``--c1``, ...), and with real text, so that it reads in light and dark, scales
and prints. Sizes are inches. Nothing touches pyplot's state. A long signal is drawn as its minimum
and maximum per bin, so that a day is no larger than a minute.

Series are told apart by Okabe and Ito's colours (2008), darkened or lightened where a theme needs
contrast, and never by colour alone; quantities by viridis.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from ae_pipeline.report.wording import shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

__all__ = [
    "FLAG",
    "GRID",
    "HALF",
    "INK",
    "MARKERS",
    "MUTED",
    "PAPER",
    "SERIES",
    "SPAN",
    "WIDE",
    "Picture",
    "color_bar",
    "envelope",
    "figure",
    "flags",
    "floats",
    "framed",
    "house_style",
    "inline_svg",
    "legend",
    "log_axis",
    "merge",
    "picture",
    "polyline",
    "time_unit",
]

HALF, WIDE = 4.6, 9.2  # inches: half scales down to a phone, wide scrolls sideways there
MAX_BINS = 700  # of a time axis

# The colours of the light scheme, as a picture file has them; in a page each becomes the variable
# it stands for. No two are equal, and none is likely as a colour of data.
INK, MUTED, GRID, PAPER = "#1a1f24", "#57606a", "#dfe3e8", "#fefefe"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#00916a",
    "#c0659a",
    "#b57c00",
    "#3a8fc2",
    "#837b00",
    "#5b6570",
)
FLAG, SPAN = "#d45e01", "#c3c9d1"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    FLAG: "var(--flag)",
    SPAN: "var(--span)",
} | {color: f"var(--c{i + 1})" for i, color in enumerate(SERIES)}
MARKERS = "os^DvPX*<>"

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.3,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text: selectable, searchable, small
    "svg.hashsalt": "ae-pipeline",
    "text.color": INK,
    "text.parse_math": False,  # a channel called '$x' is no formula
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}
_LOCK = threading.RLock()
_BEYOND_HUNDREDTHS = re.compile(r"(?<=\.\d\d)\d+")


@dataclass(frozen=True)
class Picture:
    """A figure with what a person who cannot see it should know (``alt``) and how to read it."""

    svg: Markup
    alt: str
    caption: str
    wide: bool = False
    drawn: Figure | None = field(default=None, repr=False, compare=False)

    def png(self) -> bytes:
        """The same as a picture file on white, for viewers that show no page."""
        assert self.drawn is not None
        self.drawn.set_layout_engine("none")  # the room was found when it was drawn for the page
        file = io.BytesIO()
        with house_style():
            self.drawn.savefig(file, format="png", dpi=120, facecolor="white", transparent=False)
        return file.getvalue()


# ------------------------------------------------------------------------------- drawing


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says.

    Matplotlib's settings are shared by all threads, hence the lock.
    """
    import matplotlib

    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        # the browser has the glyphs that matplotlib's font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of a size in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height))
    return fig, fig.add_subplot()


def framed(
    width: float,
    height: float,
    *,
    room: tuple[float, float, float, float],
    columns: int = 1,
    heights: Sequence[float] = (1,),
) -> tuple[Figure, list[Axes]]:
    """Axes side by side (or below each other, ``heights`` to one another) with known room.

    ``room`` is left, right, bottom, top, in inches. Finding out how much room labels need costs
    twice as much as drawing them.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # documented
    left, right, bottom, top = room
    fig.subplots_adjust(
        left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=0.08, hspace=0.1
    )
    axes = fig.subplots(
        len(heights),
        columns,
        sharex=len(heights) > 1,
        sharey=len(heights) == 1,
        squeeze=False,
        height_ratios=heights,
    )
    return fig, list(axes.ravel())


def picture(fig: Figure, alt: str, *, caption: str, wide: bool = False) -> Picture:
    """The figure as SVG for a place in the middle of a page."""
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None})
    return Picture(_inline(file.getvalue(), alt), alt, caption, wide, fig)


def _inline(svg: str, alt: str) -> Markup:
    """Make a stand-alone SVG fit into HTML: no namespaces, no ids that clash, the page's colours.

    The text goes through an XML parser and back, so it stays escaped.
    """
    root = ElementTree.fromstring(svg)  # matplotlib wrote it  # nosec B314
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    prefix = f"f{hashlib.sha256((alt + svg).encode()).hexdigest()[:10]}-"
    colors = re.compile("|".join(_VARIABLES))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style", "title"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: text for name, text in element.attrib.items()}
        if attributes.get("id") in used:
            attributes["id"] = prefix + attributes["id"]
        else:
            attributes.pop("id", None)
        if attributes.get("transform", "").startswith("rotate(-0 "):
            del attributes["transform"]
        for name, text in attributes.items():
            if name in ("d", "x", "y"):
                text = _BEYOND_HUNDREDTHS.sub("", text)
            elif name == "style":
                text = colors.sub(lambda found: _VARIABLES[found.group()], text)
                text = re.sub(r" ?font-family: [^;]*;?", "", text)
            if text.startswith("#") and name == "href":
                text = f"#{prefix}{text[1:]}"
            attributes[name] = text.replace("url(#", f"url(#{prefix}")
        element.attrib.clear()
        element.attrib.update(attributes)
        element.tail = None
        if element.tag != "text":
            element.text = None
    width_pt, height_pt = map(float, root.attrib["viewBox"].split()[2:])
    inside = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    return inline_svg(inside, width_pt, height_pt, alt=alt)


def inline_svg(inside: str, width_pt: float, height_pt: float, *, alt: str) -> Markup:
    """An SVG element for a place in the middle of a page; the words ``inside`` are escaped."""
    style = f"max-width: {1.15 * width_pt * 96 / 72:.0f}px"  # larger looks coarse
    return Markup(  # nosec B704
        f'<svg viewBox="0 0 {width_pt:g} {height_pt:g}" role="img" aria-label="{escape(alt)}" '
        f'style="{style}">{inside}</svg>'
    )


def polyline(x_pt: NDArray[np.float64], y_pt: NDArray[np.float64]) -> str:
    """Path data of a line in tenths of a point, relative and whole; NaN breaks it."""
    known = np.flatnonzero(np.isfinite(x_pt + y_pt))
    points = np.rint(10 * np.column_stack([x_pt, y_pt])[known]).astype(int)
    drawn = []
    for run in np.split(points, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else ():
        steps = " ".join(map(str, np.diff(run, axis=0).ravel().tolist()))
        drawn.append(f"M{run[0, 0]} {run[0, 1]}l{steps or '0 0'}")
    return "".join(drawn)


# ------------------------------------------------------------------------- axes and time


def floats(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as float64, NaN where missing, unreadable, infinite or absent."""
    import pandas as pd

    if column not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.asarray(np.where(np.isfinite(values), values, np.nan), dtype=np.float64)


def flags(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """``flagged`` as plain booleans; missing is False."""
    if "flagged" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return frame["flagged"].astype("boolean").fillna(False).to_numpy(dtype=bool)


def envelope(
    x: NDArray[np.float64], y: NDArray[np.float64], *, bins: int = MAX_BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve as a polyline of bounded length, broken where time jumps.

    Up to 2 * ``bins`` points are kept as they are; more become the minimum and maximum of
    ``bins`` equal stretches of time.
    """
    if len(x) > 2 * bins:
        width = (x[-1] - x[0]) / bins
        column = np.minimum(((x - x[0]) / width).astype(int), bins - 1)
        first = np.flatnonzero(np.diff(column, prepend=-1))
        low, high = np.fmin.reduceat(y, first), np.fmax.reduceat(y, first)
        x = np.repeat(x[0] + (column[first] + 0.5) * width, 2)
        y = np.column_stack([low, high]).ravel()
    steps = np.diff(x)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    jumps = np.flatnonzero(steps > 3 * usual) + 1 if usual else np.array([], dtype=int)
    return np.insert(x, jumps, np.nan), np.insert(y, jumps, np.nan)


def merge(spans: Sequence[tuple[float, float]], hair: float) -> list[tuple[float, float]]:
    """Overlapping or touching spans as one; none thinner than a hair, or it could not be seen."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted((float(a), max(float(b), float(a) + hair)) for a, b in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def time_unit(end_s: float) -> tuple[str, float]:
    """Unit that suits a recording of this length, and its seconds."""
    if end_s <= 300:
        return "s", 1.0
    return ("min", 60.0) if end_s <= 3 * 3600 else ("h", 3600.0)


def log_axis(ax: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def color_bar(fig: Figure, ax: Axes, *, drawn: ScalarMappable, label: str) -> None:
    """A slim bar that says what the colours mean; its ends stand for everything beyond."""
    bar = fig.colorbar(drawn, ax=ax, pad=0.015, fraction=0.04, extend="both", aspect=25)
    bar.set_label(shorten(label, 40))
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # 256 rectangles else


def legend(ax: Axes, columns: int = 3, *, above: float = 0.01) -> None:
    """Over the axes, where it hides nothing; ``above`` is a part of their height."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1 + above),
        ncols=columns,
        borderaxespad=0,
        columnspacing=1.2,
        handletextpad=0.5,
    )
