"""EEG recordings on disk -> :class:`~ae_pipeline.data.Recording`.

Conventions: microvolts, float32, converted once, here; times are seconds from the recording's
start; positions are metres in MNE's head frame. Files are only ever read.

:func:`find` turns what a user names (file, folder, glob, BIDS root) into :class:`Found` entries
with a name and a subject each; :func:`open_recording` opens one of them lazily;
:func:`describe` looks at many headers for ``init``. EDF and BDF are read here, record by record,
which is fast, bounded in memory and honours gaps (EDF+D), mixed rates and Latin-1 annotations;
every other format, epochs among them, goes through MNE. What BIDS sidecars say is laid over what
the file says. Subject headers are never looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from ae_pipeline.data import InputError, Recording
from ae_pipeline.kind import Source
from ae_pipeline.sources.bids import Sidecars, bids_root, read_sidecars
from ae_pipeline.sources.channels import (
    harmonise,
    is_bipolar,
    positions_of,
)
from ae_pipeline.sources.choice import choose
from ae_pipeline.sources.finding import Found, bids_subject, find, guess_subject_pattern
from ae_pipeline.sources.formats.content import Content, check_bounds, scale_of
from ae_pipeline.sources.formats.edf import read_edf
from ae_pipeline.sources.formats.mne_files import read_mne
from ae_pipeline.sources.mains import line_seen_hz
from ae_pipeline.sources.segments import (
    BOUNDARY,
    dead_ends,
    segments_of,
    which_end,
    within,
    without,
)
from ae_pipeline.sources.triggers import renamed_events, trigger_events
from ae_pipeline.sources.units import PLAUSIBLE_UV, in_units, with_stated_units
from ae_pipeline.stats import robust_sd

__all__ = [
    "Description",
    "EegSource",
    "Found",
    "describe",
    "find",
    "guess_subject_pattern",
    "harmonise",
    "is_bipolar",
    "open_recording",
]

Float = NDArray[np.float32]

LOOK_S, PADDING_S = 1.0, 0.1
"""How much is read at once to look for padding, and from what length on it is some."""

CHECKED_SHARE = 0.05
"""Share of a recording that is read when it is opened, to check its amplitudes; at most 24 s."""

# ------------------------------------------------------------------------------- config


ChannelType = Literal["eeg", "eog", "ecg", "emg", "trigger", "reference", "misc"]


class EegSource(Source):
    """Where recordings are and which of their channels are used."""

    not_kept: ClassVar[frozenset[str]] = frozenset({"path", "limit"})
    kind: Literal["eeg"] = "eeg"
    path: Path
    """A recording, a folder of recordings, a glob or a BIDS root; relative to this file."""
    pattern: str = "**/*"
    """Which files in the folder, as a glob: "**/*.edf" takes EDF files at any depth."""
    subject_pattern: str | None = None
    """Regular expression with one group (or a group named subject) that finds the subject in the
    file's name; null uses BIDS names, else a guess, else the folder, else the file's name.
    Recordings of one subject are never split between training and test."""
    pick: Literal["eeg"] | tuple[str, ...] = "eeg"
    """eeg takes every channel that is EEG; a list of names takes just those, in its order."""
    exclude: tuple[str, ...] = ()
    """Channels to leave out: references (A1, M1), anything that is not scalp EEG."""
    line_freq_hz: PositiveFloat | None = 50.0
    """Mains frequency where the recordings were made (Hz): 50 in most of the world, 60 in the
    Americas; null where there is none. What a BIDS sidecar states goes before."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Names of channels in the files -> names used instead: {"1": Fz, "2": Cz}. Outputs that go
    back onto a file keep the file's names."""
    types: dict[str, ChannelType] = Field(default_factory=dict)
    """What channels are where their names mislead: names or patterns -> eeg, eog, ecg, emg,
    trigger, reference or misc: {"X*": misc, E1: eeg}."""
    eog: tuple[str, ...] = ()
    """Eye channels, by names or patterns: [HEO, "VE*"]. They are not scored, and correct eye
    movements where preprocess.ocular asks for it."""
    units: str | dict[str, str] = Field(default_factory=dict)
    """Unit of the numbers in the files where the header's is wrong: uV, mV, V or nV for all
    channels, or by names and patterns: {"E*": mV}."""
    events: dict[str, str] = Field(default_factory=dict)
    """Trigger codes or descriptions in the files -> names for windows.at and reports, patterns
    included: {"S  1": eyes open, "Stimulus/S 2*": target}."""
    montage: str | None = None
    """Where the electrodes are, if names or files do not say: a montage that MNE knows
    (biosemi128, GSN-HydroCel-128, ...) or a file of positions (.sfp, .elc, .loc, .bvef)."""
    different_channels: Literal["refuse", "intersection", "interpolate"] = "refuse"
    """Where recordings differ in channels: refuse those that lack some of what most have; train on
    the intersection, what all of them have; or interpolate up to a quarter of missing ones."""
    limit: PositiveInt | None = None
    """Use only the first so many recordings, to try things out."""

    @field_validator("rename", "types", "units", "events", mode="before")
    @classmethod
    def _codes_are_names(cls, value: Any) -> Any:
        """YAML reads the code 1 as a number."""
        if not isinstance(value, dict):
            return value
        texts = (int, str)
        return {
            str(key): str(name) if isinstance(name, texts) else name for key, name in value.items()
        }

    @field_validator("units")
    @classmethod
    def _known(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for unit in [value] if isinstance(value, str) else value.values():
            if scale_of(unit) is None:
                raise ValueError(f"{unit!r} is no unit of voltage; use uV, mV, V or nV")
        return value

    @field_validator("subject_pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression ({error})") from None
            if groups.groups != 1 and "subject" not in groups.groupindex:
                raise ValueError(
                    f"{value!r} needs exactly one group in parentheses, the subject, as in "
                    r"'^(S\d+)'; or one named (?P<subject>...)"
                )
        return value


# ------------------------------------------------------------------------------ opening


def open_recording(found: Found, source: EegSource) -> Recording:
    """Open a recording; the signal is read when asked for.

    Parameters
    ----------
    found : Found
    source : EegSource
        ``pick`` and ``exclude`` are used; names count in the file's spelling and in ours.

    Returns
    -------
    Recording

    Raises
    ------
    InputError
        Not readable, truncated, no EEG channels, no signal, all flat, no numbers, or amplitudes
        that no scalp EEG has (a unit off by a factor).
    """
    return _recording(found, source, content=_content(found.path))


def _recording(found: Found, source: EegSource, *, content: Content) -> Recording:
    if source.units:
        content = in_units(content, source.units)
    chosen = choose(content, source, path=found.path)
    rows = list(chosen.rows)
    sfreq_hz = content.rates_hz[rows[0]]
    signal = content.signal(rows)
    if signal.n_times < 1:
        raise InputError(f"{found.path.name}: holds no samples; drop the file")
    check_bounds(found.path.name, [sfreq_hz], signal.n_times / sfreq_hz)
    triggered, told = trigger_events(content, chosen.triggers)
    annotations = within(
        renamed_events((*content.annotations, *triggered), source.events),
        signal.n_times / sfreq_hz,
    )
    notes = [*content.notes, *([found.note] if found.note else []), *told]
    if chosen.left_out:
        listed = ", ".join(f"{name} ({why})" for name, why in chosen.left_out.items())
        notes.append(f"left out as not EEG: {listed}")
    if chosen.other_rate:
        notes.append(
            f"left out because most channels are sampled at {sfreq_hz:g} Hz: "
            f"{', '.join(chosen.other_rate)}"
        )
    renamed = sum(
        content.names[row] != label for row, label in zip(rows, chosen.labels, strict=True)
    )
    if renamed:
        notes.append(f"names of {renamed} channels brought into 10-20 spelling")
    positions = positions_of(chosen.labels, content.positions_m[rows], montage=source.montage)
    unknown = int((~np.isfinite(positions).all(axis=1)).sum())
    if unknown and not is_bipolar(chosen.labels):
        notes.append(
            f"positions not known for {unknown} of {len(rows)} channels: no scalp maps and no "
            "interpolation there; name the cap in source.montage"
        )
    segments = segments_of(
        signal.n_times, sfreq_hz, annotations=annotations, gaps=signal.gaps, between=signal.cuts
    )
    if not segments:
        raise InputError(f"{found.path.name}: is one gap from beginning to end; drop the file")
    padding = () if content.epoched else dead_ends(signal.reader, signal.n_times, sfreq_hz=sfreq_hz)
    if padding:
        lengths = " and ".join(f"{(stop - start) / sfreq_hz:.2g} s" for start, stop in padding)
        notes.append(
            f"no channel moves for {lengths} {which_end(padding, signal.n_times)}: padding, not "
            "part of the recording"
        )
        segments = without(segments, padding)
    recording = Recording(
        name=found.name,
        subject=found.subject,
        session=found.session,
        path=found.path,
        files=content.files,
        ch_names=chosen.labels,
        positions_m=positions,
        sfreq_hz=sfreq_hz,
        n_times=signal.n_times,
        annotations=annotations,
        reader=signal.reader,
        segments=segments,
        notes=tuple(notes),
        bads=tuple(
            label
            for row, label in zip(rows, chosen.labels, strict=True)
            if content.names[row] in content.bads
        ),
        bipolar=is_bipolar(chosen.labels),
        file_names=tuple(content.names[row] for row in rows),
        epoched=content.epoched,
        whole_numbers=content.whole_numbers,
        line_freq_hz=content.line_freq_hz,
        state=content.state,
        padding_s=tuple((start / sfreq_hz, stop / sfreq_hz) for start, stop in padding),
        eog=tuple(content.names[row] for row in chosen.eog),
        eog_reader=content.signal(list(chosen.eog)).reader if chosen.eog else None,
        gaps=signal.gaps,
        orig_time=content.orig_time,
        first_time_s=content.first_time_s,
    )
    _check_amplitude(recording)
    return recording


def _content(path: Path) -> Content:
    """Open by what the file is and lay sidecars over it; whatever goes wrong is one line."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name}: is empty (0 bytes); copy it again or drop it")
    try:
        is_edf = path.suffix.lower() in (".edf", ".bdf")
        content = read_edf(path) if is_edf else read_mne(path)
        beside = None
        if bids_root(path) is not None:
            sfreq_hz = max(content.rates_hz)
            n_times = content.signal([content.rates_hz.index(sfreq_hz)]).n_times
            beside = read_sidecars(path, sfreq_hz=sfreq_hz, duration_s=n_times / sfreq_hz)
    except PermissionError:
        raise InputError(f"{path.name}: may not be read; check the file's permissions") from None
    return content if beside is None else _with_sidecars(content, beside)


SIDECAR_KINDS = {"EEG": "eeg", "VEOG": "EOG", "HEOG": "EOG", "TRIG": "trigger", "": "", "N/A": ""}
"""Types of ``channels.tsv`` in our words; others are kept as they are. Empty: not said."""


def _with_sidecars(content: Content, beside: Sidecars) -> Content:
    """What the data set says goes before what the file says."""
    kinds = {
        name: SIDECAR_KINDS.get(kind, kind if kind in ("EOG", "ECG", "EMG") else kind.lower())
        for name, kind in beside.kinds.items()
    }
    types = tuple(
        kinds.get(name) or kind if kind in ("eeg", "eog", "ecg", "emg", "misc", "bio") else kind
        for name, kind in zip(content.names, content.types, strict=True)
    )
    positions = content.positions_m.copy()
    for row, name in enumerate(content.names):
        if name in beside.places_m:
            positions[row] = beside.places_m[name]
    annotations = content.annotations
    if beside.annotations is not None:
        own = [a for a in annotations if BOUNDARY.match(a.description) or _is_bad(a.description)]
        told = {(round(a.onset_s, 3), a.description) for a in beside.annotations}
        own = [a for a in own if (round(a.onset_s, 3), a.description) not in told]
        annotations = (*beside.annotations, *own)
    content = with_stated_units(replace(content, types=types), beside.units)
    unknown = [name for name in beside.kinds if name not in content.names]
    notes = list(content.notes) + list(beside.notes)
    if unknown:
        notes.append(f"channels.tsv names {len(unknown)} channels that the file does not have")
    return replace(
        content,
        positions_m=positions,
        annotations=annotations,
        # the data set lists its events, under better names
        codes=None if beside.annotations is not None else content.codes,
        files=(*content.files, *beside.files),
        bads=tuple(dict.fromkeys((*content.bads, *beside.bads))),
        notes=tuple(notes),
        line_freq_hz=beside.line_freq_hz or content.line_freq_hz,
        state=beside.state,
    )


def _is_bad(description: str) -> bool:
    return description.upper().startswith("BAD")


def _check_amplitude(recording: Recording) -> None:
    """Look at up to twelve places: numbers at all, not flat, and microvolts."""
    share_s = CHECKED_SHARE * recording.duration_s
    n_spots = int(np.clip(share_s / 0.5, 2, 12))
    n = max(2, round(float(np.clip(share_s / n_spots, 0.5, 2)) * recording.sfreq_hz))
    longest = sorted(recording.segments, key=lambda ab: ab[0] - ab[1])[:n_spots]
    spots = []
    for first, last in longest:
        count = 1 + (n_spots - 1) // len(longest)
        for start in np.linspace(first, max(first, last - n), count).astype(int):
            spots.append(recording.read(int(start), int(min(start + n, last))))
    where = recording.path.name
    if not any(np.isfinite(spot).all(axis=1).any() for spot in spots):
        raise InputError(
            f"{where}: holds no numbers (NaN or infinite) in any channel wherever looked; "
            "export it again or drop it"
        )
    with np.errstate(invalid="ignore"):
        ranges = np.nanmax([np.ptp(np.nan_to_num(spot), axis=1) for spot in spots], axis=0)
        deviations = [robust_sd(np.nan_to_num(spot).astype(np.float64), 1) for spot in spots]
    if not (ranges > 0).any():
        raise InputError(
            f"{where}: all {len(ranges)} channels are flat (one constant value) wherever looked; "
            "nothing was connected or the export failed; drop the file"
        )
    per_channel = np.median(deviations, axis=0)
    typical_uv = float(np.median(per_channel[ranges > 0]))
    if typical_uv == 0:  # coarse steps: more than half of the samples are one value
        typical_uv = float(np.median(ranges[ranges > 0])) / 4
    if PLAUSIBLE_UV[0] <= typical_uv <= PLAUSIBLE_UV[1]:
        return
    factors = {
        1e-6: "microvolts declared as volts",
        1e-3: "microvolts declared as millivolts",
        1e6: "volts declared as microvolts",
        1e3: "millivolts declared as microvolts",
    }
    near = [text for factor, text in factors.items() if 1 <= typical_uv * factor <= 500]
    meant = f"; they look like {near[0]}" if near else ""
    raise InputError(
        f"{where}: values deviate by {typical_uv:.3g} µV (median over channels), scalp EEG by "
        f"{PLAUSIBLE_UV[0]:g} to {PLAUSIBLE_UV[1]:g}{meant}; correct the unit in the file's "
        "header or export it again"
    )


# --------------------------------------------------------------------------- describing


@dataclass(frozen=True)
class Description:
    """What many recordings have in common; what ``init`` writes a study from.

    Parameters
    ----------
    n_recordings, n_subjects : int
        Of those that could be opened.
    sfreq_hz : float
        The lowest sampling rate.
    ch_names : tuple of str
        Channels that every recording has, in the first one's order.
    partial : tuple of str
        Channels that some have and others lack.
    exclude : tuple of str
        References and channels that are not EEG, as the files spell them.
    subject_pattern : str or None
        The guess that finds the subjects, where the names follow one.
    segment_s : float
        Nine tenths of each recording lie in uninterrupted stretches at least this long.
    bipolar : bool
    epoched : bool
        Every file holds epochs.
    line_freq_hz : float or None
        Mains frequency, where the files or their sidecars state one, else as seen.
    line_is_seen : bool
        It stands in the spectrum only.
    failed : tuple of (str, str)
        File name and reason of those that could not be opened.
    """

    n_recordings: int
    n_subjects: int
    sfreq_hz: float
    ch_names: tuple[str, ...]
    partial: tuple[str, ...]
    exclude: tuple[str, ...]
    subject_pattern: str | None
    segment_s: float
    bipolar: bool
    epoched: bool
    line_freq_hz: float | None
    line_is_seen: bool
    failed: tuple[tuple[str, str], ...]


def describe(found: Sequence[Found]) -> Description:
    """Look at the headers (and a few stretches of signal) of recordings.

    Parameters
    ----------
    found : sequence of Found

    Returns
    -------
    Description

    Raises
    ------
    InputError
        None could be opened; the first reason is given.
    """
    recordings: list[Recording] = []
    exclude: dict[str, None] = {}
    failed = []
    source = EegSource(path=Path())
    for one in found:
        try:
            content = _content(one.path)
            chosen = choose(content, source, path=one.path)
            aside = (*chosen.left_out, *chosen.references)
            kept = source.model_copy(update={"exclude": aside})
            recordings.append(_recording(one, kept, content=content))
        except InputError as error:
            failed.append((one.path.name, str(error)))
            continue
        exclude |= dict.fromkeys(aside)
    if not recordings:
        reason = f"; the first: {failed[0][1]}" if failed else ""
        raise InputError(f"none of {len(found)} files is a usable EEG recording{reason}")
    shared = set.intersection(*(set(r.ch_names) for r in recordings))
    some = {name: None for r in recordings for name in r.ch_names if name not in shared}
    others = [one.path for one in found if not bids_subject(one.path, one.root)]
    stated_hz = Counter(r.line_freq_hz for r in recordings).most_common(1)[0][0]
    seen_hz = None if stated_hz else line_seen_hz(recordings)
    return Description(
        n_recordings=len(recordings),
        n_subjects=len({r.subject for r in recordings}),
        sfreq_hz=min(r.sfreq_hz for r in recordings),
        ch_names=tuple(name for name in recordings[0].ch_names if name in shared),
        partial=tuple(some),
        exclude=tuple(exclude),
        subject_pattern=guess_subject_pattern(others),
        segment_s=min(_usual_stretch_s(r) for r in recordings),
        bipolar=any(r.bipolar for r in recordings),
        epoched=all(r.epoched for r in recordings),
        line_freq_hz=stated_hz or seen_hz,
        line_is_seen=seen_hz is not None,
        failed=tuple(failed),
    )


def _usual_stretch_s(recording: Recording) -> float:
    """Length such that nine tenths of the signal lie in segments at least as long."""
    lengths = np.sort([b - a for a, b in recording.segments])[::-1]
    covered = np.cumsum(lengths) / lengths.sum()
    return float(lengths[np.searchsorted(covered, 0.9)] / recording.sfreq_hz)
