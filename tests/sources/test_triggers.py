"""Events of trigger channels, against MNE's find_events."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
from edf_files import bare, tal, write_edf
from lab import noise

from ae_pipeline.data import Recording
from ae_pipeline.eeg.preprocess import Preprocess
from ae_pipeline.eeg.survey import survey
from ae_pipeline.eeg.windows import Windowing, count_windows
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find

NAMES = ("Fz", "Cz", "Pz", "Oz")
AT = {round(100 * s): 1 + number % 2 for number, s in enumerate(np.arange(2, 38, 4))}


def opened(path: Path, **source: object) -> Recording:
    return open_recording(find([path])[0], EegSource(path=path, **source))  # type: ignore[arg-type]


def codes(n: int = 4000, rest: int = 0) -> np.ndarray:
    values = np.full(n, rest)
    for start, code in AT.items():
        values[start : start + 20] = rest | code
    return values


def listed(recording: Recording) -> dict[int, str]:
    return {round(one.onset_s * 100): one.description for one in recording.annotations}


EXPECTED = {start: str(code) for start, code in AT.items()}


def write_bdf(path: Path, status: np.ndarray) -> Path:
    """A BDF file whose Status channel holds numbers as BioSemi stores them."""
    bare(path, np.vstack([noise(), np.zeros(4000)]), (*NAMES, "Status"))
    content = bytearray(path.read_bytes())
    stored = status.astype("<i4").view(np.uint8).reshape(-1, 100, 4)[:, :, :3]
    for record, values in enumerate(stored):
        at = 256 * 6 + (record * 5 + 4) * 300
        content[at : at + 300] = values.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rest", [0, 1 << 20, 0xFE, (1 << 20) + 0xF000])
def test_status_of_biosemi(tmp_path: Path, rest: int) -> None:
    file = write_bdf(tmp_path / "a.bdf", codes(rest=rest))
    recording = opened(file)
    raw = mne.io.read_raw_bdf(file, verbose="ERROR")
    found = mne.find_events(raw, mask=0xFFFF, mask_type="and", verbose="ERROR")
    assert listed(recording) == {int(at): str(code) for at, _, code in found}
    if rest in (0, 1 << 20):
        assert listed(recording) == EXPECTED
        assert any("9 events from trigger channel Status" in note for note in recording.notes)


@pytest.mark.parametrize("name", ["STI 014", "TRIG", "trigger"])
def test_stim_channels_of_fif_are_usable_by_windows(tmp_path: Path, name: str) -> None:
    info = mne.create_info([*NAMES, name], 100.0, ["eeg"] * 4 + ["stim"])
    file = tmp_path / "a_raw.fif"
    raw = mne.io.RawArray(np.vstack([noise() * 1e-6, codes()]), info, verbose="ERROR")
    raw.save(file, verbose="ERROR")
    recording = opened(file, events={1: "go", "2": "stop"})
    assert set(listed(recording).values()) == {"go", "stop"}
    plan = survey(
        recording, Preprocess(high_pass_hz=1.0, low_pass_hz=30.0), line_freq_hz=None, sfreq_hz=100.0
    )
    assert count_windows(recording, plan, windowing=Windowing(length_s=1, at=("go",))) == 5


def test_several_channels_keep_their_names(tmp_path: Path) -> None:
    other = np.where(np.arange(4000) == 1000, 1.0, 0.0)
    rows = np.vstack([noise(), codes() * 1.0, other])
    recording = opened(bare(tmp_path / "a.edf", rows, (*NAMES, "TRIG", "DIN1"), physical=32767))
    assert listed(recording)[1000] == "DIN1" or listed(recording)[1000] == "TRIG/1"
    assert listed(recording)[200] == "TRIG/1"


def test_an_analog_pulse_counts_where_it_crosses_half_of_its_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pulses = (codes() > 0) * 900.0 + rng.normal(scale=5, size=4000)
    file = write_edf(tmp_path / "a.edf", np.vstack([noise(), pulses]), [*NAMES, "TRIG"])
    assert sorted(listed(opened(file))) == sorted(AT)


def test_a_channel_that_never_rests_gives_no_events(tmp_path: Path) -> None:
    counter = np.arange(4000) % 7.0
    file = bare(tmp_path / "a.edf", np.vstack([noise(), counter]), (*NAMES, "TRIG"))
    recording = opened(file)
    assert not recording.annotations
    assert any("changes too often" in note for note in recording.notes)


def test_events_that_the_file_lists_under_better_names_are_not_doubled(tmp_path: Path) -> None:
    lists = {r: tal(f"+{r}") for r in range(40)}
    for start, code in AT.items():
        lists[start // 100] += tal(f"+{start / 100:g}", f"Stimulus/S  {code}")
    rows = np.vstack([noise(), codes() * 1.0])
    file = bare(tmp_path / "a.edf", rows, (*NAMES, "TRIG"), lists=lists, kind="EDF+C")
    assert set(listed(opened(file)).values()) == {"Stimulus/S  1", "Stimulus/S  2"}
    named = opened(file, events={"S  1": "eyes open", "Stimulus/S*2": "target"})
    assert set(listed(named).values()) == {"eyes open", "target"}
