"""A recording cleaned block by block, as its plan says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline.data import Block, Recording
from ae_pipeline.eeg.filters import resampling_margin, resampling_taps
from ae_pipeline.eeg.preprocess import Plan

if TYPE_CHECKING:
    from ae_pipeline.eeg.filters import Float

__all__ = [
    "CleanBlock",
    "Cleaner",
    "apply",
    "channel_map",
    "clean_stretch",
]


@dataclass(frozen=True)
class CleanBlock:
    """A stretch of a segment before and after cleaning; blocks of a segment follow seamlessly.

    Parameters
    ----------
    raw : array of shape (channels, n_raw)
        As recorded, at the recording's own rate.
    cleaned : array of shape (channels + 1, n)
        Filtered, re-referenced, at ``plan.rate_hz``; bad channels replaced as the plan says. The
        last row is what the reference took away from every channel; zeros without one.
    segment : int
        Index into ``plan.segments``.
    raw_start, start : int
        First sample of ``raw`` and of ``clean``, counted from the segment's start at their own
        rate; both stand for the same instant.
    onset_s : float
        That instant, in seconds from the recording's start.
    """

    raw: Float
    cleaned: Float
    segment: int
    raw_start: int
    start: int
    onset_s: float

    @property
    def clean(self) -> Float:
        """The channels, (channels, n)."""
        return self.cleaned[:-1]

    @property
    def common(self) -> Float:
        """What the reference took away, (1, n)."""
        return self.cleaned[-1:]


def apply(plan: Plan, recording: Recording, *, block_s: float = 60.0) -> Iterator[CleanBlock]:
    """Stream a recording through its plan.

    Parameters
    ----------
    plan : Plan
        From :func:`survey` of the same recording.
    recording : Recording
    block_s : float
        About how much signal is in memory at a time; no number depends on it.

    Yields
    ------
    CleanBlock
        In order; together they cover ``plan.segments``. ``raw`` is as recorded; ``clean`` is
        without the eyes, if that was asked for, and with bad channels replaced.
    """
    clean = Cleaner(plan)
    n_core = clean.step * max(1, round(block_s * plan.sfreq_in_hz / clean.step))
    within = replace(recording, segments=plan.segments)
    hop_s, halo_s = n_core / plan.sfreq_in_hz, clean.halo / plan.sfreq_in_hz
    numbers = {first: number for number, (first, _) in enumerate(plan.segments)}
    segment = 0
    for block in within.blocks(hop_s, halo_s):
        segment = numbers.get(block.start, segment)
        raw_start = block.start - plan.segments[segment][0]
        start = raw_start * plan.up // plan.down  # exact: blocks start on multiples of down
        stop = min((raw_start + block.n_core) * plan.up // plan.down, plan.n_out(segment))
        block = _without_holes(clean, block)
        cleaned = clean(replace(block, data=_mapped(plan, recording, block=block)))
        yield CleanBlock(
            raw=block.data[:, block.left : block.left + block.n_core],
            cleaned=cleaned[:, : stop - start],
            segment=segment,
            raw_start=raw_start,
            start=start,
            onset_s=block.start / plan.sfreq_in_hz,
        )


def clean_stretch(
    plan: Plan, recording: Recording, *, segment: int, start: int, stop: int
) -> tuple[Float, Float]:
    """One stretch of a segment again, equal to what :func:`apply` gave but for rounding.

    No more of the recording is read than the filter reaches.

    Parameters
    ----------
    plan : Plan
    recording : Recording
    segment : int
    start, stop : int
        Samples at the plan's rate, counted from the segment's start.

    Returns
    -------
    clean : array of shape (channels, stop - start)
    common : array of shape (1, stop - start)
        What the reference took away.
    """
    clean = Cleaner(plan)
    first, last = plan.segments[segment]
    begin = start // plan.up * plan.down  # resampling starts on whole steps
    core = first + begin, min(first + math.ceil(stop / plan.up) * plan.down, last)
    outer = max(first, core[0] - clean.halo), min(last, core[1] + clean.halo)
    data = recording.read(*outer)
    block = _without_holes(clean, Block(data, core[0], core[0] - outer[0], outer[1] - core[1]))
    cleaned = clean(replace(block, data=_mapped(plan, recording, block=block)))
    at = begin * plan.up // plan.down
    return cleaned[:-1, start - at : stop - at], cleaned[-1:, start - at : stop - at]


def _without_holes(clean: Cleaner, block: Block) -> Block:
    if not clean.has_holes:
        return block
    return replace(block, data=np.nan_to_num(block.data, nan=0.0, posinf=0.0, neginf=0.0))


def channel_map(plan: Plan, n_rows: int) -> Float | None:
    """Map from ``n_rows`` channels (and eye channels) to cleaned ones; None where nothing changes.

    A map over channels, and a filter over time: their order does not matter.
    """
    if not plan.ocular and not plan.replaced:
        return None
    n = len(plan.ch_names)
    mixed = np.array(plan.ocular, np.float32)[:, :n_rows] if plan.ocular else np.eye(n, n_rows)
    if plan.replaced:
        at = [plan.ch_names.index(name) for name in plan.replaced]
        mixed = mixed.astype(np.float32)
        mixed[at] = np.array(plan.replacing, np.float32) @ mixed
    return mixed.astype(np.float32)


def _mapped(plan: Plan, recording: Recording, *, block: Block) -> Float:
    """A block without the eyes and with bad channels made from the others."""
    data = block.data
    if plan.ocular and recording.eog_reader is not None:
        begin = block.start - block.left
        eyes = np.nan_to_num(recording.eog_reader(begin, begin + data.shape[1]))
        data = np.concatenate([data, eyes])
    mixed = channel_map(plan, len(data))
    return data if mixed is None else mixed @ data


class Cleaner:
    """Filter, reference and resampling of one plan, frame by frame.

    A frame of ``n_fft`` samples gives ``step`` of them filtered, with a margin on either side
    for the resampling kernel; frames start at multiples of ``step`` from a segment's start.
    """

    def __init__(self, plan: Plan) -> None:
        from scipy import fft

        kernel = plan.filter.kernel
        self.up, self.down = plan.up, plan.down
        self.half = len(kernel) // 2
        self.margin = resampling_margin(plan.up, plan.down)
        self.halo = self.half + self.margin
        self.n_fft = fft.next_fast_len(
            max(8192, 8 * self.halo, 2 * self.halo + 4 * plan.down), real=True
        )
        self.step = (self.n_fft - 2 * self.halo) // plan.down * plan.down
        self.response = fft.rfft(kernel, self.n_fft).astype(np.complex64)
        self.taps = resampling_taps(plan.up, plan.down)
        names, bad = plan.ch_names, set(plan.bad_names)
        good = np.array([name not in bad for name in names])
        self.weights = (good / good.sum()).astype(np.float32)
        self.average = plan.reference == "average"
        self.has_holes = any(channel.kind == "not_a_number" for channel in plan.bads)
        self.offset = np.array(plan.offset_uv, np.float32)[:, None]
        # the constant goes with a high-pass and comes back without one
        self.constant = self.offset * np.float32(kernel.sum())
        self.common_constant = np.float32(0)
        if self.average:
            self.common_constant = self.weights @ self.constant
            self.constant = self.constant - self.common_constant
        self.keeps_constant = plan.filter.high_pass_hz is None

    def __call__(self, block: Block) -> Float:
        """Cleaned core of a block, above what the reference took from it, (channels + 1, n).

        The last frame of a segment runs over its end.
        """
        from scipy import fft

        n_frames = -(-block.n_core // self.step)
        signal = self._continued(block, n_frames * self.step + 2 * self.halo)
        n_out = self.step * self.up // self.down
        out = np.empty((len(signal) + 1, n_frames * n_out), np.float32)
        out[-1] = 0
        skip = self.margin * self.up // self.down
        for frame in range(n_frames):
            begin = frame * self.step
            frame_signal = signal[:, begin : begin + self.step + 2 * self.halo]
            # MKL, through torch, would take half of the time and 33 MB more of memory
            spectrum = fft.rfft(frame_signal, self.n_fft)
            spectrum *= self.response
            filtered = fft.irfft(spectrum, self.n_fft, overwrite_x=True)
            valid = filtered[:, 2 * self.half : 2 * self.half + self.step + 2 * self.margin]
            here = slice(frame * n_out, (frame + 1) * n_out)
            if self.average:
                common = (self.weights @ valid)[None]
                valid -= common
                out[-1:, here] = self._resampled(common, block, begin=begin)[:, skip : skip + n_out]
            out[:-1, here] = self._resampled(valid, block, begin=begin)[:, skip : skip + n_out]
        if self.keeps_constant:
            out[:-1] += self.constant
            out[-1] += self.common_constant
        return out

    def _resampled(self, valid: Float, block: Block, *, begin: int) -> Float:
        from scipy.signal import resample_poly

        if self.taps is None:
            return valid
        self._mirror(valid, block, begin=begin)
        resampled: Float = resample_poly(valid, self.up, self.down, axis=1, window=self.taps)
        return resampled

    def _mirror(self, valid: Float, block: Block, *, begin: int) -> None:
        """Continue filtered signal at a segment's edges as MNE does when it resamples."""
        margin = self.margin
        if begin == 0 and block.left == 0:
            valid[:, :margin] = valid[:, 2 * margin : margin : -1]
        if block.right < self.halo:
            end = margin + block.n_core + block.right - begin
            beyond = min(margin, valid.shape[1] - end)
            if beyond > 0:
                valid[:, end : end + beyond] = valid[:, end - 2 : end - 2 - beyond : -1]

    def _continued(self, block: Block, length: int) -> Float:
        """The block with a full halo on both sides, then zeros up to ``length``.

        Beyond a segment's edge the signal goes on as its mirror image, and as zero where even that
        ends (MNE's ``pad="symmetric"``). Turned around its last sample as well, which is MNE's
        default, a drift would double there, and windows at joins be flagged more often.
        """
        n_channels, n = block.data.shape
        before, after = self.halo - block.left, self.halo - block.right
        out = np.zeros((n_channels, length), np.float32)
        data = out[:, before : before + n]
        np.subtract(block.data, self.offset, out=data)
        mirrored = min(before, n)
        out[:, before - mirrored : before] = data[:, :mirrored][:, ::-1]
        mirrored, end = min(after, n), before + n
        out[:, end : end + mirrored] = data[:, n - mirrored :][:, ::-1]
        return out
