"""Tables about respondents and items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.analysis.persons import N_SHOWN, PROPOSED, flag_rates
from ae_pipeline.outputs.dictionary import write_described
from ae_pipeline.report.findings.rows import person_sections
from ae_pipeline.runtime.files import write_frame

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.report import Section

__all__ = ["PersonTables", "items_table", "person_tables"]


@dataclass(frozen=True)
class PersonTables:
    """``persons.csv``, ``answers.csv`` and ``flag_rates.csv`` before they are written."""

    persons: pd.DataFrame
    answers: pd.DataFrame
    rates: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write the three files, the most suspicious first, and what their columns mean."""
        by_p = self.persons.sort_values(
            ["p_value", "score"], ascending=[True, False], kind="stable"
        )
        write_described(folder / "persons.csv", by_p)
        answers = self.answers.rename(columns={"recording": "id"})
        write_frame(folder / "answers.csv", answers)
        write_frame(folder / "flag_rates.csv", self.rates)

    def sections(self) -> tuple[Section, ...]:
        """Return what the report says of them."""
        return person_sections(self.persons, self.rates, answers=self.answers)


def person_tables(
    scores: pd.DataFrame, about: pd.DataFrame, *, answers: pd.DataFrame
) -> PersonTables:
    """Return the tables about respondents.

    Parameters
    ----------
    scores : DataFrame
        The scores file.
    about, answers : DataFrame
        From :func:`ae_pipeline.analysis.persons.describe`; ``about`` has the rows of ``scores``.
    """
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
    place = scores[["recording"]].assign(_score=scores["score"])
    worst = place.nlargest(N_SHOWN, "_score", keep="first")["recording"].tolist()
    rank = {name: i for i, name in enumerate(worst)}
    answers = answers[answers["recording"].isin(worst)]
    answers = answers.assign(_r=answers["recording"].map(rank)).sort_values("_r", kind="stable")
    answers = answers.drop(columns="_r").reset_index(drop=True)
    return PersonTables(persons, answers, flag_rates(persons))


def items_table(parts: list[pd.DataFrame], n_people: int) -> pd.DataFrame:
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
