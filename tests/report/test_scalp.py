"""Scalp maps: events in place, none without positions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_pipeline.report.pictures.scalp import scalp_maps

NAMES = tuple(f"E{i}" for i in range(12))
ANGLES = np.linspace(0, 2 * np.pi, 12, endpoint=False)
PLACES_M = np.stack([0.08 * np.cos(ANGLES), 0.08 * np.sin(ANGLES), np.full(12, 0.07)], 1)
SCORES = pd.DataFrame({"onset_s": np.arange(8) / 2, "score": [0, 1, 9, 1, 0, 0, 3, 0]})
EVENTS = pd.DataFrame(
    {
        "onset": [0.5, 3.0],
        "duration": [2.0, 1.0],
        "trial_type": ["anomaly/slow_drift", "anomaly/pop"],
        "score": [9.0, 3.0],
        "number": [1, 2],
    }
)


def test_an_event_is_drawn_where_its_worst_window_deviates_most() -> None:
    by_channel = np.ones((8, 12))
    by_channel[2, 4] = by_channel[6, 9] = 7
    drawn = scalp_maps(
        SCORES, EVENTS, channel_scores=by_channel, ch_names=NAMES, positions_m=PLACES_M
    )
    assert drawn is not None
    assert "E4 (event 1: slow drift)" in drawn.alt
    assert "E9 (event 2: pop)" in drawn.alt


def test_without_positions_or_events_there_is_no_map() -> None:
    by_channel = np.ones((8, 12))
    assert (
        scalp_maps(
            SCORES,
            EVENTS,
            channel_scores=by_channel,
            ch_names=NAMES,
            positions_m=np.full((12, 3), np.nan),
        )
        is None
    )
    assert (
        scalp_maps(
            SCORES, EVENTS.iloc[:0], channel_scores=by_channel, ch_names=NAMES, positions_m=PLACES_M
        )
        is None
    )
