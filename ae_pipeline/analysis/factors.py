"""Beside factor analysis: how many dimensions, what they predict, how stable they are.

Everything is on answers after reverse keying, standardised; missing answers stand at the mean
where a method cannot do without. Loadings are (items, factors).

* Parallel analysis (Horn, 1965): a component counts where its eigenvalue exceeds the 95th
  percentile of those of data without any relation (each item's answers shuffled); on Pearson and,
  for ordinal items, on polychoric correlations (Olsson, 1979; two-step).
* Factor analysis: scikit-learn's maximum likelihood solution with varimax rotation.
* Congruence (Tucker, 1951): cosine between columns of loadings, factors matched one to one; 0.95
  and more counts as the same factor, 0.85 to 0.94 as a fair match (Lorenzo-Seva, ten Berge, 2006).
* Hidden items: each item predicted from the others through the dimensions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.detectors.answers import coded
from ae_pipeline.detectors.personfit import N_HIDDEN, PersonFit
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.stats import mean_interval

if TYPE_CHECKING:
    from ae_pipeline.data import Column, Samples
    from ae_pipeline.training.loop import FittedAutoencoder

__all__ = [
    "Factors",
    "aligned",
    "beside",
    "congruence",
    "gain",
    "loadings_of",
    "matched",
    "parallel_analysis",
    "pearson",
    "polychoric",
    "predict_hidden",
    "split_half_congruence",
    "standardised",
]

Float = NDArray[np.float64]

N_SHUFFLES = 20
PERCENTILE = 95.0
LEAST_CELL = 1e-12
MOST_ROWS = 4000
"""People that dimensions are counted and factors compared on, at most."""

MOST_REFITTED = 1000
"""People that the network is fitted to again, at most, to see whether the latents come back."""

LEAST_ITEMS = 3
"""Items that vary from which on dimensions mean anything."""

MOST_POLYCHORIC = 30
"""Items up to which polychoric correlations are made by themselves (their time grows squared)."""


def standardised(answers: Float) -> Float:
    """Columns with mean 0 and deviation 1; NaN (missing) becomes 0, the mean."""
    mean = np.nan_to_num(_over(np.nanmean, answers))
    spread = np.nan_to_num(_over(np.nanstd, answers))
    return np.nan_to_num((answers - mean) / np.where(spread > 1e-9, spread, 1.0))


def _over(statistic: Any, answers: Float) -> Float:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(answers, 0), dtype=np.float64)


# ---------------------------------------------------------------------- how many dimensions


def pearson(answers: Float) -> Float:
    """Correlations over the people who answered both items, made positive definite."""
    import pandas as pd

    r = np.array(pd.DataFrame(answers).corr(min_periods=10).fillna(0.0))
    np.fill_diagonal(r, 1.0)
    return _definite(r)


def polychoric(levels: NDArray[np.int64]) -> Float:
    """Correlations of the normal variables behind ordinal answers (Olsson, 1979).

    Thresholds come from the margins, then each pair's correlation maximises the likelihood of its
    table of answers.

    Parameters
    ----------
    levels : array of int of shape (n, items)
        From 0; -1 where missing.
    """
    n_items = levels.shape[1]
    edges = [_thresholds(levels[levels[:, j] >= 0, j]) for j in range(n_items)]
    grid = np.tanh(np.linspace(-2.3, 2.3, 47))
    r = np.eye(n_items)
    for i in range(n_items):
        for j in range(i):
            known = (levels[:, i] >= 0) & (levels[:, j] >= 0)
            a, b = edges[i], edges[j]
            if known.sum() < 10 or len(a) < 3 or len(b) < 3:
                continue
            table = np.zeros((len(a) - 1, len(b) - 1))
            np.add.at(table, (levels[known, i], levels[known, j]), 1)
            r[i, j] = r[j, i] = _best_correlation(table, a, b=b, grid=grid)
    return _definite(r)


def _thresholds(levels: NDArray[np.int64]) -> Float:
    """Where the normal variable is cut, with the ends at plus and minus 8."""
    from scipy.special import ndtri

    if not len(levels):
        return np.zeros(0)
    below = np.cumsum(np.bincount(levels)) / len(levels)
    inner = np.clip(ndtri(np.clip(below[:-1], 1e-6, 1 - 1e-6)), -8, 8)
    return np.concatenate([[-8.0], inner, [8.0]])


def _best_correlation(table: Float, a: Float, *, b: Float, grid: Float) -> float:
    """Correlation that makes a table of two items' answers most probable, on a fine grid.

    The probability of a cell is an integral over the first variable's interval, taken at eight of
    that interval's own quantiles: exact enough beside the error of any sample.
    """
    from scipy.special import ndtr, ndtri

    n_points = 8
    logs = []
    share = np.diff(ndtr(a))
    points = ndtri(
        np.clip(
            ndtr(a[:-1])[:, None] + share[:, None] * (np.arange(n_points) + 0.5) / n_points,
            1e-12,
            1 - 1e-12,
        )
    )
    for rho in grid:
        width = np.sqrt(1 - rho**2)
        cut = ndtr((b[None, None, :] - rho * points[:, :, None]) / width)
        cell = np.diff(cut, axis=2).mean(1) * share[:, None]
        logs.append(float((table * np.log(np.maximum(cell, LEAST_CELL))).sum()))
    best = int(np.argmax(logs))
    if 0 < best < len(grid) - 1:  # the top of the parabola through three points
        x, y = grid[best - 1 : best + 2], np.array(logs[best - 1 : best + 2])
        c = np.polyfit(x, y, 2)
        if c[0] < 0:
            return float(np.clip(-c[1] / (2 * c[0]), x[0], x[2]))
    return float(grid[best])


def _definite(r: Float) -> Float:
    """The nearest correlation matrix without negative eigenvalues, roughly (clipped, rescaled)."""
    values, vectors = np.linalg.eigh(r)
    if values[0] > 1e-6:
        return r
    fixed = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    size = np.sqrt(np.diag(fixed))
    return np.asarray(fixed / size[:, None] / size, dtype=np.float64)


def parallel_analysis(
    answers: Float,
    seed: int = 0,
    *,
    levels: NDArray[np.int64] | None = None,
    n_shuffles: int = N_SHUFFLES,
) -> dict[str, Any]:
    """How many components say more than chance (Horn, 1965; by shuffling each item).

    Parameters
    ----------
    answers : array of shape (n, items)
        NaN where missing.
    seed : int
    levels : array of int of shape (n, items), optional
        Ordinal answers from 0, -1 where missing: polychoric instead of Pearson correlations.
    n_shuffles : int

    Returns
    -------
    dict
        ``n`` (components), ``eigenvalues`` and ``chance`` (95th percentile), descending.
    """
    rng = np.random.default_rng(seed)

    def related(shuffle: bool) -> Float:
        table: NDArray[Any] = answers if levels is None else levels
        if shuffle:
            table = np.stack([rng.permutation(column) for column in table.T], 1)
        return pearson(table) if levels is None else polychoric(table)

    own = np.sort(np.linalg.eigvalsh(related(False)))[::-1]
    drawn = [np.sort(np.linalg.eigvalsh(related(True)))[::-1] for _ in range(n_shuffles)]
    chance = np.percentile(drawn, PERCENTILE, axis=0)
    more = own > chance
    return {
        "n": int(len(more) if more.all() else more.argmin()),
        "eigenvalues": own.tolist(),
        "chance": chance.tolist(),
    }


# ------------------------------------------------------------------------- loadings, matching


def congruence(first: Float, second: Float) -> Float:
    """Tucker's coefficients between columns of loadings, (factors, factors)."""
    size = np.linalg.norm(first, axis=0)[:, None] * np.linalg.norm(second, axis=0)[None]
    return np.asarray((first.T @ second) / np.maximum(size, 1e-12), dtype=np.float64)


def matched(first: Float, second: Float) -> Float:
    """Congruence of each column of ``first`` with its partner in ``second``, sign aside."""
    from scipy.optimize import linear_sum_assignment

    found = np.abs(congruence(first, second))
    rows, columns = linear_sum_assignment(-found)
    out = np.zeros(first.shape[1])
    out[rows] = found[rows, columns]
    return out


@dataclass(frozen=True)
class Factors:
    """Dimensions of standardised answers, by one method.

    Parameters
    ----------
    loadings : array of shape (items, k)
        What a dimension of unit variance does to each item.
    noise : array of shape (items,)
        Variance of each item that is its own.
    """

    loadings: Float
    noise: Float

    @classmethod
    def fit(cls, answers: Float, k: int, *, method: str = "factors", seed: int = 0) -> Factors:
        """Fit on answers (n, items).

        Parameters
        ----------
        method : {'factors', 'components'}
            Maximum likelihood factor analysis with varimax, or principal components with
            varimax.
        """
        x = standardised(answers)
        k = min(k, min(x.shape) - 1)
        if method == "factors":
            from sklearn.decomposition import FactorAnalysis

            few = _same_covariance(x)
            tol = 0.01 * len(few) / len(x)  # scikit-learn's, of a likelihood that is a sum
            how = {"rotation": "varimax", "random_state": seed, "max_iter": 2000, "tol": tol}
            model = FactorAnalysis(k, **how).fit(few)
            return cls(_upright(model.components_.T), np.maximum(model.noise_variance_, 0.02))
        values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
        top = vectors[:, ::-1][:, :k] * np.sqrt(np.maximum(values[::-1][:k], 0))
        loadings = _upright(_varimax(top))
        return cls(loadings, np.maximum(1 - (loadings**2).sum(1), 0.02))

    def scores(self, x: Float, known: NDArray[np.bool_]) -> Float:
        """Regression scores from standardised answers, those not ``known`` left out, (n, k)."""
        precision = np.where(known, 1 / self.noise, 0.0)
        a = np.einsum("ij,jk,jl->ikl", precision, self.loadings, self.loadings)
        a += np.eye(self.loadings.shape[1])
        b = (precision * x) @ self.loadings
        return np.asarray(np.linalg.solve(a, b[:, :, None])[:, :, 0])


def _upright(loadings: Float) -> Float:
    """Each dimension with the sign that more of its items go with."""
    return loadings * np.where(loadings.sum(0) < 0, -1.0, 1.0)


def _same_covariance(x: Float) -> Float:
    """At most twice as many rows as columns, of mean 0 and with the covariance of ``x``.

    Maximum likelihood looks at nothing else, and goes over its rows hundreds of times.
    """
    r = np.asarray(np.linalg.qr(x, mode="r"))
    return np.asarray(np.vstack([r, -r]) * np.sqrt(len(r) / len(x)), dtype=np.float64)


def _varimax(loadings: Float, n_steps: int = 200) -> Float:
    """Kaiser's rotation (1958)."""
    n, k = loadings.shape
    rotation, last = np.eye(k), 0.0
    for _ in range(n_steps):
        rotated = loadings @ rotation
        u, s, v = np.linalg.svd(
            loadings.T @ (rotated**3 - rotated * (rotated**2).sum(0) / n), full_matrices=False
        )
        rotation = u @ v
        if s.sum() < last * (1 + 1e-8):
            break
        last = s.sum()
    return np.asarray(loadings @ rotation, dtype=np.float64)


def split_half_congruence(
    answers: Float, k: int, *, seed: int = 0, n_splits: int = 10, method: str = "factors"
) -> Float:
    """Congruence of factors found in two halves of the people, (splits, k), best first."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_splits):
        half = rng.permutation(len(answers)) < len(answers) // 2
        both = [
            Factors.fit(answers[rows], k, method=method, seed=seed).loadings
            for rows in (half, ~half)
        ]
        found.append(np.sort(matched(both[0], both[1]))[::-1])
    return np.array(found)


# ------------------------------------------------------------------------------ hidden items


def predict_hidden(
    factors: Factors, train: Float, *, test: Float, groups: NDArray[np.int64]
) -> Float:
    """Standardised answers of ``test``, each predicted from the items outside its group.

    Parameters
    ----------
    factors : Factors
        Fitted on ``train``.
    train, test : array of shape (n, items)
    groups : int array of shape (items,)
        Items of one group are hidden together.

    Returns
    -------
    array of shape (n, items)
        In the standard units of ``train``.
    """
    mean = np.nan_to_num(_over(np.nanmean, train))
    spread = np.nan_to_num(_over(np.nanstd, train))
    x = (test - mean) / np.where(spread > 1e-9, spread, 1.0)
    known = ~np.isnan(x)
    x = np.nan_to_num(x)
    out = np.zeros(x.shape)
    for group in np.unique(groups):
        hidden = groups == group
        code = factors.scores(x, known & ~hidden)
        out[:, hidden] = code @ factors.loadings[hidden].T
    return out


def gain(truth: Float, first: Float, *, second: Float, known: NDArray[np.bool_]) -> dict[str, Any]:
    """Mean squared errors of two predictions, and their difference with an interval over people.

    Returns
    -------
    dict
        ``first``, ``second`` (mean squared errors), ``difference`` (second minus first: positive
        where the first is better) and its 95% ``interval``.
    """
    n_known = known.sum(1)
    use = n_known > 0
    errors = [
        (np.where(known, truth - guess, 0.0) ** 2).sum(1)[use] / n_known[use]
        for guess in (first, second)
    ]
    difference = errors[1] - errors[0]
    return {
        "first": float(errors[0].mean()),
        "second": float(errors[1].mean()),
        "difference": float(difference.mean()),
        "interval": mean_interval(difference),
    }


def loadings_of(codes: Float, answers: Float) -> Float:
    """Correlation of each item with each latent, (items, latents): loadings of any model."""
    import pandas as pd

    n_items = answers.shape[1]
    r = pd.DataFrame(np.hstack([answers, codes])).corr(min_periods=10).to_numpy()
    return np.asarray(np.nan_to_num(r[:n_items, n_items:]), dtype=np.float64)


def aligned(codes: Float, target: Float) -> list[float]:
    """Correlation of each target latent with the nearest linear map of ``codes``."""
    x = np.column_stack([np.ones(len(codes)), codes])
    fit, *_ = np.linalg.lstsq(x, target, rcond=None)
    left = ((target - x @ fit) ** 2).sum(0)
    own = ((target - target.mean(0)) ** 2).sum(0)
    return [float(r) for r in np.sqrt(np.maximum(1 - left / np.maximum(own, 1e-12), 0.0))]


# ------------------------------------------------------------------------------ all together


@one_thread()
def beside(
    person: PersonFit,
    train: Samples,
    *,
    held_out: Samples,
    k: int,
    seed: int,
    refit: Callable[[Samples, int], FittedAutoencoder],
) -> dict[str, Any] | None:
    """A model of a questionnaire beside factor analysis with as many dimensions.

    Parameters
    ----------
    person : PersonFit
        Of the model, fitted on ``train``.
    train, held_out : Samples
        Nothing was fitted on ``held_out`` (the network may have stopped by it).
    k : int
        Latents, and factors.
    seed : int
    refit : callable
        ``refit(samples, seed)`` fits the same network anew.

    Returns
    -------
    dict or None
        None where fewer than three items vary. ``parallel`` (dimensions by parallel analysis, and
        its curves), ``loadings`` (items x factors, and the same of the latents turned towards
        them), ``split_half`` (congruence of factors over halves of the people), ``hidden`` (errors
        in predicting hidden items, in variances of an item), ``congruence`` (of each factor with
        the latents turned towards it),
        ``stability`` (of each latent over seeds and halves), ``verdict``.
    """
    rng = np.random.default_rng(seed)
    some = train.take(np.sort(rng.permutation(len(train))[:MOST_ROWS]))
    answers = coded(some, person.low, high=person.high, used=person.used)
    usable = _usable(answers.keyed, train.columns)
    if len(usable) < LEAST_ITEMS:
        return None
    x, level = answers.keyed[:, usable], answers.level[:, usable]
    test = coded(held_out, person.low, high=person.high).keyed[:, usable]
    k = min(k, x.shape[1] - 1)
    ordinal = all(c.type in ("ordinal", "binary") for c in np.array(train.columns)[usable])
    found: dict[str, Any] = {"k": k, "items": len(usable), "people": len(x)}
    curves = {"pearson": parallel_analysis(x, seed)}
    if ordinal and len(usable) <= MOST_POLYCHORIC:
        curves["polychoric"] = parallel_analysis(x, seed, levels=level, n_shuffles=3)
    found["parallel"] = {"pearson": curves["pearson"]["n"], "polychoric": None}
    found["parallel"] |= {name: curve["n"] for name, curve in curves.items()} | {"curves": curves}
    splits = split_half_congruence(x, k, seed=seed, n_splits=5)
    found["split_half"] = {"mean": float(splits.mean()), "least": float(splits.min(0).min())}

    groups = rng.permutation(np.resize(np.arange(min(N_HIDDEN, len(usable))), len(usable)))
    factors = Factors.fit(x, k, method="factors", seed=seed)
    mean, spread = _over(np.nanmean, x), np.maximum(_over(np.nanstd, x), 1e-9)
    own, _ = person.autoencoder.predict_hidden(held_out, N_HIDDEN)
    network = (person.positions(own)[:, usable] - mean) / spread
    truth, known = np.nan_to_num((test - mean) / spread), ~np.isnan(test)
    linear = {
        "factors": predict_hidden(factors, x, test=test, groups=groups),
        "components": predict_hidden(
            Factors.fit(x, k, method="components", seed=seed), x, test=test, groups=groups
        ),
    }
    found["hidden"] = _hidden(truth, network, linear=linear, known=known)

    codes = person.autoencoder.latents(some).astype(np.float64)
    scores = factors.scores(np.nan_to_num((x - mean) / spread), ~np.isnan(x))
    turned, *_ = np.linalg.lstsq(codes - codes.mean(0), scores - scores.mean(0), rcond=None)
    of_latents = loadings_of(codes @ turned, x)
    found["congruence"] = [
        float(np.abs(congruence(of_latents, factors.loadings)[f, f])) for f in range(k)
    ]
    found["loadings"] = {
        "items": [train.columns[j].name for j in usable],
        "factors": factors.loadings.round(4).tolist(),
        "latents": of_latents.round(4).tolist(),
    }
    found["factor_from_latents"] = aligned(codes, scores)
    found["stability"] = _stability(train, some, codes=codes, seed=seed, refit=refit)
    found["verdict"] = _verdict(found)
    return found


def _hidden(
    truth: Float, network: Float, *, linear: Mapping[str, Float], known: NDArray[np.bool_]
) -> dict[str, Any]:
    """Errors in predicting hidden items, in variances of an item."""
    gains = {name: gain(truth, network, second=said, known=known) for name, said in linear.items()}
    against = gains["factors"]
    return {
        "autoencoder": against["first"],
        "factors": against["second"],
        "components": gains["components"]["second"],
        "difference": against["difference"],
        "interval": against["interval"],
        "people": int((known.sum(1) > 0).sum()),
    }


def _usable(keyed: Float, columns: Sequence[Column]) -> NDArray[np.int64]:
    """Items that are numbers and vary in training, however small a part of their range they use."""
    vary = [len(np.unique(answers[~np.isnan(answers)])) > 1 for answers in keyed.T]
    return np.flatnonzero(
        [column.type != "nominal" and own for column, own in zip(columns, vary, strict=True)]
    )


def _stability(
    train: Samples,
    shown: Samples,
    *,
    codes: Float,
    seed: int,
    refit: Callable[[Samples, int], FittedAutoencoder],
) -> list[dict[str, float]]:
    """Correlation of each latent with what other seeds, and halves of the people, give."""
    rows = np.random.default_rng(seed).permutation(len(train))[:MOST_REFITTED]
    some, half = train.take(np.sort(rows)), len(rows) // 2
    fits = {
        "seeds": [refit(some, seed + 1), refit(some, seed + 2)],
        "halves": [refit(train.take(np.sort(rows[cut])), seed + 1) for cut in _halves(half)],
    }
    found = {
        name: np.mean([aligned(fit.latents(shown).astype(np.float64), codes) for fit in fitted], 0)
        for name, fitted in fits.items()
    }
    return [
        {"latent": f"z{i:02d}", "seeds": float(found["seeds"][i]), "halves": float(both)}  # type: ignore[dict-item]
        for i, both in enumerate(found["halves"])
    ]


def _halves(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(half, None)


def _verdict(found: dict[str, Any]) -> str:
    hidden, k = found["hidden"], found["k"]
    if hidden["interval"] is None:
        return "Too few people are held out to compare the autoencoder with factor analysis."
    low, high = hidden["interval"]
    amount = f"{abs(hidden['difference']):.3f} of an item's variance ({low:+.3f} to {high:+.3f})"
    if low > 0:
        said = f"{k} latents predict hidden answers better than {k} factors, by {amount}"
        return f"{said}: the answers hold more than a linear model of this size says."
    if high < 0:
        said = f"{k} factors predict hidden answers better than {k} latents, by {amount}"
        return f"{said}: the linear model is enough; report the factors."
    said = f"{k} latents and {k} factors predict hidden answers equally well (difference {amount})"
    return f"{said}: the linear model is enough."
