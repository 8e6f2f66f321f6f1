"""What a reader moves: the latent map (other projections, other colours) and the score over time.

Drawn by plotly.js (its basic bundle, kept in ``scripts/``), which is put into the page together
with the points. The page's content policy names the digests of these scripts and allows no other,
so that no text from a file can ever run. Without scripts, and on paper, the still picture shows.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ae_pipeline.report.drawing import envelope, floats, merge, time_unit
from ae_pipeline.report.wording import seconds, shorten, show, spoken

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MovingMap",
    "MovingTimeline",
    "moving_map",
    "moving_timeline",
    "policy",
    "scripts",
]

MAX_POINTS = 2_000
MAX_GROUPS = 10
MAX_EVENTS = 500
MOST_BINS = 5_000
COLORS = ("label", "score", "subject", "part")
SEED = 0
_SCRIPTS = Path(__file__).parent.with_name("scripts")


@dataclass(frozen=True)
class MovingMap:
    """What the script draws, as plain lists; ``planes`` and ``colors`` name the choices."""

    data: dict[str, Any]
    planes: tuple[str, ...]
    colors: tuple[str, ...]


@dataclass(frozen=True)
class MovingTimeline:
    """What the script draws, as plain lists; times in ``unit``."""

    data: dict[str, Any]


@cache
def scripts() -> tuple[Markup, ...]:
    """The scripts of a page with something to move, in order."""
    plotly = gzip.decompress((_SCRIPTS / "plotly-basic.min.js.gz").read_bytes()).decode()
    own = [(_SCRIPTS / name).read_text(encoding="utf-8") for name in ("map.js", "timeline.js")]
    return tuple(Markup(text) for text in (plotly, *own))


@cache
def policy() -> str:
    """Sources for the page's content policy: these scripts and no others."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts()]
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def moving_map(
    latents: pd.DataFrame | None,
    scores: pd.DataFrame,
    *,
    first: str | None = None,
    neighbours: bool = False,
) -> MovingMap | None:
    """At most 2,000 points of the latent space with everything a reader may ask of them.

    Parameters
    ----------
    latents : DataFrame
        Keys, then ``z00``, ``z01``, ...
    scores : DataFrame
        With the same keys; gives ``score``, ``label``, ``subject`` and ``part``.
    first : str, optional
        The colour shown first.
    neighbours : bool
        Also by t-SNE (van der Maaten and Hinton, 2008), and by UMAP (McInnes et al., 2018)
        where ``umap-learn`` is installed: seconds.
    """
    if latents is None:
        return None
    names = [name for name in latents.columns if re.fullmatch(r"z\d+", str(name))]
    if len(names) < 2 or len(latents) < 3:
        return None
    z = latents[names].to_numpy(dtype=np.float64, na_value=np.nan)
    rows = np.flatnonzero(np.isfinite(z).all(1))
    if len(rows) < 3:
        return None
    if len(rows) > MAX_POINTS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_POINTS, replace=False))
    points = _joined(latents, scores).iloc[rows].reset_index(drop=True)
    wanted = dict.fromkeys([*([first] if first else []), *COLORS])
    colors = [c for name in wanted if name in points and (c := _color(points[name], name))]
    if not colors:
        colors = [{"name": "none", "groups": [_group("all", np.arange(len(points)))]}]
    planes = _planes(np.ascontiguousarray(z[rows]).tobytes(), len(names), neighbours=neighbours)
    data = {"planes": planes, "colors": colors, "hover": _hover(points)}
    return MovingMap(
        data, tuple(p["name"] for p in planes), tuple(html.unescape(c["name"]) for c in colors)
    )


def moving_timeline(
    scores: pd.DataFrame,
    threshold: float | None = None,
    *,
    bad_spans: Sequence[tuple[float, float]] = (),
    events: pd.DataFrame | None = None,
) -> MovingTimeline | None:
    """The score of a recording over time, to zoom into; see :func:`figures.timeline`.

    Parameters
    ----------
    scores : DataFrame
        ``onset_s``, ``duration_s``, ``score``; one row a window, any order.
    threshold : float, optional
    bad_spans : sequence of (onset_s, end_s)
    events : DataFrame, optional
        ``onset``, ``duration``, ``number``, ``score``, ``trial_type``, ``channel``.
    """
    if scores.empty or not {"onset_s", "duration_s", "score"} <= set(scores):
        return None
    rows = scores.sort_values("onset_s", kind="stable")
    onset, duration, score = (floats(rows, name) for name in ("onset_s", "duration_s", "score"))
    known = np.isfinite(onset) & np.isfinite(duration) & np.isfinite(score)
    if known.sum() < 3:
        return None
    onset, duration, score = onset[known], duration[known], score[known]
    end_s = max([float((onset + duration).max()), *(float(stop) for _, stop in bad_spans)])
    unit, scale = time_unit(end_s)
    x, y = envelope(onset + duration / 2, score, bins=MOST_BINS)

    def short(values: Any) -> list[float | None]:
        return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]

    found: dict[str, list[Any]] = {"time": [], "score": [], "number": [], "hover": []}
    flagged: list[tuple[float, float]] = []
    if events is not None and not events.empty:
        for row in events.to_dict(orient="records"):
            flagged.append((float(row["onset"]), float(row["onset"] + row["duration"])))
        for row in events.head(MAX_EVENTS).to_dict(orient="records"):
            said = [
                f"{row.get('number', '')} {row.get('trial_type', 'event')}".strip(),
                f"{seconds(row['onset'])} s, {seconds(row['duration'])} s long",
                shorten(show(row.get("channel", "")), 60),
            ]
            middle = row["onset"] + row["duration"] / 2
            found["time"].append(float(f"{middle / scale:.6g}"))
            found["score"].append(short([row.get("score", np.nan)])[0])
            found["number"].append(str(row.get("number", "")))
            found["hover"].append("<br>".join(html.escape(part) for part in said if part))
    hair = end_s / 5_000

    def scaled(spans: Sequence[tuple[float, float]]) -> list[list[float | None]]:
        return [short([start / scale, stop / scale]) for start, stop in merge(spans, hair)]

    limit = None if threshold is None or not np.isfinite(threshold) else float(threshold)
    return MovingTimeline(
        {
            "time": short(x / scale),
            "score": short(y),
            "threshold": limit,
            "unit": unit,
            "end": end_s / scale,
            "bad": scaled(bad_spans),
            "flagged": scaled(flagged),
            "events": found,
        }
    )


def _joined(latents: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Latents with the columns of the scores that they lack, in the order of the latents."""
    keys = [k for k in ("recording", "window", "part") if k in latents and k in scores]
    more = [
        n
        for n in ("label", "score", "subject", "p_value", "onset_s")
        if n in scores and n not in latents
    ]
    if not keys or not more or scores.duplicated(keys).any():
        return latents
    return latents.merge(scores[[*keys, *more]], on=keys, how="left")


@lru_cache(maxsize=2)  # the page with pseudonyms shows the same points
def _planes(content: bytes, n_latents: int, neighbours: bool) -> list[dict[str, Any]]:
    z = np.frombuffer(content).reshape(-1, n_latents)
    centred = z - z.mean(0)
    directions, power, _ = np.linalg.svd(centred.T @ centred)
    shares = 100 * power / max(float(power.sum()), 1e-30)
    found = [
        _plane(
            "PCA",
            centred @ directions[:, :2],
            axes=[
                f"{n} component ({s:.0f} %)"
                for n, s in zip(("first", "second"), shares, strict=False)
            ],
            says="The two directions in which the latent features vary most.",
            ticks=True,
        )
    ]
    if not neighbours or len(z) < 10:
        return found
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # features of one size, or the largest would decide alone who is whose neighbour
    scaled = centred / np.maximum(centred.std(0), 1e-12)
    perplexity = min(30.0, (len(z) - 1) / 3)
    method = TSNE(2, perplexity=perplexity, init="pca", max_iter=500, random_state=SEED)
    # its loops are so short that threads wait for each other (forty times longer on a busy
    # machine), and sums over threads give another map each time
    with threadpool_limits(1):
        plane = method.fit_transform(scaled)
    says = "Neighbours stay neighbours; distances between groups and their sizes mean little."
    found.append(_plane("t-SNE", plane, axes=["", ""], says=says, ticks=False))
    by_umap = _umap(scaled)
    if by_umap is not None:
        found.append(_plane("UMAP", by_umap, axes=["", ""], says=says, ticks=False))
    return found


def _umap(z: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """None where umap-learn is not installed."""
    import warnings

    try:
        import umap
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(umap.UMAP(random_state=SEED, n_jobs=1).fit_transform(z))


def _plane(
    name: str, points: NDArray[Any], *, axes: list[str], says: str, ticks: bool
) -> dict[str, Any]:
    scale = 10 ** (4 - np.ceil(np.log10(np.abs(points).max() + 1e-30)))
    rounded = np.round(points * scale) / scale  # four digits are finer than a screen
    columns = [[float(f"{value:.4g}") for value in column] for column in rounded.T]
    return {"name": name, "points": columns, "axes": axes, "says": says, "ticks": ticks}


def _color(values: pd.Series[Any], name: str) -> dict[str, Any] | None:
    """A quantity as numbers, anything else as groups, the ten largest by name."""
    import pandas as pd

    if values.isna().all():
        return None
    title = html.escape(shorten(spoken(name), 40))
    if pd.api.types.is_float_dtype(values):
        number = floats(values.to_frame(name), name)
        low, high = np.nanpercentile(number, [1, 99])
        shown = [None if not np.isfinite(v) else float(f"{v:.4g}") for v in number]
        return {"name": title, "values": shown, "range": [float(low), float(high)]}
    text = values.map(show).to_numpy(dtype=object)
    counts = pd.Series(text).value_counts()
    kept = sorted(counts.index[:MAX_GROUPS], key=str)
    groups = [_group(shorten(name, 24), np.flatnonzero(text == name)) for name in kept]
    others = np.flatnonzero(~np.isin(text, kept))
    if len(others):
        groups.append({**_group(f"{len(counts) - len(kept)} others", others), "other": True})
    return {"name": title, "groups": groups}


def _group(name: str, rows: NDArray[np.intp]) -> dict[str, Any]:
    return {"name": html.escape(name), "rows": rows.tolist()}


def _hover(points: pd.DataFrame) -> list[str]:
    """What is under the mouse: plotly reads a little HTML, so everything is escaped."""
    import pandas as pd

    lines = []
    windowed = "onset_s" in points and points["onset_s"].notna().any()
    columns = [n for n in ("subject", "label", "part", "score", "p_value") if n in points]
    if "subject" in points and "recording" in points:
        same = points["subject"].tolist() == points["recording"].tolist()
        columns = [n for n in columns if n != "subject" or not same]
    for row in points.to_dict(orient="records"):
        said = [shorten(show(row.get("recording", "")), 60)]
        if windowed:
            said.append(f"window {show(row.get('window'))} at {seconds(row['onset_s'])} s")
        said += [
            f"{name.replace('_value', '')} {shorten(show(row[name]), 40)}"
            for name in columns
            if pd.notna(row[name])
        ]
        lines.append("<br>".join(html.escape(part) for part in said))
    return lines
