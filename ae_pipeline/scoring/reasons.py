"""Which window, which channel or item, and why, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.detectors.calibration import Calibration
from ae_pipeline.detectors.ensemble import VIEW_WORDS
from ae_pipeline.detectors.events import Span
from ae_pipeline.eeg.tags import CATEGORY, Tag

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["EVENT_COLUMNS", "events_frame", "in_words", "kinds_in_words", "reasons"]

EVENT_COLUMNS = (
    "onset",
    "duration",
    "trial_type",
    "channel",
    "score",
    "p_value",
    "false_alarms_per_hour",
    "reason",
    "model_id",
)
"""Columns of an events file; onset and duration in seconds."""


def reasons(frame: pd.DataFrame, usual_error: float) -> list[str]:
    """One phrase for each sample: what is unusual, how much, and where.

    Parameters
    ----------
    frame : DataFrame
        ``score_autoencoder``, ``top_view``, ``top_deviation``; ``top_entry`` and ``top_ratio``
        where there are channels or items.
    usual_error : float
        Median reconstruction error of the calibration data.
    """
    times = frame["score_autoencoder"].to_numpy() / max(usual_error, 1e-12)
    phrases = [
        f"{VIEW_WORDS[view]} ({_plain(deviation)} robust SD), error {_times(t)} the usual"
        for view, deviation, t in zip(frame["top_view"], frame["top_deviation"], times, strict=True)
    ]
    if "top_entry" not in frame:
        return phrases
    return [
        f"{phrase}, most at {entry} ({_times(ratio)} its usual)"
        for phrase, entry, ratio in zip(
            phrases, frame["top_entry"], frame["top_ratio"], strict=True
        )
    ]


def in_words(tag: Tag) -> str:
    """What a window looks like and what was measured, never what caused it."""
    like = tag.kind.replace("_", " ")
    return f"{'no known kind' if like == 'unexplained' else f'{like}-like'}: {tag.evidence}"


def kinds_in_words(kinds: Sequence[str]) -> str:
    """Whether it is the cable or the body: ``2 technical (1 clipped, 1 pop), 1 unexplained``."""
    by_category: dict[str, Counter[str]] = {}
    for kind in kinds:
        by_category.setdefault(CATEGORY[kind], Counter())[kind.replace("_", " ")] += 1
    said = []
    for category, counts in sorted(by_category.items(), key=lambda pair: -pair[1].total()):
        each = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
        more = "" if set(counts) == {category} else f" ({each})"
        said.append(f"{counts.total()} {category}{more}")
    return ", ".join(said)


def _plain(number: float) -> str:
    return f"{number:.1f}" if abs(number) < 100 else f"{number:,.0f}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 100 else f"{ratio:,.0f} times"


def events_frame(
    spans: list[Span],
    frame: pd.DataFrame,
    *,
    by_entry: NDArray[np.float32] | Mapping[int, NDArray[np.float32]],
    entries: tuple[str, ...],
    calibration: Calibration,
    model_id: str,
    tags: Mapping[int, Tag] | None = None,
    nearest_s: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Events of one recording, as the BIDS events file has them.

    Parameters
    ----------
    spans : list of Span
        Merged flagged windows; their rows refer to ``frame``.
    frame : DataFrame
        Judged windows of the recording, with ``reason``.
    by_entry : array of shape (n, channels), or mapping of row to array of shape (channels,)
    entries : tuple of str
        Channel names.
    calibration : Calibration
        For the rate at which clean recordings raise events as large.
    model_id : str
    tags : mapping of row to Tag, optional
        What the worst window of an event looks like; an event without one is unexplained.
    nearest_s : mapping of row to seconds, optional
        Where the unflagged window is whose latent features are nearest.

    Returns
    -------
    DataFrame
        :data:`EVENT_COLUMNS`; ``channel`` lists, strongest first, the channels whose error is at
        least half of the strongest's, in units of their usual error.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    usual = calibration.usual_error
    for span in spans:
        ratio = by_entry[span.peak] / usual
        strongest = np.argsort(ratio)[::-1][:5]
        named = [entries[i] for i in strongest if ratio[i] >= ratio[strongest[0]] / 2]
        peak = frame.iloc[span.peak]
        found, kind, reason = (tags or {}).get(span.peak), "unexplained", str(peak["reason"])
        if found is not None:
            kind, named = found.kind, [entries[i] for i in found.channels]
            reason = f"{in_words(found)}; {reason}"
        if nearest_s and span.peak in nearest_s:
            reason += f"; nearest normal window at {nearest_s[span.peak]:.1f} s"
        rows.append(
            {
                "onset": round(span.onset_s, 4),
                "duration": round(span.end_s - span.onset_s, 4),
                "trial_type": f"anomaly/{kind}",
                "channel": ",".join(named),
                "score": span.score,
                "p_value": float(peak["p_value"]),
                # just below the peak, so that an equally large calibration event counts
                "false_alarms_per_hour": calibration.false_alarms_per_hour(
                    float(np.nextafter(span.score, -np.inf))
                ),
                "reason": reason,
                "model_id": model_id,
            }
        )
    return pd.DataFrame(rows, columns=list(EVENT_COLUMNS))
