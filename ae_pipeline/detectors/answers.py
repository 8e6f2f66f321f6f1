"""Answers of a table as levels and positions, and what is known of its items."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column, Samples

__all__ = [
    "BINS",
    "Answers",
    "coded",
    "declared_scale_numbers",
    "in_used_range",
    "level_counts",
    "mean_positions",
    "possible_ranges",
    "presentation_order",
    "range_numbers",
    "scale_numbers",
    "used_ranges",
]

Float = NDArray[np.float64]

BINS = 7
"""Levels that a continuous item is cut into."""


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


def coded(samples: Samples, low: Float, *, high: Float, used: Float | None = None) -> Answers:
    """Answers as levels and as positions in the range ``low`` to ``high`` of each item.

    Parameters
    ----------
    samples : Samples
    low, high : array of shape (items,)
    used : array of shape (items, 2), optional
        From :func:`used_ranges`: what the levels of continuous items divide.
    """
    values, mask = samples.batch(slice(None))
    known = np.ones(values.shape, bool) if mask is None else mask
    width = np.where(high > low, high - low, 1.0)
    keyed = np.where(known, (values - low) / width, np.nan)
    count = level_counts(samples.columns)
    with np.errstate(invalid="ignore"):
        within = keyed if used is None or not len(used) else in_used_range(keyed, used)
        level = np.rint(np.clip(within, 0, 1) * (count - 1))
    level = np.where(known, level, -1).astype(np.int64)
    turned = np.array([column.reverse for column in samples.columns], bool)
    raw = np.where(turned, 1 - keyed, keyed)
    given = np.where(known, np.where(turned, low + high - values, values), np.nan)
    return Answers(level, keyed, raw, given)


def level_counts(columns: Sequence[Column]) -> NDArray[np.int64]:
    """Return how many levels each item has."""
    return np.array([len(column.levels) or BINS for column in columns], np.int64)


def _numbered(names: Sequence[object]) -> NDArray[np.int64]:
    """A number for each different name, in order of appearance; -1 for an empty one."""
    found: dict[object, int] = {}
    for name in names:
        if name:
            found.setdefault(name, len(found))
    return np.array([found.get(name, -1) if name else -1 for name in names], np.int64)


def scale_numbers(columns: Sequence[Column]) -> NDArray[np.int64]:
    """A number for each item's scale; items of none go by their range."""
    names: list[object] = [column.block or ("range", _range_of(column)) for column in columns]
    return _numbered(names)


def declared_scale_numbers(columns: Sequence[Column]) -> NDArray[np.int64]:
    """Return a number for each item's declared scale; -1 for items of none."""
    return _numbered([column.block for column in columns])


def range_numbers(columns: Sequence[Column]) -> NDArray[np.int64]:
    """A number for each range of answers."""
    return _numbered([_range_of(column) for column in columns])


def _range_of(column: Column) -> tuple[object, ...]:
    if column.type == "nominal":
        return ("nominal", column.name)
    if column.levels:
        return ("levels", column.levels[0], column.levels[-1])
    return ("bounds", column.bounds)


def presentation_order(columns: Sequence[Column]) -> NDArray[np.int64] | None:
    """Items in the order people saw them; None where it is not known."""
    places = [column.position for column in columns if column.position is not None]
    if not places or len(places) < len(columns):
        return None
    return np.argsort(np.array(places), kind="stable")


def possible_ranges(samples: Samples) -> tuple[Float, Float]:
    """Return each item's lowest and highest answer: as declared, else as seen."""
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


def used_ranges(keyed: Float, columns: Sequence[Column]) -> Float:
    """Return the part of its range that each item's levels divide, (items, 2) positions.

    The whole range, but for a continuous item nearly all of whose answers lie within less than
    half of it: cut over the whole range they would be one level.
    """
    used = np.tile([0.0, 1.0], (len(columns), 1))
    for j, column in enumerate(columns):
        known = keyed[~np.isnan(keyed[:, j]), j]
        if column.levels or not len(known):
            continue
        ends = np.quantile(known, (0.01, 0.99))
        if 0 < ends[1] - ends[0] < 0.5:
            used[j] = ends
    return used


def in_used_range(positions: Float, used: Float) -> Float:
    """Positions in the possible range as positions in the used part of it."""
    return np.asarray((positions - used[:, 0]) / (used[:, 1] - used[:, 0]), dtype=np.float64)


def mean_positions(keyed: Float) -> Float:
    """Return each item's mean position; the middle for an item that nobody answered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nan_to_num(np.nanmean(keyed, 0), nan=0.5))
