"""The files of a run: written whole, provenance last, pseudonymised beside.

``train`` fills a folder that replaces the old one as a whole. ``score`` writes the files of each
input once, its provenance last, and rebuilds what is about all of them (``scores.parquet``,
``group_*``) from those files. What leaves for MLflow stands in ``pseudonymised/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.analysis.relevance import relevance
from ae_pipeline.detectors.heads import head_numbers
from ae_pipeline.outputs.masking import _masked, _pseudonyms
from ae_pipeline.outputs.persons import _persons, _write_items
from ae_pipeline.outputs.publish import _flat, _outputs, markdown
from ae_pipeline.outputs.run_folder import _evidence, _now, _with_frame
from ae_pipeline.outputs.score import SHARED
from ae_pipeline.report.findings import training as findings
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.model_card import model_card
from ae_pipeline.report.findings.reasons import scores_table, with_reasons
from ae_pipeline.runtime.files import (
    digest_files,
    digest_json,
    versions,
    write_bytes,
    write_frame,
    write_json,
    write_text,
)
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.examples import pick_examples
from ae_pipeline.scoring.tables import contract_frame, latents_frame
from ae_pipeline.tracking.registry import registered_name
from ae_pipeline.training.snapshots import pictures

if TYPE_CHECKING:
    from ae_pipeline.outputs.run_folder import TrainRun

__all__ = [
    "count_parameters",
    "write_train",
]


# --------------------------------------------------------------------------- the folder


# -------------------------------------------------------------------------------- train


def count_parameters(bundle: Bundle) -> int:
    """Trainable numbers of the autoencoder."""
    from ae_pipeline.models.layers import n_parameters

    return n_parameters(bundle.autoencoder.model)


def write_train(run: TrainRun, place: Path, *, growth: Path | None = None) -> None:
    """Everything ``train`` leaves, into an empty folder; provenance last.

    Parameters
    ----------
    run : TrainRun
    place : Path
        The empty folder.
    growth : Path, optional
        What :class:`ae_pipeline.training.snapshots.Snapshots` has kept.
    """
    import pandas as pd
    import yaml

    bundles.save(place / "model", run.bundle)
    digest = digest_files([place / "model/bundle.json", place / "model/weights.safetensors"])
    history = pd.DataFrame(run.history.rows)
    methods = methods_paragraph(run.bundle, run.study.detection)
    write_text(place / "methods.txt", methods + "\n")
    write_frame(place / "history.csv", history)
    write_json(place / "metrics.json", run.metrics)
    scores = scores_table(contract_frame(run.frame, run.bundle.info.layout), run.bundle)
    latents = latents_frame(scores, run.latents)
    names = _pseudonyms(scores, run.bundle.info.kind)
    write_json(place / "pseudonyms.json", names)
    study = run.study.model_dump(mode="json")
    write_text(place / "study.yaml", yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    # what the worst and best look like, taken from rows that nothing was fitted on
    examples = pick_examples(run.bundle, run.held_out(), frame=run.frame)
    worst, best = (with_reasons(each, run.bundle) for each in examples)

    about, answers = _write_items(run, place)
    if run.metrics.get("factors"):
        write_json(place / "latents.json", _latents_sidecar(run.metrics["factors"]))
    relevant = relevance(run.bundle.autoencoder, run.held_out(), seed=run.study.training.seed)
    write_frame(place / "relevance.csv", relevant.frame())

    shared = place / SHARED
    view = findings.train_view(
        run.study,
        run.bundle,
        metrics=run.metrics,
        history=history,
        scores=scores,
        latents=latents,
        worst=worst,
        best=best,
        digest=digest,
        notes=run.data.notes,
        relevant=relevant,
    )
    drawn: report.Drawn | None = None
    for folder, mapping in ((place, None), (shared, names)):
        hide = (lambda f: f) if mapping is None else (lambda f: _masked(f, names))
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        persons: tuple[report.Section, ...] = ()
        if about is not None and answers is not None:
            persons = _persons(
                hide(scores), about, answers=hide(answers), write=folder == place, out=folder
            )
        page = replace(  # what says nothing of anybody was drawn once
            view,
            scores=hide(scores),
            latents=hide(latents),
            worst=_evidence(run.bundle, _with_frame(worst, hide)),
            best=_evidence(run.bundle, _with_frame(best, hide)),
            sections=(*view.sections, *persons),
        )
        if drawn is None or view.color_by in names:
            drawn = report.draw(page)
        write_text(folder / "report.html", report.train_page(page, drawn))
    assert drawn is not None
    for name, picture in report.train_figures(drawn).items():
        write_bytes(shared / "figures" / name, picture)
    headline = findings.train_headline(run.bundle.info, run.metrics, claims=run.bundle.info.claims)
    summary = markdown(run.study.study, headline, hypothesis=run.study.hypothesis)
    write_text(shared / "summary.md", summary)
    model_id = replace(run.bundle, digest=digest).model_id
    write_text(
        shared / "model_card.md", model_card(run.bundle.info, run.metrics, model_id=model_id)
    )
    for name, picture in ({} if growth is None else pictures(growth)).items():
        write_bytes(shared / "reconstructions" / name, picture)
    public = {**study, "source": {k: v for k, v in study["source"].items() if k != "path"}}
    public["model"] = run.bundle.info.model.model_dump(mode="json")  # without paths
    public.pop("outputs")
    write_text(shared / "study.yaml", yaml.safe_dump(public, sort_keys=False, allow_unicode=True))
    write_frame(shared / "history.csv", history)
    info = run.bundle.info
    numbers = {
        "train_loss": run.metrics["train_loss"],
        "validation_loss": run.metrics["validation_loss"],
        "test_loss": run.metrics["test_loss"],
        "pca_test_loss": run.metrics["baselines"]["pca"]["test_loss"],
        "gain_over_pca": run.metrics["beats_baselines"]["difference"],
        "parameters": run.metrics["parameters"],
        "epochs": run.metrics["epochs"],
        "seconds": run.metrics["seconds"],
        **head_numbers(run.metrics.get("head")),
    }
    record = {
        "kind": "train",
        "experiment": run.study.study,
        "run_name": f"train {info.model.architecture.kind} {info.model.objective.kind} "
        f"{info.model.latent_dim}",
        "key": digest_json([run.key, digest]),
        "work": run.key,
        "description": summary,
        "params": _flat(public),
        "metrics": {name: value for name, value in numbers.items() if value is not None},
        "tags": {
            "kind": info.kind,
            "model_digest": digest,
            "step": "train",
            "primary_metric": run.study.primary_metric,
        },
        "dataset": {
            "name": run.study.study,
            "digest": info.training_digest[:32],
            "source": info.kind,
            "rows": len(run.data.samples),
            "features": int(np.prod(info.shape)),
        },
        "model_name": registered_name(run.study.study),
        "input_example": {"shape": list(info.shape)},
    }
    write_json(shared / "run.json", record)
    write_json(
        place / "provenance.json",
        {
            "kind": "train",
            "status": "done",
            "key": run.key,
            "verdict": headline.verdict,
            "model": digest,
            "inputs": run.data.digests,
            "failed": [vars(failure) for failure in run.data.failures],
            "versions": dict(versions()),
            "finished": _now(),
            "outputs": _outputs(place),
        },
    )


def _latents_sidecar(found: Mapping[str, Any]) -> dict[str, Any]:
    """What each latent of a questionnaire is worth, beside ``latents.parquet``."""
    return {
        each["latent"]: {
            "Description": "Latent feature of the autoencoder's code, without a unit",
            "StabilityOverSeeds": each["seeds"],
            "StabilityOverHalves": each["halves"],
        }
        for each in found["stability"]
    } | {
        "Stability": {
            "Description": "Correlation of a latent with what the same model gives with another "
            "seed, or in half of the people, after linear alignment; 1 is the same latent"
        }
    }


# -------------------------------------------------------------------------------- score


# -------------------------------------------------------------------------------- group
