"""Inputs named by a user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_pipeline.kind import Source, kind_of

__all__ = [
    "Failure",
    "Input",
    "find_inputs",
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
    found: Any = None
    """What its kind found out about it on the way."""
    content: Any = None
    """What its kind made of it when it was opened."""
    digest: str | None = None
    """Of its files, once they are known; the bytes are read for it once."""


def find_inputs(source: Source, inputs: Sequence[str]) -> Iterator[Input | Failure]:
    """Turn what a user named into inputs, in a fixed order; what is missing is a failure."""
    return kind_of(source.kind).find(source, inputs)
