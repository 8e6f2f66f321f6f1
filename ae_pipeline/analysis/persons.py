"""What a questionnaire's results say of persons and of items, as tables for people.

Nobody is excluded here: what is written proposes, and shows whom a flag would hit (by age, gender
and scale total, because an extreme sufferer is not a careless respondent).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column, Samples
from ae_pipeline.detectors.personfit import MANY_ROWS, AnswerPredictions, PersonFit
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.sources.items import group_columns
from ae_pipeline.stats import share_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "N_SHOWN",
    "PROPOSED",
    "answers_frame",
    "describe",
    "flag_rates",
    "items_frame",
    "persons_frame",
    "scale_totals",
]

PROPOSED = 0.1
"""P-value up to which a person is proposed for a look: as unlike the others as the most unlike
tenth of those that calibrate. Surveys find a tenth careless (Meade and Craig, 2012)."""

N_SHOWN = 40
"""People whose answers are written beside what was expected of them, most abnormal first."""

ITEM_ROWS = 5000
"""People that the relations between items are taken from, at most."""

N_GROUPS = 4
"""Parts that a number (an age, a total) is cut into."""

REDUNDANT = 0.7
"""Correlation at which two items ask the same."""


def scale_totals(samples: Samples) -> pd.DataFrame:
    """Mean and sum of each scale's answers after reverse keying.

    Returns
    -------
    DataFrame
        For each scale ``total_NAME``, the mean of the answers given, and ``sum_NAME``, that mean
        times the number of items (so a missing answer counts as the person's mean).
    """
    import pandas as pd

    values, mask = samples.batch(slice(None))
    known = np.ones(values.shape, bool) if mask is None else mask
    found: dict[str, NDArray[np.float64]] = {}
    for scale in dict.fromkeys(column.block for column in samples.columns if column.block):
        at = [i for i, c in enumerate(samples.columns) if c.block == scale and c.type != "nominal"]
        if at:
            n = known[:, at].sum(1)
            total = np.where(known[:, at], values[:, at], 0).sum(1) / np.maximum(n, 1)
            found[f"total_{scale}"] = np.where(n > 0, total, np.nan)
            found[f"sum_{scale}"] = found[f"total_{scale}"] * len(at)
    return pd.DataFrame(found, index=range(len(samples)))


def persons_frame(
    person: PersonFit, samples: Samples, *, source: Any, predictions: AnswerPredictions
) -> pd.DataFrame:
    """Indices, onset, groups and totals of each person, in the order of ``samples``.

    Parameters
    ----------
    person : PersonFit
    samples : Samples
    source : QuestionnaireSource
        Says which columns are groups.
    predictions : AnswerPredictions
        ``person.predict_answers(samples)``.
    """
    import pandas as pd

    meta = samples.meta.reset_index(drop=True)
    groups = group_columns([str(n) for n in meta if n not in ("recording", "subject")], source)
    parts = [
        person.indices(samples, predictions).add_prefix("index_"),
        person.onset(samples, predictions),
        scale_totals(samples),
        meta[groups].add_prefix("group_"),
        meta[[name for name in ("checks_failed",) if name in meta]],
    ]
    return pd.concat([part.reset_index(drop=True) for part in parts], axis=1)


@one_thread()
def describe(
    person: PersonFit,
    samples: Samples,
    *,
    source: Any,
    frame: pd.DataFrame,
    latents: NDArray[np.float32],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All three tables of a questionnaire, a part of the people at a time.

    Parameters
    ----------
    person : PersonFit
    samples : Samples
    source : QuestionnaireSource
    frame : DataFrame
        Scores, in the order of ``samples``.
    latents : array of shape (n, latent_dim)

    Returns
    -------
    persons, answers, items : DataFrame
        From :func:`persons_frame`, :func:`answers_frame` and :func:`items_frame` (the latter on
        at most 5,000 people, but for its counts).
    """
    import pandas as pd

    parts, n_known, surprise = [], 0, 0.0
    for rows in samples.chunks(MANY_ROWS):
        some = samples.take(rows)
        predictions = person.predict_answers(some)
        parts.append(persons_frame(person, some, source=source, predictions=predictions))
        n_known = n_known + predictions.answers.known.sum(0)
        surprise = surprise + predictions.surprise.sum(0)
    worst = np.argsort(-frame["score"].to_numpy(), kind="stable")[:N_SHOWN]
    shown = samples.take(worst)
    answers = answers_frame(shown, person.predict_answers(shown), frame=frame.iloc[worst])
    chosen = np.sort(np.random.default_rng(0).permutation(len(samples))[:ITEM_ROWS])
    some = samples.take(chosen)
    items = items_frame(some, person.predict_answers(some), latents=latents[chosen])
    items["answered"], items["total_error"] = n_known, surprise
    return pd.concat(parts, ignore_index=True), answers, items


def answers_frame(
    samples: Samples, predictions: AnswerPredictions, *, frame: pd.DataFrame, n_shown: int = N_SHOWN
) -> pd.DataFrame:
    """The most abnormal people's answers beside what was expected of them, one row an answer.

    Returns
    -------
    DataFrame
        ``recording``, ``item``, ``scale``, ``position`` (in the order of presentation, from 1;
        empty where it is not known), ``answer`` and ``expected`` (before reverse keying),
        ``probability`` of the answer given the person's other answers, ``surprise`` (minus its
        natural logarithm), ``usual_surprise``, ``lowest`` and ``highest`` (possible answer; empty
        where there is no such).
    """
    import pandas as pd

    rows = np.argsort(-frame["score"].to_numpy(), kind="stable")[:n_shown]
    columns: Sequence[Column] = samples.columns
    ends = np.array([_ends(column) for column in columns])
    parts = []
    for row in rows:
        known = np.flatnonzero(predictions.answers.known[row])
        parts.append(
            pd.DataFrame(
                {
                    "recording": frame["recording"].iloc[row],
                    "item": [columns[int(j)].name for j in known],
                    "scale": [columns[int(j)].block for j in known],
                    "position": pd.array(
                        [_from_one(columns[int(j)].position) for j in known], dtype="Int64"
                    ),
                    "answer": predictions.answers.given[row, known],
                    "expected": np.round(predictions.expected[row, known], 2),
                    "probability": np.round(predictions.probability[row, known], 4),
                    "surprise": np.round(predictions.surprise[row, known], 3),
                    "usual_surprise": np.round(predictions.usual[row, known], 3),
                    "lowest": ends[known, 0],
                    "highest": ends[known, 1],
                }
            )
        )
    out = pd.concat(parts, ignore_index=True)
    by = ["position"] if out["position"].notna().all() else []
    if by:
        order = {name: i for i, name in enumerate(dict.fromkeys(out["recording"]))}
        out = out.assign(_p=out["recording"].map(order)).sort_values(["_p", *by], kind="stable")
        out = out.drop(columns="_p").reset_index(drop=True)
    return out


def _ends(column: Column) -> tuple[float, float]:
    """Lowest and highest possible answer."""
    if column.levels:
        return float(column.levels[0]), float(column.levels[-1])
    return column.bounds or (np.nan, np.nan)


def _from_one(position: int | None) -> Any:
    import pandas as pd

    return pd.NA if position is None else position + 1


def flag_rates(persons: pd.DataFrame) -> pd.DataFrame:
    """Whom flags hit: shares of flagged people by group and scale total.

    Parameters
    ----------
    persons : DataFrame
        ``flagged``, ``score``, and columns ``group_NAME`` and ``total_NAME``.

    Returns
    -------
    DataFrame
        ``by``, ``value``, ``people``, ``flagged``, ``share_flagged`` with a 95% interval (Wilson,
        1927), and ``share_of_worst``: the share that is among the most abnormal tenth of all,
        which is a tenth where the score does not depend on the group, with its interval
        (``worst_low``, ``worst_high``).
    """
    import pandas as pd

    limit = persons["score"].quantile(0.9)
    rows = []
    for name in (c for c in map(str, persons) if c.startswith(("group_", "total_"))):
        for value, part in _cut(persons[name], persons):
            n, n_flagged = len(part), int(part["flagged"].sum())
            low, high = share_interval(n_flagged, n)
            n_worst = int((part["score"] > limit).sum())
            worst_low, worst_high = share_interval(n_worst, n)
            rows.append(
                {
                    "by": name.partition("_")[2] if name.startswith("group_") else name,
                    "value": value,
                    "people": n,
                    "flagged": n_flagged,
                    "share_flagged": n_flagged / n,
                    "low": low,
                    "high": high,
                    "share_of_worst": n_worst / n,
                    "worst_low": worst_low,
                    "worst_high": worst_high,
                }
            )
    columns = ["by", "value", "people", "flagged", "share_flagged", "low", "high"]
    columns += ["share_of_worst", "worst_low", "worst_high"]
    return pd.DataFrame(rows, columns=columns)


def _cut(values: pd.Series[Any], persons: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """People by value, or by quarters of it where it is a number with many values."""
    import pandas as pd

    known = values.dropna()
    if known.empty or (known.nunique() > 12 and not pd.api.types.is_numeric_dtype(known)):
        return []
    if known.nunique() > 2 * N_GROUPS:
        parts = pd.qcut(known, N_GROUPS, duplicates="drop")
        labels = {
            part: f"{known[parts == part].min():.4g} to {known[parts == part].max():.4g}"
            for part in parts.cat.categories
        }
        return [(labels[part], persons.loc[parts.index[parts == part]]) for part in labels]
    return [
        (f"{value:g}" if isinstance(value, float) else str(value), persons[values == value])
        for value in sorted(known.unique(), key=str)
    ]


def items_frame(
    samples: Samples, predictions: AnswerPredictions, *, latents: NDArray[np.float32]
) -> pd.DataFrame:
    """The view of items: predicted badly, carrying the latents, asking the same.

    Returns
    -------
    DataFrame
        One row an item: ``item``, ``scale``, ``answered``, ``total_error`` (sum of surprises),
        ``predicted`` (share of the uncertainty of its answers, their entropy, that the person's
        other answers take away: 0 for an item that goes with nothing), ``carries`` (share of the
        latents' variance that the item accounts for by itself, mean over latents),
        ``latent`` and ``latent_r`` (the latent it goes with most), ``nearest_item`` and
        ``nearest_r`` (the item whose answers are most like its own) and ``remark``.
    """
    import pandas as pd

    known, keyed = predictions.answers.known, predictions.answers.keyed
    n_items = known.shape[1]
    entropy = np.array(
        [_entropy(predictions.answers.level[known[:, j], j]) for j in range(n_items)]
    )
    n_known = np.maximum(known.sum(0), 1)
    mean = predictions.surprise.sum(0) / n_known
    related = np.nan_to_num(_correlate(keyed, np.asarray(latents, np.float64)))
    own = np.nan_to_num(_correlate(keyed, keyed))
    np.fill_diagonal(own, 0.0)
    nearest = np.abs(own).argmax(1)
    nearest_r = own[np.arange(n_items), nearest]
    top = np.abs(related).argmax(1)
    names = np.array([column.name for column in samples.columns], dtype=object)
    predicted = np.where(entropy > 1e-9, 1 - mean / np.maximum(entropy, 1e-9), 0.0)
    remarks = []
    for j in range(n_items):
        said = []
        answers = keyed[known[:, j], j]
        if not len(answers) or np.ptp(answers) == 0:
            said.append("one answer only: says nothing about anybody")
        elif predicted[j] < 0.02:
            said.append("goes with no other item")
        if abs(nearest_r[j]) >= REDUNDANT:
            said.append(f"asks the same as {names[nearest[j]]}")
        remarks.append("; ".join(said))
    return pd.DataFrame(
        {
            "item": names,
            "scale": [column.block for column in samples.columns],
            "answered": known.sum(0),
            "total_error": predictions.surprise.sum(0),
            "predicted": predicted,
            "carries": (related**2).mean(1),
            "latent": [f"z{k:02d}" for k in top],
            "latent_r": related[np.arange(n_items), top],
            "nearest_item": names[nearest],
            "nearest_r": nearest_r,
            "remark": remarks,
        }
    )


def _entropy(levels: NDArray[np.int64]) -> float:
    if not len(levels):
        return 0.0
    share = np.bincount(levels) / len(levels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _correlate(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations of columns over the rows that both have, (columns of a, columns of b)."""
    import pandas as pd

    joined = pd.DataFrame(np.hstack([a, b])).corr(min_periods=10).to_numpy()
    return np.asarray(joined[: a.shape[1], a.shape[1] :], dtype=np.float64)
