"""Does a flag mean what it says? Fresh simulations through the package's own calibration.

Scores are simulated, everything after them is the real thing (``ae_pipeline.calibrate``,
``ae_pipeline.score``). A window's score is ``exp(subject + spread of the subject * noise)``:
subjects differ in how large and how variable their scores are, the noise of neighbouring
windows is correlated (lag one, 0.9) as that of overlapping windows of EEG is, and recordings of
one subject resemble each other. Every simulation draws new subjects for calibration and for the
batch that is judged. What is claimed is a mean over simulations, so that is what is tested:
one-sided, simulations as the unit, "held" unless the mean lies above the claim with p < 0.01.

    python benchmarks/calibration.py               500 simulations (about three CPU minutes)
    python benchmarks/calibration.py --quick       100 of them
    python benchmarks/calibration.py --eeg FOLDER  real recordings beside them: every subject is
                                                   left out in turn (a small dense model, minutes)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import t as student

from ae_pipeline.calibrate import (
    Calibration,
    adjusted,
    conformal_p,
    find_events,
    recording_score,
)

Float = NDArray[np.float64]
Figures = dict[str, float]

LEVELS = (0.01, 0.05, 0.1)
ERROR_RATES = (0.05, 0.1)
LENGTH_S, STRIDE_S = 2.0, 1.0
ALARMS_PER_HOUR = 6.0
HELD_P = 0.01


# ------------------------------------------------------------------------------ simulation


@dataclass(frozen=True)
class World:
    """How windows vary: standard deviations of the logarithm of scores, and their correlation.

    ``n_windows`` of 2 s, one a second: two minutes a recording.
    """

    subject: float = 0.5
    recording: float = 0.15
    spread: float = 0.25
    noise: float = 0.4
    correlation: float = 0.9
    n_windows: int = 120

    def recordings(
        self, rng: np.random.Generator, n_subjects: int, each: int = 1, n_odd: int = 0
    ) -> pd.DataFrame:
        """Windows of recordings; the first ``n_odd`` of them hold bursts of large scores."""
        n, m = n_subjects * each, self.n_windows
        level = np.repeat(rng.normal(0, self.subject, n_subjects), each)
        level = level + rng.normal(0, self.recording, n)
        spread = np.repeat(self.noise * np.exp(rng.normal(0, self.spread, n_subjects)), each)
        steps = rng.normal(size=(n, m))
        steps[:, 1:] *= np.sqrt(1 - self.correlation**2)  # the first has the lasting variance
        noise = lfilter([1.0], [1.0, -self.correlation], steps, axis=1)
        bursts = np.zeros((n, m))
        for row in range(n_odd):
            height = rng.normal(2.0, 0.5)
            for start in rng.integers(0, m, size=3):
                bursts[row, start : start + 6] = height
        return pd.DataFrame(
            {
                "recording": np.repeat(np.arange(n), m),
                "subject": np.repeat(np.arange(n_subjects), each * m),
                "onset_s": np.tile(np.arange(m) * STRIDE_S, n),
                "duration_s": LENGTH_S,
                "score": np.exp(level[:, None] + spread[:, None] * noise + bursts).ravel(),
            }
        )


def calibrate(frame: pd.DataFrame, unit: str = "subject") -> Calibration:
    return Calibration.from_frame(frame, np.zeros((len(frame), 0), np.float32), unit)


def scores_of(frame: pd.DataFrame) -> Float:
    """(recordings, windows)."""
    return frame["score"].to_numpy().reshape(frame["recording"].nunique(), -1)


def recording_scores(frame: pd.DataFrame) -> Float:
    return np.array([recording_score(row) for row in scores_of(frame)])


def alarms_per_hour(frame: pd.DataFrame, threshold: float) -> Float:
    """Events an hour of each recording."""
    scores = scores_of(frame)
    onset = np.arange(scores.shape[1]) * STRIDE_S
    duration = np.full(scores.shape[1], LENGTH_S)
    hours = (onset[-1] + LENGTH_S) / 3600
    return np.array([len(find_events(onset, duration, row, threshold)) for row in scores]) / hours


def discoveries(flagged: NDArray[np.bool_], n_odd: int) -> tuple[float, float]:
    """False discovery proportion, and share of the odd (the first ``n_odd``) that are flagged."""
    false = flagged[n_odd:].sum() / max(1, flagged.sum())
    return float(false), float(flagged[:n_odd].mean()) if n_odd else float("nan")


def simulate(n: int, one: Callable[[np.random.Generator], Figures], seed: int = 0) -> pd.DataFrame:
    """One row of figures a simulation, each from its own generator."""
    seeds = np.random.SeedSequence(seed).spawn(n)
    return pd.DataFrame([one(np.random.default_rng(each)) for each in seeds])


# -------------------------------------------------------------------------------- studies


def p_and_q(p: Float, n_odd: int) -> Figures:
    """Shares of normal ones at each level; what each correction makes of the batch."""
    figures = {f"p <= {a:g}": float((p[n_odd:] <= a).mean()) for a in LEVELS}
    for name, dependence in (("BH", "positive"), ("BY", "any")):
        q = adjusted(p, dependence)
        for rate in ERROR_RATES:
            false, power = discoveries(q <= rate, n_odd)
            figures |= {f"FDP {name} {rate:g}": false, f"power {name} {rate:g}": power}
    return figures


def judge_recordings(
    rng: np.random.Generator,
    n_subjects: int,
    world: World = World(),
    each: int = 1,
    batch: int = 100,
    n_odd: int = 10,
    fresh: World | None = None,
    fresh_each: int = 1,
) -> Figures:
    """Recordings of fresh subjects against ``each`` recordings of every calibration subject."""
    calibration = calibrate(world.recordings(rng, n_subjects, each))
    new = (fresh or world).recordings(rng, batch // fresh_each, fresh_each, n_odd)
    return p_and_q(conformal_p(recording_scores(new), calibration.recording_scores()), n_odd)


def judge_rows(rng: np.random.Generator, n_calibration: int, batch: int, n_odd: int) -> Figures:
    """Respondents or images: heavy-tailed scores, each row for itself."""
    def draw(n: int) -> Float:
        return np.exp(rng.standard_t(5, n))

    calibration = calibrate(pd.DataFrame({"recording": "r", "score": draw(n_calibration)}), "row")
    new = draw(batch)
    new[:n_odd] *= np.exp(rng.normal(6, 1, n_odd))
    return p_and_q(conformal_p(new, calibration.scores["score"]), n_odd)


def left_out_in_turn(rng: np.random.Generator, n_subjects: int, each: int, batch: int) -> Figures:
    """Few subjects: calibration scores come from models without the subject, new ones from all.

    The model is the mean feature vector of its subjects; a score is the distance from it.
    """
    def features(n: int, per: int) -> Float:
        subject = np.repeat(rng.normal(size=(n, 1, 4)), per, 0)
        return subject + 0.3 * rng.normal(size=(n * per, 1, 4)) + rng.normal(size=(n * per, 40, 4))

    own, new = features(n_subjects, each), features(batch, 1)
    subject = np.repeat(np.arange(n_subjects), each)
    models = [own[subject != s].mean((0, 1)) for s in subject]
    scores = ((own - np.array(models)[:, None]) ** 2).sum(2)
    frame = pd.DataFrame(
        {
            "recording": np.repeat(np.arange(len(own)), 40),
            "subject": np.repeat(subject, 40),
            "onset_s": np.tile(np.arange(40) * STRIDE_S, len(own)),
            "duration_s": LENGTH_S,
            "score": scores.ravel(),
        }
    )
    total = ((new - own.mean((0, 1))) ** 2).sum(2)
    p = conformal_p(
        np.array([recording_score(row) for row in total]), calibrate(frame).recording_scores()
    )
    return {f"p <= {a:g}": float((p <= a).mean()) for a in (0.1, 0.15, 0.3)}


def one_voice_a_subject(rng: np.random.Generator, n_subjects: int, each: int) -> Figures:
    """What would be valid with several recordings a subject: they share their subject's weight.

    ``p = (1 + sum over subjects of the share of their recordings at least as large) / (n + 1)``
    (Lee, Barber and Willett, 2023, on hierarchical data).
    """
    world = World()
    reference = recording_scores(world.recordings(rng, n_subjects, each))
    new = recording_scores(world.recordings(rng, 100))
    at_least = (reference.reshape(n_subjects, each)[None] >= new[:, None, None]).mean(2).sum(1)
    return p_and_q((1 + at_least) / (n_subjects + 1), 0)


def judge_windows(rng: np.random.Generator, n_subjects: int, each: int = 1) -> Figures:
    """What is promised for windows (events an hour) and what is not (their p-values)."""
    calibration = calibrate(World().recordings(rng, n_subjects, each))
    threshold = calibration.event_threshold(ALARMS_PER_HOUR)
    fresh = World().recordings(rng, 50)
    rates = alarms_per_hour(fresh, threshold)
    low, high = calibration.false_alarm_interval(threshold)
    p = conformal_p(fresh["score"].to_numpy(), calibration.scores["score"]).reshape(50, -1)
    figures = {
        "calibration": calibration.false_alarms_per_hour(threshold),
        "fresh": float(rates.mean()),
        "interval holds it": float(low <= rates.mean() <= high),
        "above twice the promise": float((rates > 2 * ALARMS_PER_HOUR).mean()),
        "most alarmed tenth": float(np.quantile(rates, 0.9)),
        "any window with q <= 0.1": float(np.mean([(adjusted(row) <= 0.1).any() for row in p])),
        "unexplained": float(np.mean([_unexplained(r, fresh) for r in rates])),
    }
    for a in LEVELS:
        share = (p <= a).mean(1)
        figures[f"windows with p <= {a:g}"] = float(share.mean())
        figures[f"recordings with more than {2 * a:g} of them"] = float((share > 2 * a).mean())
    return figures


def _unexplained(rate_per_hour: float, frame: pd.DataFrame) -> bool:
    """The verdict that ``score`` gives a recording for its number of events."""
    from ae_pipeline.calibrate import Detection
    from ae_pipeline.score import _verdict

    hours = (frame["onset_s"].max() + LENGTH_S) / 3600
    detection = Detection(false_alarms_per_hour=ALARMS_PER_HOUR)
    n_events = round(rate_per_hour * hours)
    return _verdict(n_events, hours, pd.DataFrame({"name": []}), detection)[0] == "unexplained"
