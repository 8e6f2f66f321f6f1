"""What training reports: epochs, batches, the curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = [
    "Batch",
    "Epoch",
    "History",
    "Listener",
]


@dataclass(frozen=True)
class Epoch:
    """An epoch has ended. Losses are means per entry, natural logarithm."""

    epoch: int
    n_epochs: int
    train_loss: float
    validation_loss: float | None
    seconds: float
    is_best: bool


@dataclass(frozen=True)
class Batch:
    """A step has been made; ``loss()`` waits for the device, so do not call it each time."""

    epoch: int
    n_epochs: int
    batch: int
    n_batches: int
    loss: Callable[[], float] = field(repr=False)


Listener = Callable[[Epoch | Batch], None]


@dataclass
class History:
    """What every epoch came to, and which one was kept."""

    rows: list[dict[str, float | int | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = float("inf")

    def add(self, epoch: Epoch) -> None:
        """Note what an epoch came to."""
        names = ("epoch", "train_loss", "validation_loss", "seconds")
        self.rows.append({name: getattr(epoch, name) for name in names})
        if epoch.is_best:
            judged = epoch.train_loss if epoch.validation_loss is None else epoch.validation_loss
            self.best_epoch, self.best_loss = epoch.epoch, judged

    @property
    def best(self) -> dict[str, float | int | None]:
        """The row of the epoch whose weights were kept."""
        return self.rows[self.best_epoch - 1]
