"""Scores held against labelled truth.

A window is positive when it overlaps an event by at least three quarters of the shorter of the
two; windows that overlap less are left out, because nobody could say what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OVERLAP", "evaluate", "label_windows", "read_truth"]

OVERLAP = 0.75
"""Share of the shorter of window and event that makes a window positive."""

N_RESAMPLES = 1000


def read_truth(path: Path) -> pd.DataFrame:
    """Read labelled events (TSV: recording, onset, duration, trial_type) or rows (CSV: id, label).

    Raises
    ------
    InputError
        Where the file is missing or has other columns.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path}: no such truth file; expected a TSV of events or a CSV of labels")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        truth = pd.read_csv(
            path, sep=separator, na_values="n/a", dtype={"recording": str, "id": str}
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({str(error).strip()})") from None
    events, rows = {"recording", "onset", "duration", "trial_type"}, {"id", "label"}
    if events <= set(truth) or rows <= set(truth):
        return truth
    raise InputError(
        f"{path}: has columns {', '.join(map(str, truth.columns[:8]))}; expected "
        "recording, onset, duration, trial_type (TSV) or id, label (CSV)"
    )


def label_windows(scores: pd.DataFrame, truth: pd.DataFrame) -> NDArray[np.float64]:
    """1 for windows that hold an event, 0 for those without, NaN for those in between.

    Parameters
    ----------
    scores : DataFrame
        ``recording``, ``onset_s``, ``duration_s``.
    truth : DataFrame
        ``recording``, ``onset``, ``duration`` in seconds.
    """
    label = np.zeros(len(scores))
    onset = scores["onset_s"].to_numpy(float)
    end = onset + scores["duration_s"].to_numpy(float)
    recording = scores["recording"].astype(str).to_numpy()
    for event in truth.itertuples():
        rows = np.flatnonzero(recording == str(event.recording))
        start, stop = float(event.onset), float(event.onset) + float(event.duration)
        shared = np.minimum(end[rows], stop) - np.maximum(onset[rows], start)
        shorter = np.minimum(end[rows] - onset[rows], max(stop - start, 1e-9))
        share = shared / shorter
        touched = rows[(share > 0) & (share < OVERLAP)]
        label[touched] = np.where(label[touched] == 1, 1, np.nan)
        label[rows[share >= OVERLAP]] = 1
    return label


def evaluate(scores: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """How well every scorer tells the labelled from the rest.

    Parameters
    ----------
    scores : DataFrame
        Content of ``scores.parquet``.
    truth : DataFrame
        From :func:`read_truth`.

    Returns
    -------
    dict
        ``positives``, ``negatives``, ``left_out`` and for each scorer ``roc_area`` with a
        bootstrap ``interval`` over recordings (over rows for tables) and ``average_precision``;
        for events ``found``: how many were touched by a flagged window.

    Raises
    ------
    InputError
        Where truth and scores have nothing in common, or one class is missing.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    windowed = "onset" in truth
    names = set(scores["recording"].astype(str))
    known = set(truth["recording" if windowed else "id"].astype(str))
    if not names & known:
        raise InputError(
            f"truth and scores share no {'recording' if windowed else 'id'} (truth has "
            f"{sorted(known)[0]!r}, scores have {sorted(names)[0]!r}); are they of one data set?"
        )
    if windowed:
        longest = (scores["onset_s"] + scores["duration_s"]).max()
        if truth["onset"].max() > 10 * longest:
            raise InputError(
                f"the truth's last onset is {truth['onset'].max():g}, the recordings end at "
                f"{longest:g} s; are the truth's times in milliseconds or samples?"
            )
        label = label_windows(scores, truth)
        groups = scores["recording"].astype(str).to_numpy()
    else:
        by_id = truth.drop_duplicates("id").set_index("id")["label"]
        label = scores["recording"].astype(str).map(by_id).to_numpy(dtype=float)
        groups = scores["recording"].astype(str).to_numpy()
    kept = np.isfinite(label)
    y = label[kept].astype(int)
    if not 0 < y.sum() < len(y):
        raise InputError(
            f"{int(y.sum())} of {len(y)} windows or rows are labelled abnormal; areas need both"
        )
    result: dict[str, Any] = {
        "positives": int(y.sum()),
        "negatives": int(len(y) - y.sum()),
        "left_out": int((~kept).sum()),
        "scorers": {},
    }
    for column in ("score", *sorted(c for c in scores if c.startswith("score_"))):
        values = scores[column].to_numpy(float)[kept]
        result["scorers"][column] = {
            "roc_area": float(roc_auc_score(y, values)),
            "interval": _bootstrap(y, values, groups[kept]),
            "average_precision": float(average_precision_score(y, values)),
        }
    if windowed:
        result["events"] = len(truth)
        result["found"] = int(sum(_found(scores, event) for event in truth.itertuples()))
    return result


def _found(scores: pd.DataFrame, event: Any) -> bool:
    flagged = scores[scores["flagged"].astype(bool) & (scores["recording"] == event.recording)]
    overlaps = (flagged["onset_s"] < event.onset + event.duration) & (
        flagged["onset_s"] + flagged["duration_s"] > event.onset
    )
    return bool(overlaps.any())


def _bootstrap(y: NDArray[Any], values: NDArray[Any], groups: NDArray[Any]) -> list[float] | None:
    """95% percentile interval of the ROC area over resampled groups; None for fewer than three."""
    from scipy.stats import rankdata

    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        return None
    rng = np.random.default_rng(0)
    areas = []
    by_group = [np.flatnonzero(codes == code) for code in range(len(names))]
    for _ in range(N_RESAMPLES if len(y) < 20000 else 200):
        drawn = rng.integers(len(names), size=len(names))
        rows = np.concatenate([by_group[g] for g in drawn])
        positive = y[rows] == 1
        n_positive = int(positive.sum())
        if 0 < n_positive < len(rows):
            ranks = rankdata(values[rows])
            area = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
            areas.append(area / (n_positive * (len(rows) - n_positive)))
    return [float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))] if areas else None
