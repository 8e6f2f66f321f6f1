"""From scores to statements: p-values, q-values, thresholds, events.

The exchangeable unit is respected. Rows (respondents, images) and recordings are exchangeable
with their like, and get split-conformal p-values (Vovk, Gammerman and Shafer, 2005). Windows of
one recording depend on each other: their p-values are descriptive, and what is promised for
them is a rate, false alarms per hour on calibration recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

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
    "Reach",
    "Span",
    "adjusted",
    "conformal_p",
    "conformal_p_without_own",
    "find_events",
    "reach",
    "recording_score",
]

Float = NDArray[np.float64]

TOUCH_S = 1e-9
"""Windows this close touch each other: onsets are sums of rounded numbers."""


class Detection(Config):
    """What a flag means."""

    error_rate: float = Field(0.05, gt=0, lt=1)
    """Share of false discoveries allowed among flagged rows or recordings."""
    false_alarms_per_hour: float = Field(6.0, gt=0)
    """EEG: events an hour that clean calibration recordings may raise."""
    dependence: Literal["positive", "any"] = "positive"
    """How rows or recordings may depend on each other: positive (Benjamini-Hochberg) is right for
    separate people; any (Benjamini-Yekutieli) holds always and flags less."""


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


def conformal_p_without_own(scores: Float, group: NDArray[np.int64]) -> Float:
    """Each score judged by those of all other groups (calibration recordings).

    Parameters
    ----------
    scores, group : array of shape (n,)

    Returns
    -------
    array of shape (n,)
        :func:`conformal_p` with the scores of the other groups as reference.
    """
    ordered = np.sort(scores)
    at_least = len(scores) - np.searchsorted(ordered, scores, "left")
    p = np.empty(len(scores))
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        own = np.sort(scores[rows])
        own_at_least = len(own) - np.searchsorted(own, scores[rows], "left")
        p[rows] = (1 + at_least[rows] - own_at_least) / (len(scores) - len(own) + 1)
    return p


def adjusted(p: Float, dependence: Literal["positive", "any"] = "positive") -> Float:
    """Adjusted p-values (q): flagging q <= a keeps the expected false share among flagged at a.

    Parameters
    ----------
    p : array of shape (n,)
    dependence : {'positive', 'any'}
        Benjamini and Hochberg (1995), which holds for independent p-values and for conformal
        ones that share their calibration data (Bates et al., 2023), or Benjamini and Yekutieli
        (2001), which holds under any dependence.
    """
    from scipy.stats import false_discovery_control

    if not len(p):
        return p
    method = "bh" if dependence == "positive" else "by"
    return np.asarray(false_discovery_control(p, method=method), dtype=np.float64)


@dataclass(frozen=True)
class Reach:
    """What a number of calibration recordings (or rows) allows to be said.

    Parameters
    ----------
    n_calibration, n_batch : int
        Exchangeable calibration units, and how many are judged together.
    error_rate : float
    smallest_p : float
        The smallest p-value that can come out.
    fewest : int or None
        How many of the batch must reach the smallest p before any is flagged; None where
        nothing can be flagged however abnormal it is.
    needed : int
        Calibration units with which a single abnormal one could be flagged.
    """

    n_calibration: int
    n_batch: int
    error_rate: float
    smallest_p: float
    fewest: int | None
    needed: int

    def sentence(self, what: str) -> str:
        """One sentence for the report; empty where a single abnormal one can be flagged."""
        if self.fewest == 1 or not self.n_batch:
            return ""
        rate = f"an error rate of {self.error_rate:g}"
        more = f"{self.needed:,} would be needed for one alone"
        if self.fewest is None:
            return (
                f"Cannot flag at {rate} with {self.n_calibration:,} calibration {what} (smallest "
                f"p {self.smallest_p:.2g}); {more}."
            )
        return (
            f"With {self.n_calibration:,} calibration {what} (smallest p {self.smallest_p:.2g}) "
            f"flags at {rate} begin where {self.fewest:,} of {self.n_batch:,} are as abnormal as "
            f"can be; {more}."
        )


def reach(
    n_calibration: int,
    n_batch: int,
    error_rate: float,
    dependence: Literal["positive", "any"] = "positive",
) -> Reach:
    """Plan how much calibration data a wanted error rate needs.

    Parameters
    ----------
    n_calibration : int
        Calibration recordings, respondents or images.
    n_batch : int
        How many are judged together.
    error_rate : float
    dependence : {'positive', 'any'}
    """
    smallest = 1 / (n_calibration + 1)
    strictness = 1.0
    if dependence == "any":  # Benjamini and Yekutieli's harmonic sum
        strictness = float((1 / np.arange(1, max(n_batch, 1) + 1)).sum())
    # k equal p-values have q = p * strictness * n / k
    fewest = int(np.ceil(smallest * strictness * n_batch / error_rate - 1e-9))
    needed = int(np.ceil(strictness * max(n_batch, 1) / error_rate - 1 - 1e-9))
    possible = max(fewest, 1) if fewest <= n_batch else None
    return Reach(n_calibration, n_batch, error_rate, smallest, possible, needed)


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
        if group and onset_s[row] > end_s[group[-1]] + TOUCH_S:
            close()
            group = []
        group.append(int(row))
    if group:
        close()
    return spans


@dataclass(frozen=True)
class Calibration:
    """Scores of data that nothing was fitted on, and what follows from them.

    Windows of one recording stand together, in order of time.

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
        import pandas as pd

        if frame.empty:
            raise InputError(
                "no calibration data: no window or row is left after the split; give "
                "split.calibration a larger share or add recordings"
            )
        names = [c for c in map(str, frame) if c == "score" or c.startswith("score_")]
        windowed = "onset_s" in frame
        if windowed:
            recording = frame["recording"].astype("category").cat.codes.to_numpy(np.int64)
            if unit == "block":
                step = np.diff(frame["onset_s"], prepend=-np.inf)
                # windows may stand apart by plan; a stretch ends where they stand further apart
                usual = max(frame["duration_s"].max(), np.median(step[1:])) if len(step) > 1 else 0
                recording = np.cumsum((step > usual + 1e-6) | (np.diff(recording, prepend=-1) != 0))
            onset, duration = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
        else:
            recording = np.arange(len(frame))
            onset = duration = np.zeros(0)
        scores = {name: frame[name].to_numpy(np.float64) for name in names}
        # an error of exactly 0 is that of an answer that was not given
        given = pd.DataFrame(by_entry).replace(0, np.nan)
        return cls(
            scores,
            np.asarray(recording, np.int64),
            onset.astype(float),
            duration.astype(float),
            given.median().fillna(0).to_numpy(np.float32),
        )

    @property
    def usual_error(self) -> NDArray[np.float32]:
        """:attr:`entry_median`, kept from (almost) 0: what is never wrong is no unit of error."""
        known = self.entry_median[self.entry_median > 0]
        floor = np.float32(1e-3) * np.median(known) if len(known) else np.float32(1)
        return np.maximum(self.entry_median, floor).astype(np.float32)

    @property
    def n_recordings(self) -> int:
        """Exchangeable units the statements rest on."""
        return len(np.unique(self.recording))

    @property
    def hours(self) -> float:
        """Hours of calibration signal (EEG)."""
        return float(self._seconds.sum()) / 3600

    @cached_property
    def _seconds(self) -> Float:
        """Signal that each window adds: up to the next of its recording where they overlap."""
        if not len(self.onset_s):
            return np.zeros(0)
        step = np.append(np.diff(self.onset_s), np.inf)
        step[np.append(np.diff(self.recording) != 0, True)] = np.inf
        return np.asarray(np.minimum(self.duration_s, step))

    @property
    def smallest_p(self) -> float:
        """The smallest p-value a row or recording can get."""
        return 1 / (self.n_recordings + 1)

    def _by_recording(self) -> list[NDArray[np.int64]]:
        order = np.argsort(self.recording, kind="stable")
        changes = np.flatnonzero(np.diff(self.recording[order])) + 1
        return np.split(order, changes) if len(order) else []

    def recording_scores(self) -> Float:
        """One score for each calibration recording, by the default detector."""
        return np.array([recording_score(self.scores["score"][r]) for r in self._by_recording()])

    @cached_property
    def _descending(self) -> NDArray[np.int64]:
        """Windows from the largest score to the smallest."""
        return np.argsort(-self.scores["score"], kind="stable")

    @cached_property
    def _more_events(self) -> NDArray[np.int64]:
        """How many events more there are once a window is flagged beside all before it.

        In the order of :attr:`_descending`. A window that touches none of the flagged ones of its
        recording is a new event, one that joins two of them makes one event of two.
        """
        rank = np.empty(len(self._descending), np.int64)
        rank[self._descending] = np.arange(len(rank))
        start, end = self.onset_s, self.onset_s + self.duration_s + TOUCH_S
        nearest_before = np.full(len(rank), -np.inf)  # end of the flagged window that it touches
        nearest_after = np.full(len(rank), np.inf)  # start of the same on the other side
        for shift in range(1, len(rank)):
            here, there = slice(shift, None), slice(None, -shift)  # there: the earlier window
            touch = (self.recording[here] == self.recording[there]) & (start[here] <= end[there])
            if not touch.any():
                break
            joins = touch & (rank[there] < rank[here]) & (nearest_before[here] == -np.inf)
            nearest_before[here][joins] = end[there][joins]
            joins = touch & (rank[here] < rank[there]) & (nearest_after[there] == np.inf)
            nearest_after[there][joins] = start[here][joins]
        joined = (nearest_before > -np.inf).astype(np.int64) + (nearest_after < np.inf)
        more = 1 - joined + (nearest_after <= nearest_before)  # its neighbours touch anyway
        return np.asarray(more[self._descending], np.int64)

    @cached_property
    def _n_events(self) -> NDArray[np.int64]:
        """Events where a window and all before it in :attr:`_descending` are flagged."""
        return np.cumsum(self._more_events)

    def false_alarms_per_hour(self, threshold: float) -> float:
        """Events an hour that the calibration recordings raise at a threshold."""
        flagged = int((self.scores["score"] > threshold).sum())
        return float(self._n_events[flagged - 1]) / self.hours if flagged else 0.0

    def false_alarm_interval(self, threshold: float) -> tuple[float, float]:
        """95% interval of the alarm rate (1/h), over calibration recordings.

        Recordings are resampled, not events: a few restless people raise most of the alarms.
        With fewer than three recordings the exact Poisson interval of the count (Garwood, 1936)
        is given, which is too narrow where people differ.
        """
        from scipy.stats import chi2

        hours = self.hours
        scores = self.scores["score"]
        groups = self._by_recording()
        counts = [
            len(find_events(self.onset_s[g], self.duration_s[g], scores[g], threshold))
            for g in groups
        ]
        seconds = [float(self._seconds[g].sum()) for g in groups]
        n = int(np.sum(counts))
        exact = (
            float(chi2.ppf(0.025, 2 * n) / 2 / hours) if n else 0.0,
            float(chi2.ppf(0.975, 2 * n + 2) / 2 / hours),
        )
        if len(counts) < 3:
            return exact
        drawn = np.random.default_rng(0).integers(len(counts), size=(2000, len(counts)))
        rates = np.array(counts)[drawn].sum(1) / (np.array(seconds)[drawn].sum(1) / 3600)
        low, high = np.quantile(rates, [0.025, 0.975])
        # resampling cannot see alarms that happened not to occur: never narrower than exact
        return min(float(low), exact[0]), max(float(high), exact[1])

    def event_threshold(self, false_alarms_per_hour: float, without: int | None = None) -> float:
        """Lowest threshold down to which calibration recordings raise no more events than allowed.

        Parameters
        ----------
        false_alarms_per_hour : float
        without : int, optional
            A calibration recording left out (to judge that recording itself).

        Returns
        -------
        float
            One of the scores; windows above it are flagged. Infinity where nothing is left.
            At most half of the calibration windows are: more than that cannot be abnormal,
            however few events they merge into.

        Notes
        -----
        The number of events is not monotone in the threshold (low thresholds merge everything),
        so it is followed down from the largest score to the first threshold that raises too many.
        """
        kept = np.ones(len(self.recording), bool) if without is None else self.recording != without
        if not kept.any():
            return float("inf")
        half = int(kept.sum()) // 2
        allowed = int(false_alarms_per_hour * self._seconds[kept].sum() / 3600 + 1e-9)
        stop = 2 * allowed + 64  # too many events are met long before the smallest score
        while True:
            rows = self._descending[:stop]
            mine = kept[rows]
            scores = self.scores["score"][rows[mine]]
            n_events = np.cumsum(self._more_events[:stop][mine])
            # of equal scores all are flagged or none: what counts is the last of them
            last = scores[:-1] > scores[1:]
            too_many = np.flatnonzero(last & (n_events[:-1] > allowed))
            if len(too_many):
                return float(scores[min(too_many[0], half)])
            if len(scores) > half:
                return float(scores[half])
            stop *= 4

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
