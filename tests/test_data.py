from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_pipeline.data import Annotation, Axis, InputError, Recording, Samples, Scores, Windows


def recording(n_times: int = 1000, sfreq_hz: float = 100.0, **more: Any) -> Recording:
    """Two channels whose values are their sample's index, and its negative."""

    def read(start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= n_times
        ramp = np.arange(start, stop, dtype=np.float32)
        return np.stack([ramp, -ramp])

    return Recording(
        name="sub-01_eeg",
        subject="01",
        session="",
        path=Path("a.edf"),
        files=(Path("a.edf"),),
        ch_names=("Fz", "Cz"),
        positions_m=np.full((2, 3), np.nan),
        sfreq_hz=sfreq_hz,
        n_times=n_times,
        annotations=more.pop("annotations", ()),
        reader=read,
        **more,
    )


def samples(n: int = 6, **more: Any) -> Samples:
    """Three items; the value is three times the row's number plus the item's."""
    given: dict[str, Any] = {
        "values": np.arange(n * 3, dtype=np.float32).reshape(n, 3),
        "meta": pd.DataFrame({"recording": [f"r{i}" for i in range(n)], "subject": "s"}),
    }
    axes = (Axis("item", ("a", "b", "c")),)
    return Samples(kind="questionnaire", axes=axes, **given | more)


# --------------------------------------------------------------------------- recordings


def test_a_recording_is_one_segment_unless_told_otherwise() -> None:
    assert recording(250).segments == ((0, 250),)
    assert recording(250).duration_s == 2.5


@settings(max_examples=60, deadline=None)
@given(
    n_times=st.integers(0, 700),
    cut=st.integers(1, 699),
    length_s=st.floats(0.001, 9),
    halo_s=st.floats(0, 4),
)
def test_cores_of_blocks_give_back_each_segment_once(
    n_times: int, cut: int, length_s: float, halo_s: float
) -> None:
    gap = 5  # samples between the segments that belong to none
    segments = ((0, cut), (cut + gap, n_times)) if cut + gap < n_times else ((0, n_times),)
    whole = recording(n_times, segments=segments)
    cores = []
    for block in whole.blocks(length_s, halo_s):
        core = block.data[:, block.left : block.data.shape[1] - block.right]
        assert core.shape[1] == block.n_core
        assert core[0, 0] == block.start
        first, last = next(s for s in segments if s[0] <= block.start < s[1])
        assert block.data[0, 0] == max(first, block.start - round(halo_s * 100))
        assert block.data[0, -1] == min(last, block.start + block.n_core + round(halo_s * 100)) - 1
        cores.append(core)
    expected = [np.arange(*segment) for segment in segments]
    found = np.concatenate(cores, axis=1)[0] if cores else np.empty(0)
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_a_block_never_reads_across_a_segments_edge() -> None:
    blocks = list(recording(400, segments=((0, 150), (150, 400))).blocks(1.0, 2.0))
    assert [(b.start, b.left, b.n_core, b.right) for b in blocks] == [
        (0, 0, 100, 50),
        (100, 100, 50, 0),
        (150, 0, 100, 150),
        (250, 100, 100, 50),
        (350, 200, 50, 0),
    ]


def test_bad_spans_are_those_that_mne_would_reject() -> None:
    noted = (
        Annotation(1.0, 2.0, "BAD_boundary"),
        Annotation(4.0, 0.5, "bad blink"),
        Annotation(6.0, 1.0, "T1"),
        Annotation(7.0, 1.0, "not BAD"),
    )
    assert recording(annotations=noted).bad_spans() == ((1.0, 3.0), (4.0, 4.5))


def test_picked_channels_come_in_the_order_asked_for() -> None:
    whole = recording(bads=("Fz",))
    turned = whole.pick(("Cz", "Fz"))
    np.testing.assert_array_equal(turned.read(5, 8), whole.read(5, 8)[::-1])
    assert whole.pick(("Fz", "Cz")) is whole
    alone = whole.pick(("Cz",))
    assert alone.positions_m.shape == (1, 3)
    assert (alone.ch_names, alone.bads) == (("Cz",), ())


def test_a_recording_without_a_channel_of_the_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"'sub-01_eeg' lacks 1 of the model's 2 channels \(Oz\)"):
        recording().pick(("Fz", "Oz"))


# ------------------------------------------------------------------------------ windows


@pytest.fixture
def windows() -> Windows:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(500, 3)).astype(np.float32)
    return Windows(signal, np.arange(0, 451, 10), 50)


@pytest.mark.parametrize(
    "rows",
    [slice(3, 9), slice(None, None, 7), np.array([4, 0, 4]), np.arange(46) % 2 == 0, [1, 2]],
)
def test_windows_equal_the_slices_they_stand_for(windows: Windows, rows: Any) -> None:
    starts = windows.starts[rows]
    expected = np.stack([windows.signal[s : s + 50].T for s in starts])
    found = windows[rows]
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    np.testing.assert_array_equal(windows.take(rows)[:], expected)


def test_taking_windows_copies_no_signal(windows: Windows) -> None:
    assert windows.take(slice(0, 2)).signal is windows.signal
    assert windows.shape == (46, 3, 50)
    assert len(windows.take([5])) == 1


def test_what_is_gathered_may_be_changed_without_harm(windows: Windows) -> None:
    before = windows.signal.copy()
    windows[0:3][:] = 0
    np.testing.assert_array_equal(windows.signal, before)


def test_windows_over_a_memory_map_give_plain_arrays(windows: Windows, tmp_path: Path) -> None:
    stored = np.lib.format.open_memmap(
        tmp_path / "signal.npy", mode="w+", dtype=np.float32, shape=windows.signal.shape
    )
    stored[:] = windows.signal
    mapped = Windows(stored, windows.starts, windows.length)
    assert type(mapped[0:2]) is np.ndarray
    np.testing.assert_array_equal(mapped[:], windows[:])


def test_no_window_of_a_signal_shorter_than_one_is_an_empty_array() -> None:
    none = Windows(np.zeros((10, 2), np.float32), np.empty(0, np.int64), 50)
    assert none[:].shape == none.shape == (0, 2, 50)


# ------------------------------------------------------------------------------ samples


def test_samples_refuse_a_table_of_another_length() -> None:
    with pytest.raises(ValueError, match="6 values but 5 rows of meta"):
        samples(meta=pd.DataFrame({"recording": range(5)}))


@pytest.mark.parametrize(
    "rows", [slice(1, 3), [2, 0], np.array([2, 0]), np.arange(6) > 3, pd.Series([True] * 6), []]
)
def test_taking_samples_keeps_values_mask_and_meta_together(rows: Any) -> None:
    mask = np.arange(18).reshape(6, 3) % 4 != 0
    taken = samples(mask=mask).take(rows)
    assert taken.mask is not None
    np.testing.assert_array_equal(
        taken.values[:, 0] // 3, [int(r[1]) for r in taken.meta.recording]
    )
    np.testing.assert_array_equal(taken.mask, taken.values % 4 != 0)
    assert list(taken.meta.index) == list(range(len(taken)))


def test_a_selection_of_another_length_is_refused() -> None:
    with pytest.raises(IndexError):
        samples().take(np.array([True, False]))


def test_taking_samples_of_eeg_keeps_raw_and_cleaned_windows_together(windows: Windows) -> None:
    meta = pd.DataFrame({"recording": "r", "subject": "s", "window": range(46)})
    axes = (Axis("channel", ("Fz", "Cz", "Pz")), Axis("time", step=0.01, unit="s"))
    eeg = Samples("eeg", windows, meta, axes, sfreq_hz=100, raw=windows)
    taken = eeg.take(np.arange(46) % 5 == 0)
    assert isinstance(taken.values, Windows)
    assert isinstance(taken.raw, Windows)
    np.testing.assert_array_equal(taken.values.starts, taken.meta.window * 10)
    np.testing.assert_array_equal(taken.raw.starts, taken.values.starts)
    assert taken.shape == (3, 50)
    assert taken.entries == ("Fz", "Cz", "Pz")


def test_chunks_cover_every_row_once_and_in_order() -> None:
    some = samples(7)
    assert list(some.chunks(3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    values = np.concatenate([some.batch(chunk)[0] for chunk in some.chunks(3)])
    np.testing.assert_array_equal(values, some.values)


def test_pixels_are_no_entries_to_attribute_to() -> None:
    images = Samples(
        "mnist",
        np.zeros((1, 2, 2), np.float32),
        pd.DataFrame({"recording": ["a"]}),
        (Axis("row"), Axis("column")),
    )
    assert images.entries == ()
    assert samples().entries == ("a", "b", "c")


def test_scores_of_batches_join_in_order() -> None:
    parts = [
        Scores(np.array([1.0, 2.0]), np.ones((2, 3), np.float32)),
        Scores(np.array([3.0]), np.zeros((1, 3), np.float32)),
    ]
    joined = Scores.join(parts)
    np.testing.assert_array_equal(joined.total, [1, 2, 3])
    assert joined.by_entry.shape == (3, 3)
