"""When things happen in EDF and BDF files, and headers that cannot be true."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import mne
import numpy as np
import pytest
from edf_files import bare, tal
from lab import noise

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find

NAMES = ("Fz", "Cz", "Pz", "Oz")


def opened(path: Path) -> Recording:
    return open_recording(find([path])[0], EegSource(path=path))


def events(recording: Recording) -> list[tuple[float, str]]:
    return [(round(one.onset_s, 3), one.description) for one in recording.annotations]


KEPT = {record: tal(f"+{record}") for record in range(40)}
FIRST_IS_AN_EVENT = tal("+12.5", "seizure") + tal("+30", "eyes closed")


@pytest.mark.parametrize(
    ("kind", "lists"),
    [
        ("EDF+C", KEPT | {0: tal("+0") + FIRST_IS_AN_EVENT}),
        ("EDF+C", {0: FIRST_IS_AN_EVENT}),
        ("EDF+C", KEPT | {0: FIRST_IS_AN_EVENT + tal("+0")}),
        ("EDF+D", {0: FIRST_IS_AN_EVENT}),
        ("EDF+D", {0: FIRST_IS_AN_EVENT + tal("+0")}),
    ],
    ids=["standard", "no-time", "time-behind", "gaps-no-time", "gaps-first-only"],
)
def test_only_a_list_without_text_keeps_time(
    tmp_path: Path, kind: str, lists: dict[int, bytes]
) -> None:
    file = bare(tmp_path / "a.edf", noise(), NAMES, lists=lists, kind=kind)
    recording = opened(file)
    assert events(recording) == [(12.5, "seizure"), (30.0, "eyes closed")]
    assert recording.segments == ((0, 4000),)
    told = mne.io.read_raw_edf(file, verbose="ERROR").annotations
    assert events(recording) == [(float(a["onset"]), a["description"]) for a in told]


def test_a_start_within_a_second_shifts_no_event(tmp_path: Path) -> None:
    lists = {record: tal(f"+{record}.25") for record in range(40)}
    lists[12] += tal("+12.75", "seizure")
    recording = opened(bare(tmp_path / "a.edf", noise(), NAMES, lists=lists, kind="EDF+C"))
    assert events(recording) == [(12.5, "seizure")]


def test_a_record_that_keeps_no_time_follows_the_one_before(tmp_path: Path) -> None:
    lists = {r: tal(f"+{r if r < 10 else r + 100}") for r in range(40) if r not in (5, 15)}
    recording = opened(bare(tmp_path / "a.edf", noise(), NAMES, lists=lists, kind="EDF+D"))
    assert recording.segments == ((0, 1000), (11000, 14000))
    assert any("2 records keep no time" in note for note in recording.notes)


@pytest.mark.parametrize("record_s", ["0.000001", "nan", "inf", "-nan", "1e-300", "1e300"])
@pytest.mark.parametrize("ending", ["edf", "bdf"])
def test_impossible_rates_are_refused_before_anything_is_allocated(
    tmp_path: Path, record_s: str, ending: str
) -> None:
    file = bare(tmp_path / f"a.{ending}", noise(), NAMES, record_s=record_s)
    begun_s, begun_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as error:
        opened(file)
    assert "header" in str(error.value)
    assert "\n" not in str(error.value)
    assert time.process_time() - begun_s < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun_kb < 500_000


def test_a_gap_of_more_than_a_century_is_refused(tmp_path: Path) -> None:
    lists = {r: tal(f"+{r if r < 10 else r + 10**11}") for r in range(40)}
    with pytest.raises(InputError, match="century"):
        opened(bare(tmp_path / "a.edf", noise(), NAMES, lists=lists, kind="EDF+D"))


def test_values_are_those_of_mne(tmp_path: Path) -> None:
    file = bare(tmp_path / "a.bdf", noise(), NAMES)
    ours, theirs = opened(file), mne.io.read_raw_bdf(file, verbose="ERROR")
    assert np.allclose(ours.read(0, 4000), theirs.get_data() * 1e6, atol=1e-3)
