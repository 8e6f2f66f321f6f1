"""The main job on real data: three data sets, three models, three reports, one index page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.jobs.demo.answers import Answers
from ae_pipeline.jobs.demo.demonstration import Demonstration, Outcome
from ae_pipeline.jobs.demo.digits import Digits
from ae_pipeline.jobs.demo.index import entry_of, index_of, sentence_of
from ae_pipeline.jobs.demo.recordings import Recordings
from ae_pipeline.jobs.job import Job, Progress, Step
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report import IndexEntry, index_page
from ae_pipeline.runtime.files import write_text
from ae_pipeline.runtime.messages import Message, kept, replay

if TYPE_CHECKING:
    from ae_pipeline.training.history import Batch, Epoch

__all__ = ["KINDS", "DemoJob"]

_LOG = logging.getLogger(__name__)

DEMONSTRATIONS: dict[str, Demonstration] = {
    each.name: each for each in (Recordings(), Answers(), Digits())
}
KINDS = tuple(DEMONSTRATIONS)

WHY = {
    "reading": "reading the recordings or rows that are taken for normal",
    "training": "training: a network learns to reproduce what is normal",
    "calibrating": "calibrating on normal data it has not seen: what a flag is worth",
    "comparing with factor analysis": "comparing with factor analysis: is a network needed?",
    "writing the report": "writing the report of the training",
    "putting the group together": "comparing all that was scored",
    "publishing to MLflow": "keeping a record in MLflow",
}
"""What a stage is for, where its name does not say."""


class _Told(Progress):
    """Tells which data set a stage belongs to and what it is for."""

    def __init__(self, progress: Progress) -> None:
        self.inner = progress
        self.kind = ""

    def stage(self, name: str) -> None:
        self.inner.stage(f"{_subject(self.kind)}: {WHY.get(name, name)}")

    def advance(self, done: float, total: float, what: str) -> None:
        self.inner.advance(done, total, what)

    def training(self, event: Epoch | Batch) -> None:
        self.inner.training(event)


def _subject(kind: str) -> str:
    """What a line is about."""
    return DEMONSTRATIONS[kind].long.removeprefix("the ")


def _named(run: Callable[[], None], kind: str) -> None:
    """Run a step; what it logs says which data set it is about."""
    messages: list[Message] = []
    try:
        with kept() as messages:
            run()
    finally:
        replay(messages, f"{_subject(kind)}: ")


class DemoJob:
    """Fetch, train, score and compare with the truth, for each kind of data.

    Parameters
    ----------
    kinds : sequence of str
        Which of :data:`KINDS`.
    out : Path
        Everything goes below this folder.
    quick : bool
        Fewer epochs and images: to see that it works.
    progress : Progress, optional
    """

    kind = "demo"
    title = "demo"

    def __init__(
        self, kinds: Sequence[str], out: Path, *, quick: bool, progress: Progress | None = None
    ) -> None:
        self.kinds = [kind for kind in KINDS if kind in kinds]
        self.out = out.absolute()
        self.quick = quick
        self.progress = _Told(progress or Progress())
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        self.outcomes: list[Outcome] = []
        self.entries: list[IndexEntry] = []
        self.findings: list[str] = []

    def steps(self) -> Iterator[Step]:
        """All steps of all jobs, then the index page."""
        for kind in self.kinds:
            self.progress.kind = kind
            yield Step(f"{kind}: fetch the data", partial(self._fetch, kind), retries=1)
            place = self.out / kind
            train = train_job(
                place / "study.yaml", place / "training", overrides=(), progress=self.progress
            )
            yield from self._steps_of(train, kind)
            score = score_job(
                str(place / "training/model"),
                [str(self.new_data)],
                out=place / "new-data",
                error_rate=None,
                progress=self.progress,
            )
            yield from self._steps_of(score, kind)
            yield Step(f"{kind}: compare with the truth", partial(self._compare, kind))
        yield Step("write the index page", self._index)

    def summary(self) -> str:
        """Markdown: what was found."""
        return "\n".join(["# Demo", "", *(f"- {line}" for line in self.findings), ""])

    def _steps_of(self, job: Job, kind: str) -> Iterator[Step]:
        for step in job.steps():
            yield Step(f"{kind}: {step.name}", partial(_named, step.run, kind), step.retries)
        self.exit_status = max(self.exit_status, job.exit_status)
        self.result[f"{kind}_{job.kind}"] = job.result

    def _fetch(self, kind: str) -> None:
        import re

        from ae_pipeline.jobs.init import initial_study
        from ae_pipeline.sources.sample_data import fetch

        shown = DEMONSTRATIONS[kind]
        self.progress.stage("fetching the sample data")
        data = fetch(shown.sample)
        place = self.out / kind
        place.mkdir(parents=True, exist_ok=True)
        known, self.new_data = shown.prepare(data, place)
        study = initial_study(kind, known, name=f"demo-{kind}")
        if self.quick:  # fewer epochs; nothing else differs
            study = re.sub(r"(?m)^  epochs: \d+$", f"  epochs: {shown.quick_epochs}", study)
        write_text(place / "study.yaml", study)

    # ------------------------------------------------------------------------ results

    def _compare(self, kind: str) -> None:
        import pandas as pd

        from ae_pipeline.analysis.evaluate import evaluate, read_truth

        self.progress.stage("holding what was found against what was planted")
        place = self.out / kind
        scores = pd.read_parquet(place / "new-data/scores.parquet")
        shown = DEMONSTRATIONS[kind]
        labels = read_truth(shown.truth(place, self.new_data))
        truth = evaluate(scores, labels)
        outcome = Outcome(shown, place, self.new_data, scores, labels, truth)
        self.result[f"{kind}_truth"] = truth
        said = f"{_subject(kind)}: {sentence_of(outcome)}"
        _LOG.info(said)
        self.findings.append(said)
        self.outcomes.append(outcome)
        self.entries.append(entry_of(outcome))

    def _index(self) -> None:
        page = index_page(index_of(self.outcomes, self.entries, quick=self.quick))
        write_text(self.out / "index.html", page)
        self.result["report"] = str(self.out / "index.html")
