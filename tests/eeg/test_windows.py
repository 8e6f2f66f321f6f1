from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ae_pipeline.data import Annotation, InputError, Recording, Samples, Windows
from ae_pipeline.eeg.cleaning import apply
from ae_pipeline.eeg.preprocess import Plan, Preprocess
from ae_pipeline.eeg.survey import survey, survey_with_stats
from ae_pipeline.eeg.windows import Windowing, count_windows, cut, cut_again
from ae_pipeline.ingest.materialise import materialise
from ae_pipeline.sources.eeg import EegSource, find, open_recording

RNG = np.random.default_rng(5)


def in_memory(n_times: int, sfreq_hz: float = 100.0, **keys: object) -> Recording:
    signal = RNG.normal(0, 20, (2, n_times)).astype(np.float32)
    recording = Recording(
        name="sub-03_rest",
        subject="03",
        session="a",
        path=Path("sub-03_rest.edf"),
        files=(),
        ch_names=("Fz", "Cz"),
        positions_m=np.full((2, 3), np.nan),
        sfreq_hz=sfreq_hz,
        n_times=n_times,
        annotations=(),
        reader=lambda start, stop: signal[:, start:stop],
    )
    return replace(recording, **keys)


def planned(recording: Recording, sfreq_hz: float | None = None) -> Plan:
    config = Preprocess(high_pass_hz=1.0, low_pass_hz=40.0)
    return survey(recording, config, line_freq_hz=50.0, sfreq_hz=sfreq_hz or recording.sfreq_hz)


def everything(chunks: list[Samples]) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    values = np.concatenate([chunk.values[:] for chunk in chunks])
    raw = np.concatenate([chunk.raw[:] for chunk in chunks])
    return values, raw, pd.concat([chunk.meta for chunk in chunks], ignore_index=True)


@pytest.fixture(scope="module")
def long_recording(shared_data: Path) -> Recording:
    file = shared_data / "eegmmidb/S001R03.edf"
    recording = open_recording(find([file])[0], EegSource(path=Path()))
    bad = (Annotation(31.0, 2.5, "BAD_move"), Annotation(80.1, 0.0, "BAD_click"))
    return replace(
        recording,
        annotations=(*recording.annotations, *bad),
        segments=((0, 9000), (9133, 20000)),
    )


@pytest.mark.parametrize("sfreq_hz", [160.0, 128.0])
def test_windows_and_values_do_not_depend_on_block_size(
    long_recording: Recording, sfreq_hz: float
) -> None:
    plan = planned(long_recording, sfreq_hz)
    windowing = Windowing(length_s=2.0, stride_s=0.7)
    expected = everything(list(cut(long_recording, plan, windowing=windowing, block_s=1e6)))
    for block_s in (1.0, 17.3, 60.0):
        chunks = list(cut(long_recording, plan, windowing=windowing, block_s=block_s))
        assert all(isinstance(chunk.values, Windows) and len(chunk) for chunk in chunks)
        values, raw, meta = everything(chunks)
        np.testing.assert_array_equal(values, expected[0])
        np.testing.assert_array_equal(raw, expected[1])
        pd.testing.assert_frame_equal(meta, expected[2])


@pytest.mark.parametrize("sfreq_hz", [160.0, 128.0])
def test_a_few_windows_can_be_cut_again(long_recording: Recording, sfreq_hz: float) -> None:
    plan = planned(long_recording, sfreq_hz)
    windowing = Windowing(length_s=2, stride_s=0.7)
    every = np.concatenate([s.values[:] for s in cut(long_recording, plan, windowing=windowing)])
    few = [len(every) - 1, 0, len(every) // 2, 3]
    again = cut_again(long_recording, plan, windowing=windowing, numbers=few)
    np.testing.assert_allclose(again.values, every[few], rtol=0, atol=1e-3)  # microvolts


@pytest.mark.parametrize("sfreq_hz", [160.0, 128.0])
def test_a_window_is_the_signal_at_its_onset_clean_and_raw(
    long_recording: Recording, sfreq_hz: float
) -> None:
    plan = planned(long_recording, sfreq_hz)
    values, raw, meta = everything(
        list(
            cut(long_recording, plan, windowing=Windowing(length_s=1.5, stride_s=0.5), block_s=13.0)
        )
    )
    assert values.shape[2] == round(1.5 * sfreq_hz)
    assert raw.shape[2] == 240
    clean = {}
    for block in apply(plan, long_recording):
        clean.setdefault(block.segment, []).append(block.clean)
    joined = {segment: np.concatenate(parts, axis=1) for segment, parts in clean.items()}
    for row in (0, 7, len(meta) // 2, len(meta) - 1):
        onset_s = meta["onset_s"][row]
        segment = int(onset_s * 160 >= 9133 - 1e-6)
        start = round((onset_s - plan.segments[segment][0] / 160) * sfreq_hz)
        expected = joined[segment][:, start : start + values.shape[2]]
        np.testing.assert_array_equal(values[row], expected)
        first = int(onset_s * 160 + 1e-6)
        np.testing.assert_array_equal(raw[row], long_recording.read(first, first + 240))


def test_windows_keep_to_segments_and_clear_of_bad_spans(long_recording: Recording) -> None:
    plan = planned(long_recording)
    _, _, meta = everything(
        list(cut(long_recording, plan, windowing=Windowing(length_s=2.0, stride_s=0.5)))
    )
    start, end = meta["onset_s"], meta["onset_s"] + meta["duration_s"]
    assert not ((start < 33.5 - 1e-9) & (end > 31.0 + 1e-9)).any()
    assert not ((start < 80.1) & (end > 80.1)).any()
    assert not ((start < 9133 / 160) & (end > 9000 / 160 + 1e-9)).any()
    # all that are left are there: on the grid of each segment
    grids = [np.arange(0, 54.3, 0.5), 9133 / 160 + np.arange(0, 66, 0.5)]
    every = np.concatenate([grids[0][grids[0] + 2 <= 56.25], grids[1][grids[1] + 2 <= 125]])
    clear = ((every + 2 <= 31) | (every >= 33.5)) & ((every + 2 <= 80.1) | (every >= 80.1))
    np.testing.assert_allclose(start, every[clear], atol=1e-9)
    assert meta["window"].tolist() == list(range(clear.sum()))
    assert (
        count_windows(long_recording, plan, windowing=Windowing(length_s=2.0, stride_s=0.5))
        == clear.sum()
    )


def test_axes_meta_and_rate_say_what_a_window_is() -> None:
    recording = in_memory(3000)
    (chunk,) = cut(recording, planned(recording), windowing=Windowing(length_s=2.0, stride_s=1.0))
    assert chunk.kind == "eeg"
    assert chunk.sfreq_hz == 100.0
    assert (chunk.axes[0].name, chunk.axes[0].labels, chunk.axes[0].unit) == (
        "channel",
        ("Fz", "Cz"),
        "uV",
    )
    assert (chunk.axes[1].name, chunk.axes[1].step) == ("time", 0.01)
    assert chunk.shape == (2, 200)
    assert len(chunk) == 29
    first = chunk.meta.iloc[1].to_dict()
    assert first == {
        "recording": "sub-03_rest",
        "subject": "03",
        "session": "a",
        "window": 1,
        "onset_s": 1.0,
        "duration_s": 2.0,
    }


def test_overlap_costs_no_memory() -> None:
    recording = in_memory(3000)
    (chunk,) = cut(recording, planned(recording), windowing=Windowing(length_s=2.0, stride_s=0.01))
    assert len(chunk) == 2801
    assert isinstance(chunk.values, Windows)
    assert chunk.values.signal.size == 2 * 3000


def test_a_stride_that_is_no_whole_number_of_samples_does_not_drift() -> None:
    recording = in_memory(60_000)
    chunks = list(
        cut(recording, planned(recording), windowing=Windowing(length_s=1.0, stride_s=0.125))
    )
    onset_s = everything(chunks)[2]["onset_s"]
    np.testing.assert_allclose(onset_s, np.arange(len(onset_s)) * 0.125, atol=0.0051)


def test_windows_longer_than_a_block_are_cut_too() -> None:
    recording = in_memory(30_000)
    chunks = list(
        cut(
            recording,
            planned(recording),
            windowing=Windowing(length_s=150.0, stride_s=50.0),
            block_s=5.0,
        )
    )
    _, raw, meta = everything(chunks)
    assert meta["onset_s"].tolist() == [0.0, 50.0, 100.0, 150.0]
    np.testing.assert_array_equal(raw[1], recording.read(5000, 20_000))


def test_short_segments_share_a_chunk_and_no_window_spans_two() -> None:
    edges = tuple(range(0, 40_001, 400))
    trials = in_memory(40_000, segments=tuple(itertools.pairwise(edges)))
    plan = planned(trials)
    windowing = Windowing(length_s=2.0, stride_s=1.0)
    chunks = list(cut(trials, plan, windowing=windowing, block_s=60.0))
    assert len(chunks) == 7
    values, raw, meta = everything(chunks)
    assert meta["window"].tolist() == list(range(300))
    assert meta["onset_s"].tolist() == [4.0 * t + w for t in range(100) for w in range(3)]
    for row in (0, 2, 3, 150, 299):
        first = round(meta["onset_s"][row] * 100)
        np.testing.assert_array_equal(raw[row], trials.read(first, first + 200))
        (alone,) = apply(replace(plan, segments=(edges_of(first),)), trials)
        np.testing.assert_array_equal(values[row], alone.clean[:, first % 400 :][:, :200])


def edges_of(first: int) -> tuple[int, int]:
    return first // 400 * 400, first // 400 * 400 + 400


def test_a_recording_shorter_than_a_window_is_one_line() -> None:
    recording = in_memory(500)
    with pytest.raises(InputError) as error:
        list(cut(recording, planned(recording), windowing=Windowing(length_s=6.0)))
    assert str(error.value) == (
        "window of 6 s exceeds recording 'sub-03_rest' (5 s); "
        "shorten windows.length_s or drop the file"
    )
    pieces = in_memory(1000, segments=((0, 500), (500, 1000)))
    with pytest.raises(InputError, match="longest uninterrupted stretch"):
        list(cut(pieces, planned(pieces), windowing=Windowing(length_s=6.0)))


def test_no_clean_window_at_all_is_one_line() -> None:
    recording = in_memory(1000, annotations=(Annotation(1.0, 8.0, "BAD_all"),))
    with pytest.raises(InputError, match=r"no window of 2 s clear of BAD.*8 of 10 s"):
        list(cut(recording, planned(recording), windowing=Windowing(length_s=2.0)))


@pytest.mark.parametrize("keys", [{"length_s": 0.0}, {"stride_s": -1.0}])
def test_lengths_and_strides_are_positive(keys: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0.001"):
        Windowing(**keys)


# ------------------------------------------------------------------------- materialise


def test_many_recordings_stand_on_one_mapped_file(
    long_recording: Recording, tmp_path: Path
) -> None:
    windowing = Windowing(length_s=2.0, stride_s=0.5)
    other = replace(long_recording, name="other", segments=((0, 4000),), annotations=())
    parts = [(recording, planned(recording)) for recording in (long_recording, other)]
    samples = materialise(parts, windowing, path=tmp_path / "cache")
    assert isinstance(samples.values.signal, np.memmap)
    assert samples.raw is None
    files = sorted(file.name for file in (tmp_path / "cache").iterdir())
    assert files == ["common.npy", "robust_stats.npz", "signal.npy"]
    streamed = [everything(list(cut(*part, windowing=windowing, block_s=9.0))) for part in parts]
    np.testing.assert_array_equal(samples.values[:], np.concatenate([s[0] for s in streamed]))
    meta = pd.concat([s[2] for s in streamed], ignore_index=True)
    pd.testing.assert_frame_equal(samples.meta, meta)


def test_training_and_scoring_find_the_same_usual_in_a_recording(
    long_recording: Recording, tmp_path: Path
) -> None:
    windowing = Windowing(length_s=2.0, stride_s=0.5)
    config = Preprocess(high_pass_hz=1.0, low_pass_hz=40.0)
    for name, sfreq_hz in (("same rate", 160.0), ("resampled", 128.0)):
        plan, stats = survey_with_stats(
            long_recording, config, line_freq_hz=50.0, sfreq_hz=sfreq_hz, windowing=windowing
        )
        assert plan == planned(long_recording, sfreq_hz)
        assert stats is not None
        samples = materialise([(long_recording, plan)], windowing, path=tmp_path / name)
        trained = samples.robust_stats[long_recording.name]
        for field in ("residual_weights", "center", "spread"):
            found, expected = getattr(stats, field), getattr(trained, field)
            np.testing.assert_allclose(found, expected, atol=2e-3, err_msg=f"{name} {field}")


def test_a_finished_file_is_used_again_and_an_unfinished_one_never_there(tmp_path: Path) -> None:
    recording = in_memory(3000)
    part = (recording, planned(recording))
    windowing = Windowing()

    def broken(start: int, stop: int) -> np.ndarray:
        raise InputError("disk gone")

    with pytest.raises(InputError, match="disk gone"):
        materialise([(replace(recording, reader=broken), part[1])], windowing, path=tmp_path)
    assert not list(tmp_path.iterdir())
    first = materialise([part], windowing, path=tmp_path)
    written = (tmp_path / "signal.npy").stat().st_mtime_ns
    again = materialise([(replace(recording, reader=broken), part[1])], windowing, path=tmp_path)
    assert (tmp_path / "signal.npy").stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.values[:], again.values[:])


def test_other_channels_or_another_order_are_refused_by_name(tmp_path: Path) -> None:
    first = in_memory(3000)
    plan = planned(first)
    for names, told in (
        (("Fz", "Oz"), "has Oz more and lacks Cz"),
        (("Cz", "Fz"), "another order"),
    ):
        other = replace(first, name="other", ch_names=names)
        with pytest.raises(InputError, match=told) as error:
            materialise([(first, plan), (other, planned(other))], Windowing(), path=tmp_path)
        assert "'other'" in str(error.value)
        assert "'sub-03_rest'" in str(error.value)


def test_different_rates_are_refused(tmp_path: Path) -> None:
    first = in_memory(3000, 200.0)
    parts = [(first, planned(first)), (first, planned(first, 100.0))]
    with pytest.raises(InputError, match="sfreq_hz"):
        materialise(parts, Windowing(), path=tmp_path)


# --------------------------------------------------------------- at events, and epochs


def test_windows_at_events_start_where_the_named_events_do(long_recording: Recording) -> None:
    plan = planned(long_recording, 128.0)
    windowing = Windowing(length_s=1.0, at=["T[12]"], offset_s=-0.25)
    meta = everything(list(cut(long_recording, plan, windowing=windowing)))[2]
    named = [a.onset_s for a in long_recording.annotations if a.description in ("T1", "T2")]
    wanted = np.array(named) - 0.25
    gaps = [np.abs(wanted - onset).min() for onset in meta["onset_s"]]
    assert max(gaps) < 0.5 / 128
    assert 0.6 * len(wanted) < len(meta) <= len(wanted)  # none across the gap or a bad stretch
    regular = Windowing(length_s=1.0, stride_s=0.25)
    others = everything(list(cut(long_recording, plan, windowing=regular)))
    one = int(np.flatnonzero(np.isin(meta["onset_s"], others[2]["onset_s"]))[0])
    there = int(np.flatnonzero(others[2]["onset_s"] == meta["onset_s"][one])[0])
    values = everything(list(cut(long_recording, plan, windowing=windowing, block_s=3.0)))[0]
    np.testing.assert_array_equal(values[one], others[0][there])


def test_a_name_no_event_has_is_refused_with_those_there_are(long_recording: Recording) -> None:
    with pytest.raises(InputError, match="no event named S1 .*T0, T2"):
        count_windows(long_recording, planned(long_recording), windowing=Windowing(at="S1"))


def epoched(**keys: object) -> Recording:
    segments = tuple((80 * i, 80 * i + 80) for i in range(10))
    return in_memory(800, segments=segments, epoched=True, **keys)


def unfiltered(recording: Recording, sfreq_hz: float | None = None) -> Plan:
    config = Preprocess(high_pass_hz=None, low_pass_hz=30.0)
    return survey(recording, config, line_freq_hz=None, sfreq_hz=sfreq_hz or recording.sfreq_hz)


@pytest.mark.parametrize("sfreq_hz", [100.0, 90.0])
def test_the_files_own_epochs_are_one_window_each(sfreq_hz: float) -> None:
    bad = (Annotation(2.5, 0.1, "BAD_blink"),)
    recording = epoched(annotations=bad)
    plan = unfiltered(recording, sfreq_hz)
    values, _, meta = everything(
        list(cut(recording, plan, windowing=Windowing(length_s=0.8, at="epochs")))
    )
    expected = [0.8 * i for i in range(10) if i != 3]
    np.testing.assert_allclose(meta["onset_s"], expected, atol=1e-9)
    assert values.shape == (9, 2, round(0.8 * sfreq_hz))


def test_epochs_of_another_length_and_continuous_recordings_are_refused() -> None:
    with pytest.raises(InputError, match=r"epochs of 0\.8 s.*set it to 0\.8"):
        count_windows(
            epoched(), unfiltered(epoched()), windowing=Windowing(length_s=0.5, at="epochs")
        )
    recording = in_memory(800)
    with pytest.raises(InputError, match="is continuous"):
        count_windows(
            recording, unfiltered(recording), windowing=Windowing(length_s=0.5, at="epochs")
        )


def test_a_high_pass_that_no_epoch_can_hold_says_what_to_do() -> None:
    with pytest.raises(InputError, match="high_pass_hz to null"):
        survey(epoched(), Preprocess(), line_freq_hz=None, sfreq_hz=100.0)


@pytest.mark.parametrize("wrong", [{"stride_s": 1e-9}, {"length_s": 1e-9}, {"length_s": np.inf}])
def test_windows_shorter_than_a_millisecond_or_endless_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Windowing(**wrong)  # type: ignore[arg-type]
