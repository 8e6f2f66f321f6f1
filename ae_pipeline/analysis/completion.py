"""Recall from a partial cue: what a model makes of the part it is not shown, beside simple ways.

Arrays are in network units (see ``scaler.py``), (n, *shape); ``visible`` is True where an entry is
shown. A model completes in one of three ways, and which one is decided by measurement:

* ``one_pass``: what is hidden is shown as missing, and the reconstruction says what it is. This is
  what masked training is for (Pathak et al., 2016).
* ``iterated``: the reconstruction of the hidden part is shown as if it were seen, again and again
  (recall of an associative memory, Hopfield, 1982; for autoencoders Rezende et al., 2014).
* ``optimised``: the code under which the visible part is most probable, with the density of the
  training codes as prior; its decoding says the rest (after Bora et al., 2017).

The simple ways: for channels spherical splines (Perrin et al., 1989) and the mean of the others;
for time the line between both sides and the last value; for answers and pixels the training mean
and ridge regression on what is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Layout
from ae_pipeline.eeg.interpolation import spline_weights
from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "PARTS",
    "WAYS",
    "Part",
    "Simple",
    "Way",
    "complete",
    "error",
    "hide",
    "measure",
    "sentence",
    "simple_ways",
    "without_hidden_reference",
]

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Way = Literal["one_pass", "iterated", "optimised"]
Part = Literal["channels", "time", "items", "half"]

WAYS: tuple[Way, ...] = ("one_pass", "iterated", "optimised")
PARTS: dict[Layout, tuple[Part, ...]] = {
    "series": ("channels", "time"),
    "grid": ("half",),
    "table": ("items",),
}
"""What is hidden of samples of each layout to measure completion."""

SHARE = 0.2
"""Share of the channels or items that is hidden to measure completion."""

N_ITERATIONS = 20
N_STEPS = 150
BATCH = 256
N_SETS = 6
"""Sets of channels that are hidden in turn."""


# ------------------------------------------------------------------------------- the model


def complete(bundle: Bundle, x: Float, *, visible: Mask, way: Way) -> Float:
    """What the model expects everywhere, given what is visible.

    Parameters
    ----------
    bundle : Bundle
    x : array of shape (n, *shape)
        In network units; what is not visible is not looked at.
    visible : array of bool of the same shape
    way : {'one_pass', 'iterated', 'optimised'}

    Returns
    -------
    array of shape (n, *shape)
        Network units.
    """
    parts = [
        _complete(bundle, x[start : start + BATCH], visible=visible[start : start + BATCH], way=way)
        for start in range(0, len(x), BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros_like(x)


def _complete(bundle: Bundle, x: Float, *, visible: Mask, way: Way) -> Float:
    import torch

    model = bundle.autoencoder.model
    device = next(model.parameters()).device
    shown = torch.from_numpy(np.where(visible, x, np.float32(0)).astype(np.float32)).to(device)
    seen = torch.from_numpy(visible).to(device, shown.dtype)
    model.eval()
    with torch.inference_mode():
        mean = model.likelihood.mean(model(shown, seen))
        if way == "one_pass":
            return np.asarray(mean.cpu().numpy(), dtype=np.float32)
        everything = torch.ones_like(seen)
        for _ in range(N_ITERATIONS):
            mean = model.likelihood.mean(model(torch.where(seen > 0, shown, mean), everything))
        if way == "iterated":
            return np.asarray(mean.cpu().numpy(), dtype=np.float32)
        start = model.encode(torch.where(seen > 0, shown, mean), everything).mean
    return _optimised(bundle, shown, seen=seen, start=start)


def _optimised(bundle: Bundle, shown: Any, *, seen: Any, start: Any) -> Float:
    """Decoding of the most probable code of what is visible."""
    import torch

    model = bundle.autoencoder.model
    center, root = (torch.from_numpy(a).to(shown) for a in _normal_of_codes(bundle))
    u = torch.linalg.solve_triangular(root, (start.clone() - center).T, upper=False).T
    u = u.clamp(-4, 4).detach().requires_grad_()
    # losses that are no log densities are brought to one by the usual error
    usual = bundle.calibration.median_loss
    per_entry = 1.0
    if model.likelihood.uniform in ("gaussian", "huber"):
        per_entry = 0.5 / max(usual, 1e-6)
    optimizer = torch.optim.Adam([u], lr=0.05)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        for _ in range(N_STEPS):
            optimizer.zero_grad()
            losses = model.likelihood.loss_per_entry(model.decode(center + u @ root.T), shown)
            loss = per_entry * (losses * seen).sum() + 0.5 * u.square().sum()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found = model.likelihood.mean(model.decode(center + u @ root.T))
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    return np.asarray(found.cpu().numpy(), dtype=np.float32)


def _normal_of_codes(bundle: Bundle) -> tuple[Float, Float]:
    """Mean and Cholesky root of the training codes, as one normal distribution."""
    codes = bundle.ensemble.draw_codes(4_000, np.random.default_rng(0)).astype(np.float64)
    covariance = np.atleast_2d(np.cov(codes.T))
    covariance += 1e-4 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    root = np.linalg.cholesky(covariance)
    return codes.mean(0).astype(np.float32), root.astype(np.float32)


# -------------------------------------------------------------------------- the simple ways


@dataclass(frozen=True)
class Simple:
    """What the simple ways know of the training data.

    Parameters
    ----------
    mean : array of shape (p,)
    covariance : array of shape (p, p)
        Empty where it is not needed (EEG) or there is no training data.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def fit(cls, x: Float, observed: Mask) -> Simple:
        """From training data (n, *shape) in network units."""
        flat = x.reshape(len(x), -1).astype(np.float64)
        given = observed.reshape(flat.shape)
        mean = np.where(given, flat, 0).sum(0) / np.maximum(given.sum(0), 1)
        centred = np.where(given, flat - mean, 0.0)
        pairs = given.astype(np.float64).T @ given.astype(np.float64)
        covariance = (centred.T @ centred) / np.maximum(pairs, 1)
        return cls(mean, covariance)

    def ridge(self, x: Float, visible: Mask) -> Float:
        """Hidden entries regressed on the visible ones; the ridge is a tenth of a variance."""
        flat, seen = x.reshape(len(x), -1), visible.reshape(len(x), -1)
        out = np.where(seen, flat, self.mean).astype(np.float64)
        penalty = 0.1 * np.diag(self.covariance).mean()
        patterns, which = np.unique(seen, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(which.ravel() == number)
            if pattern.all() or not pattern.any():
                continue
            inside = self.covariance[np.ix_(pattern, pattern)] + penalty * np.eye(pattern.sum())
            weights = np.linalg.solve(inside, self.covariance[np.ix_(pattern, ~pattern)])
            known = flat[np.ix_(rows, pattern)] - self.mean[pattern]
            out[np.ix_(rows, ~pattern)] = self.mean[~pattern] + known @ weights
        return out.reshape(x.shape).astype(np.float32)


def simple_ways(
    bundle: Bundle, part: Part, *, simple: Simple | None
) -> dict[str, Callable[[Float, Mask], Float]]:
    """Completions by name for one way of hiding."""
    if part == "channels":
        ways: dict[str, Callable[[Float, Mask], Float]] = {"mean_of_channels": _mean_of_channels}
        positions = _positions(bundle)
        if positions is not None:

            def spline(x: Float, visible: Mask) -> Float:
                return _spline(
                    x, visible, positions=positions, scale=bundle.autoencoder.scaler.scale
                )

            ways["spherical_spline"] = spline
        return ways
    if part == "time":
        return {"linear": _linear, "last_value": _last_value}
    if simple is None:
        return {}
    means = simple.mean.reshape(bundle.info.shape).astype(np.float32)
    return {
        "mean": lambda x, visible: np.where(visible, x, means),
        "ridge": simple.ridge,
    }


def _positions(bundle: Bundle) -> NDArray[np.float64] | None:
    info = bundle.info
    positions = np.array(info.positions_m or [(None,) * 3] * len(info.entries), dtype=float)
    return positions if np.isfinite(positions).all() and len(positions) > 8 else None


def _mean_of_channels(x: Float, visible: Mask) -> Float:
    seen = visible[:, :, 0]
    means = (x * seen[:, :, None]).sum(1) / np.maximum(seen.sum(1), 1)[:, None]
    out: Float = np.where(visible, x, means[:, None]).astype(np.float32)
    return out


def _spline(x: Float, visible: Mask, *, positions: NDArray[np.float64], scale: Float) -> Float:
    """Spherical splines in microvolts; a set of hidden channels at a time."""
    out = x.copy()
    patterns, which = np.unique(visible[:, :, 0], axis=0, return_inverse=True)
    for number, good in enumerate(patterns):
        if good.all():
            continue
        rows = np.flatnonzero(which.ravel() == number)
        try:
            weights = spline_weights(positions, good)
        except ValueError:
            out[np.ix_(rows, ~good)] = 0.0
            continue
        known = x[np.ix_(rows, good)] * scale[good][:, None]
        made = np.einsum("hg,ngt->nht", weights, known) / scale[~good][:, None]
        out[np.ix_(rows, ~good)] = made
    return out


def _linear(x: Float, visible: Mask) -> Float:
    """The line between the last value before and the first after."""
    out = x.copy()
    time = np.arange(x.shape[2])
    for i in range(len(x)):
        seen = visible[i, 0]
        if seen.any() and not seen.all():
            for channel in range(x.shape[1]):
                out[i, channel, ~seen] = np.interp(time[~seen], time[seen], x[i, channel, seen])
    return out


def _last_value(x: Float, visible: Mask) -> Float:
    """The last value before; where there is none, the first after."""
    out = x.copy()
    for i in range(len(x)):
        seen = visible[i, 0]
        if not seen.any() or seen.all():
            continue
        last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
        last = np.where(last < 0, int(np.flatnonzero(seen)[0]), last)
        out[i] = x[i][:, last]
    return out


# ------------------------------------------------------------------------------- measuring


def hide(part: Part, observed: Mask, *, rng: np.random.Generator) -> Mask:
    """What stays visible when a part is hidden, an array like ``observed`` (what is known).

    Channels: a fifth of them, in a few sets; time: an eighth of the window, anywhere but at its
    ends; items: a fifth of those answered; half: the lower half of an image.
    """
    visible = observed.copy()
    n, *shape = observed.shape
    if part == "channels":
        k = max(1, round(SHARE * shape[0]))
        sets = [rng.choice(shape[0], k, replace=False) for _ in range(N_SETS)]
        for i in range(n):
            visible[i, sets[i % N_SETS]] = False
    elif part == "time":
        length = max(1, round(shape[1] / 8))
        first = rng.integers(1, max(2, shape[1] - length), n)
        for i in range(n):
            visible[i, :, first[i] : first[i] + length] = False
    elif part == "half":
        visible[:, shape[0] // 2 :] = False
    else:
        for i in range(n):
            known = np.flatnonzero(observed[i])
            k = min(max(1, round(SHARE * len(known))), len(known) - 1)
            if k > 0:
                visible[i, rng.choice(known, k, replace=False)] = False
    return visible


def without_hidden_reference(x: Float, visible: Mask, *, scale: Float) -> Float:
    """EEG re-referenced to the mean of the visible channels.

    A common average holds a part of every hidden channel: with one of them hidden, the others
    would tell it exactly.
    """
    seen = visible[:, :, 0]
    microvolts = x * scale[:, None]
    means = (microvolts * seen[:, :, None]).sum(1) / np.maximum(seen.sum(1), 1)[:, None]
    out: Float = ((microvolts - means[:, None]) / scale[:, None]).astype(np.float32)
    return out


def measure(
    bundle: Bundle,
    x: Float,
    *,
    observed: Mask,
    unit: NDArray[Any],
    part: Part,
    simple: Simple | None,
    visible: Mask | None = None,
    seed: int = 0,
    average_reference: bool = False,
) -> dict[str, Any]:
    """Hide what is known, complete it in every way, and compare.

    The model's way is chosen on one half of the units and judged, like the simple ways, on the
    other half, where there are at least two.

    Parameters
    ----------
    bundle : Bundle
    x, observed : array of shape (n, *shape)
        Network units, and where they are known.
    unit : array of shape (n,)
        Recording or person of each sample; intervals are over them.
    part : str
        What is hidden; ``visible`` says it exactly where given.
    simple : Simple, optional
        From training data; without it answers and pixels have no simple ways.
    seed : int
    average_reference : bool
        EEG to a common average: hidden channels are taken out of it.

    Returns
    -------
    dict
        ``hidden`` (share of the known), ``way``, ``errors`` (mean squared error of each, network
        units), ``best``, ``best_simple``, ``difference`` (best simple minus model: positive where
        the model is better) with ``interval``, ``wins`` (True, False, or None: not clear).
    """
    rng = np.random.default_rng(seed)
    if visible is None:
        visible = hide(part, observed, rng=rng)
    if part == "channels" and average_reference:
        x = without_hidden_reference(x, visible, scale=bundle.autoencoder.scaler.scale)
    hidden = observed & ~visible
    units, place = np.unique(unit, return_inverse=True)
    chosen_on = rng.permutation(len(units))[: len(units) // 2]
    choosing = np.isin(place.ravel(), chosen_on)
    judging = ~choosing
    choosing = choosing if choosing.any() else judging
    few = np.flatnonzero(choosing)[:400]
    tried = _tried(bundle, x[few], visible=visible[few], hidden=hidden[few])
    way = min(tried, key=lambda name: tried[name])
    rows = np.flatnonzero(judging)
    made: dict[str, Float] = {"model": complete(bundle, x[rows], visible=visible[rows], way=way)}
    for name, simply in simple_ways(bundle, part, simple=simple).items():
        made[name] = simply(x[rows], visible[rows])
    errors, by_row = {}, {}
    for name, values in made.items():
        errors[name], by_row[name] = error(values, x[rows], hidden=hidden[rows])
    errors["variance"] = _variance(x[rows], hidden[rows])
    rivals = [name for name in made if name != "model"]
    best_simple = min(rivals, key=lambda name: errors[name], default=None)
    found: dict[str, Any] = {
        "part": part,
        "hidden": float(hidden.sum() / max(observed.sum(), 1)),
        "rows": len(rows),
        "units": len(np.unique(place.ravel()[rows])),
        "way": way,
        "tried": tried,
        "errors": errors,
        "best": min(made, key=lambda name: errors[name]),
        "best_simple": best_simple,
        "difference": None,
        "interval": None,
        "wins": None,
    }
    if best_simple is not None:
        found |= _judged(by_row[best_simple] - by_row["model"], place.ravel()[rows])
    return found


def _tried(bundle: Bundle, x: Float, *, visible: Mask, hidden: Mask) -> dict[Way, float]:
    """Mean squared error of each way of the model."""
    return {
        way: error(complete(bundle, x, visible=visible, way=way), x, hidden=hidden)[0]
        for way in WAYS
    }


def _judged(gain: NDArray[np.float64], unit: NDArray[Any]) -> dict[str, Any]:
    """Mean gain over units, its interval, and whether it is clear."""
    from ae_pipeline.stats import mean_interval

    known = np.isfinite(gain)
    _, again = np.unique(unit[known], return_inverse=True)
    by_unit = np.bincount(again, gain[known]) / np.bincount(again)
    span = mean_interval(by_unit)
    wins = None if span is None or span[0] * span[1] <= 0 else bool(span[0] > 0)
    return {"difference": float(by_unit.mean()), "interval": span, "wins": wins}


def error(made: Float, truth: Float, *, hidden: Mask) -> tuple[float, NDArray[np.float64]]:
    """Mean squared error over what was hidden; of each row (NaN where nothing was)."""
    squared = np.where(hidden, np.square(made.astype(np.float64) - truth), 0.0)
    axes = tuple(range(1, truth.ndim))
    n = hidden.sum(axes)
    by_row = np.where(n > 0, squared.sum(axes) / np.maximum(n, 1), np.nan)
    return float(squared.sum() / max(hidden.sum(), 1)), by_row


def _variance(truth: Float, hidden: Mask) -> float:
    """Variance of what was hidden: what the best constant would reach."""
    values = truth[hidden].astype(np.float64)
    return float(values.var()) if values.size else 0.0


def sentence(found: Mapping[str, Any]) -> str:
    """A measurement in words."""
    part = {
        "channels": "Hidden channels",
        "time": "Hidden stretches of time",
        "items": "Hidden answers",
        "half": "Hidden halves of images",
    }[found["part"]]
    errors = found["errors"]
    own = f"mean squared error {errors['model']:.3g} ({found['way'].replace('_', ' ')})"
    if found["best_simple"] is None:
        return (
            f"{part}: the model has a {own}, the best constant {errors['variance']:.3g}; there is "
            "nothing else simple to hold it against."
        )
    name = found["best_simple"]
    rival = f"{name.replace('_', ' ')} {errors[name]:.3g}"
    said = {
        True: "the model completes them better than the best simple way",
        False: "the best simple way completes them better than the model",
        None: "no clear difference between the model and the best simple way",
    }[found["wins"]]
    return f"{part}: {said}; {own}, {rival}, the best constant {errors['variance']:.3g}."
