"""The demo's page says what was found, what was not, and whether a network was needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ae_pipeline.analysis.evaluate import evaluate
from ae_pipeline.jobs.demo.demonstration import Outcome
from ae_pipeline.jobs.demo.index import index_of, sentence_of
from ae_pipeline.jobs.demo.job import DEMONSTRATIONS


def outcome(shift: float, simple_shift: float, kind: str = "mnist") -> Outcome:
    """Rows of which a tenth are altered; how far the model and the simple methods see that."""
    rng = np.random.default_rng(0)
    n = 600
    altered = np.arange(n) % 10 == 0
    names = [f"r{i:03d}" for i in range(n)]
    scores: dict[str, Any] = {"recording": names, "score": rng.normal(size=n) + shift * altered}
    for name in ("pca", "robust_z", "isolation_forest"):
        scores[f"score_{name}"] = rng.normal(size=n) + simple_shift * altered
    frame = pd.DataFrame(scores)
    frame["flagged"] = frame["score"] > 2.5
    kinds = np.where(altered, "turned", "as written")
    labels = pd.DataFrame({"id": names, "label": altered.astype(int), "kind": kinds})
    return Outcome(DEMONSTRATIONS[kind], Path(), Path(), frame, labels, evaluate(frame, labels))


@pytest.mark.parametrize(
    ("shift", "simple_shift", "expected"), [(5, 1, True), (1, 5, False), (3, 3, None)]
)
def test_a_simple_method_that_does_as_well_is_said_to(
    shift: float, simple_shift: float, expected: bool | None
) -> None:
    made = outcome(shift, simple_shift)
    assert made.beats_simple() is expected
    page = index_of([made], [], quick=False)
    word = ", no: " if expected else ", yes: "
    assert f"For the digits{word}" in page.headline.baseline


def test_what_was_missed_and_flagged_wrongly_is_counted() -> None:
    made = outcome(3, 1)
    altered = made.labels["label"] == 1
    flagged = made.scores["flagged"]
    assert made.n_planted == 60
    assert made.n_found == int((flagged & altered).sum())
    assert 0 < made.n_found < 60
    assert made.n_wrong == int((flagged & ~altered).sum())
    said = sentence_of(made)
    assert f"{made.n_found} of 60 altered images flagged" in said
    assert f"{made.n_wrong} wrong flag" in said


def test_the_page_says_that_the_truth_was_planted_and_that_a_quick_run_is_quick() -> None:
    made = outcome(3, 1)
    warnings = [index_of([made], [], quick=quick).headline.warnings for quick in (False, True)]
    assert "planted by this demo" in warnings[0][0]
    assert len(warnings[1]) == len(warnings[0]) + 1
    assert "quick" in warnings[1][-1]


def test_the_last_thing_on_the_page_are_commands_for_ones_own_data() -> None:
    commands = index_of([outcome(3, 1, "questionnaire")], [], quick=False).commands
    lines = [line for _, each in commands for line in each]
    assert lines[0].startswith("ae-pipeline init questionnaire ")
    assert any(line.startswith("ae-pipeline score ") for line in lines)
