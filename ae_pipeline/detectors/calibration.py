"""From scores to statements: p-values, q-values, thresholds, events.

The exchangeable unit is respected. Rows (respondents, images) and subjects are exchangeable with
their like, and get split-conformal p-values (Vovk, Gammerman and Shafer, 2005); several recordings
of one subject are one voice (Lee, Barber and Willett, 2023, on hierarchical data). Windows of one
recording depend on each other: their p-values are descriptive, and what is promised for them is a
rate, false alarms per hour expected of a new subject (conformal risk control: Angelopoulos, Bates,
Fisch, Lei and Schuster, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ae_pipeline.config import Config
from ae_pipeline.data import Finding, InputError
from ae_pipeline.detectors.events import BEYOND, TOUCH_S, find_events
from ae_pipeline.stats import percentile_interval, poisson_interval, resampled_weights

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.detectors.events import Float

__all__ = [
    "Calibration",
    "Detection",
    "recording_score",
]


class Detection(Config):
    """What a flag means."""

    error_rate: float = Field(0.05, gt=0, lt=1)
    """Share of false discoveries allowed among flagged rows or recordings."""
    false_alarms_per_hour: float = Field(6.0, gt=0)
    """EEG: events an hour that clean calibration recordings may raise."""
    dependence: Literal["positive", "any"] = "positive"
    """How rows or recordings may depend on each other: positive (Benjamini-Hochberg) is right for
    separate people; any (Benjamini-Yekutieli) holds always and flags less."""
    trim: float = Field(0.0, ge=0, lt=0.5)
    """Share of the calibration subjects (rows) to leave out for being the most abnormal, where
    some of them are surely not normal; more gets flagged, and no p-value holds any more."""


def recording_score(scores: Float, n_windows: int) -> float:
    """One score for a recording: the mean of the most abnormal twentieth of its windows.

    Parameters
    ----------
    scores : array of shape (n,)
        Of its windows, in order of time.
    n_windows : int
        How many a calibration recording usually has. The most abnormal twentieth of a longer
        recording is more abnormal for its length alone; so a longer one is cut into equal
        stretches of about that many windows, and its score is the mean of theirs.
    """
    stretches = np.array_split(scores, max(1, round(len(scores) / n_windows)))
    return float(np.mean([_worst_twentieth(stretch) for stretch in stretches]))


def _worst_twentieth(scores: Float) -> float:
    n = max(1, round(len(scores) / 20))
    return float(np.sort(scores)[-n:].mean())


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
    unit : array of int of shape (n,)
        Which exchangeable unit it belongs to: the subject, or what stands in for subjects.
    onset_s, duration_s : array of shape (n,)
        EEG only (empty otherwise).
    entry_median : array of shape (k,)
        The default detector's usual error of each channel or item (empty where it has none).
    """

    scores: dict[str, Float]
    recording: NDArray[np.int64]
    unit: NDArray[np.int64]
    onset_s: Float
    duration_s: Float
    entry_median: NDArray[np.float32]

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, by_entry: NDArray[np.float32], *, unit: str
    ) -> Calibration:
        """From a table of scores.

        Parameters
        ----------
        frame : DataFrame
            ``recording``, ``score``, ``score_NAME``; ``subject``, ``onset_s`` and ``duration_s``
            of windows.
        by_entry : array of shape (n, k)
            The default detector's error of each channel or item.
        unit : {'subject', 'recording', 'block', 'row'}
            What is exchangeable with its like; ``block`` where stretches of time of one subject
            stand in for subjects.

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
            recording, voice = (
                frame[name].astype("category").cat.codes.to_numpy(np.int64)
                for name in ("recording", "subject" if unit == "subject" else "recording")
            )
            if unit == "block":
                step = np.diff(frame["onset_s"], prepend=-np.inf)
                # windows may stand apart by plan; a stretch ends where they stand further apart
                usual = max(frame["duration_s"].max(), np.median(step[1:])) if len(step) > 1 else 0
                recording = np.cumsum((step > usual + 1e-6) | (np.diff(recording, prepend=-1) != 0))
                voice = recording
            onset, duration = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
        else:
            recording = voice = np.arange(len(frame))
            onset = duration = np.zeros(0)
        scores = {name: frame[name].to_numpy(np.float64) for name in names}
        # an error of exactly 0 is that of an answer that was not given
        given = pd.DataFrame(by_entry).replace(0, np.nan)
        return cls(
            scores,
            np.asarray(recording, np.int64),
            np.asarray(voice, np.int64),
            onset.astype(float),
            duration.astype(float),
            given.median().fillna(0).to_numpy(np.float32),
        )

    @property
    def median_loss(self) -> float:
        """Reconstruction error that a calibration sample usually has."""
        return float(np.median(self.scores["score_autoencoder"]))

    @property
    def usual_error(self) -> NDArray[np.float32]:
        """:attr:`entry_median`, kept from (almost) 0: what is never wrong is no unit of error."""
        known = self.entry_median[self.entry_median > 0]
        floor = np.float32(1e-3) * np.median(known) if len(known) else np.float32(1)
        return np.maximum(self.entry_median, floor).astype(np.float32)

    @cached_property
    def n_units(self) -> int:
        """Exchangeable units the statements rest on."""
        return len(np.unique(self.unit))

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
        return 1 / (self.n_units + 1)

    def too_few(self, error_rate: float) -> Finding | None:
        """Why nothing flagged does not mean clean; None where the error rate can be reached."""
        if self.smallest_p <= error_rate:
            return None
        return Finding("too_few", {"n_units": self.n_units, "smallest_p": self.smallest_p})

    @cached_property
    def _by_recording(self) -> list[NDArray[np.int64]]:
        """Rows of each recording."""
        order = np.argsort(self.recording, kind="stable")
        changes = np.flatnonzero(np.diff(self.recording[order])) + 1
        return np.split(order, changes) if len(order) else []

    @cached_property
    def _hours_each(self) -> Float:
        """Of each recording."""
        return np.array([self._seconds[rows].sum() for rows in self._by_recording]) / 3600

    @cached_property
    def usual_length(self) -> int:
        """Windows that a calibration recording usually has."""
        return max(1, round(float(np.median([len(rows) for rows in self._by_recording]))))

    def recording_score(self, scores: Float) -> float:
        """:func:`recording_score` on the scale of the calibration recordings, from (n,) windows."""
        return recording_score(scores, self.usual_length)

    @cached_property
    def recording_scores(self) -> Float:
        """One score for each calibration recording, by the default detector."""
        scores = self.scores["score"]
        return np.array([self.recording_score(scores[rows]) for rows in self._by_recording])

    @cached_property
    def _unit_of_recording(self) -> NDArray[np.int64]:
        """Number of each recording's unit: 0, 1, ..."""
        units = np.array([self.unit[rows[0]] for rows in self._by_recording])
        return np.asarray(np.unique(units, return_inverse=True)[1], np.int64)

    def recording_p(self, score: float) -> float:
        """P-value of a recording of a new subject.

        Parameters
        ----------
        score : float
            Its :meth:`recording_score`.

        Returns
        -------
        float
            ``(1 + sum over units of the share of theirs at least as large) / (units + 1)``: a
            subject with many recordings has no more say than one with a single recording.
        """
        return self._unit_p(self.recording_scores, score)

    def _unit_p(self, of_recordings: Float, value: float) -> float:
        """How usual a value is among those of the recordings, each unit one voice."""
        codes = self._unit_of_recording
        at_least = (of_recordings >= value) / np.bincount(codes)[codes]
        return float((1 + at_least.sum()) / (self.n_units + 1))

    def not_trimmed(self, share: float) -> NDArray[np.bool_]:
        """Rows that stay when the most abnormal share of units is left out, (n,).

        Who is left out for a high score makes the others look more abnormal than they are: no
        p-value against what is left is valid (see :meth:`withdrawn`).
        """
        codes = self._unit_of_recording
        level = np.bincount(codes, self.recording_scores) / np.bincount(codes)
        n = int(share * len(level))
        dropped = np.unique(self.unit)[np.argsort(-level, kind="stable")[:n]]
        return np.asarray(~np.isin(self.unit, dropped))

    def withdrawn(self, detection: Detection) -> tuple[Finding, ...]:
        """Return what keeps this calibration data from supporting a claim."""
        found = []
        if detection.trim:
            found.append(Finding("trimmed", {"share": detection.trim}))
        if len(self.onset_s):
            wanted = detection.false_alarms_per_hour
            rate, low, high = self.alarm_rate(wanted)
            if rate > wanted:
                numbers = {"wanted": wanted, "n_units": self.n_units, "hours": self.hours}
                measured = {"rate": rate, "low": low, "high": high}
                found.append(Finding("rate_not_reached", numbers | measured))
        return tuple(found)

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

    def alarms(self, threshold: float) -> NDArray[np.int64]:
        """Events that each calibration recording raises at a threshold."""
        return np.array([self._count(rows, threshold) for rows in self._by_recording], np.int64)

    def _count(self, rows: NDArray[np.int64], threshold: float) -> int:
        onset_s, duration_s = self.onset_s[rows], self.duration_s[rows]
        return len(
            find_events(onset_s, duration_s, scores=self.scores["score"][rows], threshold=threshold)
        )

    def left_out_alarms(self, false_alarms_per_hour: float) -> NDArray[np.int64]:
        """Events of each calibration recording at the threshold that the other units set.

        What a threshold raises on the data that set it flatters it. With a single unit there
        are no others, and its own threshold is taken.
        """
        rate = false_alarms_per_hour
        if self.n_units == 1:
            return self.alarms(self.event_threshold(rate))
        if rate not in self._left_out:  # asked for again with every recording that is judged
            units = np.unique(self.unit).tolist()
            limits = {unit: self.event_threshold(rate, without=unit) for unit in units}
            counts = [self._count(r, limits[int(self.unit[r[0]])]) for r in self._by_recording]
            self._left_out[rate] = np.array(counts, np.int64)
        return self._left_out[rate]

    @cached_property
    def _left_out(self) -> dict[float, NDArray[np.int64]]:
        return {}

    def alarm_rate(self, false_alarms_per_hour: float) -> tuple[float, float, float]:
        """Alarms an hour to expect of new recordings at :meth:`event_threshold`.

        Parameters
        ----------
        false_alarms_per_hour : float
            What was asked for.

        Returns
        -------
        rate, low, high : float
            Rate on calibration recordings, each by the threshold of the others
            (:meth:`left_out_alarms`), and its 95% interval: units are resampled, not events,
            because a few restless people raise most of the alarms; never narrower than the exact
            Poisson interval of the count (Garwood, 1936), which alone is given for fewer than
            three units and is too narrow where people differ.
        """
        codes = self._unit_of_recording
        counts = np.bincount(codes, self.left_out_alarms(false_alarms_per_hour))
        hours = (
            np.bincount(codes, [self._seconds[rows].sum() for rows in self._by_recording]) / 3600
        )
        total = float(hours.sum())
        low, high = (expected / total for expected in poisson_interval(int(counts.sum())))
        weights = np.concatenate(list(resampled_weights(len(counts))))
        rates = (weights @ counts) / (weights @ hours)
        # resampling cannot see alarms that happened not to occur
        drawn = percentile_interval(rates[1:]) or [low, high]
        return float(rates[0]), min(low, drawn[0]), max(high, drawn[1])

    def compare_events(
        self, n_events: int, hours: float, *, top: float, detection: Detection
    ) -> Finding:
        """Compare the events of a new recording with those that clean recordings raise.

        Parameters
        ----------
        n_events : int
        hours : float
            Of signal under windows.
        top : float
            Its largest score.
        detection : Detection

        Returns
        -------
        Finding
            ``many_events``: more events an hour than clean recordings raise (at ``error_rate``, or
            than any of them where they are too few for that) and more than chance makes of the
            wanted rate. ``far_event``: one of them is beyond all of theirs by half their range.
            Else ``usual_events``.
        """
        from scipy.stats import poisson

        wanted = detection.false_alarms_per_hour
        rates = self.left_out_alarms(wanted) / self._hours_each
        p = self._unit_p(rates, n_events / hours)
        rare = p <= max(detection.error_rate, self.smallest_p) + 1e-12
        if n_events and rare and poisson.sf(n_events - 1, wanted * hours) < detection.error_rate:
            many = {"n_events": n_events, "per_hour": n_events / hours, "p": p}
            return Finding("many_events", {**many, "most_per_hour": float(rates.max())})
        known = self.scores["score"]
        usual, most = float(np.median(known)), float(known.max())
        if n_events and top - usual > BEYOND * (most - usual):
            times = (top - usual) / max(most - usual, 1e-12)
            far = {"n_events": n_events, "times": times, "hours": self.hours}
            return Finding("far_event", far)
        return Finding("usual_events", {"n_events": n_events})

    def event_threshold(self, false_alarms_per_hour: float, without: int | None = None) -> float:
        """Lowest threshold at which a new subject is expected to raise no more events than allowed.

        Parameters
        ----------
        false_alarms_per_hour : float
        without : int, optional
            A calibration unit left out (to judge its own recordings).

        Returns
        -------
        float
            One of the scores; windows above it are flagged. Infinity where nothing is left.
            At most half of the calibration windows are: more than that cannot be abnormal,
            however few events they merge into.

        Notes
        -----
        A threshold at which the calibration data themselves raise just as many events as allowed
        is too low for new ones, the more so the fewer subjects set it. So the new subject is
        counted as well, as raising as many as any one of the others: ``events + most of one unit
        <= rate x mean hours of a unit x (units + 1)``. This is conformal risk control, whose bound
        on the loss, which nobody knows here, is replaced by the worst seen; it holds on average
        over calibration sets and new subjects exchangeable with theirs.
        The number of events is not monotone in the threshold (low thresholds merge everything),
        so it is followed down from the largest score to the first threshold that raises too many.
        """
        kept = np.ones(len(self.unit), bool) if without is None else self.unit != without
        if not kept.any():
            return float("inf")
        half = int(kept.sum()) // 2
        n_units = self.n_units - (without is not None)
        hours = self._seconds[kept].sum() / 3600
        allowed = false_alarms_per_hour * hours * (n_units + 1) / n_units + 1e-9
        stop = 2 * int(allowed) + 64  # too many events are met long before the smallest score
        while True:
            mine = kept[self._descending[:stop]]
            rows, more = self._descending[:stop][mine], self._more_events[:stop][mine]
            scores = self.scores["score"][rows]
            n_events = np.cumsum(more) + self._most_of_one(rows, more, scores=scores)
            # of equal scores all are flagged or none: what counts is the last of them
            last = scores[:-1] > scores[1:]
            too_many = np.flatnonzero(last & (n_events[:-1] > allowed))
            if len(too_many):
                return float(scores[min(too_many[0], half)])
            if len(scores) > half:
                return float(scores[half])
            stop *= 4

    def _most_of_one(
        self, rows: NDArray[np.int64], more: NDArray[np.int64], *, scores: Float
    ) -> NDArray[np.int64]:
        """Most events of any one unit so far, as rows are flagged one after the other.

        Parameters
        ----------
        rows : array of shape (n,)
        more : array of shape (n,)
            How many events more there are with each.
        scores : array of shape (n,)
            Of equal ones all are flagged or none.
        """
        if not len(rows):
            return more
        order = np.argsort(self.unit[rows], kind="stable")
        total, unit, level = np.cumsum(more[order]), self.unit[rows][order], scores[order]
        first = np.flatnonzero(np.diff(unit, prepend=unit[0] - 1))
        before = np.repeat(total[first] - more[order][first], np.diff(first, append=len(unit)))
        whole = np.append((np.diff(unit) != 0) | (np.diff(level) != 0), True)
        own = np.empty_like(more)
        own[order] = np.where(whole, total - before, 0)
        return np.maximum.accumulate(own)

    def state(self) -> dict[str, NDArray[Any]]:
        """As named arrays (what a bundle stores)."""
        named: dict[str, NDArray[Any]] = {f"scores/{k}": v for k, v in self.scores.items()}
        named |= {
            "recording": self.recording,
            "unit": self.unit,
            "onset_s": self.onset_s,
            "duration_s": self.duration_s,
            "entry_median": self.entry_median,
        }
        return named

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Calibration:
        """Back from named arrays.

        Raises
        ------
        ValueError
            Where they are not of one length.
        """
        scores = {k.partition("/")[2]: v for k, v in state.items() if k.startswith("scores/")}
        alike = {name: state[name] for name in ("recording", "unit")} | scores
        alike |= {n: state[n] for n in ("onset_s", "duration_s") if state[n].size}
        if "score" not in scores or {a.shape for a in alike.values()} != {
            scores["score"].shape[:1]
        }:
            raise ValueError("calibration scores, units and times are not of one length")
        if any(state[name].dtype.kind not in "iu" for name in ("recording", "unit")):
            raise ValueError("calibration units are not whole numbers")
        return cls(
            scores,
            state["recording"],
            state["unit"],
            state["onset_s"],
            state["duration_s"],
            state["entry_median"],
        )
