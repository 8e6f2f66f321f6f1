"""Units that a study or a sidecar states for channels, where a file's header says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ae_pipeline.sources.channels import harmonise
from ae_pipeline.sources.choice import declared
from ae_pipeline.sources.formats.content import Content, Float, Signal, scale_of
from ae_pipeline.stats import robust_sd

__all__ = ["PLAUSIBLE_UV", "in_units", "with_stated_units"]

PLAUSIBLE_UV = (0.05, 5000.0)
"""Robust deviation of scalp EEG lies within this, whatever the amplifier."""

SPOTS, SPOT_S = 5, 2.0
"""Where and how much is looked at, to see whether a sidecar's unit can be true."""


def in_units(content: Content, units: str | Mapping[str, str]) -> Content:
    """Return the content with its numbers taken in the units that a study declares."""
    wanted = {"*": units} if isinstance(units, str) else units
    stated = [declared(wanted, (name, harmonise(name))) or "" for name in content.names]
    return _scaled(content, _factors(content, stated))


def with_stated_units(content: Content, stated: Mapping[str, str]) -> Content:
    """Return the content in the units of ``channels.tsv``, unless no EEG could have them.

    Converters write the unit that they read in, whatever the file's header says.
    """
    factors = _factors(content, [stated.get(name, "") for name in content.names])
    rows = [
        row
        for row, kind in enumerate(content.types)
        if factors[row] != 1 and kind == "eeg" and content.rates_hz[row] > 0
    ]
    wrong = [row for row in rows if not _is_plausible(content, row, factor=float(factors[row]))]
    if wrong:
        factors[wrong] = 1
        note = (
            f"channels.tsv states a unit for {len(wrong)} channels that gives no EEG; the file's "
            "own unit is used"
        )
        content = replace(content, notes=(*content.notes, note))
    return _scaled(content, factors)


def _factors(content: Content, units: list[str]) -> Float:
    own = content.volts or (1e-6,) * len(content.names)
    pairs = zip(units, own, strict=True)
    factors = np.array([(scale_of(unit) or volts) / volts for unit, volts in pairs], np.float32)
    return np.where(np.abs(factors - 1) < 1e-3, np.float32(1), factors)


def _is_plausible(content: Content, row: int, *, factor: float) -> bool:
    signal = content.signal([row])
    n = max(2, min(signal.n_times, round(SPOT_S * content.rates_hz[row])))
    starts = np.linspace(0, max(0, signal.n_times - n), SPOTS).astype(int)
    with np.errstate(invalid="ignore"):
        spots = [np.nan_to_num(signal.reader(int(a), int(a) + n)[0]) for a in starts]
        typical_uv = float(np.median([robust_sd(spot.astype(np.float64)) for spot in spots]))
    return PLAUSIBLE_UV[0] <= typical_uv * factor <= PLAUSIBLE_UV[1]


def _scaled(content: Content, factors: Float) -> Content:
    if (factors == 1).all():
        return content

    def signal(rows: list[int]) -> Signal:
        own, by = content.signal(rows), factors[rows, None]

        def reader(start: int, stop: int) -> Float:
            return own.reader(start, stop) * by

        return replace(own, reader=reader)

    n = int((factors != 1).sum())
    note = f"{n} channels are read in the unit stated for them, not in the file's own"
    return replace(content, signal=signal, notes=(*content.notes, note))
