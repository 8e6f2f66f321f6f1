"""Linear maps over channels: what one electrode would have seen, from the others.

Conventions: positions are metres in MNE's head frame, (channels, 3), NaN where not known; a map is
(rows to make, rows it is made from), so that ``map @ signal`` is a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import SAME_PLACE, InputError, Recording

if TYPE_CHECKING:
    pass

__all__ = [
    "MOST_INTERPOLATED",
    "as_rows",
    "spline_weights",
    "with_channels",
]

Float = NDArray[np.float32]

MOST_INTERPOLATED = 0.25
"""Share of a montage that may be interpolated; beyond, the others no longer carry it."""

LEAST_KNOWN = 8
"""Electrodes that a spherical spline needs to mean anything."""


def spline_weights(positions_m: NDArray[np.float64], good: NDArray[np.bool_]) -> Float:
    """Weights that make the other channels from the good ones, by spherical splines.

    MNE's own ``interpolate_bads`` (Perrin et al. 1989), applied to unit signals, so that the
    result is a matrix that can be streamed.

    Parameters
    ----------
    positions_m : array of shape (channels, 3)
    good : array of bool of shape (channels,)

    Returns
    -------
    array of shape (channels not good, good channels), float32

    Raises
    ------
    ValueError
        A position is not known, or too few channels are good.
    """
    import mne

    if not np.isfinite(positions_m).all() or good.sum() < LEAST_KNOWN:
        raise ValueError("positions of all channels and eight good channels are needed")
    names = [str(i) for i in range(len(good))]
    units = np.zeros((len(good), int(good.sum())))
    units[good] = np.eye(int(good.sum()))
    raw = mne.io.RawArray(units, mne.create_info(names, 100.0, "eeg"), verbose="ERROR")
    places = dict(zip(names, positions_m, strict=True))
    raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="ERROR")
    raw.info["bads"] = [name for name, is_good in zip(names, good, strict=True) if not is_good]
    raw.interpolate_bads(reset_bads=False, verbose="ERROR")
    weights: Float = raw.get_data()[~good].astype(np.float32)
    return weights


def with_channels(
    recording: Recording,
    ch_names: tuple[str, ...],
    *,
    positions_m: NDArray[np.float64] | None = None,
) -> Recording:
    """The recording with just these channels; missing ones interpolated where positions are given.

    Parameters
    ----------
    recording : Recording
    ch_names : tuple of str
    positions_m : array of shape (channels, 3), optional
        Where ``ch_names`` are; with None a missing channel is refused.

    Raises
    ------
    InputError
        A channel is missing and may not or cannot be interpolated.
    """
    have = {SAME_PLACE.get(name, name) for name in recording.ch_names}
    missing = [name for name in ch_names if SAME_PLACE.get(name, name) not in have]
    if not missing or positions_m is None or len(positions_m) != len(ch_names):
        return recording.pick(ch_names)
    present = tuple(name for name in ch_names if name not in missing)
    if len(missing) > MOST_INTERPOLATED * len(ch_names) or recording.bipolar:
        why = (
            "differences of electrodes cannot be interpolated"
            if recording.bipolar
            else f"at most {MOST_INTERPOLATED:.0%} may be interpolated"
        )
        raise InputError(
            f"recording {recording.name!r} lacks {len(missing)} of {len(ch_names)} channels "
            f"({_some(missing)}); {why}; use a model trained on its montage"
        )
    good = np.array([name in present for name in ch_names])
    try:
        weights = spline_weights(positions_m, good)
    except ValueError:
        raise InputError(
            f"recording {recording.name!r} lacks {_some(missing)}, which cannot be interpolated: "
            "positions of all channels and eight good ones are needed; set source.montage or "
            "source.different_channels to intersection"
        ) from None
    known = recording.pick(present)
    reader, n_channels = known.reader, len(ch_names)

    def filled(start: int, stop: int) -> Float:
        values = reader(start, stop)
        out = np.empty((n_channels, values.shape[1]), np.float32)
        out[good] = values
        out[~good] = weights @ values
        return out

    names = dict(zip(present, known.file_names, strict=True))
    return replace(
        known,
        ch_names=ch_names,
        file_names=tuple(names.get(name, name) for name in ch_names),
        positions_m=positions_m,
        reader=filled,
        filled=tuple(missing),
        notes=(*known.notes, f"not in the file, interpolated from the others: {_some(missing)}"),
    )


# --------------------------------------------------------------------------------- eyes


def as_rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Return a matrix as nested tuples, which can be hashed and compared."""
    return tuple(tuple(row) for row in matrix.tolist())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
