"""Which mains frequency recordings show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lab import noise, write_edf

from ae_pipeline.sources.eeg import describe
from ae_pipeline.sources.finding import find


@pytest.mark.parametrize(("line_hz", "amplitude_uv"), [(50, 5), (60, 5), (60, 2.5), (None, 0)])
def test_the_line_in_the_spectrum_is_the_one_that_init_writes(
    tmp_path: Path, line_hz: int | None, amplitude_uv: float
) -> None:
    times_s = np.arange(8000) / 200
    for subject in range(3):
        hum = amplitude_uv * np.sin(2 * np.pi * (line_hz or 1) * times_s)
        signal = noise(seconds=80, seed=subject) + hum
        write_edf(tmp_path / f"P{subject}.edf", signal, sfreq_hz=200)
    told = describe(find([tmp_path]))
    assert told.line_freq_hz == line_hz
    assert told.line_is_seen == (line_hz is not None)


def test_a_rate_that_holds_no_line_says_nothing(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", noise(), sfreq_hz=100)
    assert describe(find([tmp_path])).line_freq_hz is None
