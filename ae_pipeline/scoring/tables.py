"""Results as the tables that are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Layout
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.conformal import adjusted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LATENT_KEYS",
    "contract_frame",
    "latents_frame",
    "recordings_frame",
]


LATENTS = "latents"


TIMES = ("window", "onset_s", "duration_s")


LATENT_KEYS = ("recording", "subject", "window", "onset_s", "duration_s")


def contract_frame(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Judged samples with the columns, order and types every scores file has."""
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
    columns += ["p_value", "q_value", "flagged", top, "top_band", "reason"]
    columns += [name for name in ("part", "label") if name in out]
    predictions = [n for n in map(str, out) if n.startswith(("predicted_", "probability_"))]
    out = pd.DataFrame({name: out[name] for name in columns + predictions}, copy=False)
    words = [name for name in predictions if out[name].dtype == object]
    for name in ("recording", "subject", top, "top_band", "reason", *words):
        out[name] = out[name].astype("string")
    return out


def latents_frame(frame: pd.DataFrame, latents: NDArray[np.float32]) -> pd.DataFrame:
    """The keys, then ``z00``, ``z01``, ..."""
    import pandas as pd

    names = [f"z{i:02d}" for i in range(latents.shape[1])]
    keys = [name for name in (*LATENT_KEYS, "part", "label") if name in frame]
    codes = pd.DataFrame(latents, columns=names, index=frame.index)
    return pd.concat([frame[keys], codes], axis=1)


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
    q = np.full(len(frame), np.nan)
    q[done] = adjusted(frame["p_value"].to_numpy()[done], detection.dependence)
    frame["q_value"] = q
    frame["flagged"] = done & (np.nan_to_num(q, nan=1.0) <= detection.error_rate)
    for name in ("recording", "subject", "session", "quality_findings", "verdict", "reason"):
        frame[name] = frame[name].astype("string")
    frame = frame.assign(_done=done).sort_values(
        ["_done", "p_value", "score"], ascending=[False, True, False], kind="stable"
    )
    return frame.drop(columns="_done").reset_index(drop=True)
