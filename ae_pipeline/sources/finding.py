"""From what a user names (file, folder, glob, BIDS root) to recordings with a name and a subject.

Nothing is opened here; names decide.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ae_pipeline.config import from_home
from ae_pipeline.data import InputError, readable

__all__ = [
    "ENDINGS",
    "EPOCHS",
    "Found",
    "bids_subject",
    "entities_of",
    "find",
    "guess_subject_pattern",
    "pairs_of",
    "stem_of",
    "task_of",
]

ENDINGS = (
    *(".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".fif", ".fif.gz"),
    *(".cnt", ".mff", ".nedf", ".cdt", ".lay"),
)
"""File endings taken for EEG when a folder is searched; a file named by itself is always tried."""

MEMBERS = {".fdt": ".set", ".eeg": ".vhdr", ".vmrk": ".vhdr", ".avg": ".vhdr", ".dat": ".vhdr"}
"""Parts of a recording -> the file that speaks for it, where that stands beside."""

NOT_RAW = re.compile(
    r"[-_](ave|evoked|annot|cov|ica|fwd|inv|trans|src|bem|bem-sol|proj|eve|stc|tfr|psd|csd|"
    r"dig|head|layout)\.fif(\.gz)?$",
    re.IGNORECASE,
)
"""FIF files that hold no recording."""

CONTINUOUS = re.compile(r"[-_](raw|eeg|meg|ieeg)$", re.IGNORECASE)
EPOCHS = re.compile(r"[-_]epo\.fif(\.gz)?$", re.IGNORECASE)
"""Epochs, by MNE's names; left out of a folder that holds the recording they were cut from."""

BESIDE = {".eeg": (".PNT", ".pnt", ".21E", ".21e"), ".data": (".head",), ".dat": (".dap",)}
"""Endings that other things have, too -> of which files one must stand beside (Nihon Kohden,
Nicolet, Curry 7)."""

LATER_PART = re.compile(r"(?P<whole>.+)-\d+(?P<end>\.fif(\.gz)?)$|(?P<split>.+_split-)0*[2-9]\d*_")
"""Parts of a split FIF file after the first, which names them."""


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
    inputs: Sequence[Path | str], pattern: str = "**/*", *, subject_pattern: str | None = None
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
        Inputs in the given order, files of each sorted by path, none twice; of a folder's files
        that differ in their endings only (an export beside the original) one.

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
    stems = Counter(
        stem for paths in by_root.values() for stem in {stem_of(path) for path in paths}
    )
    subjects: dict[Path, tuple[str, str, str]] = {}
    for root, paths in by_root.items():
        # rest.edf of one folder and rest.edf of another: it is the folders that differ
        clash = any(stems[stem_of(path)] > 1 for path in paths)
        fallback = root.name if clash else ""
        subjects |= _subjects(paths, root, pattern=subject_pattern, fallback=fallback)
    names = _names(roots)
    found = [Found(path, root, names[path], *subjects[path]) for path, root in roots.items()]
    return [_noted(one, taken=set(roots)) for one in found]


def _noted(one: Found, *, taken: set[Path]) -> Found:
    """What is said of a recording that is there in several formats."""
    others = _other_formats(one.path)
    if not others:
        return one
    both = any(one.path.with_name(name) in taken for name in others)
    what = "both were named and count as two" if both else f"only {one.path.suffix} is used"
    note = f"the same name is there as {readable(', '.join(others))} as well; {what}"
    return replace(one, note=f"{one.note}; {note}" if one.note else note)


def _expand(entry: Path | str, pattern: str) -> list[tuple[Path, Path]]:
    """The files one input stands for, each with its root."""
    place = Path(os.path.abspath(from_home(entry)))
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
        if (_is_recording(path) or _is_asked_for(path, pattern))
        and not _is_aside(path.relative_to(place), place)
    )
    paths = _once(_without_cut(paths))
    if (place / "dataset_description.json").is_file():
        bids = [path for path in paths if stem_of(path).endswith("_eeg")]
        paths = bids or paths
    if not paths:
        raise InputError(
            f"{entry}: no EEG recording in this folder (pattern {pattern!r}, endings "
            f"{' '.join(ENDINGS)}); check the folder, source.pattern or name the file itself"
        )
    return [(path, place) for path in paths]


def _without_cut(paths: list[Path]) -> list[Path]:
    """Without epochs that stand beside the recording they were cut from, by their names."""
    whole = {(path.parent, CONTINUOUS.sub("", stem_of(path))) for path in paths if not _cut(path)}

    def is_there(path: Path) -> bool:
        name = EPOCHS.sub("", path.name)
        return any(
            path.parent == place and (name == stem or name.startswith((f"{stem}_", f"{stem}-")))
            for place, stem in whole
        )

    return [path for path in paths if not _cut(path) or not is_there(path)]


def _once(paths: list[Path]) -> list[Path]:
    """Of files that differ in their endings only (an export beside the original), one each."""
    kept: dict[tuple[Path, str], Path] = {}
    for path in sorted(paths, key=_rank):
        kept.setdefault((path.parent, stem_of(path)), path)
    return [path for path in paths if path in kept.values()]


def _rank(path: Path) -> int:
    """Formats in the order in which they are preferred."""
    name = path.name.lower()
    return next((i for i, end in enumerate(ENDINGS) if name.endswith(end)), len(ENDINGS))


def _other_formats(path: Path) -> list[str]:
    """Names of recordings that stand beside one and differ in their endings only."""
    beside = path.parent.glob(f"{glob.escape(stem_of(path))}.*")
    return sorted(
        other.name
        for other in beside
        if other != path
        and stem_of(other) == stem_of(path)
        and _is_recording(other)
        and _header_of(other) == other
    )


def _cut(path: Path) -> bool:
    return bool(EPOCHS.search(path.name))


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
    if path.suffix.lower() in BESIDE:
        beside = (path.with_suffix(end) for end in BESIDE[path.suffix.lower()])
        return path.is_file() and any(file.is_file() for file in beside)
    is_folder = path.suffix.lower() == ".mff"
    return path.name.lower().endswith(ENDINGS) and (path.is_dir() if is_folder else path.is_file())


def _is_asked_for(path: Path, pattern: str) -> bool:
    """Whether a pattern such as ``**/*.raw`` names an ending that is not searched for by itself."""
    ending = path.suffix.lower()
    asked = bool(ending) and pattern.lower().endswith(ending) and ending not in MEMBERS
    return asked and not path.name.startswith(".") and path.is_file()


def _is_aside(relative: Path, root: Path) -> bool:
    """Hidden, derived, or the untouched originals of a BIDS data set."""
    aside = {"derivatives"}
    if (root / "dataset_description.json").is_file():
        aside |= {"sourcedata", "code", "stimuli"}
    folders = relative.parts[:-1]
    return any(part.startswith(".") or part.lower() in aside for part in folders)


# ---------------------------------------------------------------------- names, subjects


def stem_of(path: Path) -> str:
    """File name without its (known, possibly double) ending."""
    for ending in (".fif.gz", *ENDINGS):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def entities_of(stem: str) -> dict[str, str]:
    """BIDS entities of a file's stem; empty where it is no BIDS name."""
    found = pairs_of(stem.removesuffix("_eeg"))
    return found if next(iter(found), "") == "sub" else {}


def pairs_of(stem: str) -> dict[str, str]:
    """``key-value`` pairs of a name that is nothing else; empty where a part is none."""
    pairs = [part.partition("-") for part in stem.split("_")]
    if not all(re.fullmatch(r"[A-Za-z0-9+]+", value) for _, _, value in pairs):
        return {}
    return {key: value for key, _, value in pairs}


def _names(roots: dict[Path, Path]) -> dict[Path, str]:
    """A unique, safe name for each path."""
    names = {}
    for path, root in roots.items():
        stem = stem_of(path)
        if entities_of(stem):
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
    name = readable(name)
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
    paths: list[Path], root: Path, *, pattern: str | None, fallback: str
) -> dict[Path, tuple[str, str, str]]:
    """(subject, session, note) of each path below one root; last resort ``fallback`` or stem."""
    others = [path for path in paths if not bids_subject(path, root)]
    guess = guess_subject_pattern(others)
    folders = _folders(others)
    found = {}
    for path in paths:
        stem, note = stem_of(path), ""
        session = entities_of(stem).get("ses", "")
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
            subject = bids_subject(path, root)
        elif guess is not None:
            subject = re.search(guess, stem)[1]  # type: ignore[index]
        else:
            subject = folders.get(path, fallback or stem)
        found[path] = (readable(subject or stem), readable(session), note)
    return found


def bids_subject(path: Path, root: Path) -> str:
    """Value of ``sub-``, from the name, else from a folder below the root; empty without."""
    for part in (stem_of(path), *reversed(path.relative_to(root).parts[:-1])):
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
        matches = [re.search(pattern, stem_of(path)) for path in paths]
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


def task_of(name: str) -> str:
    """The ``task`` entity of a BIDS name, else nothing."""
    return entities_of(name).get("task", "")
