from __future__ import annotations

import contextlib
import shutil
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from edf_files import discontinuous, write_edf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ae_pipeline.config import StudyError, explain
from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.channels import electrodes
from ae_pipeline.sources.eeg import (
    EegSource,
    describe,
    find,
    harmonise,
    is_bipolar,
    open_recording,
)

SOURCE = EegSource(path=Path())
RNG = np.random.default_rng(7)


def opened(path: Path, **keys: object) -> Recording:
    return open_recording(find([path])[0], EegSource(path=Path(), **keys))


def whole(recording: Recording) -> np.ndarray:
    return recording.read(0, recording.n_times)


def refusal(path: Path, **keys: object) -> str:
    with pytest.raises(InputError) as error:
        opened(path, **keys)
    message = str(error.value)
    assert "\n" not in message
    assert path.name in message
    return message


def noise(n_channels: int, n_times: int, sd_uv: float = 20.0) -> np.ndarray:
    return RNG.normal(0, sd_uv, (n_channels, n_times))


def write_fif(path: Path, data_uv: np.ndarray, names: list[str], **keys: object) -> Path:
    info = mne.create_info(names, 100.0, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(data_uv * 1e-6, info, verbose="ERROR")
    if "annotations" in keys:
        raw.set_annotations(mne.Annotations(*keys["annotations"]))
    raw.info["bads"] = list(keys.get("bads", []))
    raw.save(path, verbose="ERROR")
    return path


# ----------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "name",
    [
        "eegmat/Subject00_2.edf",
        "eegmmidb/S001R03.edf",
        "eeglab_sample/test.bdf",
        "eeglab_sample/testbva.vhdr",
        "eeglab_sample/eeglab_data.set",
        "formats/test.edf",
        "formats/test.bdf",
        "formats/test.vhdr",
        "resting_fif/data_resting_EO_200Hz_raw.fif",
    ],
)
def test_values_times_and_annotations_are_those_of_mne_in_microvolts(
    shared_data: Path, name: str
) -> None:
    recording = opened(shared_data / name)
    raw = mne.io.read_raw(shared_data / name, verbose="ERROR")
    labels = {harmonise(channel): channel for channel in raw.ch_names}
    picks = [labels[channel] for channel in recording.ch_names]
    expected = (raw.get_data(picks=picks) * 1e6).astype(np.float32)
    assert recording.sfreq_hz == raw.info["sfreq"]
    np.testing.assert_array_equal(whole(recording), expected)
    np.testing.assert_array_equal(recording.read(123, 777), expected[:, 123:777])
    theirs = [(a["onset"] - raw.first_time, a["duration"]) for a in raw.annotations]
    if "stim" in raw.get_channel_types():
        rises = mne.find_events(
            raw, shortest_event=1, mask=0xFFFF, mask_type="and", verbose="ERROR"
        )
        theirs = sorted([*theirs, *((at / raw.info["sfreq"], 0.0) for at in rises[:, 0])])
    ours = [(a.onset_s, a.duration_s) for a in recording.annotations]
    np.testing.assert_allclose(np.reshape(ours, (-1, 2)), np.reshape(theirs, (-1, 2)), atol=1e-9)


def test_blocks_with_halo_are_stretches_of_the_whole(shared_data: Path) -> None:
    recording = opened(shared_data / "eegmmidb/S001R01_trimmed.edf")
    signal = whole(recording)
    for block in recording.blocks(7.3, halo_s=1.1):
        begin = block.start - block.left
        np.testing.assert_array_equal(block.data, signal[:, begin : begin + block.data.shape[1]])


def test_every_member_file_counts(shared_data: Path) -> None:
    vhdr = opened(shared_data / "formats/test.vhdr")
    assert [file.name for file in vhdr.files] == ["test.vhdr", "test.eeg", "test.vmrk"]
    eeglab = opened(shared_data / "eeglab_sample/eeglab_data.set")
    assert [file.name for file in eeglab.files] == ["eeglab_data.set", "eeglab_data.fdt"]


# --------------------------------------------------------------------------- channels


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("EEG FP1-REF", "Fp1"),
        ("FPZ", "Fpz"),
        ("Fc5.", "FC5"),
        ("EEG A2-A1", "A2-A1"),
        ("CZ-A2", "Cz-A2"),
        ("EEG T3", "T3"),
        ("afz..", "AFz"),
        ("E17", "E17"),
        ("ECG ECG", "ECG ECG"),
    ],
)
def test_names_are_spelt_as_the_10_20_system_does(given_name: str, expected: str) -> None:
    assert harmonise(given_name) == expected


def test_what_is_not_eeg_never_enters_and_is_named(shared_data: Path) -> None:
    eegmat = opened(shared_data / "eegmat/Subject00_1.edf")
    assert len(eegmat.ch_names) == 19
    assert {"Fp1", "Cz", "Pz"} <= set(eegmat.ch_names)
    assert any("ECG ECG" in note and "A2-A1" in note for note in eegmat.notes)
    biosemi = opened(shared_data / "formats/test.bdf")
    assert not {"EXG1", "REOG", "LEOG", "IEOG", "EXG5", "EXG8", "Status"} & set(biosemi.ch_names)
    brainvision = opened(shared_data / "eeglab_sample/testbva.vhdr")
    assert not {"Eog", "Ekg1", "Ekg2"} & set(brainvision.ch_names)


def test_biosemi_letters_are_neither_ear_lobes_nor_10_20_places(shared_data: Path) -> None:
    recording = opened(shared_data / "eeglab_sample/test.bdf")
    assert recording.ch_names == tuple(f"A{i}" for i in range(1, 17))
    assert np.isnan(recording.positions_m).all()


def test_positions_come_by_name_where_the_file_has_none(shared_data: Path) -> None:
    recording = opened(shared_data / "eegmmidb/S001R01_trimmed.edf")
    assert np.isfinite(recording.positions_m).all()
    place = dict(zip(recording.ch_names, recording.positions_m, strict=True))
    assert place["C3"][0] < 0 < place["C4"][0]
    assert place["Fpz"][1] > place["Cz"][1] > place["Oz"][1]
    assert place["Cz"][2] > place["C3"][2] > place["T7"][2]
    assert 0.05 < np.linalg.norm(place["Cz"]) < 0.2  # metres
    own = opened(shared_data / "eeglab_sample/eeglab_data.set")
    assert np.isfinite(own.positions_m).all()


def test_names_of_the_10_20_system_are_those_of_mne() -> None:
    assert {"Fp1", "T3", "T7", "P8", "FFC5h"} <= set(electrodes())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("F4-A1", "CZ-A2"), True),
        (("Fp1-F7", "F7-T3", "T3-T5", "T5-O1"), True),
        (("Fp1", "Fp2", "F3", "F4", "A2-A1"), False),
        (("C3-A1", "C4-A1", "O1-A1"), False),
        (("Fp1-REF", "Fp2-REF"), False),
        (("A1", "A2", "A3"), False),
    ],
)
def test_a_montage_is_bipolar_when_most_channels_are_differences(
    names: tuple[str, ...], expected: bool
) -> None:
    assert is_bipolar(names) is expected


def test_pick_and_exclude_know_both_spellings(shared_data: Path) -> None:
    file = shared_data / "eegmat/Subject00_2.edf"
    assert opened(file, pick=("EEG Fp1", "cz")).ch_names == ("Fp1", "Cz")
    assert opened(file, pick=("cz", "Fp1")).ch_names == ("Cz", "Fp1")
    assert "Pz" not in opened(file, exclude=("pz",)).ch_names
    assert "no channel Xx" in refusal(file, pick=("Fp1", "Xx"))


def test_channels_the_file_marks_bad_are_known(tmp_path: Path) -> None:
    file = write_fif(tmp_path / "a_raw.fif", noise(3, 500), ["Fz", "Cz", "Pz"], bads=["Cz"])
    assert opened(file).bads == ("Cz",)


def test_mixed_rates_keep_the_eeg_at_its_own(tmp_path: Path) -> None:
    data = noise(3, 2000)
    file = write_edf(tmp_path / "a.edf", data, ["Fz", "Cz", "ECG"], rates={"ECG": 400.0})
    recording = opened(file)
    assert (recording.sfreq_hz, recording.n_times) == (100.0, 2000)
    np.testing.assert_allclose(whole(recording), data[:2], atol=0.01)
    odd = write_edf(tmp_path / "b.edf", data, ["Fz", "Cz", "Pz"], rates={"Pz": 50.0})
    assert opened(odd).ch_names == ("Fz", "Cz")
    assert any("sampled at 100 Hz: Pz (50 Hz)" in note for note in opened(odd).notes)


def test_a_montage_places_channels_that_names_do_not(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "eeglab_sample/test.bdf"  # A1 ... A16, no places of their own
    placed = opened(file, montage="biosemi128")
    assert np.isfinite(placed.positions_m).all()
    (tmp_path / "cap.sfp").write_text(
        "".join(f"A{i} {i / 200} {i / 100} 0.09\n" for i in range(1, 17))
        + "fidnz 0 0.1 0\nfidt9 -0.08 0 0\nfidt10 0.08 0 0\n"
    )
    assert np.isfinite(opened(file, montage=str(tmp_path / "cap.sfp")).positions_m).all()
    unplaced = opened(file)
    assert any("source.montage" in note for note in unplaced.notes)


def test_an_unknown_montage_is_a_study_error_with_the_nearest(shared_data: Path) -> None:
    with pytest.raises(StudyError, match="biosemi128") as error:
        opened(shared_data / "eeglab_sample/test.bdf", montage="biosem128")
    assert "\n" not in str(error.value)


def test_what_is_written_can_go_back_to_the_files_own_names(shared_data: Path) -> None:
    recording = opened(shared_data / "eegmmidb/S001R01_trimmed.edf", pick=("Cz", "FC5"))
    assert recording.file_names == ("Cz..", "Fc5.")


# --------------------------------------------------------------------------- segments


def test_boundaries_and_gaps_end_segments_and_bad_spans_do_not(tmp_path: Path) -> None:
    annotations = (
        [2.0, 4.0, 5.0, 7.0, 9.0],
        [0.0, 1.0, 0.0, 0.5, 0.0],
        ["BAD boundary", "BAD_ACQ_SKIP", "boundary", "BAD_blink", "EDGE boundary"],
    )
    file = write_fif(tmp_path / "a_raw.fif", noise(2, 1000), ["Fz", "Cz"], annotations=annotations)
    recording = opened(file)
    assert recording.segments == ((0, 200), (200, 400), (500, 900), (900, 1000))
    assert (7.0, 7.5) in recording.bad_spans()


def test_padding_at_either_end_is_known_and_a_dead_stretch_within_is_none(tmp_path: Path) -> None:
    data = noise(3, 2000)
    data[:, :50] = 0
    data[:, 900:1000] = 0
    data[:, -30:] = data[:, -31:-30]
    recording = opened(write_fif(tmp_path / "padded_raw.fif", data, ["Fz", "Cz", "Pz"]))
    assert recording.segments == ((50, 1969),)  # of padding there is no window
    assert np.allclose(recording.padding_s, [(0, 0.5), (19.69, 20)])
    assert any("at the beginning and at the end: padding" in note for note in recording.notes)
    data[0] = noise(1, 2000)[0]  # one channel that moves is a recording
    assert opened(write_fif(tmp_path / "one_raw.fif", data, ["Fz", "Cz", "Pz"])).padding_s == ()


def test_padding_longer_than_what_is_read_at_once_is_found_whole(tmp_path: Path) -> None:
    data = noise(3, 4000)
    data[:, 1500:] = 0
    recording = opened(write_fif(tmp_path / "long_raw.fif", data, ["Fz", "Cz", "Pz"]))
    assert recording.segments == ((0, 1500),)
    assert recording.padding_s == ((15.0, 40.0),)
    assert any("25 s at the end: padding" in note for note in recording.notes)


def test_padding_on_several_values_is_taken_off_whole(tmp_path: Path) -> None:
    data = noise(3, 2000)
    data[:, :20], data[:, 20:60] = 5, -3
    data[:, -90:-50], data[:, -50:-3], data[:, -3:] = 7, 0, 1
    recording = opened(write_fif(tmp_path / "padded_raw.fif", data, ["Fz", "Cz", "Pz"]))
    assert recording.segments == ((60, 1910),)


def test_a_second_of_padding_is_no_part_of_real_recordings(shared_data: Path) -> None:
    for file in sorted((shared_data / "eegmat").glob("*.edf")):
        recording = opened(file)
        ((begin, end),) = recording.segments
        rest = recording.read(end - 1, recording.n_times)
        assert 0.5 < (recording.n_times - end) / 500 <= 2
        assert ((np.diff(rest, axis=1) != 0).any(axis=0)).sum() <= 3
        assert not begin


def test_a_boundary_between_two_samples_belongs_to_neither(tmp_path: Path) -> None:
    # EEGLAB: latency 100.5 (from 1) lies between the samples 99 and 100 (from 0)
    file = write_fif(
        tmp_path / "a_raw.fif",
        noise(2, 300),
        ["Fz", "Cz"],
        annotations=([0.995], [3.0], ["boundary"]),
    )
    assert opened(file).segments == ((0, 100), (100, 300))


def test_onsets_count_from_the_first_sample_of_a_cropped_file(tmp_path: Path) -> None:
    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(noise(2, 1000) * 1e-6, info, first_samp=5000, verbose="ERROR")
    raw.set_meas_date(1e9)
    raw.set_annotations(mne.Annotations([3.0], [1.0], ["BAD_"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    assert opened(tmp_path / "a_raw.fif").bad_spans()[0] == pytest.approx((3.0, 4.0))


def test_a_discontinuous_edf_keeps_real_time_and_no_segment_holds_the_gap(tmp_path: Path) -> None:
    data = noise(2, 800)
    file = discontinuous(tmp_path / "a.edf", data, gap_after=3, gap_s=60)
    recording = opened(file)
    assert recording.segments == ((0, 300), (6300, 6800))
    np.testing.assert_allclose(recording.read(0, 300), data[:, :300], atol=0.01)
    np.testing.assert_allclose(recording.read(6300, 6800), data[:, 300:], atol=0.01)
    np.testing.assert_allclose(recording.read(6350, 6450), data[:, 350:450], atol=0.01)
    assert not recording.read(1000, 2000).any()
    mark = next(a for a in recording.annotations if a.description == "mark")
    assert (mark.onset_s, mark.duration_s) == (64.5, 0.25)


# ------------------------------------------------------------------------------- find


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_bids_names_and_subjects(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dataset_description.json",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_eeg.edf",
        "sub-02/eeg/sub-02_task-rest_run-1_eeg.vhdr",
        "sub-02/eeg/sub-02_task-rest_run-1_eeg.eeg",
        "sub-02/meg/sub-02_task-rest_meg.fif",
        "derivatives/x/sub-01/eeg/sub-01_task-rest_eeg.edf",
        "sourcedata/sub-01/original.edf",
        ".git/x.edf",
    )
    found = find([tmp_path])
    assert [(f.name, f.subject, f.session) for f in found] == [
        ("sub-01_ses-a_task-rest", "01", "a"),
        ("sub-02_task-rest_run-1", "02", ""),
    ]


def test_names_are_paths_below_the_root_without_extension(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/one.edf", "a/two.set", "a/two.fdt", "a/.hidden.edf", "a/notes.txt")
    assert [f.name for f in find([tmp_path])] == ["a__b__one", "a__two"]
    assert [f.name for f in find([tmp_path], pattern="*/*.set")] == ["a__two"]
    assert [f.name for f in find([str(tmp_path / "a" / "*")])] == ["two"]
    assert [f.name for f in find([tmp_path / "a/b/one.edf"])] == ["one"]
    assert [f.path.name for f in find([tmp_path / "a/two.fdt"])] == ["two.set"]


def test_colliding_names_get_the_parent_folder_and_stay_unique(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.edf", "b/x.edf", "a/y.edf")
    single = [tmp_path / "a/x.edf", tmp_path / "b/x.edf", tmp_path / "a/y.edf"]
    assert [f.name for f in find(single)] == ["a__x", "b__x", "y"]
    touch(tmp_path, "c/z.edf", "c/z.bdf")
    both = [tmp_path / "c/z.bdf", tmp_path / "c/z.edf"]
    assert [f.name for f in find(both)] == ["c__z_bdf", "c__z_edf"]


def test_the_same_file_named_twice_is_found_once(tmp_path: Path) -> None:
    touch(tmp_path, "x.edf")
    assert len(find([tmp_path, tmp_path / "x.edf", tmp_path / "." / "x.edf"])) == 1


def test_names_are_safe_file_names(tmp_path: Path) -> None:
    touch(tmp_path, "..x\x07:y.edf", f"{'n' * 200}.edf")
    for one in find([tmp_path / "..x\x07:y.edf", tmp_path / f"{'n' * 200}.edf"]):
        assert not one.name.startswith(".")
        assert one.name.isprintable()
        assert not set('/\\:*?"<>|') & set(one.name)
        assert len(one.name) <= 160


def test_later_parts_of_split_files_and_other_fif_are_no_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "a_raw.fif", "a_raw-1.fif", "a-epo.fif", "a_desc-anomaly_annot.fif")
    touch(tmp_path, "sub-1_split-01_eeg.fif", "sub-1_split-02_eeg.fif", "subject-01.fif")
    names = [f.path.name for f in find([tmp_path])]
    assert names == ["a_raw.fif", "sub-1_split-01_eeg.fif", "subject-01.fif"]


@pytest.mark.parametrize(
    ("files", "subjects"),
    [
        (
            ["Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf"],
            ["Subject00"] * 2 + ["Subject01"],
        ),
        (["S001R01.edf", "S001R02_trimmed.edf", "S002R01.edf"], ["S001", "S001", "S002"]),
        (["anna/rest1.edf", "anna/rest2.edf", "bert/rest1.edf"], ["anna", "anna", "bert"]),
        (["day/anna/x.edf", "day/bert/x.edf"], ["anna", "bert"]),
        (["S1/a1.edf", "S1/a2.edf", "S2/b1.edf"], ["S1", "S1", "S2"]),
        (["rest.edf", "task.edf"], ["rest", "task"]),
        (["0012_rest.edf", "0012_task.edf", "0013_rest.edf"], ["0012", "0012", "0013"]),
    ],
)
def test_subjects_are_guessed_from_names_then_folders(
    tmp_path: Path, files: list[str], subjects: list[str]
) -> None:
    touch(tmp_path, *files)
    assert [f.subject for f in find([tmp_path])] == subjects


def test_files_of_one_name_in_two_inputs_are_two_subjects(tmp_path: Path) -> None:
    touch(tmp_path, "anna/rest.edf", "bert/rest.edf")
    assert [f.subject for f in find([tmp_path / "anna", tmp_path / "bert"])] == ["anna", "bert"]


def test_a_subject_pattern_is_obeyed_and_a_miss_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "eeg-k7-rest.edf", "other.edf")
    found = find([tmp_path], subject_pattern=r"eeg-(?P<subject>\w+)-")
    assert [f.subject for f in found] == ["k7", "other"]
    assert "subject_pattern" in found[1].note
    assert not found[0].note


@pytest.mark.parametrize("pattern", ["(", "no group", "(two)(groups)"])
def test_a_useless_subject_pattern_is_a_study_error(pattern: str) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as error:
        EegSource(path=Path(), subject_pattern=pattern)
    told = explain(error.value, EegSource, where="study.yaml")
    assert isinstance(told, StudyError)
    assert "subject_pattern" in str(told)


def test_missing_and_empty_inputs_are_one_line(tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path, tmp_path / "*.edf"):
        with pytest.raises(InputError) as error:
            find([place])
        assert "\n" not in str(error.value)
        assert str(place) in str(error.value)


# -------------------------------------------------------------------------- bad input


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "text.edf").write_text("time,Fz\n0,1\n" * 100)
    assert "no EDF" in refusal(tmp_path / "text.edf")
    (tmp_path / "empty.edf").write_bytes(b"")
    assert "empty" in refusal(tmp_path / "empty.edf")
    for name in ("text.set", "text.vhdr", "text_raw.fif", "text.xyz", "text.gdf"):
        (tmp_path / name).write_text("time,Fz\n0,1\n" * 100)
        refusal(tmp_path / name)


def test_an_interrupted_edf_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "a.edf", noise(2, 2000), ["Fz", "Cz"])
    whole = opened(file)
    content = file.read_bytes()
    file.write_bytes(content[: 256 * 3 + 10])
    assert "truncated" in refusal(file)
    file.write_bytes(content[: len(content) // 2])
    half = opened(file)
    assert half.n_times == 900
    assert np.array_equal(half.read(0, 900), whole.read(0, 900))
    assert any("promises 20 s, it holds 9 s" in note for note in half.notes)
    file.write_bytes(content[:-10])
    recording = opened(file)
    assert recording.n_times == 1900
    assert any("incomplete" in note for note in recording.notes)


def test_a_header_that_lies_about_its_length_is_followed_by_the_file(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "a.edf", noise(2, 2000), ["Fz", "Cz"])
    content = bytearray(file.read_bytes())
    content[236:244] = b"5       "
    file.write_bytes(content)
    recording = opened(file)
    assert recording.n_times == 2000
    assert any("more than its header" in note for note in recording.notes)


def test_truncated_members_are_refused(shared_data: Path, tmp_path: Path) -> None:
    for name in ("eeglab_data.set", "eeglab_data.fdt"):
        shutil.copyfile(shared_data / "eeglab_sample" / name, tmp_path / name)
    content = (tmp_path / "eeglab_data.fdt").read_bytes()
    (tmp_path / "eeglab_data.fdt").write_bytes(content[: len(content) // 3])
    refusal(tmp_path / "eeglab_data.set")
    (tmp_path / "eeglab_data.fdt").unlink()
    assert "missing" in refusal(tmp_path / "eeglab_data.set")


@pytest.mark.parametrize("factor", [1e6, 1e-6, 1e3])
def test_units_off_by_a_factor_are_refused_with_the_likely_unit(
    tmp_path: Path, factor: float
) -> None:
    file = write_fif(tmp_path / "a_raw.fif", noise(3, 1000) * factor, ["Fz", "Cz", "Pz"])
    message = refusal(file)
    assert "look like" in message
    assert "µV" in message


def test_flat_and_not_a_number_are_refused(tmp_path: Path) -> None:
    flat = write_fif(tmp_path / "flat_raw.fif", np.full((2, 1000), 3.0), ["Fz", "Cz"])
    assert "flat" in refusal(flat)
    holes = write_fif(tmp_path / "nan_raw.fif", np.full((2, 1000), np.nan), ["Fz", "Cz"])
    assert "NaN" in refusal(holes)


def test_a_recording_without_eeg_is_refused(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "a.edf", noise(2, 1000), ["ECG", "EMG chin"])
    assert "no EEG channel" in refusal(file)


def test_latin_1_annotations_and_missing_dates_are_read(tmp_path: Path) -> None:
    import edfio

    file = write_edf(
        tmp_path / "a.edf",
        noise(2, 1000),
        ["Fz", "Cz"],
        annotations=[edfio.EdfAnnotation(1.0, None, "Augen geoeffnet")],
    )
    content = file.read_bytes().replace(b"geoeffnet", b"ge\xf6ffnet\x14")
    content = content[:168] + b"xx.xx.xx" + b"        " + content[184:]
    file.write_bytes(content)
    assert [a.description for a in opened(file).annotations] == ["Augen geöffnet"]


def test_undefined_physical_range_leaves_the_channel_out(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "a.edf", noise(2, 1000), ["Fz", "Cz"])
    content = bytearray(file.read_bytes())
    minimum = 256 + 2 * (16 + 80 + 8)  # of two signals, after label, transducer, unit
    content[minimum : minimum + 8] = content[minimum + 16 : minimum + 24] = b"0       "
    file.write_bytes(content)
    recording = opened(file)
    assert recording.ch_names == ("Cz",)
    assert any("physical range" in note for note in recording.notes)


def test_subject_headers_reach_nothing(tmp_path: Path) -> None:
    import edfio

    file = write_edf(
        tmp_path / "a.edf",
        noise(2, 1000),
        ["Fz", "ECG"],
        patient=edfio.Patient(name="Erika_Mustermann", code="MRN4711"),
    )
    assert "Mustermann" in file.read_bytes().decode("latin-1")
    told = repr(opened(file)) + repr(describe(find([file])))
    assert "Mustermann" not in told
    assert "MRN4711" not in told


def test_what_mne_warns_about_becomes_a_note(tmp_path: Path) -> None:
    import pybv

    pybv.write_brainvision(
        data=noise(2, 1000) * 1e-6,
        sfreq=100.0,
        ch_names=["Fz", "Cz"],
        fname_base="a",
        folder_out=tmp_path,
        events=np.array([[10, 1]]),
    )
    (tmp_path / "a.vmrk").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = opened(tmp_path / "a.vhdr").notes
    assert any(note.startswith("MNE: ") and "not found" in note for note in notes)
    assert not any(str(tmp_path) in note for note in notes)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 256 * 4 - 1), st.integers(0, 255)), min_size=1, max_size=8
    ),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_a_damaged_header_gives_a_recording_or_is_refused(
    tmp_path: Path, edits: list[tuple[int, int]], cut: int | None
) -> None:
    file = tmp_path / "fuzz.edf"
    whole_file = tmp_path / "whole.edf"
    if not whole_file.exists():
        write_edf(whole_file, noise(2, 600), ["Fz", "Cz"])
    content = bytearray(whole_file.read_bytes())
    for at, value in edits:
        content[at] = value
    file.write_bytes(bytes(content[:cut]))
    with contextlib.suppress(InputError):
        assert np.isfinite(whole(opened(file))).all()


# --------------------------------------------------------------------------- describe


def test_init_learns_what_recordings_share(shared_data: Path) -> None:
    told = describe(find([shared_data / "eegmat"]))
    assert (told.n_recordings, told.n_subjects, told.sfreq_hz) == (12, 6, 500.0)
    assert told.exclude == ("EEG A2-A1", "ECG ECG")
    assert len(told.ch_names) == 19
    assert not told.partial
    assert told.segment_s == pytest.approx(60, abs=0.1)  # without a second of two plateaus
    assert not told.bipolar
    assert told.subject_pattern is not None
    found = find([shared_data / "eegmat"], subject_pattern=told.subject_pattern)
    assert {f.subject for f in found} == {f"Subject0{i}" for i in range(6)}


def test_init_goes_on_where_one_file_is_broken(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", noise(3, 1000), ["Fz", "Cz", "M1"])
    write_edf(tmp_path / "b.edf", noise(2, 1000), ["Fz", "Oz"])
    (tmp_path / "c.edf").write_text("nothing")
    told = describe(find([tmp_path]))
    assert told.ch_names == ("Fz",)
    assert set(told.partial) == {"Cz", "Oz"}
    assert told.exclude == ("M1",)
    assert [name for name, _ in told.failed] == ["c.edf"]
