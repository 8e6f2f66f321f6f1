"""A rehearsal without labels: which detector finds known deviations in held-out data.

Nobody has labels on the first day. Copies of held-out samples are altered in ways that are known
to happen (a popping electrode, a careless respondent, a turned image), and every scorer is asked
to tell the copies from the originals. Nothing is fitted on either. The result says whether the
autoencoder, and the ensemble, are worth having beside the simple methods on this very data; it
is about the deviations planted here, not about those that nobody thought of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Layout, Samples
from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.kind import Alter
from ae_pipeline.scoring.judge import raw_scores
from ae_pipeline.stats import CurveAreas, percentile_interval

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.ensemble import Ensemble

__all__ = [
    "ALTERATIONS",
    "SIMPLEST_FIRST",
    "altered",
    "area_and_interval",
    "originals_and_copies",
    "rehearse",
    "summarise",
]

Float = NDArray[np.float32]

SIMPLEST_FIRST = ("robust_z", "pca", "isolation_forest", "autoencoder", "ensemble")
"""Order in which scorers are recommended where they do equally well."""

N_ROWS = 300
N_RESAMPLES = 500


def rehearse(
    ensemble: Ensemble,
    baselines: dict[str, Scorer],
    *,
    samples: Samples,
    alter: Alter,
    seed: int,
    by_recording: bool = False,
) -> pd.DataFrame:
    """Scores of some held-out samples and of their altered copies.

    Parameters
    ----------
    ensemble, baselines
        Not fitted on ``samples``.
    samples : Samples
        At most 300 of them are used, and of those only what alters.
    alter : callable
        Makes the altered copies; see :meth:`ae_pipeline.kind.Kind.alteration`.
    seed : int
    by_recording : bool
        There is one subject only: its recordings are the units of the intervals.

    Returns
    -------
    DataFrame
        ``unit`` (subject, recording or row), ``altered``, and a column for each of
        :data:`SIMPLEST_FIRST`.
    """
    import pandas as pd

    chosen, copies = originals_and_copies(samples, alter, seed=seed)
    parts = []
    for is_altered, data in ((False, chosen), (True, copies)):
        frame, _, _ = raw_scores(ensemble, baselines, samples=data)
        columns = {"ensemble": frame["score"]} | {
            name: frame[f"score_{name}"] for name in ("autoencoder", *BASELINES)
        }
        by_subject = samples.layout == "series" and not by_recording
        units = frame["subject" if by_subject else "recording"].astype(str)
        parts.append(pd.DataFrame({"unit": units, "altered": is_altered, **columns}))
    return pd.concat(parts, ignore_index=True)


def originals_and_copies(samples: Samples, alter: Alter, *, seed: int) -> tuple[Samples, Samples]:
    """Some samples and their altered copies, the same ones for the same seed; see :func:`rehearse`.

    What altering left as it was is in neither.
    """
    rng = np.random.default_rng(seed)
    chosen = samples.take(np.sort(rng.permutation(len(samples))[:N_ROWS]))
    copies = altered(chosen, alter, rng=rng)
    # a blank quarter erased, one answer throughout given by who gave it anyway: nothing to find
    differs = (copies.batch(slice(None))[0] != chosen.batch(slice(None))[0]).reshape(
        len(copies), -1
    )
    changed = np.flatnonzero(differs.any(1)) if differs.any() else slice(None)
    return chosen.take(changed), copies.take(changed)


def altered(samples: Samples, alter: Alter, *, rng: np.random.Generator) -> Samples:
    """Copies of samples, each changed in one known way; what is missing stays missing.

    Few may come out as they were (a blank quarter of an image erased);
    :func:`originals_and_copies` leaves those out.
    """
    values, mask = samples.batch(slice(None))
    values = alter(samples, values.copy(), rng)
    if mask is not None:
        values = np.where(mask, values, np.float32(0))
    return replace(samples, values=values, mask=mask, raw=None)


def _series(samples: Samples, values: Float, rng: np.random.Generator) -> Float:
    """A channel still, noisy, shifted or turned over, through the middle of a window."""
    n_channels, n_times = samples.shape
    middle = slice(n_times // 4, n_times - n_times // 4)
    for row in range(len(values)):
        part = values[row, int(rng.integers(n_channels)), middle]
        spread = float(values[row].std()) or 1.0
        if row % 4 == 0:
            part[:] = part[0]
        elif row % 4 == 1:
            part += rng.normal(0, 2 * spread, part.shape).astype(np.float32)
        elif row % 4 == 2:
            part += np.float32(4 * spread)
        else:
            part *= -1
    return values


def _images(samples: Samples, values: Float, rng: np.random.Generator) -> Float:
    """Turned by 90 degrees, negative, noisy, or with a quarter erased."""
    half_height, half_width = (n // 2 for n in samples.shape)
    for row in range(len(values)):
        image = values[row]
        if row % 4 == 0 and image.shape[0] == image.shape[1]:
            image = np.rot90(image)
        elif row % 4 == 1:
            image = 1 - image
        elif row % 4 == 2:
            image = np.clip(image + rng.normal(0, 0.3, image.shape), 0, 1)
        else:
            top, left = rng.integers(2) * half_height, rng.integers(2) * half_width
            image = image.copy()
            image[top : top + half_height, left : left + half_width] = 0
        values[row] = image
    return values


def _answers(samples: Samples, values: Float, rng: np.random.Generator) -> Float:
    """Random answers, one answer throughout, left-right-left, or random from the middle on.

    Random answers of items without levels are other people's.
    """
    others = np.empty_like(values)
    for at, column in enumerate(samples.columns):
        given = values[:, at] if samples.mask is None else values[samples.mask[:, at], at]
        possible = np.asarray(column.levels or given, np.float32)
        others[:, at] = rng.choice(possible, len(values)) if len(possible) else 0
    low = np.array([min(c.levels) if c.levels else np.nan for c in samples.columns])
    high = np.array([max(c.levels) if c.levels else np.nan for c in samples.columns])
    half = values.shape[1] // 2
    for row in range(len(values)):
        answers = others[row].copy()
        if row % 4 == 1:
            share = rng.random()
            answers = np.where(
                np.isnan(low), answers, _nearest(samples, low + share * (high - low))
            )
        elif row % 4 == 2:
            ends = np.where(np.arange(len(low)) % 2, high, low)
            answers = np.where(np.isnan(low), answers, ends)
        elif row % 4 == 3:
            answers[:half] = values[row, :half]
        values[row] = answers
    return values


def _nearest(samples: Samples, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The possible answer nearest to ``wanted``, for each item."""
    return np.array(
        [
            min(column.levels, key=lambda level, w=w: abs(level - w)) if column.levels else w  # type: ignore[misc]
            for column, w in zip(samples.columns, wanted, strict=True)
        ]
    )


ALTERATIONS: dict[Layout, Alter] = {"series": _series, "grid": _images, "table": _answers}
"""Simulated anomalies that fit any data of a layout."""


def summarise(frame: pd.DataFrame) -> dict[str, Any]:
    """Areas under the ROC curve, paired comparisons, and which scorer to take.

    Parameters
    ----------
    frame : DataFrame
        From :func:`rehearse`, of one or several models.

    Returns
    -------
    dict
        ``scorers`` (``roc_area`` and a 95% ``interval`` over units), ``beats_baselines`` for
        ``autoencoder`` and ``ensemble`` against the best baseline (``value``, ``difference``,
        ``interval``, ``against``), ``recommended``: the simplest scorer that does not lose to
        the best one, ``found_in_tenth`` (share of the altered that the ensemble finds more abnormal
        than nine tenths of the originals), ``units`` and ``rows``. Intervals are None for fewer
        than three units.
    """
    scores = {name: frame[name].to_numpy() for name in SIMPLEST_FIRST}
    unit = frame["unit"].to_numpy()
    drawn = _roc_areas(scores, frame["altered"].to_numpy(bool), unit=unit)
    areas = drawn[0]

    def compare(first: int, second: int) -> dict[str, Any]:
        difference = drawn[:, first] - drawn[:, second]
        limits = percentile_interval(difference[1:])
        value = None if limits is None else bool(limits[0] > 0)
        return {"value": value, "difference": float(difference[0]), "interval": limits}

    position = {name: i for i, name in enumerate(SIMPLEST_FIRST)}
    simple = max(BASELINES, key=lambda name: areas[position[name]])
    best = int(areas.argmax())
    recommended = next(
        name
        for i, name in enumerate(SIMPLEST_FIRST)
        if i == best or _not_worse(compare(i, best)["interval"], areas[i] - areas[best])
    )
    return {
        "scorers": {
            name: {"roc_area": float(areas[i]), "interval": percentile_interval(drawn[1:, i])}
            for i, name in enumerate(SIMPLEST_FIRST)
        },
        "beats_baselines": {
            name: {**compare(position[name], position[simple]), "against": simple}
            for name in ("autoencoder", "ensemble")
        },
        "recommended": recommended,
        "found_in_tenth": _found_in_tenth(frame),
        "units": len(np.unique(unit)),
        "rows": len(frame) // 2,
    }


def _found_in_tenth(frame: pd.DataFrame) -> float:
    score, altered = frame["ensemble"].to_numpy(), frame["altered"].to_numpy(bool)
    return float((score[altered] > np.quantile(score[~altered], 0.9)).mean())


def area_and_interval(
    scores: NDArray[np.float64], altered: NDArray[np.bool_], *, unit: NDArray[Any]
) -> tuple[float, list[float] | None]:
    """Area under the ROC curve of one scorer, and its 95% interval over units, as above.

    Parameters
    ----------
    scores, altered, unit : array of shape (n,)
        The interval is None for fewer than three units.
    """
    areas = _roc_areas({"": scores}, altered, unit=unit)[:, 0]
    return float(areas[0]), percentile_interval(areas[1:])


def _roc_areas(
    scores: dict[str, NDArray[np.float64]], altered: NDArray[np.bool_], *, unit: NDArray[Any]
) -> NDArray[np.float64]:
    """Areas of each scorer (columns): of the data (first row), then with units drawn again."""
    codes = np.unique(unit, return_inverse=True)[1]
    areas = CurveAreas(scores, codes, n_resamples=N_RESAMPLES)
    return np.stack([areas.curves(s, altered, negative=~altered)[0] for s in scores.values()], 1)


def _not_worse(interval: list[float] | None, difference: float) -> bool:
    """Not clearly below the best; without an interval, within a hundredth of it."""
    return difference >= -0.01 if interval is None else interval[1] >= 0
