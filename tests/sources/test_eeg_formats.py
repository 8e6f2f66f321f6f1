"""One test for each format of the README's table: written by its own tools, read as written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from eeg_files import (
    NAMES,
    SFREQ_HZ,
    eeglab,
    epochs_of,
    signal,
    write_bdf,
    write_brainvision,
    write_edf,
    write_eeglab,
    write_egi_simple_binary,
    write_fif,
    write_fif_gz,
    write_gdf,
    write_mff,
    write_split_fif,
)

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find, stem_of
from ae_pipeline.sources.formats.content import Content
from ae_pipeline.sources.formats.edf import read_edf
from ae_pipeline.sources.formats.fif import is_endless
from ae_pipeline.sources.formats.matlab import is_damaged
from ae_pipeline.sources.formats.mne_files import read_mne


def opened(path: Path, **keys: object) -> Recording:
    return open_recording(find([path])[0], EegSource(path=Path(), **keys))


# ------------------------------------------------------------------------- continuous


FORMATS: dict[str, tuple[Callable[[Path], Path], float]] = {
    "EDF+": (write_edf, 0.01),
    "BDF+": (write_bdf, 1e-4),
    "FIF": (write_fif, 1e-4),
    "FIF, compressed": (write_fif_gz, 1e-4),
    "FIF, split": (write_split_fif, 1e-4),
    "BrainVision": (write_brainvision, 0.1),
    "EEGLAB": (write_eeglab, 1e-4),
    "EGI simple binary": (write_egi_simple_binary, 1e-3),
    "EGI MFF": (write_mff, 1e-4),
    "GDF": (write_gdf, 0.01),
}
"""Format -> (who writes it, tolerance in microvolts: steps of the format)."""


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_read_as_it_was_written(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write, tolerance_uv = FORMATS[name]
    path = write(tmp_path)
    capfd.readouterr()
    recording = opened(path, pick=("E1", "E2", "E3", "E4") if "simple" in name else "eeg")
    expected = signal(600) if "split" in name else signal()
    if name == "EGI MFF":
        expected = signal(n_channels=33)
    assert recording.sfreq_hz == SFREQ_HZ
    assert recording.n_times == expected.shape[1]
    np.testing.assert_allclose(recording.read(0, recording.n_times), expected, atol=tolerance_uv)
    np.testing.assert_allclose(recording.read(250, 300), expected[:, 250:300], atol=tolerance_uv)
    assert capfd.readouterr().out == ""  # what a reader prints is no result
    if "EGI" not in name:
        assert recording.ch_names == tuple(NAMES)
        word = "769" if name == "GDF" else "go"
        assert any(word in a.description and a.onset_s == 1.0 for a in recording.annotations)
    if name in ("EDF+", "BDF+", "FIF", "BrainVision"):
        assert [(a, b) for a, b in recording.bad_spans()] or "Brain" in name


def test_each_reader_gives_the_same_content(tmp_path: Path) -> None:
    by_us, by_mne = read_edf(write_edf(tmp_path)), read_mne(write_fif(tmp_path))
    assert isinstance(by_us, Content)
    assert by_us.names == by_mne.names
    assert by_us.rates_hz == by_mne.rates_hz
    assert [a.onset_s for a in by_us.annotations] == [a.onset_s for a in by_mne.annotations]
    assert stem_of(tmp_path / "a_raw.fif.gz") == "a_raw"


# ----------------------------------------------------------------------------- epochs


@pytest.mark.parametrize("name", ["FIF", "EEGLAB"])
def test_epochs_are_segments_laid_end_to_end(tmp_path: Path, name: str) -> None:
    epochs = epochs_of()
    data = epochs.get_data() * 1e6
    if name == "FIF":
        path = tmp_path / "a-epo.fif"
        epochs.save(path, verbose="ERROR")
    else:
        path = eeglab(tmp_path / "a.set", data.transpose(1, 2, 0), trials=6)
    recording = opened(path)
    assert recording.epoched
    assert recording.segments == tuple((100 * i, 100 * i + 100) for i in range(6))
    flat = np.moveaxis(data, 1, 0).reshape(4, -1)
    np.testing.assert_allclose(recording.read(0, 600), flat, atol=1e-3)
    np.testing.assert_allclose(recording.read(150, 370), flat[:, 150:370], atol=1e-3)
    told = [(round(a.onset_s, 3), a.description) for a in recording.annotations]
    assert told[:3] == [(0.2, "left"), (1.2, "right"), (2.2, "left")]
    assert any("6 epochs of 1 s" in note for note in recording.notes)


def test_epochs_beside_their_recording_are_not_taken_twice(tmp_path: Path) -> None:
    write_fif(tmp_path)
    epochs_of().save(tmp_path / "a-epo.fif", verbose="ERROR")
    epochs_of().save(tmp_path / "a_clean-epo.fif", verbose="ERROR")
    assert [f.path.name for f in find([tmp_path])] == ["a_raw.fif"]
    epochs_of().save(tmp_path / "ab-epo.fif", verbose="ERROR")  # another recording's
    assert [f.path.name for f in find([tmp_path])] == ["a_raw.fif", "ab-epo.fif"]
    (tmp_path / "ab-epo.fif").unlink()
    (tmp_path / "a_clean-epo.fif").unlink()
    (tmp_path / "a_raw.fif").unlink()
    assert [f.path.name for f in find([tmp_path])] == ["a-epo.fif"]


def test_a_file_without_a_single_epoch_is_refused(tmp_path: Path) -> None:
    epochs = epochs_of()
    epochs.drop([0, 1, 2, 3, 4, 5], verbose="ERROR")
    epochs.save(tmp_path / "a-epo.fif", verbose="ERROR")
    with pytest.raises(InputError, match="epochs"):
        opened(tmp_path / "a-epo.fif")


def test_endings_shared_with_other_things_need_their_companion(tmp_path: Path) -> None:
    for name in ("a.edf", "b.eeg", "b.pnt", "c.eeg", "d.data", "e.raw"):
        (tmp_path / name).write_bytes(b"x")
    assert [f.path.name for f in find([tmp_path])] == ["a.edf", "b.eeg"]
    assert [f.path.name for f in find([tmp_path], pattern="*.raw")] == ["e.raw"]


def test_lengths_that_contradict_each_other_are_refused_before_scipy_reads_them(
    tmp_path: Path,
) -> None:
    path = write_eeglab(tmp_path)
    assert not is_damaged(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    at = whole.index(b"setname")
    damaged[at - 8 : at - 4] = struct.pack("<i", 2**28)  # the length of the list of names
    path.write_bytes(bytes(damaged))
    assert is_damaged(path)
    with pytest.raises(InputError, match=r"a\.set: cannot be read as SET"):
        opened(path)
    path.write_bytes(whole[:-100])
    assert is_damaged(path)


def test_matlab_files_of_all_kinds_are_whole(tmp_path: Path) -> None:
    import scipy.io

    content = {
        "text": "some words",
        "cells": np.array(["a", 1.5, np.arange(3)], dtype=object),
        "whole": np.arange(12, dtype=np.int16).reshape(3, 4),
        "complex": np.exp(1j * np.arange(4)),
        "nested": {"a": {"b": np.empty((0, 0)), "c": "x"}},
    }
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
        assert not is_damaged(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_bytes(b"\x89HDF" + bytes(200))
    assert not is_damaged(tmp_path / "b.mat")


def test_a_fif_file_that_leads_back_to_itself_is_refused_and_not_followed(tmp_path: Path) -> None:
    path = write_fif(tmp_path)
    assert not is_endless(path)
    content = bytearray(path.read_bytes())
    second = 16 + struct.unpack_from(">i", content, 8)[0]
    struct.pack_into(">i", content, second + 12, second)
    path.write_bytes(bytes(content))
    assert is_endless(path)
    with pytest.raises(InputError, match=r"a_raw\.fif: cannot be read as FIF"):
        opened(path)
