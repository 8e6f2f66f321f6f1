"""Files of laboratories, each equal to MNE or to its maker's own export."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find


@pytest.fixture(scope="module")
def lab(shared_data: Path) -> Path:
    folder = shared_data / "lab"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: files of laboratories are not part of the project")
    return folder


def opened(path: Path) -> Recording:
    return open_recording(find([path])[0], EegSource(path=path))


def events(recording: Recording) -> list[tuple[float, str]]:
    return sorted((round(one.onset_s, 3), one.description) for one in recording.annotations)


WITH_MNE = {
    "bdf/test_bdf_stim_channel.bdf": 3,
    "curry/test_bdf_stim_channel Curry 8.cdt": 3,
    "edf/chtypes_edf.edf": 29,
    "edf/subsecond_starttime.edf": 3,
    "edf/test_utf8_annotations.edf": 9,
    "egi/test_egi_multiepoch_paused.mff": 257,
    "egi/test_egi_pns.mff": 257,
    "nedf/testdata.nedf": 32,
    "nihon_kohden/MB0400FU.EDF": 21,
    "persyst/sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2.lay": 23,
    "ant/test_CA_208.vhdr": 63,
    "ant/test_CA_208_start_stop.vhdr": 63,
}


@pytest.mark.parametrize("name", WITH_MNE)
def test_values_and_events_are_those_of_mne(
    lab: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = opened(lab / name)
    assert capsys.readouterr().out == ""
    raw = mne.io.read_raw(lab / name, verbose="ERROR")
    assert len(recording.ch_names) == WITH_MNE[name]
    assert (recording.n_times, recording.sfreq_hz) == (raw.n_times, raw.info["sfreq"])
    theirs = raw.get_data(picks=list(recording.file_names)) * 1e6
    assert np.allclose(recording.read(0, raw.n_times), theirs, rtol=1e-5, atol=1e-3)
    told = [(round(a["onset"] - raw.first_time, 3), a["description"]) for a in raw.annotations]
    if "stim" in raw.get_channel_types() and not told:
        rises = mne.find_events(raw, shortest_event=1, verbose="ERROR")
        names = {one.description for one in recording.annotations}
        codes = {int(code): str(code) for code in rises[:, 2]}
        if len(codes) == 1 and len(names) == 1:  # named after EGI's channel
            codes = dict.fromkeys(codes, *names)
        told = [(round(float(at / raw.info["sfreq"]), 3), codes[code]) for at, _, code in rises]
    assert events(recording) == sorted((s, text) for s, text in told if text)


def test_one_recording_in_two_formats_has_the_same_triggers(lab: Path) -> None:
    bdf = opened(lab / "bdf/test_bdf_stim_channel.bdf")
    curry = opened(lab / "curry/test_bdf_stim_channel Curry 8.cdt")
    assert np.allclose(bdf.read(0, 5000), curry.read(0, 5000), atol=0.05)
    assert events(bdf) == [one for one in events(curry) if one[1] != "50000"]
    assert len(events(bdf)) == 9


def test_ant_stops_where_its_segments_end(lab: Path) -> None:
    ant, export = (opened(lab / f"ant/test_CA_208_start_stop{end}") for end in (".cnt", ".vhdr"))
    assert np.allclose(ant.read(0, 11087), export.read(0, 11087), atol=0.02)
    assert ant.segments == ((0, 3828), (3828, 7656), (7656, 11087))
    assert len(export.segments) == 3
    signal = ant.read(0, 11087)
    steps = np.abs(np.diff(signal, axis=1)).mean(axis=0)
    assert sorted(np.argsort(steps)[-2:]) == [3827, 7655]  # where the signal jumps


def test_nihon_kohden_equals_the_export_of_its_maker(lab: Path) -> None:
    own, export = (opened(lab / f"nihon_kohden/MB0400FU{end}") for end in (".EEG", ".EDF"))
    assert own.ch_names == export.ch_names
    assert np.allclose(own.read(0, 5800), export.read(0, 5800), atol=0.2)
    assert (1.14, "A1+A2 OFF") in events(own)


def test_neuroscan_of_16_bits_whose_header_does_not_say(lab: Path) -> None:
    file = lab / "neuroscan/scan41_short.cnt"
    recording = opened(file)
    raw = mne.io.read_raw_cnt(file, data_format="int16", verbose="ERROR")
    theirs = raw.get_data(picks=list(recording.file_names)) * 1e6
    assert recording.n_times == raw.n_times
    assert np.allclose(recording.read(0, raw.n_times), theirs, rtol=1e-5, atol=1e-3)
    assert recording.eog == ("VEOGR", "HEOG")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gdf/test_1ch.gdf", "no EEG channel among 1 .ECG"),
        ("eeglab_v73/test_raw_h5.set", "a file that belongs to it is missing"),
    ],
)
def test_what_holds_no_eeg_is_refused_for_that(lab: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        opened(lab / name)
