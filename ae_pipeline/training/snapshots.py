"""How reconstructions grow: the same few held-out samples after 1, 2, 4, 8 ... epochs.

:class:`Snapshots` listens to a training and keeps arrays beside the checkpoint, so that a resumed
training has them all; :func:`pictures` draws them, for MLflow's step slider.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.runtime.files import write_through

if TYPE_CHECKING:
    from ae_pipeline.training.loop import FittedAutoencoder

__all__ = ["Snapshots", "pictures"]

SHOWN = 4
CHANNELS = 6


@dataclass(frozen=True)
class Snapshots:
    """A listener that keeps what ``model`` makes of ``samples`` after some epochs.

    Parameters
    ----------
    model : FittedAutoencoder
        The one that is being trained.
    samples : Samples
        Some that it is not trained on; the first few are kept.
    place : Path
        Folder for ``epoch-NNNNN.npz``.
    """

    model: FittedAutoencoder
    samples: Samples
    place: Path

    def __call__(self, event: Any) -> None:
        """Keep the epochs 1, 2, 4, 8 ... and the last."""
        if not hasattr(event, "is_best"):
            return
        if event.epoch & (event.epoch - 1) and event.epoch != event.n_epochs:
            return
        few = self.samples.take(np.arange(min(SHOWN, len(self.samples))))
        arrays: dict[str, Any] = {
            "given": np.asarray(few.values[:]),
            "made": self.model.reconstruct(few),
        }
        with (
            write_through(self.place / f"epoch-{event.epoch:05d}.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez_compressed(file, **arrays)


def pictures(place: Path) -> dict[str, bytes]:
    """PNG pictures of what was kept, by the name ``epoch-NNNNN.png``."""
    found = {}
    for file in sorted(place.glob("epoch-*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            title = f"epoch {int(file.stem.partition('-')[2])}"
            found[f"{file.stem}.png"] = _draw(arrays["given"], arrays["made"], title=title)
    return found


def _draw(given: NDArray[Any], made: NDArray[Any], *, title: str) -> bytes:
    import io

    from matplotlib.figure import Figure

    n = len(given)
    image = given.ndim == 3 and given.shape[1] == given.shape[2] and not (given < 0).any()
    figure = Figure(figsize=(2.4 * n, 4.8 if image else 3.6), layout="constrained")
    axes = figure.subplots(2 if image else 1, n, squeeze=False)
    for i in range(n):
        if image:
            for row, values in enumerate((given[i], made[i])):
                axes[row, i].imshow(values, cmap="gray", vmin=0, vmax=1)
                axes[row, i].set_axis_off()
        elif given.ndim == 3:
            _draw_channels(axes[0, i], given[i], made=made[i])
        else:
            axes[0, i].plot(given[i], "o", color="#999", markersize=3)
            axes[0, i].plot(made[i], "-", color="#c33", linewidth=1)
    figure.suptitle(f"{title}: given (gray) and reconstructed" + (" below" if image else " (red)"))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _draw_channels(axes: Any, given: NDArray[Any], *, made: NDArray[Any]) -> None:
    few = given[:CHANNELS], made[:CHANNELS]
    step = 4 * float(np.median(np.abs(few[0]))) or 1.0
    for channel, (was, became) in enumerate(zip(*few, strict=True)):
        axes.plot(was - channel * step, color="#999", linewidth=0.8)
        axes.plot(became - channel * step, color="#c33", linewidth=0.8)
    axes.set_axis_off()
