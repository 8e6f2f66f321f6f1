"""What a job is: steps that run one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ae_pipeline.training.history import Batch, Epoch

__all__ = [
    "Job",
    "Progress",
    "Step",
    "run_plainly",
]


class Progress:
    """Progress callbacks, for bars; the base class ignores every event.

    What there is to say in words is logged, below the logger ``ae_pipeline``.
    """

    def stage(self, name: str) -> None:
        """A step begins."""

    def advance(self, done: float, total: float, what: str) -> None:
        """Part of a step is done."""

    def training(self, event: Epoch | Batch) -> None:
        """An epoch or a batch has ended."""


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of a job; ``retries`` only where input or output may fail for a moment."""

    name: str
    work: Callable[[], Any]
    retries: int = 0
    _found: list[Any] = field(default_factory=list, repr=False)

    def run(self) -> None:
        """Do the work and keep what it came to for the steps that follow."""
        self._found[:] = [self.work()]

    @property
    def value(self) -> Any:
        """What the work came to; there once the step has run."""
        return self._found[0]


class Job(Protocol):
    """What the flows and :func:`run_plainly` need."""

    kind: str
    title: str
    exit_status: int
    result: dict[str, Any]

    def steps(self) -> Iterator[Step]:
        """The steps, each to be run before the next is asked for."""

    def summary(self) -> str:
        """Markdown: the verdict and where things are; valid after the last step."""


def run_plainly(job: Job) -> None:
    """Run a job's steps without Prefect."""
    for step in job.steps():
        step.run()
