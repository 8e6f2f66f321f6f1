"""A recording with what was predicted of it, everything else as in the file.

The file is opened by MNE (EDF to EDF by edfio, digital values as they are), so that its other
channels, events, filter state and dates stay. Names of persons do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import Recording
from ae_pipeline.eeg.preprocess import Plan
from ae_pipeline.runtime.files import write_through
from ae_pipeline.sources.formats.edf import VOLTS, unique_names
from ae_pipeline.sources.formats.mne_files import open_raw

if TYPE_CHECKING:
    import mne

__all__ = ["Predicted", "write_completed"]

Float = NDArray[np.float32]

EDGE_S = 0.1
"""Signal on either side of a hidden stretch whose level the prediction is brought to."""

LARGEST_FIF = 2**31 - 2**24
"""Bytes that one FIF file can hold."""


@dataclass(frozen=True)
class Predicted:
    """Channels of a cleaned recording of which some or all samples are predicted.

    Parameters
    ----------
    names : tuple of str
        As the file spells them; those that it lacks are added to it.
    values : array of shape (channels, times)
        Microvolts at ``plan.rate_hz``, in the file's own reference.
    made : array of bool of shape (channels, times)
        True where predicted.
    whole : array of bool of shape (channels,)
        True where nothing of a channel is kept.
    parts : sequence of (start, stop)
        Where each of ``plan.segments`` lies among the times.
    plan : Plan
    positions_m : array of shape (channels, 3)
    """

    names: tuple[str, ...]
    values: Float
    made: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    parts: Sequence[tuple[int, int]]
    plan: Plan
    positions_m: NDArray[np.float64]

    def at_rate(
        self, recording: Recording, row: int, *, rate_hz: float, n_times: int
    ) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield first sample, values and what is predicted of each segment, at the file's rate."""
        from scipy.ndimage import map_coordinates

        for (first, last), (begin, end) in zip(self.plan.segments, self.parts, strict=True):
            if not self.made[row, begin:end].any():
                continue
            begin_s = recording.time_in_file_s(first / recording.sfreq_hz)
            end_s = begin_s + (last - first) / recording.sfreq_hz
            start = ceil(begin_s * rate_hz - 1e-6)
            stop = min(ceil(end_s * rate_hz - 1e-6), n_times)
            at = (np.arange(start, stop) / rate_hz - begin_s) * self.plan.rate_hz
            values = map_coordinates(
                self.values[row, begin:end].astype(np.float64), at[None], order=3, mode="nearest"
            )
            nearest = np.clip(np.rint(at).astype(int), 0, end - begin - 1)
            yield start, values, self.made[row, begin:end][nearest]


def _fill(
    known_uv: NDArray[np.float64],
    predicted: Predicted,
    row: int,
    *,
    recording: Recording,
    rate_hz: float,
) -> list[tuple[float, float]]:
    """Put what is predicted of a channel into its signal; return where, as onset and duration.

    A stretch is brought to the level of the signal before and after it.
    """
    n_edge, filled = max(1, round(EDGE_S * rate_hz)), []
    for start, values, made in predicted.at_rate(
        recording, row, rate_hz=rate_hz, n_times=len(known_uv)
    ):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], made, [False]]).astype(int)))
        for a, b in edges.reshape(-1, 2).tolist():
            here = known_uv[start : start + len(values)]
            levels = [
                float(np.mean(here[side] - values[side]))
                for side in (slice(max(0, a - n_edge), a), slice(b, b + n_edge))
                if len(here[side])
            ]
            bridge = np.linspace(levels[0], levels[-1], b - a) if levels else 0.0
            here[a:b] = values[a:b] + bridge
            filled.append(((start + a) / rate_hz, (b - a) / rate_hz))
    return filled


def write_completed(
    path: Path, recording: Recording, predicted: Predicted, *, model_id: str
) -> tuple[str, ...]:
    """Write the recording with its predicted channels; return what has to be said of the file.

    Parameters
    ----------
    path : Path
        FIF (values as MNE reads them, bit by bit) or EDF (from EDF: digital values as they are).
    recording : Recording
        As it was opened.
    predicted : Predicted
    model_id : str
    """
    said = f"completed by ae-pipeline (model {model_id}): {', '.join(predicted.names) or 'nothing'}"
    if path.suffix == ".edf" and recording.path.suffix.lower() == ".edf" and not recording.gaps:
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # headers against the rules
            _write_edf(path, recording, predicted)
            return ()
    raw = _completed(recording, predicted)
    raw.info["description"] = said
    if path.suffix != ".edf":
        if 8 * raw.n_times * len(raw.ch_names) > LARGEST_FIF:
            raise StudyError(f"--out {path.name}: is too long for one FIF file; write it as .edf")
        with write_through(path) as temporary:
            raw.save(temporary, fmt="double", overwrite=True, verbose="ERROR")
        return ()
    import mne

    with write_through(path) as temporary:
        mne.export.export_raw(
            temporary,
            raw,
            fmt="edf",
            physical_range="channelwise",
            overwrite=True,
            verbose="ERROR",
        )
    rounded = "EDF stores 16 bits: all values are rounded to them; name a .fif file to keep them"
    return (rounded, "written without its gaps") if recording.gaps else (rounded,)


def _completed(recording: Recording, predicted: Predicted) -> mne.io.BaseRaw:
    """The recording as MNE opens it, with what was predicted."""
    import mne

    raw = open_raw(recording.path) or _eeg_alone(recording)
    raw.load_data(verbose="ERROR")
    raw.info["subject_info"] = raw.info["experimenter"] = None
    rate_hz = float(raw.info["sfreq"])
    lacking = [name for name in predicted.names if name not in raw.ch_names]
    if lacking:
        info = mne.create_info(lacking, rate_hz, "eeg")
        for channel in info["chs"]:
            channel["loc"][:3] = predicted.positions_m[predicted.names.index(channel["ch_name"])]
        silent = np.zeros((len(lacking), raw.n_times))
        added = mne.io.RawArray(silent, info, first_samp=raw.first_samp, verbose="ERROR")
        raw.add_channels([added], force_update_info=True)
    for row, name in enumerate(predicted.names):
        at = raw.ch_names.index(name)
        values = raw.get_data(picks=[at])[0] * 1e6
        spans = _fill(values, predicted, row, recording=recording, rate_hz=rate_hz)
        for onset_s, duration_s in spans:
            first, n = round(onset_s * rate_hz), round(duration_s * rate_hz)
            raw._data[at, first : first + n] = 1e-6 * values[first : first + n]
            raw.annotations.append(
                onset_s + raw.first_time, duration_s, f"completed {name}", ch_names=[(name,)]
            )
        if predicted.whole[row]:
            raw.info["bads"] = [bad for bad in raw.info["bads"] if bad != name]
    return raw


def _eeg_alone(recording: Recording) -> mne.io.BaseRaw:
    """EEG channels of what MNE does not open as one continuous recording, gaps left out."""
    import mne

    info = mne.create_info(list(recording.file_names), recording.sfreq_hz, "eeg")
    for channel, place in zip(info["chs"], recording.positions_m, strict=True):
        channel["loc"][:3] = place
    kept = np.ones(recording.n_times, bool)
    for start, stop in recording.gaps:
        kept[start:stop] = False
    volts = recording.read(0, recording.n_times)[:, kept].astype(np.float64) * 1e-6
    raw = mne.io.RawArray(volts, info, verbose="ERROR")
    raw.set_meas_date(recording.orig_time)
    for one in recording.annotations:
        at_s = recording.time_in_file_s(one.onset_s)
        raw.annotations.append(at_s, one.duration_s, one.description)
    return raw


def _write_edf(path: Path, recording: Recording, predicted: Predicted) -> None:
    """EDF from EDF: signals that are not completed keep their digital values."""
    import edfio

    edf = edfio.read_edf(recording.path, lazy_load_data=False, header_encoding="latin-1")
    edf.patient = edfio.Patient()
    began = recording.orig_time
    edf.recording = edfio.Recording(startdate=None if began is None else began.date())
    names, marks = unique_names([signal.label for signal in edf.signals]), []
    for row, name in enumerate(predicted.names):
        if name in names:
            signal = edf.signals[names.index(name)]
            unit = 1e6 * VOLTS.get(signal.physical_dimension, 1.0)
            values, rate_hz = signal.data * unit, float(signal.sampling_frequency)
        else:
            unit, rate_hz = 1.0, recording.sfreq_hz
            values = np.zeros(round(edf.duration * rate_hz))
        spans = _fill(values, predicted, row, recording=recording, rate_hz=rate_hz)
        marks += [edfio.EdfAnnotation(at, length, f"completed {name}") for at, length in spans]
        if name not in names:
            edf.append_signals(_new_signal(values, name, rate_hz=rate_hz))
        elif predicted.whole[row]:
            signal.update_data(values / unit)
        elif spans:  # what is known of it keeps its digital values
            bounds = signal.physical_range
            inside = np.clip(values / unit, min(bounds), max(bounds))
            signal.update_data(inside, keep_physical_range=True)
    edf.add_annotations(marks)
    with write_through(path) as temporary:
        edf.write(temporary)


def _new_signal(values_uv: NDArray[np.float64], name: str, *, rate_hz: float) -> Any:
    import edfio

    return edfio.EdfSignal(values_uv, rate_hz, label=name, physical_dimension="uV")
