"""Scores of samples, and the one judge that turns them into p-values, flags and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Finding, Samples, Scorer, Scores
from ae_pipeline.detectors.baselines import score_all
from ae_pipeline.detectors.calibration import Calibration, Detection
from ae_pipeline.detectors.conformal import adjusted, conformal_p, conformal_p_without_own
from ae_pipeline.detectors.ensemble import LINEAR_TO, Ensemble, ViewInputs
from ae_pipeline.detectors.events import Span, find_events

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "Judge",
    "Judged",
    "RecordingJudgement",
    "false_discoveries",
    "judge_held_out",
    "known_columns",
    "raw_columns",
    "raw_scores",
]


KEYS = ("recording", "subject", "session", "window", "onset_s", "duration_s")
"""What a judged sample is known by; whatever else a table holds stays with the samples."""


@dataclass(frozen=True)
class Judged:
    """What a bundle says of samples.

    ``columns`` are (n,) arrays: ``score``, ``score_NAME``, ``p_value``, ``flagged`` (EEG) and the
    entry that deviates most; ``frame`` has them beside the keys of ``meta``. ``by_entry`` is the
    default detector's error, (n, k); ``latents`` is (n, latent_dim).
    """

    meta: pd.DataFrame
    columns: dict[str, NDArray[Any]]
    by_entry: NDArray[np.float32]
    latents: NDArray[np.float32]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a sample."""
        return _beside(self.meta, self.columns)

    @classmethod
    def join(cls, parts: Sequence[Judged]) -> Judged:
        """One after the other."""
        import pandas as pd

        if len(parts) == 1:
            return parts[0]
        return cls(
            pd.concat([part.meta for part in parts], ignore_index=True),
            {
                name: np.concatenate([part.columns[name] for part in parts])
                for name in parts[0].columns
            },
            np.concatenate([part.by_entry for part in parts]),
            np.concatenate([part.latents for part in parts]),
        )


def raw_scores(
    ensemble: Ensemble, baselines: dict[str, Scorer], *, samples: Samples
) -> tuple[pd.DataFrame, Scores, NDArray[np.float32]]:
    """Every scorer's score beside the samples' keys, without any calibration.

    Returns
    -------
    frame : DataFrame
        What a sample is known by (:data:`KEYS`; ``label`` of images), ``score`` (the
        ensemble's), ``score_autoencoder`` and the other views and baselines as ``score_NAME``,
        ``top_view`` (what deviates most) and ``top_deviation`` (robust standard deviations).
    scores : Scores
        The autoencoder's, with the ensemble's deviation of each channel or error of each item.
    latents : array of shape (n, latent_dim)
    """
    columns, scores, latents = raw_columns(ensemble, baselines, samples=samples)
    return _beside(known_columns(samples), columns), scores, latents


def known_columns(samples: Samples) -> pd.DataFrame:
    """What samples are known by."""
    keys = (*KEYS, "label") if samples.layout == "grid" else KEYS
    return samples.meta[[name for name in keys if name in samples.meta]]


def _beside(known: pd.DataFrame, columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([known, pd.DataFrame(columns, index=known.index)], axis=1)


def raw_columns(
    ensemble: Ensemble,
    baselines: dict[str, Scorer],
    *,
    samples: Samples,
    inputs: ViewInputs | None = None,
) -> tuple[dict[str, NDArray[Any]], Scores, NDArray[np.float32]]:
    """:func:`raw_scores` without the keys."""
    if inputs is None:
        inputs = ensemble.view_inputs(samples)
    seen = ensemble.view_scores(samples, inputs)
    scores = Scores(_finite(seen.autoencoder.total), _finite(seen.by_entry))
    found: dict[str, Any] = {
        "score": _finite(seen.total),
        "score_autoencoder": scores.total,
        **{f"score_{name}": _finite(values) for name, values in seen.deviations.items()},
    }
    found.pop("score_error", None)  # the autoencoder's score says the same
    if "latent" not in seen.deviations:
        found["score_latent"] = _finite(seen.views["latent"])
    for name, each in score_all(baselines, samples, scaled=inputs.scaled).items():
        found[f"score_{name}"] = _finite(each.total)
    if len(seen.top_band):
        found["top_band"] = seen.top_band
        found["score_state"] = _finite(seen.state)
    names = list(seen.deviations)
    deviations = np.stack([_finite(values) for values in seen.deviations.values()], 1)
    top = deviations.argmax(1)
    found["top_view"] = np.array(names, dtype=object)[top]
    # in words a deviation is told in full, not compressed as it is added
    largest = deviations[np.arange(len(top)), top] / LINEAR_TO
    found["top_deviation"] = _finite(LINEAR_TO * np.sinh(np.clip(largest, -80, 80)))
    return found, scores, seen.latents


def _finite(errors: NDArray[Any]) -> NDArray[Any]:
    """An error beyond float32 is still an error: the largest number, never infinity."""
    most = float(np.finfo(np.float32).max)
    return np.asarray(np.nan_to_num(errors, nan=most, posinf=most))


# ---------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class RecordingJudgement:
    """What the calibration says of a whole recording, and of the number of its events."""

    score: float
    p_value: float
    events: Finding


@dataclass(frozen=True)
class Judge:
    """Turns scores into p-values, q-values, flags and events, by one set of calibration scores.

    Held-out rows of a training, rows of a table and windows of new recordings are all judged here.

    Parameters
    ----------
    calibration : Calibration
    detection : Detection
        The rates that are allowed.
    threshold : float, optional
        Windows above this score are flagged; without one, rows are flagged by q.
    """

    calibration: Calibration
    detection: Detection
    threshold: float | None = None

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        by_entry: NDArray[np.float32],
        *,
        unit: str,
        detection: Detection,
        windowed: bool,
    ) -> tuple[Judge, NDArray[np.bool_]]:
        """Calibrate on scores of data that nothing was fitted on.

        Parameters
        ----------
        frame, by_entry, unit
            As :meth:`Calibration.from_frame` takes them.
        detection : Detection
        windowed : bool
            Windows are flagged above a threshold.

        Returns
        -------
        judge : Judge
        kept : array of bool of shape (n,)
            Rows that calibrate: all but those of units that ``detection.trim`` leaves out.
        """
        calibration = Calibration.from_frame(frame, by_entry, unit=unit)
        kept = np.ones(len(frame), bool)
        if detection.trim:
            kept = calibration.not_trimmed(detection.trim)
            few = frame[kept].reset_index(drop=True)
            calibration = Calibration.from_frame(few, by_entry[kept], unit=unit)
        threshold = None
        if windowed:
            threshold = calibration.event_threshold(detection.false_alarms_per_hour)
        return cls(calibration, detection, threshold), kept

    def samples(self, score: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Return ``p_value`` of new samples and, of windows, ``flagged``."""
        p = conformal_p(score, self.calibration.scores["score"])
        return {"p_value": p} | ({} if self.threshold is None else {"flagged": self.flags(score)})

    def flags(self, score: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which windows are flagged."""
        assert self.threshold is not None
        return np.asarray(score > self.threshold)

    def events(
        self,
        onset_s: NDArray[np.float64],
        duration_s: NDArray[np.float64],
        *,
        score: NDArray[np.float64],
    ) -> list[Span]:
        """Return the flagged windows of one recording, neighbours merged."""
        assert self.threshold is not None
        return find_events(onset_s, duration_s, scores=score, threshold=self.threshold)

    def recording(
        self, score: NDArray[np.float64], *, n_events: int, hours: float
    ) -> RecordingJudgement:
        """Judge a new recording by its windows' scores, in order of time, and its events."""
        calibration = self.calibration
        own = calibration.recording_score(score)
        events = calibration.compare_events(
            n_events, hours, top=float(score.max()), detection=self.detection
        )
        return RecordingJudgement(own, calibration.recording_p(own), events)

    def held_out(
        self, score: NDArray[np.float64], own: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        """Return ``p_value``, ``q_value`` and ``flagged`` of the held-out rows of a training.

        Parameters
        ----------
        score : array of shape (n,)
        own : array of bool of shape (n,)
            Rows that calibrate, in the order of the calibration: each is judged by the others
            (of windows, by those of other units).
        """
        calibration, judged = self.calibration, self.samples(score)
        p = judged["p_value"]
        if self.threshold is None:
            p[own] = conformal_p(score[own], score[own], left_out=True)
            q, flagged = np.empty(len(p)), np.zeros(len(p), bool)
            # those trimmed are the worst of one batch, no batch of their own
            whole = [np.ones(len(p), bool)]
            for rows in whole if self.detection.trim else (own, ~own):
                q[rows], flagged[rows] = false_discoveries(p[rows], self.detection)
            return {"p_value": p, "q_value": q, "flagged": flagged}
        p[own] = conformal_p_without_own(score[own], calibration.unit)
        units, codes = np.unique(calibration.unit, return_inverse=True)
        rate = self.detection.false_alarms_per_hour
        limits = np.array([calibration.event_threshold(rate, without=unit) for unit in units])
        flagged = judged["flagged"]
        flagged[own] = score[own] > limits[codes]
        return {"p_value": p, "q_value": np.full(len(p), np.nan), "flagged": flagged}


def false_discoveries(
    p: NDArray[np.float64], detection: Detection
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return q of p-values that are judged together, and which of them are flagged."""
    q = adjusted(p, detection.dependence)
    return q, q <= detection.error_rate


def judge_held_out(
    bundle: Bundle,
    frame: pd.DataFrame,
    *,
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
        ``frame`` with ``p_value``, ``q_value``, ``flagged`` and the top entry.
    """
    frame = frame.assign(**bundle.by_calibration.held_out(frame["score"].to_numpy(), calibration))
    if bundle.info.entries:
        frame["top_entry"], frame["top_ratio"] = bundle.top_entries(by_entry)
    return frame
