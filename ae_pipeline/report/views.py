"""What a report page is made from: frames, arrays and text, nothing that can train or read.

Conventions: scores are higher where a thing is more abnormal; EEG amplitudes are microvolts and
times seconds from the recording's start; a missing value is NaN (or NA) and reads 'n/a'. Columns
may be missing or empty where a method does not exist yet: the page leaves their place out.
Text (names, reasons, paths) may be anything; escaping is the pages' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ae_pipeline.data import Layout

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ae_pipeline.report.drawing import Picture

__all__ = [
    "CompareView",
    "Evidence",
    "GroupView",
    "Headline",
    "IndexEntry",
    "IndexView",
    "Listing",
    "Number",
    "PlainView",
    "RecordingView",
    "RowsView",
    "Section",
    "TrainView",
]


@dataclass(frozen=True)
class Number:
    """One of the three or four figures of the first screen; ``note`` holds its interval."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The first screen.

    Parameters
    ----------
    verdict : str
        What was found, in one sentence.
    numbers : tuple of Number
        Three or four, with their uncertainty.
    next_steps : tuple of str
        What to do now, in order.
    baseline : str
        Whether a simple baseline would have done.
    warnings : tuple of str
        What limits the claims above.
    """

    verdict: str
    numbers: tuple[Number, ...] = ()
    next_steps: tuple[str, ...] = ()
    baseline: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A table under a heading: cells of each row, and where its first leads (a relative path)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], str], ...]
    nothing: str = "None."
    """What stands there where there are no rows."""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page: a heading, paragraphs, figures, then tables.

    Parameters
    ----------
    title : str
    text : tuple of str
        Paragraphs.
    pictures : tuple of Picture
    frames : tuple of (caption, DataFrame)
    """

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    frames: tuple[tuple[str, pd.DataFrame], ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """A handful of samples to show beside their reconstruction, in the data's own unit.

    Parameters
    ----------
    values, reconstructions : array of shape (m, *shape)
        EEG (m, channels, times), images (m, rows, columns), tables (m, items). NaN where
        nothing was observed.
    meta : DataFrame with m rows
        ``recording`` and ``score``; where known ``p_value``, ``onset_s``, ``duration_s``,
        ``label``, ``top_channel``, ``top_item``, ``top_band``, ``reason``.
    sfreq_hz : float, optional
        EEG only.
    entries : tuple of str
        Names of the channels or items; empty for images.
    unit : str
        Of ``values``: 'µV', 'answer', ...
    levels : sequence of sequences, optional
        Tables: the possible answers of each item.
    normal : array of shape (m, channels, times), optional
        EEG: beside each window the most similar one in which nothing is unusual.
    normal_s : array of shape (m,), optional
        When those begin.
    """

    values: NDArray[np.floating[Any]]
    reconstructions: NDArray[np.floating[Any]]
    meta: pd.DataFrame
    sfreq_hz: float | None = None
    entries: tuple[str, ...] = ()
    unit: str = ""
    levels: Sequence[Sequence[float]] | None = None
    normal: NDArray[np.floating[Any]] | None = None
    normal_s: NDArray[np.floating[Any]] | None = None

    @property
    def layout(self) -> Layout:
        """Form of one sample: series have a rate."""
        if self.values.ndim == 2:
            return "table"
        return "grid" if self.sfreq_hz is None else "series"

    def __post_init__(self) -> None:
        if self.values.shape != self.reconstructions.shape or len(self.values) != len(self.meta):
            raise ValueError(
                f"values {self.values.shape}, reconstructions {self.reconstructions.shape} and "
                f"{len(self.meta)} rows of meta do not belong together"
            )

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainView:
    """A training run.

    Parameters
    ----------
    what, thing : str
        The kind of data, above the title; one of its samples.
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss``, ``seconds``.
    metrics : mapping
        The content of ``metrics.json``.
    scores : DataFrame
        The content of ``scores.parquet``, with ``part``.
    latents : DataFrame, optional
        Keys, then ``z00``, ``z01``, ...
    color_by : str, optional
        Column of ``latents`` or ``scores`` that colours the latent map.
    layers : sequence of (name, output shape, parameters)
    facts : mapping of str to str
        The provenance table: study, versions, digests, seeds.
    notes : tuple of str
        How to read what is shown.
    sections : tuple of Section
        What else was found, before the layers.
    methods : str
        A paragraph to paste into a paper.
    """

    title: str
    what: str
    thing: str
    headline: Headline
    history: pd.DataFrame
    metrics: Mapping[str, Any]
    scores: pd.DataFrame
    hypothesis: str | None = None
    latents: pd.DataFrame | None = None
    color_by: str | None = None
    worst: Evidence | None = None
    best: Evidence | None = None
    layers: Sequence[tuple[str, Any, int]] = ()
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    methods: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingView:
    """One scored EEG recording.

    Parameters
    ----------
    scores : DataFrame
        The recording's rows of ``scores.parquet``, one a window.
    events : DataFrame, optional
        The rows of the events file.
    threshold : float, optional
        Score over which a window is flagged.
    quality : DataFrame, optional
        ``name``, ``reason`` of each bad channel.
    channel_scores : array of shape (windows, channels), optional
        Rows as in ``scores``.
    ch_names : tuple of str
        Columns of ``channel_scores``.
    positions_m : array of shape (channels, 3), optional
        Electrode positions in metres, NaN where not known.
    bad_spans : sequence of (onset_s, end_s)
        Stretches annotated ``BAD_*``, which have no windows.
    near : DataFrame, optional
        The highest windows below the threshold: ``onset_s``, ``duration_s``, ``looks_like``,
        ``channel``, ``band``, ``score``, ``reached`` (the way to the threshold, 1 is there),
        ``evidence``.
    """

    title: str
    headline: Headline
    scores: pd.DataFrame
    events: pd.DataFrame | None = None
    threshold: float | None = None
    quality: pd.DataFrame | None = None
    channel_scores: NDArray[np.floating[Any]] | None = None
    ch_names: tuple[str, ...] = ()
    positions_m: NDArray[np.floating[Any]] | None = None
    worst: Evidence | None = None
    best: Evidence | None = None
    bad_spans: Sequence[tuple[float, float]] = ()
    near: pd.DataFrame | None = None
    latents: pd.DataFrame | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    methods: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowsView:
    """A scored table or set of images.

    Parameters
    ----------
    what, thing, things : str
        The kind of data, above the title; one of its samples, several.
    items : DataFrame, optional
        Tables: ``item``, ``mean_error`` and whatever else is known, one row an item.
    threshold : float, optional
        Where one score separates flagged from not; without it, the lowest flagged score is
        shown.
    sections : tuple of Section
        What else was found, after the highest scores.
    """

    title: str
    what: str
    thing: str
    things: str
    headline: Headline
    scores: pd.DataFrame
    latents: pd.DataFrame | None = None
    worst: Evidence | None = None
    best: Evidence | None = None
    items: pd.DataFrame | None = None
    threshold: float | None = None
    color_by: str | None = None
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    methods: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupView:
    """Everything scored in one folder, worst first.

    Parameters
    ----------
    recordings : DataFrame
        The content of ``recordings.parquet``.
    links : mapping of recording to path
        Where each report lies, relative to this page, as a plain path (not quoted for a URL).
    scores : DataFrame, optional
        ``recording``, ``onset_s``, ``duration_s``, ``score`` of all windows, for the strips.
    threshold : float, optional
        Score over which a window is flagged.
    """

    title: str
    headline: Headline
    recordings: pd.DataFrame
    scores: pd.DataFrame | None = None
    threshold: float | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    methods: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainView:
    """A page of sections, for whatever has no page of its own; ``what`` stands above the title."""

    what: str
    title: str
    headline: Headline
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    methods: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class CompareView:
    """Models of one study side by side.

    Parameters
    ----------
    what : str
        The kind of data, above the title.
    table : DataFrame
        Best first: ``model``, ``seeds``, ``test_loss``, ``downstream`` and ``detection`` with
        ``_low`` and ``_high``, ``test_loss_least`` and ``_most`` (over seeds), ``parameters``,
        ``seconds``, ``behind`` with ``_low`` and ``_high``, ``told_apart``.
    primary : {'test_loss', 'roc_area'}
        What the models are ranked by.
    links : mapping of model to path
        Where the report of each lies, relative to this page.
    failed : sequence of (model, reason)
    """

    title: str
    what: str
    headline: Headline
    table: pd.DataFrame
    primary: str = "test_loss"
    hypothesis: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    failed: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class IndexEntry:
    """One data set on an index page.

    Parameters
    ----------
    title, verdict : str
        What the data are; what was found, in one sentence.
    href : str
        The report, a plain path relative to the page.
    kind : str
        The kind of data in words; may be empty.
    link : str
        What the link to the report says.
    numbers : tuple of Number
    pictures : tuple of Picture
    cards : Evidence, optional
        Images to show beside their reconstruction.
    baseline : str
        Whether something simpler would have done.
    found : sequence of (caption, DataFrame)
        Found against labelled.
    more : tuple of (words, path)
        Other pages about the same data.
    """

    title: str
    verdict: str
    href: str
    kind: str = ""
    link: str = "Open the report"
    numbers: tuple[Number, ...] = ()
    pictures: tuple[Picture, ...] = ()
    cards: Evidence | None = None
    baseline: str = ""
    found: tuple[tuple[str, pd.DataFrame], ...] = ()
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexView:
    """A page that leads to others, in the order they should be read.

    Parameters
    ----------
    first : sequence of (words, path)
        What to open first, and why.
    commands : sequence of (words, command lines)
        What to type for data of one's own; the last thing on the page.
    """

    title: str
    headline: Headline
    entries: Sequence[IndexEntry]
    first: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, Sequence[str]]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
