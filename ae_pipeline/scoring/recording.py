"""From data to judged windows, rows and recordings, with one model.

Recordings are streamed: whatever their length, memory holds a block of signal, and one row of
numbers a window.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Finding, Recording, RobustStats, Samples
from ae_pipeline.detectors.ensemble import ViewInputs
from ae_pipeline.detectors.events import Span
from ae_pipeline.eeg.features import feature_names, state_of
from ae_pipeline.eeg.preprocess import Plan
from ae_pipeline.eeg.survey import survey_with_stats
from ae_pipeline.eeg.tags import CATEGORY, Tag, tag
from ae_pipeline.eeg.windows import cut, cut_again
from ae_pipeline.runtime.threads import ahead, one_thread
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.examples import N_BEST, N_WORST, _apart, _keepers, _Rows
from ae_pipeline.scoring.judge import Judge, RecordingJudgement
from ae_pipeline.scoring.mismatch import fitted_channels, mismatches, wrong_gain, wrong_gains
from ae_pipeline.scoring.tables import contract_frame, events_frame

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.scoring.examples import Example, _Shown

    _Again = Callable[..., Samples]

__all__ = [
    "RecordingResult",
    "score_recording",
    "verdict_of",
]


HELD_NUMBERS = 2**23
"""Samples (over all channels) of a recording that is read once and held: 32 MB."""

N_NEAR = 16
"""Codes whose distance is computed exactly, to find the nearest."""

HALF_WAY = 0.5
"""From the median score to the threshold; what comes less far is not shown as near to it."""


@dataclass(frozen=True)
class RecordingResult:
    """What is found in one recording, as facts; :mod:`ae_pipeline.report.findings` words them.

    ``frame`` has one row a window (:func:`contract_frame`), ``events`` one an event
    (:func:`events_frame`); ``latents`` is (n, latent_dim), ``by_channel`` (n, channels);
    ``tags`` say what some windows look like, by their number; ``summary`` is the recording's row
    without words and without q, which needs the whole batch; ``findings`` are what the verdict
    rests on, ``gains`` channels whose gain is off, ``mismatches`` how it differs from training.
    """

    recording: Recording
    plan: Plan
    frame: pd.DataFrame
    latents: NDArray[np.float32]
    by_channel: NDArray[np.float32]
    events: pd.DataFrame
    tags: Mapping[int, Tag]
    gains: tuple[Finding, ...]
    worst: Example
    best: Example
    summary: dict[str, Any]
    findings: tuple[Finding, ...]
    mismatches: tuple[Finding, ...]
    near: pd.DataFrame
    """Where few windows reached the threshold: the highest below it, see :func:`_near`."""

    @property
    def bad_channels(self) -> tuple[str, ...]:
        """Names of channels that are not as they should be."""
        names = [name for gain in self.gains for name in gain.where]
        return tuple(dict.fromkeys([*names, *self.plan.bad_names]))


@one_thread()
def score_recording(
    bundle: Bundle,
    recording: Recording,
    *,
    judge: Judge,
    advance: Callable[[float], None] = lambda seconds: None,
) -> RecordingResult:
    """Survey, clean, cut and judge one recording.

    Parameters
    ----------
    bundle : Bundle
    recording : Recording
        With at least the model's channels.
    judge : Judge
        The bundle's, with the error rate wanted.
    advance : callable
        Told the seconds of recording done so far.

    Raises
    ------
    InputError
        Where the recording does not fit the model or holds no usable window.
    """
    info = bundle.info
    assert info.preprocess is not None
    assert info.windows is not None
    assert info.sfreq_hz is not None
    recording = _held(fitted_channels(recording, info))
    plan, own_stats = survey_with_stats(
        recording,
        info.preprocess,
        line_freq_hz=info.line_freq_hz,
        sfreq_hz=info.sfreq_hz,
        windowing=info.windows,
    )
    _give_back_memory()
    windows = _streamed(
        bundle, recording, plan=plan, robust_stats=own_stats, judge=judge, advance=advance
    )
    stats = own_stats or bundle.ensemble.population
    _give_back_memory()
    frame, codes = windows.rows.read()
    total = frame["score"].to_numpy()
    frame["flagged"] = judge.flags(total)
    frame["q_value"] = np.nan
    spans = judge.events(frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy(), score=total)
    again = partial(cut_again, recording, plan, windowing=info.windows)
    events, normal = _events(
        bundle, judge, spans=spans, windows=windows, frame=frame, codes=codes, again=again
    )
    near, near_tags = _near(
        frame, spans, judge=judge, recording=recording, stats=stats, again=again
    )
    hours = _covered_s(frame) / 3600
    judgement = judge.recording(total, n_events=len(spans), hours=hours)
    summary = _summary(recording, judgement, spans=spans, frame=frame)
    state = windows.state
    found = _findings(bundle, judge, plan=plan, state=state, events=events, judged=judgement)
    return RecordingResult(
        recording,
        plan,
        contract_frame(frame, "series"),
        codes,
        windows.rows.channels(),
        events,
        {s.peak: windows.tags[s.peak] for s in spans if s.peak in windows.tags} | near_tags,
        wrong_gains(info.training, plan),
        replace(windows.worst.example(frame), **normal),
        windows.best.example(frame),
        summary | {"verdict": verdict_of(found, events)},
        found,
        mismatches(info.training, recording, plan=plan),
        near,
    )


def _findings(
    bundle: Bundle,
    judge: Judge,
    *,
    plan: Plan,
    state: Finding | None,
    events: pd.DataFrame,
    judged: RecordingJudgement,
) -> tuple[Finding, ...]:
    """What the verdict rests on, the strongest first."""
    training = bundle.info.training
    findings = [
        wrong_gain(training, plan),
        _bad_channels(wrong_gains(training, plan), plan),
        state,
        None if judged.events.kind == "usual_events" else _kinds(events),
        judged.events,
        judge.calibration.too_few(judge.detection.error_rate),
    ]
    return tuple(finding for finding in findings if finding is not None)


def _summary(
    recording: Recording,
    judgement: RecordingJudgement,
    *,
    spans: Sequence[Span],
    frame: pd.DataFrame,
) -> dict[str, Any]:
    """The recording's row, without its verdict."""
    covered_s = _covered_s(frame)
    flagged_s = float(sum(span.end_s - span.onset_s for span in spans))
    return {
        "recording": recording.name,
        "subject": recording.subject,
        "session": recording.session,
        "duration_s": recording.duration_s,
        "usable_share": max(0.0, covered_s - flagged_s) / _recorded_s(recording),
        "n_windows": len(frame),
        "n_events": len(spans),
        "events_per_hour": len(spans) / (covered_s / 3600),
        "score": judgement.score,
        "p_value": judgement.p_value,
    }


def _events(
    bundle: Bundle,
    judge: Judge,
    *,
    spans: list[Span],
    windows: _Windows,
    frame: pd.DataFrame,
    codes: NDArray[np.float32],
    again: _Again,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Events with what they are nearest to, and normal windows to show beside the worst."""
    peaks = [span.peak for span in spans]
    at_peaks = {peak: windows.rows.channels_of(peak) for peak in peaks}
    worst = windows.worst
    nearest = _nearest_normal([*peaks, *worst.rows.tolist()], spans, codes=codes, frame=frame)
    normal = _beside_normal(worst, nearest, frame=frame, again=again)
    onset_s = frame["onset_s"].to_numpy()
    _give_back_memory()
    events = events_frame(
        spans,
        frame["p_value"].to_numpy(),
        by_entry=at_peaks,
        entries=bundle.info.entries,
        calibration=judge.calibration,
        model_id=bundle.model_id,
        tags=windows.tags,
        nearest_s={peak: float(onset_s[row]) for peak, row in nearest.items()},
    )
    return events, normal


@dataclass(frozen=True)
class _Windows:
    """All windows judged; tags of the worst, the recording's state, and examples."""

    rows: _Rows
    tags: dict[int, Tag]
    state: Finding | None
    worst: _Shown
    best: _Shown


def _streamed(
    bundle: Bundle,
    recording: Recording,
    *,
    plan: Plan,
    robust_stats: RobustStats | None,
    judge: Judge,
    advance: Callable[[float], None],
) -> _Windows:
    """Judge all windows, block after block."""
    rows = _Rows(recording)
    tags: dict[int, Tag] = {}
    state = None
    worst, best = _keepers()

    windowing = bundle.info.windows
    assert windowing is not None

    def begun() -> Iterator[tuple[Samples, ViewInputs]]:
        for samples in cut(recording, plan, windowing=windowing, robust_stats=robust_stats):
            yield samples, bundle.view_inputs(samples)

    for samples, inputs in ahead(begun()):
        judged = bundle.judge(samples, inputs)
        total = judged.columns["score"]
        tags |= _tags(bundle, samples, score=total, judge=judge, recording=recording)
        state = state or _state(bundle, samples, recording=recording)
        rows.add(judged)
        for keeper in (worst, best):
            keeper.offer(samples, total)
        advance(float(samples.meta["onset_s"].iloc[-1]))
    return _Windows(rows, tags, state, worst.shown(bundle, N_WORST), best.shown(bundle, N_BEST))


def _tags(
    bundle: Bundle,
    samples: Samples,
    *,
    score: NDArray[np.float64],
    judge: Judge,
    recording: Recording,
) -> dict[int, Tag]:
    """What the worst window of each event of a block looks like, by the window's number.

    An event over two blocks has one in each; the worse of them is the event's.
    """
    stats = samples.robust_stats.get(recording.name, bundle.ensemble.population)
    if stats is None or samples.sfreq_hz is None:
        return {}
    found = {}
    onset_s, duration_s = (samples.meta[name].to_numpy() for name in ("onset_s", "duration_s"))
    for span in judge.events(onset_s, duration_s, score=score):
        number = int(samples.meta["window"].iloc[span.peak])
        found[number] = _tag(samples, span.peak, stats=stats, recording=recording)
    return found


def _tag(samples: Samples, row: int, *, stats: RobustStats, recording: Recording) -> Tag:
    assert samples.sfreq_hz is not None
    rows = np.array([row])
    return tag(
        samples.unreferenced(rows)[0],
        None if samples.raw is None else np.asarray(samples.raw[rows])[0],
        stats=stats,
        sfreq_hz=samples.sfreq_hz,
        ch_names=samples.entries,
        positions_m=recording.positions_m,
    )


def _near(
    frame: pd.DataFrame,
    spans: list[Span],
    *,
    judge: Judge,
    recording: Recording,
    stats: RobustStats | None,
    again: _Again,
) -> tuple[pd.DataFrame, dict[int, Tag]]:
    """The highest windows below the threshold, so many that with the events there are a few.

    Where calibration data is short the threshold lies above much that a reader would want to see.

    Returns
    -------
    near : DataFrame
        ``window``, ``onset_s``, ``duration_s``, ``looks_like``, ``channel``, ``band``, ``score``,
        ``reached`` (0 the recording's median score, 1 the threshold).
    tags : mapping of window to Tag
    """
    import pandas as pd

    assert judge.threshold is not None
    score, threshold = frame["score"].to_numpy(), judge.threshold
    middle = float(np.median(score))
    way = (score - middle) / max(threshold - middle, 1e-12)
    chosen: list[int] = []
    if stats is not None and len(spans) < N_WORST:
        clear = np.flatnonzero(_clear(frame, spans) & (way > HALF_WAY))
        order = clear[np.argsort(-score[clear], kind="stable")]
        times = frame[["recording", "onset_s", "duration_s"]].iloc[order]
        chosen = [int(order[i]) for i in _apart(times, N_WORST - len(spans))]
    samples = again(numbers=chosen)
    rows, tags = [], {}
    for i, row in enumerate(chosen):
        assert stats is not None
        found = tags[row] = _tag(samples, i, stats=stats, recording=recording)
        rows.append(
            {
                "window": row,
                "onset_s": frame["onset_s"].iloc[row],
                "duration_s": frame["duration_s"].iloc[row],
                "looks_like": found.kind,
                "channel": ",".join(samples.entries[c] for c in found.channels),
                "band": found.band,
                "score": score[row],
                "reached": way[row],
            }
        )
    columns = ["window", "onset_s", "duration_s", "looks_like", "channel", "band", "score"]
    return pd.DataFrame(rows, columns=[*columns, "reached"]), tags


def _clear(frame: pd.DataFrame, spans: list[Span]) -> NDArray[np.bool_]:
    """Windows that are not flagged and touch no event."""
    onset_s, duration_s = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
    clear: NDArray[np.bool_] = ~frame["flagged"].to_numpy()
    for span in spans:
        clear &= (onset_s >= span.end_s) | (onset_s + duration_s <= span.onset_s)
    return clear


def _state(bundle: Bundle, samples: Samples, *, recording: Recording) -> Finding | None:
    """Band, region and factor by which the whole recording differs from the training data."""
    stats, population = samples.robust_stats.get(recording.name), bundle.ensemble.population
    if stats is None or population is None or samples.sfreq_hz is None:
        return None
    names = feature_names(samples.sfreq_hz, samples.shape[1])
    found = state_of(stats, population, ch_names=samples.entries, names=names)
    if found is None:
        return None
    band, region, times = found
    return Finding("other_state", {"times": times}, (band, region))


def _nearest_normal(
    rows: Sequence[int], spans: list[Span], *, codes: NDArray[np.float32], frame: pd.DataFrame
) -> dict[int, int]:
    """For each row the one, clear of all events, whose code is nearest; empty where none is."""
    onset_s, duration_s = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
    sizes = np.square(codes).sum(1)
    sizes[~_clear(frame, spans)] = np.inf
    found = {}
    for row in rows:
        # without what all distances from a code have in common, and then exactly
        away = sizes - 2 * (codes @ codes[row])
        away[np.abs(onset_s - onset_s[row]) < duration_s[row]] = np.inf
        few = np.sort(np.argpartition(away, min(N_NEAR, len(away)) - 1)[:N_NEAR])
        few = few[np.isfinite(away[few])]
        if len(few):
            exact = np.square(codes[few] - codes[row]).sum(1)
            found[row] = int(few[int(exact.argmin())])
    return found


def _beside_normal(
    worst: _Shown,
    nearest: Mapping[int, int],
    *,
    frame: pd.DataFrame,
    again: _Again,
) -> dict[str, Any]:
    """The nearest normal window of each, where all have one; read again, they were not kept."""
    rows = worst.rows.tolist()
    if any(row not in nearest for row in rows):
        return {}
    chosen = [nearest[row] for row in rows]
    normal = again(numbers=frame["window"].to_numpy()[chosen].tolist())
    values = np.asarray(normal.values)
    return {"normal": values, "normal_s": frame["onset_s"].to_numpy()[chosen]}


def _bad_channels(gains: tuple[Finding, ...], plan: Plan) -> Finding | None:
    names = dict.fromkeys([*(name for gain in gains for name in gain.where), *plan.bad_names])
    return Finding("bad_channels", {"n": len(names)}, tuple(names)) if names else None


def _kinds(events: pd.DataFrame) -> Finding:
    """How many events there are of each kind."""
    kinds = events["trial_type"].str.removeprefix("anomaly/")
    counts = kinds.value_counts(sort=False)
    return Finding("event_kinds", {str(kind): int(n) for kind, n in counts.items()})


def verdict_of(findings: tuple[Finding, ...], events: pd.DataFrame) -> str:
    """What the strongest fact or alarm says: a wrong gain, an event, then bad channels.

    Events count where they are more, or one of them further off, than clean recordings show.
    Where the whole recording is in another state, what only shows this state does not count.
    """
    known = {finding.kind: finding for finding in findings}
    if "gain_off" in known:
        return "technical"
    if "usual_events" not in known:
        kinds = events["trial_type"].str.removeprefix("anomaly/")
        state = known.get("other_state")
        if state is not None and state.where[0] == "alpha":
            kinds = kinds[kinds != "alpha"]
        if not kinds.empty:
            return CATEGORY[kinds.loc[events.loc[kinds.index, "score"].idxmax()]]
    if "bad_channels" in known:
        return "technical"
    return "nothing flagged" if "too_few" in known else "clean"


def _held(recording: Recording) -> Recording:
    """A short recording read at once: its few seconds of context are a good part of it."""
    if len(recording.ch_names) * recording.n_times > HELD_NUMBERS:
        return recording
    signal = recording.read(0, recording.n_times)
    return replace(recording, reader=lambda start, stop: signal[:, start:stop])


def _recorded_s(recording: Recording) -> float:
    """Length without the padding at either end."""
    return recording.duration_s - sum(end - onset for onset, end in recording.padding_s)


def _covered_s(frame: pd.DataFrame) -> float:
    """Seconds of recording under at least one window."""
    onset = frame["onset_s"].to_numpy()
    duration = frame["duration_s"].to_numpy()
    return float(np.minimum(duration, np.append(np.diff(onset), np.inf)).sum())


def _give_back_memory() -> None:
    """Return to the system what blocks of signal needed, before tables of all rows are made.

    glibc keeps what is freed, and what one thread freed is of no use to another.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
