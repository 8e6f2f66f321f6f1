"""Completion of one input: what every kind of data has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.analysis import completion
from ae_pipeline.analysis.completion import Mask, Part, Simple, Way
from ae_pipeline.config import StudyError
from ae_pipeline.data import SAME_PLACE, Samples
from ae_pipeline.scoring.bundle import Bundle

if TYPE_CHECKING:
    from ae_pipeline.kind import Progress

__all__ = [
    "MOST",
    "Completed",
    "Completion",
    "Cue",
    "examples",
    "fit_simple",
    "hidden_errors",
    "measure",
    "places_of",
]

Float = NDArray[np.float32]

MOST = 1_000
"""Samples that completion is measured on."""

N_SHOWN = 6


@dataclass(frozen=True)
class Cue:
    """What is known of an input, in network units: values, where known, whose they are."""

    x: Float
    observed: Mask
    unit: NDArray[Any]
    average_reference: bool = False


@dataclass(frozen=True)
class Completion:
    """What is asked for: fill an input of a model's kind and write it to ``out``."""

    bundle: Bundle
    out: Path
    hide: str | None
    way: str
    simple: Simple | None
    seed: int
    progress: Progress | None

    def stage(self, name: str) -> None:
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress.stage(name)

    def choose(self, measured: Mapping[str, Any]) -> Way:
        """The way that was asked for, or measured best."""
        chosen: Any = measured["way"] if self.way == "auto" else self.way
        return cast(Way, chosen)


@dataclass(frozen=True)
class Completed:
    """``measured`` by part; ``hidden`` errors on what was hidden by name; ``shown`` samples."""

    measured: dict[str, dict[str, Any]]
    hidden: dict[str, Any] | None
    completed: str
    shown: tuple[tuple[str, list[tuple[str, Float]], list[str]], ...]
    notes: tuple[str, ...] = ()


def fit_simple(bundle: Bundle, train: Samples) -> Simple:
    """Fit the simple ways to some of the training data."""
    few = train.take(np.random.default_rng(0).permutation(len(train))[:10_000])
    values, mask = few.batch(slice(None))
    observed = np.ones(values.shape, bool) if mask is None else mask
    return Simple.fit(bundle.autoencoder.scaler.transform(values, mask), observed)


def measure(task: Completion, cue: Cue, *, parts: tuple[Part, ...]) -> dict[str, dict[str, Any]]:
    """Completion of every part, on what is known of the input."""
    task.stage("measuring on what is known")
    few = np.random.default_rng(task.seed).permutation(len(cue.x))[:MOST]
    few.sort()
    return {
        part: completion.measure(
            task.bundle,
            cue.x[few],
            observed=cue.observed[few],
            unit=cue.unit[few],
            part=part,
            simple=task.simple,
            seed=task.seed,
            average_reference=cue.average_reference,
        )
        for part in parts
    }


def hidden_errors(
    task: Completion, part: Part, *, x: Float, made: Float, visible: Mask, observed: Mask
) -> dict[str, Any]:
    """Errors on what ``hide`` named, beside the simple ways."""
    hidden = observed & ~visible
    errors = {"model": completion.error(made, x, hidden=hidden)[0]}
    for name, simply in completion.simple_ways(task.bundle, part, simple=task.simple).items():
        errors[name] = completion.error(simply(x, visible), x, hidden=hidden)[0]
    best = min(errors, key=lambda name: errors[name])
    return {"what": task.hide, "entries": int(hidden.sum()), "errors": errors, "best": best}


def examples(
    task: Completion, cue: Cue, *, part: Part, measured: Mapping[str, Any]
) -> tuple[str, list[tuple[str, Float]], list[str]]:
    """Some samples hidden in part, completed by the model and by the best simple way."""
    rows = np.linspace(0, len(cue.x) - 1, min(N_SHOWN, len(cue.x))).astype(int)
    x, observed = cue.x[rows], cue.observed[rows]
    visible = completion.hide(part, observed, rng=np.random.default_rng(task.seed + 1))
    if part == "channels" and cue.average_reference:
        x = completion.without_hidden_reference(
            x, visible, scale=task.bundle.autoencoder.scaler.scale
        )
    ways = completion.simple_ways(task.bundle, part, simple=task.simple)
    model = completion.complete(task.bundle, x, visible=visible, way=task.choose(measured))
    made = {"model": np.where(visible, x, model)}
    if measured["best_simple"] is not None:
        name = measured["best_simple"]
        made[name.replace("_", " ")] = np.where(visible, x, ways[name](x, visible))
    scale = task.bundle.autoencoder.scaler.inverse
    truth = scale(np.where(observed, x, np.nan))
    columns = {"truth": truth} | {name: scale(values) for name, values in made.items()}
    if (
        task.bundle.info.layout == "series"
    ):  # one panel a window, what is hidden drawn over each other
        first = {**columns}
        panels = []
        for i in range(len(rows)):
            gone = int((~visible[i]).sum(1).argmax())  # a channel that was hidden
            others = [np.where(~visible[i, gone], v[i, gone], np.nan) for v in first.values()]
            others[0] = first["truth"][i, gone]
            name = task.bundle.info.entries[gone]
            panels.append((name, np.stack(others)[:, None]))
        return part, panels, list(columns)
    cue_shown = np.where(visible, truth, 0.0 if task.bundle.info.layout == "grid" else np.nan)
    rows_shown = [("cue", cue_shown), *columns.items()]
    return part, rows_shown, [str(i + 1) for i in range(len(rows))]


def places_of(text: str, names: tuple[str, ...], *, what: str) -> NDArray[np.int64]:
    """Places of channels or items by name."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    known = {SAME_PLACE.get(name, name): i for i, name in enumerate(names)}
    unknown = [name for name in asked if SAME_PLACE.get(name, name) not in known]
    if unknown or not asked:
        raise StudyError(
            f"--hide {text}: {unknown[0] if unknown else 'nothing'!r} is none of the model's "
            f"{what} ({', '.join(names[:6])}{' ...' if len(names) > 6 else ''})"
        )
    if len(asked) >= len(names):
        raise StudyError(f"--hide {text}: hides everything; leave some {what} to see")
    return np.array([known[SAME_PLACE.get(name, name)] for name in asked])
