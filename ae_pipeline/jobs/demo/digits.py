"""The demo's images: handwritten digits, some of them altered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline.jobs.demo.demonstration import Demonstration, Outcome
from ae_pipeline.report import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Digits"]

N_CARDS = 6


class Digits(Demonstration):
    """Handwritten digits."""

    name = "mnist"
    sample = "mnist"
    title = "Handwritten digits: 70,000 images, some of the new ones turned or negative"
    short = "Digits"
    long = "the digits"
    planted = "altered images"
    rows = "images"
    quick_epochs = 3
    own = (
        "Images (IDX)",
        "ae-pipeline init mnist images/ -o study.yaml",
        "images",
        "new-images/",
    )

    def prepare(self, data: Path, place: Path) -> tuple[Path, Path]:
        """Half of the test images calibrate; of the others one in twenty is turned or negative.

        Returns the folder to train on and the file to score; ``truth.csv`` beside says which.
        """
        import numpy as np
        import pandas as pd

        from ae_pipeline.runtime.files import write_bytes, write_frame
        from ae_pipeline.sources.images import read_idx

        place = place / "data"
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

    def cards(self, outcome: Outcome) -> Evidence:
        """Altered images, flagged and missed, beside what the model makes of them."""
        from ae_pipeline.scoring import bundle as bundles
        from ae_pipeline.sources.images import MnistSource, load

        kinds, flagged = outcome.kinds(), outcome.scores["flagged"].astype(bool)
        rows: list[int] = []
        for name in outcome.kind_names()[1:]:
            for hit in (True, False):
                own = np.flatnonzero((kinds == name) & (flagged == hit))
                rows += own[:2].tolist() if hit else own[:1].tolist()
        chosen = sorted(rows[:N_CARDS])
        samples = load([outcome.new], MnistSource()).take(np.array(chosen))
        model = bundles.load(outcome.place / "training/model").autoencoder
        meta = outcome.scores.iloc[chosen][["score", "p_value"]].assign(
            label=[str(kinds.iloc[i]) for i in chosen],
            reason=["flagged" if flagged.iloc[i] else "not flagged" for i in chosen],
        )
        return Evidence(
            np.asarray(samples.values[:], float), model.reconstruct(samples).astype(float), meta
        )


def _idx(array: NDArray[np.uint8]) -> bytes:
    """An array of bytes in the IDX format of the MNIST files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()
