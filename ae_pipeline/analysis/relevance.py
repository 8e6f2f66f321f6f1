"""Which inputs the code depends on, and what each latent feature does.

Two questions, two measures, both without gradients, so that they mean the same for every
architecture:

* ``dependence``: how much a feature moves when an entry (a channel, an item, a block of pixels) is
  taken from another sample (permutation, Breiman, 2001): the mean squared change over twice the
  feature's variance. 0: not looked at; 1: nothing else matters.
* ``effect``: how much an entry of the reconstruction changes when a feature goes from one standard
  deviation below its median to one above, the others at their median, in standard deviations of
  the entry. For EEG ``peak_hz`` says at which frequency most of that change is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.training.loop import FittedAutoencoder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Relevance", "relevance"]

Float = NDArray[np.float64]
ROWS = {"series": 200, "grid": 500, "table": 500}
BATCH = 256
BLOCK = 4
"""Side of a block of pixels."""


@dataclass(frozen=True)
class Relevance:
    """What depends on what.

    Parameters
    ----------
    latents : tuple of str
        ``z00``, ``z01``, ...
    entries : tuple of str
        Channels, items, or blocks of pixels named by their first row and column.
    dependence, effect : array of shape (latents, entries)
    peak_hz : array of shape (latents,)
        EEG only, else empty.
    """

    latents: tuple[str, ...]
    entries: tuple[str, ...]
    dependence: Float
    effect: Float
    peak_hz: Float

    def frame(self) -> pd.DataFrame:
        """``latent``, ``entry``, ``dependence``, ``effect`` and, for EEG, ``peak_hz``."""
        import pandas as pd

        n = len(self.entries)
        columns = {
            "latent": np.repeat(self.latents, n),
            "entry": np.tile(self.entries, len(self.latents)),
            "dependence": self.dependence.ravel(),
            "effect": self.effect.ravel(),
        }
        if len(self.peak_hz):
            columns["peak_hz"] = np.repeat(self.peak_hz, n)
        return pd.DataFrame(columns)

    def by_entry(self) -> Float:
        """Dependence of the whole code on each entry: the mean over features that move at all."""
        alive = self.dependence.sum(1) > 0
        return np.asarray(self.dependence[alive].mean(0) if alive.any() else self.dependence[0])


def relevance(fitted: FittedAutoencoder, samples: Samples, *, seed: int = 0) -> Relevance:
    """Measure both on some of the samples.

    Parameters
    ----------
    fitted : FittedAutoencoder
    samples : Samples
        Best such that the model was not trained on.
    seed : int
        Which samples, and which other sample an entry is taken from.
    """
    rng = np.random.default_rng(seed)
    few = samples.take(np.sort(rng.permutation(len(samples))[: ROWS[samples.layout]]))
    values, mask = few.batch(slice(None))
    x = fitted.scaler.transform(values, mask).astype(np.float32)
    entries, places = _entries(samples)
    codes = _encode(fitted, x, mask=mask)
    spread = codes.std(0)
    others = _derangement(len(x), rng)
    dependence = np.zeros((codes.shape[1], len(entries)))
    for j, place in enumerate(places):
        changed = x.copy()
        changed[(slice(None), *place)] = x[others][(slice(None), *place)]
        seen = mask
        if mask is not None:
            seen = mask.copy()
            seen[(slice(None), *place)] = mask[others][(slice(None), *place)]
        moved = np.square(_encode(fitted, changed, mask=seen) - codes).mean(0)
        dependence[:, j] = moved / np.maximum(2 * spread**2, 1e-12) * (spread > 1e-6)
    effect, peak_hz = _effects(fitted, few, x=x, codes=codes, places=places)
    names = tuple(f"z{i:02d}" for i in range(codes.shape[1]))
    return Relevance(names, entries, dependence, effect, peak_hz)


def _entries(samples: Samples) -> tuple[tuple[str, ...], list[tuple[slice | int, ...]]]:
    """Names of the entries, and where they are in a sample."""
    if samples.layout != "grid":
        return samples.entries, [(i,) for i in range(len(samples.entries))]
    height, width = samples.shape
    corners = [(r, c) for r in range(0, height, BLOCK) for c in range(0, width, BLOCK)]
    return tuple(f"r{r:02d}c{c:02d}" for r, c in corners), [
        (slice(r, r + BLOCK), slice(c, c + BLOCK)) for r, c in corners
    ]


def _derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Another sample for each one: a random cycle."""
    order = rng.permutation(n)
    others = np.empty(n, np.int64)
    others[order] = np.roll(order, 1)
    return others


def _encode(
    fitted: FittedAutoencoder, x: NDArray[np.float32], *, mask: NDArray[np.bool_] | None
) -> Float:
    import torch

    device = next(fitted.model.parameters()).device
    parts = []
    fitted.model.eval()
    with torch.inference_mode():
        for start in range(0, len(x), BATCH):
            shown = torch.from_numpy(x[start : start + BATCH]).to(device)
            seen = None
            if mask is not None:
                seen = torch.from_numpy(mask[start : start + BATCH]).to(device, shown.dtype)
            parts.append(fitted.model.encode(shown, seen).mean.cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _effects(
    fitted: FittedAutoencoder,
    samples: Samples,
    *,
    x: NDArray[np.float32],
    codes: Float,
    places: list[tuple[slice | int, ...]],
) -> tuple[Float, Float]:
    """Change of each entry for each feature, and the frequency where EEG changes most."""
    import torch

    model = fitted.model
    center, spread = np.median(codes, 0), codes.std(0)
    n = len(center)
    ends = np.repeat(center[None], 2 * n, 0)
    ends[np.arange(n), np.arange(n)] -= spread
    ends[n + np.arange(n), np.arange(n)] += spread
    device = next(model.parameters()).device
    with torch.inference_mode():
        parameters = model.decode(torch.from_numpy(ends.astype(np.float32)).to(device))
        made = model.likelihood.mean(parameters).cpu().numpy().astype(np.float64)
    change = made[n:] - made[:n]
    effect = np.zeros((n, len(places)))
    for j, place in enumerate(places):
        here = x[(slice(None), *place)].reshape(len(x), -1).astype(np.float64)
        usual = np.sqrt(np.mean(np.square(here - here.mean(0))))
        moved = np.sqrt(np.square(change[(slice(None), *place)].reshape(n, -1)).mean(1))
        effect[:, j] = moved / usual if usual > 1e-3 else 0.0
    if samples.layout != "series" or samples.sfreq_hz is None:
        return effect, np.zeros(0)
    power = np.square(np.abs(np.fft.rfft(change, axis=2))).mean(1)
    freqs_hz = np.fft.rfftfreq(change.shape[2], 1 / samples.sfreq_hz)
    # a shift of the whole window is no rhythm
    return effect, np.asarray(freqs_hz[1:][power[:, 1:].argmax(1)], dtype=np.float64)
