"""Stretches in which a recording holds no numbers: part of no segment, so masked for everybody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Recording

__all__ = ["HasHoles", "is_hole", "without_holes"]

BLOCK_S = 60.0


class HasHoles(Exception):
    """Most channels hold no numbers at some place."""


def is_hole(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the samples at which most channels, of those that hold numbers at all, hold none.

    Parameters
    ----------
    missing : array of shape (channels, times)
    """
    alive = ~missing.all(axis=1)
    if not alive.any():
        return np.ones(missing.shape[1], bool)
    return np.asarray(missing[alive].mean(axis=0) > 0.5)


def without_holes(recording: Recording) -> tuple[Recording, str]:
    """Return the recording with its segments around stretches without numbers, and a note.

    Raises
    ------
    InputError
        Nothing is left.
    """
    step = max(1, round(BLOCK_S * recording.sfreq_hz))
    segments, lost, stretches = [], 0, 0
    for begin, end in recording.segments:
        hole = np.concatenate(
            [
                is_hole(~np.isfinite(recording.read(a, min(a + step, end))))
                for a in range(begin, end, step)
            ]
        )
        edges = np.flatnonzero(np.diff(np.concatenate([[True], hole, [True]]).astype(np.int8)))
        segments += [(begin + int(a), begin + int(b)) for a, b in edges.reshape(-1, 2)]
        lost += int(hole.sum())
        stretches += int((np.diff(np.concatenate([[False], hole]).astype(np.int8)) > 0).sum())
    if not segments:
        raise InputError(
            f"recording {recording.name!r} holds no numbers (NaN) in most channels from beginning "
            "to end; export it again or drop it"
        )
    places = "1 stretch" if stretches == 1 else f"{stretches} stretches"
    note = (
        f"most channels hold no numbers (NaN) for {lost / recording.sfreq_hz:.3g} s in {places}: "
        "left out"
    )
    return replace(recording, segments=tuple(segments)), note
