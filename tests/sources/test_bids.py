"""BIDS roots: sidecars are honoured, and mne-bids agrees with what is read."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import mne_bids
import numpy as np
import pytest
from bids_files import NAMES, data_set

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.bids import bids_root, read_sidecars
from ae_pipeline.sources.eeg import EegSource, describe, find, open_recording


def opened(root: Path, **keys: object) -> Recording:
    return open_recording(find([root])[0], EegSource(path=root, **keys))


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return rows[0], rows[1:]


def test_a_root_written_by_mne_bids_is_read_as_mne_bids_reads_it(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    recording = opened(tmp_path)
    place = mne_bids.BIDSPath(subject="01", task="rest", root=tmp_path, datatype="eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = mne_bids.read_raw_bids(place, verbose="ERROR")
    assert bids_root(file) == tmp_path
    assert recording.name == "sub-01_task-rest"
    assert recording.ch_names == tuple(NAMES[:5])
    expected = theirs.get_data(picks=NAMES[:5]) * 1e6
    np.testing.assert_allclose(recording.read(0, recording.n_times), expected, atol=1e-3)
    assert recording.bads == tuple(theirs.info["bads"]) == ("Pz",)
    assert recording.line_freq_hz == theirs.info["line_freq"] == 60
    ours = [(a.onset_s, a.duration_s, a.description) for a in recording.annotations]
    assert ours == [(a["onset"], a["duration"], a["description"]) for a in theirs.annotations]
    spots = np.array([theirs.info["chs"][i]["loc"][:3] for i in range(5)])
    np.testing.assert_allclose(recording.positions_m, spots, atol=1e-3)
    assert recording.eog == ("VEOG",)
    assert any("VEOG (EOG), ECG1 (ECG)" in note for note in recording.notes)


def test_channels_tsv_goes_before_the_file(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    channels = file.with_name("sub-01_task-rest_channels.tsv")
    head, rows = table(channels)
    kind, status = head.index("type"), head.index("status")
    rows[0][kind], rows[2][status], rows[3][status] = "EOG", "bad", "good"
    channels.write_text("\n".join("\t".join(row) for row in [head, *rows]))
    recording = opened(tmp_path)
    assert recording.ch_names == ("Fz", "Cz", "Pz", "Oz")
    assert set(recording.bads) == {"Cz"}


def test_sidecars_higher_up_hold_below_and_nearer_ones_go_before(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    near = json.loads(file.with_name("sub-01_task-rest_eeg.json").read_text())
    near.pop("Manufacturer", None)
    file.with_name("sub-01_task-rest_eeg.json").write_text(json.dumps(near))
    far = {"PowerLineFrequency": 50, "Manufacturer": "Acme", "ManufacturersModelName": "Amp 3"}
    (tmp_path / "task-rest_eeg.json").write_text(json.dumps(far))
    (tmp_path / "task-other_eeg.json").write_text('{"Manufacturer": "Other"}')
    recording = opened(tmp_path)
    assert recording.line_freq_hz == 60
    assert recording.state["amplifier"] == "Acme Amp 3"
    assert tmp_path / "task-rest_eeg.json" in recording.files
    assert tmp_path / "task-other_eeg.json" not in recording.files


def test_age_and_sex_are_known_and_nothing_else_of_the_person(tmp_path: Path) -> None:
    data_set(tmp_path)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\tname\nsub-01\t34\tF\tMustermann\nsub-02\tn/a\tM\tDoe\n"
    )
    recording = opened(tmp_path)
    assert (recording.state["age"], recording.state["sex"]) == ("34", "female")
    assert "Mustermann" not in repr(recording)


def test_what_was_done_to_events_tsv_counts(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    events = file.with_name("sub-01_task-rest_events.tsv")
    events.write_text("onset\tduration\ttrial_type\n3.25\tn/a\tstop\n7\t2\tBAD_cough\n")
    recording = opened(tmp_path)
    assert [a.description for a in recording.annotations if a.description == "stop"]
    assert (7.0, 9.0) in recording.bad_spans()
    assert events in recording.files


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("sub-01_task-rest_events.tsv", "onset\tduration\nsoon\t1\n", "soon"),
        ("sub-01_task-rest_channels.tsv", "label\ttype\nFz\tEEG\n", "name"),
        ("sub-01_task-rest_eeg.json", "{", "JSON"),
    ],
)
def test_a_damaged_sidecar_is_one_line(tmp_path: Path, name: str, content: str, word: str) -> None:
    data_set(tmp_path).with_name(name).write_text(content)
    with pytest.raises(InputError) as error:
        opened(tmp_path)
    assert name in str(error.value)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_coordinates_of_another_system_are_not_taken_for_the_heads(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    system = next(file.parent.glob("*coordsystem.json"))
    about = json.loads(system.read_text())
    system.write_text(json.dumps({**about, "EEGCoordinateSystem": "CTF"}))
    recording = opened(tmp_path)
    assert any("coordinates of CTF" in note for note in recording.notes)
    assert np.isfinite(recording.positions_m).all()  # by name


def test_no_root_no_sidecars(tmp_path: Path) -> None:
    for name in ("sub-01_task-rest_eeg.edf", "x.edf"):
        assert read_sidecars(tmp_path / name, sfreq_hz=100, duration_s=1) is None


def test_init_takes_the_mains_frequency_from_the_sidecars(tmp_path: Path) -> None:
    data_set(tmp_path)
    assert describe(find([tmp_path])).line_freq_hz == 60


@pytest.mark.parametrize(
    ("table", "unit", "note"),
    [
        ("onset\tduration\ttrial_type\n400\t100\tgo\n1100\t0\tstop\n", None, "taken as samples"),
        ("onset\tduration\ttrial_type\n4\t100\tgo\n11\t0\tstop\n", "samples", "taken as samples"),
        ("onset\tduration\tsample\tvalue\nn/a\t0\t400\tgo\nn/a\t0\t1100\tstop\n", None, ""),
        ("onset\ttrial_type\n2\tgo\nn/a\tlost\n5.5\tstop\n", None, "1 rows of"),
        ("onset\ttrial_type\n2\tgo\n5.5\tstop\n99\tlate\n", None, "1 of 3 events lie beyond"),
    ],
)
def test_onsets_in_samples_missing_or_late(
    tmp_path: Path, table: str, unit: str | None, note: str
) -> None:
    file = data_set(tmp_path)
    events = next(file.parent.glob("*_events.tsv"))
    events.write_text(table)
    about = {"onset": {"Units": unit}} if unit else {}
    events.with_suffix(".json").write_text(json.dumps(about))
    recording = opened(tmp_path)
    named = {a.description: a.onset_s for a in recording.annotations}
    expected = {"go": 2.0, "stop": 5.5} if unit is None else {"go": 0.02, "stop": 0.055}
    assert {name: named[name] for name in expected} == pytest.approx(expected)
    assert not note or any(note in each for each in recording.notes)


def test_a_person_is_known_by_the_label_alone(tmp_path: Path) -> None:
    data_set(tmp_path)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\n02\t9\tm\n01\t41\tF\n")
    assert opened(tmp_path).state["age"] == "41"
    assert opened(tmp_path).state["sex"] == "female"


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1e-3), ("V", 1.0), ("µV", 1.0)])
def test_units_of_channels_tsv_count_where_they_can_be_true(
    tmp_path: Path, unit: str, factor: float
) -> None:
    data_set(tmp_path)
    plain = opened(tmp_path)
    (file,) = tmp_path.rglob("*_channels.tsv")
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    at = rows[0].index("units")
    lines = [rows[0], *([*row[:at], unit, *row[at + 1 :]] for row in rows[1:])]
    file.write_text("\n".join("\t".join(row) for row in lines))
    header = next(tmp_path.rglob("*.vhdr"))
    text = header.read_text()
    if unit == "mV":  # the numbers are millivolts, the header says microvolts
        header.write_text(re.sub(r"(?m)^(Ch\d+=[^,]*,[^,]*),([\d.]+)", _thousandth, text))
    recording = opened(tmp_path)
    assert np.allclose(recording.read(0, 500), plain.read(0, 500), rtol=1e-3)


def _thousandth(match: re.Match[str]) -> str:
    return f"{match[1]},{float(match[2]) / 1000}"
