"""Tables of the reports: a few columns of a frame, in words a person reads.

A column that is missing or holds nothing is left out; a cell's text is plain and is escaped by
the template. Long texts are shortened, long tables cut, and the caption says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from ae_pipeline.report.wording import comma_list, p_value, seconds, share, shorten, show, spoken

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Cell", "Column", "Table", "link", "losses", "others", "table"]

MAX_CELL = 240  # characters

Form = Callable[[Any], str]


@dataclass(frozen=True)
class Column:
    """Heading and form of one column."""

    label: str
    form: Form = show
    number: bool = True
    prose: bool = False

    @property
    def kind(self) -> str:
        """The class of its cells in the page."""
        return "number" if self.number else "prose" if self.prose else "text"


@dataclass(frozen=True)
class Cell:
    """One cell; ``href`` is ready for an attribute, ``picture`` stands instead of a text."""

    text: str
    href: str = ""
    picture: Markup | None = None

    @property
    def kind(self) -> str:
        """Short texts stay on a line; a word too long for the page may be broken anywhere."""
        if len(self.text) <= 24:
            return "short"
        return "long" if any(len(word) > 32 for word in self.text.split()) else ""


@dataclass(frozen=True)
class Table:
    """What the template draws."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


# How the columns of contract files read. What is not listed here is shown as it is called.
COLUMNS: Mapping[str, Column] = {
    "recording": Column("recording", number=False),
    "subject": Column("subject", number=False),
    "window": Column("window"),
    "number": Column("no."),
    "onset": Column("from (s)", seconds),
    "onset_s": Column("from (s)", seconds),
    "duration": Column("length (s)", seconds),
    "duration_s": Column("length (s)", seconds),
    "trial_type": Column("what", number=False),
    "channel": Column("channels", comma_list, number=False),
    "name": Column("channel", number=False),
    "item": Column("item", number=False),
    "score": Column("score"),
    "p_value": Column("p", p_value),
    "q_value": Column("q", p_value),
    "flagged": Column("flagged", number=False),
    "false_alarms_per_hour": Column("false alarms an hour"),
    "usable_share": Column("usable", share),
    "share_flagged": Column("flagged", share),
    "share_missing": Column("missing", share),
    "length": Column("length"),
    "quality_findings": Column("quality findings", number=False),
    "events_per_hour": Column("events an hour"),
    "n_events": Column("events"),
    "verdict": Column("verdict", number=False),
    "looks_like": Column("looks like", number=False),
    "band": Column("band", number=False),
    "reached": Column("way to the threshold", share),
    "evidence": Column("what was measured", number=False, prose=True),
    "top_channel": Column("channel", number=False),
    "top_item": Column("item", number=False),
    "top_band": Column("band", number=False),
    "reason": Column("why", number=False, prose=True),
    "label": Column("label", number=False),
}


def table(
    frame: pd.DataFrame | None,
    names: tuple[str, ...],
    *,
    caption: str,
    limit: int,
    links: Mapping[str, str] | None = None,
    pictures: Mapping[str, Markup] | None = None,
) -> Table:
    """Some columns of a frame, its first ``limit`` rows.

    Parameters
    ----------
    frame : DataFrame or None
    names : tuple of str
        Columns in the order wanted; those missing or empty are left out.
    caption : str
    limit : int
        Rows shown; the caption says where there are more.
    links : mapping of recording to path, optional
        Makes the column ``recording`` lead to reports.
    pictures : mapping of recording to picture, optional
        Put beside the column ``recording``: the score over time.
    """
    if frame is None or frame.empty:
        return Table(caption, (), ())
    kept = [name for name in names if name in frame and not _empty(frame[name])]
    columns = tuple(_column(name, frame) for name in kept)
    if len(frame) > limit:
        caption = f"{caption} The first {limit:,} of {len(frame):,}."
    rows = []
    for values in frame[kept].head(limit).itertuples(index=False, name=None):
        cells = [
            Cell(shorten(column.form(value), MAX_CELL))
            for column, value in zip(columns, values, strict=True)
        ]
        if links and "recording" in kept:
            place = kept.index("recording")
            target = links.get(str(values[place]))
            cells[place] = replace(cells[place], href="" if target is None else link(target))
        if pictures and "recording" in kept:
            place = kept.index("recording")
            cells.insert(place + 1, Cell("", picture=pictures.get(str(values[place]))))
        rows.append(tuple(cells))
    if pictures and "recording" in kept:
        place = kept.index("recording") + 1
        drawn = Column("score over time", number=False)
        columns = (*columns[:place], drawn, *columns[place:])
    return Table(caption, columns, tuple(rows))


def _empty(values: pd.Series[Any]) -> bool:
    return bool((values.isna() | values.isin([""])).all())


def _column(name: str, frame: pd.DataFrame) -> Column:
    import pandas as pd

    if name in COLUMNS:
        return COLUMNS[name]
    values = frame[name]
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return Column(shorten(spoken(name), 60), number=number)


def link(path: str) -> str:
    """A relative path as an address that stays relative, whatever the file is called."""
    return "./" + quote(path.encode("utf-8", "surrogateescape"), safe="/")


def losses(metrics: Mapping[str, Any]) -> tuple[Table, str]:
    """Loss of the model and of the baselines, and the comparison in a sentence.

    Parameters
    ----------
    metrics : mapping
        The content of ``metrics.json``: ``test_loss`` and others, ``baselines: {name: {...}}``,
        ``beats_baselines: {value, difference, interval}``.
    """
    baselines = {
        str(name): values
        for name, values in (metrics.get("baselines") or {}).items()
        if isinstance(values, Mapping)
    }
    keys = ["train_loss", "validation_loss", "test_loss"]
    keys += [key for values in baselines.values() for key in values if key not in keys]
    models = {"this model": metrics, **baselines}
    keys = [
        key
        for key in dict.fromkeys(keys)
        if any(_scalar(values.get(key)) for values in models.values())
    ]
    columns = (
        Column("model", number=False),
        *(Column(shorten(spoken(key), 40)) for key in keys),
    )
    rows = tuple(
        (Cell(shorten(name, 60)), *(Cell(_fine(values.get(key))) for key in keys))
        for name, values in models.items()
    )
    caption = "Loss per entry, natural logarithm; baselines at equal latent size. Lower is better."
    return Table(caption, columns, rows if keys else ()), _comparison(metrics)


def _comparison(metrics: Mapping[str, Any]) -> str:
    beats = metrics.get("beats_baselines")
    if not isinstance(beats, Mapping) or {beats.get("value"), beats.get("difference")} == {None}:
        return ""
    words = {
        True: "The model beats the baselines",
        False: "The model does not clearly beat the baselines",
        None: "Whether the model beats the baselines cannot be said",
    }[beats.get("value")]
    if beats.get("difference") is not None:
        words += f": difference in loss {_fine(beats['difference'])}"
        interval = beats.get("interval")
        if isinstance(interval, list | tuple) and len(interval) == 2:
            words += f" (interval {_fine(interval[0])} to {_fine(interval[1])})"
    return f"{words}."


def others(metrics: Mapping[str, Any]) -> Table:
    """Every other single value of the metrics."""
    known = ("train_loss", "validation_loss", "test_loss")
    rows = tuple(
        (Cell(shorten(spoken(str(key)), 60)), Cell(_fine(value)))
        for key, value in metrics.items()
        if key not in known and _scalar(value)
    )
    columns = (Column("measure", number=False), Column("value"))
    return Table("Everything else that was measured.", columns, rows)


def _scalar(value: Any) -> bool:
    return isinstance(value, int | float | str) and show(value) != "n/a"


def _fine(value: Any) -> str:
    """Losses differ in the fourth digit."""
    if isinstance(value, float) and 1e-3 <= abs(value) < 1000:
        return f"{value:.4f}".replace("-", "−")
    return show(value)
