"""What the pages of a whole folder say: counts of what was scored, flagged and failed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny

from ae_pipeline.jobs.fit import train_metrics
from ae_pipeline.outputs.bids import bids_folder
from ae_pipeline.report.findings.group import group_view
from ae_pipeline.report.findings.rows import rows_view
from ae_pipeline.report.findings.training import factor_sections, train_headline


def recordings(verdicts: list[str]) -> pd.DataFrame:
    n = len(verdicts)
    return pd.DataFrame(
        {
            "recording": [f"r{i}" for i in range(n)],
            "verdict": verdicts,
            "flagged": [verdict == "unusual" for verdict in verdicts],
            "score": np.arange(n, dtype=float),
        }
    )


def test_a_group_counts_what_was_scored_flagged_and_failed() -> None:
    bundle = tiny.eeg().bundle
    frame = recordings(["unusual", "nothing flagged", "failed"])
    view = group_view(bundle, bundle.info.detection, recordings=frame, links={"r0": "r0.html"})
    numbers = {number.label: number.value for number in view.headline.numbers}
    assert (numbers["Scored"], numbers["Flagged as a whole"], numbers["Failed"]) == ("2", "1", "1")
    assert view.links == {"r0": "r0.html"}
    assert view.threshold == bundle.info.threshold


@pytest.mark.parametrize(("loss", "worse"), [(1.7, True), (1.2, False)])
def test_a_model_worse_than_chance_is_called_that(loss: float, worse: bool) -> None:
    trained = tiny.table()
    frame = trained.frame.assign(score_autoencoder=loss, pca_loss=7.7, chance_loss=1.61)
    metrics = train_metrics(7, trained.history, frame=frame, windowed=False)
    metrics["rehearsal"] = {}
    headline = train_headline(trained.bundle.info, metrics, claims=())
    assert ("worse than chance" in headline.verdict) is worse
    assert "chance 1.61, PCA 7.7" in headline.verdict
    assert ("explains 25% of the information" in headline.verdict) is not worse
    gain = headline.numbers[2]
    assert (gain.label, gain.value) == ("Gain over chance", "-0.09" if worse else "+0.41")
    assert ("Nothing was learned" in headline.baseline) is worse


def test_too_few_dimensions_are_said_of_many_items_too() -> None:
    found = {
        "k": 2,
        "parallel": {"pearson": 5, "polychoric": None},  # not made of more than 30 items
        "hidden": {"autoencoder": 0.5, "factors": 0.5, "components": 0.6, "people": 100},
        "split_half": {"mean": 0.9, "least": 0.8},
        "congruence": [0.9, 0.9],
        "factor_from_latents": [0.9, 0.9],
        "stability": [],
        "verdict": "",
    }
    (section,) = factor_sections(found)
    assert "try model.latent_dim: 5" in " ".join(section.text)


def test_where_nothing_is_scored_the_group_has_no_report_to_open() -> None:
    bundle = tiny.eeg().bundle
    view = group_view(bundle, bundle.info.detection, recordings=recordings(["failed", "failed"]))
    assert {n.label: n.value for n in view.headline.numbers}["Failed"] == "2"
    assert view.links == {}


def test_rows_count_those_flagged_and_those_scored() -> None:
    bundle = tiny.pictures().bundle
    scores = pd.DataFrame(
        {
            "recording": [f"i{i}" for i in range(30)],
            "score": np.arange(30.0),
            "p_value": np.linspace(1, 0.01, 30),
            "flagged": [False] * 28 + [True] * 2,
        }
    )
    latents = scores[["recording"]].assign(z00=0.0, z01=0.0, z02=0.0)
    view = rows_view(
        bundle,
        bundle.info.detection,
        scores=scores,
        latents=latents,
        worst=None,
        best=None,
        items=None,
    )
    numbers = {number.label: number.value for number in view.headline.numbers}
    assert (numbers["Flagged"], numbers["Scored"]) == ("2", "30")
    assert view.facts["Study"] == bundle.info.study


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("sub-01_task-rest", "sub-01/eeg"),
        ("sub-01_ses-2_task-rest_run-1", "sub-01/ses-2/eeg"),
        ("sub-01", None),
        ("P07_rest", None),
    ],
)
def test_only_a_bids_name_has_a_bids_folder(name: str, folder: str | None) -> None:
    found = bids_folder(name)
    assert (None if found is None else found.as_posix()) == folder
