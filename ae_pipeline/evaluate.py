"""Scores held against labelled truth.

A window is positive when it overlaps an event by at least three quarters of the shorter of the
two; windows that overlap less are left out, because nobody could say what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
            path,
            sep=separator,
            encoding="utf-8-sig",
            na_values="n/a",
            dtype={"recording": str, "id": str},
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not readable as a table ({str(error).strip()})") from None
    if {"recording", "onset", "duration", "trial_type"} <= set(truth):
        names = ["onset", "duration"]
    elif {"id", "label"} <= set(truth):
        names = ["label"]
    else:
        raise InputError(
            f"{path}: has columns {', '.join(map(str, truth.columns[:8]))}; expected "
            "recording, onset, duration, trial_type (TSV) or id, label (CSV)"
        )
    if truth.empty:
        raise InputError(f"{path}: has no rows; expected one for each event or labelled row")
    for name in names:
        numbers = pd.to_numeric(truth[name], errors="coerce")
        allowed = numbers.isin([0, 1]) if name == "label" else numbers >= 0
        if not allowed.all():
            row = int(np.flatnonzero(~allowed)[0])
            wanted = "0 (normal) or 1 (abnormal)" if name == "label" else "seconds, 0 or more"
            raise InputError(
                f"{path}: {name} of row {row + 2} is {truth[name].iloc[row]}; expected {wanted}"
            )
        truth[name] = numbers.astype(float)
    if "id" in truth and (truth.groupby("id")["label"].nunique() > 1).any():
        raise InputError(f"{path}: the same id stands with label 0 and 1; correct it")
    return truth


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
    rows_of = scores.groupby(scores["recording"].astype(str)).indices
    for event in _events(truth):
        rows = rows_of.get(event.recording, np.empty(0, np.intp))
        shared = np.minimum(end[rows], event.end_s) - np.maximum(onset[rows], event.onset_s)
        share = shared / np.minimum(end[rows] - onset[rows], event.end_s - event.onset_s)
        holds = share >= OVERLAP - 1e-6  # times are rounded
        touched = rows[(share > 0) & ~holds]
        label[touched] = np.where(label[touched] == 1, 1, np.nan)
        label[rows[holds]] = 1
    return label


class _Event(NamedTuple):
    recording: str
    onset_s: float
    end_s: float


def _events(truth: pd.DataFrame) -> list[_Event]:
    """Events of a truth table; an instant gets a length, or nothing could overlap it."""
    length_s = np.maximum(truth["duration"].to_numpy(float), 1e-3)
    onset_s = truth["onset"].to_numpy(float)
    names = truth["recording"].astype(str)
    return [_Event(*event) for event in zip(names, onset_s, onset_s + length_s, strict=True)]


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
        for events ``events``, how many lie in recordings that were scored, and ``found``, how
        many of them were touched by a flagged window.

    Raises
    ------
    InputError
        Where truth and scores have nothing in common, or one class is missing.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    windowed = "onset" in truth
    recording = scores["recording"].astype(str) if "recording" in scores else None
    if recording is None or "score" not in scores or (windowed and "onset_s" not in scores):
        raise InputError("the scores lack columns; expected the scores.parquet of a scoring")
    truth = truth.dropna(subset="recording" if windowed else "id")
    of = truth["recording" if windowed else "id"].astype(str)
    here = of.isin(set(recording))
    if not here.any():
        raise InputError(
            f"truth and scores share no {'recording' if windowed else 'id'} (truth has "
            f"{min(of, default='none')!r}, scores have {min(recording, default='none')!r}); "
            "are they of one data set?"
        )
    truth = truth[here]
    if windowed:
        _refuse_other_times(scores, truth)
        label = label_windows(scores, truth)
    else:
        by_id = truth.drop_duplicates("id").set_index("id")["label"]
        label = recording.map(by_id).to_numpy(float)
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
    for column in ("score", *sorted(c for c in map(str, scores) if c.startswith("score_"))):
        values = scores[column].to_numpy(float)[kept]
        result["scorers"][column] = {
            "roc_area": float(roc_auc_score(y, values)),
            "interval": _bootstrap(y, values, recording.to_numpy()[kept]),
            "average_precision": float(average_precision_score(y, values)),
        }
    if windowed:
        result["events"] = len(truth)
        result["found"] = _found(scores[scores["flagged"].astype(bool)], truth)
    return result


def _refuse_other_times(scores: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Onsets far beyond the end of their recordings are in another unit."""
    ends = (scores["onset_s"] + scores["duration_s"]).groupby(scores["recording"].astype(str)).max()
    if ends.isna().all():
        raise InputError("the truth has events, but the scores are of rows; expected id, label")
    end_s = truth["recording"].astype(str).map(ends)
    late = truth["onset"] > end_s
    if late.all() or (truth["onset"] > 10 * end_s).any():
        worst = int((truth["onset"] / end_s).argmax())
        raise InputError(
            f"the truth has an onset of {truth['onset'].iloc[worst]:g} in "
            f"{truth['recording'].iloc[worst]!r}, which ends at {end_s.iloc[worst]:g} s; are the "
            "truth's times in milliseconds or samples?"
        )


def _found(flagged: pd.DataFrame, truth: pd.DataFrame) -> int:
    """Events that a flagged window touches."""
    onset_s = flagged["onset_s"].to_numpy(float)
    end_s = onset_s + flagged["duration_s"].to_numpy(float)
    rows_of = flagged.groupby(flagged["recording"].astype(str)).indices
    found = 0
    for event in _events(truth):
        rows = rows_of.get(event.recording, np.empty(0, np.intp))
        found += bool(((onset_s[rows] < event.end_s) & (end_s[rows] > event.onset_s)).any())
    return found


def _bootstrap(y: NDArray[Any], values: NDArray[Any], groups: NDArray[Any]) -> list[float] | None:
    """95% percentile interval of the ROC area over resampled groups; None for fewer than three."""
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        return None
    rng = np.random.default_rng(0)
    level = np.unique(values, return_inverse=True)[1]
    areas = []
    for _ in range(N_RESAMPLES if len(y) < 20000 else 200):
        # a group drawn twice counts twice
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[codes]
        positive = np.bincount(level, weight * y)
        negative = np.bincount(level, weight * (1 - y))
        pairs = positive.sum() * negative.sum()
        if pairs:
            below = np.cumsum(negative) - negative / 2  # equal values count half
            areas.append(float(positive @ below / pairs))
    return [float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))] if areas else None
