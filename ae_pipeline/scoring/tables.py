"""Results as the tables that are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Layout
from ae_pipeline.detectors.calibration import Calibration, Detection
from ae_pipeline.detectors.events import Span
from ae_pipeline.eeg.tags import Tag
from ae_pipeline.scoring.judge import false_discoveries

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EVENT_COLUMNS",
    "FACTS",
    "LATENT_KEYS",
    "contract_frame",
    "events_frame",
    "latents_frame",
    "may_be_flagged",
    "recordings_frame",
]


LATENTS = "latents"


TIMES = ("window", "onset_s", "duration_s")


FACTS = ("top_view", "top_deviation", "top_ratio")
"""What deviates most, by how many robust SD, and its entry's error as times of the usual."""


LATENT_KEYS = ("recording", "subject", "window", "onset_s", "duration_s")


def contract_frame(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Judged samples with the columns, order and types every scores file has.

    Instead of ``reason`` they have the :data:`FACTS` that it says.
    """
    import pandas as pd

    out = frame.copy(deep=False)
    top = "top_item" if layout == "table" else "top_channel"
    out[top] = out.get("top_entry")
    out["top_band"] = out.get("top_band")
    if layout != "series":
        out["window"] = range(len(out))
        out["onset_s"] = np.nan
        out["duration_s"] = np.nan
    others = sorted(name for name in map(str, out) if name.startswith("score_"))
    columns = ["recording", "subject", "window", "onset_s", "duration_s", "score", *others]
    columns += ["p_value", "q_value", "flagged", top, "top_band"]
    columns += [name for name in ("part", "label") if name in out]
    predictions = [n for n in map(str, out) if n.startswith(("predicted_", "probability_"))]
    columns += predictions + [name for name in FACTS if name in out]
    out = pd.DataFrame({name: out[name] for name in columns}, copy=False)
    words = [name for name in predictions if out[name].dtype == object]
    for name in ("recording", "subject", top, "top_band", *words):
        out[name] = out[name].astype("string")
    return out


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


def events_frame(
    spans: Sequence[Span],
    p_value: NDArray[np.float64],
    *,
    by_entry: Mapping[int, NDArray[np.float32]],
    entries: tuple[str, ...],
    calibration: Calibration,
    model_id: str,
    tags: Mapping[int, Tag],
    nearest_s: Mapping[int, float],
) -> pd.DataFrame:
    """Events of one recording, with the facts that a reason says instead of it.

    Parameters
    ----------
    spans : sequence of Span
        Merged flagged windows.
    p_value : array of shape (n,)
        Of all windows.
    by_entry : mapping of row to array of shape (channels,)
    entries : tuple of str
        Channel names.
    calibration : Calibration
        For the rate at which clean recordings raise events as large.
    model_id : str
    tags : mapping of row to Tag
        What the worst window of an event looks like; an event without one is unexplained.
    nearest_s : mapping of row to seconds
        Where the unflagged window is whose latent features are nearest.

    Returns
    -------
    DataFrame
        :data:`EVENT_COLUMNS` but ``reason``, then ``window`` (the worst) and
        ``nearest_normal_s``; ``channel`` lists all channels on which it shows, the largest
        deviation first; without a tag those whose error is at least half of the largest, in units
        of their usual error.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    usual = calibration.usual_error
    for span in spans:
        ratio = by_entry[span.peak] / usual
        found = tags.get(span.peak)
        shown = np.flatnonzero(ratio >= ratio.max() / 2)
        if found is not None:
            shown = np.array(found.channels)
        # as the page's map draws them
        shown = shown[np.argsort(-by_entry[span.peak][shown], kind="stable")]
        rows.append(
            {
                "onset": round(span.onset_s, 4),
                "duration": round(span.end_s - span.onset_s, 4),
                "trial_type": f"anomaly/{'unexplained' if found is None else found.kind}",
                "channel": ",".join(entries[i] for i in shown),
                "score": span.score,
                "p_value": float(p_value[span.peak]),
                # just below the peak, so that an equally large calibration event counts
                "false_alarms_per_hour": calibration.false_alarms_per_hour(
                    float(np.nextafter(span.score, -np.inf))
                ),
                "model_id": model_id,
                "window": span.peak,
                "nearest_normal_s": nearest_s.get(span.peak, np.nan),
            }
        )
    columns = [name for name in EVENT_COLUMNS if name != "reason"]
    return pd.DataFrame(rows, columns=[*columns, "window", "nearest_normal_s"])


def latents_frame(frame: pd.DataFrame, latents: NDArray[np.float32]) -> pd.DataFrame:
    """The keys, then ``z00``, ``z01``, ..."""
    import pandas as pd

    names = [f"z{i:02d}" for i in range(latents.shape[1])]
    keys = [name for name in (*LATENT_KEYS, "part", "label") if name in frame]
    codes = pd.DataFrame(latents, columns=names, index=frame.index)
    return pd.concat([frame[keys], codes], axis=1)


def may_be_flagged(summary: Mapping[str, Any], detection: Detection) -> bool:
    """Whether a recording can be flagged in any batch: its q is never below its p."""
    p_value = summary.get("p_value")
    return p_value is not None and p_value <= detection.error_rate


def recordings_frame(summaries: list[dict[str, Any]], detection: Detection) -> pd.DataFrame:
    """One row a recording with q across the batch, worst first; failed ones last.

    Parameters
    ----------
    summaries : list of dict
        :attr:`RecordingResult.summary` of scored recordings; of failed ones ``recording``,
        ``subject``, ``verdict`` and ``reason``.
    detection : Detection
        Recordings with q at or under its error rate are flagged.
    """
    import pandas as pd

    columns = ["recording", "subject", "session", "duration_s", "usable_share"]
    columns += ["quality_findings", "n_windows", "n_events", "events_per_hour", "score"]
    columns += ["p_value", "q_value", "flagged", "verdict", "reason"]
    frame = pd.DataFrame(summaries).reindex(columns=columns)
    for name in ("duration_s", "usable_share", "events_per_hour", "score", "p_value"):
        frame[name] = frame[name].astype(float)
    for name in ("n_windows", "n_events"):  # failed ones have no number, and that is not 0
        frame[name] = frame[name].astype("Int64")
    done = frame["p_value"].notna().to_numpy()
    q, flagged = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    q[done], flagged[done] = false_discoveries(frame["p_value"].to_numpy()[done], detection)
    frame["q_value"], frame["flagged"] = q, flagged
    for name in ("recording", "subject", "session", "quality_findings", "verdict", "reason"):
        frame[name] = frame[name].astype("string")
    frame = frame.assign(_done=done).sort_values(
        ["_done", "p_value", "score"], ascending=[False, True, False], kind="stable"
    )
    return frame.drop(columns="_done").reset_index(drop=True)
