"""Models side by side: one table, one picture, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.report.drawing import (
    GRID,
    MUTED,
    SERIES,
    WIDE,
    Picture,
    floats,
    house_style,
    picture,
)
from ae_pipeline.report.pages import facts_rows, render
from ae_pipeline.report.tables import Cell, Column, Table, link
from ae_pipeline.report.views import CompareView
from ae_pipeline.report.wording import fixed, shorten, show, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_page", "text_table"]

MEASURES = {
    "test_loss": "held-out loss",
    "downstream": "downstream score",
    "detection": "detection (rehearsal area)",
}
MAX_MODELS = 60  # of the picture


def compare_page(view: CompareView) -> str:
    """One HTML page: the choice, the picture, the table, what failed."""
    return render(
        "compare",
        title=view.title,
        kind=f"Comparison · {view.what}",
        hypothesis=view.hypothesis,
        headline=view.headline,
        picture=_dots(view.table),
        table=_table(view),
        failed=Table(
            "Not trained, each with its reason.",
            (Column("model", number=False), Column("why", number=False, prose=True)),
            tuple((Cell(shorten(name, 80)), Cell(shorten(why, 400))) for name, why in view.failed),
        ),
        several_seeds=bool((view.table["seeds"] > 1).any()),
        notes=view.notes,
        facts=facts_rows(view.facts),
    )


def _measures(table: pd.DataFrame) -> list[str]:
    return [name for name in MEASURES if np.isfinite(floats(table, name)).any()]


def _table(view: CompareView) -> Table:
    table = view.table
    measures = _measures(table)
    several = bool((table["seeds"] > 1).any())
    columns = [Column("model", number=False)]
    for name in measures:
        columns += [Column(MEASURES[name]), Column("95% interval", number=False)]
        if name == "test_loss" and several:
            columns.append(Column("over seeds", number=False))
    columns += [
        Column("behind the best"),
        Column("95% interval", number=False),
        Column("told apart", number=False),
        Column("parameters"),
        Column("training (s)"),
    ]
    rows = []
    for _, row in table.iterrows():
        target = view.links.get(str(row["model"]))
        cells = [Cell(shorten(row["model"], 60), "" if target is None else link(target))]
        for name in measures:
            cells += [Cell(fixed(row[name])), Cell(_bounds(row, name))]
            if name == "test_loss" and several:
                least, most = row["test_loss_least"], row["test_loss_most"]
                cells.append(Cell(f"{fixed(least)} to {fixed(most)}" if row["seeds"] > 1 else ""))
        cells += [
            Cell("" if not row["behind"] else f"{row['behind']:.2g}"),
            Cell(_bounds(row, "behind") if row["behind"] else ""),
            Cell("" if not row["behind"] else show(bool(row["told_apart"]))),
            Cell(show(int(row["parameters"]))),
            Cell(f"{row['seconds']:.1f}"),
        ]
        rows.append(tuple(cells))
    words = {"test_loss": "held-out loss", "roc_area": "detection"}[view.primary]
    return Table(f"All models, best by {words} first.", tuple(columns), tuple(rows))


def _bounds(row: pd.Series[Any], name: str) -> str:
    return span((row[f"{name}_low"], row[f"{name}_high"]))


def _dots(table: pd.DataFrame) -> Picture | None:
    """A panel for each measure, a line for each model; linear methods have another mark."""
    from matplotlib.figure import Figure

    measures = _measures(table)
    if not measures or table.empty:
        return None
    shown = table.head(MAX_MODELS)
    place = np.arange(len(shown))
    linear = (shown["objective"] == "").to_numpy()
    with house_style():
        fig = Figure(figsize=(WIDE, 0.24 * len(shown) + 1.0))
        axes = np.atleast_1d(np.asarray(fig.subplots(1, len(measures), sharey=True)))
        for ax, name in zip(axes, measures, strict=True):
            values = floats(shown, name)
            low, high = floats(shown, f"{name}_low"), floats(shown, f"{name}_high")
            ax.hlines(place, low, high, color=MUTED, linewidth=1)
            for chosen, color, marker in ((~linear, SERIES[0], "o"), (linear, SERIES[1], "D")):
                ax.plot(values[chosen], place[chosen], marker, color=color, markersize=5)
            ax.grid(visible=True, axis="y", color=GRID)
            ax.set(xlabel=MEASURES[name])
        axes[0].set_yticks(place, [shorten(name, 34) for name in shown["model"]])
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        best = shown.iloc[0]
        alt = (
            f"{len(shown)} models, best first: {shorten(best['model'], 40)} "
            + ", ".join(f"{MEASURES[name]} {fixed(best[name])}" for name in measures)
            + f"; last {shorten(shown.iloc[-1]['model'], 40)}."
        )
        caption = (
            "Each model's measures with 95% intervals; diamonds are linear methods. Loss is "
            "better to the left, the others to the right."
        )
        return picture(fig, alt, caption=caption, wide=True)


def text_table(table: pd.DataFrame) -> list[str]:
    """The table as lines for a terminal."""
    measures = _measures(table)
    heads = {"test_loss": "loss", "downstream": "probe", "detection": "detection"}
    wide = max(len("model"), *(len(str(name)) for name in table["model"]))
    lines = [
        f"{'model':{wide}}  "
        + "  ".join(f"{heads[name]:>9}" for name in measures)
        + f"  {'parameters':>10}  {'seconds':>7}"
    ]
    for _, row in table.iterrows():
        lines.append(
            f"{row['model']:{wide}}  "
            + "  ".join(f"{fixed(row[name]):>9}" for name in measures)
            + f"  {int(row['parameters']):>10,}  {row['seconds']:>7.1f}"
        )
    return lines
