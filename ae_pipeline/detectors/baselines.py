"""The simple methods every autoencoder is held against, fitted on the same split.

All are scorers (:class:`ae_pipeline.data.Scorer`) with a state of plain arrays. They see the
data in network units, as the autoencoder does.

* :class:`PrincipalComponents`: reconstruction error at the autoencoder's latent size; the
  optimal linear autoencoder (Baldi and Hornik, 1989).
* :class:`FactorAnalysis`: the same with a noise of its own for every entry (Spearman, 1904;
  Rubin and Thayer, 1982); in comparisons only.
* :class:`RobustZ`: deviation of features from their median in median absolute deviations.
* :class:`IsolationForest`: how few random cuts isolate a sample (Liu, Ting and Zhou, 2008).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples, Scorer, Scores
from ae_pipeline.eeg.features import AT_ONCE, BANDS_HZ, band_powers, line_length
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.stats import robust_sd

__all__ = [
    "BASELINES",
    "FactorAnalysis",
    "IsolationForest",
    "PrincipalComponents",
    "RobustZ",
    "family_loss",
    "features",
    "score_all",
]

Float = NDArray[np.float32]


CHUNK = 512
CHUNK_OF_WINDOWS = 32
"""A window holds many numbers: few of them at once, whatever their length."""

FIT_ROWS = 4096
"""Rows a baseline is fitted on at most; more change its numbers in the third digit only."""


def _network_units(samples: Samples, scaler: Scaler, *, rows: Any) -> tuple[Float, Any]:
    if samples.scaled is not None:
        return samples.scaled[rows], None if samples.mask is None else samples.mask[rows]
    values, mask = samples.batch(rows)
    return scaler.transform(values, mask), mask


def features(samples: Samples, scaler: Scaler, *, rows: Any) -> Float:
    """Interpretable features of some samples, (n, entries, features).

    Parameters
    ----------
    samples : Samples
    scaler : Scaler
    rows : slice or array of int

    Returns
    -------
    array
        EEG: log power in each band below the Nyquist frequency, log peak-to-peak amplitude and
        log line length of each channel. Images: means of 4 x 4 pixels. Tables: the answers,
        NaN where one is missing.
    """
    if samples.layout == "series":
        every = np.arange(len(samples))[rows]
        few = [every[i : i + AT_ONCE] for i in range(0, max(1, len(every)), AT_ONCE)]
        return np.concatenate([_powers(samples, scaler, rows=some) for some in few])
    values, mask = _network_units(samples, scaler, rows=rows)
    if samples.layout == "grid":
        n, height, width = values.shape
        trimmed = values[:, : height // 4 * 4, : width // 4 * 4]
        blocks: Float = trimmed.reshape(n, height // 4, 4, width // 4, 4).mean((2, 4))
        return blocks.reshape(n, 1, -1)
    answers: Float = values if mask is None else np.where(mask, values, np.float32(np.nan))
    return answers[:, :, None]


def _powers(samples: Samples, scaler: Scaler, *, rows: Any) -> Float:
    """Log band powers, peak to peak and line length of a few windows of EEG."""
    import torch

    assert samples.sfreq_hz is not None
    values, _ = _network_units(samples, scaler, rows=rows)
    freqs_hz = np.fft.rfftfreq(values.shape[2], 1 / samples.sfreq_hz)
    bands = [
        (low, high)
        for low, high in BANDS_HZ.values()
        if high <= samples.sfreq_hz / 2 and ((freqs_hz >= low) & (freqs_hz < high)).any()
    ]
    with torch.inference_mode():
        signal = torch.from_numpy(values)
        powers = band_powers(signal, samples.sfreq_hz, bands=bands)
        others = torch.stack([signal.amax(2) - signal.amin(2), line_length(signal)], 2)
        # the floor keeps a flat channel finite: far below any amplifier's noise
        logs: Float = torch.cat([powers, others], 2).clamp_min_(1e-6).log_().numpy()
    return logs


def _by_chunk(samples: Samples, work: Callable[[slice], Scores]) -> Scores:
    size = CHUNK_OF_WINDOWS if samples.layout == "series" else CHUNK
    return Scores.join([work(rows) for rows in samples.chunks(size)])


def _over_rows(statistic: Callable[..., Any], x: Float) -> Float:
    """A statistic that leaves out NaN, over rows; 0 for an item that nobody answered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Float = np.nan_to_num(statistic(x, 0))
    return found


def _fit_rows(samples: Samples, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(len(samples))[:FIT_ROWS])


@dataclass(frozen=True)
class PrincipalComponents:
    """Mean squared error after projection on the leading components.

    Parameters
    ----------
    scaler : Scaler
    mean : array of shape (p,)
    components : array of shape (latent_dim, p)
        Orthonormal rows; p is the number of entries of a sample.
    residual : array of shape (p,)
        Standard deviation of what is left on the training data.
    """

    scaler: Scaler
    mean: Float
    components: Float
    residual: Float

    @classmethod
    def fit(cls, samples: Samples, scaler: Scaler, *, latent_dim: int, seed: int) -> Scorer:
        """Fit on the training part."""
        from sklearn.decomposition import PCA

        # images and tables on all rows: their covariance is small, and the comparison exact
        rows = slice(None) if samples.layout != "series" else _fit_rows(samples, seed)
        x = _filled(samples, scaler, rows=rows)
        k = min(latent_dim, min(x.shape) - 1)
        solver = "covariance_eigh" if x.shape[1] <= 2000 else "randomized"
        model = PCA(k, svd_solver=solver, random_state=seed).fit(x)
        mean = model.mean_.astype(np.float32)
        components = model.components_.astype(np.float32, order="C")
        left = x - mean - (x - mean) @ components.T @ components
        return cls(scaler, mean, components, left.std(0).astype(np.float32))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        return {"mean": self.mean, "components": self.components, "residual": self.residual}

    @property
    def readout(self) -> Float:
        """What a centred sample is multiplied by to give its code, (p, latent_dim)."""
        return self.components.T

    def project(self, samples: Samples, rows: Any) -> tuple[Float, Float, Any]:
        """Samples in network units, their reconstruction (both (n, p)) and the mask."""
        x, mask = _network_units(samples, self.scaler, rows=rows)
        x = x.reshape(len(x), -1)
        if mask is not None:
            mask = mask.reshape(x.shape)
            x = np.where(mask, x, self.mean)
        code = (x - self.mean) @ self.readout
        again = (code @ self.components + self.mean).astype(np.float32, copy=False)
        return x, again, mask

    def latents(self, samples: Samples) -> Float:
        """Codes, (n, latent_dim); missing answers stand at the mean."""
        parts = [
            (_at_mean(self.mean, *_network_units(samples, self.scaler, rows=rows)) - self.mean)
            @ self.readout
            for rows in samples.chunks(CHUNK)
        ]
        return np.concatenate(parts).astype(np.float32)

    def score(self, samples: Samples) -> Scores:
        """Mean squared error per entry, in network units."""

        def work(rows: slice) -> Scores:
            if samples.mask is None:
                values = _network_units(samples, self.scaler, rows=rows)[0].reshape(
                    -1, len(self.mean)
                )
                error = _squared_rest(
                    values, self.mean, readout=self.readout, components=self.components
                )
            else:
                x, again, mask = self.project(samples, rows)
                error = (x - again) ** 2 * mask
            shaped = error.reshape(len(error), *samples.shape)
            if samples.layout == "series":
                by_entry = shaped.mean(2)
                total = by_entry.mean(1, dtype=np.float64)
            else:
                by_entry = shaped if samples.layout == "table" else np.zeros((len(error), 0))
                given = error.shape[1] if samples.mask is None else np.maximum(mask.sum(1), 1)
                total = error.sum(1) / given
            return Scores(total.astype(np.float64), by_entry.astype(np.float32))

        return _by_chunk(samples, work)

    def losses(
        self, samples: Samples, families: dict[int, tuple[str, int]] | str
    ) -> NDArray[np.float64]:
        """Mean loss per entry of each sample under the autoencoder's likelihood.

        The linear model predicts a mean; where the likelihood wants a distribution it gets the
        fairest one that mean allows: a Gaussian of the residual's width cut into the item's
        levels, and for 0-to-1 data the mean kept off 0 and 1 by the margin best on this data.

        Parameters
        ----------
        samples : Samples
        families : str or dict
            One family for all entries, or (family, levels) for each column.

        Returns
        -------
        array of shape (n,)
            Natural logarithm, over what was observed.
        """
        if families == "gaussian":
            return self.score(samples).total
        parts = [self.project(samples, rows) for rows in samples.chunks(CHUNK)]
        x, again = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        if isinstance(families, str):
            per_entry = family_loss(families, 0, x=x, again=again, residual=self.residual)
        else:
            per_entry = np.zeros_like(x)
            for i, (family, levels) in families.items():
                per_entry[:, i] = family_loss(
                    family, levels, x=x[:, i], again=again[:, i], residual=self.residual[i]
                )
        mask = np.ones(x.shape, bool) if samples.mask is None else samples.mask.reshape(x.shape)
        means: Float = (per_entry * mask).sum(1) / np.maximum(mask.sum(1), 1)
        return means.astype(np.float64)


def _squared_rest(values: Float, mean: Float, *, readout: Float, components: Float) -> Float:
    """Squares of what a linear model does not explain, (n, p)."""
    import torch

    into, out_of = torch.from_numpy(readout), torch.from_numpy(components)
    with torch.inference_mode():
        x = torch.from_numpy(values) - torch.from_numpy(mean)
        squares: Float = x.sub_(x @ into @ out_of).square_().numpy()
    return squares


def _at_mean(mean: Float, x: Float, mask: Any) -> Float:
    """Flattened samples with the mean where an answer is missing."""
    x = x.reshape(len(x), -1)
    return x if mask is None else np.where(mask.reshape(x.shape), x, mean)


def _filled(samples: Samples, scaler: Scaler, *, rows: Any) -> Float:
    """Samples in network units, (n, p); missing answers stand at the mean of those given."""
    x, mask = _network_units(samples, scaler, rows=rows)
    x = x.reshape(len(x), -1)
    if mask is None:
        return x
    given = mask.reshape(x.shape)
    means = (x * given).sum(0) / np.maximum(given.sum(0), 1)
    return np.where(given, x, means.astype(np.float32))


@dataclass(frozen=True)
class FactorAnalysis(PrincipalComponents):
    """Reconstruction from the expected factors of a sample.

    A Gaussian model with common factors and a variance of its own for each entry. It explains
    what entries share, so it leaves a larger squared error than principal components.

    Parameters
    ----------
    components : array of shape (latent_dim, p)
        Loadings.
    weights : array of shape (p, latent_dim)
        From a centred sample to the expected value of its factors.
    """

    weights: Float

    @classmethod
    def fit(cls, samples: Samples, scaler: Scaler, *, latent_dim: int, seed: int) -> Scorer:
        """Fit on (at most 4,096 rows of) the training part, by scikit-learn."""
        from sklearn import decomposition

        x = _filled(samples, scaler, rows=_fit_rows(samples, seed))
        k = min(latent_dim, min(x.shape) - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hundred steps are close enough
            model = decomposition.FactorAnalysis(k, max_iter=100, random_state=seed).fit(x)
        loadings = model.components_
        scaled = loadings / np.maximum(model.noise_variance_, 1e-6)  # pixels that never vary
        weights = np.linalg.solve(np.eye(k) + scaled @ loadings.T, scaled).T.astype(np.float32)
        mean, components = model.mean_.astype(np.float32), loadings.astype(np.float32)
        left = x - mean - (x - mean) @ weights @ components
        return cls(scaler, mean, components, left.std(0).astype(np.float32), weights)

    @property
    def readout(self) -> Float:
        """See :attr:`PrincipalComponents.readout`."""
        return self.weights

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        return {**super().state(), "weights": self.weights}


def family_loss(family: str, levels: int, *, x: Float, again: Float, residual: Any) -> Float:
    """Return the loss of entries under a likelihood whose mean is ``again``."""
    loss: Float
    if family == "gaussian":
        loss = np.square(x - again)
        return loss
    if family == "huber":
        away = np.abs(x - again)
        loss = np.where(away <= 1, np.square(away), 2 * away - 1)
        return loss
    if family == "bernoulli":
        best: Float | None = None
        for margin in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2):
            p = np.clip(again, margin, 1 - margin)
            loss = -(x * np.log(p) + (1 - x) * np.log1p(-p))
            if best is None or loss.mean() < best.mean():
                best = loss
        assert best is not None
        return best
    from scipy.stats import norm

    width = np.maximum(residual, 1e-3)
    half = 0.5 / (levels - 1)
    grid = np.arange(levels) / (levels - 1)
    mass = np.stack(
        [
            norm.cdf(np.inf if k == levels - 1 else (g + half - again) / width)
            - norm.cdf(-np.inf if k == 0 else (g - half - again) / width)
            for k, g in enumerate(grid)
        ],
        -1,
    )
    mass = np.maximum(mass, 1e-6)
    mass /= mass.sum(-1, keepdims=True)
    level = np.rint(x * (levels - 1)).astype(int)
    loss = -np.log(np.take_along_axis(mass, level[..., None], -1)[..., 0]).astype(np.float32)
    return loss


@dataclass(frozen=True)
class RobustZ:
    """Largest deviation of a feature from its median, in robust standard deviations.

    For EEG the largest over channels and features counts (one bad channel is enough); for
    images and tables the root mean square over entries.

    Parameters
    ----------
    scaler : Scaler
    center, spread : array of shape (entries, features)
    """

    scaler: Scaler
    center: Float
    spread: Float

    @classmethod
    def fit(cls, samples: Samples, scaler: Scaler, *, latent_dim: int, seed: int) -> Scorer:
        """Fit on the training part."""
        x = features(samples, scaler, rows=_fit_rows(samples, seed))
        center = _over_rows(np.nanmedian, x)
        mad = _over_rows(partial(robust_sd, center=center, omit_nan=True), x)
        deviation = _over_rows(np.nanstd, x)
        spread = np.where(mad > 1e-3, mad, np.where(deviation > 1e-3, deviation, 1.0))
        return cls(scaler, center.astype(np.float32), spread.astype(np.float32))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        return {"center": self.center, "spread": self.spread}

    def score(self, samples: Samples) -> Scores:
        """Deviation in robust standard deviations."""
        return _by_chunk(
            samples,
            lambda rows: self.of_features(features(samples, self.scaler, rows=rows), samples),
        )

    def of_features(self, x: Float, samples: Samples) -> Scores:
        """The same from :func:`features` of the samples' rows."""
        z = np.abs(x - self.center) / self.spread
        if samples.layout == "grid":
            total = np.sqrt((z**2).mean((1, 2)))
            return Scores(total.astype(np.float64), np.zeros((len(z), 0), np.float32))
        by_entry = np.nan_to_num(z).max(2)
        if samples.layout == "series":
            total = by_entry.max(1)
        else:
            n_observed = np.isfinite(z).sum((1, 2))
            total = np.sqrt((by_entry**2).sum(1) / np.maximum(n_observed, 1))
        return Scores(total.astype(np.float64), by_entry.astype(np.float32))


@dataclass(frozen=True)
class IsolationForest:
    """Anomaly score of scikit-learn's Isolation Forest on features, kept as plain arrays.

    Parameters
    ----------
    scaler : Scaler
    left, right, feature : int arrays of shape (trees, nodes)
        Children (-1 at a leaf) and the feature that is compared.
    threshold : float64 array of shape (trees, nodes)
    depth : float64 array of shape (trees, nodes)
        Expected path length to isolation for a sample that ends at this node.
    norm : float64 array of shape (1,)
        Expected path length in a whole tree.
    fill : float32 array of shape (features,)
        What stands for a missing answer: the training median.
    """

    scaler: Scaler
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    depth: NDArray[np.float64]
    norm: NDArray[np.float64]
    fill: Float

    def __post_init__(self) -> None:
        """Refuse trees that have no end: children come after their parents."""
        left, right, own = self.left, self.right, np.arange(self.left.shape[-1])
        leaf = (left == -1) & (right == -1)
        inner = (left > own) & (right > own) & (np.maximum(left, right) < len(own))
        known = (self.feature >= 0) & (self.feature < len(self.fill))
        if not ((leaf | inner) & known).all():
            raise ValueError("a tree of the Isolation Forest points back or outside")

    @classmethod
    def fit(cls, samples: Samples, scaler: Scaler, *, latent_dim: int, seed: int) -> Scorer:
        """Fit on the training part (100 trees of 256 samples, scikit-learn's defaults)."""
        from sklearn.ensemble import IsolationForest as Forest

        rows = _fit_rows(samples, seed)
        x = features(samples, scaler, rows=rows).reshape(len(rows), -1)
        fill = _over_rows(np.nanmedian, x)
        forest = Forest(random_state=seed).fit(np.where(np.isnan(x), fill, x))
        trees = [estimator.tree_ for estimator in forest.estimators_]
        n_nodes = max(tree.node_count for tree in trees)
        shape = (len(trees), n_nodes)
        left, right = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
        feature, threshold = np.zeros(shape, np.int32), np.zeros(shape)
        depth = np.zeros(shape)
        for t, tree in enumerate(trees):
            n = tree.node_count
            left[t, :n], right[t, :n] = tree.children_left, tree.children_right
            feature[t, :n], threshold[t, :n] = np.maximum(tree.feature, 0), tree.threshold
            level = np.zeros(n)
            for node in range(n):  # parents come before their children
                if tree.children_left[node] >= 0:
                    level[tree.children_left[node]] = level[node] + 1
                    level[tree.children_right[node]] = level[node] + 1
            depth[t, :n] = level + _path_length(tree.n_node_samples)
        norm = _path_length(np.array([max(forest.max_samples_, 2)]))
        return cls(scaler, left, right, feature, threshold, depth, norm, fill)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        names = ("left", "right", "feature", "threshold", "depth", "norm", "fill")
        return {name: getattr(self, name) for name in names}

    def score(self, samples: Samples) -> Scores:
        """Between 0 and 1; about 0.5 is unremarkable."""
        return _by_chunk(
            samples,
            lambda rows: self.of_features(features(samples, self.scaler, rows=rows), samples),
        )

    def of_features(self, x: Float, samples: Samples) -> Scores:
        """The same from :func:`features` of the samples' rows."""
        x = x.reshape(len(x), -1)
        if samples.layout != "series":
            x = np.where(np.isnan(x), self.fill, x)
        n, p = x.shape
        values, start = np.ascontiguousarray(x).reshape(-1), np.arange(n)[:, None] * p
        following, feature, threshold = self._flat
        # nodes of all trees are numbered through; a leaf leads to itself
        node = np.broadcast_to(np.arange(len(self.left)) * self.left.shape[1], (n, len(self.left)))
        while True:
            right = values.take(start + feature.take(node)) > threshold.take(node)
            child = following.take(2 * node + right)
            if np.array_equal(child, node):
                break
            node = child
        total = 2.0 ** (-self.depth.take(node).mean(1) / self.norm[0])
        return Scores(total, np.zeros((n, 0), np.float32))

    @cached_property
    def _flat(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Children (left and right of each node in turn), feature and threshold of all nodes."""
        n_trees, n_nodes = self.left.shape
        first = np.arange(n_trees)[:, None] * n_nodes
        itself = first + np.arange(n_nodes)
        children = [np.where(side < 0, itself, first + side) for side in (self.left, self.right)]
        pairs = np.stack(children, 2).reshape(-1).astype(np.intp)
        return pairs, self.feature.reshape(-1).astype(np.intp), self.threshold.reshape(-1)


def score_all(
    baselines: Mapping[str, Scorer], samples: Samples, *, scaled: Float | None = None
) -> dict[str, Scores]:
    """Scores of each baseline; features that several of them look at are computed once.

    Parameters
    ----------
    baselines : mapping of name to Scorer
    samples : Samples
    scaled : array of shape (n, *shape), optional
        The samples in network units, where they are known already.
    """
    if scaled is not None:
        samples = replace(samples, scaled=scaled)
    looking = {
        name: scorer
        for name, scorer in baselines.items()
        if isinstance(scorer, RobustZ | IsolationForest)
    }
    found: dict[str, list[Scores]] = {name: [] for name in looking}
    for rows in samples.chunks(CHUNK) if looking else ():
        known: dict[int, Float] = {}
        for name, scorer in looking.items():
            of = id(scorer.scaler)
            if of not in known:
                known[of] = features(samples, scorer.scaler, rows=rows)
            found[name].append(scorer.of_features(known[of], samples))
    joined = {name: Scores.join(parts) for name, parts in found.items()}
    return {n: joined[n] if n in joined else s.score(samples) for n, s in baselines.items()}


def _path_length(n: NDArray[Any]) -> NDArray[np.float64]:
    """Mean path length of an unsuccessful search in a tree of ``n`` samples (the paper's c(n))."""
    n = n.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        long = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, long))


BASELINES: dict[str, type[PrincipalComponents] | type[RobustZ] | type[IsolationForest]] = {
    "pca": PrincipalComponents,
    "robust_z": RobustZ,
    "isolation_forest": IsolationForest,
}
"""By the name their scores have in the outputs (``score_pca``, ...)."""
