"""How surprising a person's answers are, given the rest of their answers.

An attentive person answers questions; a careless one produces answers. Both can be predicted, and
comparing the two predictions is the heart of this module:

* *From the questions*: each item is hidden in turn and predicted from the person's other answers,
  by the autoencoder and by a linear model of all items (a shrunk covariance, with a curve for
  each item from the predicted mean to its levels). The two are mixed by how well each predicts
  people whom neither was fitted on.
* *From the answers before*: a predictor that knows no question learns from the person's own
  earlier answers alone, from how often each was given and what it was followed by. A person who
  ticks one box throughout, or goes up and down, is predicted perfectly. Without a presentation
  order only the frequencies are used, which no order changes.

The views that are added to one score, each high for careless answers:

* ``surprise``: minus log probability of an answer, predicted from the questions, on average.
  Random answers are surprising.
* ``pattern``: by how much the answers before predict better than the questions do (by the linear
  model: a network learns the patterns of the careless people among those it is trained on). Where
  the order is known, from the item on from which they do so most: many begin attentively.
* ``person_total``: the profile within scales runs against everybody's.
* ``isolation``: an Isolation Forest finds the combination easy to set apart.

Everything is learned from the answers of the training part, without a label; that some of these
people were careless themselves blunts it little. Answers are coded as levels from 0; continuous
items as :data:`BINS` bins over their range.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column, Samples
from ae_pipeline.detectors import indices
from ae_pipeline.detectors.baselines import IsolationForest
from ae_pipeline.training.loop import FittedAutoencoder

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["BINS", "MANY_ROWS", "VIEWS", "Answers", "PersonFit", "Told", "coded"]

Float = NDArray[np.float64]

VIEWS = ("surprise", "pattern", "person_total", "isolation")
"""What is added to one score."""

BINS = 7
"""Levels that a continuous item is cut into."""

N_HIDDEN = 10
"""Groups of items that are hidden one at a time."""

DOUBT = 0.02
"""Share of every prediction that is given to all levels alike: nobody is sure of an answer."""

PRIOR = 0.5
"""Count of each answer before any is given (Krichevsky and Trofimov, 1981)."""

STRONG = 0.60
"""Correlation over people at which two items count as synonyms or antonyms (Meade, Craig, 2012)."""

FIT_ROWS = 5000
"""People that are learned from, at most."""

CURVE_ROWS = 2000
"""People that each item's curve is drawn through, at most."""

CHUNK = 2000
MANY_ROWS = 20_000
"""People whose predictions stand in memory at once."""

ONSET_EVIDENCE = 0.0
"""How far, in natural logarithms and beyond the number of items that careless responding could
have begun at, the answers must speak for a beginning before one is named: 0 are even odds."""


# ------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class Answers:
    """A table's answers in the forms that the indices take.

    Parameters
    ----------
    level : array of int of shape (n, items)
        After reverse keying, from 0; -1 where missing.
    keyed, raw : array of shape (n, items)
        Positions in the possible range after and before reverse keying, NaN where missing.
    given : array of shape (n, items)
        Answers as they stand in the table.
    """

    level: NDArray[np.int64]
    keyed: Float
    raw: Float
    given: Float

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is an answer."""
        return self.level >= 0


def coded(samples: Samples, low: Float, *, high: Float) -> Answers:
    """Answers as levels and as positions in the range ``low`` to ``high`` of each item."""
    values, mask = samples.batch(slice(None))
    known = np.ones(values.shape, bool) if mask is None else mask
    width = np.where(high > low, high - low, 1.0)
    keyed = np.where(known, (values - low) / width, np.nan)
    count = _levels(samples.columns)
    with np.errstate(invalid="ignore"):
        level = np.rint(np.clip(keyed, 0, 1) * (count - 1))
    level = np.where(known, level, -1).astype(np.int64)
    turned = np.array([column.reverse for column in samples.columns], bool)
    raw = np.where(turned, 1 - keyed, keyed)
    given = np.where(known, np.where(turned, low + high - values, values), np.nan)
    return Answers(level, keyed, raw, given)


def _levels(columns: Sequence[Column]) -> NDArray[np.int64]:
    return np.array([len(column.levels) or BINS for column in columns], np.int64)


def _numbered(names: Sequence[object]) -> NDArray[np.int64]:
    """A number for each different name, in order of appearance; -1 for an empty one."""
    found: dict[object, int] = {}
    for name in names:
        if name:
            found.setdefault(name, len(found))
    return np.array([found.get(name, -1) if name else -1 for name in names], np.int64)


@dataclass(frozen=True)
class Told:
    """What is said of some people, beside their answers.

    Parameters
    ----------
    answers : Answers
    surprise, usual, variance : array of shape (n, items)
        Minus log probability of each answer given the others, and its expectation and variance
        under the prediction; 0 where missing.
    gain : array of shape (n, items)
        By how much the answers before predict it better than the questions, natural logarithm.
    expected : array of shape (n, items)
        Expected answer before reverse keying, in the table's own units.
    probability : array of shape (n, items)
        Of the level that was given.
    """

    answers: Answers
    surprise: Float
    usual: Float
    variance: Float
    gain: Float
    expected: Float
    probability: Float


@dataclass(frozen=True)
class PersonFit:
    """Predictions and norms learned from the training part, as plain arrays.

    Parameters
    ----------
    autoencoder : FittedAutoencoder
    low, high : array of shape (items,)
        Possible range (of what was seen where none is declared).
    mean, profile : array of shape (items,)
        Mean positions after and before reverse keying.
    precision : array of shape (items, items)
        Inverse of the shrunk covariance of the keyed answers; nominal items stand alone.
    curves : array of shape (items, levels, 3)
        Multinomial logit of the levels on the predicted mean: constant, slope, square.
    curve_scale : array of shape (items, 2)
        Mean and deviation of the predicted means.
    width : array of shape (items,)
        Residual deviation of the autoencoder's prediction of continuous items, positions.
    weight : array of shape (1,)
        The autoencoder's share in the prediction.
    easiness : array of shape (items, levels - 1)
        Share of people at or above a level.
    synonyms, antonyms : int array of shape (pairs, 2)
    reference : array of shape (indices, 2)
        Median and robust deviation of the training part's indices (:attr:`INDICES`).
    forest : IsolationForest
    """

    autoencoder: FittedAutoencoder
    low: Float
    high: Float
    mean: Float
    profile: Float
    precision: Float
    curves: Float
    curve_scale: Float
    width: Float
    weight: Float
    easiness: Float
    synonyms: NDArray[np.int64]
    antonyms: NDArray[np.int64]
    forest: IsolationForest
    time_center: Float = field(default_factory=lambda: np.zeros(0))

    # ------------------------------------------------------------------------- fitting

    @classmethod
    def fit(
        cls,
        autoencoder: FittedAutoencoder,
        train: Samples,
        *,
        reference: Samples | None,
        seed: int,
    ) -> PersonFit:
        """Learn what answers go together.

        Parameters
        ----------
        autoencoder : FittedAutoencoder
            Fitted on ``train``.
        train : Samples
        reference : Samples, optional
            People that the network was not fitted on: they decide its share.
        seed : int
        """
        rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:FIT_ROWS])
        chosen = train.take(rows)
        low, high = _ranges(chosen)
        answers = coded(chosen, low, high=high)
        forest = IsolationForest.fit(train, autoencoder.scaler, latent_dim=0, seed=seed)
        assert isinstance(forest, IsolationForest)
        mean = _means(answers.keyed)
        precision = _precision(answers.keyed, mean, columns=chosen.columns)
        predicted = _conditional(answers.keyed, mean, precision=precision)
        curves, scale = _curves(predicted, answers.level, count=_levels(chosen.columns))
        related = _correlations(answers.raw)
        turned = np.array([column.reverse for column in chosen.columns], bool)
        raw_mean = np.where(turned, 1 - mean, mean)
        unmixed = cls(
            autoencoder,
            low,
            high,
            mean,
            raw_mean,
            precision,
            curves,
            scale,
            np.full(len(mean), 0.1),
            np.full(1, 0.5),
            _easiness(answers.level, _levels(chosen.columns)),
            _strong_pairs(related),
            _strong_pairs(-related),
            forest,
            _time_center(chosen),
        )
        judge = train if reference is None or len(reference) < 20 else reference
        judge = judge.take(_spread(len(judge), FIT_ROWS))
        return unmixed._mixed(judge, honest=judge is not train)

    def _mixed(self, judge: Samples, honest: bool) -> PersonFit:
        """The share of the autoencoder that predicts people outside of its training best."""
        answers = coded(judge, self.low, high=self.high)
        mean, _ = self.autoencoder.predict_hidden(judge, N_HIDDEN)
        away = np.where(answers.known, self.positions(mean) - answers.keyed, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            width = np.nan_to_num(np.nanstd(away, 0), nan=0.3)
        fitted = replace(self, width=np.maximum(width, 0.02))
        if not honest:
            return fitted
        network, linear = fitted._both(judge, answers)
        level = np.maximum(answers.level, 0)[:, :, None]
        own = np.take_along_axis(network, level, 2)[:, :, 0][answers.known]
        other = np.take_along_axis(linear, level, 2)[:, :, 0][answers.known]
        share = 0.5
        for _ in range(200):  # expectation and maximisation; the likelihood is concave
            share = float(np.mean(share * own / (share * own + (1 - share) * other)))
        return replace(fitted, weight=np.full(1, share))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned beside the autoencoder, as named arrays."""
        plain = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("autoencoder", "forest")
        }
        return plain | {f"forest.{name}": array for name, array in self.forest.state().items()}

    @classmethod
    def from_state(
        cls, autoencoder: FittedAutoencoder, state: dict[str, NDArray[Any]]
    ) -> PersonFit:
        """The counterpart of :meth:`state`."""
        forest = {k.removeprefix("forest."): v for k, v in state.items() if k.startswith("forest.")}
        plain = {name: array for name, array in state.items() if not name.startswith("forest.")}
        return cls(
            autoencoder=autoencoder,
            forest=IsolationForest(autoencoder.scaler, **forest),
            **plain,
        )

    # ---------------------------------------------------------------------- predictions

    def positions(self, network_units: NDArray[np.float32]) -> Float:
        """Network units as positions in the possible range."""
        values = self.autoencoder.scaler.inverse(network_units)
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        return np.asarray((values - self.low) / width, dtype=np.float64)

    def _both(self, samples: Samples, answers: Answers) -> tuple[Float, Float]:
        """Probability of each level by the autoencoder and by the linear model, (n, items, k)."""
        count = _levels(samples.columns)
        mean, network = self.autoencoder.predict_hidden(samples, N_HIDDEN)
        most = self.curves.shape[1]
        own = np.zeros((*mean.shape, most))
        own[:, :, : network.shape[2]] = network[:, :, :most]
        loose = np.flatnonzero([not own[:, j].any() for j in range(own.shape[1])])
        if len(loose):
            own[:, loose] = _cut(
                self.positions(mean)[:, loose], self.width[loose], count=count[loose], most=most
            )
        linear = _levels_from_curves(
            _conditional(answers.keyed, self.mean, precision=self.precision),
            self.curves,
            scale=self.curve_scale,
            count=count,
        )
        possible = np.arange(most) < count[:, None]
        even = possible / count[:, None]
        return (1 - DOUBT) * own + DOUBT * even, (1 - DOUBT) * linear + DOUBT * even

    def tell(self, samples: Samples) -> Told:
        """Predict every answer from the others and from those before."""
        parts = [self._tell(samples.take(rows)) for rows in samples.chunks(CHUNK)]
        joined = {
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Told)
            if each.name != "answers"
        }
        forms = {
            each.name: np.concatenate([getattr(part.answers, each.name) for part in parts])
            for each in fields(Answers)
        }
        return Told(answers=Answers(**forms), **joined)

    def _tell(self, samples: Samples) -> Told:
        answers = coded(samples, self.low, high=self.high)
        network, linear = self._both(samples, answers)
        share = float(self.weight[0])
        p = share * network + (1 - share) * linear
        count = _levels(samples.columns)
        possible = np.arange(p.shape[2]) < count[:, None]
        logs = np.where(possible, np.log(np.maximum(p, 1e-12)), 0.0)
        level = np.maximum(answers.level, 0)[:, :, None]
        known = answers.known
        given = np.take_along_axis(logs, level, 2)[:, :, 0]
        usual = -(p * logs).sum(2)
        variance = (p * logs**2).sum(2) - usual**2
        # the linear model's prediction here: a network learns the patterns of the careless people
        # in its training data, and then finds them as easy as the answers before do
        from_questions = np.log(np.take_along_axis(linear, level, 2)[:, :, 0])
        before = _from_answers_before(answers.level, samples.columns)
        positions = np.arange(p.shape[2]) / np.maximum(count - 1, 1)[:, None]
        expected = (p * np.where(possible, positions, 0.0)).sum(2)
        turned = np.array([column.reverse for column in samples.columns], bool)
        expected = np.where(turned, 1 - expected, expected)
        return Told(
            answers,
            np.where(known, -given, 0.0),
            np.where(known, usual, 0.0),
            np.where(known, np.maximum(variance, 0.0), 0.0),
            np.where(known, before - from_questions, 0.0),
            self.low + expected * (self.high - self.low),
            np.where(known, np.exp(given), np.nan),
        )

    # ----------------------------------------------------------------------------- views

    def look(self, samples: Samples) -> tuple[NDArray[np.float32], dict[str, Float]]:
        """Surprise of every answer (n, items) and the views, a part of the people at a time."""
        surprise, views = [], []
        for rows in samples.chunks(MANY_ROWS):
            part = samples.take(rows)
            told = self.tell(part)
            surprise.append(told.surprise.astype(np.float32))
            views.append(self.views(part, told))
        return (
            np.concatenate(surprise),
            {name: np.concatenate([view[name] for view in views]) for name in VIEWS},
        )

    def views(self, samples: Samples, told: Told | None = None) -> dict[str, Float]:
        """The parts of the score by name (:data:`VIEWS`), each (n,), high is careless."""
        told = told or self.tell(samples)
        n_known = np.maximum(told.answers.known.sum(1), 1)
        return {
            "surprise": told.surprise.sum(1) / n_known,
            "pattern": self._pattern(samples.columns, told) / n_known,
            "person_total": -indices.person_total(
                told.answers.raw, self.profile, scales=_scales(samples.columns)
            ),
            "isolation": self.forest.score(samples).total,
        }

    @staticmethod
    def _pattern(columns: Sequence[Column], told: Told) -> Float:
        """Evidence that answers follow those before, from where it is largest to the end."""
        order = _order(columns)
        if order is None:  # nothing can begin anywhere: all answers count
            return np.asarray(told.gain.sum(1))
        from_here = np.cumsum(told.gain[:, order[::-1]], 1)
        return np.asarray(from_here.max(1))

    def indices(self, samples: Samples, told: Told | None = None) -> pd.DataFrame:
        """The established indices of careless responding, one row a person.

        Columns are those of :data:`ae_pipeline.detectors.indices.CARELESS` that the data allows
        (``longstring`` needs a presentation order, ``even_odd`` three scales, ``synonyms`` and
        ``antonyms`` three pairs of items, ``response_time`` columns of times), ``lz`` (held-out
        surprise standardised by its expectation; Drasgow et al., 1985) and ``answered``.
        """
        import pandas as pd

        told = told or self.tell(samples)
        answers, columns = told.answers, samples.columns
        scales = _scales(columns)
        found: dict[str, Float] = {
            "lz": (told.surprise - told.usual).sum(1)
            / np.sqrt(np.maximum(told.variance.sum(1), 1e-9)),
            "person_total": indices.person_total(answers.raw, self.profile, scales=scales),
            "irv": indices.variability(answers.raw, _blocks(columns)),
            "mahalanobis": indices.mahalanobis(answers.keyed, self.mean, precision=self.precision),
            "even_odd": indices.even_odd(answers.keyed, _declared_scales(columns)),
            "synonyms": indices.pair_consistency(answers.raw, self.synonyms),
            "antonyms": indices.pair_consistency(answers.raw, self.antonyms),
            "guttman_errors": indices.guttman_errors(
                np.where(answers.known, answers.level, np.nan),
                [
                    easy[np.isfinite(easy)] if column.type != "nominal" else easy[:0]
                    for easy, column in zip(self.easiness, columns, strict=True)
                ],
                scales=scales,
            ),
        }
        order = _order(columns)
        if order is not None:
            found["longstring"] = indices.longstring(answers.given[:, order])
        times = _times(samples)
        if times is not None:
            found["response_time"] = _usual_time(times, self.time_center)
        frame = pd.DataFrame(found)
        frame["answered"] = answers.known.sum(1)
        return frame.dropna(axis=1, how="all")

    def onset(self, samples: Samples, told: Told | None = None) -> pd.DataFrame:
        """Where careless responding seems to begin.

        Returns
        -------
        DataFrame
            ``onset_item`` (name), ``onset_position`` (from 1, in the order of presentation) and
            ``onset_evidence`` (natural logarithm of how much better the answers from there on
            are predicted by the answers before them than by the questions); the first two empty
            where the evidence does not bear it. No columns without a presentation order.
        """
        import pandas as pd

        order = _order(samples.columns)
        if order is None:
            return pd.DataFrame(index=range(len(samples)))
        told = told or self.tell(samples)
        gain = told.gain[:, order]
        from_here = np.cumsum(gain[:, ::-1], 1)[:, ::-1]
        begin = from_here.argmax(1)
        evidence = from_here[np.arange(len(begin)), begin]
        named = evidence > ONSET_EVIDENCE + np.log(gain.shape[1])
        names = np.array([samples.columns[j].name for j in order], dtype=object)
        return pd.DataFrame(
            {
                "onset_item": pd.Series(np.where(named, names[begin], None), dtype="string"),
                "onset_position": pd.Series(begin + 1).where(pd.Series(named)).astype("Int64"),
                "onset_evidence": evidence,
            }
        )


def _spread(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of ``n`` rows, from everywhere."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


# ------------------------------------------------------------------------- from the items


def _scales(columns: Sequence[Column]) -> NDArray[np.int64]:
    """A number for each item's scale; items of none go by their range."""
    names: list[object] = [column.block or ("range", _range_of(column)) for column in columns]
    return _numbered(names)


def _declared_scales(columns: Sequence[Column]) -> NDArray[np.int64]:
    return _numbered([column.block for column in columns])


def _blocks(columns: Sequence[Column]) -> NDArray[np.int64]:
    """A number for each range of answers."""
    return _numbered([_range_of(column) for column in columns])


def _range_of(column: Column) -> tuple[object, ...]:
    if column.type == "nominal":
        return ("nominal", column.name)
    if column.levels:
        return ("levels", column.levels[0], column.levels[-1])
    return ("bounds", column.bounds)


def _order(columns: Sequence[Column]) -> NDArray[np.int64] | None:
    """Items in the order people saw them; None where it is not known."""
    places = [column.position for column in columns if column.position is not None]
    if not places or len(places) < len(columns):
        return None
    return np.argsort(np.array(places), kind="stable")


def _ranges(samples: Samples) -> tuple[Float, Float]:
    values, mask = samples.batch(slice(None))
    low, high = np.zeros(len(samples.columns)), np.ones(len(samples.columns))
    for j, column in enumerate(samples.columns):
        if column.levels:
            low[j], high[j] = column.levels[0], column.levels[-1]
        elif column.bounds is not None:
            low[j], high[j] = column.bounds
        else:
            known = values[:, j] if mask is None else values[mask[:, j], j]
            if len(known):
                low[j], high[j] = float(known.min()), float(known.max())
    return low, high


def _means(keyed: Float) -> Float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nan_to_num(np.nanmean(keyed, 0), nan=0.5))


# --------------------------------------------------------------------- from the questions


def _precision(keyed: Float, mean: Float, *, columns: Sequence[Column]) -> Float:
    """Inverse of the covariance, shrunk (Ledoit and Wolf, 2004); missing answers at the mean."""
    from sklearn.covariance import LedoitWolf

    filled = np.where(np.isnan(keyed), mean, keyed)
    nominal = np.array([column.type == "nominal" for column in columns], bool)
    covariance = np.diag(np.maximum(filled.var(0), 1e-4))
    usable = np.flatnonzero(~nominal)
    if len(usable) > 1 and len(filled) > 1:
        shrunk = LedoitWolf().fit(filled[:, usable]).covariance_
        covariance[np.ix_(usable, usable)] = shrunk + 1e-4 * np.eye(len(usable))
    return np.asarray(np.linalg.inv(covariance), dtype=np.float64)


def _conditional(keyed: Float, mean: Float, *, precision: Float) -> Float:
    """Mean of each answer given the others under a normal distribution, (n, items)."""
    filled = np.where(np.isnan(keyed), mean, keyed)
    return np.asarray(filled - ((filled - mean) @ precision) / np.diag(precision))


def _features(predicted: Float) -> Float:
    """Constant, the predicted mean and its square, (..., 3)."""
    bounded = np.clip(predicted, -4, 4)
    return np.stack([np.ones_like(bounded), bounded, bounded**2], -1)


def _curves(
    predicted: Float, level: NDArray[np.int64], *, count: NDArray[np.int64]
) -> tuple[Float, Float]:
    """For each item a multinomial logit of its levels on the predicted mean."""
    from sklearn.linear_model import LogisticRegression

    n_items = predicted.shape[1]
    curves = np.zeros((n_items, int(count.max()), 3))
    scale = np.stack([predicted.mean(0), np.maximum(predicted.std(0), 1e-6)], 1)
    for j in range(n_items):
        known = level[:, j] >= 0
        curves[j, :, 0] = -6.0  # levels that nobody chose
        there = np.unique(level[known, j])
        if len(there) < 2:
            curves[j, there, 0] = 0.0
            continue
        x = _features((predicted[known, j] - scale[j, 0]) / scale[j, 1])[:, 1:]
        model = LogisticRegression(C=1.0, max_iter=300).fit(x, level[known, j])
        coefficients = np.column_stack([model.intercept_, model.coef_])
        if len(there) == 2:
            coefficients = np.vstack([np.zeros(3), coefficients])
        curves[j, there] = coefficients
    return curves, scale


def _levels_from_curves(
    predicted: Float, curves: Float, *, scale: Float, count: NDArray[np.int64]
) -> Float:
    """Probability of each level, (n, items, levels)."""
    x = _features((predicted - scale[:, 0]) / scale[:, 1])
    logits = np.einsum("njf,jkf->njk", x, curves)
    logits = np.where(np.arange(curves.shape[1]) < count[:, None], logits, -np.inf)
    logits -= logits.max(2, keepdims=True)
    p = np.exp(logits)
    return np.asarray(p / p.sum(2, keepdims=True), dtype=np.float64)


def _cut(mean: Float, width: Float, *, count: NDArray[np.int64], most: int) -> Float:
    """A normal prediction of a position, cut into an item's levels, (n, items, most)."""
    from scipy.special import ndtr

    p = np.zeros((*mean.shape, most))
    for j, k in enumerate(count):
        edges = (np.arange(k - 1) + 0.5) / max(k - 1, 1)
        below = ndtr((edges - mean[:, j : j + 1]) / width[j])
        full = np.hstack([np.zeros((len(mean), 1)), below, np.ones((len(mean), 1))])
        p[:, j, :k] = np.diff(full, axis=1)
    return p


# ------------------------------------------------------------------ from the answers before


def _from_answers_before(level: NDArray[np.int64], columns: Sequence[Column]) -> Float:
    """Log probability of each answer by a predictor that knows the person's answers only.

    Within items of one range it mixes: all levels alike; how often the person gave each so far;
    and, where the order is known, what followed the same answer, and the same two answers. Each
    one's share grows with how well it predicted the person (Bayesian mixture), so nothing has to
    be said about which patterns there are.
    """
    order = _order(columns)
    blocks, count = _blocks(columns), _levels(columns)
    turned = np.array([column.reverse for column in columns], bool)
    raw = np.where(level < 0, -1, np.where(turned, count - 1 - level, level))
    logs = np.zeros(level.shape)
    for block in np.unique(blocks):
        items = np.flatnonzero(blocks == block)
        if order is not None:
            items = order[np.isin(order, items)]
        lengths = (0, 1, 2) if order is not None else (0,)
        logs[:, items] = _mixture(raw[:, items], int(count[items[0]]), lengths=lengths)
    return logs


def _mixture(level: NDArray[np.int64], k: int, *, lengths: tuple[int, ...]) -> Float:
    """Log probabilities of answers by contexts of several lengths, mixed by their success."""
    n, n_items = level.shape
    rows = np.arange(n)
    # k stands for "no answer" in a context
    counts = [np.full((n, (k + 1) ** length, k), PRIOR, np.float32) for length in lengths]
    log_share = np.full((n, len(lengths) + 1), -np.log(len(lengths) + 1))
    history = np.full((n, max(lengths) + 1), k)
    out = np.zeros((n, n_items))
    for j in range(n_items):
        known = level[:, j] >= 0
        answer = np.where(known, level[:, j], 0)
        places = []
        said = np.full((n, len(lengths) + 1), 1 / k)
        for e, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            place = np.zeros(n, np.int64)
            for back in range(length):
                place = place * (k + 1) + history[:, back]
            places.append(place)
            at = count[rows, place]
            said[:, e] = at[rows, answer] / at.sum(1)
        joint = log_share + np.log(said)
        top = joint.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(joint - top).sum(1))
        out[:, j] = np.where(known, total, 0.0)
        log_share = np.where(known[:, None], joint - total[:, None], log_share)
        for count, place in zip(counts, places, strict=True):
            count[rows[known], place[known], answer[known]] += 1
        if max(lengths):
            history = np.column_stack([np.where(known, level[:, j], k), history[:, :-1]])
    return out


# -------------------------------------------------------------------------------- norms


def _correlations(answers: Float) -> Float:
    import pandas as pd

    return np.asarray(pd.DataFrame(answers).corr(min_periods=20).fillna(0.0), dtype=np.float64)


def _strong_pairs(related: Float) -> NDArray[np.int64]:
    upper = np.triu(related, 1)
    return np.argwhere(upper >= STRONG).astype(np.int64).reshape(-1, 2)


def _easiness(level: NDArray[np.int64], count: NDArray[np.int64]) -> Float:
    """Share of people at or above each level from 1 on; NaN beyond an item's levels."""
    found = np.full((len(count), max(int(count.max()) - 1, 1)), np.nan)
    for j, k in enumerate(count):
        known = level[level[:, j] >= 0, j]
        if len(known):
            found[j, : k - 1] = [(known >= step).mean() for step in range(1, k)]
    return found


def _times(samples: Samples) -> Float | None:
    """Logarithms of the response times, (n, columns); None where there are none."""
    there = [name for name in samples.response_times if name in samples.meta]
    if not there:
        return None
    import pandas as pd

    numbers = samples.meta[there].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    return np.log(np.where(numbers > 0, numbers, np.nan))


def _time_center(samples: Samples) -> Float:
    times = _times(samples)
    if times is None:
        return np.zeros(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nan_to_num(np.nanmedian(times, 0)))


def _usual_time(times: Float, center: Float) -> Float:
    """A person's time as a multiple of the usual one: the geometric mean over columns."""
    if len(center) != times.shape[1]:
        return np.full(len(times), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.exp(np.nanmean(times - center, axis=1)))
