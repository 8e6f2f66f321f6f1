"""The files of a run: written whole, provenance last, pseudonymised beside.

``train`` fills a folder that replaces the old one as a whole. ``score`` writes the files of each
input once, its provenance last, and rebuilds what is about all of them (``scores.parquet``,
``group_*``) from those files. What leaves for MLflow stands in ``pseudonymised/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.analysis.persons import describe
from ae_pipeline.analysis.relevance import Relevance, relevance
from ae_pipeline.detectors.heads import head_numbers
from ae_pipeline.outputs.dictionary import write_described
from ae_pipeline.outputs.masking import IDENTITIES, PLAIN, SHARED, Masking
from ae_pipeline.outputs.persons import items_table, person_tables
from ae_pipeline.outputs.publish import flat, write_record
from ae_pipeline.outputs.run_folder import digests_of, now
from ae_pipeline.report.findings import training as findings
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.model_card import model_card
from ae_pipeline.report.findings.reasons import scores_table, with_reasons
from ae_pipeline.report.findings.words import evidence
from ae_pipeline.report.markdown import headline_markdown
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
from ae_pipeline.scoring.examples import Example, pick_examples
from ae_pipeline.scoring.tables import contract_frame, latents_frame
from ae_pipeline.tracking.record import InputShape, Lineage, Record
from ae_pipeline.tracking.registry import registered_name
from ae_pipeline.training.snapshots import pictures

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.outputs.run_folder import TrainRun

__all__ = [
    "count_parameters",
    "train_record",
    "write_train",
]


def count_parameters(bundle: Bundle) -> int:
    """Trainable numbers of the autoencoder."""
    from ae_pipeline.models.layers import n_parameters

    return n_parameters(bundle.autoencoder.model)


@dataclass(frozen=True)
class _TrainTables:
    """What the files of a training hold, computed and in words; ``people`` of questionnaires."""

    history: pd.DataFrame
    scores: pd.DataFrame
    latents: pd.DataFrame
    worst: Example
    best: Example
    relevant: Relevance
    people: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame] | None


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
    bundles.save(place / "model", run.bundle)
    digest = digest_files([place / "model/bundle.json", place / "model/weights.safetensors"])
    tables, shared = _tables(run), place / SHARED
    _write_once(run, tables, place=place)
    drawn = _write_copies(run, tables, digest=digest, place=place)
    for name, picture in report.train_figures(drawn).items():
        write_bytes(shared / "figures" / name, picture)
    for name, picture in ({} if growth is None else pictures(growth)).items():
        write_bytes(shared / "reconstructions" / name, picture)
    model_id = replace(run.bundle, digest=digest).model_id
    card = model_card(run.bundle.info, run.metrics, model_id=model_id)
    write_text(shared / "model_card.md", card)
    _write_yaml(shared / "study.yaml", _public_study(run))
    write_frame(shared / "history.csv", tables.history)
    headline = findings.train_headline(run.bundle.info, run.metrics, claims=run.bundle.info.claims)
    write_record(shared, train_record(run, digest, headline=headline))
    provenance = {
        "kind": "train",
        "status": "done",
        "key": run.key,
        "verdict": headline.verdict,
        "model": digest,
        "inputs": run.data.digests,
        "failed": [vars(failure) for failure in run.data.failures],
        "versions": dict(versions()),
        "finished": now(),
        "outputs": digests_of(place),
    }
    write_json(place / "provenance.json", provenance)


def _tables(run: TrainRun) -> _TrainTables:
    """Compute what is written; examples are rows that nothing was fitted on."""
    import pandas as pd

    bundle, held_out = run.bundle, run.held_out()
    scores = scores_table(contract_frame(run.frame, bundle.info.layout), bundle)
    worst, best = pick_examples(bundle, held_out, frame=run.frame)
    people = None
    if bundle.ensemble.person is not None:
        about, answers, items = describe(
            bundle.ensemble.person,
            held_out,
            source=run.study.source,
            frame=run.frame,
            latents=run.latents,
        )
        people = about, answers, items_table([items], len(held_out))
    return _TrainTables(
        pd.DataFrame(run.history.rows),
        scores,
        latents_frame(scores, run.latents),
        with_reasons(worst, bundle),
        with_reasons(best, bundle),
        relevance(bundle.autoencoder, held_out, seed=run.study.training.seed),
        people,
    )


def _write_once(run: TrainRun, tables: _TrainTables, *, place: Path) -> None:
    """The files that only stay here."""
    methods = methods_paragraph(run.bundle, run.study.detection)
    write_text(place / "methods.txt", methods + "\n")
    write_frame(place / "history.csv", tables.history)
    write_json(place / "metrics.json", run.metrics)
    write_json(place / "pseudonyms.json", Masking.of(run.bundle.info).names(tables.scores))
    _write_yaml(place / "study.yaml", run.study.model_dump(mode="json"))
    write_frame(place / "relevance.csv", tables.relevant.frame())
    if run.metrics.get("factors"):
        write_json(place / "latents.json", _latents_sidecar(run.metrics["factors"]))
    if tables.people is not None:
        write_described(place / "items.csv", tables.people[2])


def _write_copies(run: TrainRun, tables: _TrainTables, *, digest: str, place: Path) -> report.Drawn:
    """Scores, latents and the page: with names here, and without them where they may leave."""
    view = findings.train_view(
        run.study,
        run.bundle,
        metrics=run.metrics,
        history=tables.history,
        scores=tables.scores,
        latents=tables.latents,
        digest=digest,
        relevant=tables.relevant,
    )
    drawn: report.Drawn | None = None
    for folder, masks in ((place, PLAIN), (place / SHARED, Masking.of(run.bundle.info))):
        scores, latents = masks.frame(tables.scores), masks.frame(tables.latents)
        write_frame(folder / "scores.parquet", scores)
        write_frame(folder / "latents.parquet", latents)
        sections = view.sections
        if tables.people is not None:
            about, answers, _ = tables.people
            people = person_tables(scores, about, answers=masks.frame(answers))
            sections += people.sections()
            if folder == place:
                people.write(folder)
        page = replace(
            view,
            scores=scores,
            latents=latents,
            worst=evidence(run.bundle, masks.example(tables.worst)),
            best=evidence(run.bundle, masks.example(tables.best)),
            sections=sections,
            notes=masks.notes(run.data.notes),
        )
        # what says nothing of anybody is drawn once
        if drawn is None or (masks.hides and view.color_by in IDENTITIES):
            drawn = report.draw(page)
        write_text(folder / "report.html", report.train_page(page, drawn))
    assert drawn is not None
    return drawn


def _write_yaml(file: Path, content: Mapping[str, Any]) -> None:
    import yaml

    write_text(file, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))


def _public_study(run: TrainRun) -> dict[str, Any]:
    """The study as it was trained, without paths."""
    study = run.study.model_dump(mode="json")
    study["source"].pop("path")
    study["model"] = run.bundle.info.model.model_dump(mode="json")
    study.pop("outputs")
    return study


def train_record(run: TrainRun, digest: str, *, headline: report.Headline) -> Record:
    """Return what MLflow is to show of a training; ``digest`` is that of the bundle."""
    info, metrics, study = run.bundle.info, run.metrics, run.study
    numbers = {
        name: metrics[name]
        for name in ("train_loss", "validation_loss", "test_loss", "parameters", "epochs")
    } | {
        "pca_test_loss": metrics["baselines"]["pca"]["test_loss"],
        "chance_test_loss": metrics["baselines"]["chance"]["test_loss"],
        "gain_over_pca": metrics["baselines"]["pca"]["test_loss"] - metrics["test_loss"],
        "explained_share": metrics["explained_share"],
        "seconds": metrics["seconds"],
        **head_numbers(metrics.get("head")),
    }
    model = info.model
    return Record(
        kind="train",
        experiment=study.study,
        run_name=f"train {model.architecture.kind} {model.objective.kind} {model.latent_dim}",
        key=digest_json([run.key, digest]),
        work=run.key,
        description=headline_markdown(study.study, headline, hypothesis=study.hypothesis),
        params=flat(_public_study(run)),
        metrics={name: value for name, value in numbers.items() if value is not None},
        tags={
            "kind": info.kind,
            "model_digest": digest,
            "step": "train",
            "primary_metric": study.primary_metric,
        },
        dataset=Lineage(
            name=study.study,
            digest=info.training_digest[:32],
            source=info.kind,
            rows=len(run.data.samples),
            features=int(np.prod(info.shape)),
        ),
        model_name=registered_name(study.study),
        input_example=InputShape(shape=info.shape),
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
