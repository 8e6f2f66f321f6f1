"""Planted events, held against what they are said to be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks, welch

from ae_pipeline.sources.faults import KINDS, Event, deviation, plant, scatter

SFREQ_HZ = 256.0
BAND_HZ = (0.5, 40.0)
ADDED = [kind for kind in KINDS if kind not in ("flat", "clipped", "exchanged")]


@pytest.fixture(scope="module")
def signal_uv() -> NDArray[np.float64]:
    """A minute of three channels with the falling spectrum of EEG."""
    rng = np.random.default_rng(0)
    n = round(60 * SFREQ_HZ)
    spectrum = np.fft.rfft(rng.standard_normal((3, n)))
    spectrum /= np.maximum(np.fft.rfftfreq(n, 1 / SFREQ_HZ), 0.5)
    scales = np.array([[8.0], [15.0], [30.0]])
    white = np.fft.irfft(spectrum)
    return scales * white / white.std(axis=1, keepdims=True)


def event_of(kind: str, *, channels: tuple[int, ...] = (1,), **more: object) -> Event:
    freq_hz = 35.0 if kind == "line_noise" else None
    event = Event(20.0, 3.0, kind, (0, 2) if kind == "exchanged" else channels, freq_hz=freq_hz)
    return replace(event, **more)


def planted(signal_uv: NDArray[np.float64], event: Event, seed: int = 1) -> NDArray[np.float64]:
    return plant(signal_uv, SFREQ_HZ, event=event, rng=np.random.default_rng(seed), band_hz=BAND_HZ)


def stretch_of(event: Event) -> slice:
    return slice(
        round(event.onset_s * SFREQ_HZ), round((event.onset_s + event.duration_s) * SFREQ_HZ)
    )


@pytest.mark.parametrize("strength", ["strong", "subtle"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_stretch_of_the_named_channels_changes(
    signal_uv: NDArray[np.float64], kind: str, strength: str
) -> None:
    event = event_of(kind, strength=strength)
    before = signal_uv.copy()
    changed = planted(signal_uv, event) != signal_uv
    inside = np.zeros_like(changed)
    inside[list(event.channels), stretch_of(event)] = True
    assert not (changed & ~inside).any()
    assert (changed & inside).sum() > 0.5 * SFREQ_HZ * (0.3 if kind == "blink" else 1)
    np.testing.assert_array_equal(signal_uv, before)


@pytest.mark.parametrize("kind", ADDED)
def test_what_is_added_lies_in_the_recordings_band(
    signal_uv: NDArray[np.float64], kind: str
) -> None:
    added = (planted(signal_uv, event_of(kind)) - signal_uv)[1]
    power = np.abs(np.fft.rfft(added)) ** 2
    freqs_hz = np.fft.rfftfreq(added.size, 1 / SFREQ_HZ)
    # above the band only the filter's skirt is left, a hundred-thousandth where noise is white
    assert power[freqs_hz > 1.5 * BAND_HZ[1]].sum() < 5e-3 * power.sum()
    lowest = BAND_HZ[0] / 2 if kind != "slow_drift" else 0.1
    assert power[freqs_hz < lowest].sum() < 0.1 * power.sum()


@pytest.mark.parametrize("kind", ADDED)
def test_heights_are_in_deviations_of_each_channel_and_fall_along_the_list(
    signal_uv: NDArray[np.float64], kind: str
) -> None:
    def peaks(strength: str) -> NDArray[np.float64]:
        new = planted(signal_uv, event_of(kind, channels=(2, 0), strength=strength))
        heights = np.abs(new - signal_uv).max(axis=1) / deviation(signal_uv)
        assert heights[1] == 0
        assert heights[0] == pytest.approx(0.8 * heights[2])
        return heights

    strong, subtle = peaks("strong")[2], peaks("subtle")[2]
    assert strong >= 2 * subtle > 0


def test_deviation_is_that_of_a_normal_signal_whatever_its_outliers() -> None:
    signal = 7.0 * np.random.default_rng(0).standard_normal((1, 20_000)) + 100
    signal[0, :1000] = 1e6
    assert deviation(signal)[0] == pytest.approx(7.0, rel=0.1)


def test_line_noise_raises_its_own_frequency_on_its_own_channel(
    signal_uv: NDArray[np.float64],
) -> None:
    event = event_of("line_noise")
    freqs_hz, before = welch(signal_uv[:, stretch_of(event)], SFREQ_HZ, nperseg=512)
    after = welch(planted(signal_uv, event)[:, stretch_of(event)], SFREQ_HZ, nperseg=512)[1]
    ratio = after / before
    assert freqs_hz[ratio[1].argmax()] == pytest.approx(35, abs=0.5)
    assert ratio[1].max() > 100
    assert ratio[1][(freqs_hz > 2) & (freqs_hz < 25)].max() < 1.5
    np.testing.assert_allclose(ratio[[0, 2]], 1)


def test_flat_is_flat_and_subtly_flat_is_a_tenth(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("flat")
    part = stretch_of(event)
    assert np.ptp(planted(signal_uv, event)[1, part]) == 0
    weak = planted(signal_uv, replace(event, strength="subtle"))[1, part]
    assert np.std(weak) == pytest.approx(0.1 * np.std(signal_uv[1, part]))


def test_clipped_stays_at_two_rails_most_of_the_time(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("clipped")
    new = planted(signal_uv, event)[1, stretch_of(event)]
    at_rails = (new == new.min()) | (new == new.max())
    assert at_rails.mean() > 0.3
    assert np.ptp(new) == pytest.approx(12 * deviation(signal_uv)[1])


def test_exchanged_channels_stand_in_each_others_place(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("exchanged")
    new, part = planted(signal_uv, event), stretch_of(event)
    np.testing.assert_array_equal(new[0, part], signal_uv[2, part])
    np.testing.assert_array_equal(new[2, part], signal_uv[0, part])


def test_sharp_waves_come_three_a_second_and_point_down(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("rhythmic_sharp")
    added = (planted(signal_uv, event) - signal_uv)[1]
    troughs = find_peaks(-added, height=0.5 * -added.min())[0]
    assert len(troughs) in (8, 9)  # the first and the last fade
    assert np.diff(troughs).mean() / SFREQ_HZ == pytest.approx(1 / 3, abs=0.01)
    assert added.min() < -1.3 * added.max()


def test_alpha_is_a_rhythm_of_ten_hertz(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("alpha")
    added = (planted(signal_uv, event) - signal_uv)[1, stretch_of(event)]
    freqs_hz, power = welch(added, SFREQ_HZ, nperseg=added.size)
    assert freqs_hz[power.argmax()] == pytest.approx(10, abs=0.5)
    assert power[(freqs_hz > 8) & (freqs_hz < 12)].sum() > 0.95 * power.sum()


def test_pop_rises_at_once_and_decays(signal_uv: NDArray[np.float64]) -> None:
    direct_current = (0.0, 40.0)  # a high-pass would bend the decay
    new = plant(
        signal_uv,
        SFREQ_HZ,
        event=event_of("pop"),
        rng=np.random.default_rng(0),
        band_hz=direct_current,
    )
    added = np.abs(new - signal_uv)[1]
    peak = added.argmax()
    rise = np.flatnonzero(added > 0.1 * added[peak])[0]
    assert (peak - rise) / SFREQ_HZ < 0.04
    later = added[peak + round(0.3 * SFREQ_HZ) : peak + round(0.9 * SFREQ_HZ)]
    assert later[0] > later[-1] > 0


def test_muscle_is_fast_and_differs_between_channels(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("muscle", channels=(0, 1))
    added = (planted(signal_uv, event) - signal_uv)[:2, stretch_of(event)]
    freqs_hz, power = welch(added, SFREQ_HZ, nperseg=256)
    assert power[:, freqs_hz < 15].sum() < 0.1 * power.sum()
    assert abs(np.corrcoef(added)[0, 1]) < 0.3


def test_a_common_source_is_the_same_on_all_channels(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("blink", channels=(0, 1))
    added = (planted(signal_uv, event) - signal_uv)[:2, stretch_of(event)]
    assert np.corrcoef(added)[0, 1] == pytest.approx(1)
    width_s = (added[0] > 0.5 * added[0].max()).sum() / SFREQ_HZ
    assert 0.1 < width_s < 0.3


def test_slow_drift_is_slow(signal_uv: NDArray[np.float64]) -> None:
    event = event_of("slow_drift")
    added = (
        plant(signal_uv, SFREQ_HZ, event=event, rng=np.random.default_rng(0), band_hz=(0.0, 40.0))
        - signal_uv
    )[1]
    power = np.abs(np.fft.rfft(added)) ** 2
    freqs_hz = np.fft.rfftfreq(added.size, 1 / SFREQ_HZ)
    assert power[freqs_hz > 1].sum() < 0.01 * power.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_random_state_gives_the_same_event(
    signal_uv: NDArray[np.float64], kind: str
) -> None:
    first, second = (planted(signal_uv, event_of(kind), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_float32_stays_float32(signal_uv: NDArray[np.float64]) -> None:
    single = signal_uv.astype(np.float32)
    new = plant(
        single, SFREQ_HZ, event=event_of("pop"), rng=np.random.default_rng(0), band_hz=BAND_HZ
    )
    assert new.dtype == np.float32


@pytest.mark.parametrize("kind", ADDED)
def test_direct_current_and_full_bandwidth_recordings_take_events_too(
    signal_uv: NDArray[np.float64], kind: str
) -> None:
    new = plant(
        signal_uv,
        SFREQ_HZ,
        event=event_of(kind),
        rng=np.random.default_rng(0),
        band_hz=(0.0, 128.0),
    )
    assert np.isfinite(new).all()
    assert (new != signal_uv).any()


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (replace(event_of("pop"), kind="spike"), "unknown kind of event 'spike'"),
        (event_of("pop", onset_s=58.0), "does not fit a signal of 60 s"),
        (event_of("pop", onset_s=-1.0), "does not fit"),
        (event_of("pop", channels=(3,)), "are not distinct ones of 3"),
        (event_of("pop", channels=()), "are not distinct ones of 3"),
        (event_of("pop", channels=(1, 1)), "are not distinct ones of 3"),
        (replace(event_of("exchanged"), channels=(0, 1, 2)), "two channels, not 3"),
        (event_of("line_noise", freq_hz=None), "line_noise at 50 Hz lies outside"),
    ],
)
def test_an_impossible_event_says_why(
    signal_uv: NDArray[np.float64], event: Event, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        planted(signal_uv, event)


def test_a_dead_channel_has_no_deviation_to_scale_by(signal_uv: NDArray[np.float64]) -> None:
    dead = signal_uv.copy()
    dead[1] = 0
    with pytest.raises(ValueError, match="without variation"):
        planted(dead, event_of("pop"))


def test_scattered_events_lie_apart_on_the_channels_where_they_occur() -> None:
    names = ("Fp1", "Fp2", "F3", "Fz", "F4", "F7", "T7", "T8", "C3", "Cz", "Pz", "O1", "O2")
    for seed in range(20):
        events = scatter(names, 120.0, rng=np.random.default_rng(seed))
        assert sorted(event.kind for event in events) == sorted(KINDS)
        for one, other in pairwise(events):
            assert other.onset_s - (one.onset_s + one.duration_s) >= 2.5 - 1e-9
        assert events[0].onset_s >= 0
        assert events[-1].onset_s + events[-1].duration_s <= 120
        by_kind = {event.kind: event for event in events}
        assert {names[row] for row in by_kind["blink"].channels[:2]} == {"Fp1", "Fp2"}
        assert names[by_kind["muscle"].channels[0]] in ("T7", "T8")
        assert len(by_kind["exchanged"].channels) == 2
        strong = sum(event.strength == "strong" for event in events)
        assert strong == len(KINDS) // 2
    with pytest.raises(ValueError, match="do not fit"):
        scatter(names, 20.0, rng=np.random.default_rng(0))
