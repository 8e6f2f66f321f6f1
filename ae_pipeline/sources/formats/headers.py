"""Headers in text (BrainVision, Persyst) whose numbers cannot be true, before MNE allocates."""

from __future__ import annotations

import re
from pathlib import Path

from ae_pipeline.data import InputError
from ae_pipeline.sources.formats.content import check_bounds

__all__ = ["check_header"]

MOST_CHANNELS = 10_000

NUMBER = r"\s*=\s*([-+.\w]+)"


def check_header(path: Path) -> None:
    """Check sampling rate and number of channels of a header in text.

    Raises
    ------
    InputError
        One of them is impossible, or no number.
    """
    text = path.read_bytes().decode("latin-1")
    interval_us, rate_hz = (
        _number(text, "SamplingInterval", path),
        _number(text, "SamplingRate", path),
    )
    if interval_us is not None:
        rate_hz = 1e6 / interval_us if interval_us > 0 else float("inf")
    if rate_hz is not None:
        check_bounds(path.name, [rate_hz], 0.0)
    for name in ("NumberOfChannels", "WaveformCount"):
        count = _number(text, name, path)
        if count is not None and not 0 < count <= MOST_CHANNELS:
            raise InputError(
                f"{path.name}: its header gives {count:g} channels; the header is damaged, export "
                "the file again"
            )


def _number(text: str, name: str, path: Path) -> float | None:
    found = re.search(name + NUMBER, text, re.IGNORECASE)
    if found is None:
        return None
    try:
        return float(found[1])
    except ValueError:
        raise InputError(
            f"{path.name}: {name} in its header is not a number; export the file again"
        ) from None
