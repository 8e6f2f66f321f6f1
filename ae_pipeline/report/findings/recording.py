"""What is said of one recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.eeg.tags import CATEGORY
from ae_pipeline.report import Headline, Number, RecordingView
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.training import _facts, rehearsal_sentence
from ae_pipeline.report.findings.words import _alarms, _listed, _no_promise, _number, evidence
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.reasons import kinds_in_words
from ae_pipeline.scoring.recording import RecordingResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "recording_view",
]


def recording_view(
    bundle: Bundle, result: RecordingResult, *, threshold: float, detection: Detection
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


def _look_at(result: RecordingResult) -> tuple[str, ...]:
    """What a reader should see with own eyes, and where."""
    if not result.events.empty:
        events = result.events.nlargest(4, "score")
        kinds = events["trial_type"].str.removeprefix("anomaly/")
        which = ", the strongest first" if len(result.events) > 1 else ""
        listed = _listed(kinds, events["onset"], channels=events["channel"])
        return (
            f"Look at the events under 'When'{which}: {listed}",
            "See them in the signal: mne.read_annotations on the _annot.fif beside this page",
        )
    near = result.near.head(4)
    if near.empty:
        return ("Nothing has to be marked: no window came half way to the threshold",)
    listed = _listed(near["looks_like"], near["onset_s"], channels=near["channel"])
    return (f"Look at the highest windows under 'When', though not flagged; like {listed}",)


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
