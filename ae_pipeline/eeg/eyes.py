"""Eye movements found by ICA and taken away by one fixed map."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Recording
from ae_pipeline.eeg.interpolation import as_rows

if TYPE_CHECKING:
    import mne

__all__ = [
    "eye_map",
]


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
    *,
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
                return as_rows(whole), f"eyes regressed out ({', '.join(recording.eog)})"
            found, row = _ica_map(raw, list(good), eyes=list(eye_names) or proxies)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        raise InputError(
            f"recording {recording.name!r}: the eye correction could not be fitted "
            f"({type(error).__name__}); set preprocess.ocular to off"
        ) from None
    at = [names.index(name) for name in good]
    whole[np.ix_(at, at)] = found
    by = ", ".join(recording.eog) or " and ".join(proxies)
    return as_rows(whole), f"eyes taken out by ICA: {row} component(s) that follow {by}"


def _ica_map(
    raw: mne.io.BaseRaw, good: list[str], *, eyes: list[str]
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
