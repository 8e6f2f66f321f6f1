"""The worked example of the text, trained as it says and shown beside its figures.

The study is ``textbook.yaml`` beside this file. Losses are means per pixel, natural logarithm;
pixels run from 0 (black) to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report import TextbookView, textbook_page
from ae_pipeline.runtime.files import read_json, write_frame, write_text

if TYPE_CHECKING:
    from ae_pipeline.training.history import Batch, Epoch

__all__ = ["STUDY", "TEXT_TRAIN_LOSS", "TextbookJob"]

STUDY = Path(__file__).with_name("textbook.yaml")
TEXT_TRAIN_LOSS = 0.1166
"""The text's loss over its last epoch, on the images it trains on; it gives none on others."""

N_LATENTS = 5
N_DIGITS = 15
QUICK_EPOCHS = 3


class _Watching(Progress):
    """Passes everything on, and keeps the loss of every step of the last epoch."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.losses: list[float] = []

    def stage(self, name: str) -> None:
        self.inner.stage(name)

    def advance(self, done: float, total: float, what: str) -> None:
        self.inner.advance(done, total, what)

    def training(self, event: Epoch | Batch) -> None:
        from ae_pipeline.training.history import Batch

        if isinstance(event, Batch) and event.epoch == event.n_epochs:
            self.losses.append(event.loss())
        self.inner.training(event)


class TextbookJob:
    """Train the text's model and write the page that shows it.

    Parameters
    ----------
    out : Path
        Folder for the results.
    quick : bool
        Three epochs instead of fifty: to see that it works.
    progress : Progress, optional
    """

    kind = "demo"
    data = "mnist"
    title = "textbook"

    def __init__(self, out: Path, quick: bool, *, progress: Progress | None = None) -> None:
        self.out = out.absolute()
        self.quick = quick
        self.progress = _Watching(progress or Progress())
        self.exit_status = 0
        self.result: dict[str, Any] = {}

    def steps(self) -> Iterator[Step]:
        """The steps of a training, then the page."""
        study = self.out / "study.yaml"
        write_text(study, STUDY.read_text(encoding="utf-8"))
        overrides = [f"training.epochs={QUICK_EPOCHS}"] if self.quick else []
        steps_file = self.out / "last-epoch.csv"
        job = train_job(
            study,
            self.out / "training",
            overrides=overrides,
            progress=self.progress,
            fresh=not steps_file.is_file(),
        )
        steps = job.steps()
        read = next(steps)
        yield read
        yield from steps
        self._keep_steps(steps_file)
        self.result |= job.result
        self.exit_status = job.exit_status
        yield Step("show it beside the text", lambda: self._page(read.value.data.samples))

    def summary(self) -> str:
        """Markdown: the verdict."""
        return f"# The worked example\n\n{self.result.get('verdict', '')}\n"

    def _keep_steps(self, file: Path) -> None:
        import pandas as pd

        if self.progress.losses:
            losses = pd.Series(self.progress.losses)
            frame = pd.DataFrame({"step": losses.index + 1, "loss": losses})
            frame["running_loss"] = losses.expanding().mean()
            write_frame(file, frame)

    def _page(self, samples: Any) -> None:
        import numpy as np
        import pandas as pd

        from ae_pipeline.analysis.layers import layers_of
        from ae_pipeline.scoring.bundle import load

        self.progress.stage("showing it beside the text")
        bundle = load(self.out / "training/model")
        sets = samples.meta["set"].to_numpy()
        train, test = (samples.take(np.flatnonzero(sets == name)) for name in ("train", "t10k"))
        fitted, pca = bundle.autoencoder, bundle.baselines["pca"]
        history = pd.read_csv(self.out / "training/history.csv")
        first = test.take(slice(0, N_DIGITS))
        squared = float(np.square(np.asarray(test.values) - fitted.reconstruct(test)).mean())
        facts = {
            "train_loss": float(history["train_loss"].iloc[-1]),
            "train_loss_after": float(fitted.score(train).total.mean()),
            "test_loss": float(fitted.score(test).total.mean()),
            "text_train_loss": TEXT_TRAIN_LOSS,
            "test_squared_error": squared,
            "pca_squared_error": float(pca.score(test).total.mean()),
            "n_train": len(train),
            "n_test": len(test),
        }
        view = TextbookView(
            numbers=facts,
            history=history,
            steps=pd.read_csv(self.out / "last-epoch.csv"),
            layers=layers_of(bundle),
            samples=np.asarray(train.values[:10]),
            sample_labels=[str(label) for label in train.meta["label"].iloc[:10]],
            latents=fitted.latents(first)[:N_LATENTS],
            originals=np.asarray(first.values),
            reconstructions=fitted.reconstruct(first),
            labels=[str(label) for label in first.meta["label"]],
            study=STUDY.read_text(encoding="utf-8"),
            quick=self.quick,
            versions=dict(bundle.info.versions),
        )
        page = self.out / "textbook.html"
        write_text(page, textbook_page(view))
        facts["parameters"] = read_json(self.out / "training/metrics.json")["parameters"]
        self.result["textbook"] = facts
        self.result["training_report"] = self.result["report"]
        self.result["report"] = str(page)
        self.result["verdict"] = view.verdict
