"""From data to judged windows, rows and recordings, with one model.

Recordings are streamed: whatever their length, memory holds a block of signal, and one row of
numbers a window.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.bundle import Bundle, BundleInfo, Judged
from ae_pipeline.calibrate import (
    Detection,
    Span,
    adjusted,
    find_events,
)
from ae_pipeline.data import Recording, Samples
from ae_pipeline.eeg.features import Usual, feature_names, state_of
from ae_pipeline.eeg.interpolation import with_channels
from ae_pipeline.eeg.preprocess import Plan, usual_amplitude_uv
from ae_pipeline.eeg.survey import survey
from ae_pipeline.eeg.tags import CATEGORY, Tag, tag
from ae_pipeline.eeg.windows import Windowing, cut, cut_again
from ae_pipeline.ensemble import Through
from ae_pipeline.explain import events_frame, in_words, kinds_in_words, reasons
from ae_pipeline.personfit import MANY_ROWS
from ae_pipeline.runtime.threads import ahead, one_thread
from ae_pipeline.sources.finding import task_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LATENT_KEYS",
    "Example",
    "RecordingResult",
    "RowsResult",
    "contract_frame",
    "fitted_channels",
    "latents_frame",
    "mismatches",
    "pick_examples",
    "recordings_frame",
    "score_recording",
    "score_rows",
    "wrong_gain",
    "wrong_gains",
]

WRONG_GAIN = 5.0
"""Factor by which a channel may differ from training; electrodes differ by two to three."""

N_NEAR = 16
"""Codes whose distance is computed exactly, to find the nearest."""

HALF_WAY = 0.5
"""From the median score to the threshold; what comes less far is not shown as near to it."""

N_WORST = 6
N_BEST = 3
LATENTS = "latents"
TIMES = ("window", "onset_s", "duration_s")
AT_A_TIME = 4096
"""Rows of a table that are turned into something else together."""

LATENT_KEYS = ("recording", "subject", "window", "onset_s", "duration_s")


@dataclass(frozen=True)
class Example:
    """A handful of samples to look at, beside what the model makes of them.

    ``values`` and ``reconstructions`` are (m, *shape) in the data's units; ``frame`` has their
    m judged rows. ``normal`` are m windows with nothing unusual, each the one of the recording
    whose code is nearest, and ``normal_s`` their onsets (EEG, where there are any).
    """

    values: NDArray[np.float32]
    reconstructions: NDArray[np.float32]
    frame: pd.DataFrame
    normal: NDArray[np.float32] | None = None
    normal_s: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class RecordingResult:
    """What is said about one recording.

    ``frame`` has the contract's columns, one row a window; ``latents`` is (n, latent_dim),
    ``by_channel`` (n, channels); ``summary`` is the recording's row without q, which needs the
    whole batch.
    """

    recording: Recording
    plan: Plan
    frame: pd.DataFrame
    latents: NDArray[np.float32]
    by_channel: NDArray[np.float32]
    events: pd.DataFrame
    bads: pd.DataFrame
    worst: Example
    best: Example
    summary: dict[str, Any]
    near: pd.DataFrame
    """Where few windows reached the threshold: the highest below it, see :func:`_near`."""


@dataclass(frozen=True)
class RowsResult:
    """What is said about images or respondents; see :class:`RecordingResult`."""

    frame: pd.DataFrame
    latents: NDArray[np.float32]
    by_entry: NDArray[np.float32]
    worst: Example
    best: Example


@one_thread()
def score_recording(
    bundle: Bundle,
    recording: Recording,
    detection: Detection,
    threshold: float,
    advance: Callable[[float], None] = lambda seconds: None,
) -> RecordingResult:
    """Survey, clean, cut and judge one recording.

    Parameters
    ----------
    bundle : Bundle
    recording : Recording
        With at least the model's channels.
    detection : Detection
        Error rate and alarm rate wanted.
    threshold : float
        Windows above this score are flagged.
    advance : callable
        Told the seconds of recording done so far.

    Raises
    ------
    InputError
        Where the recording does not fit the model or holds no usable window.
    """
    import pandas as pd

    info = bundle.info
    assert info.preprocess is not None
    assert info.windows is not None
    assert info.sfreq_hz is not None
    recording = fitted_channels(recording, info)
    line_freq_hz = info.source.get("line_freq_hz")
    plan = survey(recording, info.preprocess, line_freq_hz, info.sfreq_hz)
    rows, tags, state, usual, shown = _streamed(bundle, recording, plan, threshold, advance)
    _give_back_memory()
    frame, codes = rows.read()
    total = frame["score"].to_numpy()
    frame["flagged"] = total > threshold
    frame["q_value"] = np.nan
    spans = find_events(
        frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy(), total, threshold
    )
    calibration = bundle.calibration
    onset_s = frame["onset_s"].to_numpy()
    peaks = [span.peak for span in spans]
    at_peaks = {peak: rows.channels_of(peak) for peak in peaks}
    worst, best = shown
    nearest = _nearest_normal([*peaks, *worst.rows.tolist()], spans, codes, frame)
    normal = _beside_normal(worst, nearest, frame, recording, plan, info.windows)
    nearest_s = {peak: float(onset_s[row]) for peak, row in nearest.items()}
    _give_back_memory()
    usual_error = float(np.median(calibration.scores["score_autoencoder"]))
    frame["reason"] = _phrases(frame, usual_error)
    events = events_frame(
        spans, frame, at_peaks, info.entries, calibration, bundle.model_id, tags, nearest_s
    )
    near = _near(frame, spans, threshold, recording, plan, info.windows, usual)
    if len(near):
        frame.loc[near["window"], "reason"] = near["reason"].to_numpy()
    found = {bad.name: bad.reason for bad in plan.bads}
    found = wrong_gains(info.training, plan) | found
    whole = wrong_gain(info.training, plan)
    bads = pd.DataFrame(list(found.items()), columns=["name", "reason"])
    score = calibration.recording_score(total)
    flagged_s = float(sum(span.end_s - span.onset_s for span in spans))
    covered_s = _covered_s(frame)
    unusual, reason = calibration.unusual(
        len(spans), covered_s / 3600, float(total.max()), detection
    )
    verdict = "clean"
    if unusual:
        verdict, said = _verdict(events, state)
        reason = f"{said}; {reason}" if said else reason
    promise = calibration.no_promise(detection.error_rate, f"{info.exchangeable_unit}s")
    if verdict == "clean" and promise:
        reason = f"{reason}; {promise}"
    if state:
        band, region, times = state
        reason = (
            f"state differs from training: {band}, {region} ({times:.2g} times the usual power); "
            + reason
        )
    if len(bads):
        verdict = "technical"
        reason = f"{len(bads)} bad channel(s): {', '.join(bads['name'])}"
    if whole:
        verdict, reason = "technical", whole
    summary = {
        "warnings": mismatches(info.training, recording, plan),
        "recording": recording.name,
        "subject": recording.subject,
        "session": recording.session,
        "duration_s": recording.duration_s,
        "usable_share": max(0.0, covered_s - flagged_s) / _recorded_s(recording),
        "quality_findings": "; ".join(
            [*([whole] if whole else []), *(f"{name}: {why}" for name, why in found.items())]
        ),
        "n_windows": len(frame),
        "n_events": len(spans),
        "events_per_hour": len(spans) / (covered_s / 3600),
        "score": score,
        "p_value": calibration.recording_p(score),
        "verdict": verdict,
        "reason": reason,
    }
    return RecordingResult(
        recording,
        plan,
        contract_frame(frame, "eeg"),
        codes,
        rows.channels(),
        events,
        bads,
        replace(worst.example(frame), **normal),
        best.example(frame),
        summary,
        near,
    )


def _streamed(
    bundle: Bundle,
    recording: Recording,
    plan: Plan,
    threshold: float,
    advance: Callable[[float], None],
) -> tuple[
    _Rows, dict[int, Tag], tuple[str, str, float] | None, Usual | None, tuple[_Shown, _Shown]
]:
    """All windows judged, block after block; tags of the worst, the state, and examples."""
    rows = _Rows(recording)
    tags: dict[int, Tag] = {}
    state = usual = None
    worst, best = _keepers()

    windowing = bundle.info.windows
    assert windowing is not None

    def begun() -> Iterator[tuple[Samples, Through]]:
        for samples in cut(recording, plan, windowing):
            yield samples, bundle.begin(samples)

    for samples, through in ahead(begun()):
        judged = bundle.judge(samples, through)
        total = judged.columns["score"]
        tags |= _tags(bundle, samples, total, threshold, recording)
        state = state or _state(bundle, samples, recording)
        usual = samples.usual.get(recording.name, bundle.ensemble.population)
        rows.add(judged)
        for keeper in (worst, best):
            keeper.offer(samples, total)
        advance(float(samples.meta["onset_s"].iloc[-1]))
    return rows, tags, state, usual, (worst.shown(bundle, N_WORST), best.shown(bundle, N_BEST))


def fitted_channels(recording: Recording, info: BundleInfo) -> Recording:
    """The recording with the model's channels, as the study says missing ones are met.

    Raises
    ------
    InputError
        It lacks channels that may not or cannot be interpolated.
    """
    places = None
    if info.source.get("different_channels") == "interpolate":
        places = np.array(info.positions_m, float)
    return with_channels(recording, info.entries, places)


def mismatches(card: Mapping[str, Any], recording: Recording, plan: Plan) -> list[str]:
    """Where a recording was made in another state than the training data, as far as known.

    Parameters
    ----------
    card : mapping
        :attr:`BundleInfo.training`.
    """
    found = []
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    amplitude = usual_amplitude_uv(plan)
    if not low / 2 <= amplitude <= high * 2:
        found.append(
            f"{recording.name}: usual amplitude {amplitude:.3g} uV, in training {low:.3g} to "
            f"{high:.3g}; another gain, unit, reference or amplifier?"
        )
    task, tasks = task_of(recording.name), card.get("tasks", [])
    if task and tasks and task not in tasks:
        found.append(
            f"{recording.name}: task {task!r}, the model was trained on {', '.join(tasks)}; what "
            "differs by task will look abnormal"
        )
    for name in ("reference_as_recorded", "amplifier"):
        here, there = recording.state.get(name.partition("_")[0], ""), card.get(name, [])
        if here and there and here not in there:
            found.append(
                f"{recording.name}: {name.partition('_')[0]} {here!r}, in training "
                f"{', '.join(there)}"
            )
    ages = card.get("age_years")
    if (
        ages
        and "age" in recording.state
        and not ages[0] <= float(recording.state["age"]) <= ages[1]
    ):
        found.append(
            f"{recording.name}: age {recording.state['age']}, in training {ages[0]:g} to "
            f"{ages[1]:g}; EEG changes with age"
        )
    return found


def wrong_gain(card: Mapping[str, Any], plan: Plan) -> str:
    """A gain that is off in all channels alike, against the training population; else empty.

    No scale of the recording's own can hide it, and none can mend it unasked.
    """
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    amplitude = usual_amplitude_uv(plan)
    if low / WRONG_GAIN <= amplitude <= high * WRONG_GAIN:
        return ""
    return (
        f"gain off in all channels: usual amplitude {amplitude:.3g} uV, in training {low:.3g} to "
        f"{high:.3g}"
    )


def wrong_gains(card: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """Channels far larger or smaller than in training, beside what the whole recording is.

    A scale of each recording's own would hide them; these are the training population's.
    """
    usual = np.array(card.get("channel_amplitude_uv", ()))
    if len(usual) != len(plan.amplitude_uv):
        return {}
    ratio = np.array(plan.amplitude_uv) / np.maximum(usual, 1e-9)
    ratio /= max(float(np.median(ratio)), 1e-9) if len(ratio) > 2 else 1.0
    return {
        name: f"gain off: amplitude {amplitude:.3g} uV where {expected:.3g} uV is usual"
        for name, amplitude, expected, r in zip(
            plan.ch_names, plan.amplitude_uv, usual, ratio, strict=True
        )
        if not 1 / WRONG_GAIN <= r <= WRONG_GAIN
    }


def _tags(
    bundle: Bundle,
    samples: Samples,
    score: NDArray[np.float64],
    threshold: float,
    recording: Recording,
) -> dict[int, Tag]:
    """What the worst window of each event of a block looks like, by the window's number.

    An event over two blocks has one in each; the worse of them is the event's.
    """
    usual = samples.usual.get(recording.name, bundle.ensemble.population)
    if usual is None or samples.sfreq_hz is None:
        return {}
    found = {}
    for span in find_events(
        samples.meta["onset_s"].to_numpy(),
        samples.meta["duration_s"].to_numpy(),
        score,
        threshold,
    ):
        number = int(samples.meta["window"].iloc[span.peak])
        found[number] = _tag(samples, span.peak, usual, recording)
    return found


def _tag(samples: Samples, row: int, usual: Usual, recording: Recording) -> Tag:
    assert samples.sfreq_hz is not None
    rows = np.array([row])
    return tag(
        samples.unreferenced(rows)[0],
        None if samples.raw is None else np.asarray(samples.raw[rows])[0],
        usual,
        samples.sfreq_hz,
        samples.entries,
        recording.positions_m,
    )


def _near(
    frame: pd.DataFrame,
    spans: list[Span],
    threshold: float,
    recording: Recording,
    plan: Plan,
    windowing: Windowing,
    usual: Usual | None,
) -> pd.DataFrame:
    """The highest windows below the threshold, so many that with the events there are a few.

    Where calibration data is short the threshold lies above much that a reader would want to see.

    Returns
    -------
    DataFrame
        ``window``, ``onset_s``, ``duration_s``, ``looks_like``, ``channel``, ``band``, ``score``,
        ``reached`` (0 the recording's median score, 1 the threshold), ``evidence``, and ``reason``,
        which is that of the scores file with what the window looks like before it.
    """
    import pandas as pd

    score = frame["score"].to_numpy()
    middle = float(np.median(score))
    way = (score - middle) / max(threshold - middle, 1e-12)
    chosen: list[int] = []
    if usual is not None and len(spans) < N_WORST:
        clear = np.flatnonzero(_clear(frame, spans) & (way > HALF_WAY))
        order = clear[np.argsort(-score[clear], kind="stable")]
        times = frame[["recording", "onset_s", "duration_s"]].iloc[order]
        chosen = [int(order[i]) for i in _apart(times, N_WORST - len(spans))]
    samples = cut_again(recording, plan, windowing, chosen)
    rows = []
    for i, row in enumerate(chosen):
        assert usual is not None
        found = _tag(samples, i, usual, recording)
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
                "evidence": found.evidence,
                "reason": f"not flagged; {in_words(found)}; {frame['reason'].iloc[row]}",
            }
        )
    columns = ["window", "onset_s", "duration_s", "looks_like", "channel", "band", "score"]
    return pd.DataFrame(rows, columns=[*columns, "reached", "evidence", "reason"])


def _clear(frame: pd.DataFrame, spans: list[Span]) -> NDArray[np.bool_]:
    """Windows that are not flagged and touch no event."""
    onset_s, duration_s = frame["onset_s"].to_numpy(), frame["duration_s"].to_numpy()
    clear: NDArray[np.bool_] = ~frame["flagged"].to_numpy()
    for span in spans:
        clear &= (onset_s >= span.end_s) | (onset_s + duration_s <= span.onset_s)
    return clear


def _state(bundle: Bundle, samples: Samples, recording: Recording) -> tuple[str, str, float] | None:
    """Band, region and factor by which the whole recording differs from the training data."""
    usual, population = samples.usual.get(recording.name), bundle.ensemble.population
    if usual is None or population is None or samples.sfreq_hz is None:
        return None
    names = feature_names(samples.sfreq_hz, samples.shape[1])
    return state_of(usual, population, samples.entries, names)


def _nearest_normal(
    rows: Sequence[int], spans: list[Span], codes: NDArray[np.float32], frame: pd.DataFrame
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
    frame: pd.DataFrame,
    recording: Recording,
    plan: Plan,
    windowing: Windowing,
) -> dict[str, Any]:
    """The nearest normal window of each, where all have one; read again, they were not kept."""
    rows = worst.rows.tolist()
    if any(row not in nearest for row in rows):
        return {}
    chosen = [nearest[row] for row in rows]
    normal = cut_again(recording, plan, windowing, frame["window"].to_numpy()[chosen].tolist())
    values = np.asarray(normal.values)
    return {"normal": values, "normal_s": frame["onset_s"].to_numpy()[chosen]}


def _verdict(events: pd.DataFrame, state: tuple[str, str, float] | None) -> tuple[str, str]:
    """What most of the events' time looks like, and how many there are of each kind.

    Where the whole recording is in another state, what only shows this state does not count.
    """
    kinds = events["trial_type"].str.removeprefix("anomaly/")
    said = kinds_in_words(kinds.tolist())
    if state and state[0] == "alpha":
        kinds = kinds[kinds != "alpha"]
    if kinds.empty:
        return "clean", said
    category = kinds.map(CATEGORY)
    seconds = events["duration"].loc[kinds.index].groupby(category.to_numpy()).sum()
    return str(seconds.idxmax()), said


def _recorded_s(recording: Recording) -> float:
    """Length without the padding at either end."""
    return recording.duration_s - sum(end - onset for onset, end in recording.padding_s)


def _covered_s(frame: pd.DataFrame) -> float:
    """Seconds of recording under at least one window."""
    onset = frame["onset_s"].to_numpy()
    duration = frame["duration_s"].to_numpy()
    return float(np.minimum(duration, np.append(np.diff(onset), np.inf)).sum())


def score_rows(
    bundle: Bundle,
    samples: Samples,
    detection: Detection,
    advance: Callable[[int], None] = lambda rows: None,
) -> RowsResult:
    """Judge images or respondents, a part of them at a time; p and q across all.

    Parameters
    ----------
    bundle : Bundle
    samples : Samples
    detection : Detection
    advance : callable
        Told how many rows are judged.

    Raises
    ------
    InputError
        Where the rows are not what the model was trained on.
    """
    parts = []
    with one_thread(samples.kind != "mnist"):
        for rows in samples.chunks(MANY_ROWS):
            parts.append(bundle.judge(samples.take(rows)))
            advance(rows.stop)
    judged = Judged.join(parts)
    frame = judged.frame
    frame["q_value"] = adjusted(frame["p_value"].to_numpy(), detection.dependence)
    frame["flagged"] = frame["q_value"] <= detection.error_rate
    frame["reason"] = reasons(
        frame, float(np.median(bundle.calibration.scores["score_autoencoder"]))
    )
    worst, best = pick_examples(bundle, samples, frame)
    return RowsResult(
        contract_frame(frame, bundle.info.kind), judged.latents, judged.by_entry, worst, best
    )


def pick_examples(bundle: Bundle, samples: Samples, frame: pd.DataFrame) -> tuple[Example, Example]:
    """The most and the least abnormal samples, with reconstructions."""
    worst, best = _keepers()
    for keeper in (worst, best):
        keeper.offer(samples, frame["score"].to_numpy())
    shown = worst.shown(bundle, N_WORST), best.shown(bundle, N_BEST)
    return shown[0].example(frame), shown[1].example(frame)


def _keepers() -> tuple[_Keeper, _Keeper]:
    """For the worst and the best; several times as many as are shown, because windows overlap."""
    return _Keeper(8 * N_WORST, largest=True), _Keeper(8 * N_BEST, largest=False)


class _Rows:
    """Judged rows of a recording, on disk until the last of them is there.

    Two files without names: of a day's rows memory holds none while blocks of signal come and go.
    """

    def __init__(self, recording: Recording) -> None:
        from tempfile import TemporaryFile

        self.recording = recording
        self.rows = TemporaryFile()  # noqa: SIM115 (arrays read from it)
        self.by_entry = TemporaryFile()  # noqa: SIM115
        self.dtype: np.dtype[Any] | None = None
        self.words: dict[str, dict[Any, int]] = {}
        self.n_rows = self.n_entries = 0

    def add(self, judged: Judged) -> None:
        """The rows of the next block."""
        columns = {name: judged.meta[name].to_numpy() for name in TIMES}
        columns |= {**judged.columns, LATENTS: judged.latents}
        for name, values in columns.items():
            if values.dtype.kind not in "biuf":  # the same few words again and again
                known = self.words.setdefault(name, {})
                codes = [-1 if w is None else known.setdefault(w, len(known)) for w in values]
                columns[name] = np.array(codes, np.int16)
        if self.dtype is None:
            self.dtype = np.dtype([(n, v.dtype, v.shape[1:]) for n, v in columns.items()])
        table = np.empty(len(judged.meta), self.dtype)
        for name, values in columns.items():
            table[name] = values
        self.rows.write(table.tobytes())
        self.n_rows += len(table)
        self.n_entries = judged.by_entry.shape[1]
        self.by_entry.write(np.ascontiguousarray(judged.by_entry, np.float32).tobytes())

    def read(self) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Columns and codes of all rows, read a few at a time: they are large enough once."""
        import pandas as pd

        assert self.dtype is not None
        made: dict[str, Any] = {
            name: np.empty((self.n_rows, *self.dtype[name].shape), self.dtype[name].base)
            for name in self.dtype.names or ()
        }
        self.rows.seek(0)
        for start in range(0, self.n_rows, AT_A_TIME):
            table = np.fromfile(self.rows, self.dtype, AT_A_TIME)
            for name, values in made.items():
                values[start : start + len(table)] = table[name]
        codes = made.pop(LATENTS)
        for name, known in self.words.items():
            made[name] = _few_words(made[name], list(known))
        everywhere = np.zeros(self.n_rows, np.int8)
        one = self.recording
        for name, word in (("recording", one.name), ("subject", one.subject)):
            made[name] = _few_words(everywhere, [word])
        return pd.DataFrame(made, copy=False), codes

    def channels(self) -> NDArray[np.float32]:
        """By channel, (n, channels); it stays on disk, and memory has what was looked at."""
        self.by_entry.flush()
        return np.memmap(self.by_entry, np.float32, "r").reshape(-1, self.n_entries)

    def channels_of(self, row: int) -> NDArray[np.float32]:
        """One row of them, without what the system maps around it."""
        self.by_entry.seek(4 * self.n_entries * row)
        return np.fromfile(self.by_entry, np.float32, self.n_entries)


def _few_words(codes: NDArray[Any], words: list[str]) -> pd.Categorical:
    """A column of words of which there are few."""
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=pd.Index(words, dtype=object))


def _give_back_memory() -> None:
    """Return to the system what blocks of signal needed, before tables of all rows are made.

    glibc keeps what is freed, and what one thread freed is of no use to another.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _phrases(frame: pd.DataFrame, usual_error: float) -> pd.arrays.ArrowStringArray:
    """Reasons of many rows, end to end as they are made: Python's own texts are large."""
    import pandas as pd
    import pyarrow as pa

    text, ends = bytearray(), [np.zeros(1, np.int64)]
    for start in range(0, len(frame), AT_A_TIME):
        phrases = [each.encode() for each in reasons(frame[start : start + AT_A_TIME], usual_error)]
        ends.append(len(text) + np.cumsum([len(phrase) for phrase in phrases]))
        text += b"".join(phrases)
    buffers = [None, pa.py_buffer(np.concatenate(ends)), pa.py_buffer(text)]
    array = pa.Array.from_buffers(pa.large_string(), len(frame), buffers)
    return pd.arrays.ArrowStringArray(array)


class _Keeper:
    """Keeps the ``size`` samples with the largest (smallest) scores while others stream by."""

    def __init__(self, size: int, largest: bool) -> None:
        self.size, self.sign = size, 1.0 if largest else -1.0
        self.score = np.empty(0)
        self.row = np.empty(0, np.intp)
        self.kept: Samples | None = None
        self.offered = 0

    def offer(self, samples: Samples, score: NDArray[np.float64]) -> None:
        """Samples that follow those offered before."""
        import pandas as pd

        known = len(self.score)
        every = np.concatenate([self.score, score])
        best = np.argsort(-self.sign * every, kind="stable")[: self.size]
        new = best[best >= known] - known
        offered, self.offered = self.offered, self.offered + len(score)
        if self.kept is not None and not len(new):
            return  # of a long recording nearly always: nothing is copied
        values, mask = samples.batch(new)
        meta = samples.meta.iloc[new]
        if self.kept is not None:
            meta = pd.concat([self.kept.meta, meta])
            values = np.concatenate([self.kept.values[:], values])
            if mask is not None and self.kept.mask is not None:
                mask = np.concatenate([self.kept.mask, mask])
        # those that stay come first in what is joined, then the new ones
        place = np.where(best < known, best, known + np.cumsum(best >= known) - 1)
        self.row = np.concatenate([self.row, new + offered])[place]
        self.score = every[best]
        self.kept = replace(
            samples,
            values=values[place],
            mask=None if mask is None else mask[place],
            meta=meta.iloc[place].reset_index(drop=True),
            raw=None,
            common=None,
        )

    def shown(self, bundle: Bundle, n: int) -> _Shown:
        """The ``n`` best of all offered that do not overlap in time."""
        assert self.kept is not None
        chosen = _apart(self.kept.meta, n)
        kept = self.kept.take(chosen)
        values, mask = kept.batch(slice(None))
        if mask is not None:
            values = np.where(mask, values, np.nan)
        return _Shown(values, bundle.autoencoder.reconstruct(kept), self.row[chosen])


@dataclass(frozen=True)
class _Shown:
    """Samples beside what the model makes of them, and which rows of all they are."""

    values: NDArray[np.float32]
    reconstructions: NDArray[np.float32]
    rows: NDArray[np.intp]

    def example(self, frame: pd.DataFrame) -> Example:
        """With their rows of what judges all."""
        judged = frame.iloc[self.rows].reset_index(drop=True)
        return Example(self.values, self.reconstructions, judged)


def _apart(meta: pd.DataFrame, n: int) -> list[int]:
    """The first ``n`` whose windows do not overlap (rows of tables never do)."""
    if "onset_s" not in meta:
        return list(range(len(meta)))[:n]
    chosen: list[int] = []
    onset, duration = meta["onset_s"].to_numpy(), meta["duration_s"].to_numpy()
    recording = meta["recording"].to_numpy()
    for row in range(len(meta)):
        if all(
            recording[row] != recording[other] or abs(onset[row] - onset[other]) >= duration[row]
            for other in chosen
        ):
            chosen.append(row)
        if len(chosen) == n:
            break
    return chosen


# -------------------------------------------------------------------------------- frames


def contract_frame(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Judged samples with the columns, order and types every scores file has."""
    import pandas as pd

    windowed = kind == "eeg"
    out = frame.copy(deep=False)
    top = "top_item" if kind == "questionnaire" else "top_channel"
    out[top] = out.get("top_entry")
    out["top_band"] = out.get("top_band")
    if not windowed:
        out["window"] = range(len(out))
        out["onset_s"] = np.nan
        out["duration_s"] = np.nan
    others = sorted(name for name in map(str, out) if name.startswith("score_"))
    columns = ["recording", "subject", "window", "onset_s", "duration_s", "score", *others]
    columns += ["p_value", "q_value", "flagged", top, "top_band", "reason"]
    columns += [name for name in ("part", "label") if name in out]
    predictions = [n for n in map(str, out) if n.startswith(("predicted_", "probability_"))]
    out = pd.DataFrame({name: out[name] for name in columns + predictions}, copy=False)
    words = [name for name in predictions if out[name].dtype == object]
    for name in ("recording", "subject", top, "top_band", "reason", *words):
        out[name] = out[name].astype("string")
    return out


def latents_frame(frame: pd.DataFrame, latents: NDArray[np.float32]) -> pd.DataFrame:
    """The keys, then ``z00``, ``z01``, ..."""
    import pandas as pd

    names = [f"z{i:02d}" for i in range(latents.shape[1])]
    keys = [name for name in (*LATENT_KEYS, "part", "label") if name in frame]
    codes = pd.DataFrame(latents, columns=names, index=frame.index)
    return pd.concat([frame[keys], codes], axis=1)


def recordings_frame(summaries: list[dict[str, Any]], detection: Detection) -> pd.DataFrame:
    """One row a recording with q across the batch, worst first; failed ones last.

    Parameters
    ----------
    summaries : list of dict
        :attr:`RecordingResult.summary` of scored recordings; of failed ones ``recording``,
        ``subject``, ``verdict`` and ``reason``.
    detection : Detection
        Recordings with q at or under its error rate are flagged.
    """
    import pandas as pd

    columns = ["recording", "subject", "session", "duration_s", "usable_share"]
    columns += ["quality_findings", "n_windows", "n_events", "events_per_hour", "score"]
    columns += ["p_value", "q_value", "flagged", "verdict", "reason"]
    frame = pd.DataFrame(summaries).reindex(columns=columns)
    for name in ("duration_s", "usable_share", "events_per_hour", "score", "p_value"):
        frame[name] = frame[name].astype(float)
    for name in ("n_windows", "n_events"):  # failed ones have no number, and that is not 0
        frame[name] = frame[name].astype("Int64")
    done = frame["p_value"].notna().to_numpy()
    q = np.full(len(frame), np.nan)
    q[done] = adjusted(frame["p_value"].to_numpy()[done], detection.dependence)
    frame["q_value"] = q
    frame["flagged"] = done & (np.nan_to_num(q, nan=1.0) <= detection.error_rate)
    for name in ("recording", "subject", "session", "quality_findings", "verdict", "reason"):
        frame[name] = frame[name].astype("string")
    frame = frame.assign(_done=done).sort_values(
        ["_done", "p_value", "score"], ascending=[False, True, False], kind="stable"
    )
    return frame.drop(columns="_done").reset_index(drop=True)
