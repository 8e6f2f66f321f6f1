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
items as :data:`~ae_pipeline.detectors.answers.BINS` bins over their range.
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
from ae_pipeline.detectors.answer_models import (
    conditional_means,
    cut_into_levels,
    from_answers_before,
    level_curves,
    levels_from_curves,
    shrunk_precision,
)
from ae_pipeline.detectors.answers import (
    Answers,
    coded,
    declared_scale_numbers,
    in_used_range,
    level_counts,
    mean_positions,
    possible_ranges,
    presentation_order,
    range_numbers,
    scale_numbers,
    used_ranges,
)
from ae_pipeline.detectors.baselines import IsolationForest
from ae_pipeline.training.loop import FittedAutoencoder

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["MANY_ROWS", "VIEWS", "AnswerPredictions", "PersonFit"]

Float = NDArray[np.float64]

VIEWS = ("surprise", "pattern", "person_total", "isolation")
"""What is added to one score."""

N_HIDDEN = 10
"""Groups of items that are hidden one at a time."""

DOUBT = 0.02
"""Share of every prediction that is given to all levels alike: nobody is sure of an answer."""

STRONG = 0.60
"""Correlation over people at which two items count as synonyms or antonyms (Meade, Craig, 2012)."""

FIT_ROWS = 5000
"""People that are learned from, at most."""

CHUNK = 2000
MANY_ROWS = 20_000
"""People whose predictions stand in memory at once."""

ONSET_EVIDENCE = 0.0
"""How far, in natural logarithms and beyond the number of items that careless responding could
have begun at, the answers must speak for a beginning before one is named: 0 are even odds."""


# ------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class AnswerPredictions:
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
    time_center : array of shape (columns,)
        Usual logarithm of each response time.
    used : array of shape (items, 2)
        Part of the range that the levels of continuous items divide; empty for all of it.
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
    used: Float = field(default_factory=lambda: np.zeros((0, 2)))

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
        low, high = possible_ranges(chosen)
        used = used_ranges(coded(chosen, low, high=high).keyed, chosen.columns)
        answers = coded(chosen, low, high=high, used=used)
        forest = IsolationForest.fit(train, autoencoder.scaler, latent_dim=0, seed=seed)
        assert isinstance(forest, IsolationForest)
        mean = mean_positions(answers.keyed)
        precision = shrunk_precision(answers.keyed, mean, columns=chosen.columns)
        predicted = conditional_means(answers.keyed, mean, precision=precision)
        curves, scale = level_curves(predicted, answers.level, count=level_counts(chosen.columns))
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
            _easiness(answers.level, level_counts(chosen.columns)),
            _strong_pairs(related),
            _strong_pairs(-related),
            forest,
            _time_center(chosen),
            used,
        )
        judge = train if reference is None or len(reference) < 20 else reference
        judge = judge.take(_spread(len(judge), FIT_ROWS))
        return unmixed._mixed(judge, honest=judge is not train)

    def _mixed(self, judge: Samples, honest: bool) -> PersonFit:
        """The share of the autoencoder that predicts people outside of its training best."""
        answers = coded(judge, self.low, high=self.high, used=self.used)
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
        count = level_counts(samples.columns)
        mean, network = self.autoencoder.predict_hidden(samples, N_HIDDEN)
        most = self.curves.shape[1]
        own = np.zeros((*mean.shape, most))
        own[:, :, : network.shape[2]] = network[:, :, :most]
        loose = np.flatnonzero([not own[:, j].any() for j in range(own.shape[1])])
        if len(loose):
            place, width = self.positions(mean)[:, loose], self.width[loose]
            if len(self.used):
                used = self.used[loose]
                place, width = in_used_range(place, used), width / (used[:, 1] - used[:, 0])
            own[:, loose] = cut_into_levels(place, width, count=count[loose], most=most)
        linear = levels_from_curves(
            conditional_means(answers.keyed, self.mean, precision=self.precision),
            self.curves,
            scale=self.curve_scale,
            count=count,
        )
        possible = np.arange(most) < count[:, None]
        even = possible / count[:, None]
        return (1 - DOUBT) * own + DOUBT * even, (1 - DOUBT) * linear + DOUBT * even

    def predict_answers(self, samples: Samples) -> AnswerPredictions:
        """Predict every answer from the others and from those before."""
        parts = [self._predict_answers(samples.take(rows)) for rows in samples.chunks(CHUNK)]
        joined = {
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(AnswerPredictions)
            if each.name != "answers"
        }
        forms = {
            each.name: np.concatenate([getattr(part.answers, each.name) for part in parts])
            for each in fields(Answers)
        }
        return AnswerPredictions(answers=Answers(**forms), **joined)

    def _predict_answers(self, samples: Samples) -> AnswerPredictions:
        answers = coded(samples, self.low, high=self.high, used=self.used)
        network, linear = self._both(samples, answers)
        share = float(self.weight[0])
        p = share * network + (1 - share) * linear
        count = level_counts(samples.columns)
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
        before = from_answers_before(answers.level, samples.columns)
        positions = np.arange(p.shape[2]) / np.maximum(count - 1, 1)[:, None]
        if len(self.used):
            positions = self.used[:, :1] + positions * (self.used[:, 1:] - self.used[:, :1])
        expected = (p * np.where(possible, positions, 0.0)).sum(2)
        turned = np.array([column.reverse for column in samples.columns], bool)
        expected = np.where(turned, 1 - expected, expected)
        return AnswerPredictions(
            answers,
            np.where(known, -given, 0.0),
            np.where(known, usual, 0.0),
            np.where(known, np.maximum(variance, 0.0), 0.0),
            np.where(known, before - from_questions, 0.0),
            self.low + expected * (self.high - self.low),
            np.where(known, np.exp(given), np.nan),
        )

    # ----------------------------------------------------------------------------- views

    def surprise_and_views(self, samples: Samples) -> tuple[NDArray[np.float32], dict[str, Float]]:
        """Surprise of every answer (n, items) and the views, a part of the people at a time."""
        surprise, views = [], []
        for rows in samples.chunks(MANY_ROWS):
            part = samples.take(rows)
            predictions = self.predict_answers(part)
            surprise.append(predictions.surprise.astype(np.float32))
            views.append(self.views(part, predictions))
        return (
            np.concatenate(surprise),
            {name: np.concatenate([view[name] for view in views]) for name in VIEWS},
        )

    def views(
        self, samples: Samples, predictions: AnswerPredictions | None = None
    ) -> dict[str, Float]:
        """The parts of the score by name (:data:`VIEWS`), each (n,), high is careless."""
        predictions = predictions or self.predict_answers(samples)
        n_known = np.maximum(predictions.answers.known.sum(1), 1)
        return {
            "surprise": predictions.surprise.sum(1) / n_known,
            "pattern": self._pattern(samples.columns, predictions) / n_known,
            "person_total": -indices.person_total(
                predictions.answers.raw, self.profile, scales=scale_numbers(samples.columns)
            ),
            "isolation": self.forest.score(samples).total,
        }

    @staticmethod
    def _pattern(columns: Sequence[Column], predictions: AnswerPredictions) -> Float:
        """Evidence that answers follow those before, from where it is largest to the end."""
        order = presentation_order(columns)
        if order is None:  # nothing can begin anywhere: all answers count
            return np.asarray(predictions.gain.sum(1))
        from_here = np.cumsum(predictions.gain[:, order[::-1]], 1)
        return np.asarray(from_here.max(1))

    def indices(
        self, samples: Samples, predictions: AnswerPredictions | None = None
    ) -> pd.DataFrame:
        """The established indices of careless responding, one row a person.

        Columns are those of :data:`ae_pipeline.detectors.indices.CARELESS` that the data allows
        (``longstring`` needs a presentation order, ``even_odd`` three scales, ``synonyms`` and
        ``antonyms`` three pairs of items, ``response_time`` columns of times), ``lz`` (log
        likelihood of the answers given the others, standardised by its expectation; Drasgow et
        al., 1985: low is a misfit) and ``answered``.
        """
        import pandas as pd

        predictions = predictions or self.predict_answers(samples)
        answers, columns = predictions.answers, samples.columns
        scales = scale_numbers(columns)
        found: dict[str, Float] = {
            "lz": (predictions.usual - predictions.surprise).sum(1)
            / np.sqrt(np.maximum(predictions.variance.sum(1), 1e-9)),
            "person_total": indices.person_total(answers.raw, self.profile, scales=scales),
            "irv": indices.variability(answers.raw, range_numbers(columns)),
            "mahalanobis": indices.mahalanobis(answers.keyed, self.mean, precision=self.precision),
            "even_odd": indices.even_odd(answers.keyed, declared_scale_numbers(columns)),
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
        order = presentation_order(columns)
        if order is not None:
            found["longstring"] = indices.longstring(answers.given[:, order])
        times = _times(samples)
        if times is not None:
            found["response_time"] = _usual_time(times, self.time_center)
        frame = pd.DataFrame(found)
        frame["answered"] = answers.known.sum(1)
        return frame.dropna(axis=1, how="all")

    def onset(self, samples: Samples, predictions: AnswerPredictions | None = None) -> pd.DataFrame:
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

        order = presentation_order(samples.columns)
        if order is None:
            return pd.DataFrame(index=range(len(samples)))
        predictions = predictions or self.predict_answers(samples)
        gain = predictions.gain[:, order]
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
