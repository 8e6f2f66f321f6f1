"""The model card: what a model is for, what it was made from, and what must not be claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ae_pipeline.kind import kind_of
from ae_pipeline.report.wording import spoken
from ae_pipeline.scoring.bundle import BundleInfo

__all__ = ["model_card"]


def model_card(info: BundleInfo, metrics: Mapping[str, Any], *, model_id: str) -> str:
    """The card as Markdown; no identities.

    Parameters
    ----------
    info : BundleInfo
    metrics : mapping
        Content of ``metrics.json``.
    model_id : str
    """
    model = info.model
    size = f"latent size {model.latent_dim}, {metrics.get('parameters')} parameters"
    lines = [
        f"# {model_id}",
        "",
        f"{model.architecture.kind} autoencoder, {model.objective.kind} objective, {size}. "
        f"Scores {kind_of(info.kind).words.scores}: higher is further from what it was trained on.",
        "",
        "## Intended use",
        "",
        f"To point a person at what differs from the normal data of the study '{info.study}', for "
        "research. Not a diagnosis, and no ground for a decision about a person by itself.",
        "",
        "## Takes",
        "",
        f"- samples of shape {info.shape} in {info.unit}"
        + (f" at {info.sfreq_hz:g} Hz" if info.sfreq_hz else ""),
    ]
    if info.entries:
        shown = ", ".join(info.entries[:40]) + (" ..." if len(info.entries) > 40 else "")
        lines.append(f"- {len(info.entries)} channels or items, in this order: {shown}")
    lines += ["", "## Data and training", ""]
    lines += [f"- {spoken(name)}: {_short(value)}" for name, value in info.training.items()]
    lines += [f"- digest: {info.training_digest[:16]}", "", "## Calibration", ""]
    lines += [
        f"- statements are about: {info.exchangeable_unit}",
        *(f"- {spoken(n)}: {_short(v)}" for n, v in info.detection.model_dump(mode="json").items()),
        f"- threshold of a window: {info.threshold:.4g}" if info.threshold is not None else "",
        "",
        "## Held-out results",
        "",
    ]
    lines += [
        f"- {spoken(name)}: {_short(metrics.get(name))}"
        for name in ("train_loss", "validation_loss", "test_loss", "explained_share")
    ]
    lines += [
        f"- test loss of {spoken(name)}: {_short(values['test_loss'])}"
        for name, values in (metrics.get("baselines") or {}).items()
    ]
    lines += ["", "## Limits", ""]
    lines += [f"- {claim}" for claim in info.claims] or ["- none beyond the intended use"]
    lines += [
        "- What the training data did not hold (amplifiers, tasks, ages) looks abnormal to it.",
        "",
    ]
    lines += ["## Versions", "", ", ".join(f"{n} {v}" for n, v in info.versions.items()), ""]
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
