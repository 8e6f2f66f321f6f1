"""What has been processed, and why something ran again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inbox import known_inboxes, read_or_none
from ae_pipeline.runtime.files import STEP_VERSION

if TYPE_CHECKING:
    from ae_pipeline.ingest.inbox import Inbox

__all__ = [
    "overview",
    "study_of",
    "why",
]


def overview(inbox: Inbox) -> dict[str, Any]:
    """State of an inbox for the terminal: counts, the pinned model, the last run, each input."""
    pin = inbox.pin() or inbox.last_pin()
    arrivals = inbox.look(pin)
    counts: dict[str, int] = {}
    for arrival in arrivals:
        counts[arrival.state] = counts.get(arrival.state, 0) + 1
    nights = inbox.nights()
    found: dict[str, Any] = {
        "inbox": str(inbox.operation.inbox),
        "model": None if pin is None else pin.model_id,
        "states": ", ".join(f"{n} {state}" for state, n in counts.items()) or "empty",
        "last_run": nights[-1][1]["began"] if nights else None,
        "unpublished": sum(
            night["status"] == "done" and bool(night["scored"] or night["failed"])
            for folder, night in nights
            if not (folder / "published.json").is_file()
        ),
        "gone": len(inbox.gone()),
    }
    if inbox.pin() is None and pin is not None:
        found["model_asked"] = f"{inbox.asked or 'champion'} (from the next run on)"
    expected = inbox.expected(arrivals)
    if expected is not None:
        found["expected"] = expected.sentence()
    found["inputs"] = [
        {"recording": a.item.name, "path": a.path, "state": a.state, "because": a.because}
        for a in arrivals
    ]
    return found


def study_of(file: Path) -> Path:
    """Study file of the inbox that a file lies in, once a run has been there.

    Raises
    ------
    StudyError
        Where none is known.
    """
    known = read_or_none(known_inboxes()) or {}
    for folder in Path(os.path.abspath(file)).parents:
        if str(folder) in known:
            return Path(known[str(folder)])
    raise StudyError(f"{file}: lies in no inbox that has been run; name the study with --study")


PARTS = {
    "inputs": "inputs (the content of the file)",
    "bundle": "bundle (the model)",
    "config": "config (what the model's detection allows)",
    "version": "version (of the scoring step)",
}


def why(inbox: Inbox, file: Path) -> list[str]:
    """What is known of a file of the inbox, and which part of its key has changed.

    Parameters
    ----------
    inbox : Inbox
    file : Path
        A recording or table in the inbox.

    Raises
    ------
    InputError
        Where the file is no input of this inbox.
    """
    rel = inbox._relative(Path(os.path.abspath(file)))
    pin = inbox.pin() or inbox.last_pin()
    arrival = next((a for a in inbox.look(pin) if rel == a.path or rel in a.files), None)
    if arrival is None:
        raise InputError(
            f"{file}: is no input of the inbox {inbox.operation.inbox}; see 'ae-pipeline status'"
        )
    old = inbox.seen(arrival.path)
    lines = [f"{arrival.item.name}: {arrival.state}, {arrival.because}"]
    if old is None:
        return lines
    lines.append(f"last run on it: {old['finished']}, because {old['because']}")
    was = {"inputs": old["digest"], "bundle": old["model"], "config": old["config"]}
    now: dict[str, Any] = {"inputs": arrival.digest or was["inputs"], "version": _version()}
    now |= {} if pin is None else {"bundle": pin.digest, "config": pin.config}
    was["version"] = old["version"]
    changed = [name for name in PARTS if name in now and now[name] != was[name]]
    for name in changed:
        before, after = (_brief(value) for value in (was[name], now[name]))
        lines.append(f"changed: {PARTS[name]}: {before} -> {after}")
    if not changed:
        lines.append("changed: nothing; inputs, bundle, config and version are what they were")
    elif set(changed) <= {"bundle", "config", "version"} and arrival.state != "new":
        lines.append("the next run leaves it: only --from, --to or --model score an archive again")
    return lines


def _version() -> int:
    return STEP_VERSION["score"]


def _brief(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value, sort_keys=True)
