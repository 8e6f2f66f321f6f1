"""What is said of the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ae_pipeline.analysis.persons import PROPOSED
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.reach import reach
from ae_pipeline.kind import kind_of
from ae_pipeline.report import Evidence, Headline, Number, RowsView, Section
from ae_pipeline.report.drawing import Picture
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.reasons import allowed
from ae_pipeline.report.findings.recording import simple_methods
from ae_pipeline.report.findings.training import (
    drawn,
    facts_of,
    proposed_number,
    rehearsal_sentence,
)
from ae_pipeline.report.pictures import people
from ae_pipeline.scoring.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "person_sections",
    "rows_view",
]


def person_sections(
    persons: pd.DataFrame, rates: pd.DataFrame, *, answers: pd.DataFrame
) -> tuple[Section, ...]:
    """Who seems not to have read the questions, whom a flag hits, and what was expected.

    Parameters
    ----------
    persons : DataFrame
        The content of ``persons.csv``.
    rates : DataFrame
        From :func:`ae_pipeline.analysis.persons.flag_rates`.
    answers : DataFrame
        From :func:`ae_pipeline.analysis.persons.answers_frame`.
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
            "antonyms, low lz, even_odd, synonyms, person_total and response_time; irv is "
            "unusual at both ends (low: one answer throughout, high: random).",
            f"{int(persons['flagged'].sum()):,} are flagged: of these, few should be false. "
            f"{int(persons['proposed'].sum()):,} are proposed for a look (column proposed of "
            "persons.csv): they are as unlike the others as the most unlike tenth of those that "
            "calibrate, and nothing is promised of them. Where people who did not read are among "
            "those that calibrate, they hide each other, and hardly anybody is flagged: go by the "
            "proposals then, from the top. Nobody has been excluded.",
            *missing,
        ),
        drawn(people.score_distribution(persons)),
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
                drawn(people.group_rates(rates)),
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
        pictures += drawn(
            people.answers_beside(own, str(name), onset=begins, score=float(row["score"]))
        )
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


def rows_view(
    bundle: Bundle,
    detection: Detection,
    *,
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
    words = kind_of(info.kind).words
    things = words.many
    rate = detection.error_rate
    warnings = list(info.claims)
    limit = reach(n_calibration, len(scores), error_rate=rate, dependence=detection.dependence)
    warnings += filter(None, [allowed(limit, things)])
    label = "label" if "label" in scores and scores["label"].notna().any() else "score"
    proposed: tuple[Number, ...] = ()
    n_proposed: int | None = None
    verdict = f"{n_flagged:,} of {len(scores):,} {things} are flagged as unlike the training data"
    if bundle.ensemble.person is not None:
        n_proposed = int((scores["p_value"] <= PROPOSED).sum())
        proposed = (proposed_number(n_proposed, info),)
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
            f"Look at {_first(n_flagged, n_proposed)} below; nothing has been excluded",
            f"The whole list is in {'scores.parquet' if n_proposed is None else 'persons.csv'}",
        ),
        f"{rehearsal_sentence(info.rehearsal)} {simple_methods(scores)}".strip(),
        tuple(warnings),
    )
    return RowsView(
        title=info.study,
        what=words.title,
        thing=words.one,
        things=things,
        headline=headline,
        scores=scores,
        latents=latents,
        worst=worst,
        best=best,
        items=items,
        sections=sections,
        color_by=label,
        facts=facts_of(info, bundle.digest),
        methods=methods_paragraph(bundle, detection),
        notes=tuple(notes),
    )


def _first(n_flagged: int, n_proposed: int | None) -> str:
    """Whom a reader should turn to."""
    if n_flagged or n_proposed is None:
        return "the flagged ones"
    return "those proposed for a look, from the top," if n_proposed else "the highest scores"
