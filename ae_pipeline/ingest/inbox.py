"""What has arrived in a study's inbox, and what of it is done.

The results' own provenance says what is done: same content, same model, same settings. What is
kept beside it (``.seen/``, one small file a recording, with sizes and times of its files) only
saves reading: lost, it is made again. Nothing here writes into the inbox or loads a model, so
that ``status`` answers at once.

Places, all below ``outputs.root/STUDY-inbox``: ``model.json`` (the pinned model), ``models/`` (a
copy of it), ``MODEL_ID/`` (results, one folder a model), ``nights/`` (one folder a run).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ae_pipeline.config import StudyError, from_home
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inputs import Failure, Input, find_inputs
from ae_pipeline.kind import kind_of
from ae_pipeline.runtime.files import (
    STEP_VERSION,
    digest_files,
    key,
    project_root,
    read_json,
    write_json,
)
from ae_pipeline.runtime.operation import Operation
from ae_pipeline.sources.finding import entities_of
from ae_pipeline.study import Study, load_study

__all__ = [
    "Arrival",
    "Expected",
    "Inbox",
    "Pin",
    "known_inboxes",
    "note_inbox",
    "open_inbox",
    "read_or_none",
]

State = Literal["new", "changed", "unchanged", "failed", "older", "writing", "outside"]
Stats = dict[str, list[int]]


@dataclass(frozen=True)
class Pin:
    """The model that scores this inbox until somebody names another."""

    asked: str
    """What the study file said when it was pinned."""
    model_id: str
    digest: str
    since: str
    version: str = ""
    """Version in MLflow's registry, where it is known."""
    config: dict[str, Any] = field(default_factory=dict)
    """What, beside the model, decides the numbers."""


@dataclass(frozen=True)
class Arrival:
    """One input of the inbox and what is to be done about it.

    ``new`` and ``changed`` are to be scored; ``unchanged`` and ``failed`` are done; ``older`` is
    done by an earlier version of the software; ``writing`` is still being written; ``outside``
    is not among the dates that were asked for.
    """

    item: Input
    path: str
    """Below the inbox."""
    state: State
    because: str
    """Why it has this state, in words."""
    files: Stats = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a list says should be there."""

    expected: int
    arrived: int
    missing: tuple[str, ...]

    def sentence(self) -> str:
        """``expected 12, arrived 11: sub-07 missing``."""
        found = f"expected {self.expected}, arrived {self.arrived}"
        return f"{found}: {', '.join(self.missing)} missing" if self.missing else found


def open_inbox(study: Path, overrides: Sequence[str] = ()) -> Inbox:
    """The inbox of a study file.

    Raises
    ------
    StudyError
        Where the study is wrong, names no inbox, or the inbox is not there.
    """
    checked = load_study(study, overrides)
    if checked.operation is None:
        raise StudyError(
            f"{study}: has no inbox; add 'operation: {{inbox: FOLDER}}' with the folder in which "
            "recordings arrive"
        )
    inbox = checked.operation.inbox
    if not inbox.is_dir():
        raise StudyError(f"{study}: operation.inbox {inbox} is no folder; make it or name another")
    return Inbox(study.absolute(), checked, checked.operation)


@dataclass(frozen=True)
class Inbox:
    """A folder of arrivals and the results they have led to."""

    file: Path
    study: Study
    operation: Operation

    @property
    def place(self) -> Path:
        """Where everything about this inbox is kept."""
        return self.study.outputs.root / f"{self.study.study}-inbox"

    def results(self, model_id: str) -> Path:
        """Folder of the results of a model."""
        return self.place / model_id

    def model(self, model_id: str) -> Path:
        """Own copy of a model: a later training does not take it away."""
        return self.place / "models" / model_id

    @property
    def asked(self) -> str:
        """The model that the study names; a folder is relative to the study file."""
        asked = self.operation.model
        if asked is None or asked.startswith(("models:/", "runs:/")):
            return asked or ""
        return str(self.file.parent / from_home(asked))

    def pin(self) -> Pin | None:
        """The pinned model; None before the first run, or where the study names another now."""
        pinned = self.last_pin()
        return pinned if pinned is not None and pinned.asked == self.asked else None

    def last_pin(self) -> Pin | None:
        """What is pinned, whatever the study says now."""
        content = read_or_none(self.place / "model.json")
        return None if content is None else Pin(**content)

    # ------------------------------------------------------------------------- arrivals

    def look(
        self,
        pin: Pin | None,
        verify: bool = False,
        *,
        since: date | None = None,
        until: date | None = None,
        backfill: bool = False,
    ) -> list[Arrival]:
        """Everything in the inbox, in order, with what is to be done about it.

        Parameters
        ----------
        pin : Pin, optional
            The model that is to score; without one everything is new.
        verify : bool
            Read every file, also where size and time are as they were.
        since, until : date, optional
            Only what was last changed on these days (both included); implies ``backfill``.
        backfill : bool
            Also what another model or an earlier version of the software has scored.
        """
        listing: dict[Path, dict[str, list[int]]] = {}
        self.__dict__.pop("_done", None)  # what was known of the results may be old
        found = []
        for item in self._items():
            rel = self._relative(item.path)
            old = self.seen(rel)
            files = self._stats(item.path, old, listing=listing)
            arrived = max((mtime for _, mtime in files.values()), default=0) / 1e9
            day = datetime.fromtimestamp(max(arrived, 0)).date()
            if (since is not None and day < since) or (until is not None and day > until):
                found.append(Arrival(item, rel, "outside", f"arrived {day}", files))
                continue
            backfill = backfill or since is not None or until is not None
            arrival = self._judge(item, rel, old=old, files=files, verify=verify, pin=pin)
            if backfill and pin is not None and arrival.state in ("unchanged", "older"):
                arrival = self._judge_backfill(arrival, pin)
            found.append(arrival)
        return found

    def _items(self) -> Iterator[Input]:
        """What is there, each under the name that it was first known by."""
        source = self.study.source
        taken = {seen["name"]: seen["path"] for seen in self._all_seen()}
        # from here, so that no file is found through a link that leads back to the results
        for item in find_inputs(source, [str(self.operation.inbox)]):
            if isinstance(item, Failure):
                continue  # an empty inbox
            rel = self._relative(item.path)
            old = self.seen(rel)
            name = item.name if old is None else str(old["name"])
            if taken.get(name, rel) != rel:
                name = f"{name}_{hashlib.sha256(rel.encode()).hexdigest()[:6]}"
            taken[name] = rel
            yield _named(item, name)

    def _judge(
        self,
        item: Input,
        rel: str,
        *,
        old: dict[str, Any] | None,
        files: Stats,
        verify: bool,
        pin: Pin | None,
    ) -> Arrival:
        if old is not None and old["files"] == files and not verify:
            state, because = self._known(old, pin)
            return Arrival(item, rel, state, because, files, old["digest"])
        if self._is_being_written(files):
            return Arrival(item, rel, "writing", "changed a moment ago; the next run takes it")
        digest, files = self._read_content(item, files)
        if old is not None and old["digest"] == digest:
            state, because = self._known(old, pin)
            self.remember(rel, {**old, "files": files})
            touched = because if verify else f"{because} (touched, content equal)"
            return Arrival(item, rel, state, touched, files, digest)
        if old is not None:
            return Arrival(item, rel, "changed", "its content changed", files, digest)
        known = self._recorded(item.name, digest)
        if known is None:
            return Arrival(item, rel, "new", "never scored", files, digest)
        old = _seen_from(known, rel, item=item, files=files, digest=digest)
        self.remember(rel, old)
        state, because = self._known(old, pin)
        return Arrival(item, rel, state, because, files, digest)

    def _known(self, old: Mapping[str, Any], pin: Pin | None) -> tuple[State, str]:
        """State of an input whose content is what it was."""
        provenance = self._done.get((old["model_id"], old["name"]))
        if provenance is None or provenance["status"] != old["status"]:
            return "new", "its results are gone"
        if old["status"] == "failed":
            if pin is not None and old["model"] != pin.digest:
                return "new", "failed with another model"
            return "failed", str(old["reason"])
        folder = self.results(old["model_id"])
        if not all((folder / file).is_file() for file in provenance["outputs"]):
            return "new", "a part of its results is gone"
        if old["version"] != STEP_VERSION["score"]:
            return "older", (
                f"scored by version {old['version']} of the step, now {STEP_VERSION['score']}; "
                "only --from or --to scores it again"
            )
        return "unchanged", f"scored {old['finished']} by {old['model_id']}"

    def _judge_backfill(self, arrival: Arrival, pin: Pin) -> Arrival:
        """Whether this very model and version has scored it, in the model's own folder."""
        assert arrival.digest is not None
        there = self._done.get((pin.model_id, arrival.item.name))
        wanted = key("score", arrival.digest, config=pin.config, bundle=pin.digest)
        if there is not None and there["key"] == wanted and there["status"] == "done":
            return arrival
        return replace(arrival, state="new", because=f"not scored by {pin.model_id} yet")

    @cached_property
    def _done(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Provenance of every result: (model, name) to its content."""
        found = {}
        for folder in self._result_folders():
            for file in folder.glob("*_provenance.json"):
                content = read_or_none(file)
                if content is not None:
                    name = file.name.removesuffix("_provenance.json")
                    found[folder.name, name] = content
        return found

    def _result_folders(self) -> list[Path]:
        if not self.place.is_dir():
            return []
        return sorted(p.parent for p in self.place.glob("*/provenance.json"))

    def _recorded(self, name: str, digest: str) -> dict[str, Any] | None:
        """A result of this content, whichever model made it; the newest where there are several."""
        fitting = [
            {**content, "model_id": model_id}
            for (model_id, known), content in self._done.items()
            if known == name and content["input"] == digest
        ]
        return max(fitting, key=lambda content: str(content["finished"]), default=None)

    # --------------------------------------------------------------------------- reading

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, os.path.abspath(self.operation.inbox))

    def _is_being_written(self, files: Stats) -> bool:
        newest = max((mtime for _, mtime in files.values()), default=0) / 1e9
        age = time.time() - newest
        # a time in the future is a clock's fault and says nothing about writing
        return 0 <= age < self.operation.settle_s

    def _stats(
        self,
        path: Path,
        old: Mapping[str, Any] | None,
        *,
        listing: dict[Path, dict[str, list[int]]],
    ) -> Stats:
        """Size and time of every file that belongs to a recording, as far as names tell."""
        if path.is_dir():
            files = {str(f): _stat(f) for f in sorted(path.rglob("*")) if f.is_file()}
            return {self._relative(Path(f)): s for f, s in files.items()}
        folder = path.parent
        if folder not in listing:
            listing[folder] = _listed(folder)
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        starts = [f"{stem}.", f"{stem}-"]
        if stem.endswith("_eeg"):
            starts.append(stem.removesuffix("eeg"))
        stats = {
            self._relative(folder / name): stat
            for name, stat in listing[folder].items()
            if name == path.name or name.startswith(tuple(starts))
        }
        for rel in old["files"] if old is not None else ():
            if rel not in stats:
                stats[rel] = _stat(self.operation.inbox / rel)
        return dict(sorted(stats.items()))

    def stats_now(self, arrival: Arrival) -> Stats:
        """Size and time of an arrival's files at this moment."""
        return {rel: _stat(self.operation.inbox / rel) for rel in arrival.files}

    def _read_content(self, item: Input, files: Stats) -> tuple[str, Stats]:
        """Digest of an input, and the sizes and times of all that went into it."""
        members: Sequence[Path]
        try:
            members = kind_of(self.study.kind).open(self.study.source, item).files
        except InputError:  # whatever changes may mend it
            members = [self.operation.inbox / rel for rel in files]
        try:
            digest = digest_files(file for file in members if file.is_file())
        except OSError as error:
            digest = f"unreadable: {error.strerror}"
        more = {self._relative(f): _stat(f) for f in members}
        return digest, dict(sorted({**files, **more}.items()))

    # -------------------------------------------------------------------------- the cache

    def _seen_file(self, rel: str) -> Path:
        return self.place / ".seen" / f"{hashlib.sha256(rel.encode()).hexdigest()[:24]}.json"

    def seen(self, rel: str) -> dict[str, Any] | None:
        """What is known of a path of the inbox; None where nothing is."""
        found: dict[str, Any] | None = read_or_none(self._seen_file(rel))
        return found

    def _all_seen(self) -> Iterator[dict[str, Any]]:
        folder = self.place / ".seen"
        for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            content = read_or_none(file)
            if content is not None:
                yield content

    def remember(self, rel: str, content: Mapping[str, Any]) -> None:
        """Keep what is known of a path."""
        write_json(self._seen_file(rel), dict(content))

    def gone(self) -> list[str]:
        """Names of inputs that were scored and are no longer in the inbox."""
        return [
            str(seen["name"])
            for seen in self._all_seen()
            if not (self.operation.inbox / seen["path"]).exists()
        ]

    # -------------------------------------------------------------------------- the list

    def expected(self, arrivals: Sequence[Arrival]) -> Expected | None:
        """What is missing by the list of what is expected; None where there is no list.

        Raises
        ------
        StudyError
            Where the list cannot be read.
        """
        file = self.operation.expected
        if file is None:
            return None
        names = _expected_names(file)
        there: set[str] = set()
        for arrival in arrivals:
            name, subject = arrival.item.name, arrival.item.subject
            there |= {name, subject, f"sub-{subject}", arrival.path}
            there |= {f"sub-{sub}"} if (sub := entities_of(name).get("sub")) else set()
        missing = tuple(name for name in names if name not in there)
        return Expected(len(names), len(names) - len(missing), missing)

    # ----------------------------------------------------------------------------- nights

    def nights(self) -> list[tuple[Path, dict[str, Any]]]:
        """Folders and records of all runs, oldest first."""
        folder = self.place / "nights"
        found = []
        for file in sorted(folder.glob("*/night.json")) if folder.is_dir() else ():
            content = read_or_none(file)
            if content is not None:
                found.append((file.parent, content))
        return found


def _named(item: Input, name: str) -> Input:
    if name == item.name:
        return item
    found = None if item.found is None else replace(item.found, name=name)
    return replace(item, name=name, found=found)


def _seen_from(
    provenance: Mapping[str, Any], rel: str, *, item: Input, files: Stats, digest: str
) -> dict[str, Any]:
    """What is kept of a path, from the provenance of its result."""
    this = key("score", digest, config=provenance["config"], bundle=provenance["model"])
    current = provenance["status"] == "failed" or provenance["key"] == this
    return {
        "path": rel,
        "name": item.name,
        "files": files,
        "digest": digest,
        "status": provenance["status"],
        "reason": provenance["summary"].get("reason", ""),
        "model_id": provenance["model_id"],
        "model": provenance["model"],
        "config": provenance["config"],
        "version": STEP_VERSION["score"] if current else STEP_VERSION["score"] - 1,
        "finished": provenance["finished"],
        "because": "never scored",
    }


def read_or_none(file: Path) -> Any:
    """Content of a JSON file; None where there is none or it is damaged."""
    try:
        return read_json(file)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _stat(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return [-1, 0]
    return [found.st_size, found.st_mtime_ns]


def _listed(folder: Path) -> dict[str, list[int]]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                found[entry.name] = _stat(Path(entry.path))
    return dict(sorted(found.items()))


def _expected_names(file: Path) -> list[str]:
    import csv

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"operation.expected {file}: cannot be read ({error})") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise StudyError(f"operation.expected {file}: lists nothing; write one name a line")
    tab = "\t" if "\t" in lines[0] else ","
    rows = list(csv.reader(lines, delimiter=tab))
    header = [cell.strip() for cell in rows[0]]
    known = [c for c in ("recording", "subject", "participant_id") if c in header]
    column = header.index(known[0]) if known else 0
    body = rows[1:] if known else rows
    return list(dict.fromkeys(row[column].strip() for row in body if len(row) > column))


# ----------------------------------------------------------------------- status and why


def known_inboxes() -> Path:
    """Return the file in which this project notes its inboxes."""
    return project_root() / "data" / "inboxes.json"


def note_inbox(inbox: Inbox) -> None:
    """Remember which study an inbox belongs to, for :func:`study_of`."""
    file = known_inboxes()
    known = read_or_none(file) or {}
    place = os.path.abspath(inbox.operation.inbox)
    if known.get(place) != str(inbox.file):
        write_json(file, {**known, place: str(inbox.file)})
