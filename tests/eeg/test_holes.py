"""Stretches without numbers are masked; the rest of a recording is cleaned and cut as ever."""

from __future__ import annotations

from dataclasses import replace
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


def test_windows_at_joins_are_as_large_as_others(tmp_path: Path) -> None:
    """A slow drift must not double where a segment is continued beyond its edge."""
    rng = np.random.default_rng(3)
    frequencies = np.fft.rfftfreq(40000, 0.01)
    pink = np.fft.irfft(np.fft.rfft(rng.normal(size=(4, 40000))) / np.maximum(frequencies, 0.2))
    opened = recording(tmp_path, 20 * pink / pink.std())
    joined = replace(opened, segments=tuple((a, a + 1000) for a in range(0, 40000, 1000)))
    plans = [plan_of(each) for each in (opened, joined)]
    windowing = Windowing(length_s=1.0, stride_s=0.5)
    spreads = []
    for each, plan in zip((opened, joined), plans, strict=True):
        found = [
            s.batch(slice(None))[0].std(axis=(1, 2)) for s in cut(each, plan, windowing=windowing)
        ]
        onsets = [s.meta["onset_s"].to_numpy() for s in cut(each, plan, windowing=windowing)]
        at_join = np.concatenate(onsets) % 10 < 0.25
        spreads.append(np.concatenate(found)[at_join])
    assert np.median(spreads[1]) < 1.1 * np.median(spreads[0])
    assert np.quantile(spreads[1], 0.95) < 1.2 * np.quantile(spreads[0], 0.95)
