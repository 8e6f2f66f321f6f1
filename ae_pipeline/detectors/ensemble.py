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

Of a questionnaire the views are those of :mod:`ae_pipeline.detectors.personfit` instead: how
surprising a person's answers are, whether a pattern explains them better than the questions do,
how their profile runs against everybody's, how easily it is set apart.

EEG has three views more, on features of each channel before re-referencing
(:mod:`ae_pipeline.eeg.features`), each the largest deviations over channels and features:

* ``own``: power, peak and line length of a channel against the same recording.
* ``neighbours``: the same of what the other channels do not predict.
* ``population``: both against the training data; what is wrong all the time is usual for its
  own recording, but not there.

What one of these sees, the network mostly does not, and the other way round: a sum would drown
each in the others' noise. Their score is a soft maximum of the network's sum and the three. All
but the neighbours count half: people differ, and come and go in what they do, and nothing is
wrong; what one electrode sees and its neighbours do not is seldom brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import RobustStats, Samples, Scores
from ae_pipeline.detectors.personfit import VIEWS, PersonFit
from ae_pipeline.eeg.features import (
    AT_ONCE,
    BANDS_HZ,
    by_channel,
    by_region,
    deviations_from,
    feature_names,
    fit_robust_stats,
    largest,
)
from ae_pipeline.stats import median_and_robust_sd, robust_sd
from ae_pipeline.training.loop import FittedAutoencoder, Pass

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NETWORK_VIEWS", "TWO_SIDED", "Ensemble", "ViewInputs", "ViewScores", "bands"]

NETWORK_VIEWS = ("error", "relative", "spread", "latent", "spectrum")
"""Views of the autoencoder, which are added."""

TWO_SIDED = ("error", "spread")
"""Views whose small values are as unusual as large ones; a code cannot be too probable."""

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

COUNTS_HALF = 0.5
"""Weight, in the soft maximum, of every member but the neighbours."""

STATED = 128
"""Windows whose deviations are held at once."""

SHORTEST = 8
"""Samples of a window below which it has no features."""

POPULATION_NUMBERS = 2**25
"""Numbers held at once to learn what is usual in the training data (128 MB)."""

CACHED = 2**17
"""Numbers that fit into a processor's cache (512 KB)."""

LEAST_SPREAD = 0.05
"""A twentieth of an error more or less is no deviation, however alike the normal data are."""

LEAST_SPREAD_OF_PERSONS = 1e-3
"""The same for the views of persons, which are no logarithms and differ in their units."""

MOST_ATTENTIVE = 0.0
"""Of persons only what speaks for carelessness counts: nothing that one view says in favour makes
up for what another sees (chosen on answers with planted careless ones)."""


@dataclass(frozen=True)
class ViewInputs:
    """Samples after the network: its scores, codes (n, latent_dim) and views (n,) by name.

    ``scaled`` are the samples in network units, (n, *shape), where they were kept.
    """

    scores: Scores
    latents: NDArray[np.float32]
    views: dict[str, NDArray[np.float64]]
    scaled: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ViewScores:
    """Samples through the autoencoder: scores, codes (n, latent_dim), views (n,) by name.

    ``deviations`` are the views in robust standard deviations, compressed, as they are added (of
    questionnaires the views of persons only).
    ``by_entry`` (n, k) says which channel or item it is: of EEG the deviation of each channel's
    features, of questionnaires how surprising an answer is given the others, otherwise the
    network's error. ``top_band`` (n,) names the band that deviates most on the channel that does
    (EEG; empty otherwise). ``state`` (n,) is the largest mean deviation of a band's power over a
    region from the training data (EEG; empty otherwise): it is no part of the score, because eyes
    that are closed are no fault.
    """

    autoencoder: Scores
    latents: NDArray[np.float32]
    views: dict[str, NDArray[np.float64]]
    deviations: dict[str, NDArray[np.float64]]
    total: NDArray[np.float64]
    by_entry: NDArray[np.float32]
    top_band: NDArray[np.object_]
    state: NDArray[np.float64]


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
        Median of each view and its spread on either side, in the order of
        :class:`ViewScores`'s views.
    sum_center, sum_spread : array of shape (1,)
        Median of the network's summed views and its spread above (EEG; empty otherwise).
    population_others, population_center, population_spread : array
        :class:`~ae_pipeline.data.RobustStats` of the training data (EEG; empty otherwise).
    person : PersonFit, optional
        Questionnaires: where the views come from.
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
    sum_center: NDArray[np.float64]
    sum_spread: NDArray[np.float64]
    population_others: NDArray[np.float32]
    population_center: NDArray[np.float32]
    population_spread: NDArray[np.float32]
    person: PersonFit | None = None

    @property
    def population(self) -> RobustStats | None:
        """Robust statistics of each channel's features in the training data."""
        if not self.population_others.size:
            return None
        return RobustStats(self.population_others, self.population_center, self.population_spread)

    @classmethod
    def fit(
        cls, autoencoder: FittedAutoencoder, train: Samples, *, reference: Samples | None, seed: int
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
        person = None
        if train.layout == "table":
            person = PersonFit.fit(autoencoder, train, reference=reference, seed=seed)
        if reference is None or len(reference) < 20:
            reference = train.take(rows)
        n_bands = 0 if train.layout != "series" else len(_bands(train))
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
            np.zeros(0),
            np.zeros(0),
            *_population(train, rows),
            person=person,
        )
        return unfitted._with_usual(reference)

    def _with_usual(self, reference: Samples) -> Ensemble:
        from dataclasses import replace

        fitted = self
        if self.band_center.size:
            parts = [_band_difference(each, reference) for each in self._passes(reference)]
            difference = np.concatenate(parts)
            center, spread = median_and_robust_sd(difference)
            fitted = replace(self, band_center=center, band_spread=np.maximum(spread, 1e-3))
        own = np.concatenate([_own_variance(each)[1] for each in self._passes(reference)])
        least = np.maximum(np.quantile(own, 0.05, keepdims=True), FLOOR)
        fitted = replace(fitted, least_variance=least)
        views = fitted._added(fitted.view_inputs(reference).views)
        if self.population is not None:
            views |= _channel_views(reference, self.population)[0]
        center, below, above = (np.zeros(len(views)) for _ in range(3))
        for i, values in enumerate(views.values()):
            center[i] = np.median(values)
            deviation = values - center[i]
            above[i] = robust_sd(deviation[deviation >= 0], center=0)
            below[i] = robust_sd(deviation[deviation <= 0], center=0)
        fitted = replace(
            fitted,
            center=center,
            below=np.maximum(below, self.least_spread),
            above=np.maximum(above, self.least_spread),
        )
        if self.population is None:
            return fitted
        total = _network_sum(fitted._deviations(views))
        middle = np.median(total, keepdims=True)
        above_it = robust_sd(total[total >= middle], center=middle)
        over = np.full(1, max(float(above_it), LEAST_SPREAD))
        return replace(fitted, sum_center=middle, sum_spread=over)

    @property
    def least_spread(self) -> float:
        """Spread of a view that it is taken to have at least."""
        return LEAST_SPREAD if self.person is None else LEAST_SPREAD_OF_PERSONS

    @property
    def most_normal(self) -> float:
        """How far below the usual a one-sided view may pull."""
        return MOST_NORMAL if self.person is None else MOST_ATTENTIVE

    def _added(self, views: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """The views that make the score: of persons their own, else all of them."""
        return views if self.person is None else {name: views[name] for name in VIEWS}

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
            "sum_center",
            "sum_spread",
            "population_others",
            "population_center",
            "population_spread",
        )
        found = {name: getattr(self, name) for name in names}
        if self.person is not None:
            found |= {f"person.{name}": array for name, array in self.person.state().items()}
        return found

    @classmethod
    def from_state(cls, autoencoder: FittedAutoencoder, state: dict[str, NDArray[Any]]) -> Ensemble:
        """The counterpart of :meth:`state`."""
        own = {name: array for name, array in state.items() if not name.startswith("person.")}
        others = {n.removeprefix("person."): array for n, array in state.items() if n not in own}
        person = PersonFit.from_state(autoencoder, others) if others else None
        return cls(autoencoder, person=person, **own)

    def score(self, samples: Samples) -> Scores:
        """The views as one score, and how much each channel or item has to do with it."""
        seen = self.view_scores(samples)
        return Scores(seen.total, seen.by_entry)

    def view_scores(self, samples: Samples, inputs: ViewInputs | None = None) -> ViewScores:
        """Everything in one pass through the network (``inputs``, where it was made already)."""
        found = self.view_inputs(samples) if inputs is None else inputs
        scores, latents, views = found.scores, found.latents, dict(found.views)
        by_entry, band, state = scores.by_entry, np.empty(0, dtype=object), np.zeros(0)
        if self.population is not None:
            channels, by_entry, band, state = _channel_views(samples, self.population)
            views |= channels
        deviations = self._deviations(views)
        total = self._total(deviations)
        return ViewScores(scores, latents, views, deviations, total, by_entry, band, state)

    def _total(self, deviations: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """The views as one score."""
        total = _network_sum(deviations)
        if "population" not in deviations:
            return total
        members = [
            COUNTS_HALF * (total - self.sum_center) / self.sum_spread,
            COUNTS_HALF * deviations["population"],
            COUNTS_HALF * deviations["own"],
            deviations["neighbours"],
        ]
        return np.asarray(np.logaddexp.reduce(members, axis=0), dtype=np.float64)

    def _deviations(self, views: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Views in robust standard deviations of normal data, compressed."""
        deviations = {}
        for i, (name, values) in enumerate(self._added(views).items()):
            away = values - self.center[i]
            away = np.where(away >= 0, away / self.above[i], away / self.below[i])
            away = np.abs(away) if name in TWO_SIDED else np.maximum(away, self.most_normal)
            deviations[name] = LINEAR_TO * np.arcsinh(away / LINEAR_TO)
        return deviations

    def _passes(self, samples: Samples) -> Any:
        return self.autoencoder.passes(samples)

    def view_inputs(self, samples: Samples, keep: bool = False) -> ViewInputs:
        """Samples through the network, and what its views say of them.

        Parameters
        ----------
        samples : Samples
        keep : bool
            Also the samples in network units: as many numbers as the samples have.
        """
        scores, codes, relative, spread, spectrum = [], [], [], [], []
        scaled: list[NDArray[np.float32]] = []
        for each in self._passes(samples):
            scores.append(each.scores)
            if keep:
                scaled.append(each.x.cpu().numpy())
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
        if self.person is not None:
            by_item, of_persons = self.person.surprise_and_views(samples)
            joined = Scores(joined.total, by_item)
            views |= of_persons
        return ViewInputs(joined, latents, views, _end_to_end(scaled) if keep else None)

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


def _end_to_end(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _network_sum(deviations: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    added = [values for name, values in deviations.items() if name in (*NETWORK_VIEWS, *VIEWS)]
    return np.asarray(np.sum(added, 0), dtype=np.float64)


def _population(
    train: Samples, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Robust statistics of the training data, as arrays; empty ones without."""
    nothing = (np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    if train.layout != "series" or train.shape[1] < SHORTEST:
        return nothing
    assert train.sfreq_hz is not None
    room = max(1, POPULATION_NUMBERS // int(np.prod(train.shape)))
    few = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), room)).astype(int))]
    stats = fit_robust_stats(train.unreferenced(few), train.sfreq_hz)
    return nothing if stats is None else (stats.residual_weights, stats.center, stats.spread)


def _channel_views(
    samples: Samples, population: RobustStats
) -> tuple[
    dict[str, NDArray[np.float64]],
    NDArray[np.float32],
    NDArray[np.object_],
    NDArray[np.float64],
]:
    """Largest deviations of the channels' features (logarithms), of each channel, band, state.

    A recording too short for robust statistics of its own is compared with the training data only.
    """
    assert samples.sfreq_hz is not None
    bands = np.array(feature_names(samples.sfreq_hz, samples.shape[1]), dtype=object)
    n_own = len(bands)
    views, channels, tops, states = [], [], [], []
    for rows in samples.chunks(STATED):
        against, away = _deviations(samples, population, rows=rows)
        left = away[:, :, n_own:] if away.shape[2] > n_own else away
        views.append(np.stack([largest(away[:, :, :n_own]), largest(left), largest(against)]))
        regions = np.abs(
            by_region(against, samples.entries, n_own=n_own)[1][:, :, : max(1, n_own - 2)]
        )
        states.append(regions.max((1, 2)).astype(np.float64))
        each = by_channel(away, n_own)
        channels.append(each.max(2))
        top = each[np.arange(len(each)), channels[-1].argmax(1)]
        tops.append(top[:, :-2].argmax(1) if n_own > 2 else np.full(len(top), -1))
    joined = np.concatenate(views, axis=1)
    top_band = bands[np.concatenate(tops)] if n_own > 2 else np.full(len(samples), None, object)
    return (
        dict(zip(("own", "neighbours", "population"), joined, strict=True)),
        np.concatenate(channels),
        top_band,
        np.concatenate(states),
    )


def _deviations(
    samples: Samples, population: RobustStats, *, rows: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """From the training data and from the own recording, each (n, channels, features)."""
    assert samples.sfreq_hz is not None
    n = rows.stop - rows.start
    known = "recording" in samples.meta
    names = samples.meta["recording"].to_numpy()[rows] if known else np.full(n, "")
    # rows of a recording follow each other
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), n]
    found = []
    for first, last in pairwise(edge + rows.start for edge in edges):
        name = names[first - rows.start]
        own = [samples.robust_stats[name]] if name in samples.robust_stats else []
        for start in range(first, last, AT_ONCE):
            few = samples.unreferenced(slice(start, min(start + AT_ONCE, last)))
            both = deviations_from([population, *own], few, sfreq_hz=samples.sfreq_hz)
            found.append((both[0], both[-1]))
    against, away = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return against, away


def _own_variance(each: Pass) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean squared error and own variance of each sample, (n,), over what was observed."""
    if each.observed is None:
        x, mean = each.x.flatten(1).cpu().numpy(), each.mean.flatten(1).cpu().numpy()
        found = np.empty((2, len(x)))
        step = max(1, CACHED // x.shape[1])
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            away = x[rows] - mean[rows]
            found[0, rows] = np.square(away, out=away).mean(1)
            np.subtract(x[rows], x[rows].mean(1, keepdims=True), out=away)
            found[1, rows] = np.square(away, out=away).mean(1)
        return found[0], found[1]
    given, again = each.x.flatten(1).double(), each.mean.flatten(1).double()
    weight = each.observed.flatten(1)
    n = weight.sum(1).clamp_min(1)
    center = (given * weight).sum(1) / n
    own = ((given - center[:, None]).square() * weight).sum(1) / n
    left = ((given - again).square() * weight).sum(1) / n
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
    freqs_hz = np.fft.rfftfreq(n_times, 1 / float(samples.sfreq_hz or 1))
    edges = [np.searchsorted(freqs_hz, band) for band in _bands(samples)]

    def log_power(signal: Tensor) -> Tensor:
        spectrum = torch.view_as_real(torch.fft.rfft(signal * taper))
        bands = [
            spectrum[:, :, low:high].square().sum((2, 3)) / int(high - low) for low, high in edges
        ]
        # the floor keeps a flat channel finite, far below any amplifier's noise
        return torch.stack(bands, 2).clamp_min(FLOOR).log()

    parts = [
        log_power(x) - log_power(mean)
        for x, mean in zip(each.x.split(AT_ONCE), each.mean.split(AT_ONCE), strict=True)
    ]
    difference: NDArray[np.float64] = torch.cat(parts).cpu().double().numpy()
    return difference
