"""Inputs named by a user, found and opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_pipeline.data import InputError, Recording, Samples
from ae_pipeline.sources import eeg, questionnaire
from ae_pipeline.sources import images as mnist

__all__ = [
    "Failure",
    "Input",
    "find_inputs",
    "open_input",
    "rows_of",
]


@dataclass(frozen=True)
class Failure:
    """An input that could not be used, and why (one line)."""

    name: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Input:
    """One thing to be scored: a recording, a table or a file of images."""

    name: str
    subject: str
    path: Path
    files: tuple[Path, ...]
    """What its digest covers; empty until a recording is opened."""
    found: eeg.Found | None = None


def find_inputs(source: Any, inputs: Sequence[str]) -> Iterator[Input | Failure]:
    """Turn what a user named into inputs, in a fixed order; what is missing is a failure."""
    if isinstance(source, eeg.EegSource):
        yield from _found_recordings(source, inputs)
        return
    reader = mnist if isinstance(source, mnist.MnistSource) else questionnaire
    files: list[Path] = []
    for given in inputs:
        try:
            files += reader.find(given)
        except InputError as error:
            yield Failure(Path(given).name, "", str(error))
    for file, name in _names(dict.fromkeys(file.absolute() for file in files)).items():
        members = mnist.members(file) if reader is mnist else (file,)
        yield Input(name, "", file, tuple(members))


def _names(files: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, with the folder's and then the ending where they collide."""
    names = {file: Path(file.name.removesuffix(".gz")).stem for file in files}
    for step in range(3):
        often = Counter(names.values())
        for file, name in [(file, name) for file, name in names.items() if often[name] > 1]:
            longer = (
                f"{file.parent.name}__{name}",
                f"{name}_{file.suffix.lstrip('.').lower()}",
                f"{file.parent.parent.name}__{name}",
            )
            names[file] = longer[step]
    return names


def _found_recordings(source: eeg.EegSource, inputs: Sequence[str]) -> Iterator[Input | Failure]:
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


def open_input(source: eeg.EegSource, item: Input) -> Recording:
    """Open a recording that was found."""
    assert item.found is not None
    return eeg.open_recording(item.found, source)


def rows_of(source: Any, item: Input, *, columns: Sequence[Any]) -> tuple[Samples, tuple[str, ...]]:
    """Rows of an image file or a table, with the reader's notes."""
    if isinstance(source, mnist.MnistSource):
        return mnist.load([item.path], source.model_copy(update={"digits": None})), ()
    table = questionnaire.load([item.path], source, columns=columns)
    return table.samples, table.notes
