"""How a recording differs from what a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ae_pipeline.data import Finding, Recording
from ae_pipeline.eeg.interpolation import with_channels
from ae_pipeline.eeg.preprocess import Plan, median_amplitude_uv
from ae_pipeline.scoring.bundle import BundleInfo
from ae_pipeline.sources.finding import task_of

__all__ = [
    "fitted_channels",
    "mismatches",
    "wrong_gain",
    "wrong_gains",
]


WRONG_GAIN = 5.0
"""Factor by which a channel may differ from training; electrodes differ by two to three."""


def fitted_channels(recording: Recording, info: BundleInfo) -> Recording:
    """The recording with the model's channels, as the study says missing ones are met.

    Raises
    ------
    InputError
        It lacks channels that may not or cannot be interpolated.
    """
    places = None
    if getattr(info.source, "different_channels", "") == "interpolate":
        places = np.array(info.positions_m, float)
    return with_channels(recording, info.entries, positions_m=places)


def mismatches(card: Mapping[str, Any], recording: Recording, *, plan: Plan) -> tuple[Finding, ...]:
    """Return where a recording was made in another state than the training data, if known.

    Parameters
    ----------
    card : mapping
        :attr:`BundleInfo.training`.
    recording : Recording
    plan : Plan
    """
    found = []
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    amplitude = median_amplitude_uv(plan)
    if not low / 2 <= amplitude <= high * 2:
        found.append(_amplitude("other_amplitude", card, plan))
    task, tasks = task_of(recording.name), card.get("tasks", [])
    if task and tasks and task not in tasks:
        found.append(Finding("other_task", where=(task, *tasks)))
    for name in ("reference", "amplifier"):
        here = recording.state.get(name, "")
        there = card.get("reference_as_recorded" if name == "reference" else name, [])
        if here and there and here not in there:
            found.append(Finding(f"other_{name}", where=(here, *there)))
    ages, age = card.get("age_years"), recording.state.get("age")
    if ages and age is not None and not ages[0] <= float(age) <= ages[1]:
        found.append(Finding("other_age", {"low": ages[0], "high": ages[1]}, (str(age),)))
    return tuple(found)


def _amplitude(kind: str, card: Mapping[str, Any], plan: Plan) -> Finding:
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    numbers = {"amplitude_uv": median_amplitude_uv(plan), "low_uv": low, "high_uv": high}
    return Finding(kind, numbers)


def wrong_gain(card: Mapping[str, Any], plan: Plan) -> Finding | None:
    """Return a gain that is off in all channels alike, against the training population.

    No scale of the recording's own can hide it, and none can mend it unasked.
    """
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    if low / WRONG_GAIN <= median_amplitude_uv(plan) <= high * WRONG_GAIN:
        return None
    return _amplitude("gain_off", card, plan)


def wrong_gains(card: Mapping[str, Any], plan: Plan) -> tuple[Finding, ...]:
    """Return channels far larger or smaller than in training, beside what the whole recording is.

    A scale of each recording's own would hide them; these are the training population's.
    """
    usual = np.array(card.get("channel_amplitude_uv", ()))
    if len(usual) != len(plan.amplitude_uv):
        return ()
    ratio = np.array(plan.amplitude_uv) / np.maximum(usual, 1e-9)
    ratio /= max(float(np.median(ratio)), 1e-9) if len(ratio) > 2 else 1.0
    return tuple(
        Finding("channel_gain_off", {"amplitude_uv": amplitude, "usual_uv": expected}, (name,))
        for name, amplitude, expected, r in zip(
            plan.ch_names, plan.amplitude_uv, usual.tolist(), ratio, strict=True
        )
        if not 1 / WRONG_GAIN <= r <= WRONG_GAIN
    )
