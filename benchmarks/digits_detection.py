"""Does the default detector find what a model of digits never saw?

MNIST, one digit left out in turn: the default model for images learns from 10,000 training
images of the other nine digits (1,000 more stop it early and say what is usual), and is asked to
tell the left-out digit from the nine among the 10,000 official test images. Then one foreign to
all digits: a model of all ten against the test images of Fashion-MNIST.

Everything is the package's default but for the number of epochs: 15 are meant for the 54,000
images of the whole training set, 10,000 images need more passes (``--epochs``, still with early
stopping). Everyone is fitted on the same images. No label reaches any detector, with one
exception that is named: "sign known" takes mean intensity in whichever direction the labels say
is better for that digit.

    python benchmarks/digits_detection.py                  all of it (about five CPU minutes)
    python benchmarks/digits_detection.py --digits 1 4     two digits
    python benchmarks/digits_detection.py --fashion DIR    IDX files of Fashion-MNIST elsewhere

PyOD comes with ``pip install -e '.[bench]'``, Fashion-MNIST with Debian's package
dataset-fashion-mnist; what is not there is left out with a line.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ae_pipeline.data import InputError, Samples
from ae_pipeline.detectors.ensemble import TWO_SIDED, VIEW_WORDS
from ae_pipeline.jobs.fit import Fitting
from ae_pipeline.sources.images import MnistSource, load
from ae_pipeline.sources.sample_data import fetch
from ae_pipeline.stats import mean_interval
from ae_pipeline.study import Study

Float = NDArray[np.float64]

N_TRAIN, N_VALIDATION = 10_000, 1_000
WANTED = 0.99
FASHION = Path("/usr/share/datasets/fashion-mnist")
OURS = "**ensemble (our default)**"
ORACLE = "mean intensity, sign known"
SIMPLE = {
    "pca": "PCA, equal latent size",
    "robust_z": "robust z-score",
    "isolation_forest": "Isolation Forest (4 x 4 means)",
}


def detect(train: Samples, validation: Samples, test: Samples, study: Study) -> dict[str, Float]:
    """Every detector's scores of the test images, larger for what looks more abnormal."""
    fitted = Fitting(study, train, validation, study.training).everything()
    seen = fitted.ensemble.view_scores(test)
    found = {OURS: seen.total, "autoencoder's error": seen.autoencoder.total}
    for name, values in seen.deviations.items():
        sides = ", two-sided" if name in TWO_SIDED else ""
        found[f"view: {VIEW_WORDS[name]}{sides}"] = values
    found |= {SIMPLE[name]: scorer.score(test).total for name, scorer in fitted.baselines.items()}
    known, new = _flat(train), _flat(test)
    found["Isolation Forest (pixels)"] = _forest(known, new, study.training.seed)
    intensity, usual = new.mean(1), known.mean()
    found["mean intensity, higher"] = intensity
    found["mean intensity, lower"] = -intensity
    found["mean intensity, two-sided"] = np.abs(intensity - usual)
    by_pyod = _pyod(known, new)
    return found if by_pyod is None else {**found, "PyOD AutoEncoder": by_pyod}


def _flat(samples: Samples) -> NDArray[np.float32]:
    return np.asarray(samples.values[:]).reshape(len(samples), -1)


def _forest(known: NDArray[np.float32], new: NDArray[np.float32], seed: int) -> Float:
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(known).score_samples(new)


def _pyod(known: NDArray[np.float32], new: NDArray[np.float32]) -> Float | None:
    """PyOD's autoencoder as it comes, told only to be quiet; None where it is not installed."""
    try:
        from pyod.models.auto_encoder import AutoEncoder
    except ImportError as error:
        _say_once(f"left out: PyOD AutoEncoder (missing {error.name}; pip install -e '.[bench]')")
        return None
    return np.asarray(AutoEncoder(verbose=0).fit(known).decision_function(new), np.float64)


def areas(scores: dict[str, Float], abnormal: NDArray[np.bool_]) -> dict[str, float]:
    found = {name: float(roc_auc_score(abnormal, values)) for name, values in scores.items()}
    sides = [found[f"mean intensity, {side}"] for side in ("higher", "lower")]
    return found | {ORACLE: max(sides)}


_said: set[str] = set()


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------- tables


def by_digit(table: pd.DataFrame) -> str:
    """Markdown: areas, a row a detector, best mean first."""
    digits = list(table.columns)
    lines = ["| detector | " + " | ".join(map(str, digits)) + " | mean |"]
    lines += ["|---" * (len(digits) + 2) + "|"]
    for name in table.mean(1).sort_values(ascending=False).index:
        cells = [f"{table.loc[name, digit]:.3f}" for digit in digits]
        lines.append(f"| {name} | {' | '.join(cells)} | {table.loc[name].mean():.3f} |")
    return "\n".join(lines)


def differences(table: pd.DataFrame) -> str:
    """Markdown: ours minus each other one, paired by digit."""
    lines = ["| ours minus | mean | 95% interval over digits | ahead on |", "|---|---|---|---|"]
    for name in table.mean(1).sort_values(ascending=False).index.drop(OURS):
        gain = (table.loc[OURS] - table.loc[name]).to_numpy()
        bounds = mean_interval(gain)
        span = "too few digits" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"
        ahead = f"{int((gain > 0).sum())} of {len(gain)}"
        lines.append(f"| {name} | {gain.mean():+.3f} | {span} | {ahead} |")
    return "\n".join(lines)


def foreign(found: dict[str, float]) -> str:
    """Markdown: areas against images that are no digits."""
    ordered = sorted(found.items(), key=lambda each: -each[1])
    lines = ["| detector | area, Fashion-MNIST as foreign |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {area:.4f} |" for name, area in ordered)])


# -------------------------------------------------------------------------------- running


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--epochs", type=int, default=30, help="at most; training stops early")
    parser.add_argument("--seed", type=int, default=0, help="of the images drawn and the training")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of IDX files")
    given = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    training = {"epochs": given.epochs, "seed": given.seed}
    study = Study.model_validate(
        {"study": "digits", "source": {"kind": "mnist"}, "training": training}
    )
    digits = load([fetch("mnist")], MnistSource())
    inside = np.flatnonzero(digits.meta["set"] == "train")
    test = digits.take(np.flatnonzero(digits.meta["set"] == "t10k"))
    label = digits.meta["label"].to_numpy(int)

    def drawn(pool: NDArray[np.intp], stream: int) -> tuple[Samples, Samples]:
        order = np.random.default_rng([given.seed, stream]).permutation(pool)
        return (
            digits.take(order[:N_TRAIN]),
            digits.take(order[N_TRAIN : N_TRAIN + N_VALIDATION]),
        )

    table: dict[int, dict[str, float]] = {}
    for digit in given.digits:
        started = time.monotonic()
        train, validation = drawn(inside[label[inside] != digit], digit)
        abnormal = test.meta["label"].to_numpy(int) == digit
        table[digit] = areas(detect(train, validation, test, study), abnormal)
        took = time.monotonic() - started
        print(f"{digit}: {table[digit][OURS]:.3f} in {took:.0f} s", file=sys.stderr, flush=True)
    if table:
        frame = pd.DataFrame(table)
        print(f"Area under ROC, the digit that was left out (seed {given.seed}):\n")
        print(by_digit(frame), differences(frame), sep="\n\n")
        best = frame.drop(OURS).mean(1)
        ahead = "held" if frame.loc[OURS].mean() > best.max() else "NOT HELD"
        print(f"\nOurs ahead of each on the mean over digits: {ahead}\n", flush=True)

    try:
        fashion = load([given.fashion], MnistSource())
    except InputError as error:
        _say_once(f"left out: Fashion-MNIST ({error})")
        return
    clothes = fashion.take(np.flatnonzero(fashion.meta["set"] == "t10k"))
    train, validation = drawn(inside, 10)
    both = Samples(
        "mnist",
        np.concatenate([_images(test), _images(clothes)]),
        pd.concat([test.meta, clothes.meta], ignore_index=True),
        test.axes,
    )
    abnormal = np.arange(len(both)) >= len(test)
    found = areas(detect(train, validation, both, study), abnormal)
    print(foreign(found))
    print(f"\nOurs at least {WANTED:g}: {'held' if found[OURS] >= WANTED else 'NOT HELD'}")


def _images(samples: Samples) -> NDArray[np.float32]:
    return np.asarray(samples.values[:])


if __name__ == "__main__":
    main()
