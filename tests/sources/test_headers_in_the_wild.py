"""What headers of many formats leave out, misstate or name wrongly."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import mne
import numpy as np
import pytest
from clinic_files import write_ant
from eeg_files import eeglab, write_brainvision
from lab import noise
from lab import write_edf as write_lab
from scipy.io import loadmat, savemat

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find
from ae_pipeline.sources.formats import mne_files


def opened(path: Path) -> Recording:
    return open_recording(find([path])[0], EegSource(path=path))


@pytest.mark.parametrize("code", [-99.0, -99, "-99", "boundary"])
def test_a_boundary_of_eeglab_is_one_as_a_number_too(tmp_path: Path, code: object) -> None:
    file = eeglab(tmp_path / "a.set", noise(), 1)
    content = {k: v for k, v in loadmat(file).items() if not k.startswith("__")}
    events = np.zeros((1, 2), [("type", "O"), ("latency", "O")])
    events[0, 0], events[0, 1] = (1.0, 501.0), (code, 2000.5)
    content["EEG"]["event"][0, 0] = events
    savemat(file, content, appendmat=False)
    recording = opened(file)
    assert recording.segments == ((0, 2000), (2000, recording.n_times))


def write_v73(file: Path, signal_uv: np.ndarray, events: list[tuple[str, float]]) -> Path:
    """What MATLAB saves with ``-v7.3``: HDF5 behind 512 bytes, cells as references."""
    with h5py.File(file, "w", userblock_size=512) as made:
        cells = made.create_group("#refs#")

        def put(place: h5py.Group, name: str, value: object) -> h5py.Dataset:
            text = isinstance(value, str)
            stored = np.array([[ord(c)] for c in value], "u2") if text else np.array(value)
            one = place.create_dataset(name, data=stored)
            one.attrs["MATLAB_class"] = np.bytes_("char" if text else "double")
            return one

        def rows(place: h5py.Group, name: str, values: list[object]) -> None:
            parts = [[put(cells, f"{place.name}{name}{i}", v).ref] for i, v in enumerate(values)]
            place.create_dataset(name, data=np.array(parts, h5py.ref_dtype), dtype=h5py.ref_dtype)

        eeg = made.create_group("EEG")
        groups = [eeg, *(eeg.create_group(name) for name in ("chanlocs", "event"))]
        for group in groups:
            group.attrs["MATLAB_class"] = np.bytes_("struct")
        numbers = {"nbchan": 4, "trials": 1, "pnts": signal_uv.shape[1], "srate": 100, "xmin": 0}
        for name, number in numbers.items():
            put(eeg, name, [[float(number)]])
        put(eeg, "data", signal_uv.T)
        rows(groups[1], "labels", ["Fz", "Cz", "Pz", "Oz"])
        for axis in "XYZ":
            rows(groups[1], axis, [[[0.1 * i]] for i in range(1, 5)])
        rows(groups[2], "type", [name for name, _ in events])
        rows(groups[2], "latency", [[[latency]] for _, latency in events])
        for name in ("epoch", "icawinv", "icasphere", "icaweights", "icaact", "icachansind"):
            put(eeg, name, np.zeros(2, "u8")).attrs["MATLAB_empty"] = np.uint8(1)
    with file.open("r+b") as content:
        content.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return file


def test_matlab_7_3_is_read(tmp_path: Path) -> None:
    file = write_v73(tmp_path / "a.set", noise(), [("go", 101.0), ("boundary", 2000.5)])
    recording = opened(file)
    assert recording.ch_names == ("Fz", "Cz", "Pz", "Oz")
    assert np.allclose(recording.read(0, 4000), noise(), atol=1e-3)
    assert recording.segments == ((0, 2000), (2000, 4000))
    assert (recording.annotations[0].onset_s, recording.annotations[0].description) == (1.0, "go")


def test_matlab_7_3_names_the_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_v73(tmp_path / "a.set", noise(), [("go", 101.0)])
    monkeypatch.setattr(mne_files, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="MATLAB 7.3.*pymatreader and h5py.*pip install"):
        opened(file)


def test_segments_of_ant(tmp_path: Path) -> None:
    file = write_ant(tmp_path)
    whole = opened(file)
    stated = ["NumberSegments=      3", "4.55e+004 8.79e-001 500", "4.55e+004 7.2e-003 700"]
    file.with_suffix(".seg").write_text("\r\n".join(stated))
    recording = opened(file)
    n = whole.n_times
    assert recording.segments == ((0, n - 1200), (n - 1200, n - 700), (n - 700, n))
    assert file.with_suffix(".seg") in recording.files


def test_a_renamed_brainvision_triple_is_read_by_its_stem(tmp_path: Path) -> None:
    header = write_brainvision(tmp_path / "old")
    whole = opened(header)
    new = tmp_path / "new name"
    new.mkdir()
    for part in header.parent.glob(f"{header.stem}.*"):
        shutil.copyfile(part, new / f"sub-01_rest{part.suffix}")
    recording = opened(new / "sub-01_rest.vhdr")
    assert np.array_equal(recording.read(0, 500), whole.read(0, 500))
    assert recording.annotations == whole.annotations
    assert {file.suffix for file in recording.files} == {".vhdr", ".vmrk", ".eeg"}
    assert any("those of its own stem" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("SamplingInterval", "0.0000001", "1 MHz"),
        ("SamplingInterval", "0", "1 MHz"),
        ("SamplingInterval", "nan", "1 MHz"),
        ("SamplingInterval", "fast", "not a number"),
        ("NumberOfChannels", "1000000000", "channels"),
    ],
)
def test_impossible_numbers_of_brainvision(
    tmp_path: Path, key: str, value: str, reason: str
) -> None:
    header = write_brainvision(tmp_path)
    lines = header.read_text().splitlines()
    lines = [f"{key}={value}" if line.startswith(key) else line for line in lines]
    header.write_text("\n".join(lines))
    with pytest.raises(InputError, match=reason):
        opened(header)


@pytest.mark.parametrize(
    ("line", "reason"), [("SamplingRate=1e12", "1 MHz"), ("WaveformCount=10000000", "channels")]
)
def test_impossible_numbers_of_persyst(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "a.lay").write_text(f"[FileInfo]\nFile=a.dat\n{line}\nHeaderLength=0\n")
    (tmp_path / "a.dat").write_bytes(bytes(100))
    with pytest.raises(InputError, match=reason):
        opened(tmp_path / "a.lay")


@pytest.mark.parametrize("number", ["99999999999", "-5", "9" * 6000])
def test_impossible_numbers_of_nihon_kohden(tmp_path: Path, number: str) -> None:
    (tmp_path / "A.EEG").write_bytes(bytes(8000))
    (tmp_path / "A.PNT").write_bytes(bytes(100))
    (tmp_path / "A.21E").write_text(f"[ELECTRODE]\n0000=FP1\n{number}=X\n")
    with pytest.raises(InputError, match="numbered 0 to"):
        opened(tmp_path / "A.EEG")


def test_one_recording_in_two_formats_counts_once_and_that_is_said(tmp_path: Path) -> None:
    write_lab(tmp_path / "a.edf", noise())
    write_lab(tmp_path / "b.edf", noise(seed=2))
    info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 100.0, "eeg")
    mne.io.RawArray(noise() * 1e-6, info, verbose="ERROR").save(tmp_path / "a.fif", verbose="ERROR")
    found = find([tmp_path])
    assert [one.path.name for one in found] == ["a.edf", "b.edf"]
    assert "a.fif as well; only .edf is used" in found[0].note
    assert not found[1].note
    both = find([tmp_path / "a.edf", tmp_path / "a.fif"])
    assert len({one.name for one in both}) == 2
    assert all("count as two" in one.note for one in both)


def test_a_name_that_is_not_utf8_and_links_to_nothing(tmp_path: Path) -> None:
    name = b"caf\xe9.edf".decode("utf-8", "surrogateescape")
    write_lab(tmp_path / "a.edf", noise()).rename(tmp_path / name)
    (tmp_path / "self.edf").symlink_to(tmp_path / "self.edf")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (one,) = find([tmp_path])
    assert (one.name, one.subject) == ("café", "café")
    assert opened(one.path).name == "café"
    with pytest.raises(InputError, match="no such file") as error:
        find([tmp_path / "self.edf"])
    assert str(error.value).isprintable()
    assert str(InputError(f"{name}: no")) == "café.edf: no"
