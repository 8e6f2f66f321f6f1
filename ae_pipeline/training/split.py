"""Who trains, who stops the training early, who calibrates, who is kept for the test.

Parts are made before anything is fitted and never share a subject where there are enough of
them. With few subjects the honest alternatives are named in :attr:`Division.claims`, which the
report repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ae_pipeline.config import Config
from ae_pipeline.data import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MIN_UNITS", "Division", "Split", "divide"]

MIN_UNITS = 8
"""With fewer subjects than this a part would rest on one or two of them."""

N_FOLDS = 5

FEW = (
    "Only {} rows: none is set apart for calibration. Each fifth is left out in turn and scored by "
    "a model that saw none of it (cross-conformal); the model that is kept learns from all of them."
)

ONE_SUBJECT = (
    "One subject only: parts are {} of this subject. Scores say what is unusual for this subject "
    "in these recordings; nothing can be claimed about other people."
)

BLOCKS = 24
"""Blocks of time a recording is cut into where parts must come from within it."""


class Split(Config):
    """How the data is divided; always whole subjects where there are at least eight."""

    by: Literal["subject", "recording"] = "subject"
    """What is never divided between parts; recording only where recordings of one subject may be
    taken as independent."""
    validation: float = Field(0.15, ge=0, lt=1)
    """Share that stops the training early."""
    calibration: float = Field(0.25, gt=0, lt=1)
    """Share that nothing is fitted on and that gives p-values and thresholds."""
    test: float = Field(0.2, ge=0, lt=1)
    """Share kept for the test loss and the comparison with simple methods."""
    seed: int = Field(0, ge=0)
    """Which subjects go where."""
    leave_out_below: int = Field(0, ge=0)
    """Tables and images: with fewer rows than this none is set apart; each fifth is left out in
    turn and scored by a model that saw none of it."""

    @model_validator(mode="after")
    def _something_left_to_train(self) -> Split:
        if self.validation + self.calibration + self.test > 0.9:
            total = self.validation + self.calibration + self.test
            raise ValueError(
                f"validation, calibration and test together take {total:.0%}; leave at least "
                "10% for training"
            )
        return self


@dataclass(frozen=True)
class Division:
    """The result: a part for each sample, or subjects to be left out in turn.

    Parameters
    ----------
    part : array of str, shape (n,)
        ``train``, ``validation``, ``calibration``, ``test``, or ``""`` for windows that would
        straddle two parts and are used in none.
    folds : tuple of arrays of int
        Where subjects are too few for a calibration part: the rows of each subject, to be
        scored by a model fitted without it.
    unit : str
        What is exchangeable: ``subject``, ``recording``, ``row`` or ``block``.
    claims : tuple of str
        What the division does not allow to be said.
    """

    part: NDArray[np.str_]
    folds: tuple[NDArray[np.int64], ...]
    unit: str
    claims: tuple[str, ...] = ()

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of a part."""
        return np.flatnonzero(self.part == part)


def divide(meta: pd.DataFrame, config: Split) -> Division:
    """Divide samples by subject, recording or block of time.

    Parameters
    ----------
    meta : DataFrame
        ``subject`` and ``recording``; ``onset_s`` and ``duration_s`` for windows; ``set`` where
        the data comes with official test rows (``train`` / ``t10k``).
    config : Split

    Returns
    -------
    Division

    Raises
    ------
    InputError
        Where a table has too few rows to be divided.
    """
    rng = np.random.default_rng(config.seed)
    windowed = "onset_s" in meta
    if "set" in meta and set(meta["set"]) == {"train", "t10k"}:
        return _official(meta, config, rng=rng)
    units = meta[config.by].to_numpy().astype(str)
    names = np.unique(units)
    shares = {
        "validation": config.validation,
        "calibration": config.calibration,
        "test": config.test,
    }
    if not windowed:
        if len(names) < MIN_UNITS:
            raise InputError(
                f"{len(names)} rows are too few: at least {MIN_UNITS} are needed to train, "
                "calibrate and test; collect more"
            )
        if len(names) < config.leave_out_below:
            fold = _deal_evenly(len(names), N_FOLDS, rng=rng)[
                np.unique(units, return_inverse=True)[1]
            ]
            folds = tuple(np.flatnonzero(fold == f) for f in range(N_FOLDS))
            part = _by_unit(units, {"validation": max(config.validation, 0.1)}, rng=rng)
            return Division(part, folds, "row", (FEW.format(len(units)),))
        return Division(_by_unit(units, shares, rng=rng), (), "row")
    subjects = meta["subject"].nunique()
    if subjects == 1:
        recordings = meta["recording"].to_numpy().astype(str)
        if len(np.unique(recordings)) < MIN_UNITS:
            part, claim = _time_blocks(meta, shares, rng=rng), ONE_SUBJECT.format("blocks of time")
            return Division(part, (), "block", (claim,))
        part, claim = _by_unit(recordings, shares, rng=rng), ONE_SUBJECT.format("recordings")
        return Division(part, (), "recording", (claim,))
    claims: tuple[str, ...] = ()
    if config.by == "recording":
        claims = (
            f"Parts are recordings of {subjects} subjects who may stand in several parts: nothing "
            "can be claimed about people who are not among them.",
        )
    if len(names) >= MIN_UNITS:
        return Division(_by_unit(units, shares, rng=rng), (), config.by, claims)
    few = (
        f"Only {len(names)} {config.by}s: each is left out in turn for calibration, and training "
        f"stops early on blocks of time of the training {config.by}s. p-values are coarse and "
        f"hold for {config.by}s like these only."
    )
    folds = tuple(np.flatnonzero(units == name) for name in names)
    part = _time_blocks(meta, {"validation": config.validation}, rng=rng)
    return Division(part, folds, config.by, (few, *claims))


def _official(meta: pd.DataFrame, config: Split, *, rng: np.random.Generator) -> Division:
    """Official training images train and validate; official test images calibrate and test."""
    official_test = (meta["set"] != "train").to_numpy()
    part = np.full(len(meta), "train", dtype="<U11")
    inside = rng.permutation(np.flatnonzero(~official_test))
    part[inside[: round(config.validation * len(inside))]] = "validation"
    held_out = rng.permutation(np.flatnonzero(official_test))
    share = config.calibration / (config.calibration + config.test)
    n_calibration = round(share * len(held_out))
    part[held_out[:n_calibration]] = "calibration"
    part[held_out[n_calibration:]] = "test"
    return Division(part, (), "row")


def _by_unit(
    units: NDArray[np.str_], shares: dict[str, float], *, rng: np.random.Generator
) -> NDArray[np.str_]:
    """A part for each row, the same for all rows of a unit."""
    names, codes = np.unique(units, return_inverse=True)
    return _deal(len(names), shares, rng=rng)[codes]


def _deal(n: int, shares: dict[str, float], *, rng: np.random.Generator) -> NDArray[np.str_]:
    """A part for each of ``n`` units; at least one for each part asked for and for training."""
    counts = {name: max(1, round(share * n)) if share else 0 for name, share in shares.items()}
    while sum(counts.values()) >= n:  # rounding up must not leave training with nothing
        counts[max(counts, key=lambda name: counts[name])] -= 1
    parts = np.full(n, "train", dtype="<U11")
    order = rng.permutation(n)
    start = 0
    for name, count in counts.items():
        parts[order[start : start + count]] = name
        start += count
    return parts


def _deal_evenly(n: int, n_folds: int, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold for each of ``n`` units, all of the same size but for one."""
    fold = np.empty(n, np.int64)
    fold[rng.permutation(n)] = np.arange(n) % min(n_folds, n)
    return fold


def _time_blocks(
    meta: pd.DataFrame, shares: dict[str, float], *, rng: np.random.Generator
) -> NDArray[np.str_]:
    """Cut every recording into blocks, give blocks to parts, leave out straddling windows."""
    part = np.full(len(meta), "", dtype="<U11")
    onset = meta["onset_s"].to_numpy()
    end = onset + meta["duration_s"].to_numpy()
    recordings = meta["recording"].to_numpy().astype(str)
    for recording in np.unique(recordings):
        rows = np.flatnonzero(recordings == recording)
        first, last = onset[rows].min(), end[rows].max()
        # a block holds at least three windows' lengths, or little of it could be used
        n_blocks = int(min(BLOCKS, max(4, (last - first) / (3 * (end - onset)[rows[0]]))))
        edges = np.linspace(first, last, n_blocks + 1)
        labels = _deal(n_blocks, shares, rng=rng)
        block_of_onset = np.clip(np.searchsorted(edges, onset[rows], "right") - 1, 0, n_blocks - 1)
        block_of_end = np.clip(np.searchsorted(edges, end[rows], "left") - 1, 0, n_blocks - 1)
        same = labels[block_of_onset] == labels[block_of_end]
        # a window over two neighbouring blocks of one part is that part's
        whole = same & (block_of_end - block_of_onset <= 1)
        part[rows[whole]] = labels[block_of_onset[whole]]
    return part
