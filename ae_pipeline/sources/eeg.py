"""EEG recordings on disk -> :class:`~ae_pipeline.data.Recording`.

Conventions: microvolts, float32, converted once, here; times are seconds from the recording's
start; positions are metres in MNE's head frame. Files are only ever read.

:func:`find` turns what a user names (file, folder, glob, BIDS root) into :class:`Found` entries
with a name and a subject each; :func:`open_recording` opens one of them lazily;
:func:`describe` looks at many headers for ``init``. EDF and BDF are read here, record by record,
which is fast, bounded in memory and honours gaps (EDF+D), mixed rates and Latin-1 annotations;
every other format goes through ``mne.io.read_raw``. Subject headers are never looked at.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, field_validator

from ae_pipeline.config import Config
from ae_pipeline.data import Annotation, InputError, Recording

if TYPE_CHECKING:
    import mne

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
Reader = Callable[[int, int], Float]

ENDINGS = (
    *(".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".fif", ".fif.gz"),
    *(".cnt", ".mff", ".nedf", ".cdt", ".lay"),
)
"""File endings taken for EEG when a folder is searched; a file named by itself is always tried."""

MEMBERS = {".fdt": ".set", ".eeg": ".vhdr", ".vmrk": ".vhdr", ".avg": ".vhdr", ".dat": ".vhdr"}
"""Parts of a recording -> the file that speaks for it, where that stands beside."""

NOT_RAW = re.compile(
    r"[-_](epo|ave|evoked|annot|cov|ica|fwd|inv|trans|src|bem|bem-sol|proj|eve|stc|tfr|psd|csd|"
    r"dig|head|layout)\.fif(\.gz)?$",
    re.IGNORECASE,
)
"""FIF files that hold no recording."""

LATER_PART = re.compile(r"(?P<whole>.+)-\d+(?P<end>\.fif(\.gz)?)$|(?P<split>.+_split-)0*[2-9]\d*_")
"""Parts of a split FIF file after the first, which names them."""

PLAUSIBLE_UV = (0.05, 5000.0)
"""Robust deviation of scalp EEG lies within this, whatever the amplifier."""


# ------------------------------------------------------------------------------- config


class EegSource(Config):
    """Where recordings are and which of their channels are used."""

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
    Americas; null where there is none."""
    limit: PositiveInt | None = None
    """Use only the first so many recordings, to try things out."""

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


# ------------------------------------------------------------------------------ finding


@dataclass(frozen=True)
class Found:
    """A recording that was found, not opened yet.

    Parameters
    ----------
    path : Path
    root : Path
        The folder that ``name`` is relative to.
    name : str
        BIDS entity string, else the path below ``root`` with ``/`` as ``__`` and no extension;
        safe as the beginning of a file name and unique among what was found with it.
    subject, session : str
    note : str
        Something the user should know about how the subject was found.
    """

    path: Path
    root: Path
    name: str
    subject: str
    session: str = ""
    note: str = ""


def find(
    inputs: Sequence[Path | str], pattern: str = "**/*", subject_pattern: str | None = None
) -> list[Found]:
    """Find the recordings that inputs stand for.

    Parameters
    ----------
    inputs : sequence of Path or str
        Files, folders, globs, BIDS roots. In folders only known EEG endings count; hidden files,
        ``derivatives`` and parts of recordings (``.fdt``, ``.eeg``, ``.vmrk``) do not.
    pattern : str
        Glob that limits what is taken from a folder.
    subject_pattern : str, optional
        Regular expression whose group is the subject, searched in the file's name, then in its
        path below the root.

    Returns
    -------
    list of Found
        Inputs in the given order, files of each sorted by path, none twice.

    Raises
    ------
    InputError
        An input that does not exist or holds no recording.
    """
    roots: dict[Path, Path] = {}
    for entry in inputs:
        for path, root in _expand(entry, pattern):
            roots.setdefault(path, root)
    by_root: dict[Path, list[Path]] = {}
    for path, root in roots.items():
        by_root.setdefault(root, []).append(path)
    stems = Counter(stem for paths in by_root.values() for stem in {_stem(path) for path in paths})
    subjects: dict[Path, tuple[str, str, str]] = {}
    for root, paths in by_root.items():
        # rest.edf of one folder and rest.edf of another: it is the folders that differ
        clash = any(stems[_stem(path)] > 1 for path in paths)
        fallback = root.name if clash else ""
        subjects |= _subjects(paths, root, subject_pattern, fallback)
    names = _names(roots)
    return [Found(path, root, names[path], *subjects[path]) for path, root in roots.items()]


def _expand(entry: Path | str, pattern: str) -> list[tuple[Path, Path]]:
    """The files one input stands for, each with its root."""
    place = Path(os.path.abspath(Path(entry).expanduser()))
    if not place.exists():
        if not glob.has_magic(str(entry)):
            raise InputError(f"{entry}: no such file or folder; check the path")
        root = Path(*_before_magic(place.parts))
        hits = [Path(hit) for hit in sorted(glob.glob(str(place), recursive=True))]
        single = [hit for hit in hits if _is_recording(hit)]
        if not single:
            raise InputError(
                f"{entry}: no EEG recording matches ({len(hits)} other files or folders do); "
                "check the pattern"
            )
        return [(path, root) for path in single]
    if place.is_file() or place.suffix.lower() == ".mff":
        header = _header_of(place)
        return [(header, header.parent)]
    paths = sorted(
        path
        for path in place.glob(pattern)
        if _is_recording(path) and not _is_aside(path.relative_to(place), place)
    )
    if (place / "dataset_description.json").is_file():
        bids = [path for path in paths if _stem(path).endswith("_eeg")]
        paths = bids or paths
    if not paths:
        raise InputError(
            f"{entry}: no EEG recording in this folder (pattern {pattern!r}, endings "
            f"{' '.join(ENDINGS)}); check the folder, source.pattern or name the file itself"
        )
    return [(path, place) for path in paths]


def _before_magic(parts: Iterable[str]) -> Iterable[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _header_of(path: Path) -> Path:
    """The file that speaks for a member file (``x.fdt`` -> ``x.set``), else the file itself."""
    ending = MEMBERS.get(path.suffix.lower())
    if ending is not None:
        for header in (path.with_suffix(ending), path.with_suffix(ending.upper())):
            if header.is_file():
                return header
    return path


def _is_recording(path: Path) -> bool:
    if path.name.startswith(".") or NOT_RAW.search(path.name):
        return False
    part = LATER_PART.match(path.name)
    if part and part["split"] and any(path.parent.glob(f"{glob.escape(part['split'])}*1_*")):
        return False
    if part and part["whole"] and path.with_name(part["whole"] + part["end"]).exists():
        return False
    is_folder = path.suffix.lower() == ".mff"
    return path.name.lower().endswith(ENDINGS) and (path.is_dir() if is_folder else path.is_file())


def _is_aside(relative: Path, root: Path) -> bool:
    """Hidden, derived, or the untouched originals of a BIDS data set."""
    aside = {"derivatives"}
    if (root / "dataset_description.json").is_file():
        aside |= {"sourcedata", "code", "stimuli"}
    folders = relative.parts[:-1]
    return any(part.startswith(".") or part.lower() in aside for part in folders)


# ---------------------------------------------------------------------- names, subjects


def _stem(path: Path) -> str:
    """File name without its (known, possibly double) ending."""
    for ending in (".fif.gz", *ENDINGS):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def _bids(stem: str) -> dict[str, str]:
    """BIDS entities of a file's stem; empty where it is no BIDS name."""
    parts = stem.removesuffix("_eeg").split("_")
    pairs = [part.partition("-") for part in parts]
    if pairs[0][0] != "sub" or not all(re.fullmatch(r"[A-Za-z0-9+]+", v) for _, _, v in pairs):
        return {}
    return {key: value for key, _, value in pairs}


def _names(roots: dict[Path, Path]) -> dict[Path, str]:
    """A unique, safe name for each path."""
    names = {}
    for path, root in roots.items():
        stem = _stem(path)
        if _bids(stem):
            names[path] = _safe(stem.removesuffix("_eeg"))
        else:
            names[path] = _safe("__".join([*path.relative_to(root).parts[:-1], stem]))
    for path in _colliding(names):
        names[path] = _safe(f"{path.parent.name}__{names[path]}")
    together = Counter((path.parent, names[path]) for path in _colliding(names))
    for path in _colliding(names):
        if together[path.parent, names[path]] > 1:  # x.edf beside x.bdf
            names[path] = _safe(f"{names[path]}_{path.suffix.lstrip('.').lower()}")
    for path in _colliding(names):
        names[path] = _safe(f"{path.parent.parent.name}__{names[path]}")
    for number, path in enumerate(_colliding(names), start=1):
        names[path] = f"{names[path]}_{number}"
    return names


def _colliding(names: dict[Path, str]) -> list[Path]:
    """Paths whose name another has too (file systems may ignore case)."""
    counts = Counter(name.casefold() for name in names.values())
    return [path for path, name in names.items() if counts[name.casefold()] > 1]


def _safe(name: str) -> str:
    """``name`` as it can begin a file name anywhere, without a way out of the folder."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", name).lstrip(". ").rstrip(" ")
    if len(name) > 160:
        import hashlib

        name = f"{name[:150]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or "recording"


SUBJECT_GUESSES = (r"^([A-Za-z]+[-_ ]?\d+)", r"^(\d+)(?=[-_ ])")
"""``Subject00_1`` -> Subject00, ``S001R01`` -> S001, ``0012_rest`` -> 0012."""

NOT_A_SUBJECT = re.compile(
    r"(rest|run|task|eeg|rec|recording|record|trial|session|ses|block|part|test|train|data|file|"
    r"night|day|visit|epoch|eo|ec|raw|edf|bdf|sample|scan|exp|experiment|segment|seg)[-_ ]?\d*",
    re.IGNORECASE,
)


def _subjects(
    paths: list[Path], root: Path, pattern: str | None, fallback: str
) -> dict[Path, tuple[str, str, str]]:
    """(subject, session, note) of each path below one root; last resort ``fallback`` or stem."""
    others = [path for path in paths if not _bids_subject(path, root)]
    guess = guess_subject_pattern(others)
    folders = _folders(others)
    found = {}
    for path in paths:
        stem, note = _stem(path), ""
        session = _bids(stem).get("ses", "")
        relative = path.relative_to(root).with_name(stem).as_posix()
        match = None
        if pattern is not None:
            match = re.search(pattern, stem) or re.search(pattern, relative)
            if match is None:
                note = "source.subject_pattern does not match the file's name; subject guessed"
        if match is not None:
            named = "subject" in match.re.groupindex
            subject = match["subject"] if named else match[1]
        elif path not in others:
            subject = _bids_subject(path, root)
        elif guess is not None:
            subject = re.search(guess, stem)[1]  # type: ignore[index]
        else:
            subject = folders.get(path, fallback or stem)
        found[path] = (subject or stem, session, note)
    return found


def _bids_subject(path: Path, root: Path) -> str:
    """Value of ``sub-``, from the name, else from a folder below the root; empty without."""
    for part in (_stem(path), *reversed(path.relative_to(root).parts[:-1])):
        match = re.match(r"sub-([A-Za-z0-9+]+)(?:_|$)", part)
        if match:
            return match[1]
    return ""


def _folders(paths: list[Path]) -> dict[Path, str]:
    """The folder that tells subjects apart: the first below what all share; empty if only one."""
    if not paths:
        return {}
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    below = {path: path.parent.relative_to(shared).parts[:1] for path in paths}
    return {path: parts[0] for path, parts in below.items() if parts}


def guess_subject_pattern(paths: list[Path]) -> str | None:
    """A pattern that finds a subject in the name of each file; None where none is credible.

    Where files lie in several folders, a guess must not tear a folder into single files nor find
    the same subject in two folders: then the folders are the better guess.
    """
    folders = _folders(paths)
    for pattern in SUBJECT_GUESSES:
        matches = [re.search(pattern, _stem(path)) for path in paths]
        subjects = [match[1] for match in matches if match]
        if not paths or len(subjects) < len(paths):
            continue
        if any(NOT_A_SUBJECT.fullmatch(subject) for subject in subjects):
            continue
        if len(set(folders.values())) > 1:
            places: dict[str, set[str]] = {}
            for path, subject in zip(paths, subjects, strict=True):
                places.setdefault(subject, set()).add(folders.get(path, ""))
            torn = len(set(subjects)) == len(paths) > len(set(folders.values()))
            if torn or any(len(where) > 1 for where in places.values()):
                continue
        return pattern
    return None


# ----------------------------------------------------------------------------- channels

NOT_EEG = {
    "ECG": r"E[CK]G",
    "EOG": r"EOG|^[LR]OC\b|^E[12]-[AM][12]$",
    "EMG": r"EMG|CHIN|^LEG|TIBIAL",
    "trigger": r"^STI\b|^STI ?\d|STATUS|TRIG|STIM|MARKER|EVENT|ANNOTATION|^DIN ?\d|PHOTIC",
    "respiration": r"RESP|THORA|ABDO|FLOW|SNOR|NASAL|BREATH|EFFORT",
    "pulse or oxygen": r"S[PA]O2|OSAT|PULSE|PLETH|PPG|^HR$|HEART",
    "skin": r"GSR|\bEDA\b|SKIN",
    "movement": r"\bACC|ACCEL|GYRO|ERGO|POSITION",
    "auxiliary": r"AUX|^EXG ?\d|MISC|^DC ?\d+|^BIP ?\d|BATT|COUNTER|TEMP|LIGHT|SOUND|AUDIO",
    "reference or ground": r"^(REF|GND|GROUND|CMS|DRL|REREF)$",
}
"""What a name gives away (upper case, after the prefix); known electrode names come first."""

REFERENCES = {"A1", "A2", "M1", "M2"}

BOUNDARY = re.compile(r"(bad[ _]?)?(edge[ _]?)?boundary|edge$|new segment", re.IGNORECASE)
"""MNE's ``BAD boundary`` and ``EDGE boundary``, EEGLAB's ``boundary``, BrainVision's segments."""


@lru_cache(maxsize=1)
def _electrodes() -> dict[str, tuple[float, float, float]]:
    """Names of the 10-05 system with positions in the head frame (MNE's standard montage)."""
    import mne

    known = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in known else "standard_1005"
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 1000.0, "eeg", verbose="ERROR")
    info.set_montage(montage, verbose="ERROR")
    places = {}
    for channel in info["chs"]:
        x, y, z = (float(v) for v in channel["loc"][:3])
        places[channel["ch_name"]] = (x, y, z)
    return places


@lru_cache(maxsize=1)
def _spelling() -> dict[str, str]:
    return {name.casefold(): name for name in _electrodes()}


def harmonise(name: str) -> str:
    """A channel's name as the 10-05 system spells it, as far as it is one.

    ``EEG FP1-REF`` -> Fp1, ``Fc5.`` -> FC5, ``CZ-A2`` -> Cz-A2; other names lose only prefix,
    reference suffix and dots.
    """
    bare = re.sub(r"^EEG[ _-]+", "", name.strip(), flags=re.IGNORECASE).rstrip(". ")
    bare = re.sub(
        r"[-_ ](REF|LER?|AVG?|AVE|CAR|AR|A1A2|A1\+A2|M1M2|M1\+M2)$", "", bare, flags=re.IGNORECASE
    )
    spelling = _spelling()
    parts = [spelling.get(part.casefold(), part) for part in bare.split("-")]
    return "-".join(parts) or name


def is_bipolar(ch_names: Sequence[str]) -> bool:
    """True where most channels are differences of electrodes without one common reference.

    One such channel (``A2-A1``) makes no montage bipolar, nor does a reference that every name
    repeats (``C3-A1``, ``C4-A1``, ...).
    """
    seconds = []
    for name in ch_names:
        first, _, second = harmonise(name).partition("-")
        if first in _electrodes() and second in _electrodes():
            seconds.append(second)
    return len(seconds) > len(ch_names) / 2 and (len(set(seconds)) > 1 or len(seconds) == 1)


def _is_lettered(names: Sequence[str]) -> bool:
    """BioSemi's own labels A1, A2, A3, ... B1, ...; A1 is no ear lobe and C3 not C3 there."""
    return {"A1", "A3"} <= set(names)


def _not_eeg(label: str, names: Sequence[str]) -> str:
    """What a channel is if its name says that it is no scalp electrode; else empty."""
    if label in _electrodes() or (_is_lettered(names) and re.fullmatch(r"[A-Z]\d+", label)):
        return ""
    first, _, second = label.partition("-")
    if first in REFERENCES and second in REFERENCES:
        return "difference of references"
    for kind, pattern in NOT_EEG.items():
        if re.search(pattern, label.upper()):
            return kind
    return ""


def _positions(labels: Sequence[str], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """The file's own positions, else the standard ones by name, NaN where neither is known."""
    own = np.where(np.any(own != 0, axis=1, keepdims=True), own, np.nan)
    if np.isfinite(own).all(axis=1).any():
        return own
    unknown = (math.nan,) * 3
    if _is_lettered(labels):
        return np.full((len(labels), 3), math.nan)
    return np.array([_electrodes().get(label, unknown) for label in labels], float).reshape(-1, 3)


# ------------------------------------------------------------------------------ opening


@dataclass(frozen=True)
class _Signal:
    """Some channels of a file, ready to be read."""

    n_times: int
    gaps: tuple[tuple[int, int], ...]
    reader: Reader


@dataclass(frozen=True)
class _Content:
    """What a file holds, whatever its format; nothing of the signal has been read."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rates_hz: tuple[float, ...]
    positions_m: NDArray[np.float64]
    annotations: tuple[Annotation, ...]
    files: tuple[Path, ...]
    signal: Callable[[list[int]], _Signal]
    bads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Channels:
    """Which channels of a file are used, under which labels, and why not the others."""

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    left_out: dict[str, str]
    references: tuple[str, ...]


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
    return _recording(found, source, _content(found.path))


def _recording(found: Found, source: EegSource, content: _Content) -> Recording:
    chosen = _choose(content, source, found.path)
    rows = list(chosen.rows)
    sfreq_hz = content.rates_hz[rows[0]]
    signal = content.signal(rows)
    if signal.n_times < 1:
        raise InputError(f"{found.path.name}: holds no samples; drop the file")
    annotations = _within(content.annotations, signal.n_times / sfreq_hz)
    notes = [*content.notes, *([found.note] if found.note else [])]
    if chosen.left_out:
        listed = ", ".join(f"{name} ({why})" for name, why in chosen.left_out.items())
        notes.append(f"left out as not EEG: {listed}")
    renamed = sum(
        content.names[row] != label for row, label in zip(rows, chosen.labels, strict=True)
    )
    if renamed:
        notes.append(f"names of {renamed} channels brought into 10-20 spelling")
    positions = _positions(chosen.labels, content.positions_m[rows])
    unknown = int((~np.isfinite(positions).all(axis=1)).sum())
    if unknown:
        notes.append(f"positions not known for {unknown} of {len(rows)} channels")
    segments = _segments(signal.n_times, sfreq_hz, annotations, signal.gaps)
    if not segments:
        raise InputError(f"{found.path.name}: is one gap from beginning to end; drop the file")
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
    )
    _check_amplitude(recording)
    return recording


def _content(path: Path) -> _Content:
    """Open by what the file is; whatever goes wrong is one line."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name}: is empty (0 bytes); copy it again or drop it")
    try:
        if path.suffix.lower() in (".edf", ".bdf"):
            return _read_edf(path)
        return _read_mne(path)
    except PermissionError:
        raise InputError(f"{path.name}: may not be read; check the file's permissions") from None


def _choose(content: _Content, source: EegSource, path: Path) -> _Channels:
    """Pick, exclude, type and name channels; one sampling rate remains."""
    labels = _labels(content.names)
    excluded = {name.casefold() for name in source.exclude}
    wanted = None if source.pick == "eeg" else {name.casefold() for name in source.pick}
    left_out: dict[str, str] = {}
    rows, references = [], []
    for row, (name, label) in enumerate(zip(content.names, labels, strict=True)):
        known_as = {name.casefold(), label.casefold()}
        kind = content.types[row] if content.types[row] != "eeg" else _not_eeg(label, labels)
        if label in REFERENCES and not _is_lettered(labels) and not kind:
            references.append(name)
        if known_as & excluded:
            continue
        if wanted is not None:
            if known_as & wanted:
                rows.append(row)
        elif kind:
            left_out[name] = kind
        else:
            rows.append(row)
    if wanted is not None:
        have = {n.casefold() for row in rows for n in (content.names[row], labels[row])}
        lacking = [name for name in source.pick if name.casefold() not in have]
        if lacking:
            raise InputError(
                f"{path.name}: has no channel {', '.join(lacking)} (of source.pick); it has "
                f"{', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}"
            )
        order = [name.casefold() for name in source.pick]
        rows.sort(
            key=lambda row: min(
                order.index(name)
                for name in (content.names[row].casefold(), labels[row].casefold())
                if name in order
            )
        )
    if not rows:
        found = ", ".join(f"{name} ({kind})" for name, kind in list(left_out.items())[:6])
        raise InputError(
            f"{path.name}: no EEG channel among {len(content.names)}"
            f"{f' ({found})' if found else ''}; name channels in source.pick or drop the file"
        )
    rates = Counter(content.rates_hz[row] for row in rows)
    rate = max(rates, key=lambda hz: (rates[hz], hz))
    for row in rows:
        if content.rates_hz[row] != rate:
            left_out[content.names[row]] = f"sampled at {content.rates_hz[row]:g} Hz"
    rows = [row for row in rows if content.rates_hz[row] == rate]
    return _Channels(tuple(rows), tuple(labels[row] for row in rows), left_out, tuple(references))


def _labels(names: Sequence[str]) -> list[str]:
    """Harmonised names; where two would be the same both keep the file's."""
    labels = [harmonise(name) for name in names]
    counts = Counter(labels)
    return [
        label if counts[label] == 1 else name for name, label in zip(names, labels, strict=True)
    ]


def _within(annotations: Iterable[Annotation], duration_s: float) -> tuple[Annotation, ...]:
    """Annotations in order, cropped to the recording as MNE does."""
    kept = []
    for one in annotations:
        onset, end = max(0.0, one.onset_s), min(one.onset_s + one.duration_s, duration_s)
        if end >= 0 and onset <= duration_s:
            kept.append(replace(one, onset_s=onset, duration_s=max(0.0, end - onset)))
    return tuple(sorted(kept, key=lambda one: (one.onset_s, one.description)))


def _segments(
    n_times: int,
    sfreq_hz: float,
    annotations: Iterable[Annotation],
    gaps: Iterable[tuple[int, int]],
) -> tuple[tuple[int, int], ...]:
    """Sample ranges without interruption."""
    cuts, holes = {0, n_times}, list(gaps)
    for one in annotations:
        # the first sample at or after the instant; EEGLAB puts boundaries between samples
        start = math.ceil(one.onset_s * sfreq_hz - 0.01)
        stop = math.ceil((one.onset_s + one.duration_s) * sfreq_hz - 0.01)
        text = one.description
        if text.upper().startswith("BAD_ACQ_SKIP"):
            holes.append((start, stop))
        elif BOUNDARY.match(text):
            cuts.add(start)
            if text.upper().startswith("BAD"):  # EEGLAB's duration is what was cut out before
                cuts.add(stop)
                holes.append((start, stop))
    for start, stop in holes:
        cuts |= {start, stop}
    edges = sorted(cut for cut in cuts if 0 <= cut <= n_times)
    pieces = itertools.pairwise(edges)
    return tuple(
        (a, b) for a, b in pieces if not any(start <= a and b <= stop for start, stop in holes)
    )


def _check_amplitude(recording: Recording) -> None:
    """Look at twelve places: numbers at all, not flat, and microvolts."""
    n = max(2, round(2 * recording.sfreq_hz))
    longest = sorted(recording.segments, key=lambda ab: ab[0] - ab[1])[:12]
    spots = []
    for first, last in longest:
        count = 1 + 11 // len(longest)
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
        deviations = [
            1.4826 * np.nanmedian(np.abs(spot - np.nanmedian(spot, axis=1, keepdims=True)), axis=1)
            for spot in (np.nan_to_num(s).astype(np.float64) for s in spots)
        ]
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


# ----------------------------------------------------------------------------- EDF, BDF

VOLTS = {"uV": 1e-6, "\u00b5V": 1e-6, "\u03bcV": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3, "nV": 1e-9}
"""What a physical dimension stands for; volts otherwise, as MNE takes it."""

TAL = re.compile(rb"\x00*([+-]\d+\.?\d*)(?:\x15(\d+\.?\d*))?\x14?(.*)", re.DOTALL)
"""A time-stamped annotation list of EDF+: onset, duration, texts."""


@dataclass(frozen=True)
class _Edf:
    """Layout of an EDF or BDF file (Kemp & Olivan 2003; BioSemi's 24-bit variant)."""

    path: Path
    labels: tuple[str, ...]
    units: tuple[str, ...]
    physical: NDArray[np.float64]  # (signals, 2): minimum, maximum
    digital: NDArray[np.float64]
    per_record: tuple[int, ...]  # samples of each signal in a record
    header_bytes: int
    n_records: int
    record_s: float
    sample_bytes: int
    discontinuous: bool

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each signal begins in a record (bytes); the last entry is a record's length."""
        return np.concatenate([[0], np.cumsum(self.per_record)]) * self.sample_bytes

    def records(self, first: int, last: int) -> NDArray[np.uint8]:
        """Bytes of some records; read, not mapped: mapped pages would count as memory."""
        width = int(self.offsets[-1])
        offset = self.header_bytes + first * width
        data = np.fromfile(self.path, np.uint8, (last - first) * width, offset=offset)
        if len(data) < (last - first) * width:
            raise InputError(f"{self.path.name}: ends early; it changed while it was being read")
        return data.reshape(last - first, width)

    def texts(self, signal: int) -> Iterator[bytes]:
        """What an annotation signal says in each record."""
        offsets = self.offsets.tolist()
        begin, end, width = offsets[signal], offsets[signal + 1], offsets[-1]
        with self.path.open("rb", buffering=0) as file:
            for record in range(self.n_records):
                file.seek(self.header_bytes + record * width + begin)
                yield file.read(end - begin)


def _read_edf(path: Path) -> _Content:
    edf, notes = _edf_layout(path)
    talking = [i for i, label in enumerate(edf.labels) if label.endswith("DF Annotations")]
    signals = [i for i in range(len(edf.labels)) if i not in talking]
    starts_s, annotations = _edf_annotations(edf, talking)
    usable = (np.ptp(edf.physical, axis=1) != 0) & (np.ptp(edf.digital, axis=1) != 0)

    def signal(rows: list[int]) -> _Signal:
        return _edf_signal(edf, [signals[row] for row in rows], starts_s)

    return _Content(
        names=_unique([edf.labels[i] for i in signals]),
        types=tuple("eeg" if usable[i] else "physical range undefined" for i in signals),
        rates_hz=tuple(edf.per_record[i] / edf.record_s for i in signals),
        positions_m=np.full((len(signals), 3), math.nan),
        annotations=annotations,
        files=(path,),
        signal=signal,
        notes=notes,
    )


def _unique(names: list[str]) -> tuple[str, ...]:
    """Names that occur more than once get running numbers, as MNE does it."""
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        unique.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
        seen[name] += 1
    return tuple(unique)


def _edf_layout(path: Path) -> tuple[_Edf, tuple[str, ...]]:
    """The header, checked against the file's size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(256)
        is_bdf = fixed[:8] == b"\xffBIOSEMI"
        kind = "BDF" if is_bdf else "EDF"
        if len(fixed) < 256 or not (is_bdf or re.match(rb"0[ \x00]{7}", fixed)):
            raise InputError(
                f"{path.name}: is no {path.suffix[1:].upper()} file, whatever its name says (the "
                "first bytes are not an EDF or BDF header); export it again as EDF"
            )
        try:
            header_bytes, n_signals = int(_text(fixed[184:192])), int(_text(fixed[252:256]))
            n_records, record_s = int(_text(fixed[236:244])), _number(fixed[244:252])
            described = file.read(256 * n_signals)
            if n_signals < 1 or len(described) < 256 * n_signals:
                raise ValueError
            widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
            fields, at = [], 0
            for width in widths:
                column = described[at : at + width * n_signals]
                fields.append([column[i : i + width] for i in range(0, len(column), width)])
                at += width * n_signals
            per_record = tuple(int(_text(field)) for field in fields[8])
            ranges = np.array([[_number(field) for field in fields[k]] for k in (3, 4, 5, 6)])
            if min(per_record) < 0 or sum(per_record) == 0 or not np.isfinite(ranges).all():
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path.name}: its {kind} header is damaged (a number is expected where there is "
                "none); copy the file again or export it again"
            ) from None
    notes = []
    if record_s <= 0:
        raise InputError(
            f"{path.name}: its {kind} header gives records of {record_s:g} s, so it holds "
            "annotations only; name the file with the signal"
        )
    if header_bytes != 256 * (n_signals + 1):
        header_bytes = 256 * (n_signals + 1)
        notes.append(f"the {kind} header misstates its own length")
    record_bytes = sum(per_record) * (3 if is_bdf else 2)
    whole, rest = divmod(max(0, size - header_bytes), record_bytes)
    missing = n_records - whole
    if whole == 0 and n_records <= 0:
        raise InputError(f"{path.name}: is a header without a signal; drop the file")
    if whole == 0 or missing > 1 or (missing == 1 and rest == 0 and n_records > 1):
        raise InputError(
            f"{path.name}: is truncated: its header promises {n_records * record_s:g} s, the "
            f"file holds {whole * record_s:g} s; copy it again from the source"
        )
    if n_records < 0:
        notes.append("the header leaves the length open; taken from the file's size")
    elif missing == 1:
        notes.append("the last data record is incomplete and left out")
    elif missing < 0:
        notes.append(f"the file holds {whole * record_s:g} s, more than its header says; all used")
    elif rest:
        notes.append("an incomplete data record after the last is left out")
    layout = _Edf(
        path=path,
        labels=tuple(_text(field) for field in fields[0]),
        units=tuple(_text(field) for field in fields[2]),
        physical=ranges[:2].T,
        digital=ranges[2:].T,
        per_record=per_record,
        header_bytes=header_bytes,
        n_records=whole,
        record_s=record_s,
        sample_bytes=3 if is_bdf else 2,
        discontinuous=fixed[192:197] in (b"EDF+D", b"BDF+D"),
    )
    return layout, tuple(notes)


def _text(field: bytes) -> str:
    return field.decode("latin-1").split("\x00")[0].strip()


def _number(field: bytes) -> float:
    return float(_text(field).replace(",", "."))


def _edf_annotations(
    edf: _Edf, talking: list[int]
) -> tuple[NDArray[np.float64], tuple[Annotation, ...]]:
    """Start of each record, and annotations, in seconds from the first record's start."""
    starts_s = np.arange(edf.n_records, dtype=np.float64) * edf.record_s
    if not talking:
        return starts_s, ()
    annotations: list[Annotation] = []
    told_s = starts_s.copy()
    for signal in talking:
        for record, content in enumerate(edf.texts(signal)):
            for number, tal in enumerate(content.split(b"\x14\x00")):
                match = TAL.match(tal)
                if match is None:
                    continue
                onset_s, duration_s = float(match[1]), float(match[2] or 0)
                if number == 0 and signal == talking[0]:
                    told_s[record] = onset_s
                annotations += [
                    Annotation(onset_s, duration_s, _decoded(text))
                    for text in match[3].split(b"\x14")
                    if text
                ]
    begin_s = told_s[0]
    annotations = [replace(one, onset_s=one.onset_s - begin_s) for one in annotations]
    if edf.discontinuous:
        starts_s = told_s - begin_s
        if (np.diff(starts_s) < edf.record_s * 0.99).any():
            raise InputError(
                f"{edf.path.name}: its data records overlap or are out of order (EDF+D); "
                "export it again as a continuous file"
            )
    return starts_s, tuple(annotations)


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _edf_signal(edf: _Edf, signals: list[int], starts_s: NDArray[np.float64]) -> _Signal:
    """Reader of signals that share a rate; gaps between records are zeros that no segment has."""
    per = edf.per_record[signals[0]]
    rate_hz = per / edf.record_s
    starts = np.round(starts_s * rate_hz).astype(np.int64)
    # records that follow each other are one piece: (first sample in time, first in file, samples)
    breaks = np.flatnonzero(np.abs(np.diff(starts) - per) > 1) + 1
    firsts = np.concatenate([[0], breaks])
    counts = np.diff(np.append(firsts, edf.n_records)) * per
    pieces = [(int(starts[r]), int(r) * per, int(n)) for r, n in zip(firsts, counts, strict=True)]
    spans = [(begin, begin + n) for begin, _, n in pieces]
    digital, physical = edf.digital[signals], edf.physical[signals]
    gains = (physical[:, 1] - physical[:, 0]) / (digital[:, 1] - digital[:, 0])
    offsets = physical[:, 0] - digital[:, 0] * gains
    microvolts = np.array([VOLTS.get(edf.units[signal], 1.0) * 1e6 for signal in signals])
    gains *= microvolts
    offsets *= microvolts
    gaps = tuple((end, begin) for (_, end), (begin, _) in itertools.pairwise(spans) if begin > end)

    def reader(start: int, stop: int) -> Float:
        out = np.zeros((len(signals), stop - start), np.float32)
        for begin, in_file, n in pieces:
            a, b = max(start, begin), min(stop, begin + n)
            if a < b:
                codes = _edf_codes(edf, signals, a - begin + in_file, b - begin + in_file)
                values = np.empty(b - a)  # in float64, as MNE does it
                for row, code in enumerate(codes):
                    np.multiply(code, gains[row], out=values)
                    values += offsets[row]
                    out[row, a - start : b - start] = values
        return out

    return _Signal(spans[-1][1], gaps, reader)


def _edf_codes(
    edf: _Edf, signals: list[int], start: int, stop: int
) -> Iterator[NDArray[np.int16 | np.int32]]:
    """Samples ``start`` to ``stop`` of the file as stored, signal by signal."""
    per = edf.per_record[signals[0]]
    first, last = start // per, -(-stop // per)
    records, offsets = edf.records(first, last), edf.offsets
    for signal in signals:
        code = records[:, offsets[signal] : offsets[signal + 1]]
        if edf.sample_bytes == 2:
            digital: NDArray[Any] = np.ascontiguousarray(code).view("<i2")
        else:
            word = np.zeros((len(code), per, 4), np.uint8)
            word[:, :, 1:] = code.reshape(len(code), per, 3)
            digital = word.view("<i4") >> 8
        yield digital.reshape(-1)[start - first * per : stop - first * per]


# ----------------------------------------------------------------------- everything else


def _read_mne(path: Path) -> _Content:
    """Open through ``mne.io.read_raw``; nothing that MNE says is shown as it is."""
    import mne

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            raw = mne.io.read_raw(path, preload=False, verbose="WARNING")
        except Exception as error:
            # MNE's own words may quote the header, where names stand
            raise InputError(_unreadable(path, error)) from None
    spots = [channel["loc"][:3] for channel in raw.info["chs"]]
    unusual = [one for one in caught if not USUAL_WARNINGS.search(str(one.message))]
    notes = (MNE_WARNED,) if unusual else ()

    def signal(rows: list[int]) -> _Signal:
        return _Signal(int(raw.n_times), (), _mne_reader(raw, rows, path))

    return _Content(
        names=tuple(raw.ch_names),
        types=tuple(raw.get_channel_types()),
        rates_hz=(float(raw.info["sfreq"]),) * len(raw.ch_names),
        positions_m=np.array(spots, np.float64).reshape(-1, 3),
        annotations=tuple(
            Annotation(float(one["onset"]) - raw.first_time, float(one["duration"]), text)
            for one in raw.annotations
            if (text := str(one["description"]))
        ),
        files=_files(path, raw),
        signal=signal,
        bads=tuple(raw.info["bads"]),
        notes=notes,
    )


USUAL_WARNINGS = re.compile(r"naming conventions|'boundary' events|deprecated", re.IGNORECASE)
"""Of no consequence here: a FIF file's name, boundaries that segments respect."""

MNE_WARNED = "MNE warned about this file when opening it; mne.io.read_raw shows the text"


def _unreadable(path: Path, error: Exception) -> str:
    """Why MNE could not open a file, in one line without the file's content."""
    kind = path.suffix.lstrip(".").upper() or "EEG"
    said = str(error)
    if "number of trials" in said or "epochs" in said.lower():
        why = "holds epochs, a continuous recording is expected; export the continuous data"
    elif lacking := re.search(r"the module (\w+).* is needed", said):
        why = f"needs the package {lacking[1]} to be read; install it (pip install {lacking[1]})"
    elif "Unsupported file type" in said:
        why = f"is in no format that MNE reads by its ending ({path.suffix or 'none'}); use EDF"
    elif isinstance(error, FileNotFoundError):
        why = "a file that belongs to it is missing (data or markers); keep all parts together"
    else:
        why = (
            f"cannot be read as {kind} ({type(error).__name__} in MNE): damaged, truncated or "
            "another format; open it in the program that wrote it and export it again"
        )
    return f"{path.name}: {why}"


def _mne_reader(raw: mne.io.BaseRaw, rows: list[int], path: Path) -> Reader:
    lock = threading.Lock()

    def reader(start: int, stop: int) -> Float:
        with lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data, _ = raw[rows, start:stop]
            except Exception as error:
                raise InputError(
                    f"{path.name}: cannot be read from {start / raw.info['sfreq']:.1f} s on "
                    f"({type(error).__name__} in MNE): the signal is shorter than its header "
                    "says; copy the file again from the source"
                ) from None
        values: Float = (data * 1e6).astype(np.float32)
        return values

    return reader


def _files(path: Path, raw: mne.io.BaseRaw) -> tuple[Path, ...]:
    """The named file, then every other that the content comes from."""
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    parts = [Path(part) for part in raw.filenames if part]
    if path.suffix.lower() in (".vhdr", ".ahdr"):
        header = path.read_bytes().decode("latin-1")
        parts += [path.with_name(name) for name in re.findall(r"(?m)^MarkerFile=(.+?)\s*$", header)]
    others = {part.resolve() for part in parts if part.is_file()} - {path.resolve()}
    return (path, *sorted(others))


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
            chosen = _choose(content, source, one.path)
            aside = (*chosen.left_out, *chosen.references)
            kept = source.model_copy(update={"exclude": aside})
            recordings.append(_recording(one, kept, content))
        except InputError as error:
            failed.append((one.path.name, str(error)))
            continue
        exclude |= dict.fromkeys(aside)
    if not recordings:
        reason = f"; the first: {failed[0][1]}" if failed else ""
        raise InputError(f"none of {len(found)} files is a usable EEG recording{reason}")
    shared = set.intersection(*(set(r.ch_names) for r in recordings))
    some = {name: None for r in recordings for name in r.ch_names if name not in shared}
    others = [one.path for one in found if not _bids_subject(one.path, one.root)]
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
        failed=tuple(failed),
    )


def _usual_stretch_s(recording: Recording) -> float:
    """Length such that nine tenths of the signal lie in segments at least as long."""
    lengths = np.sort([b - a for a, b in recording.segments])[::-1]
    covered = np.cumsum(lengths) / lengths.sum()
    return float(lengths[np.searchsorted(covered, 0.9)] / recording.sfreq_hz)
