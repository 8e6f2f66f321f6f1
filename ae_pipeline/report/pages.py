"""Views to pages: each function returns one HTML file as text, which needs nothing beside it.

Everything a page shows passes through templates that escape by default; a content policy in the
page forbids loading anything. Sizes are bounded by what is shown, not by what was scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ae_pipeline.report.drawing import Picture, flags, floats, time_unit
from ae_pipeline.report.pictures import figures
from ae_pipeline.report.pictures.evidence import ImageCard, answers, image_cards, traces
from ae_pipeline.report.pictures.glance import strips
from ae_pipeline.report.pictures.interactive import moving_map, moving_timeline, policy, scripts
from ae_pipeline.report.pictures.scalp import scalp_maps
from ae_pipeline.report.tables import Cell, Column, Table, link, losses, others, table
from ae_pipeline.report.views import (
    Evidence,
    GroupView,
    Headline,
    IndexView,
    Listing,
    PlainView,
    RecordingView,
    RowsView,
    Section,
    TrainView,
)
from ae_pipeline.report.wording import seconds, shorten, show

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment, Template

__all__ = [
    "Drawn",
    "draw",
    "facts_rows",
    "group_page",
    "index_page",
    "layers_table",
    "listing_page",
    "plain_page",
    "recording_page",
    "render",
    "rows_page",
    "train_figures",
    "train_page",
]

MAX_SHOWN = 8  # samples of evidence
MAX_PEOPLE = 3  # whose answers are drawn; those of many are in answers.csv
MAX_EVENTS = 50
MAX_TOP = 20
MAX_ROWS = 2_000  # of any other table
_EVENT = (
    "number",
    "onset",
    "duration",
    "trial_type",
    "channel",
    "score",
    "p_value",
    "false_alarms_per_hour",
    "reason",
)
_NEAR = (
    "onset_s",
    "duration_s",
    "looks_like",
    "channel",
    "band",
    "score",
    "reached",
    "evidence",
)
_NEAR_SAYS = (
    "On the way to the threshold 0% is the median window of this recording. A name says what a "
    "window looks like, not what it is."
)
_ROW: tuple[str, ...] = (
    "recording",
    "subject",
    "label",
    "score",
    "p_value",
    "q_value",
    "flagged",
    "top_item",
    "reason",
)
_GLANCE = (
    "recording",
    "verdict",
    "usable_share",
    "events_per_hour",
    "p_value",
    "q_value",
    "length",
    "reason",
)
_DETAILS = ("recording", "subject", "score", "flagged", "n_events", "quality_findings")


@dataclass(frozen=True)
class _Shown:
    """Evidence in the form its layout takes."""

    pictures: tuple[Picture, ...] = ()
    cards: tuple[ImageCard, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.pictures or self.cards)


@dataclass(frozen=True)
class Drawn:
    """Figures that name nobody: the same on a page and on its pseudonymised copy."""

    histogram: Picture | None
    map: Picture | None
    loss: Picture | None = None


def draw(view: TrainView | RowsView) -> Drawn:
    """The figures of a training or rows page that are not about anybody.

    They are about somebody where ``color_by`` is: then each copy of the page has its own.
    """
    latent_map = _map(view.latents, view.scores, color_by=view.color_by)
    if isinstance(view, RowsView):
        histogram = figures.score_histogram(view.scores, by=None, threshold=view.threshold)
        return Drawn(histogram, latent_map)
    histogram = figures.score_histogram(view.scores)
    return Drawn(histogram, latent_map, figures.loss_curve(view.history))


def train_page(view: TrainView, drawn: Drawn | None = None) -> str:
    """Report of a training run: loss, baselines, extremes, latent map, layers, provenance."""
    compared, comparison = losses(view.metrics)
    drawn = drawn or draw(view)
    return _render(
        "train",
        view,
        kind=f"Training report · {view.what}",
        hypothesis=view.hypothesis,
        loss=drawn.loss,
        losses=compared,
        comparison=comparison,
        others=others(view.metrics),
        histogram=drawn.histogram,
        worst=_shown(view.worst, view.thing, which="most abnormal"),
        best=_shown(view.best, view.thing, which="most usual"),
        elsewhere=_elsewhere(view),
        map=drawn.map,
        moving=moving_map(view.latents, view.scores, first=view.color_by, neighbours=True),
        layers=layers_table(view.layers),
        sections=_sections(view.sections),
    )


def train_figures(drawn: Drawn) -> dict[str, bytes]:
    """The training page's main figures as PNG files by name, for MLflow's viewer."""
    pictures = {
        "loss.png": drawn.loss,
        "scores.png": drawn.histogram,
        "latent-map.png": drawn.map,
    }
    return {name: picture.png() for name, picture in pictures.items() if picture is not None}


def recording_page(view: RecordingView) -> str:
    """Report of one EEG recording: when, where, what it looked like, how sure."""
    events = view.events
    if events is not None:
        events = events.assign(number=range(1, len(events) + 1))
    where = scalp = None
    if view.channel_scores is not None:
        where = figures.heat_map(view.scores, view.channel_scores, ch_names=view.ch_names)
        if events is not None and view.positions_m is not None:
            scalp = scalp_maps(
                view.scores,
                events,
                channel_scores=view.channel_scores,
                ch_names=view.ch_names,
                positions_m=view.positions_m,
            )
    return _render(
        "recording",
        view,
        kind="Recording report · EEG",
        timeline=figures.timeline(
            view.scores, view.threshold, bad_spans=view.bad_spans, events=events
        ),
        over_time=moving_timeline(
            view.scores, view.threshold, bad_spans=view.bad_spans, events=events
        ),
        events=table(
            events, _EVENT, caption="Events, numbered as in the figure.", limit=MAX_EVENTS
        ),
        highest=_highest(view.scores, view.threshold),
        near=table(view.near, _NEAR, caption=_NEAR_SAYS, limit=MAX_EVENTS),
        heat_map=where,
        scalp=scalp,
        quality=table(
            view.quality, ("name", "reason"), caption="Channels found bad, and why.", limit=MAX_ROWS
        ),
        worst=_shown(view.worst, "window", which="most abnormal"),
        best=_shown(view.best, "window", which="most usual"),
        histogram=figures.score_histogram(view.scores, by=None, threshold=view.threshold),
        map=_map(view.latents, view.scores, color_by="score"),
        moving=moving_map(view.latents, view.scores, first="score"),
    )


def _highest(scores: pd.DataFrame | None, threshold: float | None) -> str:
    """How near a recording without events came to one."""
    if scores is None or threshold is None or not {"score", "onset_s"} <= {*scores}:
        return ""
    values = np.nan_to_num(scores["score"].to_numpy(float), nan=-np.inf)
    if not len(values) or not np.isfinite(values.max()) or values.max() > threshold:
        return ""
    at_s = seconds(float(scores["onset_s"].iloc[int(values.argmax())]))
    return (
        f" The highest score, {show(float(values.max()))} at {at_s} s, is below the threshold of "
        f"{show(float(threshold))}; that window is the first of the highest ones below."
    )


def rows_page(view: RowsView, drawn: Drawn | None = None) -> str:
    """Report of a scored table or set of images: extremes, items, all rows."""
    drawn = drawn or draw(view)
    top = view.scores
    if "score" in top:
        top = top.sort_values("score", ascending=False, kind="stable")
    columns = _ROW
    if {"subject", "recording"} <= set(top) and (top["subject"] == top["recording"]).all():
        columns = tuple(name for name in _ROW if name != "subject")
    items = view.items
    return _render(
        "rows",
        view,
        kind=f"Score report · {view.what}",
        things=view.things,
        worst=_shown(view.worst, view.thing, which="most abnormal"),
        best=_shown(view.best, view.thing, which="most usual"),
        elsewhere=_elsewhere(view),
        top=table(top.head(MAX_TOP), columns, caption="The highest scores.", limit=MAX_TOP),
        items=table(
            items,
            () if items is None else tuple(map(str, items.columns)),
            caption="Items, and how far answers are from what the model expects.",
            limit=MAX_ROWS,
        ),
        histogram=drawn.histogram,
        map=drawn.map,
        moving=moving_map(view.latents, view.scores, first=view.color_by),
        sections=_sections(view.sections),
    )


def group_page(view: GroupView) -> str:
    """Report over everything scored in one folder, worst first."""
    rows = view.recordings
    failed = rows.iloc[:0]
    tally: list[tuple[str, int]] = []
    if "verdict" in rows:
        failed = rows[rows["verdict"] == "failed"]
        rows = rows[rows["verdict"].isna() | (rows["verdict"] != "failed")]
        counts = view.recordings["verdict"].dropna().value_counts()
        tally = [(shorten(name, 40), int(count)) for name, count in counts.items()]
    worst = np.lexsort((-np.nan_to_num(floats(rows, "score"), nan=-np.inf), ~flags(rows)))
    rows = rows.iloc[worst]
    drawn = strips(view.scores, view.threshold)
    return _render(
        "group",
        view,
        kind="Group report",
        tally=tally,
        ranking=figures.ranking(rows),
        failed=table(
            failed,
            ("recording", "subject", "reason"),
            caption="Failed, each with its reason.",
            limit=MAX_ROWS,
        ),
        table=table(
            rows.assign(length=_lengths(rows)),
            _GLANCE,
            caption=_STRIPS if drawn else "Everything that was scored.",
            limit=MAX_ROWS,
            links=view.links,
            pictures=drawn,
        ),
        details=table(
            rows, _DETAILS, caption="What was measured.", limit=MAX_ROWS, links=view.links
        ),
    )


_STRIPS = (
    "Score over time, the same scale in all: orange stands over the threshold (dashed), grey was "
    "not scored; each strip is as wide as its recording is long."
)


def _lengths(rows: pd.DataFrame) -> list[str]:
    """Lengths of recordings in the unit that suits each."""
    found = []
    for length_s in floats(rows, "duration_s"):
        unit, scale = time_unit(float(length_s))
        found.append(f"{length_s / scale:.3g} {unit}" if np.isfinite(length_s) else "")
    return found


def plain_page(view: PlainView) -> str:
    """A page of sections."""
    return _render("plain", view, kind=view.what, sections=_sections(view.sections))


def listing_page(title: str, kind: str, *, headline: Headline, listings: Sequence[Listing]) -> str:
    """One page of tables under headings, the verdict first: a digest, a comparison.

    Parameters
    ----------
    title, kind : str
        What the page is about, and the line above it.
    headline : Headline
    listings : sequence of Listing
    """
    return _template("listing").render(
        title=title,
        kind=kind,
        hypothesis=None,
        headline=headline,
        sections=[
            {
                "title": section.title,
                "columns": section.columns,
                "nothing": section.nothing,
                "rows": [
                    {"cells": cells, "href": link(href) if href else ""}
                    for cells, href in section.rows
                ],
            }
            for section in listings
        ],
    )


def index_page(view: IndexView) -> str:
    """One page that leads to the others: what to look at first, a part for each data set."""
    return _template("index").render(
        title=view.title,
        kind="Start here",
        hypothesis=None,
        headline=view.headline,
        first=[(words, link(path)) for words, path in view.first],
        entries=[
            {
                "entry": entry,
                "href": link(entry.href),
                "kind": entry.kind,
                "cards": _shown(entry.cards, "image", which="new"),
                "found": [
                    table(frame, tuple(map(str, frame.columns)), caption=caption, limit=MAX_ROWS)
                    for caption, frame in entry.found
                ],
                "more": [(words, link(path)) for words, path in entry.more],
            }
            for entry in view.entries
        ],
        commands=view.commands,
        notes=(),
        methods="",
        facts=facts_rows(view.facts),
    )


# -------------------------------------------------------------------------------- pieces


def _sections(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections with their frames as tables."""
    return [
        {
            "title": section.title,
            "text": section.text,
            "pictures": section.pictures,
            "tables": [
                table(frame, tuple(map(str, frame.columns)), caption=caption, limit=MAX_ROWS)
                for caption, frame in section.frames
            ],
        }
        for section in sections
    ]


def _elsewhere(view: TrainView | RowsView) -> bool:
    """Whether samples are shown in the sections instead: people with what was expected of them."""
    return view.worst is None and bool(view.sections)


def _shown(evidence: Evidence | None, thing: str, *, which: str) -> _Shown:
    """Evidence as traces, images or answers; nothing where nothing was kept."""
    if evidence is None or not len(evidence):
        return _Shown()
    if evidence.layout == "grid":
        few = Evidence(
            evidence.values[:MAX_SHOWN],
            evidence.reconstructions[:MAX_SHOWN],
            evidence.meta.iloc[:MAX_SHOWN],
        )
        return _Shown(cards=tuple(image_cards(few, f"{which} {thing}")))
    series = evidence.layout == "series"
    draw = traces if series else answers
    rows = range(min(len(evidence), MAX_SHOWN if series else MAX_PEOPLE))
    return _Shown(
        tuple(draw(evidence, i, rank=f"{which.capitalize()} {thing} {i + 1}") for i in rows)
    )


def _map(
    latents: pd.DataFrame | None, scores: pd.DataFrame, *, color_by: str | None
) -> Picture | None:
    """The latent map, coloured by a column of either frame; by label, else score, if not said."""
    if latents is None or latents.empty:
        return None
    wanted = (color_by,) if color_by is not None else ("label", "score")
    for name in wanted:
        if name in latents:
            return figures.latent_map(latents, latents[name], color_name=name)
        keys = [key for key in ("recording", "window", "part") if key in latents and key in scores]
        if name in scores and keys and not scores.duplicated(keys).any():
            joined = latents[keys].merge(scores[[*keys, name]], on=keys, how="left")
            return figures.latent_map(latents, joined[name], color_name=name)
    return figures.latent_map(latents)


def layers_table(layers: Sequence[tuple[str, Any, int]]) -> Table:
    """Layers in order, with the shape of what they put out and their parameters."""
    columns = (
        Column("layer", number=False),
        Column("output shape", number=False),
        Column("parameters"),
    )
    rows = [
        (
            Cell(shorten(name, 80)),
            Cell(" × ".join(map(str, shape)) if isinstance(shape, list | tuple) else show(shape)),
            Cell(show(count)),
        )
        for name, shape, count in layers
    ]
    total = sum(count for _, _, count in layers)
    return Table(f"Layers, in order; {total:,} parameters in all.", columns, tuple(rows))


# ------------------------------------------------------------------------------- rendering


def _render(
    name: str, view: TrainView | RecordingView | RowsView | GroupView | PlainView, **content: Any
) -> str:
    return _template(name).render(
        {"hypothesis": None} | _scripts(content) | content,
        title=view.title,
        headline=view.headline,
        notes=view.notes,
        methods=view.methods,
        facts=facts_rows(view.facts),
    )


def render(name: str, **content: Any) -> str:
    """A page from the template ``name``; see ``base.html.j2`` for what every page needs."""
    return _template(name).render({"hypothesis": None, "methods": ""} | content)


def _scripts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Scripts and the policy that allows them, for a page with something to move."""
    if not content.get("moving") and not content.get("over_time"):
        return {}
    return {"scripts": scripts(), "policy": Markup(policy())}


def facts_rows(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    """The provenance table, no text longer than a page bears."""
    return [(shorten(name, 120), shorten(show(text), 2_000)) for name, text in facts.items()]


def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.html.j2")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("ae_pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else show(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
