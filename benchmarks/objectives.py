"""Each objective at what it is for, on data that nothing was fitted on, as it comes out.

Digits: 10,000 training images of MNIST, its 10,000 test images, dense models of 256 hidden units,
15 epochs, three seeds where not said otherwise. EEG: the sample recordings of one person, windows
of whole recordings held out.

    python benchmarks/objectives.py                        all (some ten minutes of one core)
    python benchmarks/objectives.py --only noisy sparse    some
    python benchmarks/objectives.py --seeds 1              quicker

Losses are means per pixel or sample. Nothing is tuned here: the objectives have their defaults
but where the table says otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.training.loop import FittedAutoencoder

Float = NDArray[np.float32]

N_TRAIN = 10_000
EPOCHS = 15
DENSE = {"kind": "dense", "hidden": [256]}


# ------------------------------------------------------------------------------------ data


def digits() -> tuple[Samples, Samples]:
    from ae_pipeline.sources.images import MnistSource, load
    from ae_pipeline.sources.sample_data import fetch

    both = load([fetch("mnist")], MnistSource())
    sets = both.meta["set"].to_numpy()
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(sets == "train"))[:N_TRAIN]
    return both.take(chosen), both.take(np.flatnonzero(sets == "t10k"))


def trained(
    samples: Samples,
    objective: dict[str, Any],
    latent_dim: int = 10,
    seed: int = 0,
    architecture: dict[str, Any] | None = None,
    epochs: int = EPOCHS,
) -> FittedAutoencoder:
    import torch

    from ae_pipeline.models import Model
    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.training.loop import Training, fit

    torch.manual_seed(seed)
    config = Model.model_validate(
        {
            "architecture": architecture or DENSE,
            "objective": objective,
            "latent_dim": latent_dim,
        }
    )
    model = Autoencoder(config, samples.layout, shape=samples.shape, columns=samples.columns)
    training = Training(epochs=epochs, early_stopping=None, seed=seed, device="cpu")
    return fit(model, samples, validation=None, scaler=Scaler.fit(samples), config=training)[0]


def over_seeds(measure: Callable[[int], list[float]], seeds: int) -> list[str]:
    """Mean (least to most) of each number over seeds."""
    found = np.array([measure(seed) for seed in range(seeds)])
    return [
        f"{column.mean():.4g}"
        + (f" ({column.min():.4g} to {column.max():.4g})" if seeds > 1 else "")
        for column in found.T
    ]


def table(head: str, rows: dict[str, list[str]]) -> None:
    columns = head.count("|") - 1
    print(f"\n{head}\n" + "|---" * columns + "|")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def pixels(samples: Samples) -> Float:
    return np.asarray(samples.values[:])


def recoded(model: FittedAutoencoder, x: Float) -> Float:
    """What the model makes of images that need not be in the data."""
    import torch

    with torch.inference_mode():
        given = torch.from_numpy(np.ascontiguousarray(x, np.float32))
        return np.asarray(model.model.likelihood.mean(model.model(given)))


# -------------------------------------------------------------------------------- sections


def noisy(seeds: int) -> None:
    """Denoising against vanilla: squared error to the clean image, from a noisy and a clean one."""
    train, test = digits()
    x = pixels(test)
    level = 0.3
    dirty = x + level * np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def measure(objective: dict[str, Any]) -> Callable[[int], list[float]]:
        def run(seed: int) -> list[float]:
            model = trained(train, objective, seed=seed)
            return [float(np.square(recoded(model, seen) - x).mean()) for seen in (dirty, x)]

        return run

    rows = {
        name: over_seeds(measure(objective), seeds)
        for name, objective in {
            "vanilla": {"kind": "vanilla"},
            "denoising": {"kind": "denoising", "level": level},
        }.items()
    }
    rows["the noisy image itself"] = [f"{np.square(dirty - x).mean():.4g}", "0"]
    table("| noisy digits | error from a noisy image | from a clean one |", rows)


def sparse(seeds: int) -> None:
    """Units in use at equal loss: their number for an image, (sum |a|)^2 / sum a^2."""
    train, test = digits()

    def use(model: FittedAutoencoder) -> list[float]:
        code = np.abs(model.latents(test).astype(np.float64))
        activity = code / np.sqrt(np.square(code).mean(0) + 1e-12)
        number = np.square(activity.sum(1)) / np.maximum(np.square(activity).sum(1), 1e-12)
        return [float(model.score(test).total.mean()), float(number.mean())]

    rows, vanilla = {}, []
    for size in (6, 8, 12, 16, 32):
        found = [use(trained(train, {"kind": "vanilla"}, size, seed)) for seed in range(seeds)]
        vanilla.append(np.mean(found, 0))
        rows[f"vanilla, {size} units"] = [f"{value:.4g}" for value in vanilla[-1]] + [""]
    losses, counts = np.array(vanilla)[::-1].T  # largest model first: losses ascend
    for measure in ("l1", "kl", "neighbours"):
        objective = {"kind": "sparse", "measure": measure}
        found = [use(trained(train, objective, 32, seed)) for seed in range(seeds)]
        loss, number = np.mean(found, 0)
        same = float(np.interp(loss, losses, counts))
        rows[f"sparse ({measure}), 32 units"] = [f"{loss:.4g}", f"{number:.3g}", f"{same:.3g}"]
    table("| sparse | test loss | units in use for an image | vanilla's at equal loss |", rows)


def contractive(seeds: int) -> None:
    """Jacobian of the code, relative to principal components' (1), and loss."""
    import torch

    train, test = digits()
    some = torch.from_numpy(pixels(test)[:500])
    rng = np.random.default_rng(1)
    shaken = pixels(test) + 0.1 * rng.standard_normal(pixels(test).shape).astype(np.float32)

    def measure(objective: dict[str, Any]) -> Callable[[int], list[float]]:
        def run(seed: int) -> list[float]:
            model = trained(train, objective, seed=seed, epochs=10)
            x = some.clone().requires_grad_()
            code = model.model.encode(x).mean
            rows = [torch.autograd.grad(u.sum(), x, retain_graph=True)[0] for u in code.unbind(1)]
            squared = torch.stack(rows).square().sum((0, 2, 3)).mean()
            spread = code.var(0).sum() * code.shape[1] / some.flatten(1).var(0).sum()
            with torch.inference_mode():
                clean = model.model.encode(torch.from_numpy(pixels(test))).mean
                moved = model.model.encode(torch.from_numpy(shaken)).mean - clean
            shift = (moved.square().sum() / (clean - clean.mean(0)).square().sum()).sqrt()
            loss = float(model.score(test).total.mean())
            return [float((squared / spread).detach()), float(shift), loss]

        return run

    table(
        "| contractive (10 epochs) | squared Jacobian | shift by noise / spread | test loss |",
        {
            name: over_seeds(measure(objective), seeds)
            for name, objective in {
                "vanilla": {"kind": "vanilla"},
                "contractive": {"kind": "contractive"},
                "contractive, weight 0.1": {"kind": "contractive", "weight": 0.1},
            }.items()
        },
    )


def samples(seeds: int) -> None:
    """Can a classifier tell drawn digits from real ones? 0.5 is no, 1 is always."""
    import torch
    from sklearn.mixture import GaussianMixture

    from ae_pipeline.analysis.likeness import two_samples

    train, test = digits()
    real = test.take(slice(0, 2000))

    def draw(model: FittedAutoencoder, codes: NDArray[Any]) -> list[float]:
        with torch.inference_mode():
            made = model.model.likelihood.mean(
                model.model.decode(torch.from_numpy(codes.astype(np.float32)))
            ).numpy()
        from dataclasses import replace

        drawn = replace(real, values=made)
        return [float(two_samples(drawn, real, scaler=model.scaler)["area"])]

    def variational(seed: int) -> list[float]:
        model = trained(train, {"kind": "variational"}, seed=seed)
        return draw(model, np.random.default_rng(seed).standard_normal((2000, 10)))

    def mixture(seed: int) -> list[float]:
        model = trained(train, {"kind": "vanilla"}, seed=seed)
        fitted = GaussianMixture(32, reg_covar=1e-3, random_state=seed).fit(model.latents(train))
        return draw(model, fitted.sample(2000)[0])

    def again(seed: int) -> list[float]:
        """Real test images as the vanilla model gives them back: what blurring alone gives away."""
        model = trained(train, {"kind": "vanilla"}, seed=seed)
        return draw(model, model.latents(test.take(slice(2000, 4000))))

    table(
        "| drawn digits | area of a classifier against real ones |",
        {
            "variational, from its prior": over_seeds(variational, seeds),
            "vanilla, from a mixture of its codes": over_seeds(mixture, seeds),
            "vanilla, other test images reconstructed": over_seeds(again, seeds),
        },
    )


def completion(seeds: int) -> None:
    """The lower half of a digit from its upper half: squared error on the hidden half."""
    from sklearn.linear_model import Ridge

    train, test = digits()
    x, known = pixels(test), pixels(train)
    seen, hidden = slice(0, 14), slice(14, 28)
    cue = x.copy()
    cue[:, hidden] = 0

    def off(made: Float) -> float:
        return float(np.square(made[:, hidden] - x[:, hidden]).mean())

    def by(objective: dict[str, Any]) -> Callable[[int], list[float]]:
        def run(seed: int) -> list[float]:
            model = trained(train, objective, 16, seed)
            made = recoded(model, cue)
            once = off(made)
            shown = cue.copy()
            for _ in range(20):
                shown[:, hidden] = made[:, hidden]
                made = recoded(model, shown)
            return [once, off(made)]

        return run

    rows = {
        "vanilla": over_seeds(by({"kind": "vanilla"}), seeds),
        "masked": over_seeds(by({"kind": "masked"}), seeds),
        "masked, half hidden": over_seeds(by({"kind": "masked", "share": 0.5}), seeds),
    }
    flat = [part.reshape(len(part), -1) for part in (known[:, seen], known[:, hidden], x[:, seen])]
    ridge = Ridge(10.0).fit(flat[0], flat[1]).predict(flat[2])
    mean = np.broadcast_to(flat[1].mean(0), ridge.shape)
    truth = x[:, hidden].reshape(len(x), -1)
    for name, made in (("ridge regression", ridge), ("mean of the training images", mean)):
        rows[name] = [f"{np.square(made - truth).mean():.4g}", ""]
    table("| completion (16 units) | error at once | recalled 20 times |", rows)


def eeg(seeds: int) -> None:
    """Architectures of about equal size on EEG windows; whole recordings are held out."""
    import yaml

    from ae_pipeline.ingest.gather import gather
    from ae_pipeline.jobs.init import initial_study
    from ae_pipeline.models.layers import n_parameters
    from ae_pipeline.sources.sample_data import fetch
    from ae_pipeline.study import Study
    from ae_pipeline.training.split import divide

    study = Study.model_validate(
        yaml.safe_load(initial_study("eeg", fetch("eeg") / "recordings", name="architectures"))
    )
    data = gather(study, lambda done, total, what: None)
    division = divide(data.samples.meta, study.split)
    train, test = (data.samples.take(division.rows(part)) for part in ("train", "test"))
    print(f"\nEEG: {len(train)} windows of {train.shape} train, {len(test)} judge", flush=True)
    sizes: dict[str, dict[str, Any]] = {
        "dense": {"kind": "dense", "hidden": [36]},
        "conv": {"kind": "conv", "channels": [32, 32, 8], "kernel": 7},
        "recurrent": {"kind": "recurrent", "hidden": 32, "embedding": 32},
        "attention": {"kind": "attention", "width": 24, "layers": 1},
    }
    rows = {}
    for name, architecture in sizes.items():
        count = 0

        def run(seed: int, architecture: dict[str, Any] = architecture) -> list[float]:
            nonlocal count
            started = time.process_time()
            model = trained(train, {"kind": "vanilla"}, 16, seed, architecture, 40)
            count = n_parameters(model.model)
            return [float(model.score(test).total.mean()), time.process_time() - started]

        cells = over_seeds(run, seeds)
        rows[name] = [f"{count:,}", *cells]
    table("| EEG windows, 16 units, 40 epochs | parameters | test loss | CPU s |", rows)


SECTIONS: dict[str, Callable[[int], None]] = {
    "noisy": noisy,
    "sparse": sparse,
    "contractive": contractive,
    "samples": samples,
    "completion": completion,
    "eeg": eeg,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    for name in given.only:
        started = time.process_time()
        SECTIONS[name](given.seeds)
        print(f"{name}: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
