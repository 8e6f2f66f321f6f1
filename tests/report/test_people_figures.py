"""Figures of questionnaires say what is in the tables, in words as well."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_pipeline.analysis.persons import flag_rates
from ae_pipeline.report.pictures import people


def answers(n: int = 12) -> pd.DataFrame:
    """Items of 1 to 5, the fourth one far from what was expected."""
    frame = pd.DataFrame(
        {
            "item": [f"I{i}" for i in range(n)],
            "answer": 3.0,
            "expected": 3.2,
            "surprise": 1.0,
            "usual_surprise": 1.2,
            "lowest": 1.0,
            "highest": 5.0,
            "position": np.arange(1, n + 1),
        }
    )
    frame.loc[3, ["answer", "expected", "surprise"]] = 5.0, 1.3, 4.2
    return frame


def test_the_distribution_says_who_leads_and_from_where_on_people_are_flagged() -> None:
    score = np.linspace(0, 10, 101)
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(101)], "score": score})
    frame["flagged"] = score >= 9.5
    drawn = people.score_distribution(frame)
    assert drawn is not None
    assert "6 flagged, from 9.5 on" in drawn.alt
    assert "p100, p99, p98" in drawn.caption
    frame["flagged"] = False
    drawn = people.score_distribution(frame)
    assert drawn is not None
    assert "nobody flagged" in drawn.alt
    assert people.score_distribution(frame.head(2)) is None


def test_the_most_surprising_answer_is_named_with_what_was_expected() -> None:
    drawn = people.answers_beside(answers(), "p7", onset=9, score=4.0)
    assert drawn is not None
    assert "Most surprising: I3: 5 given, 1.3 expected" in drawn.alt
    assert "from I8 on" in drawn.alt
    assert "in the order of presentation" in drawn.caption
    assert people.answers_beside(answers().head(0), "p7") is None


def test_items_of_different_ranges_share_an_axis_as_places_in_their_range() -> None:
    frame = answers()
    frame.loc[0, ["answer", "lowest", "highest"]] = 40.0, 18.0, 80.0
    drawn = people.answers_beside(frame, "p7")
    assert drawn is not None
    assert drawn.drawn is not None
    assert "range" in drawn.drawn.axes[0].get_ylabel()
    assert drawn.drawn.axes[0].get_ylim()[1] < 2


def test_names_in_figures_are_text_and_nothing_else() -> None:
    frame = answers()
    frame.loc[3, "item"] = "<b>$x$"
    drawn = people.answers_beside(frame, "<script>alert(1)</script>")
    assert drawn is not None
    assert "<script>" not in drawn.svg
    assert "<b>" not in drawn.svg


def test_groups_clearly_unlike_a_tenth_are_named() -> None:
    n = 400
    frame = pd.DataFrame({"score": np.arange(n, dtype=float), "flagged": False})
    frame["group_site"] = np.where(np.arange(n) >= 300, "late", "early")
    drawn = people.group_rates(flag_rates(frame))
    assert drawn is not None
    assert "site late: 40%" in drawn.alt
    assert "site early: 0%" in drawn.alt
    assert people.group_rates(flag_rates(frame[["score", "flagged"]])) is None


def test_items_stand_with_the_dimension_they_belong_to() -> None:
    loadings = np.zeros((6, 2))
    loadings[[0, 2, 4], 0], loadings[[1, 3, 5], 1] = 0.7, -0.6
    names = ["a", "b", "c", "d", "e", "f"]
    drawn = people.loadings_map(
        loadings,
        names,
        dimensions=["F1", "F2"],
        what="factors",
        other=loadings,
        other_dimensions=["z", "y"],
        other_what="x",
    )
    assert drawn is not None
    assert "F1: a, c, e; F2: b, d, f" in drawn.alt
    assert drawn.drawn is not None
    shown = [label.get_text() for label in drawn.drawn.axes[0].get_yticklabels()]
    assert shown == ["a", "c", "e", "b", "d", "f"]


def test_a_scree_plot_counts_what_is_above_chance() -> None:
    curve = {"eigenvalues": [4.0, 2.0, 0.5, 0.4], "chance": [1.3, 1.2, 1.1, 1.0], "n": 2}
    drawn = people.scree({"Pearson correlations": curve}, 3)
    assert drawn is not None
    assert "Pearson correlations: 2 above chance, the first 4" in drawn.alt
    assert people.scree({}, 3) is None
