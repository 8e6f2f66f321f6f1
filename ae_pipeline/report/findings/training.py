"""Results in words: what the reports say first, and the views they are drawn from.

Nothing is computed here that is not in the files of a run; identities are whatever the frames
hold, so that the pseudonymised report is the same code on pseudonymised frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.calibration import Detection, reach
from ae_pipeline.detectors.heads import describe
from ae_pipeline.eeg.tags import CATEGORY
from ae_pipeline.methods import methods_paragraph
from ae_pipeline.persons import PROPOSED
from ae_pipeline.relevance import Relevance
from ae_pipeline.report import (
    Evidence,
    GroupView,
    Headline,
    Number,
    RecordingView,
    RowsView,
    Section,
    TrainView,
    people,
    portraits,
)
from ae_pipeline.report.drawing import Picture
from ae_pipeline.scoring.bundle import Bundle, BundleInfo
from ae_pipeline.scoring.examples import Example
from ae_pipeline.scoring.reasons import kinds_in_words
from ae_pipeline.scoring.recording import RecordingResult

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ae_pipeline.study import Study

__all__ = [
    "evidence",
    "factor_sections",
    "group_view",
    "head_sections",
    "layers_of",
    "person_sections",
    "recording_view",
    "rehearsal_sentence",
    "relevance_section",
    "rows_view",
    "train_headline",
    "train_view",
]

LOSS_NAMES = {"eeg": "mean squared error", "mnist": "binary cross-entropy"}
THINGS = {"eeg": "windows", "mnist": "images", "questionnaire": "respondents"}
NEVER = "Research use, not a diagnosis."


def evidence(info: BundleInfo, example: Example) -> Evidence:
    """Examples for a page, in the data's units."""
    units = {"eeg": "µV", "mnist": "", "questionnaire": "answer"}
    return Evidence(
        example.values,
        example.reconstructions,
        example.frame,
        info.sfreq_hz,
        info.entries,
        units[info.kind],
        [column["levels"] for column in info.columns] or None,
        example.normal,
        example.normal_s,
    )


def layers_of(bundle: Bundle) -> list[tuple[str, str, int]]:
    """(name, output shape, parameters) of every layer that has any, encoder before decoder."""
    import torch
    from torch import nn

    from ae_pipeline.models.layers import n_parameters

    model = bundle.autoencoder.model
    found: list[tuple[str, str, int]] = []
    handles = []
    for side in ("encoder", "decoder"):
        for module in getattr(model, side).modules():
            if next(module.children(), None) is None and n_parameters(module):

                def note(layer: nn.Module, _: Any, out: torch.Tensor, side: str = side) -> None:
                    shape = " x ".join(str(n) for n in out.shape[1:])
                    name = f"{side}: {type(layer).__name__}"
                    found.append((name, shape, n_parameters(layer)))

                handles.append(module.register_forward_hook(note))
    with torch.inference_mode():
        model(torch.zeros((1, *model.shape), device=next(model.parameters()).device))
    for handle in handles:
        handle.remove()
    return found


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:.{digits}g}"


def _span(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"95% interval {bounds[0]:.3g} to {bounds[1]:.3g}"


def _facts(info: BundleInfo, digest: str) -> dict[str, str]:
    facts = {
        "Study": info.study,
        "Model": f"{info.model.architecture.kind}, {info.model.objective.kind}, "
        f"{info.model.latent_dim} latent features",
        "Model digest": digest[:16],
        "Training data digest": info.training_digest[:16],
    }
    facts |= {
        name.replace("_", " ").capitalize(): str(value)
        for name, value in info.training.items()
        if name != "channel_amplitude_uv"
    }
    facts |= {f"Version of {name}": version for name, version in info.versions.items()}
    return facts


# -------------------------------------------------------------------------------- train


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


def train_headline(info: BundleInfo, metrics: Mapping[str, Any], claims: Sequence[str]) -> Headline:
    """Verdict, numbers and next steps of a training run."""
    loss_name = LOSS_NAMES.get(info.kind, "loss per answer")
    beats = metrics["beats_baselines"]
    things = THINGS[info.kind]
    pca = metrics["baselines"]["pca"]["test_loss"]
    held_out = f"{metrics['test_units']} held-out " + ("subjects" if info.kind == "eeg" else things)
    if info.kind == "eeg" and metrics["test_units"] == 1:
        held_out = "held-out stretches of one subject"
    if beats["value"] is None:
        comparison = (
            "Whether that is better than a linear model cannot be said with so few subjects"
        )
    elif beats["value"]:
        comparison = "The autoencoder reconstructs better than PCA of equal size"
    elif beats["interval"][1] < 0:
        comparison = "PCA of equal size reconstructs better: the linear model is enough"
    else:
        comparison = "No clear difference from PCA of equal size: the linear model is enough"
    verdict = (
        f"The model reproduces {things} it never saw with a {loss_name} of "
        f"{_number(metrics['test_loss'])}; PCA with as many features reaches {_number(pca)}."
    )
    numbers = (
        Number("Held-out loss", _number(metrics["test_loss"]), f"{loss_name}, {held_out}"),
        Number("PCA, same size", _number(pca), "the same rows"),
        Number(
            "Gain over PCA",
            f"{beats['difference']:+.3g}",
            _span(beats["interval"]) or "no interval",
        ),
        _proposed(metrics["proposed"], info)
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


def _proposed(n: int, info: BundleInfo) -> Number:
    """How many people are worth a look, where nothing can be promised of them."""
    found = info.rehearsal.get("found_in_tenth")
    note = "as unlike the others as the most unlike tenth; no error rate is promised"
    if found is not None:
        note += f"; {found:.0%} of planted careless answers are found so"
    return Number("Proposed for a look", f"{n:,}", note)


def train_view(
    study: Study,
    bundle: Bundle,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    scores: pd.DataFrame,
    latents: pd.DataFrame,
    worst: Example,
    best: Example,
    digest: str,
    notes: Sequence[str],
    relevant: Relevance | None = None,
) -> TrainView:
    """The training page."""
    info = bundle.info
    label = "label" if "label" in scores and scores["label"].notna().any() else None
    color = {"eeg": "subject", "mnist": label, "questionnaire": "score"}[info.kind]
    if info.kind == "eeg" and latents["subject"].nunique() == 1:
        color = "score"
    return TrainView(
        title=info.study,
        kind=info.kind,
        headline=train_headline(info, metrics, info.claims),
        history=history,
        metrics=metrics,
        scores=scores,
        hypothesis=study.hypothesis,
        latents=latents,
        color_by=color,
        worst=evidence(info, worst),
        best=evidence(info, best),
        layers=layers_of(bundle),
        sections=(
            *head_sections(metrics.get("head")),
            *(() if relevant is None else (relevance_section(relevant, info),)),
            *factor_sections(metrics.get("factors")),
        ),
        facts=_facts(info, digest),
        notes=tuple(notes),
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
    most = max(parallel["pearson"], parallel["polychoric"] or 0)
    advice = "."
    if k > most >= 1:
        advice = f", more than say more than chance: try model.latent_dim: {most}."
    elif k < min(parallel["pearson"], parallel["polychoric"] or k):
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
                [f"F{i + 1}" for i in range(k)],
                "varimax factors",
                loadings["latents"],
                [f"F{i + 1}" for i in range(k)],
                "latents, turned towards them",
            ),
        )
    return tuple(picture for picture in drawn if picture is not None)


def person_sections(
    persons: pd.DataFrame, rates: pd.DataFrame, answers: pd.DataFrame
) -> tuple[Section, ...]:
    """Who seems not to have read the questions, whom a flag hits, and what was expected.

    Parameters
    ----------
    persons : DataFrame
        The content of ``persons.csv``.
    rates : DataFrame
        From :func:`ae_pipeline.persons.flag_rates`.
    answers : DataFrame
        From :func:`ae_pipeline.persons.answers_frame`.
    """
    import pandas as pd

    names = [c for c in map(str, persons) if c.startswith(("index_", "onset_"))]
    top = persons.sort_values("score", ascending=False, kind="stable")
    shown = top[["id", "score", "p_value", "flagged", "proposed", *names]].head(15)
    shown = shown.round(dict.fromkeys((n for n in names if n.startswith("index_")), 2))
    shown.columns = [str(name).removeprefix("index_") for name in shown]
    missing = (
        []
        if "index_longstring" in persons
        else [
            "Longstring and the item at which careless responding begins need the order in which "
            "people saw the items: set source.presentation_order."
        ]
    )
    indices = Section(
        "Who seems not to have read the questions",
        (
            "The score adds four views: answers unlike what a person's other answers predict, a "
            "pattern that explains the answers better than the questions do, a profile within "
            "scales that runs against everybody's, an unusual combination. The established "
            "indices stand beside it: careless are high longstring, mahalanobis, guttman_errors, "
            "antonyms and lz, low even_odd, synonyms, person_total and response_time; irv is "
            "unusual at both ends (low: one answer throughout, high: random).",
            f"{int(persons['flagged'].sum()):,} are flagged: of these, few should be false. "
            f"{int(persons['proposed'].sum()):,} are proposed for a look (column proposed of "
            "persons.csv): they are as unlike the others as the most unlike tenth of those that "
            "calibrate, and nothing is promised of them. Where people who did not read are among "
            "those that calibrate, they hide each other, and hardly anybody is flagged: go by the "
            "proposals then, from the top. Nobody has been excluded.",
            *missing,
        ),
        _there(people.score_distribution(persons)),
        (("The most suspicious, with their indices.", shown),),
    )
    found = [indices]
    if len(rates):
        frame = rates.round(3)
        found.append(
            Section(
                "Whom a flag hits",
                (
                    "An extreme sufferer is not a careless respondent. Where the share among the "
                    "most abnormal tenth is far from 0.1 in a group or at one end of a scale, look "
                    "whether the score finds carelessness there or the group.",
                ),
                _there(people.group_rates(rates)),
                (("Flags by group and by mean answer of each scale.", frame),),
            )
        )
    pictures: list[Picture] = []
    tables = []
    by_name = top.drop_duplicates("id").set_index("id")
    for name in list(dict.fromkeys(answers["recording"]))[:3]:
        own = answers[answers["recording"] == name]
        row = by_name.loc[name]
        onset = row.get("onset_position")
        begins = None if onset is None or pd.isna(onset) else float(onset)
        pictures += _there(people.answers_beside(own, str(name), begins, float(row["score"])))
        worst = own.nlargest(10, "surprise").drop(columns=["recording", "lowest", "highest"])
        tables.append((f"{name}: the ten answers that surprise most.", worst))
    found.append(
        Section(
            "Answers beside what was expected",
            ("All answers of the most abnormal people are in answers.csv.",),
            tuple(pictures),
            tuple(tables),
        )
    )
    return tuple(found)


def _there(picture: Picture | None) -> tuple[Picture, ...]:
    return () if picture is None else (picture,)


def relevance_section(relevant: Relevance, info: BundleInfo) -> Section:
    """Which inputs the code depends on and what each feature does, for the training page."""
    import pandas as pd

    latents, entries = relevant.latents, relevant.entries
    mean = relevant.by_entry()
    order = np.argsort(mean)[::-1][:20]
    frame = pd.DataFrame(
        {
            {"eeg": "channel_name", "mnist": "pixels_from", "questionnaire": "item"}[
                info.kind
            ]: np.array(entries, dtype=object)[order],
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
    if info.kind == "mnist":
        side = -(-info.shape[1] // 4)
        maps = [
            (name, np.clip(values.reshape(len(latents), -1, side) / (values.max() or 1), 0, 1))
            for name, values in (("depends", relevant.dependence), ("does", relevant.effect))
        ]
        alt = "Maps of the pixels that each latent feature depends on and changes."
        pictures: tuple[Picture, ...] = (
            portraits.grid_of_images(maps, latents, alt, " ".join(captions)),
        )
    else:
        pictures = tuple(
            portraits.matrix(values, latents, entries, label, caption, caption)
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
                    "judged": part.replace("_", " "),
                    "predicted_from": name,
                    "measure": measure.replace("_", " "),
                    "value": value["value"],
                    "95 %": _span(value["interval"]) or "",
                }
                for measure, value in values.items()
                if isinstance(value, Mapping) and "interval" in value
            ]
    frames = ((f"Predicting {found['target']}.", pd.DataFrame(rows)),) if rows else ()
    title = f"What the model says of {found['target']}"
    return (Section(title, (*describe(found), labelled), (), frames),)


# ---------------------------------------------------------------------------- recordings


def recording_view(
    bundle: Bundle, result: RecordingResult, threshold: float, detection: Detection
) -> RecordingView:
    """The page of one recording."""
    from ae_pipeline.scoring.tables import latents_frame

    info, summary = bundle.info, result.summary
    n_events = summary["n_events"]
    alarms = " (".join(_alarms(bundle)) + ")"
    sentences = {
        "clean": "Nothing here is more abnormal than in clean recordings",
        "technical": "Something is wrong with the recording itself",
        "physiological": "This recording holds what looks like artefacts of eyes, muscle or body",
        "unusual": "This recording holds an unusual pattern that deserves an expert's eye",
        "unexplained": "This recording holds stretches unlike the training data",
    }
    reason = summary["reason"]
    if not result.events.empty:
        first = result.events.sort_values("score").iloc[-1]
        kinds = result.events["trial_type"].str.removeprefix("anomaly/")
        like = str(first["trial_type"]).removeprefix("anomaly/").replace("_", " ")
        said = kinds_in_words(kinds.tolist())
        strongest = f"the strongest ({like}) at {first['onset']:.1f} s on {first['channel']}"
        if said in reason:
            reason = reason.replace(said, f"{said}, {strongest}")
        else:
            reason = f"{reason}; {strongest}"
        if len({CATEGORY[kind] for kind in kinds}) > 1 and said in reason:
            sentences |= {
                "technical": "Most of the time flagged looks technical",
                "physiological": "Most of the time flagged looks like artefacts of eyes, muscle "
                "or body",
                "unusual": "Most of the time flagged shows an unusual pattern that deserves an "
                "expert's eye",
                "unexplained": "Most of the time flagged is unlike the training data and like "
                "no known kind",
            }
    if _no_promise(bundle, detection):
        sentences["clean"] = "Nothing was flagged" if result.events.empty else "Little was flagged"
    headline = Headline(
        f"{sentences[summary['verdict']]}: {reason}.",
        (
            Number("Usable", f"{summary['usable_share']:.0%}", "of the recording's length"),
            Number(
                "Events",
                str(n_events),
                f"{summary['events_per_hour']:.1f} an hour; calibration recordings {alarms}",
            ),
            Number(
                "Recording p",
                _number(summary["p_value"], 3),
                f"smallest possible {bundle.calibration.smallest_p:.2g}, "
                f"{bundle.calibration.n_units} calibration {bundle.info.exchangeable_unit}s",
            ),
            Number("Bad channels", str(len(result.bads)), ", ".join(result.bads["name"][:4])),
        ),
        (
            *_look_at(result),
            *(["Decide about the bad channels before averaging"] if len(result.bads) else []),
            "Score more recordings into the same folder: the group report ranks them",
        ),
        f"{rehearsal_sentence(info.rehearsal)} {_simple_methods(bundle, result.frame)}".strip(),
        (*result.summary["warnings"], *info.claims),
    )
    latents = latents_frame(result.frame, result.latents)
    return RecordingView(
        title=summary["recording"],
        headline=headline,
        scores=result.frame,
        events=result.events,
        threshold=threshold,
        quality=result.bads,
        channel_scores=result.by_channel,
        ch_names=info.entries,
        positions_m=result.recording.positions_m,
        worst=evidence(info, result.worst),
        best=evidence(info, result.best),
        bad_spans=result.recording.bad_spans(),
        near=result.near,
        latents=latents,
        facts=_facts(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
        notes=(*result.recording.notes, *result.plan.notes),
    )


def _no_promise(bundle: Bundle, detection: Detection) -> str:
    """Why a recording without events is not yet clean; empty where it is."""
    what = f"{bundle.info.exchangeable_unit}s"
    return bundle.calibration.no_promise(detection.error_rate, what)


def _look_at(result: RecordingResult) -> tuple[str, ...]:
    """What a reader should see with own eyes, and where."""
    if not result.events.empty:
        events = result.events.nlargest(4, "score")
        kinds = events["trial_type"].str.removeprefix("anomaly/")
        which = ", the strongest first" if len(result.events) > 1 else ""
        listed = _listed(kinds, events["onset"], events["channel"])
        return (
            f"Look at the events under 'When'{which}: {listed}",
            "See them in the signal: mne.read_annotations on the _annot.fif beside this page",
        )
    near = result.near.head(4)
    if near.empty:
        return ("Nothing has to be marked: no window came half way to the threshold",)
    listed = _listed(near["looks_like"], near["onset_s"], near["channel"])
    return (f"Look at the highest windows under 'When', though not flagged; like {listed}",)


def _listed(kinds: pd.Series, onsets_s: pd.Series, channels: pd.Series) -> str:
    return ", ".join(
        f"{kind.replace('_', ' ')} at {onset_s:.1f} s ({channel.split(',')[0]})"
        for kind, onset_s, channel in zip(kinds, onsets_s, channels, strict=True)
    )


def _simple_methods(bundle: Bundle, frame: pd.DataFrame) -> str:
    """How far the simple methods agree on which tenth of the samples is the most abnormal."""
    n = max(1, len(frame) // 10)
    own = set(frame["score"].nlargest(n).index)
    shares = [
        f"{name.replace('_', ' ')} "
        f"{len(own & set(frame[f'score_{name}'].nlargest(n).index)) / n:.0%}"
        for name in BASELINES
        if f"score_{name}" in frame
    ]
    return f"Of the most abnormal tenth, the simple methods name the same: {', '.join(shares)}."


def group_view(
    bundle: Bundle,
    detection: Detection,
    recordings: pd.DataFrame,
    scores: pd.DataFrame | None = None,
) -> GroupView:
    """The page of everything scored into one folder; ``scores`` are all its windows."""
    info = bundle.info
    done = recordings[recordings["verdict"] != "failed"]
    n_failed = len(recordings) - len(done)
    odd = done[(done["verdict"] != "clean") | done["flagged"].fillna(False).astype(bool)]
    warnings = list(info.claims)
    allowed = reach(
        bundle.calibration.n_units, len(done), detection.error_rate, detection.dependence
    ).sentence(f"{info.exchangeable_unit}s")
    promise = _no_promise(bundle, detection)
    if allowed:
        warnings.append(
            f"Whole recordings: {allowed}{'' if promise else ' Events are not affected.'}"
        )
    rate = f"q at most {detection.error_rate:g}"
    said = f"{len(odd)} of {len(done)} recordings deserve a look"
    if promise and len(odd) < len(done):
        said += f"; the other {len(done) - len(odd)} cannot be called clean"
        warnings.append(f"Recordings with nothing flagged: {promise} on each one's page.")
        shown = recordings["verdict"].replace("clean", "nothing flagged")
        recordings = recordings.assign(verdict=shown)
    if not len(done):
        said = f"None of {len(recordings)} recordings could be scored"
    elif n_failed:
        said += f"; {n_failed} could not be read"
    headline = Headline(
        f"{said}.",
        (
            Number("Scored", str(len(done))),
            Number("Flagged as a whole", str(int(done["flagged"].sum())), rate),
            Number("False alarms", *_alarms(bundle)),
            Number("Failed", str(n_failed)),
        ),
        ("Open the worst first; each name leads to its report",)
        if len(done)
        else ("Read the reasons below; mend or remove those files and score again",),
        rehearsal_sentence(info.rehearsal),
        tuple(warnings),
    )
    links = {name: f"{name}_report.html" for name in done["recording"]}
    return GroupView(
        title=info.study,
        headline=headline,
        recordings=recordings,
        scores=scores,
        threshold=info.threshold,
        links=links,
        facts=_facts(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
    )


def _alarms(bundle: Bundle) -> tuple[str, str]:
    """Alarms an hour to expect of clean recordings, with their interval."""
    calibration = bundle.calibration
    rate, low, high = calibration.alarm_rate(bundle.info.detection.false_alarms_per_hour)
    return (
        f"{rate:.1f} an hour",
        f"{low:.1f} to {high:.1f} (95%), on {calibration.n_units} calibration "
        f"{bundle.info.exchangeable_unit}s, each judged by the others, {calibration.hours:.2g} h",
    )


def _first_to_look_at(n_flagged: int, n_proposed: int | None) -> str:
    """Whom a reader should turn to."""
    if n_flagged or n_proposed is None:
        return "the flagged ones"
    return "those proposed for a look, from the top," if n_proposed else "the highest scores"


def rows_view(
    bundle: Bundle,
    detection: Detection,
    scores: pd.DataFrame,
    latents: pd.DataFrame,
    worst: Evidence | None,
    best: Evidence | None,
    items: pd.DataFrame | None,
    notes: Sequence[str] = (),
    sections: tuple[Section, ...] = (),
) -> RowsView:
    """The page of a table or a set of images."""
    info = bundle.info
    n_flagged = int(scores["flagged"].sum())
    n_calibration = bundle.calibration.n_units
    things = THINGS[info.kind]
    rate = detection.error_rate
    warnings = list(info.claims)
    allowed = reach(n_calibration, len(scores), rate, detection.dependence).sentence(things)
    if allowed:
        warnings.append(allowed)
    label = "label" if "label" in scores and scores["label"].notna().any() else "score"
    proposed: tuple[Number, ...] = ()
    n_proposed: int | None = None
    verdict = f"{n_flagged:,} of {len(scores):,} {things} are flagged as unlike the training data"
    if bundle.ensemble.person is not None:
        n_proposed = int((scores["p_value"] <= PROPOSED).sum())
        proposed = (_proposed(n_proposed, info),)
        verdict += f"; {n_proposed:,} are proposed for a look"
    headline = Headline(
        f"{verdict}.",
        (
            Number("Flagged", str(n_flagged), f"expected false share at most {rate:.0%}"),
            *proposed,
            Number("Scored", f"{len(scores):,}"),
            Number(
                "Smallest possible p",
                f"{bundle.calibration.smallest_p:.2g}",
                f"{n_calibration} calibration {things}",
            ),
        ),
        (
            f"Look at {_first_to_look_at(n_flagged, n_proposed)} below; nothing has been excluded",
            f"The whole list is in {'scores.parquet' if n_proposed is None else 'persons.csv'}",
        ),
        f"{rehearsal_sentence(info.rehearsal)} {_simple_methods(bundle, scores)}".strip(),
        tuple(warnings),
    )
    return RowsView(
        title=info.study,
        kind=info.kind,
        headline=headline,
        scores=scores,
        latents=latents,
        worst=worst,
        best=best,
        items=items,
        sections=sections,
        color_by=label,
        facts=_facts(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
        notes=tuple(notes),
    )
