"""From raw to clean signal: survey a recording once, then stream it.

Conventions: signals are (channels, times), float32 microvolts; a plan belongs to one recording.

:func:`survey` walks once through a recording and returns a frozen :class:`Plan`: what the
filter is, which channels are bad and why, whether there is a common reference. :func:`apply`
then yields :class:`CleanBlock` after block, raw and cleaned side by side, because what is wrong
with a channel shows before filtering and re-referencing.

The filter is one linear-phase FIR kernel, MNE's own band-pass convolved with MNE's own notch,
run by overlap-save in float32 over frames that start on a fixed grid of each segment: what comes
out does not depend on the size of the blocks. Segments are continued at their edges by their
mirror image, as MNE does with ``pad="symmetric"``. A symmetric kernel maps that continuation onto
itself, so that one pass with the folded kernel equals MNE's two passes, edges included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import PositiveFloat, field_validator, model_validator

from ae_pipeline.config import Config

if TYPE_CHECKING:
    from ae_pipeline.eeg.filters import Filter

__all__ = [
    "BadChannel",
    "Plan",
    "Preprocess",
    "median_amplitude_uv",
]


# ------------------------------------------------------------------------------- config


class Preprocess(Config):
    """Filters, reference and sampling rate."""

    high_pass_hz: PositiveFloat | None = 0.5
    """Slower signal is removed (Hz; null keeps it). The filter is 3.3 / high_pass_hz seconds long
    and has to fit an uninterrupted stretch: raise it for short trials."""
    low_pass_hz: PositiveFloat | None = 45.0
    """Faster signal is removed (Hz; null keeps it). Muscle and line noise dominate above 45 Hz."""
    notch: Literal["auto", "off"] | PositiveFloat | tuple[PositiveFloat, ...] = "auto"
    """Line noise: auto removes source.line_freq_hz and its harmonics where the low-pass leaves
    them in; off, one frequency or a list of frequencies (Hz) otherwise."""
    reference: Literal["auto", "average", "none"] = "auto"
    """auto re-references to the average of the good channels where there are at least 16
    channels and none are differences of two electrodes; average or none decide it."""
    bad_channels: Literal["interpolate", "mask", "keep"] = "interpolate"
    """Channels that hold no brain all along (flat, disconnected, far too large, marked bad):
    interpolate makes them from the others where positions are known (else they are masked); mask
    sets them to zero; keep leaves them in. All are reported and leave the average reference."""
    ocular: Literal["off", "regression", "ica"] = "off"
    """Eye movements and blinks: regression takes out what EOG channels explain; ica takes out the
    components that follow the eyes (EOG, else frontal channels); off leaves them to be found."""
    sfreq_hz: PositiveFloat | None = None
    """Sampling rate the model works at (Hz); null takes the lowest rate among the recordings.
    Recordings below it are refused."""

    @field_validator("notch", mode="before")
    @classmethod
    def _off_is_not_false(cls, value: Any) -> Any:
        return "off" if value is False or value is None else value  # YAML 1.1 reads off as false

    @model_validator(mode="after")
    def _ordered(self) -> Preprocess:
        high, low = self.high_pass_hz, self.low_pass_hz
        if high is not None and low is not None and high >= low:
            raise ValueError(
                f"high_pass_hz ({high:g} Hz) must lie below low_pass_hz ({low:g} Hz): what is "
                "above the one and below the other is kept"
            )
        if low is not None and self.sfreq_hz is not None and low >= self.sfreq_hz / 2:
            raise ValueError(
                f"low_pass_hz ({low:g} Hz) must lie below half of sfreq_hz "
                f"({self.sfreq_hz / 2:g} Hz); lower it or raise sfreq_hz"
            )
        return self


# --------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class BadChannel:
    """A channel left out of the reference, why in words, and what was measured."""

    name: str
    kind: Literal[
        "not_a_number",
        "flat",
        "amplitude",
        "clipped",
        "line_noise",
        "disconnected",
        "bridged",
        "marked",
    ]
    reason: str
    measured: float


@dataclass(frozen=True)
class Plan:
    """How one recording is cleaned; plain values throughout (``dataclasses.asdict`` for JSON).

    Parameters
    ----------
    recording : str
    ch_names : tuple of str
    sfreq_in_hz, sfreq_hz : float
        Rate of the recording, and of the cleaned signal.
    up, down : int
        The cleaned rate is exactly ``sfreq_in_hz * up / down``.
    filter : Filter
    segments : tuple of (start, stop)
        Samples of the recording that can be cleaned; no output exists elsewhere.
    reference : {'average', 'none'}
    bads : tuple of BadChannel
    offset_uv : tuple of float
        Constant of each channel, taken out before filtering (float32 has seven digits, and an
        amplifier without a high-pass stands at tens of millivolts).
    amplitude_uv : tuple of float
        Median over stretches of 2 s of the robust standard deviation inside, for each channel.
    line_noise_ratio : tuple of float
        Power at the line frequency against its neighbourhood; empty where it cannot be known.
    notes : tuple of str
    replaced : tuple of str
        Channels that hold no brain and are made from the others, or masked.
    replacing : tuple of tuple of float
        Their weights, (replaced, channels); zeros throughout where one is masked.
    ocular : tuple of tuple of float
        Map from channels and eye channels to channels without the eyes, (channels, channels + eye
        channels); empty without correction.
    """

    recording: str
    ch_names: tuple[str, ...]
    sfreq_in_hz: float
    sfreq_hz: float
    up: int
    down: int
    filter: Filter
    segments: tuple[tuple[int, int], ...]
    reference: Literal["average", "none"]
    bads: tuple[BadChannel, ...]
    offset_uv: tuple[float, ...]
    amplitude_uv: tuple[float, ...]
    line_noise_ratio: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    replacing: tuple[tuple[float, ...], ...] = ()
    ocular: tuple[tuple[float, ...], ...] = ()

    @property
    def rate_hz(self) -> float:
        """Exact rate of the cleaned signal (``sfreq_hz`` but for odd clocks)."""
        return self.sfreq_in_hz * self.up / self.down

    @property
    def bad_names(self) -> tuple[str, ...]:
        """Names of the bad channels."""
        return tuple(bad.name for bad in self.bads)

    def n_out(self, segment: int) -> int:
        """Samples of cleaned signal in a segment."""
        first, last = self.segments[segment]
        return (last - first) * self.up // self.down


def median_amplitude_uv(plan: Plan) -> float:
    """Median over channels of the robust standard deviation before filtering, microvolts."""
    return float(np.median(plan.amplitude_uv))
