"""What is said of one recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.eeg.tags import CATEGORY
from ae_pipeline.report import Headline, Number, RecordingView
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.reasons import (
    RecordingTables,
    differences,
    evidence_of,
    reason,
    with_reasons,
)
from ae_pipeline.report.findings.training import facts_of, rehearsal_sentence
from ae_pipeline.report.findings.words import alarms_number, evidence, places
from ae_pipeline.report.wording import listed, number, spoken
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.recording import RecordingResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "recording_view",
    "simple_methods",
]


MOST = {
    "technical": "The strongest event looks technical",
    "physiological": "The strongest event looks like an artefact of eyes, muscle or body",
    "unusual": "The strongest event is an unusual pattern that deserves an expert's eye",
    "unexplained": "The strongest event is unlike the training data and like no known kind",
}
"""What is said of a recording whose events are of several categories, by its verdict."""


def recording_view(
    bundle: Bundle, tables: RecordingTables, *, threshold: float, detection: Detection
) -> RecordingView:
    """The page of one recording."""
    from ae_pipeline.scoring.tables import latents_frame

    result, info = tables.result, bundle.info
    summary = result.summary
    n_events = summary["n_events"]
    alarms = " (".join(alarms_number(bundle)) + ")"
    sentences = {
        "clean": "Nothing here is more abnormal than in clean recordings",
        "nothing flagged": "Nothing was flagged" if not n_events else "Little was flagged",
        "technical": "Something is wrong with the recording itself",
        "physiological": "This recording holds what looks like artefacts of eyes, muscle or body",
        "unusual": "This recording holds an unusual pattern that deserves an expert's eye",
        "unexplained": "This recording holds stretches unlike the training data",
    }
    verdict, strongest = str(summary["verdict"]), ""
    known = {finding.kind for finding in result.findings}
    if n_events:
        first = result.events.sort_values("score").iloc[-1]
        kinds = result.events["trial_type"].str.removeprefix("anomaly/")
        like = spoken(str(first["trial_type"]).removeprefix("anomaly/"))
        at = listed(str(first["channel"]).split(","), 3)
        strongest = f"the strongest ({like}) at {first['onset']:.1f} s on {at}"
        by_kind = "event_kinds" in known and "gain_off" not in known
        if by_kind and kinds.map(CATEGORY).nunique() > 1:
            sentences |= MOST
    why = reason(result.findings, unit=info.exchangeable_unit, verdict=verdict, strongest=strongest)
    near = result.near.assign(evidence=[evidence_of(result.tags[w]) for w in result.near["window"]])
    bads = result.bad_channels
    headline = Headline(
        f"{sentences[verdict]}: {why}.",
        (
            Number("Usable", f"{summary['usable_share']:.0%}", "of the recording's length"),
            Number(
                "Events",
                str(n_events),
                f"{summary['events_per_hour']:.1f} an hour; calibration recordings {alarms}",
            ),
            Number(
                "Recording p",
                number(summary["p_value"], 3),
                f"smallest possible {bundle.calibration.smallest_p:.2g}, "
                f"{bundle.calibration.n_units} calibration {bundle.info.exchangeable_unit}s",
            ),
            Number("Bad channels", str(len(bads)), ", ".join(bads[:4])),
        ),
        (
            *_look_at(result),
            *(["Decide about the bad channels before averaging"] if bads else []),
            "Score more recordings into the same folder: the group report ranks them",
        ),
        f"{rehearsal_sentence(info.rehearsal)} {simple_methods(result.frame)}".strip(),
        (*differences(result), *info.claims),
    )
    latents = latents_frame(result.frame, result.latents)
    return RecordingView(
        title=summary["recording"],
        headline=headline,
        scores=tables.scores,
        events=tables.events,
        threshold=threshold,
        quality=tables.bads,
        channel_scores=result.by_channel,
        ch_names=info.entries,
        positions_m=result.recording.positions_m,
        worst=evidence(bundle, with_reasons(result.worst, bundle, tags=result.tags)),
        best=evidence(bundle, with_reasons(result.best, bundle, tags=result.tags)),
        bad_spans=result.recording.bad_spans(),
        near=near,
        latents=latents,
        facts=facts_of(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
        notes=(*result.recording.notes, *result.plan.notes),
    )


def _look_at(result: RecordingResult) -> tuple[str, ...]:
    """What a reader should see with own eyes, and where."""
    if not result.events.empty:
        events = result.events.nlargest(4, "score")
        kinds = events["trial_type"].str.removeprefix("anomaly/")
        which = ", the strongest first" if len(result.events) > 1 else ""
        listed = places(kinds, events["onset"], channels=events["channel"])
        return (
            f"Look at the events under 'When'{which}: {listed}",
            "See them in the signal: mne.read_annotations on the _annot.fif beside this page",
        )
    near = result.near.head(4)
    if near.empty:
        return ("Nothing has to be marked: no window came half way to the threshold",)
    listed = places(near["looks_like"], near["onset_s"], channels=near["channel"])
    return (f"Look at the highest windows under 'When', though not flagged; like {listed}",)


def simple_methods(frame: pd.DataFrame) -> str:
    """How far the simple methods agree on which tenth of the samples is the most abnormal."""
    n = max(1, len(frame) // 10)
    own = set(frame["score"].nlargest(n).index)
    shares = [
        f"{spoken(name)} {len(own & set(frame[f'score_{name}'].nlargest(n).index)) / n:.0%}"
        for name in BASELINES
        if f"score_{name}" in frame
    ]
    return f"Of the most abnormal tenth, the simple methods name the same: {', '.join(shares)}."
