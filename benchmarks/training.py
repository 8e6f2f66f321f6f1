"""Dense training beside the matrix products it consists of, plain loops and other libraries.

The work is the same for all: one epoch of 784-256-10-256-784, binary cross-entropy, RMSprop
(Keras' defaults), batch 256, float32, on MNIST's 60,000 training images (random numbers of the
same size where they cannot be had). Every contender lives in a process of its own with one
thread and says how many CPU seconds an epoch took; rounds are interleaved, so that a busy
machine slows all of them alike, and only ratios within a round are compared.

    python benchmarks/training.py                  every contender that is installed, five rounds
    python benchmarks/training.py --rounds 3 --only ours "matrix products" "bare loop"

Peers come with ``pip install -e '.[bench]'``; what is not installed is left out with a line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SIZES = (784, 256, 10, 256, 784)
BATCH = 256
RATE = 1e-3
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "CUDA_VISIBLE_DEVICES": "",
}
EPSILON, DECAY = 1e-7, 0.9  # Keras' RMSprop

Epoch = Callable[[], None]


# ----------------------------------------------------------------------------- contenders


def ours(x: np.ndarray) -> Epoch:
    """``train.fit`` with a listener, the history and a checkpoint after every epoch."""
    import pandas as pd
    import torch

    from ae_pipeline.data import Axis, Samples
    from ae_pipeline.models import Model
    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.training.loop import Training, fit

    torch.manual_seed(0)
    meta = pd.DataFrame({"recording": "r", "subject": "s"}, index=range(len(x)))
    samples = Samples("mnist", x.reshape(-1, 28, 28), meta, (Axis("row"), Axis("column")))
    config = Model.model_validate(
        {
            "architecture": {"kind": "dense", "hidden": SIZES[1:2]},
            "objective": {"kind": "vanilla"},
            "latent_dim": SIZES[2],
        }
    )
    model = Autoencoder(config, "grid", shape=samples.shape)
    training = Training(epochs=1, batch_size=BATCH, optimizer="rmsprop", learning_rate=RATE)
    scaler = Scaler.fit(samples)
    seen: list[Any] = []

    def epoch() -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.safetensors"
            seen.clear()
            listeners = (seen.append,)
            fit(
                model,
                samples,
                validation=None,
                scaler=scaler,
                config=training,
                listeners=listeners,
                checkpoint=checkpoint,
                checkpoint_every_s=0.0,
            )

    return epoch


def matrix_products(x: np.ndarray) -> Epoch:
    """The products of forward and backward pass into memory that is there already: the limit."""
    import torch

    data = torch.from_numpy(x)
    torch.manual_seed(0)
    weights = [torch.randn(a, b) / a for a, b in pairwise(SIZES)]
    d_weights = [torch.empty_like(w) for w in weights]
    values = [torch.empty(BATCH, n) for n in SIZES]
    d_values = [torch.empty(BATCH, n) for n in SIZES]

    def epoch() -> None:
        for start in range(0, len(data), BATCH):
            n = min(BATCH, len(data) - start)
            h = [data[start : start + n]] + [v[:n] for v in values[1:]]
            g = [v[:n] for v in d_values]
            for i, w in enumerate(weights):
                torch.mm(h[i], w, out=h[i + 1])
            g[-1].copy_(h[-1])
            for i in reversed(range(len(weights))):
                torch.mm(h[i].T, g[i + 1], out=d_weights[i])
                if i:
                    torch.mm(g[i + 1], weights[i].T, out=g[i])

    return epoch


def plain_loop(x: np.ndarray) -> Epoch:
    """What a tutorial writes: a sigmoid, BCELoss, the optimizer as it comes."""
    import torch
    from torch import nn

    data = torch.from_numpy(x)
    model = nn.Sequential(*_layers(), nn.Sigmoid())
    optimizer = torch.optim.RMSprop(model.parameters(), lr=RATE, alpha=DECAY, eps=EPSILON)
    criterion = nn.BCELoss()

    def epoch() -> None:
        perm = torch.randperm(len(data))
        for i in range(0, len(data), BATCH):
            batch = data[perm[i : i + BATCH]]
            optimizer.zero_grad()
            loss = criterion(model(batch), batch)
            loss.backward()
            optimizer.step()

    return epoch


def bare_loop(x: np.ndarray) -> Epoch:
    """Ours with nothing around it: index_select, logits, a multi-tensor optimizer."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    data = torch.from_numpy(x)
    model = nn.Sequential(*_layers())
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=RATE, alpha=DECAY, eps=EPSILON, foreach=True
    )

    def epoch() -> None:
        perm = torch.randperm(len(data))
        for i in range(0, len(data), BATCH):
            batch = data.index_select(0, perm[i : i + BATCH])
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(batch), batch).backward()
            optimizer.step()

    return epoch


def lightning(x: np.ndarray) -> Epoch:
    """The plain loop's model under Lightning as it comes: progress bar, logger, checkpoint."""
    from torch import nn

    return _lightning(x, nn.Sequential(*_layers(), nn.Sigmoid()), nn.BCELoss())


def lightning_on_logits(x: np.ndarray) -> Epoch:
    """The same with the loss that ours takes, so that only the loop differs."""
    from torch import nn

    return _lightning(x, nn.Sequential(*_layers()), nn.BCEWithLogitsLoss())


def _lightning(x: np.ndarray, net: Any, criterion: Any) -> Epoch:
    import lightning as L
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = net, criterion

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.criterion(self.net(batch[0]), batch[0])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.RMSprop(self.parameters(), lr=RATE, alpha=DECAY, eps=EPSILON)

    module = Module()
    loader = DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder)
            trainer.fit(module, loader)

    return epoch


def keras_torch(x: np.ndarray) -> Epoch:
    """``Model.fit`` of Keras 3 on PyTorch."""
    return _keras(x, "torch")


def keras_jax(x: np.ndarray) -> Epoch:
    """``Model.fit`` of Keras 3 on JAX, which compiles the step."""
    import jax  # noqa: F401  (missing: said before Keras falls over it)

    return _keras(x, "jax")


def _keras(x: np.ndarray, backend: str) -> Epoch:
    os.environ["KERAS_BACKEND"] = backend
    import keras

    model = keras.Sequential([keras.Input(SIZES[:1])])
    for size in SIZES[1:-1]:
        model.add(keras.layers.Dense(size, activation="relu" if size > SIZES[2] else None))
    model.add(keras.layers.Dense(SIZES[-1], activation="sigmoid"))
    model.compile(optimizer=keras.optimizers.RMSprop(RATE), loss="binary_crossentropy")

    def epoch() -> None:
        model.fit(x, x, batch_size=BATCH, epochs=1, verbose=0)

    return epoch


def skorch(x: np.ndarray) -> Epoch:
    """skorch's NeuralNet without a validation split."""
    import torch
    from skorch import NeuralNet
    from torch import nn

    net = NeuralNet(
        nn.Sequential(*_layers()),
        nn.BCEWithLogitsLoss,
        optimizer=torch.optim.RMSprop,
        optimizer__alpha=DECAY,
        optimizer__eps=EPSILON,
        lr=RATE,
        batch_size=BATCH,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).initialize()

    def epoch() -> None:
        net.partial_fit(x, x)

    return epoch


def pyod(x: np.ndarray) -> Epoch:
    """PyOD's AutoEncoder of this size, else its defaults; ``fit`` also scores the data."""
    from pyod.models.auto_encoder import AutoEncoder

    def epoch() -> None:
        AutoEncoder(
            epoch_num=1, batch_size=BATCH, hidden_neuron_list=list(SIZES[1:3]), verbose=0
        ).fit(x)

    return epoch


def _layers() -> list[Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    a, b, c, d, e = SIZES
    linear = nn.Linear
    return [linear(a, b), nn.ReLU(), linear(b, c), linear(c, d), nn.ReLU(), linear(d, e)]


CONTENDERS: dict[str, tuple[Callable[[np.ndarray], Epoch], float | None]] = {
    "ours": (ours, None),
    "matrix products": (matrix_products, 1.6),
    "plain loop": (plain_loop, None),
    "bare loop": (bare_loop, 1.05),
    "Lightning": (lightning, 0.75),
    "Lightning, on logits": (lightning_on_logits, 0.75),
    "Keras on torch": (keras_torch, 0.65),
    "Keras on JAX": (keras_jax, 1.3),
    "skorch": (skorch, None),
    "PyOD": (pyod, None),
}
"""How each is built, and what ours may take at most, as a multiple of it."""


# ------------------------------------------------------------------------------- measuring


def serve(name: str, data: Path) -> None:
    """Be one contender: an epoch for each line read, answered by its CPU seconds."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    warnings.simplefilter("ignore")
    try:
        import torch

        torch.set_num_threads(1)
        epoch = CONTENDERS[name][0](np.load(data))
    except ImportError as error:
        print(f"missing {error.name}", file=answer, flush=True)
        return
    epoch()  # compilation, page faults and first-time costs are not what is measured
    print("ready", file=answer, flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        epoch()
        print(time.process_time() - started, file=answer, flush=True)


class Contender:
    """The other end of :func:`serve`."""

    def __init__(self, name: str, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.answer = self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip() or "failed; see it with --serve"

    def epoch_s(self) -> float:
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return float(self.read())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(names: list[str], data: Path, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an epoch, one a round, of every contender that is installed."""
    running: dict[str, Contender] = {}
    try:
        for name in names:
            contender = Contender(name, data)
            if contender.answer == "ready":
                running[name] = contender
            else:
                print(f"left out: {name} ({contender.answer})", file=sys.stderr)
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for n in range(rounds):
            print(f"round {n + 1} of {rounds}", file=sys.stderr)
            for name, contender in running.items():
                seconds[name].append(contender.epoch_s())
    finally:
        for contender in running.values():
            contender.close()
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """Markdown: ours as a multiple of each, median (least to most) over the rounds."""
    lines = [
        "| contender | CPU s an epoch | ours / it: median (min to max) | hold |",
        "|---|---|---|---|",
    ]
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(seconds["ours"], taken, strict=True)]
        hold = CONTENDERS[name][1]
        lines.append(
            f"| {name} | {median(taken):.2f} "
            f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {'' if hold is None else f'<= {hold:g}'} |"
        )
    return "\n".join(lines)


def images(rows: int) -> np.ndarray:
    """(rows, 784) between 0 and 1: MNIST, else random numbers, nine tenths of them 0."""
    try:
        from ae_pipeline.sources.images import read_idx
        from ae_pipeline.sources.sample_data import fetch

        raw = read_idx(fetch("mnist") / "train-images-idx3-ubyte")
        return raw[:rows].reshape(-1, SIZES[0]).astype(np.float32) / 255
    except Exception as error:
        print(f"random images instead of MNIST: {error}", file=sys.stderr)
    rng = np.random.default_rng(0)
    return np.maximum(0, 10 * rng.random((rows, SIZES[0]), np.float32) - 9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=60_000, help="images an epoch")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, images(given.rows))
        names = list(dict.fromkeys(["ours", *given.only]))
        print(table(measure(names, data, given.rounds)))


if __name__ == "__main__":
    main()
