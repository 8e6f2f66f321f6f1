"""The default detector: several views of how a sample fits the autoencoder, as one score.

An error alone misses what makes a signal smaller or simpler, and calls everything complicated
abnormal. The views, each a logarithm:

* ``error``: the mean loss per entry. Two-sided: too well reconstructed is unusual, too.
* ``relative``: the share of the sample's own variance that the model does not explain; a simple
  sample has a small error and can still be badly explained.
* ``spread``: the sample's own variance, two-sided: the same answer throughout, a faint signal.
* ``latent``: how improbable the code is under a Gaussian mixture fitted to the training codes.
* ``spectrum`` (EEG): the largest deviation, over channels and bands, of the log power of the
  signal against that of its reconstruction from what is usual; two-sided in each band.

Every view is put in robust standard deviations of normal data that the network was not fitted
on, compressed beyond three of them, and the views are added. Nothing here has seen an anomaly;
the sum is calibrated as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.baselines import BANDS_HZ
from ae_pipeline.data import Samples, Scores
from ae_pipeline.train import FittedAutoencoder, Pass

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TWO_SIDED", "VIEW_WORDS", "Ensemble", "Seen", "bands"]

TWO_SIDED = ("error", "spread")
"""Views whose small values are as unusual as large ones; a code cannot be too probable."""

VIEW_WORDS = {
    "error": "signal error",
    "relative": "shape not explained",
    "spread": "varies too little or too much",
    "latent": "combination of features unusual",
    "spectrum": "power in a band unusual",
}
"""What a view says, in words."""

ROWS_PER_COMPONENT = 200
"""Codes for each component of the mixture: fewer, and a component describes single samples."""

MOST_COMPONENTS = 16
FIT_ROWS = 10_000
FLOOR = 1e-6
LINEAR_TO = 3.0
"""Robust deviations up to which a view counts in full; beyond, its logarithm does, so that no
view drowns the others."""

MOST_NORMAL = -2.0
"""How far below the usual a one-sided view may pull: nothing is so normal that it outweighs
what another view sees."""

LEAST_SPREAD = 0.05
"""A twentieth of an error more or less is no deviation, however alike the normal data are."""


@dataclass(frozen=True)
class Seen:
    """Samples through the autoencoder: scores, codes (n, latent_dim), views (n,) by name.

    ``deviations`` are the views in robust standard deviations, compressed, as they are added.
    """

    autoencoder: Scores
    latents: NDArray[np.float32]
    views: dict[str, NDArray[np.float64]]
    deviations: dict[str, NDArray[np.float64]]
    total: NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """Views of one autoencoder, with their usual values on normal data.

    Parameters
    ----------
    autoencoder : FittedAutoencoder
    log_weights : array of shape (components,)
    means : array of shape (components, latent_dim)
    precisions_cholesky : array of shape (components, latent_dim, latent_dim)
        The Gaussian mixture of the training codes.
    band_center, band_spread : array of shape (channels, bands)
        Usual log power of signal against reconstruction (EEG; empty otherwise).
    least_variance : array of shape (1,)
        Own variance below which a sample counts as having this much: the share of a constant
        sample's variance that is not explained means nothing.
    center, below, above : array of shape (views,)
        Median of each view and its spread on either side, in the order of :meth:`names`.
    """

    autoencoder: FittedAutoencoder
    log_weights: NDArray[np.float64]
    means: NDArray[np.float64]
    precisions_cholesky: NDArray[np.float64]
    band_center: NDArray[np.float64]
    band_spread: NDArray[np.float64]
    least_variance: NDArray[np.float64]
    center: NDArray[np.float64]
    below: NDArray[np.float64]
    above: NDArray[np.float64]

    @classmethod
    def fit(
        cls, autoencoder: FittedAutoencoder, train: Samples, reference: Samples | None, seed: int
    ) -> Ensemble:
        """Learn what is usual.

        Parameters
        ----------
        autoencoder : FittedAutoencoder
        train : Samples
            What the network was fitted on; its codes make the mixture.
        reference : Samples, optional
            Normal data that the network was not fitted on (the validation part); its views are
            what later ones are measured by. Without any, the training data has to do.
        seed : int
        """
        from sklearn.mixture import GaussianMixture

        rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:FIT_ROWS])
        codes = autoencoder.latents(train.take(rows)).astype(np.float64)
        n_components = int(np.clip(len(codes) // ROWS_PER_COMPONENT, 1, MOST_COMPONENTS))
        # a share of each code's own variance keeps components from collapsing onto few samples
        floor = 1e-3 * float(codes.var(0).mean()) + 1e-12
        mixture = GaussianMixture(n_components, reg_covar=floor, random_state=seed).fit(codes)
        if reference is None or len(reference) < 20:
            reference = train.take(rows)
        n_bands = 0 if train.kind != "eeg" else len(_bands(train))
        shape = (train.shape[0], n_bands)
        unfitted = cls(
            autoencoder,
            np.log(mixture.weights_),
            mixture.means_,
            mixture.precisions_cholesky_,
            np.zeros(shape if n_bands else (0, 0)),
            np.ones(shape if n_bands else (0, 0)),
            np.full(1, FLOOR),
            np.zeros(0),
            np.zeros(0),
            np.zeros(0),
        )
        return unfitted._with_usual(reference)

    def _with_usual(self, reference: Samples) -> Ensemble:
        from dataclasses import replace

        fitted = self
        if self.band_center.size:
            parts = [_band_difference(each, reference) for each in self._passes(reference)]
            difference = np.concatenate(parts)
            center = np.median(difference, 0)
            spread = 1.4826 * np.median(np.abs(difference - center), 0)
            fitted = replace(self, band_center=center, band_spread=np.maximum(spread, 1e-3))
        own = np.concatenate([_own_variance(each)[1] for each in self._passes(reference)])
        least = np.maximum(np.quantile(own, 0.05, keepdims=True), FLOOR)
        fitted = replace(fitted, least_variance=least)
        views = fitted._views(reference)[2]
        center, below, above = (np.zeros(len(views)) for _ in range(3))
        for i, values in enumerate(views.values()):
            center[i] = np.median(values)
            deviation = values - center[i]
            above[i] = 1.4826 * np.median(deviation[deviation >= 0])
            below[i] = 1.4826 * np.median(-deviation[deviation <= 0])
        return replace(
            fitted,
            center=center,
            below=np.maximum(below, LEAST_SPREAD),
            above=np.maximum(above, LEAST_SPREAD),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned beside the autoencoder, as named arrays."""
        names = (
            "log_weights",
            "means",
            "precisions_cholesky",
            "band_center",
            "band_spread",
            "least_variance",
            "center",
            "below",
            "above",
        )
        return {name: getattr(self, name) for name in names}

    def score(self, samples: Samples) -> Scores:
        """Sum of the views' deviations; the error of each entry is the autoencoder's."""
        seen = self.look(samples)
        return Scores(seen.total, seen.autoencoder.by_entry)

    def look(self, samples: Samples) -> Seen:
        """Everything in one pass through the network."""
        scores, latents, views = self._views(samples)
        deviations = {}
        for i, (name, values) in enumerate(views.items()):
            away = values - self.center[i]
            away = np.where(away >= 0, away / self.above[i], away / self.below[i])
            away = np.abs(away) if name in TWO_SIDED else np.maximum(away, MOST_NORMAL)
            deviations[name] = LINEAR_TO * np.arcsinh(away / LINEAR_TO)
        total = np.sum(list(deviations.values()), 0)
        return Seen(scores, latents, views, deviations, total)

    def _passes(self, samples: Samples) -> Any:
        return self.autoencoder.passes(samples)

    def _views(
        self, samples: Samples
    ) -> tuple[Scores, NDArray[np.float32], dict[str, NDArray[np.float64]]]:
        scores, codes, relative, spread, spectrum = [], [], [], [], []
        for each in self._passes(samples):
            scores.append(each.scores)
            codes.append(each.code.cpu().numpy())
            left, own = _own_variance(each)
            relative.append(left / np.maximum(own, self.least_variance))
            spread.append(own)
            if self.band_center.size:
                away = np.abs(_band_difference(each, samples) - self.band_center) / self.band_spread
                spectrum.append(away.max((1, 2)))
        joined, latents = Scores.join(scores), np.concatenate(codes)
        views = {
            "error": np.log(np.maximum(joined.total, FLOOR)),
            "relative": np.log(np.concatenate(relative) + FLOOR),
            "spread": np.log(np.concatenate(spread) + FLOOR),
            "latent": -self._log_density(latents.astype(np.float64)),
        }
        if spectrum:
            views["spectrum"] = np.log(np.concatenate(spectrum) + FLOOR)
        return joined, latents, views

    def draw_codes(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Codes drawn from the mixture of the training codes, (n, latent_dim)."""
        weights = np.exp(self.log_weights)
        component = rng.choice(len(weights), n, p=weights / weights.sum())
        noise = rng.standard_normal((n, self.means.shape[1]))
        codes = np.empty_like(noise)
        for k, root in enumerate(self.precisions_cholesky):
            here = component == k
            # precision = root root', so its inverse has the root inv(root)'
            codes[here] = self.means[k] + np.linalg.solve(root.T, noise[here].T).T
        return codes.astype(np.float32)

    def _log_density(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density of codes (n, latent_dim) under the mixture."""
        from scipy.special import logsumexp

        parts = []
        for mean, root in zip(self.means, self.precisions_cholesky, strict=True):
            distance = np.square((codes - mean) @ root).sum(1)
            parts.append(np.log(np.diag(root)).sum() - 0.5 * distance)
        constant = -0.5 * codes.shape[1] * np.log(2 * np.pi)
        density = logsumexp(np.stack(parts, 1) + self.log_weights, axis=1) + constant
        return np.asarray(density, dtype=np.float64)


def _own_variance(each: Pass) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean squared error and own variance of each sample, (n,), over what was observed."""
    x, mean = each.x.flatten(1).double(), each.mean.flatten(1).double()
    weight = x.new_ones(x.shape) if each.observed is None else each.observed.flatten(1)
    n = weight.sum(1).clamp_min(1)
    center = (x * weight).sum(1) / n
    own = ((x - center[:, None]).square() * weight).sum(1) / n
    left = ((x - mean).square() * weight).sum(1) / n
    return left.cpu().numpy(), own.cpu().numpy()


def bands(sfreq_hz: float, n_times: int) -> list[tuple[float, float]]:
    """Bands (Hz) of which a window holds at least one frequency below the Nyquist."""
    return [
        (low, high)
        for low, high in BANDS_HZ.values()
        if high <= sfreq_hz / 2 and high - low >= sfreq_hz / n_times
    ]


def _bands(samples: Samples) -> list[tuple[float, float]]:
    assert samples.sfreq_hz is not None
    return bands(samples.sfreq_hz, samples.shape[1])


def _band_difference(each: Pass, samples: Samples) -> NDArray[np.float64]:
    """Log power of signal against reconstruction, (n, channels, bands)."""
    import torch

    n_times = each.x.shape[2]
    taper = torch.hann_window(n_times, device=each.x.device)
    freqs_hz = torch.fft.rfftfreq(n_times, 1 / float(samples.sfreq_hz or 1))

    def log_power(signal: Tensor) -> Tensor:
        power = torch.fft.rfft(signal * taper).abs().square()
        bands = [
            power[:, :, (freqs_hz >= low) & (freqs_hz < high)].mean(2)
            for low, high in _bands(samples)
        ]
        # the floor keeps a flat channel finite, far below any amplifier's noise
        return torch.stack(bands, 2).clamp_min(FLOOR).log()

    difference: NDArray[np.float64] = (
        (log_power(each.x) - log_power(each.mean)).cpu().double().numpy()
    )
    return difference
