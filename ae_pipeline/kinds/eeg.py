"""EEG recordings, cut into windows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import SAME_PLACE, InputError, Layout, Recording, Samples, Windows
from ae_pipeline.kind import Alter, Float, Kind, Progress, Proposal, Source, Spread, Words
from ae_pipeline.sources.eeg import EegSource

if TYPE_CHECKING:
    from ae_pipeline.analysis.completing import Completed, Completion, Cue
    from ae_pipeline.analysis.completion import Mask, Part, Way
    from ae_pipeline.eeg.preprocess import Plan
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.ingest.inputs import Failure, Input
    from ae_pipeline.outputs.completed import Predicted
    from ae_pipeline.outputs.run_folder import ScoreRun
    from ae_pipeline.scoring.bundle import Bundle, BundleInfo
    from ae_pipeline.study import Study

__all__ = [
    "KIND",
    "Eeg",
    "cleaned_band_hz",
    "with_events",
]

_LOG = logging.getLogger(__name__)

SHORTEST = 10
"""Samples of a window below which no event fits into it."""

BLOCK_S = 10.0
"""Windows within so many seconds count as one for an interval."""

EVENTS = (
    "blink",
    "muscle",
    "pop",
    "flat",
    "clipped",
    "line_noise",
    "slow_drift",
    "rhythmic_sharp",
    "alpha",
)
"""Simulated anomalies, in the order in which windows get them."""


class Eeg:
    """Recordings that are cleaned, cut into windows and judged as events in time."""

    name = "eeg"
    layout: Layout = "series"
    source: type[Source] = EegSource
    endings: tuple[str, ...] = (".fif", ".fif.gz", ".edf")
    sections = frozenset({"preprocess", "windows"})
    events = True
    private = True
    words = Words(
        title="EEG",
        one="window",
        many="windows",
        cases="recordings",
        holders="subjects",
        made="windows",
        entries="channels",
        entry_column="channel_name",
        unit="uV",
        unit_shown="µV",
        loss="mean squared error",
        scores="EEG recordings, window by window",
    )
    defaults: Mapping[str, Any] = {
        "preprocess": {},
        "windows": {},
        "model": {
            "architecture": {"kind": "conv"},
            "objective": {"kind": "vanilla"},
            "latent_dim": 16,
        },
        "training": {"epochs": 50, "early_stopping": 10},
    }

    def propose(self, source: Path | None) -> Proposal:
        """Return rates, filters, channels and windows that fit the recordings."""
        if source is None:
            return Proposal({"source": {"kind": self.name}})
        return _proposed(source)

    def gather(
        self,
        study: Study,
        advance: Callable[[int, int, str], None],
        *,
        spread: Spread | None = None,
    ) -> Gathered:
        """Clean and cut all recordings."""
        from ae_pipeline.ingest.recordings import gather_recordings

        assert isinstance(study.source, EegSource)
        return gather_recordings(study, study.source, advance=advance, spread=spread)

    def find(self, source: Any, given: Sequence[str]) -> Iterator[Input | Failure]:
        """Turn what a user named into recordings."""
        from ae_pipeline.ingest.recordings import find_recordings

        return find_recordings(source, given)

    def open(self, source: Any, item: Input) -> Input:
        """Open a recording; its signal is read when asked for."""
        from ae_pipeline.sources.eeg import open_recording

        recording = open_recording(item.found, source)
        return replace(item, files=recording.files, content=recording)

    def samples(
        self, bundle: Bundle, source: Any, *, item: Input
    ) -> Iterator[tuple[Samples, tuple[str, ...]]]:
        """Yield the windows of a recording; one with a bad channel must not calibrate."""
        from ae_pipeline.eeg.survey import survey_with_stats
        from ae_pipeline.eeg.windows import cut
        from ae_pipeline.scoring.mismatch import fitted_channels

        info = bundle.info
        assert info.preprocess is not None
        assert info.windows is not None
        assert info.sfreq_hz is not None
        recording = fitted_channels(self.open(source, item).content, info)
        plan, stats = survey_with_stats(
            recording,
            info.preprocess,
            line_freq_hz=info.line_freq_hz,
            sfreq_hz=info.sfreq_hz,
            windowing=info.windows,
        )
        if plan.bads:
            raise InputError(
                f"{item.name}: bad channel {plan.bads[0].name} ({plan.bads[0].reason}); left out "
                "of the calibration, because normal data was asked for"
            )
        for samples in cut(recording, plan, windowing=info.windows, robust_stats=stats):
            yield samples, recording.notes

    def score(
        self, run: ScoreRun, source: Any, *, item: Input, key: str, progress: Progress
    ) -> None:
        """Judge a recording as it is read, and write its files."""
        from ae_pipeline.outputs.score import write_recording
        from ae_pipeline.report.findings.reasons import differences
        from ae_pipeline.scoring.recording import score_recording

        recording = item.content
        result = score_recording(
            run.bundle,
            recording,
            judge=replace(run.bundle.by_calibration, detection=run.detection),
            advance=lambda seconds: progress.advance(seconds, recording.duration_s, recording.name),
        )
        progress.advance(1, 1, recording.name)
        for warning in differences(result):
            _LOG.warning(warning)
        write_recording(run, result, this=key, digest=item.digest)

    def alteration(self, study: Study, samples: Samples) -> Alter:
        """Return events as they happen in EEG, within the band that cleaning leaves."""
        return partial(with_events, band_hz=cleaned_band_hz(study, samples))

    def possible(self, info: BundleInfo, values: Float, *, drawn: bool) -> Float:
        """Return windows as they are."""
        return values

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        """Write generated windows as epochs, or end to end as a continuous signal."""
        from ae_pipeline.outputs.export import write_epochs, write_signal

        values, info = np.asarray(samples.values), bundle.info
        if path.name.endswith(("-epo.fif", "_epo.fif", "-epo.fif.gz", "_epo.fif.gz")):
            write_epochs(path, info, windows_uv=values)
            return
        length_s = values.shape[2] / float(info.sfreq_hz or 1)
        marks = [(i * length_s, length_s, "synthetic") for i in range(len(values))]
        # windows have nothing to do with each other: MNE filters up to a boundary, not across it
        marks += [(i * length_s, 0.0, "EDGE boundary") for i in range(1, len(values))]
        signal_uv = np.concatenate(list(values), axis=1)
        write_signal(path, info, signal_uv=signal_uv, annotations=marks)

    def complete(self, task: Completion, source: Any, *, item: Input) -> Completed:
        """Complete channels that are missing or bad, and what ``hide`` names."""
        from ae_pipeline.analysis import completing
        from ae_pipeline.analysis.completion import PARTS
        from ae_pipeline.eeg.survey import survey
        from ae_pipeline.outputs.completed import write_completed

        bundle, info, parts_of = task.bundle, task.bundle.info, PARTS[self.layout]
        assert info.preprocess is not None
        assert info.windows is not None
        assert info.sfreq_hz is not None
        opened = self.open(source, item).content
        recording, lacking = _padded(opened, info.entries)
        hidden_names: tuple[str, ...] = ()
        span = None if task.hide is None else _seconds(task.hide)
        if task.hide is not None and span is None:
            hidden_names = tuple(
                info.entries[i]
                for i in completing.places_of(task.hide, info.entries, what="channels")
            )
        task.stage("reading")
        plan = survey(
            recording,
            info.preprocess,
            line_freq_hz=info.line_freq_hz,
            sfreq_hz=info.sfreq_hz,
        )
        unknown = np.isin(info.entries, [*lacking, *plan.bad_names])
        if unknown.all():
            raise InputError(f"{item.name}: no channel of the model is usable")
        signal, common, parts = _clean_signal(recording, plan, sfreq_hz=info.sfreq_hz)
        cue = _windows(task, recording, plan=plan, unknown=unknown, signal=signal, parts=parts)
        measured = completing.measure(task, cue, parts=parts_of)
        x = bundle.autoencoder.scaler.transform(signal[None])[0]
        observed = np.repeat(~unknown[:, None], signal.shape[1], 1)
        visible = observed & ~np.isin(info.entries, hidden_names)[:, None]
        if not visible.any():
            raise StudyError(f"--hide {task.hide}: nothing that is known would be left to see")
        part: Part = "channels"
        if span is not None:
            part = "time"
            visible[
                :,
                _within(
                    span,
                    parts,
                    n_times=signal.shape[1],
                    sfreq_hz=info.sfreq_hz,
                    length=info.shape[1],
                    task=task,
                ),
            ] = False
        task.stage("completing")
        made = _overlapping(
            bundle, x, visible=visible, parts=parts, way=task.choose(measured[part])
        )
        predicted = _predicted(
            bundle,
            recording,
            plan,
            made=made,
            signal=signal,
            common=common,
            visible=visible,
            parts=parts,
        )
        said = write_completed(task.out, opened, predicted, model_id=bundle.model_id)
        hidden = None
        if task.hide is not None:
            hidden = completing.hidden_errors(
                task,
                part,
                x=x[None],
                made=made[None],
                visible=visible[None],
                observed=observed[None],
            )
        names = [n for n, row in zip(info.entries, visible, strict=True) if not row.any()]
        what = [f"channels {', '.join(names)}"] if names else []
        what += [f"{span[0]:g} to {span[1]:g} s"] if span is not None else []
        return completing.Completed(
            measured,
            hidden,
            " and ".join(what) or "nothing: no channel is missing or bad",
            tuple(completing.examples(task, cue, part=p, measured=measured[p]) for p in parts_of),
            (*recording.notes, *plan.notes, *said),
        )


# ------------------------------------------------------------------------ init


def _proposed(source: Path) -> Proposal:
    """What a folder of recordings suggests for its study."""
    from ae_pipeline.eeg.filters import lowest_high_pass_hz
    from ae_pipeline.eeg.preprocess import Preprocess
    from ae_pipeline.eeg.windows import Windowing
    from ae_pipeline.sources import eeg

    seen = eeg.describe(eeg.find([source]))
    preprocess: dict[str, Any] = {"sfreq_hz": seen.sfreq_hz}
    windows: dict[str, Any] = {}
    notes = {
        "preprocess.sfreq_hz": f"The lowest rate of the {seen.n_recordings} recordings found is "
        f"{seen.sfreq_hz:g} Hz; scoring refuses recordings below this rate.",
    }
    left_out = []
    if seen.exclude:
        left_out.append("Left out here: what is no EEG channel by its name or type.")
    # where recordings share few channels it is the other recordings that have to go
    partial = seen.partial if len(seen.ch_names) >= len(seen.partial) else ()
    if seen.partial:
        more = " ..." if len(seen.partial) > 10 else "."
        left_out.append(f"Not in every recording: {', '.join(seen.partial[:10])}{more}")
        if not partial:
            left_out.append("These stay: recordings without the channels of most are left out.")
    notes["source.exclude"] = " ".join(left_out)
    if seen.failed:
        name, reason = seen.failed[0]
        notes["source.pattern"] = (
            f"{len(seen.failed)} of the files found cannot be used; the first, {name}: {reason}"
        )
    default = Preprocess()
    fits = lowest_high_pass_hz(seen.segment_s)
    if default.high_pass_hz is not None and fits > default.high_pass_hz:
        preprocess["high_pass_hz"] = fits
        notes["preprocess.high_pass_hz"] = (
            f"Raised: uninterrupted stretches last {seen.segment_s:.3g} s here, and the kernel of "
            "a lower high-pass would not fit into them."
        )
    nyquist = seen.sfreq_hz / 2
    if default.low_pass_hz is not None and default.low_pass_hz > 0.9 * nyquist:
        preprocess["low_pass_hz"] = round(0.8 * nyquist, 1)
    length_s, stride_s = Windowing().length_s, Windowing().stride_s
    if seen.segment_s < 2 * length_s:
        length_s = round(min(length_s, seen.segment_s / 2), 2)
        windows = {"length_s": length_s, "stride_s": min(stride_s, length_s / 2)}
        notes["windows.length_s"] = (
            f"Shortened: uninterrupted stretches last {seen.segment_s:.3g} s here."
        )
    if seen.epoched:
        preprocess["high_pass_hz"] = None
        notes["preprocess.high_pass_hz"] = (
            "null: the files hold epochs, which are high-passed before they are cut; a kernel of "
            "several seconds does not fit into them."
        )
        windows = {"length_s": round(seen.segment_s, 4), "at": "epochs"}
        notes["windows.length_s"] = f"The files' own epochs last {seen.segment_s:.4g} s."
    exclude = [*seen.exclude, *partial]
    section: dict[str, Any] = {
        "kind": "eeg",
        "path": str(source),
        "subject_pattern": seen.subject_pattern,
        "exclude": exclude,
    }
    if seen.line_freq_hz:
        section["line_freq_hz"] = seen.line_freq_hz
        notes["source.line_freq_hz"] = (
            "As the spectrum of the recordings shows it."
            if seen.line_is_seen
            else "As the recordings or their sidecars state it."
        )
    content = {"source": section, "preprocess": preprocess, "windows": windows}
    return Proposal(content, notes)


# -------------------------------------------------------------------- rehearsal


def cleaned_band_hz(study: Study, samples: Samples) -> tuple[float, float]:
    """The band that a study's cleaning leaves of EEG, in hertz; means nothing for other data."""
    cleaning = study.preprocess
    nyquist_hz = (samples.sfreq_hz or 2.0) / 2
    low_hz = (cleaning.high_pass_hz if cleaning else None) or 0.0
    high_hz = min((cleaning.low_pass_hz if cleaning else None) or nyquist_hz, 0.95 * nyquist_hz)
    return low_hz, high_hz


def with_events(
    samples: Samples, values: Float, rng: np.random.Generator, *, band_hz: tuple[float, float]
) -> Float:
    """Events over the middle of a window, on a random few of its channels, half of them subtle."""
    from ae_pipeline.sources.faults import Event, deviation, plant

    assert samples.sfreq_hz is not None
    n_channels, n_times = samples.shape
    if n_times < SHORTEST:
        return values
    length_s = n_times / samples.sfreq_hz
    # mains lies outside of most cleaned bands: what is left of it is at 0.8 of the upper edge
    wanted_hz = {"line_noise": 0.8 * band_hz[1], "alpha": 10.0, "rhythmic_sharp": 3.0}
    for row in range(len(values)):
        kind = EVENTS[row % len(EVENTS)]
        wanted = 1 + int(rng.integers(max(1, n_channels // 4)))
        moving = np.flatnonzero(deviation(values[row]) > 0)
        channels = tuple(int(c) for c in rng.permutation(moving)[:wanted])
        if not channels:
            continue
        freq_hz = wanted_hz.get(kind)
        event = Event(
            0.1 * length_s,
            0.8 * length_s,
            kind,
            channels,
            "strong" if rng.random() < 0.5 else "subtle",
            None if freq_hz is None else float(np.clip(freq_hz, *band_hz)),
        )
        values[row] = plant(values[row], samples.sfreq_hz, event=event, rng=rng, band_hz=band_hz)
    return values


# ------------------------------------------------------------------- completion


def _padded(recording: Recording, entries: tuple[str, ...]) -> tuple[Recording, tuple[str, ...]]:
    """The recording with all of the model's channels; those that it lacks are silent."""
    have = {SAME_PLACE.get(name, name) for name in recording.ch_names}
    lacking = tuple(name for name in entries if SAME_PLACE.get(name, name) not in have)
    present = tuple(name for name in entries if name not in lacking)
    if not lacking:
        return recording.pick(entries), ()
    if not present:
        raise InputError(f"recording {recording.name!r} has none of the model's channels")
    known = recording.pick(present)
    index = np.array([i for i, name in enumerate(entries) if name in present])
    reader = known.reader

    def read(start: int, stop: int) -> Float:
        out = np.zeros((len(entries), stop - start), np.float32)
        out[index] = reader(start, stop)
        return out

    positions = np.full((len(entries), 3), np.nan)
    positions[index] = known.positions_m
    spelled = dict(zip(present, known.file_names, strict=True))
    padded = replace(
        known,
        ch_names=entries,
        file_names=tuple(spelled.get(name, name) for name in entries),
        positions_m=positions,
        reader=read,
    )
    return padded, lacking


def _seconds(text: str) -> tuple[float, float] | None:
    """``12-13.5`` as (12.0, 13.5)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*", text)
    return None if match is None else (float(match[1]), float(match[2]))


def _windows(
    task: Completion,
    recording: Recording,
    *,
    plan: Plan,
    unknown: NDArray[np.bool_],
    signal: Float,
    parts: list[tuple[int, int]],
) -> Cue:
    """Windows side by side of the cleaned signal, for measuring."""
    from ae_pipeline.analysis.completing import Cue
    from ae_pipeline.eeg.windows import grid_of

    info = task.bundle.info
    assert info.windows is not None
    beside = info.windows.model_copy(update={"stride_s": info.windows.length_s})
    grid = grid_of(recording, plan, windowing=beside)
    starts = [here + begin for here, (begin, _) in zip(grid.starts, parts, strict=True)]
    values = Windows(signal.T, np.concatenate(starts), grid.length)[:]
    x = task.bundle.autoencoder.scaler.transform(values)
    observed = np.repeat(~unknown[None, :, None], x.shape[2], 2)
    observed = np.repeat(observed, len(x), 0)
    unit = np.floor(np.concatenate(grid.onsets_s) / BLOCK_S).astype(int)
    return Cue(x, observed, unit, plan.reference == "average")


def _clean_signal(
    recording: Recording, plan: Plan, *, sfreq_hz: float
) -> tuple[Float, Float, list[tuple[int, int]]]:
    """The cleaned signal from the recording's start, silent in gaps; its reference; segments."""
    from ae_pipeline.eeg.cleaning import apply

    begins = [round(first / plan.sfreq_in_hz * sfreq_hz) for first, _ in plan.segments]
    parts = [(begin, begin + plan.n_out(segment)) for segment, begin in enumerate(begins)]
    signal = np.zeros((len(recording.ch_names) + 1, max(end for _, end in parts)), np.float32)
    for block in apply(plan, recording):
        start = begins[block.segment] + block.start
        signal[:, start : start + block.clean.shape[1]] = block.cleaned
    return signal[:-1], signal[-1], parts


def _predicted(
    bundle: Bundle,
    recording: Recording,
    plan: Plan,
    *,
    made: Float,
    signal: Float,
    common: Float,
    visible: Mask,
    parts: list[tuple[int, int]],
) -> Predicted:
    """What the model made of channels, with the reference that cleaning took from the file.

    Whole channels get the reference that the visible ones and they themselves amount to. Of a
    stretch that is hidden in all channels the reference is hidden as well.
    """
    from ae_pipeline.outputs.completed import Predicted

    entries, length = bundle.info.entries, bundle.info.shape[1]
    covered = np.zeros(signal.shape[1], bool)
    for start, stop in parts:
        covered[start:stop] = stop - start >= length
    values = np.where(visible, signal, bundle.autoencoder.scaler.inverse(made[None])[0])
    whole: Mask = np.logical_not(visible.any(1))
    good = ~np.isin(entries, plan.bad_names)
    seen = visible.any(0)
    if plan.reference == "average" and (good & ~whole).any():
        rest = values[good].sum(0) / (good & ~whole).sum()
        values[whole] += np.where(seen, common + rest, 0)
    rows = np.flatnonzero((~visible & covered).any(1))
    positions = np.array(bundle.info.positions_m or [(None,) * 3] * len(entries), dtype=float)
    return Predicted(
        names=tuple(recording.file_names[row] for row in rows),
        values=values[rows],
        made=(~visible & covered)[rows],
        whole=whole[rows],
        parts=parts,
        plan=plan,
        positions_m=positions[rows],
    )


def _within(
    span: tuple[float, float],
    parts: list[tuple[int, int]],
    *,
    n_times: int,
    sfreq_hz: float,
    length: int,
    task: Completion,
) -> slice:
    start, stop = (round(second * sfreq_hz) for second in span)
    if not 0 <= start < stop <= n_times or not any(a < start and stop < b for a, b in parts):
        raise StudyError(
            f"--hide {task.hide}: expected seconds within the recording's {n_times / sfreq_hz:.1f} "
            "s of uninterrupted signal, for instance 12-12.5"
        )
    if stop - start > length // 2:
        raise StudyError(
            f"--hide {task.hide}: {span[1] - span[0]:g} s are more than half of the model's window "
            f"({length / sfreq_hz:g} s); hide a shorter stretch"
        )
    return slice(start, stop)


def _overlapping(
    bundle: Bundle, x: Float, *, visible: Mask, parts: list[tuple[int, int]], way: Way
) -> Float:
    """Completion of a long signal by overlapping windows, those in whose middle it lies first."""
    from ae_pipeline.analysis import completion

    length = bundle.info.shape[1]
    total = np.zeros_like(x)
    weight = np.zeros(x.shape[1], np.float32)
    taper = np.hanning(length + 2)[1:-1].astype(np.float32)
    for start, stop in parts:
        if stop - start < length:
            continue
        starts = np.unique(
            np.append(np.arange(start, stop - length, max(1, length // 4)), stop - length)
        )
        needed = [s for s in starts if not visible[:, s : s + length].all()]
        for first in range(0, len(needed), 64):
            chosen = needed[first : first + 64]
            seen = np.stack([visible[:, s : s + length] for s in chosen])
            cues = np.stack([x[:, s : s + length] for s in chosen])
            for s, made in zip(
                chosen, completion.complete(bundle, cues, visible=seen, way=way), strict=True
            ):
                total[:, s : s + length] += taper * made
                weight[s : s + length] += taper
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), x).astype(np.float32)


KIND: Kind = Eeg()
