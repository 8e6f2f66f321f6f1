"""Names of events against events whose kind and channels are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ae_pipeline.data import Recording, Samples
from ae_pipeline.eeg.features import (
    by_region,
    deviations_from,
    feature_names,
    fit_robust_stats,
    state_of,
)
from ae_pipeline.eeg.preprocess import Preprocess
from ae_pipeline.eeg.survey import survey_with_stats
from ae_pipeline.eeg.tags import CATEGORY, TAGS, Tag, tag
from ae_pipeline.eeg.windows import Windowing, cut
from ae_pipeline.sources.eeg import EegSource, find, open_recording
from ae_pipeline.sources.faults import KINDS, Event, plant, scatter

SFREQ_HZ = 128.0
NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "T7", "T8", "P3", "P4", "O1", "O2")


@pytest.fixture(scope="module")
def head() -> NDArray[np.float64]:
    """A minute of twelve channels that see five sources with the falling spectrum of EEG."""
    rng = np.random.default_rng(0)
    n = round(60 * SFREQ_HZ)
    freqs_hz = np.fft.rfftfreq(n, 1 / SFREQ_HZ)
    shape = np.where((freqs_hz > 0.5) & (freqs_hz < 45), 1 / np.maximum(freqs_hz, 0.5), 0)
    sources = np.fft.irfft(np.fft.rfft(rng.normal(size=(5, n))) * shape, n)
    own = np.fft.irfft(np.fft.rfft(rng.normal(size=(len(NAMES), n))) * shape, n)
    mixed = rng.normal(size=(len(NAMES), 5)) @ (sources / sources.std()) + 0.3 * own / own.std()
    return np.asarray(10 * mixed)


def tagged(head: NDArray[np.float64], event: Event) -> Tag:
    """The window in the middle of an event."""
    rng = np.random.default_rng(1)
    signal = plant(head, SFREQ_HZ, event=event, rng=rng, band_hz=(0.5, 45.0)).astype(np.float32)
    n = round(2 * SFREQ_HZ)
    windows = np.stack([signal[:, i : i + n] for i in range(0, signal.shape[1] - n, n // 4)])
    stats = fit_robust_stats(windows, SFREQ_HZ)
    assert stats is not None
    middle = event.onset_s + event.duration_s / 2
    start = round((middle - 1) * SFREQ_HZ)
    return tag(signal[:, start : start + n], None, stats=stats, sfreq_hz=SFREQ_HZ, ch_names=NAMES)


@pytest.mark.parametrize(
    ("kind", "channels", "freq_hz"),
    [
        ("blink", (0, 1, 2), None),
        ("muscle", (6,), None),
        ("pop", (5,), None),
        ("flat", (8,), None),
        ("line_noise", (3, 4), 35.0),
        ("slow_drift", (9, 8), None),
        ("rhythmic_sharp", (4, 5, 2), 3.0),
        ("alpha", (2, 3), None),
        ("exchanged", (0, 11), None),
    ],
)
def test_a_strong_event_gets_its_name_its_channel_and_evidence(
    head: NDArray[np.float64], kind: str, channels: tuple[int, ...], freq_hz: float | None
) -> None:
    lasts_s = 0.5 if kind == "blink" else 1.5 if kind == "pop" else 3.0
    found = tagged(head, Event(30.0, lasts_s, kind, channels, "strong", freq_hz))
    assert found.kind == kind
    assert found.channels[0] in channels
    assert any(NAMES[channel] in found.evidence.where for channel in channels)


@pytest.mark.parametrize("kind", ["flat", "muscle"])
def test_an_event_names_every_channel_on_which_it_shows(
    head: NDArray[np.float64], kind: str
) -> None:
    found = tagged(head, Event(30.0, 3.0, kind, tuple(range(len(NAMES))), "strong"))
    assert found.kind == kind
    assert set(found.channels) >= set(range(11))  # muscle on the last stays below the limit


def test_the_evidence_of_mains_is_its_frequency(head: NDArray[np.float64]) -> None:
    found = tagged(head, Event(30.0, 3.0, "line_noise", (3,), "strong", 35.0))
    assert found.evidence.numbers["peak_hz"] == pytest.approx(35, abs=0.05)
    assert found.band == "gamma"


def test_nothing_in_particular_stays_unexplained(head: NDArray[np.float64]) -> None:
    windows = np.stack(
        [head[:, i : i + 256] for i in range(0, head.shape[1] - 256, 64)]
    ).astype(np.float32)  # fmt: skip
    stats = fit_robust_stats(windows, SFREQ_HZ)
    assert stats is not None
    kinds = [
        tag(window, None, stats=stats, sfreq_hz=SFREQ_HZ, ch_names=NAMES).kind for window in windows
    ]
    assert kinds.count("unexplained") > 0.8 * len(kinds)


def test_rails_are_seen_before_the_filter(head: NDArray[np.float64]) -> None:
    clipped = head.astype(np.float32)
    raw = np.clip(6 * clipped[:, 3000:3256], -150, 150)
    stats = fit_robust_stats(
        np.stack([clipped[:, i : i + 256] for i in range(0, 7000, 64)]), SFREQ_HZ
    )  # fmt: skip
    assert stats is not None
    window = clipped[:, 3000:3256].copy()
    window[7], other = raw[7], clipped[:, 3000:3256].copy()
    other[7] = raw[7]
    found = tag(window, other, stats=stats, sfreq_hz=SFREQ_HZ, ch_names=NAMES)
    assert (found.kind, found.channels) == ("clipped", (7,))


def test_every_kind_that_is_planted_has_a_name_and_a_category() -> None:
    assert {*KINDS, "unexplained"} == set(TAGS)
    assert set(CATEGORY.values()) == {"technical", "physiological", "unusual", "unexplained"}


# -------------------------------------------------------------------------------- real EEG


def windows_of(recording: Recording, sfreq_hz: float) -> Samples:
    windowing = Windowing()
    plan, stats = survey_with_stats(
        recording, Preprocess(), line_freq_hz=50.0, sfreq_hz=sfreq_hz, windowing=windowing
    )
    (samples,) = cut(recording, plan, windowing=windowing, robust_stats=stats, block_s=1e4)
    return samples


def opened(folder: Path, pattern: str) -> list[Recording]:
    source = EegSource(kind="eeg", path=folder, exclude=["ECG*", "*A2-A1*"])
    return [open_recording(item, source) for item in find([folder], pattern)]


def test_eight_of_ten_strong_events_in_real_recordings_are_named_right(shared_data: Path) -> None:
    named = placed = n = 0
    for number, recording in enumerate(opened(shared_data / "eegmat", "Subject0[135]_1.edf")):
        signal = recording.read(0, recording.n_times)
        rng = np.random.default_rng(number)
        events = scatter(
            recording.ch_names, recording.duration_s, rng=rng, kinds=KINDS, strengths=("strong",)
        )
        for event in events:
            signal = plant(signal, recording.sfreq_hz, event=event, rng=rng, band_hz=(0.5, 45.0))
        new = replace(recording, reader=lambda start, stop, signal=signal: signal[:, start:stop])
        samples = windows_of(new, 125.0)
        onset_s = samples.meta["onset_s"].to_numpy()
        for event in events:
            row = int(np.abs(onset_s + 1 - event.onset_s - event.duration_s / 2).argmin())
            assert samples.raw is not None
            found = tag(
                samples.unreferenced([row])[0],
                np.asarray(samples.raw[[row]])[0],
                stats=samples.robust_stats[recording.name],
                sfreq_hz=125.0,
                ch_names=recording.ch_names,
            )
            n += 1
            named += found.kind == event.kind
            placed += found.channels[0] in event.channels
    assert named >= 0.8 * n
    assert placed >= 0.8 * n


def test_closed_eyes_are_another_state_and_not_a_fault(shared_data: Path) -> None:
    runs = {
        r.path.name[:7]: windows_of(r, 160.0)
        for r in opened(shared_data / "eegmmidb", "S001R0[1235]*.edf")
    }
    every = {name: samples.unreferenced(slice(None)) for name, samples in runs.items()}
    half = len(every["S001R01"]) // 2
    tasks = [every[f"S001R0{n}"] for n in (3, 5)]
    population = fit_robust_stats(np.concatenate([every["S001R01"][:half], *tasks])[::4], 160.0)
    assert population is not None
    names, channels = feature_names(160.0, 320), runs["S001R01"].entries

    def posterior_alpha(x: NDArray[np.float32]) -> NDArray[np.float32]:
        away = deviations_from([population], x, sfreq_hz=160.0)[0]
        regions, means = by_region(away, channels, n_own=len(names))
        return means[:, regions.index("posterior"), names.index("alpha")]

    opened_eyes = posterior_alpha(every["S001R01"][half + 4 :])
    closed = posterior_alpha(every["S001R02"])
    label = np.repeat([0, 1], [len(opened_eyes), len(closed)])
    assert roc_auc_score(label, np.concatenate([opened_eyes, closed])) >= 0.9
    for name, samples in runs.items():
        state = state_of(
            samples.robust_stats[samples.meta["recording"].iloc[0]],
            population,
            ch_names=channels,
            names=names,
        )
        if name == "S001R02":
            assert state is not None
            assert state[:2] == ("alpha", "posterior")
        else:
            assert state is None
