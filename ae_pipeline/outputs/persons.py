"""Tables about respondents and items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline import report
from ae_pipeline.analysis.persons import N_SHOWN, PROPOSED, describe, flag_rates
from ae_pipeline.report.findings.rows import person_sections
from ae_pipeline.runtime.files import harmless, write_frame

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.outputs.run_folder import TrainRun


def _write_items(run: TrainRun, place: Path) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """``items.csv`` of a questionnaire's held-out rows; and what is about their people."""
    person = run.bundle.ensemble.person
    if person is None:
        return None, None
    samples = run.held_out()
    about, answers, items = describe(
        person, samples, source=run.study.source, frame=run.frame, latents=run.latents
    )
    write_frame(place / "items.csv", harmless(_all_items([items], len(samples))))
    return about, answers


def _persons(
    scores: pd.DataFrame, about: pd.DataFrame, *, answers: pd.DataFrame, write: bool, out: Path
) -> tuple[report.Section, ...]:
    """``persons.csv``, ``answers.csv`` and ``flag_rates.csv``; and the same for the report."""
    import pandas as pd

    wanted = ["recording", "score", "p_value", "q_value", "flagged", "top_item", "reason"]
    others = [str(c) for c in scores if str(c).startswith("score_")]
    predicted = [c for c in scores if str(c).startswith(("predicted_", "probability_"))]
    persons = scores[[*wanted, *others, *predicted]].rename(columns={"recording": "id"})
    persons.insert(wanted.index("flagged") + 1, "proposed", persons["p_value"] <= PROPOSED)
    first = [c for c in map(str, about) if c.startswith(("onset_", "index_"))]
    rest = [c for c in map(str, about) if c not in first]
    at = list(persons).index("reason") + 1
    persons = pd.concat(
        [persons.iloc[:, :at], about[first], persons.iloc[:, at:], about[rest]], axis=1
    )
    rates = flag_rates(persons)
    place = scores[["recording"]].assign(_score=scores["score"])
    worst = place.nlargest(N_SHOWN, "_score", keep="first")["recording"].tolist()
    rank = {name: i for i, name in enumerate(worst)}
    answers = answers[answers["recording"].isin(worst)]
    answers = answers.assign(_r=answers["recording"].map(rank)).sort_values("_r", kind="stable")
    answers = answers.drop(columns="_r").reset_index(drop=True)
    if write:
        by_p = persons.sort_values(["p_value", "score"], ascending=[True, False], kind="stable")
        write_frame(out / "persons.csv", harmless(by_p))
        write_frame(out / "answers.csv", harmless(answers.rename(columns={"recording": "id"})))
        write_frame(out / "flag_rates.csv", harmless(rates))
    return person_sections(persons, rates, answers=answers)


def _all_items(parts: list[pd.DataFrame], n_people: int) -> pd.DataFrame:
    """The view of items over all inputs: counts added up, the rest from the largest input."""
    import pandas as pd

    largest = max(parts, key=lambda part: int(part["answered"].sum()))
    total = pd.concat(parts).groupby("item", sort=False)[["answered", "total_error"]].sum()
    total = total.loc[largest["item"]].reset_index()
    kept = largest.drop(columns=["item", "answered", "total_error"]).round(4)
    items = pd.DataFrame(
        {
            "item": total["item"],
            "mean_error": total["total_error"] / total["answered"].clip(lower=1),
            "answered": total["answered"],
            "share_missing": 1 - total["answered"] / n_people,
        }
    )
    return pd.concat([items, kept], axis=1)
