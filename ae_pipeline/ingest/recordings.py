"""EEG recordings of a study, or those that somebody asks to be scored.

Each input that cannot be used is a :class:`Failure` with its one line; the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import SAME_PLACE, InputError, Recording
from ae_pipeline.eeg.interpolation import with_channels
from ae_pipeline.eeg.preprocess import Plan, median_amplitude_uv
from ae_pipeline.eeg.survey import survey
from ae_pipeline.eeg.windows import count_windows
from ae_pipeline.ingest.gather import Gathered
from ae_pipeline.ingest.inputs import Failure, Input
from ae_pipeline.ingest.materialise import materialise
from ae_pipeline.kind import Spread
from ae_pipeline.runtime.files import cache_dir, digest_files, key
from ae_pipeline.runtime.messages import unexpected
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.sources import eeg
from ae_pipeline.sources.finding import task_of
from ae_pipeline.study import Study

__all__ = [
    "find_recordings",
    "gather_recordings",
]

Advance = Callable[[int, int, str], None]


@one_thread()
def gather_recordings(
    study: Study, source: eeg.EegSource, *, advance: Advance, spread: Spread | None
) -> Gathered:
    """Survey, clean and cut all recordings of a study; see :meth:`ae_pipeline.kind.Kind.gather`."""
    assert study.preprocess is not None
    assert study.windows is not None
    opened, failures = _opened(source)
    usual, chosen = _channels([recording for _, recording in opened], source)
    fitting = [r.sfreq_hz for _, r in opened if _modern(usual) <= _modern(r.ch_names)]
    sfreq_hz = study.preprocess.sfreq_hz or min(fitting)
    places = None
    if source.different_channels == "interpolate":
        places = next(r.positions_m for _, r in opened if r.ch_names == usual)
    parts: list[tuple[Recording, Plan]] = []
    digests: dict[str, str] = {}
    tasks = [_Task(item, study, usual, places, sfreq_hz) for item, _ in opened]
    planned: dict[str, Plan | str] = {}
    if spread is not None and len(tasks) > 1:
        for n, (task, found_so) in enumerate(spread(_planned, items=tasks)):
            advance(n, len(opened), task.item.name)
            died = f"{task.item.path.name}: the process that read it died twice (memory?)"
            planned[task.item.name] = found_so if isinstance(found_so, Plan | str) else died
    for n, (task, (item, recording)) in enumerate(zip(tasks, opened, strict=True)):
        advance(n, len(opened), item.name)
        plan = planned.get(item.name) or _planned(task, recording)
        if isinstance(plan, str):
            failures.append(Failure(item.name, item.subject, plan))
        else:
            digests[item.name] = digest_files(recording.files)
            parts.append((with_channels(recording, usual, positions_m=places), plan))
    if not parts:
        raise InputError(
            f"{source.path}: no recording can be used; the first: {failures[0].reason}"
        )
    config = {
        "preprocess": study.preprocess.model_dump(mode="json"),
        "windows": study.windows.model_dump(mode="json"),
        "source": source.model_dump(mode="json", exclude={"path"}),
        "sfreq_hz": sfreq_hz,
        "channels": usual,
    }
    place = cache_dir("signals") / key("preprocess", list(digests.values()), config=config)[:24]
    samples = materialise(parts, study.windows, path=place)
    advance(len(opened), len(opened), "")
    notes = dict.fromkeys(chosen) | dict.fromkeys(
        note for recording, plan in parts for note in (*recording.notes, *plan.notes)
    )
    left_out = sorted({name for _, recording in opened for name in recording.ch_names} - {*usual})
    references = sorted({plan.reference for _, plan in parts})
    facts = {
        "recordings": len(parts),
        "subjects": len({recording.subject for recording, _ in parts}),
        "hours": round(sum(recording.duration_s for recording, _ in parts) / 3600, 3),
        "windows": len(samples),
        "channels": len(usual),
        "reference": ", ".join(references),
        "filter_length_s": round(
            max(len(plan.filter.band_pass) / plan.filter.sfreq_hz for _, plan in parts), 3
        ),
        **({"channels_left_out": ", ".join(left_out)} if left_out else {}),
        "bad_channels": sum(len(plan.bads) for _, plan in parts),
        **_card(parts),
    }
    positions = tuple(
        tuple(None if value != value else float(value) for value in row)
        for row in parts[0][0].positions_m.tolist()
    )
    technical = frozenset(recording.name for recording, plan in parts if plan.bads)
    return Gathered(
        samples,
        digests,
        tuple(notes),
        tuple(failures),
        facts,
        positions,
        float(sfreq_hz),
        technical,
    )


def _opened(source: eeg.EegSource) -> tuple[list[tuple[eeg.Found, Recording]], list[Failure]]:
    """Recordings that can be opened, and why others cannot."""
    found = eeg.find([source.path], source.pattern, subject_pattern=source.subject_pattern)
    found = found[: source.limit]
    failures: list[Failure] = []
    opened: list[tuple[eeg.Found, Recording]] = []
    for item in found:
        try:
            opened.append((item, eeg.open_recording(item, source)))
        except InputError as error:
            failures.append(Failure(item.name, item.subject, str(error)))
        except Exception as error:
            failures.append(Failure(item.name, item.subject, unexpected(error, item.path)))
    if not opened:
        first = f"; the first: {failures[0].reason}" if failures else ""
        raise InputError(f"{source.path}: none of {len(found)} recordings can be used{first}")
    return opened, failures


@dataclass(frozen=True)
class _Task:
    """What is needed to look through one recording, here or in another process."""

    item: eeg.Found
    study: Study
    ch_names: tuple[str, ...]
    places: NDArray[np.float64] | None
    sfreq_hz: float


@one_thread()
def _planned(task: _Task, recording: Recording | None = None) -> Plan | str:
    """How a recording is cleaned, or why it cannot be used."""
    study, source = task.study, task.study.source
    assert isinstance(source, eeg.EegSource)
    assert study.preprocess is not None
    assert study.windows is not None
    try:
        recording = recording or eeg.open_recording(task.item, source)
        if source.different_channels == "refuse":
            _refuse_lacking(recording, task.ch_names)
        recording = with_channels(recording, task.ch_names, positions_m=task.places)
        plan = survey(
            recording, study.preprocess, line_freq_hz=source.line_freq_hz, sfreq_hz=task.sfreq_hz
        )
        count_windows(recording, plan, windowing=study.windows)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{task.item.path}: does not fit into memory"
    except Exception as error:
        return unexpected(error, task.item.path)
    return plan


def _card(parts: Sequence[tuple[Recording, Plan]]) -> dict[str, Any]:
    """What the recordings tell about the state they were made in, for later comparison."""
    amplitudes = [median_amplitude_uv(plan) for _, plan in parts]
    tasks = sorted({task for recording, _ in parts if (task := task_of(recording.name))})
    return {
        "amplitude_uv": [round(min(amplitudes), 2), round(max(amplitudes), 2)],
        "channel_amplitude_uv": [
            round(float(a), 3) for a in np.median([plan.amplitude_uv for _, plan in parts], axis=0)
        ],
        "recorded_at_hz": sorted({recording.sfreq_hz for recording, _ in parts}),
        "tasks": tasks,
        **_people([recording for recording, _ in parts]),
    }


def _people(recordings: Sequence[Recording]) -> dict[str, Any]:
    """Ages and sexes of the people, references and amplifiers, where sidecars state them."""
    by_person = {recording.subject: recording.state for recording in recordings}
    ages = [float(state["age"]) for state in by_person.values() if "age" in state]
    sexes = Counter(state["sex"] for state in by_person.values() if "sex" in state)
    found: dict[str, Any] = {}
    if ages:
        found["age_years"] = [min(ages), max(ages)]
    if sexes:
        found["sex"] = {name: sexes[name] for name in sorted(sexes)}
    for name in ("reference", "amplifier"):
        stated = sorted({r.state[name] for r in recordings if name in r.state})
        if stated:
            found[f"{name}_as_recorded" if name == "reference" else name] = stated
    return found


def _channels(
    recordings: Sequence[Recording], source: eeg.EegSource
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The channels a study works with, and what is said about their choice."""
    usual = Counter(recording.ch_names for recording in recordings).most_common(1)[0][0]
    if source.different_channels != "intersection":
        return usual, ()
    common = set.intersection(*(_modern(recording.ch_names) for recording in recordings))
    kept = tuple(name for name in usual if SAME_PLACE.get(name, name) in common)
    if not kept:
        raise InputError(
            f"{source.path}: no channel is in all {len(recordings)} recordings; set "
            "source.different_channels to refuse or interpolate, or name recordings of one montage"
        )
    dropped = [name for name in usual if name not in kept]
    note = (
        f"{len(kept)} channels are in all {len(recordings)} recordings and are used; not in all: "
        f"{', '.join(dropped[:10])}{' ...' if len(dropped) > 10 else ''}"
    )
    return kept, (note,) if dropped else ()


def _refuse_lacking(recording: Recording, usual: tuple[str, ...]) -> None:
    lacking = [n for n in usual if SAME_PLACE.get(n, n) not in _modern(recording.ch_names)]
    if lacking:
        raise InputError(
            f"recording {recording.name!r} lacks {', '.join(lacking[:5])}"
            f"{' ...' if len(lacking) > 5 else ''}, which most recordings have; put them under "
            "source.exclude, set source.different_channels to intersection or interpolate, or drop "
            "the file"
        )


def _modern(names: Sequence[str]) -> set[str]:
    return {SAME_PLACE.get(name, name) for name in names}


# ------------------------------------------------------------------------------ scoring


def find_recordings(source: eeg.EegSource, inputs: Sequence[str]) -> Iterator[Input | Failure]:
    """Turn what a user named into recordings, in a fixed order."""
    usable: list[str] = []
    for given in inputs:  # each by itself first, so that one wrong path does not hide the others
        try:
            eeg.find([given], source.pattern, subject_pattern=source.subject_pattern)
            usable.append(given)
        except InputError as error:
            yield Failure(Path(given).name, "", str(error))
    if usable:
        for item in eeg.find(usable, source.pattern, subject_pattern=source.subject_pattern):
            yield Input(item.name, item.subject, item.path, (), item)
