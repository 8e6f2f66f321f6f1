"""How a recording differs from what a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ae_pipeline.data import Recording
from ae_pipeline.eeg.interpolation import with_channels
from ae_pipeline.eeg.preprocess import Plan, usual_amplitude_uv
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
    if info.source.get("different_channels") == "interpolate":
        places = np.array(info.positions_m, float)
    return with_channels(recording, info.entries, positions_m=places)


def mismatches(card: Mapping[str, Any], recording: Recording, *, plan: Plan) -> list[str]:
    """Where a recording was made in another state than the training data, as far as known.

    Parameters
    ----------
    card : mapping
        :attr:`BundleInfo.training`.
    """
    found = []
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    amplitude = usual_amplitude_uv(plan)
    if not low / 2 <= amplitude <= high * 2:
        found.append(
            f"{recording.name}: usual amplitude {amplitude:.3g} uV, in training {low:.3g} to "
            f"{high:.3g}; another gain, unit, reference or amplifier?"
        )
    task, tasks = task_of(recording.name), card.get("tasks", [])
    if task and tasks and task not in tasks:
        found.append(
            f"{recording.name}: task {task!r}, the model was trained on {', '.join(tasks)}; what "
            "differs by task will look abnormal"
        )
    for name in ("reference_as_recorded", "amplifier"):
        here, there = recording.state.get(name.partition("_")[0], ""), card.get(name, [])
        if here and there and here not in there:
            found.append(
                f"{recording.name}: {name.partition('_')[0]} {here!r}, in training "
                f"{', '.join(there)}"
            )
    ages = card.get("age_years")
    if (
        ages
        and "age" in recording.state
        and not ages[0] <= float(recording.state["age"]) <= ages[1]
    ):
        found.append(
            f"{recording.name}: age {recording.state['age']}, in training {ages[0]:g} to "
            f"{ages[1]:g}; EEG changes with age"
        )
    return found


def wrong_gain(card: Mapping[str, Any], plan: Plan) -> str:
    """A gain that is off in all channels alike, against the training population; else empty.

    No scale of the recording's own can hide it, and none can mend it unasked.
    """
    low, high = card.get("amplitude_uv", (0.0, np.inf))
    amplitude = usual_amplitude_uv(plan)
    if low / WRONG_GAIN <= amplitude <= high * WRONG_GAIN:
        return ""
    return (
        f"gain off in all channels: usual amplitude {amplitude:.3g} uV, in training {low:.3g} to "
        f"{high:.3g}"
    )


def wrong_gains(card: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """Channels far larger or smaller than in training, beside what the whole recording is.

    A scale of each recording's own would hide them; these are the training population's.
    """
    usual = np.array(card.get("channel_amplitude_uv", ()))
    if len(usual) != len(plan.amplitude_uv):
        return {}
    ratio = np.array(plan.amplitude_uv) / np.maximum(usual, 1e-9)
    ratio /= max(float(np.median(ratio)), 1e-9) if len(ratio) > 2 else 1.0
    return {
        name: f"gain off: amplitude {amplitude:.3g} uV where {expected:.3g} uV is usual"
        for name, amplitude, expected, r in zip(
            plan.ch_names, plan.amplitude_uv, usual, ratio, strict=True
        )
        if not 1 / WRONG_GAIN <= r <= WRONG_GAIN
    }
