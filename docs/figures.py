"""The figures of the explanation pages, from real runs: ``python docs/figures.py`` makes them anew.

Models are small (10,000 digits, a few epochs; recordings and answers of the sample data sets), so
that all of it takes about two minutes on one core. Digits run from 0 (black) to 1; errors are of
images that no model was fitted on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ae_pipeline import Autoencoder
from ae_pipeline.detectors.conformal import adjusted, conformal_p
from ae_pipeline.report.drawing import (
    FLAG,
    HALF,
    INK,
    MUTED,
    SERIES,
    WIDE,
    Picture,
    figure,
    house_style,
    legend,
    picture,
)
from ae_pipeline.report.pictures.evidence import traces
from ae_pipeline.report.pictures.figures import latent_map
from ae_pipeline.report.pictures.portraits import rows_of
from ae_pipeline.report.pictures.truth import strips_by_kind
from ae_pipeline.report.views import Evidence
from ae_pipeline.sources.images import read_idx
from ae_pipeline.sources.sample_data import fetch

__all__ = ["FIGURES", "Runs", "draw"]

Float = NDArray[np.float32]
HERE = Path(__file__).resolve().parent / "explanation" / "figures"
N_SHOWN = 10
WIDTHS = (1, 2, 5, 10, 20, 40)


@dataclass(frozen=True)
class Runs:
    """The data, and the models that more than one figure needs.

    Parameters
    ----------
    n_train, epochs : int
        Digits that models learn from, and how long.
    """

    n_train: int = 10_000
    epochs: int = 12

    @cached_property
    def digits(self) -> tuple[Float, Float, NDArray[np.int64]]:
        """(training images, held-out images, their labels)."""
        place = fetch("mnist", lambda line: None)
        train = read_idx(place / "train-images-idx3-ubyte")[: self.n_train]
        held = read_idx(place / "t10k-images-idx3-ubyte")[:2000]
        labels = read_idx(place / "t10k-labels-idx1-ubyte")[:2000]
        return tuple_of(train), tuple_of(held), labels.astype(np.int64)

    def fit(self, objective: Any = "vanilla", latent_dim: int = 10) -> Autoencoder:
        """A dense model of the digits."""
        model = Autoencoder(
            {"kind": "dense", "hidden": [256]},
            objective,
            latent_dim,
            kind="mnist",
            epochs=self.epochs,
            batch_size=128,
            device="cpu",
        )
        return model.fit(self.digits[0])

    @cached_property
    def by_width(self) -> dict[int, Autoencoder]:
        """A plain model for each of :data:`WIDTHS`."""
        return {width: self.fit(latent_dim=width) for width in WIDTHS}

    @cached_property
    def variational(self) -> Autoencoder:
        """Codes are clouds."""
        return self.fit("variational", 10)


def tuple_of(images: NDArray[Any]) -> Float:
    """Pixels of 0 to 1."""
    return (images / 255).astype(np.float32)


def again(model: Autoencoder, images: Float) -> Float:
    """Encoded and decoded."""
    return np.asarray(model.inverse_transform(model.transform(images)), np.float32)


def ten_digits(runs: Runs) -> Float:
    """One held-out image of each digit."""
    _, held, labels = runs.digits
    return held[[int(np.flatnonzero(labels == digit)[0]) for digit in range(N_SHOWN)]]


# -------------------------------------------------------------------------------- figures


def reconstruction(runs: Runs) -> Picture:
    """What is left of a digit that went through few numbers."""
    shown = ten_digits(runs)
    rows = [("original", shown)]
    rows += [(f"{k} number{'s' * (k > 1)}", again(runs.by_width[k], shown)) for k in (1, 2, 10, 40)]
    names = [str(digit) for digit in range(N_SHOWN)]
    caption = "Held-out digits, and what models make of them whose code has so many numbers."
    return rows_of("grid", rows, steps=names, names=(), sfreq_hz=None, caption=caption)


def bottleneck(runs: Runs) -> Picture:
    """Error by the width of the code, beside principal components of the same number."""
    train, held, _ = runs.digits
    flat, flat_held = train.reshape(len(train), -1), held.reshape(len(held), -1)
    own = [float(np.square(again(runs.by_width[k], held) - held).mean()) for k in WIDTHS]
    components = PCA(max(WIDTHS), random_state=0).fit(flat)
    centered = flat_held - components.mean_
    linear = []
    for k in WIDTHS:
        axes = components.components_[:k]
        linear.append(float(np.square(centered - centered @ axes.T @ axes).mean()))
    with house_style():
        fig, ax = figure(HALF, 3.2)
        ax.plot(WIDTHS, linear, "D--", color=SERIES[1], label="principal components")
        ax.plot(WIDTHS, own, "o-", color=SERIES[0], label="autoencoder")
        ax.set(xlabel="numbers in the code", ylabel="mean squared error of a pixel", xscale="log")
        ax.set_xticks(WIDTHS, [str(k) for k in WIDTHS])
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
        legend(ax)
        said = ", ".join(
            f"{k}: {a:.3f} and {b:.3f}" for k, a, b in zip(WIDTHS, own, linear, strict=True)
        )
        alt = f"Error on held-out digits by numbers in the code, autoencoder and PCA: {said}."
        return picture(fig, alt, caption="Held-out digits.")


def denoising(runs: Runs) -> Picture:
    """Noisy digits through a model that was taught to clean and one that was not."""
    shown = ten_digits(runs)
    rng = np.random.default_rng(0)
    noisy = np.clip(shown + rng.normal(0, 0.4, shown.shape), 0, 1).astype(np.float32)
    taught = runs.fit({"kind": "denoising", "level": 0.4}, 40)
    rows = [
        ("noisy", noisy),
        ("plain model", again(runs.by_width[40], noisy)),
        ("denoising model", again(taught, noisy)),
        ("clean", shown),
    ]
    names = [str(digit) for digit in range(N_SHOWN)]
    return rows_of(
        "grid", rows, steps=names, names=(), sfreq_hz=None, caption="Held-out digits with noise."
    )


def latents(runs: Runs) -> Picture:
    """Two numbers a digit, coloured by what the model was never told."""
    _, held, labels = runs.digits
    codes = runs.by_width[2].transform(held)
    frame = pd.DataFrame(codes, columns=["z00", "z01"])
    found = latent_map(frame, pd.Series([str(label) for label in labels]), color_name="digit")
    assert found is not None
    return found


def anomaly(runs: Runs) -> Picture:
    """Reconstruction error of digits as they are, turned, and negative."""
    _, held, _ = runs.digits
    half = len(held) // 2
    rng = np.random.default_rng(0)
    parts = {
        "as written": held[half:],
        "turned": np.rot90(held[half:], axes=(1, 2))[:250],
        "negative": 1 - held[half:][250:500],
    }
    model = runs.by_width[10]
    known = -model.score_samples(held[:half])
    frames = []
    for name, images in parts.items():
        score = -model.score_samples(np.ascontiguousarray(images))
        p = (1 + (known >= score[:, None]).sum(1)) / (len(known) + 1)
        frames.append(pd.DataFrame({"kind": name, "score": score, "flagged": p <= 0.01}))
    scores = pd.concat(frames, ignore_index=True).iloc[rng.permutation(half + 500)]
    return strips_by_kind(scores, list(parts), what="images")


def flags(runs: Runs) -> Picture:
    """The p of one new image, and the p of two hundred with the line that q is read from."""
    _, held, _ = runs.digits
    half = len(held) // 2
    shifted = np.roll(held[half : half + 20], 4, axis=2)
    new = np.concatenate([held[half + 20 : half + 200], shifted])
    model = runs.by_width[10]
    known, scores = -model.score_samples(held[:half]), -model.score_samples(new)
    p = conformal_p(scores, known)
    q = adjusted(p)
    one = 180 + int(np.argmin(np.abs(p[180:] - 0.03)))
    order = np.argsort(p, kind="stable")[:60]
    rank = np.arange(1, len(order) + 1)
    wrong, right = (q[order] <= 0.1) & (order < 180), (q[order] <= 0.1) & (order >= 180)
    with house_style():
        fig = Figure(figsize=(WIDE, 3.3), layout="constrained")
        left, beside = fig.subplots(1, 2)
        edges = np.linspace(min(known.min(), scores[one]), max(known.max(), scores[one]), 45)
        left.hist(known, edges, color=SERIES[0], alpha=0.45, label=f"{len(known):,} set apart")
        left.hist(known[known >= scores[one]], edges, color=FLAG, label="at least as far off")
        left.axvline(scores[one], color=INK, label=f"a shifted digit: p = {p[one]:.3f}")
        left.set(xlabel="reconstruction error", ylabel="normal digits")
        legend(left, columns=1)
        beside.plot(rank, 0.1 * rank / len(p), color=MUTED, label="0.1 × rank / 200")
        for chosen, color, mark, label in (
            (~(wrong | right), SERIES[0], ".", "not flagged"),
            (right, FLAG, "o", f"flagged, shifted: {right.sum()} of 20"),
            (wrong, INK, "x", f"flagged, as written: {wrong.sum()}"),
        ):
            beside.plot(rank[chosen], p[order][chosen], mark, color=color, label=label)
        beside.set(xlabel="rank of p among 200 new images", ylabel="p", ylim=(0, 0.12))
        legend(beside, columns=1)
        alt = (
            f"Left: errors of {len(known):,} digits set apart, and one shifted digit of which "
            f"p is {p[one]:.3f}. Right: the smallest p of 200 new images against the line that "
            f"q = 0.1 means; {right.sum()} of 20 shifted ones are flagged, and {wrong.sum()} of "
            "180 others."
        )
        return picture(fig, alt, caption="", wide=True)


def samples(runs: Runs) -> Picture:
    """New digits from the prior, beside those of a model without one."""
    plain = runs.by_width[10].sample(N_SHOWN).astype(np.float32)
    rows = [
        ("real", ten_digits(runs)),
        ("variational: prior", runs.variational.sample(N_SHOWN).astype(np.float32)),
        ("plain: density", plain),
    ]
    return rows_of(
        "grid", rows, steps=[""] * N_SHOWN, names=(), sfreq_hz=None, caption="New digits."
    )


def traversal(runs: Runs) -> Picture:
    """The straight way from one digit's code to another's."""
    shown = ten_digits(runs)
    codes = runs.variational.transform(shown)
    share = np.linspace(0, 1, N_SHOWN, dtype=np.float32)[:, None]
    rows = [
        (
            f"{a} to {b}",
            np.asarray(
                runs.variational.inverse_transform((1 - share) * codes[a] + share * codes[b]),
                np.float32,
            ),
        )
        for a, b in ((0, 6), (1, 7), (3, 8))
    ]
    names = [f"{100 * float(s):.0f} %" for s in share[:, 0]]
    return rows_of("grid", rows, steps=names, names=(), sfreq_hz=None, caption="Between codes.")


def completion(runs: Runs) -> Picture:
    """The lower half predicted from the upper one, by a model that was taught to."""
    shown = ten_digits(runs)
    masked = runs.fit({"kind": "masked", "share": 0.5, "size": 14}, 40)
    hidden = shown.copy()
    hidden[:, 14:] = 0
    rows = [("shown", hidden), ("completed", half_completed(masked, hidden)), ("original", shown)]
    names = [str(digit) for digit in range(N_SHOWN)]
    return rows_of("grid", rows, steps=names, names=(), sfreq_hz=None, caption="Half a digit.")


def half_completed(model: Autoencoder, hidden: Float) -> Float:
    """What the model says of the lower half."""
    made = again(model, hidden)
    made[:, :14] = hidden[:, :14]
    return made


def answers(runs: Runs) -> Picture:
    """The same comparison where the linear model is enough: a questionnaire."""
    people = pd.read_csv(fetch("bfi", lambda line: None) / "bfi.csv", dtype="Int64")
    items = [name for name in people if name[0] in "ACENO" and name[1:].isdigit()]
    x = people[items].dropna().to_numpy(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    x = x[np.random.default_rng(0).permutation(len(x))]
    train, held = x[: len(x) // 2], x[len(x) // 2 :]
    widths = (1, 2, 5, 10)
    own, linear = [], []
    for k in widths:
        model = Autoencoder(latent_dim=k, epochs=10 * runs.epochs, device="cpu").fit(train)
        own.append(float(np.square(model.inverse_transform(model.transform(held)) - held).mean()))
        pca = PCA(k, random_state=0).fit(train)
        linear.append(float(np.square(pca.inverse_transform(pca.transform(held)) - held).mean()))
    with house_style():
        fig, ax = figure(HALF, 3.2)
        ax.plot(widths, linear, "D--", color=SERIES[1], label="principal components")
        ax.plot(widths, own, "o-", color=SERIES[0], label="autoencoder")
        ax.set(xlabel="numbers in the code", ylabel="mean squared error of an answer (in SD²)")
        ax.set_xticks(widths)
        ax.set_ylim(0, 1)
        legend(ax)
        said = ", ".join(
            f"{k}: {a:.2f} and {b:.2f}" for k, a, b in zip(widths, own, linear, strict=True)
        )
        alt = f"Error on held-out people by numbers in the code, autoencoder and PCA: {said}."
        return picture(fig, alt, caption="Held-out people.")


def eeg(runs: Runs) -> Picture:
    """Two seconds of EEG with a planted artefact, and what the model expected."""
    from ae_pipeline.eeg.survey import survey_with_stats
    from ae_pipeline.eeg.windows import cut
    from ae_pipeline.jobs.init import initial_study
    from ae_pipeline.jobs.job import run_plainly
    from ae_pipeline.jobs.train import train_job
    from ae_pipeline.runtime.files import write_text
    from ae_pipeline.scoring.bundle import load
    from ae_pipeline.sources.eeg import EegSource, open_recording
    from ae_pipeline.sources.finding import find

    data = fetch("eeg", lambda line: None)
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "study.yaml"
        write_text(study, initial_study("eeg", data / "recordings", name="figures"))
        job = train_job(study, Path(place) / "out", overrides=[f"training.epochs={runs.epochs}"])
        job.publishing = False
        run_plainly(job)
        bundle = load(Path(place) / "out/model")
    found = next(each for each in find([data / "new"]) if each.name.endswith("run-14"))
    recording = open_recording(found, EegSource(path=data))
    plan, stats = survey_with_stats(
        recording,
        bundle.info.preprocess,
        line_freq_hz=50.0,
        sfreq_hz=bundle.info.sfreq_hz,
        windowing=bundle.info.windows,
    )
    pop_s = 102.5
    samples = next(
        part
        for part in cut(recording, plan, windowing=bundle.info.windows, robust_stats=stats)
        if part.meta["onset_s"].max() >= pop_s
    )
    chosen = int(np.abs(samples.meta["onset_s"].to_numpy() - pop_s).argmin())
    one = samples.take(slice(chosen, chosen + 1))
    shown = Evidence(
        np.asarray(one.values[:], np.float64),
        bundle.autoencoder.reconstruct(one).astype(np.float64),
        one.meta.assign(recording=recording.name)[["recording", "onset_s", "duration_s"]],
        one.sfreq_hz,
        recording.ch_names,
        "µV",
    )
    return traces(shown, 0, rank="A window with a planted electrode pop")


FIGURES: dict[str, Callable[[Runs], Picture]] = {
    each.__name__: each
    for each in (
        reconstruction,
        bottleneck,
        answers,
        denoising,
        latents,
        anomaly,
        flags,
        eeg,
        samples,
        traversal,
        completion,
    )
}


def draw(runs: Runs, place: Path, names: list[str] | None = None) -> list[Path]:
    """Write the figures as PNG files, each with its text alternative beside it."""
    place.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names or FIGURES:
        found = FIGURES[name](runs)
        (place / f"{name}.png").write_bytes(found.png())
        print(f"{name}: {found.alt}", flush=True)
        made.append(place / f"{name}.png")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--quick", action="store_true", help="hardly any training: to see it work")
    given = parser.parse_args()
    runs = Runs(400, 1) if given.quick else Runs()
    draw(runs, given.out, given.names or None)


if __name__ == "__main__":
    main()
