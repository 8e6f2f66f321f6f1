"""The training loop, its events, early stopping, checkpoint and resume.

The loop follows what was measured to be fast: one contiguous tensor indexed by a permutation,
logits rather than a sigmoid, fused optimisers where there are any, the loss summed on the device
and read once an epoch. Whoever wants to know what happens listens to :class:`Epoch` and
:class:`Batch`.

Randomness comes from the study's seed and the number of the epoch alone, so that a run resumed
from a checkpoint ends with the same weights, to the bit on one CPU.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from ae_pipeline.config import Config, StudyError
from ae_pipeline.data import Samples, Scores, Windows
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training import distributed as together
from ae_pipeline.training.checkpoint import resume_checkpoint, save_checkpoint
from ae_pipeline.training.feed import Feed
from ae_pipeline.training.history import Batch, Epoch, History
from ae_pipeline.training.optimizer import learning_rate_of, optimizer_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.heads import Labels
    from ae_pipeline.training.history import Listener

__all__ = [
    "FittedAutoencoder",
    "Pass",
    "Training",
    "TrainingError",
    "choose_device",
    "fit",
]

EXTREME = 1e4
"""Usual deviations that no signal or answer has unless something is wrong with it."""

SCORING_BATCH = 64
"""Samples scored at once: larger batches spill the processor's cache and gain nothing."""

TABLE_BATCH = 1024
"""Rows of a table at once where only their mean loss is wanted."""

SCORING_ROWS = 64
"""The network computes a multiple of so many samples, see :meth:`FittedAutoencoder.passes`."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names that glibc's ``malloc.h`` has for these."""


class TrainingError(Exception):
    """Training had to stop (exit status 1); the message names the epoch, the cause, the cure."""


class Training(Config):
    """How the model is trained."""

    epochs: PositiveInt = 50
    """Passes over the training data, at most; early stopping may end sooner."""
    batch_size: Literal["auto"] | PositiveInt = "auto"
    """Samples a step: auto takes 256 for dense models and 64 for the others; of a questionnaire a
    twentieth of the people, 16 to 512."""
    optimizer: Literal["adamw", "adam", "rmsprop", "sgd"] = "adamw"
    """How the weights are moved; the text's example uses rmsprop."""
    learning_rate: PositiveFloat = 1e-3
    """Size of a step; try a third of it where the loss jumps about."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the step changes: cosine (Loshchilov and Hutter, 2017) lets it fall to a hundredth by the
    last epoch, which gains most where training is not stopped early."""
    early_stopping: PositiveInt | None = 10
    """Stop after this many epochs without a better validation loss; null trains all epochs."""
    seed: int = Field(0, ge=0)
    """Initial weights, order of the samples and all noise; same seed, same numbers."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute: auto takes a GPU where there is one."""


def choose_device(name: str) -> str:
    """``auto`` to cuda, mps or cpu, whichever is there first.

    Raises
    ------
    StudyError
        Where the device that is asked for is not there.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device in there if there[device])
    if not there[name]:
        raise StudyError(
            f"training.device: {name!r} given, but this machine (or its PyTorch) has none; "
            "use auto or cpu"
        )
    return name


@dataclass(frozen=True)
class FittedAutoencoder:
    """A trained model with the scale of its data: the pipeline's main scorer."""

    model: Autoencoder
    scaler: Scaler

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights and scale as named arrays."""
        weights = {name: p.detach().cpu().numpy() for name, p in self.model.state_dict().items()}
        return {**weights, "scaler.center": self.scaler.center, "scaler.scale": self.scaler.scale}

    def score(self, samples: Samples) -> Scores:
        """Mean loss per entry of the clean input, reconstructed through the mean code."""
        # nothing holds on to a batch while the next is made: its memory is used again
        return Scores.join(list(map(attrgetter("scores"), self.passes(samples))))

    def latents(self, samples: Samples) -> NDArray[np.float32]:
        """Mean codes, (n, latent_dim)."""
        return np.concatenate([each.code.cpu().numpy() for each in self.passes(samples)])

    def reconstruct(self, samples: Samples) -> NDArray[np.float32]:
        """What the model makes of the samples, in the data's own units, (n, *shape)."""
        parts = [each.mean.cpu().numpy() for each in self.passes(samples)]
        return self.scaler.inverse(np.concatenate(parts))

    def passes(self, samples: Samples, at_once: int = SCORING_BATCH) -> Iterator[Pass]:
        """Send samples through the model, batch by batch, in order; nothing is corrupted."""
        import torch

        feed = Feed(samples, self.scaler, device=str(next(self.model.parameters()).device))
        self.model.eval()
        with torch.inference_mode():
            for rows in samples.chunks(at_once):
                yield self._passed(*feed.block(rows))

    def _passed(self, x: Tensor, observed: Tensor | None) -> Pass:
        return Pass(x, observed, *self._through(x, observed), self.model)

    def predict_hidden(
        self, samples: Samples, n_groups: int, *, seed: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the model says of each item of a table from the other items.

        Parameters
        ----------
        samples : Samples
            Tables only.
        n_groups : int
            Items are hidden in so many groups, one group at a time.
        seed : int
            Which items are hidden together.

        Returns
        -------
        mean : array of shape (n, items)
            Expected answers in network units.
        probabilities : array of shape (n, items, most levels)
            Of each level of an item, 0 where it has fewer; all 0 for continuous items.
        """
        import torch

        n_items = samples.shape[0]
        order = np.random.default_rng(seed).permutation(n_items)
        group = np.resize(np.arange(min(n_groups, n_items)), n_items)[np.argsort(order)]
        most = max((len(c.levels) for c in samples.columns), default=0)
        mean = np.zeros((len(samples), n_items), np.float32)
        probabilities = np.zeros((len(samples), n_items, max(most, 2)), np.float32)
        feed = Feed(samples, self.scaler, device=str(next(self.model.parameters()).device))
        self.model.eval()
        with torch.inference_mode():
            for rows in samples.chunks(TABLE_BATCH):
                x, observed = feed.gather(rows)
                seen = torch.ones_like(x) if observed is None else observed
                for hidden in (group == g for g in range(group.max() + 1)):
                    asked = torch.from_numpy(hidden).to(x.device)
                    shown = (~asked).to(x.dtype)
                    _, parameters = self._through(x * shown, seen * shown)
                    for items, said, levels in self.model.likelihood.said_of(parameters, asked):
                        at = items.cpu().numpy()
                        mean[rows, at] = said.cpu().numpy()
                        if levels is not None:
                            probabilities[rows, at, : levels.shape[2]] = levels.cpu().numpy()
        return mean, probabilities

    def _through(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean codes and the likelihood's parameters, computed as for a full batch.

        Matrix products of another number of rows add up in another order; a last bit of the
        reconstruction is much in a frequency band that holds little. So a short batch is filled
        up with copies of its last row, and a sample alone scores as it does among others.
        """
        n = len(x)
        x = _filled(x)
        code = self.model.encode(x, None if observed is None else _filled(observed)).mean
        return code[:n], self.model.decode(code)[:n]


def _filled(rows: Tensor) -> Tensor:
    """Up to a multiple of ``SCORING_ROWS`` rows; those added are copies of the last."""
    import torch

    missing = -len(rows) % SCORING_ROWS
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


@dataclass(frozen=True)
class Pass:
    """A batch that went through the model, in network units.

    ``x`` and ``mean`` (its reconstruction) are (n, *shape), ``observed`` is 1 where an entry
    was, ``code`` is (n, latent_dim), ``parameters`` are the likelihood's. What is not asked for
    is not computed.
    """

    x: Tensor
    observed: Tensor | None
    code: Tensor
    parameters: Tensor
    model: Autoencoder

    @cached_property
    def mean(self) -> Tensor:
        """The expected value of each entry."""
        return self.model.likelihood.mean(self.parameters)

    @cached_property
    def scores(self) -> Scores:
        """Losses of samples and of their entries."""
        errors = self.model.likelihood.loss_per_entry(self.parameters, self.x)
        by_entry, total = _reduce(errors, self.observed, image=self.model.layout == "grid")
        return Scores(total.cpu().double().numpy(), by_entry.cpu().numpy())


def _reduce(errors: Tensor, observed: Tensor | None, *, image: bool) -> tuple[Tensor, Tensor]:
    """Errors (n, *shape) to (n, entries) and (n,), over what was observed."""
    if observed is None and not image and errors.dim() > 2:
        by_entry = errors.flatten(2).mean(2)
        return by_entry, by_entry.mean(1)  # entries are equally many numbers
    flat = errors.flatten(1)
    if observed is None:
        total = flat.mean(1)
    else:
        weight = observed.flatten(1)
        total = (flat * weight).sum(1) / weight.sum(1).clamp_min(1.0)
        errors = errors * observed
    if image:
        return errors.new_zeros((len(errors), 0)), total
    return errors.flatten(2).mean(2) if errors.dim() > 2 else errors, total


def fit(
    model: Autoencoder,
    train: Samples,
    validation: Samples | None,
    scaler: Scaler,
    config: Training,
    *,
    listeners: tuple[Listener, ...] = (),
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 20.0,
    labels: Labels | None = None,
) -> tuple[FittedAutoencoder, History]:
    """Train ``model`` and keep the weights of the best epoch.

    Parameters
    ----------
    model : Autoencoder
        Changed in place.
    train, validation : Samples
        ``validation`` stops training early; without it the last epoch is kept.
    scaler : Scaler
        Fitted on ``train``.
    config : Training
    listeners : tuple of callable
        Called with every :class:`Epoch` and :class:`Batch`; they must not change anything.
    checkpoint : Path, optional
        A ``.safetensors`` file to resume from where it exists, written after the first epoch
        and then at most every ``checkpoint_every_s`` seconds.
    labels : Labels, optional
        What a head that is trained jointly is to say of the training samples.

    Returns
    -------
    fitted : FittedAutoencoder
    history : History

    Raises
    ------
    TrainingError
        Where a loss is no longer finite; the checkpoint stays at a good epoch.
    StudyError
        Where ``config.device`` is not there, or the objective's warm-up does not end.
    """
    _keep_freed_memory()
    steps = _Steps.of(
        model, train, scaler=scaler, config=config, labels=labels, listeners=listeners
    )
    settled = _settled_epoch(config, model)
    held_out = None if validation is None or not len(validation) else validation
    fitted = FittedAutoencoder(model, scaler)
    history, best = steps.resume(checkpoint)
    checkpoint = None if together.rank() else checkpoint  # rank 0 alone writes
    saved_at = -math.inf
    for epoch in range(len(history.rows) + 1, config.epochs + 1):
        if _is_over(history, config, held_out=held_out):
            break
        started = time.perf_counter()
        train_loss = steps.epoch(epoch)
        validation_loss = None if held_out is None else _mean_loss(fitted, held_out)
        judged = train_loss if validation_loss is None else validation_loss
        if not math.isfinite(train_loss + judged):
            raise steps.diverged(epoch, checkpoint, history=history, best=best)
        # without validation data there is nothing to choose an epoch by: the last one is kept,
        # and an epoch before the whole objective was trained is never preferred to a later one
        is_best = validation_loss is None or epoch <= settled or judged < history.best_loss
        seconds = time.perf_counter() - started
        event = Epoch(epoch, config.epochs, train_loss, validation_loss, seconds, is_best)
        history.add(event)
        if is_best:
            best = _weights(model)
        steps.tell(event)
        if checkpoint is not None and time.monotonic() - saved_at >= checkpoint_every_s:
            save_checkpoint(
                checkpoint, model, optimizer=steps.optimizer, history=history, best=best
            )
            saved_at = time.monotonic()
    model.load_state_dict(best)
    model.head = None
    model.eval()
    return fitted, history


@dataclass(frozen=True)
class _Steps:
    """What the steps of all epochs share."""

    model: Autoencoder
    feed: Feed
    optimizer: torch.optim.Optimizer
    config: Training
    _: KW_ONLY
    batch_size: int
    n: int
    order_on: str
    targets: Tensor | None
    listeners: tuple[Listener, ...]

    @classmethod
    def of(
        cls,
        model: Autoencoder,
        train: Samples,
        *,
        scaler: Scaler,
        config: Training,
        labels: Labels | None,
        listeners: tuple[Listener, ...],
    ) -> _Steps:
        """Put the model, its head and the data on the device."""
        import torch

        from ae_pipeline.models.heads import layer

        device = choose_device(config.device)
        if labels is not None:
            model.head = layer(model.config.latent_dim, labels.n_outputs)
        model.to(device)
        return cls(
            model,
            Feed(train, scaler, device=device),
            optimizer_of(config, model),
            config,
            batch_size=_batch_size(config, model, train=train),
            n=len(train),
            order_on="cpu" if isinstance(train.values, Windows) else device,
            targets=None if labels is None else torch.from_numpy(labels.values).to(device),
            listeners=listeners,
        )

    def resume(self, checkpoint: Path | None) -> tuple[History, dict[str, Tensor]]:
        """Go on where a checkpoint ends; without one return a new history and the weights."""
        found = None
        if checkpoint is not None and checkpoint.is_file():
            found = resume_checkpoint(checkpoint, self.model, optimizer=self.optimizer)
        return found or (History(), _weights(self.model))

    def diverged(
        self, epoch: int, checkpoint: Path | None, *, history: History, best: dict[str, Tensor]
    ) -> TrainingError:
        """Keep the best epoch, with a new optimiser, and say why the loss is no number."""
        kept = ""
        if checkpoint is not None and history.rows:
            model = self.model
            model.load_state_dict(best)
            new = optimizer_of(self.config, model)
            save_checkpoint(checkpoint, model, optimizer=new, history=history, best=best)
            kept = f"; what was learned until epoch {history.best_epoch} is in {checkpoint}"
        return TrainingError(
            f"training stopped in epoch {epoch}: the loss is no longer a number; "
            f"{_cause(self.feed, self.n, config=self.config)}{kept}"
        )

    def tell(self, event: Epoch | Batch) -> None:
        for listener in self.listeners:
            listener(event)

    def epoch(self, epoch: int) -> float:
        """Send all training samples through the model once; return their mean loss."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_of(self.config, epoch)
        device, seed = self.feed.device, self.config.seed
        noise = _seed(seed + 7919 * together.rank(), epoch)
        generator = torch.Generator(device).manual_seed(noise)
        shuffler = torch.Generator().manual_seed(_seed(seed, epoch))
        order = torch.randperm(self.n, generator=shuffler).to(self.order_on)
        n_batches = -(-self.n // self.batch_size)
        self.model.train()
        total = torch.zeros((), device=device)
        for batch in range(n_batches):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            loss = self.step(whole, generator, epoch=epoch)
            total += loss.detach() * len(together.share(whole))
            self.tell(Batch(epoch, self.config.epochs, batch + 1, n_batches, loss.item))
        return together.total(total).item() / self.n

    def step(self, whole: Tensor, generator: torch.Generator, *, epoch: int) -> Tensor:
        """Move the weights by one batch; return its reconstruction loss."""
        rows = together.share(whole)
        n_own = len(rows)
        if not n_own:  # fewer samples than processes: one of them once more, for nothing
            rows = whole[:1]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            x, observed = self.feed.gather(rows)
            taught = None if self.targets is None else self.targets[rows.to(self.feed.device)]
            loss = self.model.loss(x, observed, generator, epoch, taught)
            loss.total.backward()
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise TrainingError(
                _what_would_fit(self.model, self.feed, batch_size=self.batch_size, epoch=epoch)
            ) from None
        together.average_gradients(self.model, n_own, n_all=len(whole))
        self.optimizer.step()
        return loss.reconstruction


def _batch_size(config: Training, model: Autoencoder, *, train: Samples) -> int:
    if config.batch_size != "auto":
        return config.batch_size
    if train.layout == "table":  # few people need many steps, many people few
        return int(np.clip(len(train) // 20, 16, 512))
    return 256 if model.config.architecture.kind == "dense" else 64


def _settled_epoch(config: Training, model: Autoencoder) -> int:
    """The first epoch that trains the whole objective."""
    settled = model.config.objective.settled_epoch
    if settled > config.epochs:
        raise StudyError(
            f"model.objective.warm_up_epochs: {settled - 1} leave none of {config.epochs} "
            "training.epochs for the whole objective; shorten the warm-up or train longer"
        )
    return settled


def _weights(model: Autoencoder) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def _keep_freed_memory() -> None:
    """Tell glibc to keep up to 64 MB of what a step frees, which the next step needs again.

    It would return it, and have every page handed out anew: a twentieth of a dense step.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 << 20)


def _cause(feed: Feed, n: int, *, config: Training) -> str:
    """Why a loss is no longer a number, as far as the data tells, and what to change."""
    import torch

    x, _ = feed.gather(torch.arange(0, n, max(1, n // 1000)).to(feed.places))
    largest = float(x.abs().max())
    if largest > EXTREME:
        return (
            f"the training data holds values of {largest:.3g} usual deviations; find and remove "
            "them (a wrong unit, a missing code that is not declared), or use "
            "model.likelihood: huber"
        )
    return (
        f"the steps are too large for this model; try training.learning_rate "
        f"{config.learning_rate / 10:g}"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """GPUs have an error of their own; on a CPU only the words tell."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words


def _what_would_fit(model: Autoencoder, feed: Feed, *, batch_size: int, epoch: int) -> str:
    """Try smaller and smaller batches, and name the first that fits."""
    import torch

    said = f"out of memory in epoch {epoch} with training.batch_size {batch_size}; "
    size = batch_size // 2
    while size:
        model.zero_grad(set_to_none=True)
        if feed.device == "cuda":
            torch.cuda.empty_cache()
        try:
            generator = torch.Generator(feed.device).manual_seed(0)
            loss = model.loss(
                *feed.gather(torch.zeros(size, dtype=torch.long).to(feed.places)), generator
            )
            loss.total.backward()
            model.zero_grad(set_to_none=True)
            return f"{said}{size} fits: set training.batch_size to {size}"
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            size //= 2
    return (
        f"{said}not even one sample fits; make the model smaller (model.architecture) or shorten "
        "windows.length_s"
    )


def _is_over(history: History, config: Training, *, held_out: Samples | None) -> bool:
    if config.early_stopping is None or held_out is None:
        return False
    return len(history.rows) - history.best_epoch >= config.early_stopping


def _mean_loss(fitted: FittedAutoencoder, samples: Samples) -> float:
    """Mean loss per observed entry."""
    at_once = TABLE_BATCH if samples.layout == "table" else SCORING_BATCH
    total = np.concatenate([each.scores.total for each in fitted.passes(samples, at_once)])
    if samples.mask is None:
        return float(total.mean())
    weight = samples.mask.reshape(len(samples), -1).sum(1)
    return float((total * weight).sum() / max(weight.sum(), 1))


def _seed(seed: int, epoch: int) -> int:
    """Independent streams for epochs (a sum would give epoch 2 of seed 0 to epoch 1 of seed 1)."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
