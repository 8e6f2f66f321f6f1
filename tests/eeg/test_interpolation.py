"""Interpolated channels are MNE's, and a recording is brought to a montage or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from ae_pipeline.data import InputError, Recording
from ae_pipeline.eeg.interpolation import spline_weights, with_channels
from ae_pipeline.sources.eeg import EegSource, find, open_recording


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> Recording:
    file = shared_data / "eegmmidb/S001R01_trimmed.edf"
    return open_recording(find([file])[0], EegSource(path=Path()))


def without(recording: Recording, *names: str) -> Recording:
    return recording.pick(tuple(name for name in recording.ch_names if name not in names))


def test_missing_channels_are_what_mne_interpolates(recording: Recording) -> None:
    lacking = without(recording, "Cz", "O1")
    ours = with_channels(lacking, recording.ch_names, positions_m=recording.positions_m)
    signal = recording.read(0, 2000)
    raw = mne.io.RawArray(
        signal.astype(float), mne.create_info(list(recording.ch_names), 160.0, "eeg"), verbose=False
    )
    places = dict(zip(recording.ch_names, recording.positions_m, strict=True))
    raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    raw.info["bads"] = ["Cz", "O1"]
    theirs = raw.interpolate_bads(verbose=False).get_data()
    np.testing.assert_allclose(ours.read(0, 2000), theirs, atol=1e-3 * theirs.std())
    assert ours.filled == ("O1", "Cz") or set(ours.filled) == {"Cz", "O1"}
    assert any("interpolated" in note and "Cz" in note for note in ours.notes)
    # and it is worth having: closer to what was recorded than the mean of all is
    row = recording.ch_names.index("Cz")
    away = np.std(ours.read(0, 2000)[row] - signal[row])
    assert away < 0.5 * np.std(np.delete(signal, row, 0).mean(0) - signal[row])


def test_nothing_missing_changes_nothing(recording: Recording) -> None:
    assert (
        with_channels(recording, recording.ch_names, positions_m=recording.positions_m) is recording
    )


def test_too_many_missing_or_no_positions_are_refused(recording: Recording) -> None:
    few = recording.pick(recording.ch_names[:40])
    with pytest.raises(InputError, match="25% may be interpolated"):
        with_channels(few, recording.ch_names, positions_m=recording.positions_m)
    nowhere = np.full_like(recording.positions_m, np.nan)
    with pytest.raises(InputError, match=r"source\.montage"):
        with_channels(without(recording, "Cz"), recording.ch_names, positions_m=nowhere)
    with pytest.raises(InputError, match="lacks 1 of the model's"):
        with_channels(without(recording, "Cz"), recording.ch_names)
    bipolar = replace(without(recording, "Cz"), bipolar=True)
    with pytest.raises(InputError, match="differences of electrodes"):
        with_channels(bipolar, recording.ch_names, positions_m=recording.positions_m)


def test_weights_need_eight_good_channels(recording: Recording) -> None:
    good = np.ones(64, bool)
    good[5] = False
    assert spline_weights(recording.positions_m, good).shape == (1, 63)
    good[7:] = False
    with pytest.raises(ValueError, match="eight"):
        spline_weights(recording.positions_m, good)


def test_old_and_new_names_of_one_place_are_one_channel(recording: Recording) -> None:
    old = tuple({"T7": "T3", "P8": "T6"}.get(name, name) for name in recording.ch_names)
    renamed = replace(recording, ch_names=old, file_names=(), bads=("T3",))
    back = renamed.pick(recording.ch_names)
    assert back.ch_names == recording.ch_names
    assert back.bads == ("T7",)
    assert back.file_names[recording.ch_names.index("T7")] == "T3"
    np.testing.assert_array_equal(back.read(0, 99), recording.read(0, 99))
