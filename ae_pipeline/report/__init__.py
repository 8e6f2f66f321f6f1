"""Reports: frames and arrays in, one self-contained HTML page out.

A view (``TrainView``, ``RecordingView``, ``RowsView``, ``GroupView``) says what is known; its
page function returns HTML as text, which the caller writes. Nothing here reads files, trains or
scores. Units are those of ``views``: microvolts, seconds, scores that grow with abnormality.
"""

from __future__ import annotations

from ae_pipeline.report.comparison import compare_page, text_table
from ae_pipeline.report.pages import (
    Drawn,
    draw,
    group_page,
    index_page,
    listing_page,
    plain_page,
    recording_page,
    rows_page,
    train_figures,
    train_page,
)
from ae_pipeline.report.textbook import TextbookView, textbook_page
from ae_pipeline.report.views import (
    CompareView,
    Evidence,
    GroupView,
    Headline,
    IndexEntry,
    IndexView,
    Listing,
    Number,
    PlainView,
    RecordingView,
    RowsView,
    Section,
    TrainView,
)

__all__ = [
    "CompareView",
    "Drawn",
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
    "TextbookView",
    "TrainView",
    "compare_page",
    "draw",
    "group_page",
    "index_page",
    "listing_page",
    "plain_page",
    "recording_page",
    "rows_page",
    "text_table",
    "textbook_page",
    "train_figures",
    "train_page",
]
