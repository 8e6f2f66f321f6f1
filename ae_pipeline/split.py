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

BLOCKS = 24
"""Blocks of time a recording is cut into where parts must come from within it."""


class Split(Config):
    """How the data is divided; always whole subjects where there are at least eight."""

    by: Literal["subject", "recording"] = "subject"
    """What is never divided between parts; 'recording' only where recordings of one subject may be taken as independent."""
    validation: float = Field(0.15, ge=0, lt=1)
    """Share that stops the training early."""
    calibration: float = Field(0.25, gt=0, lt=1)
    """Share that nothing is fitted on and that gives p-values and thresholds."""
    test: float = Field(0.2, ge=0, lt=1)
    """Share kept for the test loss and the comparison with simple methods."""
    seed: int = Field(0, ge=0)
    """Which subjects go where."""

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
    if "set" in meta and meta["set"].nunique() == 2:
        return _official(meta, config, rng)
    units = meta[config.by].to_numpy().astype(str)
    names = np.unique(units)
    if len(names) >= MIN_UNITS:
        part = _by_unit(units, names, config, rng)
        return Division(part, (), config.by if windowed else "row")
    if not windowed:
        raise InputError(
            f"{len(names)} rows are too few: at least {MIN_UNITS} are needed to train, calibrate "
            "and test; collect more"
        )
    if len(names) > 1:
        folds = tuple(np.flatnonzero(units == name) for name in names)
        part = _time_blocks(meta, {"validation": config.validation}, rng)
        return Division(
            part,
            folds,
            config.by,
            (
                f"Only {len(names)} subjects: each is left out in turn for calibration, and "
                "training stops early on blocks of time of the training subjects. p-values are "
                "coarse and hold for subjects like these only.",
            ),
        )
    one = (
        "One subject only: parts are {} of this subject. Scores say what is unusual for this "
        "subject in these recordings; nothing can be claimed about other people."
    )
    recordings = meta["recording"].to_numpy().astype(str)
    several = np.unique(recordings)
    if len(several) >= MIN_UNITS:
        part = _by_unit(recordings, several, config, rng)
        return Division(part, (), "recording", (one.format("recordings"),))
    shares = {
        "validation": config.validation,
        "calibration": config.calibration,
        "test": config.test,
    }
    return Division(_time_blocks(meta, shares, rng), (), "block", (one.format("blocks of time"),))


def _official(meta: pd.DataFrame, config: Split, rng: np.random.Generator) -> Division:
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
    units: NDArray[np.str_], names: NDArray[np.str_], config: Split, rng: np.random.Generator
) -> NDArray[np.str_]:
    shuffled = rng.permutation(names)
    part = np.full(len(units), "train", dtype="<U11")
    start = 0
    for name in ("validation", "calibration", "test"):
        share = getattr(config, name)
        n = max(1, round(share * len(names))) if share else 0
        part[np.isin(units, shuffled[start : start + n])] = name
        start += n
    return part


def _time_blocks(
    meta: pd.DataFrame, shares: dict[str, float], rng: np.random.Generator
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
        labels = np.full(n_blocks, "train", dtype="<U11")
        order = rng.permutation(n_blocks)
        start = 0
        for name, share in shares.items():
            n = max(1, round(share * n_blocks)) if share else 0
            labels[order[start : start + n]] = name
            start += n
        block_of_onset = np.clip(np.searchsorted(edges, onset[rows], "right") - 1, 0, n_blocks - 1)
        block_of_end = np.clip(np.searchsorted(edges, end[rows], "left") - 1, 0, n_blocks - 1)
        same = labels[block_of_onset] == labels[block_of_end]
        # a window over two neighbouring blocks of one part is that part's
        whole = same & (block_of_end - block_of_onset <= 1)
        part[rows[whole]] = labels[block_of_onset[whole]]
    return part
