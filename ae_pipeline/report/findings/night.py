"""The digest: what a run of an inbox has done, for a person in the morning.

One :class:`Night` says everything; :func:`markdown` and :func:`page` put it into words, the
verdict first. Names in it are what they were given as: the local digest names recordings, the
one that leaves the machine is the same code on :meth:`Night.masked`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ae_pipeline.report import Headline, Listing, Number, listing_page
from ae_pipeline.report.markdown import escaped, headline_markdown
from ae_pipeline.report.wording import count, listed

__all__ = ["Night", "headline", "markdown", "page", "sentence"]

HIDDEN = "see the local digest"

COUNTED = ("scored", "flagged", "failed", "missing")
"""What is counted of a night."""


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

    def names(self) -> list[str]:
        """Every name in it."""
        groups = (self.scored, self.flagged, self.failed, self.set_aside, self.writing, self.older)
        return sorted({name for g in (*groups, self.gone, self.missing) for name in g})

    def masked(self, code: Callable[[str], str]) -> Night:
        """The same with a pseudonym for each name, and without reasons that quote a file's."""
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
    for n, word in (
        (len(night.flagged), "flagged"),
        (len(night.failed), "failed"),
        (len(night.writing), "still being written"),
    ):
        if n:
            parts.append(f"{n} {word}")
    said = ", ".join(parts)
    if night.expected is not None:
        said += f"; expected {night.expected}, arrived {night.arrived}"
        if night.missing:
            said += f": {listed(night.missing)} missing"
    return said + "."


def headline(night: Night) -> Headline:
    """The first screen of the page."""
    warnings = []
    if night.missed_runs:
        n = count(len(night.missed_runs), "scheduled run")
        warnings.append(f"{n} did not happen: {listed(night.missed_runs)}")
    if night.killed_runs:
        warnings.append(f"Ended before it was done: the run of {listed(night.killed_runs)}")
    if night.older:
        warnings.append(
            f"{len(night.older)} scored by an earlier version of the software; "
            "run-inbox --from DATE scores them again"
        )
    if night.gone:
        warnings.append(f"No longer in the inbox, results kept: {listed(night.gone)}")
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
    below = []
    for title, rows in _lists(night):
        if rows:
            below += [f"## {title}", ""]
            below += [f"- {escaped(name)}" + (f": {escaped(r)}" if r else "") for name, r in rows]
            below.append("")
    below += [f"- [{escaped(words)}]({address})" for words, address in night.links.items()]
    model = f"Model {escaped(night.model_id)}. " if night.model_id else ""
    below += [f"{model}{night.seconds:.0f} s.", ""]
    return headline_markdown(_title(night), headline(night), below=below)


def _title(night: Night) -> str:
    return f"{night.study}: {night.began[:16].replace('T', ' ')}"


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
    return listing_page(_title(night), "Digest", headline=headline(night), listings=sections)
