"""Scores held against labelled truth.

A window is positive when it overlaps an event by at least three quarters of the shorter of the
two; windows that overlap less are left out, because nobody could say what they are. Intervals
are over whole subjects (recordings where there is one subject, rows of tables): windows of one
person are no independent evidence. What is flagged was decided by calibration; no threshold is
looked for here, and no flag counts for windows that it does not cover (no point adjustment).
Times are seconds from the recording's start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.stats import CurveAreas, percentile_interval, resampled_weights

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.stats import Float

__all__ = [
    "OVERLAP",
    "evaluate",
    "named_events",
    "read_truth",
]


OVERLAP = 0.75
"""Share of the shorter of window and event that makes a window positive."""


GRID_HZ = 10
"""Precision of time in timescoring's event scoring."""

ANY_OVERLAP = {
    "toleranceStart": 0.0,
    "toleranceEnd": 0.0,
    "minOverlap": 0.0,
    "maxEventDuration": np.inf,
    "minDurationBetweenEvents": 0.0,
}
"""Event scoring for events of any length: whatever overlaps is a hit, nothing else is, and only
events that touch are one. SzCORE's own defaults are made for seizures: they join what lies less
than 90 s apart and forgive alarms 30 s before and 60 s after."""


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
        allowed = numbers.isin([0, 1]) if name == "label" else (numbers >= 0) & (numbers < np.inf)
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


class _Meetings(NamedTuple):
    """Every event with every window that shares a moment with it, by their positions."""

    event: NDArray[np.intp]
    row: NDArray[np.intp]
    holds: NDArray[np.bool_]
    """Whether they share at least :data:`OVERLAP` of the shorter."""


def _meetings(scores: pd.DataFrame, truth: pd.DataFrame) -> _Meetings:
    onset = scores["onset_s"].to_numpy(float)
    end = onset + scores["duration_s"].to_numpy(float)
    event_onset, event_end = _spans(truth)
    rows_of = scores.groupby(scores["recording"].astype(str)).indices
    events, windows = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for name, event in truth.groupby(truth["recording"].astype(str)).indices.items():
        if name not in rows_of:
            continue
        rows = np.asarray(rows_of[name])
        rows = rows[np.argsort(onset[rows], kind="stable")]
        longest = (end - onset)[rows].max()
        first = np.searchsorted(onset[rows], event_onset[event] - longest)
        count = np.searchsorted(onset[rows], event_end[event]) - first
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        events.append(np.repeat(event, count))
        windows.append(rows[np.repeat(first, count) + within])
    e, w = np.concatenate(events), np.concatenate(windows)
    shared = np.minimum(end[w], event_end[e]) - np.maximum(onset[w], event_onset[e])
    share = shared / np.minimum(end[w] - onset[w], event_end[e] - event_onset[e])
    met = share > 0
    return _Meetings(e[met], w[met], share[met] >= OVERLAP - 1e-6)  # times are rounded


def _spans(truth: pd.DataFrame) -> tuple[Float, Float]:
    """Onset and end of events; an instant gets a length, or nothing could overlap it."""
    onset = truth["onset"].to_numpy(float)
    return onset, onset + np.maximum(truth["duration"].to_numpy(float), 1e-3)


def _labels(n: int, met: _Meetings) -> Float:
    label = np.zeros(n)
    label[met.row] = np.nan
    label[met.row[met.holds]] = 1
    return label


def evaluate(scores: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """How well every scorer tells the labelled from the rest, and the flags find events.

    Parameters
    ----------
    scores : DataFrame
        Content of ``scores.parquet``.
    truth : DataFrame
        From :func:`read_truth`.

    Returns
    -------
    dict
        Ready for JSON; null where a number cannot be known.

        ``positives``, ``negatives``, ``left_out``
            Windows or rows.
        ``unit``, ``units``, ``units_with_positives``
            What the 95% percentile intervals resample as a whole (``subject``, ``recording`` or
            ``row``), and how many of them there are.
        ``scorers``
            For each ``roc_area`` with its ``interval``, ``average_precision`` (area under the
            precision-recall curve) with ``average_precision_interval``, and ``difference``, how
            much larger the ROC area of ``score`` is, with ``difference_interval`` (paired).
        ``events``, ``found``, ``uncovered``
            Labelled events in recordings that were scored, those that a flagged window touches,
            those that no window touches.
        ``by_kind``
            For each kind of event ``events``, ``found``, ``windows`` and ``scorers``: its windows
            against all negatives.
        ``event_scores``
            ``any_overlap`` and ``szcore`` (see :func:`_score_events`).

    Raises
    ------
    InputError
        Where truth and scores have nothing in common, the truth's times do not fit the
        recordings, columns are missing, or there is one class only.

    Notes
    -----
    The areas are those of scikit-learn. SzCORE: Dan et al. (2024), Epilepsia,
    doi:10.1111/epi.18113.
    """
    windowed = "onset" in truth
    _refuse_lacking(scores, windowed)
    truth = _shared(scores, truth, windowed=windowed)
    if windowed:
        _refuse_other_times(scores, truth)
        met = _meetings(scores, truth)
        label = _labels(len(scores), met)
    else:
        by_id = truth.drop_duplicates("id").set_index("id")["label"]
        label = scores["recording"].astype(str).map(by_id).to_numpy(float)
    n_positive, n_negative = int((label == 1).sum()), int((label == 0).sum())
    if not n_positive or not n_negative:
        raise InputError(
            f"{n_positive} of {n_positive + n_negative} windows or rows are labelled abnormal; "
            "areas need both"
        )
    unit, codes = _units(scores)
    areas = CurveAreas(_finite_scores(scores), codes)
    result: dict[str, Any] = {
        "positives": n_positive,
        "negatives": n_negative,
        "left_out": int(np.isnan(label).sum()),
        "unit": unit,
        "units": areas.n_units,
        "units_with_positives": len(np.unique(codes[label == 1])),
        "scorers": areas.of(label == 1, label == 0),
    }
    if windowed:
        flagged = scores["flagged"].to_numpy(bool)
        found = np.unique(met.event[flagged[met.row]])
        result["events"] = len(truth)
        result["found"] = len(found)
        result["uncovered"] = len(truth) - len(np.unique(met.event))
        result["by_kind"] = _by_kind(truth, met, found=found, negative=label == 0, areas=areas)
        result["event_scores"] = _score_events(scores, truth, flagged=flagged, codes=codes)
    return result


def _shared(scores: pd.DataFrame, truth: pd.DataFrame, *, windowed: bool) -> pd.DataFrame:
    """The truth of what was scored."""
    name = "recording" if windowed else "id"
    recording = scores["recording"].astype(str)
    truth = truth.dropna(subset=name)
    of = truth[name].astype(str)
    here = of.isin(set(recording))
    if not here.any():
        raise InputError(
            f"truth and scores share no {name} (truth has "
            f"{min(of, default='none')!r}, scores have {min(recording, default='none')!r}); "
            "are they of one data set?"
        )
    return truth[here]


def _by_kind(
    truth: pd.DataFrame,
    met: _Meetings,
    *,
    found: NDArray[np.intp],
    negative: NDArray[np.bool_],
    areas: CurveAreas,
) -> dict[str, Any]:
    kinds = truth["trial_type"].fillna("n/a").astype(str).to_numpy()
    result = {}
    for kind in sorted(set(kinds)):
        positive = np.zeros(len(negative), bool)
        positive[met.row[met.holds & (kinds[met.event] == kind)]] = True
        result[kind] = {
            "events": int((kinds == kind).sum()),
            "found": int((kinds[found] == kind).sum()),
            "windows": int(positive.sum()),
            "scorers": areas.of(positive, negative) if positive.any() else {},
        }
    return result


# ----------------------------------------------------------------------------- refusals


def _refuse_lacking(scores: pd.DataFrame, windowed: bool) -> None:
    wanted = ["recording", "score", *(["onset_s", "duration_s", "flagged"] if windowed else [])]
    lacking = [name for name in wanted if name not in scores]
    if lacking:
        raise InputError(
            f"the scores lack columns ({', '.join(lacking)}); expected the scores.parquet of a "
            "scoring"
        )
    if scores.empty:
        raise InputError("the scores have no rows; expected the scores.parquet of a scoring")


def _refuse_other_times(scores: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Events that begin after their recording, or outlast it, are in another unit."""
    ends = (scores["onset_s"] + scores["duration_s"]).groupby(scores["recording"].astype(str)).max()
    if ends.isna().all():
        raise InputError("the truth has events, but the scores are of rows; expected id, label")
    end_s = truth["recording"].astype(str).map(ends)
    step_s = scores["onset_s"].diff()
    # what is left over at the end of a recording has no window
    rest_s = np.nanmax([scores["duration_s"].max(), step_s[step_s > 0].median()])
    for name in ("onset", "duration"):
        excess = truth[name] - end_s - rest_s
        if (excess > 0).any():
            worst = int(excess.to_numpy().argmax())
            raise InputError(
                f"row {truth.index[worst] + 2} of the truth has {name} {truth[name].iloc[worst]:g} "
                f"in {truth['recording'].iloc[worst]!r}, whose windows end at "
                f"{end_s.iloc[worst]:g} s; expected seconds from the recording's start; are the "
                "truth's times in milliseconds or samples? If not, correct or remove the row"
            )


def _finite_scores(scores: pd.DataFrame) -> dict[str, Float]:
    """Every scorer's column, ``score`` first."""
    values = {}
    for name in ("score", *sorted(c for c in map(str, scores) if c.startswith("score_"))):
        values[name] = scores[name].to_numpy(float)
        if not np.isfinite(values[name]).all():
            row = int(np.flatnonzero(~np.isfinite(values[name]))[0])
            raise InputError(
                f"{name} of row {row} ({scores['recording'].iloc[row]!r}) is "
                f"{values[name][row]:g}; expected a number; score again"
            )
    return values


# ------------------------------------------------------------------------------ intervals


def _units(scores: pd.DataFrame) -> tuple[str, NDArray[np.int64]]:
    """What is resampled as a whole, and which one each row belongs to."""
    windowed = "onset_s" in scores and bool(scores["onset_s"].notna().any())
    unit, names = "recording" if windowed else "row", scores["recording"].astype(str)
    if windowed and "subject" in scores and scores["subject"].nunique() > 1:
        unit, names = "subject", scores["subject"].astype(object).fillna(names).astype(str)
    return unit, np.unique(names.to_numpy(object), return_inverse=True)[1].astype(np.int64)


# --------------------------------------------------------------------------------- events


def _score_events(
    scores: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    flagged: NDArray[np.bool_],
    codes: NDArray[np.int64],
) -> dict[str, Any]:
    """Events found and false alarms, by ``timescoring``, over all recordings together.

    Labelled events that touch are one event, and so are flagged windows. Two ways of counting:
    ``any_overlap`` (:data:`ANY_OVERLAP`) suits events of any length, ``szcore`` has the
    package's defaults and compares with the literature on seizures. Each has its ``parameters``
    (by timescoring's names, seconds; null: no limit), ``true_events``, ``found``,
    ``false_alarms``, and ``sensitivity``, ``precision``, ``f1``, ``false_alarms_per_hour`` and
    ``false_alarms_per_24h``, each with ``NAME_interval``; ``mean_over_units`` is what SzCORE
    reports: each subject counts the same. ``hours`` are those under at least one window.
    """
    from timescoring.annotations import Annotation
    from timescoring.scoring import EventScoring

    rules = {
        "any_overlap": EventScoring.Parameters(**ANY_OVERLAP),
        "szcore": EventScoring.Parameters(),
    }
    n_units = int(codes.max()) + 1
    counts = {rule: np.zeros((n_units, 3)) for rule in rules}
    hours = np.zeros(n_units)
    onset = scores["onset_s"].to_numpy(float)
    end = onset + scores["duration_s"].to_numpy(float)
    event_onset, event_end = _spans(truth)
    events_of = truth.groupby(truth["recording"].astype(str)).indices
    for name, found in scores.groupby(scores["recording"].astype(str)).indices.items():
        rows = np.asarray(found)[np.argsort(onset[found], kind="stable")]
        events = events_of.get(name, np.empty(0, np.intp))
        true = np.column_stack([event_onset[events], event_end[events]])
        # outwards, so that a short event does not fall between two samples of the grid
        true = np.column_stack(
            [np.floor(true[:, 0] * GRID_HZ + 1e-6), np.ceil(true[:, 1] * GRID_HZ - 1e-6)]
        )
        shown = rows[flagged[rows]]
        alarm = np.round(np.column_stack([onset[shown], end[shown]]) * GRID_HZ)
        length = int(np.ceil(max(end[rows].max() * GRID_HZ, true.max(initial=0))))
        reference = Annotation(_mask(true, length), GRID_HZ)
        hypothesis = Annotation(_mask(alarm, length), GRID_HZ)
        unit = codes[rows[0]]
        for rule, parameters in rules.items():
            scored = EventScoring(reference, hypothesis, parameters)
            counts[rule][unit] += scored.refTrue, scored.tp, scored.fp
        step = np.append(np.diff(onset[rows]), np.inf)
        hours[unit] += np.minimum((end - onset)[rows], step).sum() / 3600
    result: dict[str, Any] = {"hours": float(hours.sum()), "precision_s": 1 / GRID_HZ}
    for rule, parameters in rules.items():
        known = {
            name: None if value == np.inf else value for name, value in vars(parameters).items()
        }
        result[rule] = {"parameters": known, **_event_rates(counts[rule], hours)}
    return result


def _mask(spans: Float, length: int) -> NDArray[np.bool_]:
    """True within spans (first and last sample, exclusive)."""
    edges = np.zeros(length + 1)
    np.add.at(edges, np.minimum(spans[:, 0], length).astype(int), 1)
    np.add.at(edges, np.minimum(spans[:, 1], length).astype(int), -1)
    return np.asarray(np.cumsum(edges)[:-1] > 0)


def _event_rates(counts: Float, hours: Float) -> dict[str, Any]:
    """From (units, 3) numbers of true events, found ones and false alarms."""
    total = counts.sum(0)
    result: dict[str, Any] = {
        "true_events": int(total[0]),
        "found": int(total[1]),
        "false_alarms": int(total[2]),
    }
    weights = np.concatenate(list(resampled_weights(len(hours))))
    for name, values in _rates(weights @ counts, weights @ hours).items():
        result[name] = _known(values[0])
        result[f"{name}_interval"] = percentile_interval(values[1:])
    each = _rates(counts, hours)
    result["mean_over_units"] = {
        name: _known(values[np.isfinite(values)].mean() if np.isfinite(values).any() else np.nan)
        for name, values in each.items()
    }
    return result


def _rates(counts: Float, hours: Float) -> dict[str, Float]:
    """Rates of (n, 3) counts, as timescoring has them; NaN where there is nothing to count."""
    true, found, alarms = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": found / true,
            "precision": found / (found + alarms),
            "f1": 2 * found / (true + found + alarms),
            "false_alarms_per_hour": alarms / hours,
            "false_alarms_per_24h": 24 * alarms / hours,
        }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def named_events(found: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Labelled events, each beside the name that was given to what was found there.

    Parameters
    ----------
    found : DataFrame
        ``recording``, ``onset``, ``duration``, ``trial_type``, ``channel`` (a comma list): rows
        of events files.
    truth : DataFrame
        The same of what is labelled.

    Returns
    -------
    DataFrame
        ``truth`` with ``named`` (the ``trial_type`` of the found event that shares most time
        with it; empty where none does), ``at`` (its channels) and ``right``: the same kind, and
        one of the labelled channels among those found.
    """
    onset, end = _spans(found)
    here = found["recording"].astype(str).to_numpy()
    kinds, channels = (found[name].astype(str).tolist() for name in ("trial_type", "channel"))
    names, places, rights = [], [], []
    for where, first, last, kind, wanted in zip(
        truth["recording"].astype(str),
        *_spans(truth),
        truth["trial_type"].astype(str),
        truth["channel"].astype(str),
        strict=True,
    ):
        shared = np.where(here == where, np.minimum(end, last) - np.maximum(onset, first), 0)
        best = int(shared.argmax()) if len(shared) else -1
        met = best >= 0 and shared[best] > 0
        names.append(kinds[best] if met else "")
        places.append(channels[best] if met else "")
        same_place = {*places[-1].split(",")} & {*wanted.split(",")}
        rights.append(bool(met and kinds[best] == kind and same_place))
    return truth.assign(named=names, at=places, right=rights)
