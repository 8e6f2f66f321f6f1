"""Which channels are EEG: by maker's names, and by what a study declares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edf_files import bare, write_edf
from lab import noise
from pydantic import ValidationError

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.channels import harmonise, not_eeg
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find

SCALP = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def opened(path: Path, **source: object) -> Recording:
    return open_recording(find([path])[0], EegSource(path=path, **source))  # type: ignore[arg-type]


EYES = "HEO VEO VEOU HEOL LO1 LO2 IO1 SO2 E1 E2 Pg1 Pg2 HEOG LOC ROC E1-M2"
OTHERS = {
    "EOG": EYES,
    "reference or ground": "REF GND CMS E $A1 $A2",
    "auxiliary": "X1 X11 DC01 EXG1 BN1 DIF1 PAT",
    "not connected": "- -- NC N/C DUMMY NA1 UNK",
    "trigger": "Status STI TRIG DIN1 MKR+ Mark1",
    "nerve stimulator": "VNS",
    "pulse or oxygen": "SpO2 PR HR",
    "ECG": "EKG1 ECG",
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in OTHERS.items() for name in names.split()]
)
def test_names_of_makers_are_no_eeg_beside_a_scalp(name: str, kind: str) -> None:
    for given in (name, f"POL {name}", f"EEG {name}-Ref", name.lower()):
        assert not_eeg(harmonise(given), [*SCALP, given]) == kind


@pytest.mark.parametrize(
    "names",
    [
        [f"E{i}" for i in range(1, 33)],
        [f"X{i}" for i in range(1, 9)],
        [f"{letter}{i}" for letter in "ABC" for i in range(1, 33)],
        ["T1", "T2", *SCALP],
    ],
)
def test_names_of_caps_are_eeg(names: list[str]) -> None:
    assert not [name for name in names if not_eeg(name, names)]


@pytest.mark.parametrize("eyes", [("HEO", "VEO"), ("LO1", "IO1"), ("E1", "E2"), ("POL Pg1", "-")])
def test_eye_and_dummy_channels_are_left_out_and_eyes_kept_for_correction(
    tmp_path: Path, eyes: tuple[str, str]
) -> None:
    file = write_edf(tmp_path / "a.edf", noise(8), [*SCALP, *eyes])
    recording = opened(file)
    assert recording.ch_names == SCALP
    assert recording.eog == tuple(name for name in eyes if name != "-")
    kept = opened(file, types={eyes[0]: "eeg"})
    assert len(kept.ch_names) == 7
    assert opened(file, pick=(eyes[0], "Fp1")).file_names == (eyes[0], "Fp1")


def test_what_a_study_declares_goes_first(tmp_path: Path) -> None:
    names = ("1", "2", "3", "Fz", "eyeL", "eyeR", "Q1")
    file = bare(tmp_path / "a.edf", noise(7), names)
    recording = opened(file, rename={1: "Cz", "2": "Pz"}, eog=["EYE*"], types={"q?": "misc"})
    assert recording.ch_names == ("Cz", "Pz", "3", "Fz")
    assert recording.file_names == ("1", "2", "3", "Fz")
    assert recording.eog == ("eyeL", "eyeR")
    assert np.isfinite(recording.positions_m[[0, 1, 3]]).all()
    assert recording.pick(("Pz", "Fz")).file_names == ("2", "Fz")


@pytest.mark.parametrize(
    ("header", "units", "factor"),
    [("uV", "mV", 1e3), ("", "uV", 1e-6), ("mV", {"F*": "uV", "?z": "µV"}, 1e-3)],
)
def test_declared_units_replace_those_of_the_header(
    tmp_path: Path, header: str, units: str | dict[str, str], factor: float
) -> None:
    names = ("Fz", "Cz", "Pz", "Oz")
    stored = noise() / (1e3 if units == "mV" else 1)
    file = bare(tmp_path / "a.edf", stored, names, units=(header,) * 4, physical=327.67)
    with pytest.raises(InputError, match="unit"):
        opened(file)
    recording = opened(file, units=units)
    assert np.allclose(recording.read(0, 100), noise()[:, :100], atol=11)
    assert any("4 channels are read in the unit stated" in note for note in recording.notes)


@pytest.mark.parametrize(
    "wrong", [{"units": "parsec"}, {"units": {"Fz": "kg"}}, {"types": {"Fz": "brain"}}]
)
def test_an_unknown_unit_or_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EegSource(path=Path(), **wrong)  # type: ignore[arg-type]
