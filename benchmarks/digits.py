"""What digits come to in ten numbers: the text's model, a convolutional one, and PCA.

MNIST's 60,000 training images train, its 10,000 test images judge and decide nothing. The text's
model is that of ``ae-pipeline demo mnist --textbook`` (``ae_pipeline/textbook.yaml``), 50 epochs,
three seeds. The convolutional one (``CONV`` below, 15 epochs, one seed) was chosen on a tenth of
the training images, held back from the others' runs of as many epochs.

    python benchmarks/digits.py                    all of it (twenty minutes of one core)
    python benchmarks/digits.py --only text        the text's model
    python benchmarks/digits.py --out FILE         a line of JSON for each finished model as well

Binary cross-entropy and squared error are means per pixel. The linear probe is a logistic
regression of the digit on the ten numbers, fitted on 60,000 images, judged on the 10,000.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ae_pipeline.data import Samples
from ae_pipeline.jobs.compare.probe import linear_probe
from ae_pipeline.jobs.demo.textbook import STUDY
from ae_pipeline.sources.images import MnistSource, load
from ae_pipeline.sources.sample_data import fetch
from ae_pipeline.study import Study, load_study

CONV: dict[str, Any] = {
    "architecture": {
        "kind": "conv",
        "channels": [32, 64, 64],
        "kernel": 3,
        "activation": "gelu",
        "hidden": [256],
    },
    "objective": {"kind": "vanilla"},
    "latent_dim": 10,
}
CONV_TRAINING: dict[str, Any] = {
    "epochs": 15,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "early_stopping": None,
}
HOLD = {
    "text": {"test_loss": 0.109, "squared_error": 0.5 * 0.0341, "probe": 0.90},
    "conv": {"test_loss": 0.092, "squared_error": 0.5 * 0.0341, "probe": 0.94},
}


def train(study: Study, images: Samples, test: Samples) -> dict[str, float]:
    """One model, judged on the test images."""
    import time

    import torch

    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.training.loop import fit

    torch.manual_seed(study.training.seed)
    model = Autoencoder(study.model, "grid", shape=images.shape)
    started = time.process_time()
    fitted, history = fit(
        model, images, None, Scaler.fit(images), study.training, listeners=(_tell,)
    )
    seconds = time.process_time() - started
    found = judge(fitted.latents(images), fitted.latents(test), images, test)
    squared = np.square(np.asarray(test.values) - fitted.reconstruct(test)).mean()
    return {
        "train_loss": float(history.best["train_loss"] or 0),
        "test_loss": float(fitted.score(test).total.mean()),
        "squared_error": float(squared),
        **found,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": seconds,
    }


def _tell(event: Any) -> None:
    if hasattr(event, "is_best"):
        print(f"  epoch {event.epoch}: {event.train_loss:.4f}", file=sys.stderr, flush=True)


def judge(codes: Any, new: Any, images: Samples, test: Samples) -> dict[str, float]:
    labels, truth = (each.meta["label"].to_numpy(int) for each in (images, test))
    return {"probe": float((linear_probe(codes, labels, new=new) == truth).mean())}


def pca(images: Samples, test: Samples) -> dict[str, float]:
    from ae_pipeline.detectors.baselines import PrincipalComponents
    from ae_pipeline.models.scaler import Scaler

    fitted = PrincipalComponents.fit(images, Scaler.fit(images), latent_dim=10, seed=0)
    assert isinstance(fitted, PrincipalComponents)
    return {
        "test_loss": float(fitted.losses(test, "bernoulli").mean()),
        "squared_error": float(fitted.score(test).total.mean()),
        **judge(fitted.latents(images), fitted.latents(test), images, test),
    }


def table(found: list[tuple[str, dict[str, float]]]) -> str:
    """Markdown, and what is held of the targets."""
    lines = [
        "| model | training loss | test loss | squared error | linear probe |",
        "|---|---|---|---|---|",
    ]
    for name, values in found:
        train_loss = f"{values['train_loss']:.4f}" if "train_loss" in values else ""
        lines.append(
            f"| {name} | {train_loss} | {values['test_loss']:.4f} "
            f"| {values['squared_error']:.4f} | {values['probe']:.3f} |"
        )
    for kind, holds in HOLD.items():
        runs = [values for name, values in found if name.startswith(kind)]
        for measure, limit in holds.items() if runs else ():
            lines.append("\n" + _held(kind, measure, [run[measure] for run in runs], limit))
    return "\n".join(lines)


def _held(kind: str, measure: str, values: list[float], limit: float) -> str:
    """A line: the mean over seeds and its range, and whether both keep to the limit."""
    sign = 1 if measure == "probe" else -1
    every, mean = min(sign * v for v in values), sign * sum(values) / len(values)
    said = "NOT HELD"
    if mean >= sign * limit:
        said = "held" if every >= sign * limit else "held by the mean, NOT by every seed"
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
    return (
        f"{kind}, {measure}: {sign * mean:.4f}{spread}, to hold {'>=' if sign > 0 else '<='} "
        f"{limit:.4g}: {said}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=["pca", *HOLD], default=["pca", *HOLD])
    parser.add_argument("--seeds", type=int, default=3, help="of the text's model")
    parser.add_argument("--conv-seeds", type=int, default=1, help="of the convolutional one")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    digits = load([fetch("mnist")], MnistSource())
    sets = digits.meta["set"].to_numpy()
    images, test = (digits.take(np.flatnonzero(sets == name)) for name in ("train", "t10k"))
    found: list[tuple[str, dict[str, float]]] = []

    def keep(name: str, values: dict[str, float]) -> None:
        found.append((name, values))
        if given.out:
            with given.out.open("a") as file:
                print(json.dumps({"model": name, **values}), file=file)

    if "pca" in given.only:
        keep("PCA, 10 components", pca(images, test))
    content = {"study": "conv", "source": {"kind": "mnist"}, "model": CONV}
    studies = {
        "text": ("text's model", load_study(STUDY), given.seeds),
        "conv": (
            "conv, 15 epochs",
            Study.model_validate(content | {"training": CONV_TRAINING}),
            given.conv_seeds,
        ),
    }
    for kind, (name, study, n_seeds) in studies.items():
        for seed in range(n_seeds if kind in given.only else 0):
            training = study.training.model_copy(update={"seed": seed})
            run = train(study.model_copy(update={"training": training}), images, test)
            keep(f"{name}, seed {seed}", run)
    print(table(found))


if __name__ == "__main__":
    main()
