"""Which mains frequency stands in the spectrum of recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ae_pipeline.data import Recording

__all__ = ["line_seen_hz"]

LOOK_S, SPOTS, MOST_LOOKED_AT = 4.0, 5, 12

CLEARLY = 3.0
"""A line stands out when its power is so many times that beside it."""


def line_seen_hz(recordings: Sequence[Recording]) -> float | None:
    """Return 50 or 60 where most recordings that show a line show that one; else None."""
    seen = [_line_hz(recording) for recording in recordings[:MOST_LOOKED_AT]]
    votes = Counter(line for line in seen if line is not None).most_common(2)
    if not votes or (len(votes) > 1 and votes[0][1] == votes[1][1]):
        return None
    return votes[0][0]


def _line_hz(recording: Recording) -> float | None:
    n = round(LOOK_S * recording.sfreq_hz)
    first, last = max(recording.segments, key=lambda ab: ab[1] - ab[0])
    if last - first < n or recording.sfreq_hz < 130:
        return None
    frequencies, powers = np.fft.rfftfreq(n, 1 / recording.sfreq_hz), []
    for start in np.linspace(first, last - n, SPOTS).astype(int):
        spot = np.nan_to_num(recording.read(int(start), int(start) + n).astype(np.float64))
        spot -= spot.mean(axis=1, keepdims=True)
        powers.append(np.abs(np.fft.rfft(spot * np.hanning(n))) ** 2)
    power = np.median(powers, axis=0)
    ratios = {}
    for line_hz in (50.0, 60.0):
        away = np.abs(frequencies - line_hz)
        at, beside = power[:, away <= 0.5].mean(axis=1), power[:, (away >= 1.5) & (away <= 4)]
        usual = beside.mean(axis=1)
        moving = usual > 0
        ratios[line_hz] = float(np.median(at[moving] / usual[moving])) if moving.any() else 0.0
    best = max(ratios, key=lambda line_hz: ratios[line_hz])
    return best if ratios[best] > CLEARLY else None
