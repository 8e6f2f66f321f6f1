"""From scores to statements: p-values, q-values, thresholds, events.

The exchangeable unit is respected. Rows (respondents, images) and recordings are exchangeable
with their like, and get split-conformal p-values (Vovk, Gammerman and Shafer, 2005). Windows of
one recording depend on each other: their p-values are descriptive, and what is promised for
them is a rate, false alarms per hour on calibration recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ae_pipeline.config import Config
from ae_pipeline.data import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Calibration",
    "Detection",
    "Span",
    "benjamini_hochberg",
    "conformal_p",
    "find_events",
    "recording_score",
]

Float = NDArray[np.float64]


class Detection(Config):
    """What a flag means."""

    error_rate: float = Field(0.05, gt=0, lt=1)
    """Share of false discoveries allowed among flagged rows or recordings."""
    false_alarms_per_hour: float = Field(6.0, gt=0)
    """EEG: events an hour that clean calibration recordings may raise."""


@dataclass(frozen=True)
class Span:
    """Neighbouring flagged windows: rows ``first`` to ``last`` (inclusive) of one recording."""

    first: int
    last: int
    peak: int
    onset_s: float
    end_s: float
    score: float


def conformal_p(scores: Float, reference: Float, left_out: bool = False) -> Float:
    """Share of reference scores at least as large, counting the sample itself.

    Parameters
    ----------
    scores : array of shape (n,)
    reference : array of shape (m,)
        Calibration scores in any order.
    left_out : bool
        The scores are themselves part of the reference: each is judged by the others.

    Returns
    -------
    array of shape (n,)
        ``(1 + #{reference >= score}) / (m + 1)``; with ``left_out`` the sample's own entry
        is the 1. Valid (P(p <= a) <= a) where the sample is exchangeable with the reference.
    """
    ordered = np.sort(reference)
    at_least = len(ordered) - np.searchsorted(ordered, scores, "left")
    if left_out:
        return np.asarray(at_least / max(len(ordered), 1), dtype=np.float64)
    return np.asarray((1 + at_least) / (len(ordered) + 1), dtype=np.float64)


def benjamini_hochberg(p: Float) -> Float:
    """Adjusted p-values (q); flagging q <= a keeps the expected false discovery share at a.

    Benjamini and Hochberg (1995); holds for independent p-values and for conformal ones that
    share their calibration data (Bates et al., 2023).
    """
    n = len(p)
    if n == 0:
        return p
    order = np.argsort(p)
    ranked = p[order] * n / np.arange(1, n + 1)
    q = np.empty(n)
    q[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return q


def recording_score(scores: Float) -> float:
    """One score for a recording: the mean of its most abnormal twentieth of windows."""
    n = max(1, round(len(scores) / 20))
    return float(np.sort(scores)[-n:].mean())


def find_events(onset_s: Float, duration_s: Float, scores: Float, threshold: float) -> list[Span]:
    """Merge neighbouring windows above the threshold.

    Parameters
    ----------
    onset_s, duration_s, scores : array of shape (n,)
        Windows of one recording in order of time.
    threshold : float
        A window is flagged where its score is above it.

    Returns
    -------
    list of Span
        Flagged windows that overlap or touch belong to one event.
    """
    spans: list[Span] = []
    end_s = onset_s + duration_s
    group: list[int] = []

    def close() -> None:
        peak = max(group, key=lambda row: scores[row])
        spans.append(
            Span(
                group[0],
                group[-1],
                peak,
                float(onset_s[group[0]]),
                float(end_s[group[-1]]),
                float(scores[peak]),
            )
        )

    for row in np.flatnonzero(scores > threshold):
        if group and onset_s[row] > end_s[group[-1]] + 1e-9:
            close()
            group = []
        group.append(int(row))
    if group:
        close()
    return spans


@dataclass(frozen=True)
class Calibration:
    """Scores of data that nothing was fitted on, and what follows from them.

    Parameters
    ----------
    scores : dict of str to array of shape (n,)
        By scorer; ``score`` is the default detector's.
    recording : array of int of shape (n,)
        Which calibration recording (or block) a window belongs to; each row its own for
        tables and images. Numbers, not names: identities stay out of the bundle.
    onset_s, duration_s : array of shape (n,)
        EEG only (empty otherwise).
    entry_median : array of shape (k,)
        The default detector's usual error of each channel or item (empty where it has none).
    """

    scores: dict[str, Float]
    recording: NDArray[np.int64]
    onset_s: Float
    duration_s: Float
    entry_median: NDArray[np.float32]

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, by_entry: NDArray[np.float32], unit: str
    ) -> Calibration:
        """From a table of scores.

        Parameters
        ----------
        frame : DataFrame
            ``recording``, ``score``, ``score_NAME``; ``onset_s`` and ``duration_s`` of windows.
        by_entry : array of shape (n, k)
            The default detector's error of each channel or item.
        unit : str
            ``block`` where stretches of time of one subject stand in for recordings.

        Raises
        ------
        InputError
            Where there is nothing to calibrate with.
        """
        if frame.empty:
            raise InputError(
                "no calibration data: no window or row is left after the split; give "
                "split.calibration a larger share or add recordings"
            )
        names = [c for c in frame if c == "score" or c.startswith("score_")]
        windowed = "onset_s" in frame
        if windowed:
            recording = frame["recording"].astype("category").cat.codes.to_numpy(np.int64)
            if unit == "block":
                gap = np.diff(frame["onset_s"], prepend=0.0) > frame["duration_s"].to_numpy() + 1e-6
                new = np.diff(recording, prepend=-1) != 0
                recording = np.cumsum(gap | new)
            onset, duration = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
        else:
            recording = np.arange(len(frame))
            onset = duration = np.zeros(0)
        scores = {str(name): frame[name].to_numpy(np.float64) for name in names}
        usual = np.median(by_entry, 0) if by_entry.shape[1] else np.zeros(0)
        return cls(
            scores,
            np.asarray(recording, np.int64),
            onset.astype(float),
            duration.astype(float),
            usual.astype(np.float32),
        )

    @property
    def n_recordings(self) -> int:
        """Exchangeable units the statements rest on."""
        return len(np.unique(self.recording))

    @property
    def hours(self) -> float:
        """Hours of calibration signal (EEG)."""
        if not len(self.onset_s):
            return 0.0
        seconds = 0.0
        for rows in self._by_recording():
            onset, end = self.onset_s[rows], (self.onset_s + self.duration_s)[rows]
            ahead = np.append(onset[1:], np.inf)
            seconds += float(np.minimum(end - onset, ahead - onset).sum())
        return seconds / 3600

    @property
    def smallest_p(self) -> float:
        """The smallest p-value a row or recording can get."""
        return 1 / (self.n_recordings + 1)

    def _by_recording(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.recording == unit) for unit in np.unique(self.recording)]

    def recording_scores(self, scorer: str = "score") -> Float:
        """One score for each calibration recording."""
        return np.array([recording_score(self.scores[scorer][r]) for r in self._by_recording()])

    def false_alarms_per_hour(self, threshold: float, scorer: str = "score") -> float:
        """Events an hour that the calibration recordings raise at a threshold."""
        n_events = 0
        scores = self.scores[scorer]
        for rows in self._by_recording():
            n_events += len(
                find_events(self.onset_s[rows], self.duration_s[rows], scores[rows], threshold)
            )
        return n_events / self.hours

    def event_threshold(
        self, false_alarms_per_hour: float, scorer: str = "score", without: int | None = None
    ) -> float:
        """Lowest threshold at which calibration recordings raise no more events than allowed.

        Parameters
        ----------
        false_alarms_per_hour : float
        scorer : str
        without : int, optional
            A calibration recording left out (to judge that recording itself).

        Notes
        -----
        The number of events is not monotone in the threshold (low thresholds merge
        everything), so the search walks down from the largest score and stops at the first
        threshold that raises too many.
        """
        scores = self.scores[scorer]
        groups = [rows for rows in self._by_recording() if self.recording[rows[0]] != without]
        kept = np.concatenate(groups) if groups else np.zeros(0, np.int64)
        if not len(kept):
            return float("inf")
        hours = self.hours * len(kept) / len(scores)
        allowed = int(false_alarms_per_hour * hours)
        # at most `allowed` events means at most that many separate peaks: walk down the peaks
        candidates = np.unique(scores[kept])[::-1]
        low, high = 0, len(candidates) - 1
        count = 0

        def events_at(position: int) -> int:
            return sum(
                len(
                    find_events(
                        self.onset_s[rows],
                        self.duration_s[rows],
                        scores[rows],
                        float(candidates[position]),
                    )
                )
                for rows in groups
            )

        # gallop to the first threshold that raises too many, then bisect back
        step = 1
        position = 0
        while position < high:
            count = events_at(min(position + step, high))
            if count > allowed:
                break
            position = min(position + step, high)
            step *= 2
        low, high = position, min(position + step, high)
        while high - low > 1:
            middle = (low + high) // 2
            if events_at(middle) > allowed:
                high = middle
            else:
                low = middle
        return float(candidates[low])

    def state(self) -> dict[str, NDArray[Any]]:
        """As named arrays (what a bundle stores)."""
        named: dict[str, NDArray[Any]] = {f"scores/{k}": v for k, v in self.scores.items()}
        named |= {
            "recording": self.recording,
            "onset_s": self.onset_s,
            "duration_s": self.duration_s,
            "entry_median": self.entry_median,
        }
        return named

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Calibration:
        """Back from named arrays."""
        scores = {k.partition("/")[2]: v for k, v in state.items() if k.startswith("scores/")}
        return cls(
            scores,
            state["recording"],
            state["onset_s"],
            state["duration_s"],
            state["entry_median"],
        )
