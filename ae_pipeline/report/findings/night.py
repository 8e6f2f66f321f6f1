"""The digest: what a run of an inbox has done, for a person in the morning.

One :class:`Night` says everything; :func:`markdown` and :func:`page` put it into words, the
verdict first. Names in it are what they were given as: the local digest names recordings, the
one that leaves the machine is the same code on :meth:`Night.masked`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ae_pipeline.report import Headline, Listing, Number, listing_page

__all__ = ["Night", "headline", "markdown", "page", "sentence"]

HIDDEN = "see the local digest"


@dataclass(frozen=True)
class Night:
    """What a run has found and done; lists hold names of recordings.

    ``flagged``, ``failed`` (in this run) and ``set_aside`` (failed earlier, unchanged since) map
    a name to the reason.
    """

    study: str
    began: str
    """Local time with its offset, ISO 8601."""
    ended: str = ""
    status: str = "begun"
    """``begun``, ``done`` or ``killed``."""
    model_id: str = ""
    process: str = ""
    """Host and process that did it."""
    scored: tuple[str, ...] = ()
    flagged: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    set_aside: Mapping[str, str] = field(default_factory=dict)
    writing: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    """Scored by an earlier version of the software."""
    gone: tuple[str, ...] = ()
    unchanged: int = 0
    expected: int | None = None
    arrived: int | None = None
    missing: tuple[str, ...] = ()
    missed_runs: tuple[str, ...] = ()
    """Scheduled runs that did not happen, oldest first."""
    killed_runs: tuple[str, ...] = ()
    """Earlier runs that began and did not end."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    links: Mapping[str, str] = field(default_factory=dict)
    """Words to addresses, for MLflow and the like."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Night:
        """A night from its record; keys of other versions are left out."""
        known = {each.name for each in fields(cls)}
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
        }
        return cls(**{name: value for name, value in lists.items() if name in known})

    def record(self) -> dict[str, Any]:
        """What :meth:`read` takes, as plain values."""
        return asdict(self)

    def masked(self, names: Mapping[str, str]) -> Night:
        """The same with pseudonyms, and without reasons that quote a file's name."""

        def code(name: str) -> str:
            return names.get(name, HIDDEN)

        return replace(
            self,
            process="",
            scored=tuple(map(code, self.scored)),
            flagged={code(n): r for n, r in self.flagged.items()},
            failed={code(n): HIDDEN for n in self.failed},
            set_aside={code(n): HIDDEN for n in self.set_aside},
            writing=tuple(map(code, self.writing)),
            older=tuple(map(code, self.older)),
            gone=tuple(map(code, self.gone)),
            missing=tuple(map(code, self.missing)),
        )


def sentence(night: Night) -> str:
    """The verdict: ``3 scored, 1 flagged, 1 failed; expected 12, arrived 11: sub-07 missing``."""
    parts = [f"{len(night.scored)} scored" if night.scored else "Nothing new"]
    for count, word in (
        (len(night.flagged), "flagged"),
        (len(night.failed), "failed"),
        (len(night.writing), "still being written"),
    ):
        if count:
            parts.append(f"{count} {word}")
    said = ", ".join(parts)
    if night.expected is not None:
        said += f"; expected {night.expected}, arrived {night.arrived}"
        if night.missing:
            said += f": {_some(night.missing)} missing"
    return said + "."


def _some(names: Sequence[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def headline(night: Night) -> Headline:
    """The first screen of the page."""
    warnings = []
    if night.missed_runs:
        n = len(night.missed_runs)
        warnings.append(
            f"{n} scheduled run{'s' if n > 1 else ''} did not happen: {_some(night.missed_runs)}"
        )
    if night.killed_runs:
        warnings.append(f"Ended before it was done: the run of {_some(night.killed_runs)}")
    if night.older:
        warnings.append(
            f"{len(night.older)} scored by an earlier version of the software; "
            "run-inbox --from DATE scores them again"
        )
    if night.gone:
        warnings.append(f"No longer in the inbox, results kept: {_some(night.gone)}")
    warnings += night.notes
    steps = []
    if night.flagged:
        steps.append("Look at the reports of what is flagged, the most unusual first.")
    if night.failed:
        steps.append("Mend or replace what failed; it is tried again when its files change.")
    if night.missing:
        steps.append("Ask for what is missing.")
    numbers = (
        Number("scored", str(len(night.scored)), f"{night.unchanged} unchanged"),
        Number("flagged", str(len(night.flagged)), ""),
        Number("failed", str(len(night.failed)), f"{len(night.set_aside)} earlier"),
        Number("missing", str(len(night.missing)), "" if night.expected is not None else "no list"),
    )
    return Headline(sentence(night), numbers, tuple(steps), warnings=tuple(warnings))


def markdown(night: Night) -> str:
    """The digest as Markdown."""
    top = headline(night)
    lines = [f"# {_plain(night.study)}: {night.began[:16].replace('T', ' ')}", ""]
    lines += [_plain(top.verdict), ""]
    lines += [f"- **Note:** {_plain(warning)}" for warning in top.warnings]
    lines += [""] if top.warnings else []
    for title, rows in _lists(night):
        if rows:
            lines += [f"## {title}", ""]
            lines += [f"- {_plain(name)}" + (f": {_plain(r)}" if r else "") for name, r in rows]
            lines.append("")
    lines += [f"- [{_plain(words)}]({address})" for words, address in night.links.items()]
    model = f"Model {_plain(night.model_id)}. " if night.model_id else ""
    lines += ["", f"{model}{night.seconds:.0f} s. _Research use, not a diagnosis._", ""]
    return "\n".join(lines)


def _lists(night: Night) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        ("Flagged", list(night.flagged.items())),
        ("Failed", list(night.failed.items())),
        ("Missing", [(name, "") for name in night.missing]),
        ("Scored", [(name, "") for name in night.scored if name not in night.flagged]),
        ("Still being written; the next run takes them", [(name, "") for name in night.writing]),
        ("Failed earlier and unchanged since", list(night.set_aside.items())),
    ]


def page(night: Night, reports: Mapping[str, str] | None = None) -> str:
    """The digest as one HTML page.

    Parameters
    ----------
    night : Night
    reports : mapping, optional
        Name of a recording to its report, relative to where the page will be.
    """
    known = reports or {}
    sections = [
        Listing(
            title,
            ("name", "why") if any(reason for _, reason in rows) else ("name",),
            tuple(
                ((name, reason) if any(r for _, r in rows) else (name,), known.get(name, ""))
                for name, reason in rows
            ),
        )
        for title, rows in _lists(night)
    ]
    title = f"{night.study}: {night.began[:16].replace('T', ' ')}"
    return listing_page(title, "Digest", headline=headline(night), listings=sections)


def _plain(text: str) -> str:
    """Text from files as text: nothing in it is Markdown or HTML."""
    text = " ".join(text.split())
    return re.sub(r"([\\`*\[\]<>|#~])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
