"""Results in words: what the reports say first, and the views they are drawn from.

Nothing is computed here that is not in the files of a run; identities are whatever the frames
hold, so that the pseudonymised report is the same code on pseudonymised frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.analysis.layers import layers_of
from ae_pipeline.analysis.relevance import Relevance
from ae_pipeline.detectors.heads import describe
from ae_pipeline.kind import kind_of
from ae_pipeline.report import (
    Headline,
    Number,
    Section,
    TrainView,
)
from ae_pipeline.report.drawing import Picture
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.pictures import people, portraits
from ae_pipeline.report.wording import interval, number, spoken
from ae_pipeline.scoring.bundle import Bundle, BundleInfo

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ae_pipeline.study import Study

__all__ = [
    "drawn",
    "factor_sections",
    "facts_of",
    "head_sections",
    "proposed_number",
    "rehearsal_sentence",
    "relevance_section",
    "train_headline",
    "train_view",
]


def facts_of(info: BundleInfo, digest: str) -> dict[str, str]:
    """Return what a page says of a model's origin: study, data, versions, digest."""
    facts = {
        "Study": info.study,
        "Model": f"{info.model.architecture.kind}, {info.model.objective.kind}, "
        f"{info.model.latent_dim} latent features",
        "Model digest": digest[:16],
        "Training data digest": info.training_digest[:16],
    }
    facts |= {
        spoken(name).capitalize(): str(value)
        for name, value in info.training.items()
        if name != "channel_amplitude_uv"
    }
    facts |= {f"Version of {name}": version for name, version in info.versions.items()}
    return facts


def rehearsal_sentence(rehearsal: Mapping[str, Any]) -> str:
    """Whether the simple methods would have done, from the planted deviations."""
    if not rehearsal:
        return ""
    names = {"pca": "PCA", "robust_z": "robust z-score", "isolation_forest": "Isolation Forest"}
    beats = rehearsal["beats_baselines"]["ensemble"]
    areas = {name: values["roc_area"] for name, values in rehearsal["scorers"].items()}
    against = beats["against"]
    told = (
        f"Planted deviations were told from held-out data with an area of "
        f"{areas['ensemble']:.2f} by the ensemble, {areas['autoencoder']:.2f} by the "
        f"autoencoder's error alone and {areas[against]:.2f} by the best simple method "
        f"({names[against]})"
    )
    bounds = beats["interval"]
    if bounds is None:
        gain = "with too few subjects to say whether that is a difference"
    else:
        gain = f"a difference of {beats['difference']:+.2f} ({bounds[0]:+.2f} to {bounds[1]:+.2f})"
    recommended = names.get(rehearsal["recommended"], f"the {rehearsal['recommended']}")
    return f"{told}: {gain}. The simplest that does not lose: {recommended}."


def train_headline(
    info: BundleInfo, metrics: Mapping[str, Any], *, claims: Sequence[str]
) -> Headline:
    """Verdict, numbers and next steps of a training run."""
    words = kind_of(info.kind).words
    loss_name = words.loss
    beats = metrics["beats_baselines"]
    things = words.many
    pca, chance = (metrics["baselines"][name]["test_loss"] for name in ("pca", "chance"))
    share = metrics["explained_share"]
    against = {"pca": "PCA", "chance": "chance"}[metrics["best_baseline"]]
    held_out = f"{metrics['test_units']} held-out " + words.holders
    if info.layout == "series" and metrics["test_units"] == 1:
        held_out = "held-out stretches of one subject"
    if share is None or share <= 0:
        comparison = (
            "Nothing was learned that holds for new data: add data, or lower model.latent_dim"
        )
    elif beats["value"] is None:
        comparison = (
            "Whether that is better than a linear model cannot be said with so few subjects"
        )
    elif beats["value"]:
        comparison = "The autoencoder reconstructs better than PCA of equal size"
        if against == "chance":
            comparison = "PCA of equal size is worse than chance; the autoencoder is better"
    elif beats["interval"][1] < 0:
        comparison = "PCA of equal size reconstructs better: the linear model is enough"
    else:
        comparison = "No clear difference from PCA of equal size: the linear model is enough"
    beside = f"{number(metrics['test_loss'])} (chance {number(chance)}, PCA {number(pca)})"
    if share is None or share <= 0:
        verdict = f"The model is worse than chance on {things} it never saw: {loss_name} {beside}."
    else:
        verdict = (
            f"The model explains {share:.0%} of the {_explained(info)} in {things} it never saw: "
            f"{loss_name} {beside}."
        )
    numbers = (
        Number("Held-out loss", number(metrics["test_loss"]), f"{loss_name}, {held_out}"),
        Number("PCA, same size", number(pca), f"the same rows; chance {number(chance)}"),
        Number(
            f"Gain over {against}",
            f"{beats['difference']:+.3g}",
            interval(beats["interval"]) or "no interval",
        ),
        proposed_number(metrics["proposed"], info)
        if metrics.get("proposed") is not None
        else Number("Parameters", f"{metrics['parameters']:,}", f"{metrics['epochs']} epochs"),
    )
    return Headline(
        verdict,
        numbers,
        (
            "Look at the samples with the largest error below: are they what you call abnormal?",
            "Score new data: ae-pipeline score --model MODEL --out RESULTS DATA",
            "Compare with the other runs of this study: ae-pipeline ui",
        ),
        f"{rehearsal_sentence(metrics['rehearsal'])} {comparison}.",
        tuple(claims),
    )


def _explained(info: BundleInfo) -> str:
    """What a lower loss than chance explains."""
    likelihood: str = info.model.likelihood
    if likelihood == "auto":
        likelihood = {"series": "gaussian", "grid": "bernoulli", "table": "mixed"}[info.layout]
    continuous = all(column["type"] == "continuous" for column in info.columns)
    squared = likelihood in ("gaussian", "huber") or (likelihood == "mixed" and continuous)
    return "variance" if squared else "information"


def proposed_number(n: int, info: BundleInfo) -> Number:
    """How many people are worth a look, where nothing can be promised of them."""
    found = info.rehearsal.get("found_in_tenth")
    note = "as unlike the others as the most unlike tenth; no error rate is promised"
    if found is not None:
        note += f"; {found:.0%} of planted careless answers are found so"
    return Number("Proposed for a look", f"{n:,}", note)


def train_view(
    study: Study,
    bundle: Bundle,
    *,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    scores: pd.DataFrame,
    latents: pd.DataFrame,
    digest: str,
    relevant: Relevance | None = None,
) -> TrainView:
    """The training page, but for what names somebody."""
    info = bundle.info
    label = "label" if "label" in scores and scores["label"].notna().any() else None
    words = kind_of(info.kind).words
    color = label if info.layout == "grid" else "score"
    if info.layout == "series" and latents["subject"].nunique() > 1:
        color = "subject"
    return TrainView(
        title=info.study,
        what=words.title,
        thing=words.one,
        headline=train_headline(info, metrics, claims=info.claims),
        history=history,
        metrics=metrics,
        scores=scores,
        hypothesis=study.hypothesis,
        latents=latents,
        color_by=color,
        layers=layers_of(bundle),
        sections=(
            *head_sections(metrics.get("head")),
            *(() if relevant is None else (relevance_section(relevant, info),)),
            *factor_sections(metrics.get("factors")),
        ),
        facts=facts_of(info, digest),
        methods=methods_paragraph(bundle, info.detection),
    )


def factor_sections(found: Mapping[str, Any] | None) -> tuple[Section, ...]:
    """The latents of a questionnaire beside factor analysis, for the training page."""
    if not found:
        return ()
    import pandas as pd

    k, parallel, hidden = found["k"], found["parallel"], found["hidden"]
    counted = f"{parallel['pearson']} dimensions by parallel analysis on Pearson correlations"
    if parallel["polychoric"] is not None:
        counted += f", {parallel['polychoric']} on polychoric ones"
    if "people" in found:
        counted += f", of {found['people']:,} people"
    # polychoric correlations are not made of many items
    counts = [n for n in (parallel["pearson"], parallel["polychoric"]) if n is not None]
    most = max(counts)
    advice = "."
    if k > most >= 1:
        advice = f", more than say more than chance: try model.latent_dim: {most}."
    elif k < min(counts):
        advice = f", fewer than say more than chance: try model.latent_dim: {most}."
    split = found["split_half"]
    text = (
        found["verdict"],
        f"{counted}; the model has {k}{advice} {k} varimax factors come back in random halves of "
        f"the people with a Tucker congruence of {split['mean']:.2f} on average and "
        f"{split['least']:.2f} at the least (0.95 and more: the same factor; below 0.85: another).",
    )
    errors = pd.DataFrame(
        [
            {"predicted_from": f"{k} latents of the autoencoder", "error": hidden["autoencoder"]},
            {"predicted_from": f"{k} factors", "error": hidden["factors"]},
            {"predicted_from": f"{k} principal components", "error": hidden["components"]},
            {"predicted_from": "the item's mean", "error": 1.0},
        ]
    ).round(3)
    factors = pd.DataFrame(
        {
            "factor": [f"F{i + 1}" for i in range(len(found["congruence"]))],
            "congruence_with_the_latents": found["congruence"],
            "correlation_from_the_latents": found["factor_from_latents"],
        }
    ).round(3)
    stable = pd.DataFrame(found["stability"]).round(3)
    return (
        Section(
            "Beside factor analysis",
            text,
            _factor_pictures(found),
            (
                (
                    f"Squared error in predicting hidden answers of {hidden['people']:,} people, "
                    "in variances of an item.",
                    errors,
                ),
                ("Each factor beside the latents turned towards it.", factors),
                (
                    "Stability: correlation of each latent with what the same model gives with "
                    "other seeds, and in halves of the people, after alignment.",
                    stable,
                ),
            ),
        ),
    )


def _factor_pictures(found: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Which items make up the factors and the latents turned towards them; how many count."""
    k, loadings = found["k"], found.get("loadings")
    curves = found["parallel"].get("curves") or {}
    named = {f"{name.capitalize()} correlations": curve for name, curve in curves.items()}
    drawn = [people.scree(named, k)]
    if loadings:
        drawn.insert(
            0,
            people.loadings_map(
                loadings["factors"],
                loadings["items"],
                dimensions=[f"F{i + 1}" for i in range(k)],
                what="varimax factors",
                other=loadings["latents"],
                other_dimensions=[f"F{i + 1}" for i in range(k)],
                other_what="latents, turned towards them",
            ),
        )
    return tuple(picture for picture in drawn if picture is not None)


def drawn(picture: Picture | None) -> tuple[Picture, ...]:
    """Return a picture as a tuple, empty where there is none."""
    return () if picture is None else (picture,)


def relevance_section(relevant: Relevance, info: BundleInfo) -> Section:
    """Which inputs the code depends on and what each feature does, for the training page."""
    import pandas as pd

    latents, entries = relevant.latents, relevant.entries
    mean = relevant.by_entry()
    order = np.argsort(mean)[::-1][:20]
    frame = pd.DataFrame(
        {
            kind_of(info.kind).words.entry_column: np.array(entries, dtype=object)[order],
            "dependence_of_the_code": mean[order].round(4),
            "feature_that_depends_most": np.array(latents, dtype=object)[
                relevant.dependence[:, order].argmax(0)
            ],
            "feature_that_moves_it_most": np.array(latents, dtype=object)[
                relevant.effect[:, order].argmax(0)
            ],
        }
    )
    does = pd.DataFrame(
        {
            "feature": latents,
            "depends_most_on": _strongest(relevant.dependence, entries),
            "changes_most": _strongest(relevant.effect, entries),
            "size_of_the_change": relevant.effect.max(1).round(3),
        }
    )
    if len(relevant.peak_hz):
        does["mostly_at_hz"] = relevant.peak_hz.round(1)
    captions = (
        "How much a feature depends on an entry: its change when the entry is another sample's, "
        "0 not at all, 1 entirely.",
        "What a feature does: change of each entry of the reconstruction, in its own standard "
        "deviations, when the feature goes from one deviation below its median to one above.",
    )
    if info.layout == "grid":
        side = -(-info.shape[1] // 4)
        maps = [
            (name, np.clip(values.reshape(len(latents), -1, side) / (values.max() or 1), 0, 1))
            for name, values in (("depends", relevant.dependence), ("does", relevant.effect))
        ]
        alt = "Maps of the pixels that each latent feature depends on and changes."
        pictures: tuple[Picture, ...] = (
            portraits.grid_of_images(maps, latents, alt=alt, caption=" ".join(captions)),
        )
    else:
        pictures = tuple(
            portraits.matrix(
                values, latents, columns=entries, label=label, alt=caption, caption=caption
            )
            for values, label, caption in (
                (relevant.dependence, "dependence", captions[0]),
                (relevant.effect, "effect", captions[1]),
            )
        )
    frames = (
        ("Entries the code depends on most.", frame),
        ("What each feature depends on and does; all of it is in relevance.csv.", does),
    )
    silent = [name for name, row in zip(latents, relevant.effect, strict=True) if row.max() < 0.01]
    text = (f"{len(silent)} features do nothing: {', '.join(silent)}.",) if silent else ()
    return Section("Which variables matter", text, pictures, frames)


def _strongest(values: NDArray[np.float64], entries: Sequence[str]) -> list[str]:
    """Names of up to three entries of each row, those at least half as strong as the strongest."""
    named = []
    for row in values:
        top = [i for i in np.argsort(row)[::-1][:3] if row[i] >= row.max() / 2 and row[i] > 0]
        named.append(", ".join(entries[i] for i in top))
    return named


def head_sections(found: Mapping[str, Any] | None) -> tuple[Section, ...]:
    """What the head is worth, for the training page."""
    import pandas as pd

    if not found:
        return ()
    labelled = (
        f"{found['labelled']:,} samples have a label, {found['unlabelled']:,} have none; the head "
        f"was fitted {found['fitted']}."
    )
    rows = []
    for part in ("held_out", "cross_validation"):
        judged = found.get(part) or {}
        for name, values in ((found["from"], judged), ("input", judged.get("from_input") or {})):
            rows += [
                {
                    "judged": spoken(part),
                    "predicted_from": name,
                    "measure": spoken(measure),
                    "value": value["value"],
                    "95 %": interval(value["interval"]) or "",
                }
                for measure, value in values.items()
                if isinstance(value, Mapping) and "interval" in value
            ]
    frames = ((f"Predicting {found['target']}.", pd.DataFrame(rows)),) if rows else ()
    title = f"What the model says of {found['target']}"
    return (Section(title, (*describe(found), labelled), (), frames),)
