"""Reconstructions over epochs: kept beside the checkpoint, drawn for each kind of data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import made
import numpy as np
import pytest

from ae_pipeline.training.snapshots import Snapshots, pictures


@dataclass
class Epoch:
    epoch: int
    n_epochs: int = 7
    is_best: bool = True


class Mirror:
    """Makes zeros of everything."""

    def reconstruct(self, samples):
        return np.zeros(samples.values[:].shape, np.float32)


@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_few_epochs_are_kept_and_drawn(kind: str, tmp_path: Path) -> None:
    keep = Snapshots(Mirror(), made.of_kind(kind, 10), tmp_path)
    for epoch in range(1, 8):
        keep(Epoch(epoch))
    keep(object())  # a batch
    found = pictures(tmp_path)
    assert list(found) == [f"epoch-{n:05d}.png" for n in (1, 2, 4, 7)]
    assert all(picture.startswith(b"\x89PNG") for picture in found.values())
    assert pictures(tmp_path / "nothing") == {}
