"""The main job on real data: three data sets, three models, three reports, one index page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.jobs.demo.index import Outcome, entry_of, index_of, sentence_of
from ae_pipeline.jobs.job import Job, Progress, Step
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report import IndexEntry, index_page
from ae_pipeline.runtime.files import write_text
from ae_pipeline.runtime.messages import Message, kept, replay

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ae_pipeline.training.history import Batch, Epoch

__all__ = ["KINDS", "DemoJob"]

_LOG = logging.getLogger(__name__)

KINDS = ("eeg", "questionnaire", "mnist")

NAMES = {"eeg": "EEG", "questionnaire": "questionnaire", "mnist": "digits"}

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
        self.inner.stage(f"{NAMES[self.kind]}: {WHY.get(name, name)}")

    def advance(self, done: float, total: float, what: str) -> None:
        self.inner.advance(done, total, what)

    def training(self, event: Epoch | Batch) -> None:
        self.inner.training(event)


def _named(run: Callable[[], None], kind: str) -> None:
    """Run a step; what it logs says which data set it is about."""
    messages: list[Message] = []
    try:
        with kept() as messages:
            run()
    finally:
        replay(messages, f"{NAMES[kind]}: ")


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
                [str(path) for path in self.new_data],
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
        from ae_pipeline.sources.sample_data import fetch

        names = {"eeg": "eeg", "questionnaire": "bfi", "mnist": "mnist"}
        self.progress.stage("fetching the sample data")
        data = fetch(names[kind])
        place = self.out / kind
        place.mkdir(parents=True, exist_ok=True)
        study, self.new_data = getattr(self, f"_{kind}")(data)
        write_text(place / "study.yaml", study)

    # Each of these gives the study file and what is scored afterwards.

    def _eeg(self, data: Path) -> tuple[str, list[Path]]:
        from ae_pipeline.jobs.init import initial_study

        study = initial_study("eeg", data / "recordings", name="demo-eeg")
        return self._shorter(study, 8), [data / "new"]

    def _mnist(self, data: Path) -> tuple[str, list[Path]]:
        from ae_pipeline.jobs.init import initial_study

        training, new = self._with_altered_images(data)
        study = initial_study("mnist", training, name="demo-mnist")
        return self._shorter(study, 3), [new]

    def _questionnaire(self, data: Path) -> tuple[str, list[Path]]:
        from ae_pipeline.jobs.init import initial_study

        table, careless = self._with_careless_rows(data / "bfi.csv")
        study = initial_study("questionnaire", table, name="demo-questionnaire")
        return self._shorter(study, 40), [careless]

    def _shorter(self, study: str, epochs: int) -> str:
        """The quick demo trains fewer epochs; nothing else differs."""
        import re

        return re.sub(r"(?m)^  epochs: \d+$", f"  epochs: {epochs}", study) if self.quick else study

    def _with_altered_images(self, data: Path) -> tuple[Path, Path]:
        """Half of the test images calibrate; of the others one in twenty is turned or negative.

        Returns the folder to train on and the file to score; ``truth.csv`` beside says which.
        """
        import numpy as np
        import pandas as pd

        from ae_pipeline.runtime.files import write_bytes, write_frame
        from ae_pipeline.sources.images import read_idx

        place = self.out / "mnist" / "data"
        images, labels = (
            read_idx(data / f"t10k-{what}-ubyte") for what in ("images-idx3", "labels-idx1")
        )
        half = len(images) // 2
        new = images[half:].copy()
        altered = np.random.default_rng(0).permutation(len(new))[: len(new) // 20]
        turned, negative = altered[::2], altered[1::2]
        new[turned] = np.rot90(new[turned], axes=(1, 2))
        new[negative] = 255 - new[negative]
        files = {
            "train/t10k-images-idx3-ubyte": images[:half],
            "train/t10k-labels-idx1-ubyte": labels[:half],
            "new-images-idx3-ubyte": new,
            "new-labels-idx1-ubyte": labels[half:],
        }
        for name, array in files.items():
            write_bytes(place / name, _idx(array))
        for what in ("images-idx3", "labels-idx1"):
            name = f"train-{what}-ubyte"
            write_bytes(place / "train" / name, (data / name).read_bytes())
        done = np.full(len(new), "as written", object)
        done[turned], done[negative] = "turned", "negative"
        truth = {
            "id": [f"new-{row:05d}" for row in range(len(new))],
            "label": (done != "as written").astype(int),
            "kind": done,
        }
        write_frame(place / "truth.csv", pd.DataFrame(truth))
        return place / "train", place / "new-images-idx3-ubyte"

    def _with_careless_rows(self, file: Path) -> tuple[Path, Path]:
        """Split the people in two; among the second tenth answer without reading.

        Returns the table to train on and the one to score; ``truth.csv`` beside says who.
        """
        import numpy as np
        import pandas as pd

        from ae_pipeline.runtime.files import write_frame

        people = pd.read_csv(file, dtype="Int64")
        rng = np.random.default_rng(0)
        order = rng.permutation(len(people))
        first, second = people.iloc[order[:2000]], people.iloc[order[2000:]].copy()
        items = [name for name in people if str(name)[0] in "ACENO" and str(name)[1:].isdigit()]
        careless = rng.permutation(len(second))[: len(second) // 10]
        done = np.full(len(second), "as answered", object)
        for n, row in enumerate(careless):
            if n % 3 == 0:  # random answers
                done[row] = "random answers"
                answers = rng.integers(1, 7, len(items))
            elif n % 3 == 1:  # left, right, left, right
                done[row] = "1 and 6 in turn"
                answers = np.where(np.arange(len(items)) % 2, 6, 1)
            else:  # the same answer throughout, with a few slips
                done[row] = "nearly one answer"
                answers = np.full(len(items), rng.integers(2, 6))
                slips = rng.permutation(len(items))[:3]
                answers[slips] += rng.choice([-1, 1], 3)
            second.loc[second.index[row], items] = answers
        place = self.out / "questionnaire" / "data"
        label = (done != "as answered").astype(int)
        truth = pd.DataFrame({"id": second["id"].astype(str), "label": label, "kind": done})
        write_frame(place / "truth.csv", truth)
        return (
            write_frame(place / "people.csv", first),
            write_frame(place / "new-people.csv", second),
        )

    # ------------------------------------------------------------------------ results

    def _compare(self, kind: str) -> None:
        import pandas as pd

        from ae_pipeline.analysis.evaluate import evaluate, read_truth

        self.progress.stage("holding what was found against what was planted")
        place = self.out / kind
        scores = pd.read_parquet(place / "new-data/scores.parquet")
        events = self.new_data[0] / "events.tsv"
        labels = read_truth(events if kind == "eeg" else place / "data/truth.csv")
        truth = evaluate(scores, labels)
        outcome = Outcome(kind, place, self.new_data[0], scores, labels, truth)
        self.result[f"{kind}_truth"] = truth
        said = f"{NAMES[kind]}: {sentence_of(outcome)}"
        _LOG.info(said)
        self.findings.append(said)
        self.outcomes.append(outcome)
        self.entries.append(entry_of(outcome))

    def _index(self) -> None:
        page = index_page(index_of(self.outcomes, self.entries, quick=self.quick))
        write_text(self.out / "index.html", page)
        self.result["report"] = str(self.out / "index.html")


def _idx(array: NDArray[np.uint8]) -> bytes:
    """An array of bytes in the IDX format of the MNIST files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()
