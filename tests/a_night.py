"""A night of an inbox, as its digest gets it."""

from __future__ import annotations

from ae_pipeline.report.findings.night import Night

NIGHT = Night(
    "sleep",
    "2026-11-22T02:00:00+01:00",
    status="done",
    scored=("sub-01", "sub-02", "<b>sub-03</b>"),
    flagged={"<b>sub-03</b>": "unusual: slow | [waves](http://x)"},
    failed={"sub-04": "sub-04.edf: truncated"},
    expected=5,
    arrived=4,
    missing=("sub-07",),
    missed_runs=("2026-11-21 02:00",),
    killed_runs=("2026-11-20T02:00:00+01:00",),
)
