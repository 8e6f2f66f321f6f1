"""Stretches without numbers are masked; the rest of a recording is cleaned and cut as ever."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
from lab import noise

from ae_pipeline.data import InputError, Recording
from ae_pipeline.eeg.preprocess import Plan, Preprocess
from ae_pipeline.eeg.survey import survey, survey_with_stats
from ae_pipeline.eeg.windows import Windowing, cut
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find

NAMES = ["Fz", "Cz", "Pz", "Oz", "ECG"]


def recording(place: Path, data_uv: np.ndarray) -> Recording:
    info = mne.create_info(NAMES[: len(data_uv)], 100.0, "eeg", verbose="ERROR")
    file = place / "a_raw.fif"
    mne.io.RawArray(data_uv * 1e-6, info, verbose="ERROR").save(file, verbose="ERROR")
    return open_recording(find([file])[0], EegSource(path=file))


def plan_of(opened: Recording) -> Plan:
    config = Preprocess(high_pass_hz=1.0, low_pass_hz=30.0)
    return survey(opened, config, line_freq_hz=None, sfreq_hz=100.0)


def test_a_stretch_without_numbers_is_part_of_no_window(tmp_path: Path) -> None:
    data = noise()
    data[:, 1500:1700] = np.nan
    data[:3, 3000] = np.inf
    opened = recording(tmp_path, data)
    plan = plan_of(opened)
    assert plan.segments == ((0, 1500), (1700, 3000), (3001, 4000))
    assert not plan.bads or {bad.name for bad in plan.bads} == {"Oz"}
    assert any("2.01 s in 2 stretches: left out" in note for note in plan.notes)
    windowing = Windowing(length_s=1.0, stride_s=0.5)
    onsets = np.concatenate([s.meta["onset_s"] for s in cut(opened, plan, windowing=windowing)])
    assert not ((onsets + 1 > 15) & (onsets < 17)).any()
    config = Preprocess(high_pass_hz=1.0, low_pass_hz=30.0)
    again, stats = survey_with_stats(
        opened, config, line_freq_hz=None, sfreq_hz=100.0, windowing=windowing
    )
    assert again == plan
    assert stats is not None


def test_a_channel_without_numbers_is_bad_and_makes_no_hole(tmp_path: Path) -> None:
    data = noise()
    data[1], data[2], data[3, 100:200] = np.nan, np.nan, np.nan
    plan = plan_of(recording(tmp_path, data))
    assert plan.segments == ((0, 4000),) or plan.segments == ((0, 100), (200, 4000))
    assert {"Cz", "Pz"} <= set(plan.bad_names)


def test_nothing_but_holes_where_filters_fit_is_refused(tmp_path: Path) -> None:
    data = noise()
    data[:, np.arange(4000) % 200 < 20] = np.nan
    with pytest.raises(InputError, match="needs 3.3 s without interruption"):
        plan_of(recording(tmp_path, data))
