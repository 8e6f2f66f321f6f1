"""BIDS sidecars of a recording: what the data set says beside its files, nearest file first.

``channels.tsv`` (type, status), ``events.tsv``, ``electrodes.tsv``, ``*_eeg.json`` (mains
frequency, reference, amplifier) and age and sex from ``participants.tsv``; anything else of a
participant stays where it is. The inheritance principle holds: a sidecar higher up counts for
everything below it whose entities it shares.

mne-bids opens the recording itself (through MNE's readers, the whole annotation list and montage
machinery with it) and depends on the name; here the sidecars are read as what they are, tables
and JSON, and laid over whatever reader suits the file. The tests compare with mne-bids.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ae_pipeline.data import Annotation, InputError
from ae_pipeline.sources.finding import entities_of, pairs_of, stem_of

__all__ = ["Sidecars", "bids_root", "read_sidecars"]

METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}

HEAD_FRAMES = {"captrak"}
"""Coordinate systems whose axes are those of MNE's head frame."""


@dataclass(frozen=True)
class Sidecars:
    """What stands beside a recording; names as the files spell them.

    ``kinds`` and ``statuses`` are by channel name, ``places_m`` in metres; ``annotations`` is
    None where there is no ``events.tsv``.
    """

    files: tuple[Path, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    bads: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    places_m: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] | None = None
    line_freq_hz: float | None = None
    state: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def bids_root(path: Path) -> Path | None:
    """The data set a recording belongs to: the nearest folder with a description; None without."""
    if not entities_of(stem_of(path)):
        return None
    for folder in path.absolute().parents:
        if (folder / "dataset_description.json").is_file():
            return folder
    return None


def read_sidecars(path: Path, *, sfreq_hz: float, duration_s: float) -> Sidecars | None:
    """Everything that a BIDS data set says of one recording; None outside of one.

    Parameters
    ----------
    path : Path
    sfreq_hz, duration_s : float
        Of the recording, for events that are given in samples.

    Raises
    ------
    InputError
        A sidecar cannot be read.
    """
    root = bids_root(path)
    if root is None:
        return None
    files: list[Path] = []
    kinds: dict[str, str] = {}
    bads: dict[str, str] = {}
    units: dict[str, str] = {}
    notes: list[str] = []
    channels = next(_inherited(path, root, suffix="channels.tsv"), None)
    if channels is not None:
        files.append(channels)
        for row in _table(channels, ("name",)):
            kinds[row["name"]] = row.get("type", "").upper()
            units[row["name"]] = row.get("units", "")
            if row.get("status", "").lower() == "bad":
                bads[row["name"]] = row.get("status_description", "").replace("n/a", "")
    events = next(_inherited(path, root, suffix="events.tsv"), None)
    annotations = None
    if events is not None:
        files.append(events)
        about_events = next(_inherited(path, root, suffix="events.json"), None)
        annotations, said = _annotations(
            events, about_events, sfreq_hz=sfreq_hz, duration_s=duration_s
        )
        notes += said
    about: dict[str, Any] = {}
    for file in reversed([*_inherited(path, root, suffix="eeg.json")]):
        files.append(file)
        about |= _json(file)
    places, said, used = _places(path, root)
    files += used
    notes += said
    return Sidecars(
        files=tuple(sorted(files)),
        kinds=kinds,
        bads=bads,
        units=units,
        places_m=places,
        annotations=annotations,
        line_freq_hz=_positive(about.get("PowerLineFrequency")),
        state=_state(about, _participant(path, root)),
        notes=tuple(notes),
    )


def _inherited(path: Path, root: Path, *, suffix: str) -> Iterator[Path]:
    """Sidecars with a suffix that hold for a recording, the nearest and most specific first."""
    own = entities_of(stem_of(path))
    ending = "." + suffix.partition(".")[2]
    for folder in path.absolute().parents:
        fitting = []
        for file in folder.glob(f"*{suffix}"):
            stem = file.name.removesuffix(ending)
            said, _, last = stem.rpartition("_")
            entities = pairs_of(said)
            whole = last == suffix.partition(".")[0] and bool(entities or not said)
            entities.pop("space", None)  # which no recording has
            if whole and entities.items() <= own.items():
                fitting.append((-len(entities), file.name, file))
        yield from (file for _, _, file in sorted(fitting))
        if folder == root:
            return


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _table(file: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    rows = list(csv.DictReader(_text(file).splitlines(), delimiter="\t"))
    lacking = [name for name in needed if rows and name not in rows[0]]
    if lacking:
        raise InputError(
            f"{file.name}: has no column {lacking[0]!r} (tab-separated columns are expected); "
            "correct the sidecar"
        )
    return [{k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in rows]


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file.name}, line {error.lineno}: is no JSON; correct the sidecar"
        ) from None
    return content if isinstance(content, dict) else {}


def _annotations(
    file: Path, about: Path | None, *, sfreq_hz: float, duration_s: float
) -> tuple[tuple[Annotation, ...], list[str]]:
    """Rows of ``events.tsv``, called by ``trial_type``, else ``value``; and notes."""
    rows = _table(file, ("onset",))
    onsets = [_number(row["onset"]) for row in rows]
    for number, (row, onset) in enumerate(zip(rows, onsets, strict=True), start=2):
        if onset is None and row["onset"].lower() not in ("n/a", "nan", ""):
            raise InputError(
                f"{file.name}, row {number}: onset {row['onset'][:40]!r} is no number of seconds; "
                "correct the sidecar"
            )
    notes = []
    column = (_json(about) if about is not None else {}).get("onset")
    unit = str(column.get("Units", "")) if isinstance(column, dict) else ""
    told = [onset for onset in onsets if onset is not None]
    late = [onset for onset in told if onset > duration_s]
    whole = all(onset == int(onset) for onset in told)
    within = bool(told) and max(told) <= duration_s * sfreq_hz
    by = 1.0
    if unit.lower().startswith("sample") or (len(late) > len(told) / 2 and whole and within):
        by = sfreq_hz
        notes.append(f"onsets of {file.name} are taken as samples, not as seconds")
    elif late:
        notes.append(f"{len(late)} of {len(told)} events lie beyond the end of the recording")
    found, without = [], 0
    for row, onset in zip(rows, onsets, strict=True):
        sample = _number(row.get("sample", ""))
        if onset is None and sample is None:
            without += 1
            continue
        onset_s = onset / by if onset is not None else (sample or 0.0) / sfreq_hz
        names = [row.get(name, "") for name in ("trial_type", "value")]
        name = next((n for n in names if n and n != "n/a"), "n/a")
        lasts_s = max(0.0, _number(row.get("duration", "")) or 0.0) / by
        found.append(Annotation(onset_s, lasts_s, name))
    if without:
        notes.append(f"{without} rows of {file.name} have no onset and are left out")
    return tuple(found), notes


def _places(
    path: Path, root: Path
) -> tuple[dict[str, tuple[float, float, float]], list[str], list[Path]]:
    """Electrode positions where their coordinate system is that of the head."""
    electrodes = next(_inherited(path, root, suffix="electrodes.tsv"), None)
    if electrodes is None:
        return {}, [], []
    system = next(_inherited(path, root, suffix="coordsystem.json"), None)
    about = _json(system) if system is not None else {}
    frame = str(about.get("EEGCoordinateSystem", ""))
    files = [electrodes, *([system] if system is not None else [])]
    if frame.casefold() not in HEAD_FRAMES:
        note = (
            f"electrodes.tsv is in coordinates of {frame or 'no stated system'}, not CapTrak; "
            "places were taken by name instead"
        )
        return {}, [note], files
    scale = METRES.get(str(about.get("EEGCoordinateUnits", "m")), 1.0)
    places = {}
    for row in _table(electrodes, ("name", "x", "y", "z")):
        x, y, z = (_number(row[axis]) for axis in "xyz")
        if x is not None and y is not None and z is not None:
            places[row["name"]] = (x * scale, y * scale, z * scale)
    return places, [], files


def _participant(path: Path, root: Path) -> dict[str, str]:
    """The row of ``participants.tsv``; empty where there is none."""
    file = root / "participants.tsv"
    if not file.is_file():
        return {}
    subject = entities_of(stem_of(path)).get("sub", "")
    rows = _table(file, ("participant_id",))
    return next((r for r in rows if r["participant_id"].removeprefix("sub-") == subject), {})


def _state(about: dict[str, Any], person: dict[str, str]) -> dict[str, str]:
    """Age, sex, reference and amplifier, as far as they are said."""
    sexes = {"m": "male", "male": "male", "f": "female", "female": "female"}
    age = _number(person.get("age", ""))
    maker = " ".join(
        str(about[name])
        for name in ("Manufacturer", "ManufacturersModelName")
        if about.get(name) and str(about[name]) != "n/a"
    )
    reference = str(about.get("EEGReference", ""))
    found = {
        "age": "" if age is None else f"{age:g}",
        "sex": sexes.get(person.get("sex", person.get("gender", "")).casefold(), ""),
        "reference": "" if reference == "n/a" else reference,
        "amplifier": maker,
    }
    return {name: " ".join(text.split())[:80] for name, text in found.items() if text}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _positive(value: Any) -> float | None:
    number = _number(str(value))
    return number if number is not None and number > 0 else None
