"""Comparisons: the best wins for the reason that is given, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compare_view import example_view, outcome

from ae_pipeline.config import StudyError
from ae_pipeline.data import Axis, Samples
from ae_pipeline.detectors.baselines import FactorAnalysis, PrincipalComponents
from ae_pipeline.jobs.compare.choice import choose, tabulate
from ae_pipeline.jobs.compare.grid import Cell, run_cells
from ae_pipeline.jobs.compare.job import CompareJob
from ae_pipeline.jobs.compare.probe import cross_validated_probe, linear_probe
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.report.comparison import compare_page, text_table
from ae_pipeline.runtime.files import read_json
from ae_pipeline.tracking.connection import connected
from ae_pipeline.tracking.settings import load_settings

# ------------------------------------------------------------------------------- the choice


def test_the_lowest_loss_wins_and_pairs_are_compared_unit_by_unit() -> None:
    outcomes = [outcome("conv", 0.10), outcome("dense", 0.12), outcome("pca", 0.30)]
    table, losses = tabulate(outcomes)
    table, choice = choose(table, losses, primary="test_loss")
    assert choice["model"] == "conv-vanilla-4"
    assert list(table["model"]) == ["conv-vanilla-4", "dense-vanilla-4", "pca-4"]
    # units differ by 1 among themselves, models by 0.02 on each: paired, that is clear
    assert list(table["told_apart"]) == [False, True, True]
    np.testing.assert_allclose(table["behind"], [0, 0.02, 0.2])
    assert table["behind_low"][1] < 0.02 < table["behind_high"][1]
    assert "0.02" in choice["reason"]


def test_what_cannot_be_told_apart_is_said_with_the_smallest() -> None:
    outcomes = [outcome("conv", 0.1, 5000, spread=0.5), outcome("dense", 0.101, 300, spread=0.5)]
    _, choice = choose(*tabulate(outcomes), primary="test_loss")
    assert choice["model"] == "conv-vanilla-4"
    assert choice["smallest"] == "dense-vanilla-4"
    assert "cannot be told from dense" in choice["reason"]


def test_seeds_that_overlap_are_not_told_apart() -> None:
    outcomes = [
        outcome("conv", 0.10, seed=0),
        outcome("conv", 0.16, seed=1),
        outcome("dense", 0.15, seed=0),
        outcome("dense", 0.17, seed=1),
    ]
    table, losses = tabulate(outcomes)
    table, _ = choose(table, losses, primary="test_loss")
    assert list(table["seeds"]) == [2, 2]
    assert not table["told_apart"].any()


def test_the_linear_model_is_enough_where_it_is_best() -> None:
    _, choice = choose(*tabulate([outcome("conv", 0.3), outcome("pca", 0.1)]), primary="test_loss")
    assert choice["model"] == "pca-4"
    assert "linear model is enough" in choice["reason"]


def test_the_primary_metric_decides() -> None:
    outcomes = [outcome("conv", 0.1, detection=0.7), outcome("dense", 0.2, detection=0.9)]
    _, choice = choose(*tabulate(outcomes), primary="roc_area")
    assert choice["model"] == "dense-vanilla-4"
    assert choice["by_halves"] is None


def test_the_choice_by_halves_is_no_better_than_chance_among_equals() -> None:
    names = ("dense", "conv", "recurrent", "attention")
    table, losses = tabulate([outcome(name, 0.1, spread=1.0) for name in names])
    _, choice = choose(table, losses, primary="test_loss")
    best = losses.mean().min()
    assert choice["by_halves"] > best


def test_the_head_of_a_study_is_its_downstream_score() -> None:
    judged = [replace(outcome("conv", 0.1, seed=i), head=(0.6 + i / 10, 0.5, 0.9)) for i in (0, 1)]
    table, _ = tabulate(judged)
    row = table.iloc[0]
    np.testing.assert_allclose(
        [row["downstream"], row["downstream_low"], row["downstream_high"]], [0.65, 0.5, 0.9]
    )


def test_failed_models_stand_in_no_table() -> None:
    failed = replace(outcome("conv", 0.1), reason="kernel too long")
    table, _ = tabulate([failed, outcome("dense", 0.2)])
    assert list(table["model"]) == ["dense-vanilla-4"]


def test_the_page_names_every_model_and_escapes_reasons() -> None:
    view = example_view()
    page, table = compare_page(view), view.table
    assert 'href="./cells/conv-vanilla-4-seed0/report.html"' in page
    assert "pca-4" in page
    assert "<script>" not in page
    lines = text_table(table)
    assert lines[1].startswith("conv-vanilla-4")
    assert len({len(line) for line in lines}) == 1


# ------------------------------------------------------------------------------- downstream


def test_a_probe_finds_what_is_linear_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 100)
    codes = rng.normal(size=(200, 3)) * [1, 100, 1]
    codes[:, 2] += 6 * (labels == "a")
    assert (linear_probe(codes[::2], labels[::2], new=codes[1::2]) == labels[1::2]).mean() > 0.97
    right = cross_validated_probe(codes, labels, units=np.arange(200).astype(str))
    assert right is not None
    assert right.mean() > 0.97
    chance = cross_validated_probe(codes[:, :2], labels, units=np.arange(200).astype(str))
    assert chance is not None
    assert 0.35 < chance.mean() < 0.65


def test_a_probe_never_sees_the_subject_it_is_asked_about() -> None:
    # the code says who it is, and a person's label is a coin: known people would give it away
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 10)
    codes = np.eye(40)[people] * 5 + rng.normal(size=(400, 40)) * 0.1
    labels = rng.permutation(np.repeat(["a", "b"], 20))[people]
    right = cross_validated_probe(codes, labels, units=people.astype(str))
    assert right is not None
    assert right.mean() < 0.7
    leaky = cross_validated_probe(codes, labels, units=np.arange(400).astype(str))
    assert leaky is not None
    assert leaky.mean() > 0.95


def test_a_probe_says_nothing_of_rare_classes() -> None:
    labels = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 3)
    codes = np.random.default_rng(0).normal(size=(63, 2))
    right = cross_validated_probe(codes, labels, units=np.arange(63).astype(str))
    assert right is not None
    assert np.isnan(right[60:]).all()
    assert np.isfinite(right[:60]).all()
    assert cross_validated_probe(codes[:30], labels[:30], units=np.arange(30).astype(str)) is None


# -------------------------------------------------------------------------- factor analysis


def people(n: int = 400, missing: bool = False) -> Samples:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 2))
    values = factors @ rng.normal(size=(2, 6)) + rng.normal(size=(n, 6)) * [0.1, 2, 1, 1, 0.5, 1]
    mask = rng.random((n, 6)) > 0.2 if missing else np.ones((n, 6), bool)
    meta = pd.DataFrame({"recording": [f"p{i}" for i in range(n)]})
    meta["subject"] = meta["recording"]
    axes = (Axis("item", tuple("abcdef")),)
    values = np.where(mask, values, 0).astype(np.float32)
    return Samples("questionnaire", values, meta, axes, mask if missing else None)


def test_factors_are_scikit_learns() -> None:
    from sklearn import decomposition

    samples = people()
    scaler = Scaler.fit(samples)
    fitted = FactorAnalysis.fit(samples, scaler, latent_dim=2, seed=0)
    assert isinstance(fitted, FactorAnalysis)
    x = scaler.transform(samples.values, None)
    expected = decomposition.FactorAnalysis(2, random_state=0).fit(x).transform(x)
    np.testing.assert_allclose(fitted.latents(samples), expected, atol=0.02)
    assert set(fitted.state()) == {"mean", "components", "residual", "weights"}


def test_principal_components_leave_the_smaller_error_also_with_missing_answers() -> None:
    samples = people(missing=True)
    scaler = Scaler.fit(samples)
    errors = [
        method.fit(samples, scaler, latent_dim=2, seed=0).score(samples).total.mean()
        for method in (PrincipalComponents, FactorAnalysis)
    ]
    assert errors[0] < errors[1]


# ------------------------------------------------------------------------------ the command


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    trait = rng.normal(size=(120, 1))
    answers = np.clip(np.rint(3 + trait + rng.normal(size=(120, 6)) * 0.7), 1, 5).astype(int)
    frame = pd.DataFrame(answers, columns=[f"Q{i}" for i in range(6)])
    frame.insert(0, "id", [f"p{i:03d}" for i in range(120)])
    frame.to_csv(tmp_path / "answers.csv", index=False)
    file = tmp_path / "study.yaml"
    file.write_text(
        "study: small\n"
        "source: {kind: questionnaire, path: answers.csv, id_column: id, "
        "items: [{items: 'Q*', type: ordinal, range: [1, 5]}]}\n"
        "model: {architecture: {kind: dense, hidden: [8]}, latent_dim: 2}\n"
        "training: {epochs: 2, device: cpu}\n"
    )
    return file


def job(study: Path, out: Path, **given: object) -> CompareJob:
    return CompareJob(
        study,
        ("dense",),
        objectives=("vanilla", "sparse"),
        latent_dims=(2,),
        seeds=1,
        out=out,
        jobs=1,
        **given,
    )  # type: ignore[arg-type]


def stamps(out: Path) -> dict[str, int]:
    files = sorted((out / "cells").glob("*/provenance.json"))
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def kill_in_the_middle(study: Path, out: Path) -> dict[str, int]:
    """Start the command, kill it when it has finished a model; which ones it had finished."""
    grid = "--architecture dense --objective vanilla --objective sparse --latent-dim 2"
    command = [sys.executable, "-m", "ae_pipeline", "compare", str(study), *grid.split()]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--no-prefect", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not stamps(out) and process.poll() is None:
        time.sleep(0.01)
    process.kill()  # the one that was called, not those that it has started
    process.wait()
    while True:  # those follow it by themselves
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return stamps(out)
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_comparison_that_is_killed_goes_on_where_it_was(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = kill_in_the_middle(study, out)
    assert 1 <= len(finished) < 4
    assert not (out / "comparison.csv").exists()
    first = job(study, out)
    run_plainly(first)
    assert first.exit_status == 0
    before = stamps(out)
    assert {name: before[name] for name in finished} == finished
    names = {"dense-vanilla-2-seed0", "dense-sparse-2-seed0", "pca-2", "factor_analysis-2"}
    assert set(before) == names
    table = pd.read_csv(out / "comparison.csv")
    assert set(table["model"]) == {name.removesuffix("-seed0") for name in names}
    assert table["test_loss"].is_monotonic_increasing
    assert table[["detection", "parameters", "seconds"]].notna().all(axis=None)
    metrics = read_json(out / "cells/dense-vanilla-2-seed0/metrics.json")
    own = table.set_index("model").loc["dense-vanilla-2"]
    assert own["test_loss"] == pytest.approx(metrics["test_loss"])
    pca = table.set_index("model").loc["pca-2"]
    assert pca["test_loss"] == pytest.approx(metrics["baselines"]["pca"]["test_loss"])
    rehearsed = metrics["rehearsal"]["scorers"]["pca"]
    assert pca["detection"] == pytest.approx(rehearsed["roc_area"])
    assert pca[["detection_low", "detection_high"]].tolist() == pytest.approx(rehearsed["interval"])

    # one parent in MLflow, every model under it; only the chosen one is registered
    with connected(load_settings()) as client:
        experiment = client.get_experiment_by_name("small").experiment_id
        parent = client.get_run(first.result["run"])
        children = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        )
        assert parent.data.params["chosen"] == first.result["chosen"]
        assert len(children) == 4
        registered = client.search_model_versions("name = 'small'")
        chosen_has_model = (first.chosen / "model").is_dir()
        assert len(registered) == int(chosen_has_model)

    # what was finished before the kill, made again without one, is what it was
    again = next(iter(finished))
    shutil.rmtree(out / "cells" / again)
    second = job(study, out)
    run_plainly(second)
    after = stamps(out)
    assert {name for name in names if after[name] != before[name]} == {again}
    assert second.result["chosen"] == first.result["chosen"]
    anew = pd.read_csv(out / "comparison.csv")
    pd.testing.assert_frame_equal(anew.drop(columns="seconds"), table.drop(columns="seconds"))


def test_a_model_that_makes_no_sense_fails_alone_with_its_reason(
    study: Path, tmp_path: Path
) -> None:
    cells = [Cell("dense", "vanilla", 6), Cell("pca", "", 2)]
    found = {
        o.cell.name: o
        for o in run_cells(study, cells, overrides=(), place=tmp_path / "cells", jobs=1, threads=1)
    }
    assert "latent_dim" in found["dense-vanilla-6-seed0"].reason
    assert found["pca-2"].reason == ""


def test_a_wrong_name_is_told_before_anything_is_written(study: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"convolutional|architecture"):
        CompareJob(study, ("convolutional",), out=tmp_path / "out")
    with pytest.raises(StudyError, match="seeds"):
        CompareJob(study, ("dense",), seeds=0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_do_not_take_more_threads_than_they_are_given(
    study: Path, tmp_path: Path
) -> None:
    before = dict(os.environ)
    cells = [Cell("pca", "", 2), Cell("factor_analysis", "", 2)]
    found = list(run_cells(study, cells, overrides=(), place=tmp_path / "cells", jobs=2, threads=1))
    assert {o.cell.name for o in found if not o.reason} == {"pca-2", "factor_analysis-2"}
    assert dict(os.environ) == before
