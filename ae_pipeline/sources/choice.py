"""Which channels of a file are used, under which labels, and why the others are not.

What the study declares (``pick``, ``exclude``, ``types``, ``eog``, ``rename``) goes before what
the data set's sidecars and the file say, and that before what names give away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.data import InputError
from ae_pipeline.sources.channels import REFERENCES, is_lettered, labels_of, not_eeg
from ae_pipeline.sources.formats.content import Content

if TYPE_CHECKING:
    from ae_pipeline.sources.eeg import EegSource

__all__ = ["Channels", "choose", "declared"]


@dataclass(frozen=True)
class Channels:
    """Rows of a file that are used, under which labels, and why not the others."""

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    left_out: dict[str, str]
    references: tuple[str, ...]
    eog: tuple[int, ...] = ()
    triggers: tuple[int, ...] = ()
    other_rate: tuple[str, ...] = ()
    """EEG channels that are sampled at another rate than most."""


def declared(wanted: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return what a mapping of names or patterns holds for the first name that fits, if any.

    Parameters
    ----------
    wanted : mapping of str to str
        Names, or patterns with ``*``, ``?`` and ``[...]``, in any case.
    names : iterable of str
        All that one channel is called.
    """
    known = [name.casefold() for name in names]
    exact = {key.casefold(): value for key, value in wanted.items()}
    for name in known:
        if name in exact:
            return exact[name]
    for key, value in exact.items():
        if any(fnmatchcase(name, key) for name in known):
            return value
    return None


def choose(content: Content, source: EegSource, *, path: Path) -> Channels:
    """Pick, exclude, type and name channels; one sampling rate remains.

    Raises
    ------
    InputError
        A channel of ``source.pick`` is missing, or no EEG channel is left.
    """
    renamed = [
        declared(source.rename, (name, label)) or name
        for name, label in zip(content.names, labels_of(content.names), strict=True)
    ]
    labels = labels_of(renamed)
    excluded = {name.casefold() for name in source.exclude}
    wanted = None if source.pick == "eeg" else {name.casefold() for name in source.pick}
    left_out: dict[str, str] = {}
    rows: list[int] = []
    references, eyes, triggers = [], [], []
    for row, (name, label) in enumerate(zip(content.names, labels, strict=True)):
        known_as = {name.casefold(), renamed[row].casefold(), label.casefold()}
        kind = _kind(content.types[row], label, source=source, known_as=known_as, labels=labels)
        if kind.upper() == "EOG":
            eyes.append(row)
        elif kind in ("trigger", "stim"):
            triggers.append(row)
        if label in REFERENCES and not is_lettered(labels) and not kind:
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
        rows = _in_order(rows, source.pick, names=(content.names, renamed, labels), path=path)
    if not rows:
        found = ", ".join(f"{name} ({kind})" for name, kind in list(left_out.items())[:6])
        raise InputError(
            f"{path.name}: no EEG channel among {len(content.names)}"
            f"{f' ({found})' if found else ''}; name channels in source.pick or drop the file"
        )
    rates = Counter(content.rates_hz[row] for row in rows)
    rate = max(rates, key=lambda hz: (rates[hz], hz))
    slower = [row for row in rows if content.rates_hz[row] != rate]
    rows = [row for row in rows if content.rates_hz[row] == rate]
    return Channels(
        tuple(rows),
        tuple(labels[row] for row in rows),
        left_out,
        tuple(references),
        tuple(row for row in eyes if content.rates_hz[row] == rate and row not in rows),
        tuple(triggers),
        tuple(f"{content.names[row]} ({content.rates_hz[row]:g} Hz)" for row in slower),
    )


def _kind(
    of_file: str, label: str, *, source: EegSource, known_as: set[str], labels: Sequence[str]
) -> str:
    """What a channel is where it is no EEG; else empty."""
    if declared(dict.fromkeys(source.eog, "EOG"), known_as):
        return "EOG"
    said = declared(source.types, known_as)
    if said is not None:
        return {"eeg": "", "reference": "reference or ground"}.get(said, said)
    return of_file if of_file != "eeg" else not_eeg(label, labels)


def _in_order(
    rows: list[int], pick: Sequence[str], *, names: Sequence[Sequence[str]], path: Path
) -> list[int]:
    """The picked rows in the order of ``source.pick``, all of which must be there."""
    known = {row: [each[row].casefold() for each in names] for row in rows}
    have = {name for of_row in known.values() for name in of_row}
    lacking = [name for name in pick if name.casefold() not in have]
    if lacking:
        labels = names[-1]
        raise InputError(
            f"{path.name}: has no channel {', '.join(lacking)} (of source.pick); it has "
            f"{', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}"
        )
    order = [name.casefold() for name in pick]
    return sorted(rows, key=lambda row: min(order.index(n) for n in known[row] if n in order))
