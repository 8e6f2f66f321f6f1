"""Linear maps over channels: what one electrode would have seen, from the others.

Conventions: positions are metres in MNE's head frame, (channels, 3), NaN where not known; a map is
(rows to make, rows it is made from), so that ``map @ signal`` is a signal.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import SAME_PLACE, InputError, Recording

if TYPE_CHECKING:
    import mne

__all__ = ["MOST_INTERPOLATED", "eye_map", "spline_weights", "with_channels"]

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

EYES_FIT_S = 300.0
"""Signal that eye maps are fitted on, spread over the recording."""

EYES_STRETCH_S = 20.0
EYES_SFREQ_HZ = 128.0
FRONTAL = ("Fp1", "Fp2", "Fpz", "AF7", "AF8")
"""Where eye movements are largest, for want of EOG channels."""

MOST_EYE_COMPONENTS = 3


def eye_map(
    recording: Recording,
    segments: tuple[tuple[int, int], ...],
    good: tuple[str, ...],
    how: Literal["regression", "ica"],
) -> tuple[tuple[tuple[float, ...], ...], str]:
    """The map that takes the eyes out of a recording, and what is said about it.

    Fitted on up to five minutes spread over the recording, high-passed at 1 Hz, by MNE:
    ``EOGRegression`` (Gratton et al. 1983; all channels) or ``ICA`` (FastICA; good channels) with
    the components that ``find_bads_eog`` names, at most three.

    Parameters
    ----------
    recording : Recording
    segments : tuple of (start, stop)
        Where the recording may be looked at.
    good : tuple of str
        Channels that may be learned from.
    how : {'regression', 'ica'}

    Returns
    -------
    map : tuple of tuple of float
        (channels, channels + eye channels), for channels above eye channels.
    note : str

    Raises
    ------
    InputError
        No channel that shows the eyes, or the fit fails.
    """
    import mne

    names = recording.ch_names
    eye_names = tuple(f"EOG {name}" for name in recording.eog)
    if how == "regression" and not eye_names:
        raise InputError(
            f"recording {recording.name!r} has no EOG channel to regress on; set preprocess.ocular "
            "to ica or off"
        )
    proxies = [name for name in FRONTAL if name in good][:2]
    if how == "ica" and not eye_names and not proxies:
        raise InputError(
            f"recording {recording.name!r} has neither EOG nor frontal channels (Fp1, Fp2, ...) to "
            "know eye components by; set preprocess.ocular to off"
        )
    kinds = ["eeg"] * len(names) + ["eog"] * len(eye_names)
    info = mne.create_info([*names, *eye_names], recording.sfreq_hz, kinds, verbose="ERROR")
    raw = mne.io.RawArray(_stretches(recording, segments), info, verbose="ERROR")
    raw.filter(1.0, None, verbose="ERROR")  # across joints: they are a few among many samples
    raw.info["bads"] = [name for name in names if name not in good]
    whole = np.eye(len(names), len(names) + len(eye_names))
    try:
        with warnings.catch_warnings(), mne.use_log_level("ERROR"):
            warnings.simplefilter("ignore")
            if how == "regression":
                raw.set_eeg_reference([], verbose="ERROR")
                model = mne.preprocessing.EOGRegression(picks="eeg", exclude=[]).fit(raw)
                whole[:, len(names) :] = -model.coef_
                return _rows(whole), f"eyes regressed out ({', '.join(recording.eog)})"
            found, row = _ica_map(raw, list(good), list(eye_names) or proxies)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        raise InputError(
            f"recording {recording.name!r}: the eye correction could not be fitted "
            f"({type(error).__name__}); set preprocess.ocular to off"
        ) from None
    at = [names.index(name) for name in good]
    whole[np.ix_(at, at)] = found
    by = ", ".join(recording.eog) or " and ".join(proxies)
    return _rows(whole), f"eyes taken out by ICA: {row} component(s) that follow {by}"


def _ica_map(
    raw: mne.io.BaseRaw, good: list[str], eyes: list[str]
) -> tuple[NDArray[np.float64], int]:
    """Map over the good channels without the components that follow the eyes."""
    import mne

    decim = max(1, int(raw.info["sfreq"] / EYES_SFREQ_HZ))
    n_components = min(len(good) - 1, 30)
    ica = mne.preprocessing.ICA(n_components, random_state=0, max_iter=500, verbose="ERROR")
    ica.fit(raw, picks=good, decim=decim, verbose="ERROR")
    ica.exclude = ica.find_bads_eog(raw, ch_name=eyes, verbose="ERROR")[0][:MOST_EYE_COMPONENTS]
    info = mne.create_info(good, raw.info["sfreq"], "eeg", verbose="ERROR")
    made = []
    for units in (np.zeros((len(good), len(good))), np.eye(len(good))):
        # ICA takes a mean away before it maps: what a unit adds to nothing is the map
        made.append(ica.apply(mne.io.RawArray(units, info, verbose="ERROR"), verbose="ERROR"))
    return made[1].get_data() - made[0].get_data(), len(ica.exclude)


def _stretches(recording: Recording, segments: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
    """Signal of channels and eye channels from all over a recording, end to end, in volts."""
    n = round(EYES_STRETCH_S * recording.sfreq_hz)
    pieces = [(a, min(a + n, stop)) for start, stop in segments for a in range(start, stop, n)]
    n_pieces = max(1, round(EYES_FIT_S / EYES_STRETCH_S))
    chosen = np.unique(np.linspace(0, len(pieces) - 1, n_pieces).round().astype(int))
    parts = []
    for start, stop in (pieces[i] for i in chosen):
        both = [recording.read(start, stop)]
        if recording.eog_reader is not None:
            both.append(recording.eog_reader(start, stop))
        part = np.nan_to_num(np.concatenate(both)).astype(np.float64)
        parts.append(part - np.median(part, axis=1, keepdims=True))
    return np.concatenate(parts, axis=1) * 1e-6


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
