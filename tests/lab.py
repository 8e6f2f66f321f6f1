"""Small real inputs that tests make: EDF recordings of something like EEG, and their study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal

SFREQ_HZ = 100
NAMES = ("Fz", "Cz", "Pz", "Oz")


def noise(n_channels: int = 4, seconds: float = 40, seed: int = 0) -> np.ndarray:
    """Shared slow and own fast noise, (channels, times) in microvolts."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SFREQ_HZ)
    slow = np.cumsum(rng.normal(size=n)) * 0.5
    slow -= np.convolve(slow, np.ones(100) / 100, "same")
    return slow + rng.normal(scale=8, size=(n_channels, n))


def write_edf(
    path: Path,
    signal_uv: np.ndarray,
    names: tuple[str, ...] = NAMES,
    sfreq_hz: int = SFREQ_HZ,
    unit: str = "uV",
) -> Path:
    """An EDF file as a laboratory has it."""
    limit = float(np.nanmax(np.abs(signal_uv))) + 1
    signals = [
        EdfSignal(
            row, sfreq_hz, label=name, physical_dimension=unit, physical_range=(-limit, limit)
        )
        for name, row in zip(names, signal_uv, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Edf(signals).write(path)
    return path


def write_study(place: Path, n_subjects: int = 3) -> Path:
    """Recordings of some people and a study of them that trains in a second."""
    for subject in range(n_subjects):
        write_edf(place / f"recordings/P{subject:02d}_rest.edf", noise(seed=subject))
    study = place / "study.yaml"
    study.write_text(
        "study: small\n"
        "source: {kind: eeg, path: recordings}\n"
        "preprocess: {high_pass_hz: 1, low_pass_hz: 30}\n"
        "windows: {length_s: 1, stride_s: 0.5}\n"
        "model: {architecture: {kind: dense, hidden: [16]}, objective: {kind: vanilla}, "
        "latent_dim: 3}\n"
        "training: {epochs: 2}\n"
    )
    return study
