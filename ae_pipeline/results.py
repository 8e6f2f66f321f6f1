"""What follows from a trained model: the bundle, the judged held-out parts, the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Kind
from ae_pipeline.detectors.calibration import Calibration
from ae_pipeline.detectors.conformal import adjusted, conformal_p, conformal_p_without_own
from ae_pipeline.ingest.gather import Gathered
from ae_pipeline.runtime.files import digest_json, versions
from ae_pipeline.scoring.bundle import Bundle, BundleInfo, describe_columns
from ae_pipeline.scoring.reasons import reasons
from ae_pipeline.stats import interval
from ae_pipeline.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.detectors.heads import FittedHead
    from ae_pipeline.models import Model
    from ae_pipeline.training.history import History
    from ae_pipeline.training.split import Division

__all__ = [
    "judge_held_out",
    "make_bundle",
    "train_metrics",
]

UNITS: dict[Kind, str] = {"eeg": "uV", "mnist": "0..1", "questionnaire": "answer"}


def make_bundle(
    study: Study,
    data: Gathered,
    division: Division,
    ensemble: Ensemble,
    baselines: dict[str, Scorer],
    calibration: Calibration,
    history: History,
    rehearsal: dict[str, Any] | None = None,
    head: FittedHead | None = None,
) -> Bundle:
    """Put together everything that scoring needs."""
    samples = data.samples
    windowed = study.kind == "eeg"
    preprocess = study.preprocess
    if preprocess is not None:
        preprocess = preprocess.model_copy(update={"sfreq_hz": data.sfreq_hz})
    alarms = study.detection.false_alarms_per_hour
    info = BundleInfo(
        study=study.study,
        kind=study.kind,
        model=_without_paths(study.model),
        shape=samples.shape,
        unit=UNITS[study.kind],
        entries=samples.entries,
        columns=describe_columns(samples.columns),
        positions_m=data.positions_m,
        sfreq_hz=samples.sfreq_hz,
        has_missing=ensemble.autoencoder.model.has_missing,
        source=study.source.model_dump(mode="json", exclude={"path", "limit", "digits"}),
        preprocess=preprocess,
        windows=study.windows,
        detection=study.detection,
        threshold=calibration.event_threshold(alarms) if windowed else None,
        exchangeable_unit=division.unit,
        claims=(
            *division.claims,
            *calibration.what_is_withdrawn(study.detection, division.unit),
        ),
        training={
            **study.normal,
            **data.facts,
            "parts": {
                part: int((division.part == part).sum())
                for part in ("train", "validation", "calibration", "test")
            },
            "epochs": len(history.rows),
            "seed": study.training.seed,
        },
        training_digest=digest_json(sorted(data.digests.values())),
        head_classes=() if head is None else head.classes,
        rehearsal=rehearsal or {},
        versions=dict(versions()),
    )
    return Bundle(info, ensemble, baselines, calibration, head=head)


def _without_paths(model: Model) -> Model:
    """A bundle goes to others: where labels lay is nobody's business."""
    if model.head is None:
        return model
    return model.model_copy(update={"head": model.head.model_copy(update={"labels": None})})


def judge_held_out(
    bundle: Bundle,
    frame: pd.DataFrame,
    by_entry: NDArray[np.float32],
    calibration: NDArray[np.bool_],
) -> pd.DataFrame:
    """Judge calibration and test rows; each calibration subject by the others.

    Parameters
    ----------
    bundle : Bundle
    frame : DataFrame
        Scores of the held-out rows, with ``part``.
    by_entry : array of shape (n, k)
    calibration : array of bool of shape (n,)
        Rows of the calibration part, in the order of ``bundle.calibration``.

    Returns
    -------
    DataFrame
        ``frame`` with ``p_value``, ``q_value``, ``flagged``, ``reason`` and the top entry.
    """
    reference = bundle.calibration
    info = bundle.info
    frame = frame.copy()
    score = frame["score"].to_numpy()
    p = conformal_p(score, reference.scores["score"])
    own = score[calibration]
    if info.threshold is None:
        p[calibration] = conformal_p(own, own, left_out=True)
        q = np.empty(len(p))
        apart = [calibration, ~calibration]
        if info.detection.trim:  # those trimmed are the worst of one batch, no batch of their own
            apart = [np.ones(len(p), bool)]
        for rows in apart:
            q[rows] = adjusted(p[rows], info.detection.dependence)
        frame["q_value"] = q
        frame["flagged"] = q <= info.detection.error_rate
    else:
        flagged = score > info.threshold
        p[calibration] = conformal_p_without_own(own, reference.unit)
        units, codes = np.unique(reference.unit, return_inverse=True)
        alarms = info.detection.false_alarms_per_hour
        limits = np.array([reference.event_threshold(alarms, without=unit) for unit in units])
        flagged[calibration] = own > limits[codes]
        frame["q_value"] = np.nan
        frame["flagged"] = flagged
    frame["p_value"] = p
    if info.entries:
        frame["top_entry"], frame["top_ratio"] = bundle.top_entries(by_entry)
    frame["reason"] = reasons(frame, float(np.median(reference.scores["score_autoencoder"])))
    return frame


def train_metrics(
    n_parameters: int, history: History, frame: pd.DataFrame, windowed: bool
) -> dict[str, Any]:
    """Content of ``metrics.json``: losses are means per entry, natural logarithm.

    Parameters
    ----------
    n_parameters : int
    history : History
    frame : DataFrame
        Judged held-out rows with ``score_autoencoder``, ``pca_loss`` and ``n_observed``
        (entries a row).
    windowed : bool
        Intervals are over subjects (EEG) rather than over rows.
    """
    test = frame[frame["part"] == "test"]
    if test.empty:  # few subjects: every calibration row was scored by a model that never saw it
        test = frame[frame["part"] == "calibration"]
    weight = test["n_observed"].to_numpy(float)
    own, linear = test["score_autoencoder"].to_numpy(), test["pca_loss"].to_numpy()
    gain = linear - own
    unit = "subject" if windowed else "recording"
    by_unit = gain if not windowed else test.assign(gain=gain).groupby(unit)["gain"].mean()
    bounds = interval(np.asarray(by_unit, dtype=float))
    best = history.best
    return {
        "parameters": n_parameters,
        "epochs": len(history.rows),
        "best_epoch": history.best_epoch,
        "train_loss": best["train_loss"],
        "validation_loss": best["validation_loss"],
        "test_loss": float(np.average(own, weights=weight)),
        "test_rows": len(test),
        "test_units": int(test[unit].nunique()) if windowed else len(test),
        "baselines": {"pca": {"test_loss": float(np.average(linear, weights=weight))}},
        "beats_baselines": {
            "value": None if bounds is None else bool(bounds[0] > 0),
            "difference": float(np.mean(by_unit)),
            "interval": bounds,
        },
        "seconds": float(sum(row["seconds"] or 0 for row in history.rows)),
    }
