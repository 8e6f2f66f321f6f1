"""What is said of a group of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.reach import reach
from ae_pipeline.report import GroupView, Headline, Number
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.reasons import allowed, sentence
from ae_pipeline.report.findings.training import facts_of, rehearsal_sentence
from ae_pipeline.report.findings.words import alarms_number
from ae_pipeline.scoring.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "group_view",
]


def group_view(
    bundle: Bundle,
    detection: Detection,
    *,
    recordings: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    links: Mapping[str, str] | None = None,
) -> GroupView:
    """The page of everything scored into one folder; ``scores`` are all its windows."""
    info = bundle.info
    done = recordings[recordings["verdict"] != "failed"]
    n_failed = len(recordings) - len(done)
    calm = done["verdict"].isin(["clean", "nothing flagged"])
    odd = done[~calm | done["flagged"].fillna(False).astype(bool)]
    warnings = list(info.claims)
    unit, error_rate = info.exchangeable_unit, detection.error_rate
    n_units, dependence = bundle.calibration.n_units, detection.dependence
    limit = reach(n_units, len(done), error_rate=error_rate, dependence=dependence)
    too_few = bundle.calibration.too_few(error_rate)
    promise = "" if too_few is None else sentence(too_few, unit)
    said_of_all = allowed(limit, f"{unit}s")
    if said_of_all:
        more = "" if promise else " Events are not affected."
        warnings.append(f"Whole recordings: {said_of_all}{more}")
    rate = f"q at most {detection.error_rate:g}"
    said = f"{len(odd)} of {len(done)} recordings deserve a look"
    if promise and len(odd) < len(done):
        said += f"; the other {len(done) - len(odd)} cannot be called clean"
        warnings.append(f"Recordings with nothing flagged: {promise} on each one's page.")
    if not len(done):
        said = f"None of {len(recordings)} recordings could be scored"
    elif n_failed:
        said += f"; {n_failed} could not be read"
    headline = Headline(
        f"{said}.",
        (
            Number("Scored", str(len(done))),
            Number("Flagged as a whole", str(int(done["flagged"].sum())), rate),
            Number("False alarms", *alarms_number(bundle)),
            Number("Failed", str(n_failed)),
        ),
        ("Open the worst first; each name leads to its report",)
        if len(done)
        else ("Read the reasons below; mend or remove those files and score again",),
        rehearsal_sentence(info.rehearsal),
        tuple(warnings),
    )
    return GroupView(
        title=info.study,
        headline=headline,
        recordings=recordings,
        scores=scores,
        threshold=info.threshold,
        links=links or {},
        facts=facts_of(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
    )
