"""A finished run as MLflow is to show it, and where MLflow shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from ae_pipeline.config import Config

__all__ = ["Child", "InputShape", "Lineage", "Published", "Record"]


class Lineage(Config):
    """Where a run's data came from, as MLflow lists it."""

    name: str
    """Name of the data set."""
    digest: str
    """Digest of its content."""
    source: str
    """Where it can be had; no path of this machine."""
    rows: int | None = None
    """Number of windows, images or respondents."""
    features: int | None = None
    """Entries of one of them."""


class InputShape(Config):
    """What a model takes."""

    shape: tuple[int, ...]
    """Shape of one sample."""


class Child(Config):
    """A run below another: a recording that a night has flagged, or that failed."""

    name: str
    """Identity within its parent, and its folder below ``children/``; a pseudonym."""
    run_name: str
    """What a person recognises the run by."""
    description: str
    """Readable summary (Markdown)."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """Results; null where a thing cannot be known."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What runs are found by."""


class Record(Config):
    """Contents of ``pseudonymised/run.json``: a run as MLflow is to show it, no identities."""

    kind: Literal["train", "score", "compare", "night", "comparison"]
    """What was done."""
    experiment: str
    """The study's name."""
    run_name: str
    """What a person recognises the run by."""
    key: str
    """Identity of the work; equal keys are published once."""
    work: str | None = None
    """Identity that was known before the work began; the run that was live meanwhile has it."""
    description: str
    """Readable summary (Markdown), with which the run opens."""
    params: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Settings of the run."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """Results of the run; null where a thing cannot be known."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What runs are found by."""
    dataset: Lineage | None = None
    """Where the data came from."""
    model_name: str | None = None
    """Name under which the bundle in ``model/`` is registered."""
    input_example: InputShape | None = None
    """Size of the example that the model is stored with; none is stored where it is null."""
    children: tuple[Child, ...] = ()
    """Runs below this one."""


@dataclass(frozen=True)
class Published:
    """Where MLflow shows a run."""

    run_id: str
    run_url: str
    """Page of the run; of ``ae-pipeline ui`` where there is no server."""
    tracking_uri: str
    model_uri: str | None = None
    model_name: str | None = None
    model_version: str | None = None
