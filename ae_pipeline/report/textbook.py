"""The page of the worked example: each step of the text with the figures of this run.

Pixels run from 0 (black) to 1; losses are means per pixel, natural logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ae_pipeline.report.drawing import HALF, SERIES, Picture, figure, house_style, legend, picture
from ae_pipeline.report.pages import layers_table, render
from ae_pipeline.report.pictures.evidence import png
from ae_pipeline.report.pictures.figures import loss_curve
from ae_pipeline.report.tables import Cell, Column, Table
from ae_pipeline.report.views import Headline, Number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TextbookView", "textbook_page"]

Float = NDArray[np.float32]
A_ROW = 5  # of digits beside their reconstructions


@dataclass(frozen=True, kw_only=True, eq=False)
class TextbookView:
    """What the page shows.

    Parameters
    ----------
    numbers : mapping
        ``train_loss`` (over the last epoch, as the text has it), ``train_loss_after`` (of the
        finished model), ``test_loss``, ``text_train_loss``, ``test_squared_error``,
        ``pca_squared_error``, ``n_train``, ``n_test``.
    history : DataFrame
        ``epoch``, ``train_loss``, ``seconds``.
    steps : DataFrame
        ``step``, ``loss``, ``running_loss`` within the last epoch.
    layers : sequence of (name, output shape, parameters)
    samples : array of shape (m, rows, columns)
        The first training images; the first of them is shown as numbers.
    latents : array of shape (5, latent_dim)
    originals, reconstructions : array of shape (15, rows, columns)
    """

    numbers: Mapping[str, float]
    history: pd.DataFrame
    steps: pd.DataFrame
    layers: Sequence[tuple[str, Any, int]]
    samples: Float
    sample_labels: Sequence[str]
    latents: Float
    originals: Float
    reconstructions: Float
    labels: Sequence[str]
    study: str = ""
    quick: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        n = self.numbers
        ours, text = n["train_loss"], n["text_train_loss"]
        word = "below" if ours < text else "above"
        return (
            f"Trained as the text says, the model reaches a training loss of {ours:.4f} "
            f"({word} the text's {text:.4f}) and {n['test_loss']:.4f} on the "
            f"{n['n_test']:,.0f} images it never saw, which the text does not give."
        )


def textbook_page(view: TextbookView) -> str:
    """One HTML file that follows the text step by step."""
    n = view.numbers
    parts = {side: _parameters(view, side) for side in ("encoder", "decoder")}
    total = sum(parts.values())
    n_steps = len(view.steps)
    headline = Headline(
        view.verdict,
        (
            Number("Training loss", f"{n['train_loss']:.4f}", "over the last epoch"),
            Number("Training loss in the text", f"{n['text_train_loss']:.4f}"),
            Number("Test loss", f"{n['test_loss']:.4f}", "not given in the text"),
            Number("Parameters", f"{total:,}", f"{parts['encoder']:,} + {parts['decoder']:,}"),
        ),
        (
            "Train it as a study of your own: copy the study file below, then ae-pipeline train",
            "Try other models on the same data: ae-pipeline compare",
        ),
        f"PCA with as many features leaves a mean squared error of {n['pca_squared_error']:.4f}, "
        f"this model {n['test_squared_error']:.4f}.",
        ("Only three epochs were trained (--quick): the figures are not the example's.",)
        if view.quick
        else (),
    )
    return render(
        "textbook",
        title="The worked example: digits in ten numbers",
        kind="Worked example · images",
        headline=headline,
        samples=[
            (png(image), f"Training image {i + 1}, a {label}", label)
            for i, (image, label) in enumerate(zip(view.samples, view.sample_labels, strict=True))
        ],
        matrix=np.rint(255 * view.samples[0]).astype(int).tolist(),
        first_label=view.sample_labels[0],
        layers=layers_table(view.layers),
        sums=f"{parts['encoder']:,} + {parts['decoder']:,} = {total:,}",
        epochs=_epochs(view.history),
        loss=loss_curve(view.history),
        n_steps=n_steps,
        running=_running(view.steps),
        losses=_losses(n),
        latents=_latents(view),
        pairs=_pairs(view),
        study=Markup("\n").join(view.study.splitlines()),
        notes=(),
        facts=[(f"Version of {name}", text) for name, text in view.versions.items()],
    )


def _parameters(view: TextbookView, side: str) -> int:
    return sum(count for name, _, count in view.layers if name.startswith(side))


def _epochs(history: pd.DataFrame) -> Table:
    columns = (Column("epoch"), Column("training loss"), Column("seconds"))
    rows = tuple(
        (Cell(f"{epoch:.0f}"), Cell(f"{loss:.4f}"), Cell(f"{seconds:.1f}"))
        for epoch, loss, seconds in history[["epoch", "train_loss", "seconds"]].itertuples(
            index=False, name=None
        )
    )
    return Table("Each epoch: the mean loss over its steps, as training went on.", columns, rows)


def _losses(n: Mapping[str, float]) -> Table:
    columns = (Column("loss (binary cross-entropy)", number=False), Column("text"), Column("ours"))
    rows = (
        ("training, over the last epoch", f"{n['text_train_loss']:.4f}", f"{n['train_loss']:.4f}"),
        (
            f"the {n['n_train']:,.0f} training images after training",
            "not given",
            f"{n['train_loss_after']:.4f}",
        ),
        (f"the {n['n_test']:,.0f} test images", "not given", f"{n['test_loss']:.4f}"),
    )
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table("The text's figure and ours, lower is better.", columns, cells)


def _running(steps: pd.DataFrame) -> Picture | None:
    if steps.empty:
        return None
    with house_style():
        fig, ax = figure(HALF, 3.1)
        ax.plot(steps["step"], steps["loss"], color=SERIES[0], linewidth=0.8, label="this step")
        ax.plot(steps["step"], steps["running_loss"], color=SERIES[1], lw=2, label="mean so far")
        ax.set(xlabel="step within the last epoch", ylabel="loss per pixel")
        legend(ax)
        last = steps["running_loss"].iloc[-1]
        return picture(
            fig,
            f"Loss of the {len(steps)} steps of the last epoch; their mean ends at {last:.4f}.",
            caption="What a progress bar shows during the last epoch: the mean of the steps "
            "so far.",
        )


def _latents(view: TextbookView) -> Table:
    columns = (
        Column("digit", number=False),
        *(Column(f"z{i}") for i in range(view.latents.shape[1])),
    )
    rows = tuple(
        (Cell(label), *(Cell(f"{value:.2f}".replace("-", "−")) for value in code))
        for label, code in zip(view.labels, view.latents, strict=False)
    )
    return Table(
        f"The first {len(view.latents)} test images, {view.latents.shape[1]} numbers each: "
        "all that the decoder is given.",
        columns,
        rows,
    )


def _pairs(view: TextbookView) -> list[list[tuple[str, str, str]]]:
    """Rows of (label, original, reconstruction), ``A_ROW`` rows in as many blocks as it takes."""
    cells = [
        (label, png(np.clip(original, 0, 1)), png(np.clip(again, 0, 1)))
        for label, original, again in zip(
            view.labels, view.originals, view.reconstructions, strict=True
        )
    ]
    return [cells[row::A_ROW] for row in range(A_ROW)]
