"""The demo's questionnaire: answers of people, some of whom did not read the questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ae_pipeline.jobs.demo.demonstration import Demonstration, Made, Outcome
from ae_pipeline.report import Evidence

__all__ = ["Answers"]


class Answers(Demonstration):
    """Big Five items."""

    name = "questionnaire"
    sample = "bfi"
    title = "Questionnaire: 2,800 people, 25 Big Five items, some answering carelessly"
    short = "Questionnaire"
    long = "the questionnaire"
    planted = "careless respondents"
    rows = "people"
    quick_epochs = 40
    own = (
        "A questionnaire (CSV, TSV, Excel, SPSS)",
        "ae-pipeline init questionnaire answers.csv -o study.yaml",
        "answers",
        "new-answers.csv",
    )

    def prepare(self, data: Path, place: Path) -> tuple[Path, Path]:
        """Split the people in two; among the second tenth answer without reading.

        Returns the table to train on and the one to score; ``truth.csv`` beside says who.
        """
        import numpy as np
        import pandas as pd

        from ae_pipeline.runtime.files import write_frame

        people = pd.read_csv(data / "bfi.csv", dtype="Int64")
        rng = np.random.default_rng(0)
        order = rng.permutation(len(people))
        first, second = people.iloc[order[:2000]], people.iloc[order[2000:]].copy()
        items = [name for name in people if str(name)[0] in "ACENO" and str(name)[1:].isdigit()]
        careless = rng.permutation(len(second))[: len(second) // 10]
        done = np.full(len(second), "as answered", object)
        for n, row in enumerate(careless):
            if n % 3 == 0:  # random answers
                done[row] = "random answers"
                answers = rng.integers(1, 7, len(items))
            elif n % 3 == 1:  # left, right, left, right
                done[row] = "1 and 6 in turn"
                answers = np.where(np.arange(len(items)) % 2, 6, 1)
            else:  # the same answer throughout, with a few slips
                done[row] = "nearly one answer"
                answers = np.full(len(items), rng.integers(2, 6))
                slips = rng.permutation(len(items))[:3]
                answers[slips] += rng.choice([-1, 1], 3)
            second.loc[second.index[row], items] = answers
        place = place / "data"
        label = (done != "as answered").astype(int)
        truth = pd.DataFrame({"id": second["id"].astype(str), "label": label, "kind": done})
        write_frame(place / "truth.csv", truth)
        return (
            write_frame(place / "people.csv", first),
            write_frame(place / "new-people.csv", second),
        )

    def page(self, outcome: Outcome) -> Made:
        """Return the report, and the most suspicious person's answers."""
        href, link, pictures, more = super().page(outcome)
        return href, link, (*pictures, _answers(outcome)), more


def _answers(outcome: Outcome) -> Any:
    """What the most suspicious person answered, and what was expected."""
    import pandas as pd

    from ae_pipeline.report.pictures.evidence import answers

    table = pd.read_csv(outcome.place / "new-data/answers.csv", dtype={"id": str})
    first = table[table["id"] == table["id"].iloc[0]]
    meta = outcome.scores[outcome.scores["recording"].astype(str) == first["id"].iloc[0]]
    meta = meta[["recording", "score", "p_value"]]
    shown = Evidence(
        first["answer"].to_numpy(float)[None],
        first["expected"].to_numpy(float)[None],
        meta.assign(
            reason=outcome.kinds()[meta.index].map(
                "the most suspicious of all; in truth: {}".format
            )
        ),
        entries=tuple(first["item"].astype(str)),
        unit="answer",
        levels=[range(1, 7)] * len(first),
    )
    return answers(shown, 0, rank="Most suspicious person")
