"""Heads: learned from the labelled few, judged on other subjects, written beside the scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.detectors import heads as supervised
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.heads import Head, supervised_loss
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.runtime.files import read_json
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.training.known import Known, read_known
from ae_pipeline.training.loop import Training, fit

CLASSIFY = Head(kind="classify", target="group")
REGRESS = Head(kind="regress", target="age")


def with_target(name: str, values: Any, n: int = 60) -> Samples:
    samples = made.answers(n)
    meta = samples.meta.assign(**{name: values})
    meta["subject"] = [f"s{i}" for i in range(n)]
    return replace(samples, meta=meta, axes=samples.axes)


def test_the_loss_of_a_head_counts_only_the_labelled() -> None:
    outputs = torch.tensor([[3.0, 0.0], [0.0, 2.0], [9.0, -9.0]])
    targets = torch.tensor([0.0, 1.0, torch.nan])
    loss = supervised_loss(outputs, targets)
    assert loss is not None
    expected = torch.nn.functional.cross_entropy(outputs[:2], torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(expected.item())
    assert supervised_loss(outputs, torch.full((3,), torch.nan)) is None


def test_a_jointly_trained_head_shapes_the_code_and_leaves_no_weights_behind() -> None:
    samples = made.answers(200)
    age = samples.values[:, 0]  # type: ignore[call-overload]
    scaler = Scaler.fit(samples)
    probes = []
    for fitted in ("afterwards", "jointly"):
        torch.manual_seed(0)
        head = {"kind": "regress", "target": "age", "fitted": fitted, "weight": 5.0}
        config = Model.model_validate(
            {
                "architecture": {"kind": "dense", "hidden": [16]},
                "objective": {"kind": "vanilla"},
                "latent_dim": 2,
                "head": head,
            }
        )
        known = Known(
            Head.model_validate(head), age.astype(float), (), samples.meta["recording"].to_numpy()
        )
        model = Autoencoder(
            config, "table", shape=samples.shape, columns=samples.columns, has_missing=True
        )
        labels = known.labels(np.arange(200)) if fitted == "jointly" else None
        training = Training(epochs=20, learning_rate=1e-2, device="cpu", batch_size=20)
        trained, _ = fit(
            model, samples, validation=None, scaler=scaler, config=training, labels=labels
        )
        assert not [name for name in trained.state() if name.startswith("head")]
        codes = trained.latents(samples).astype(float)
        outputs = supervised.fit_head(known, codes, rows=np.arange(200), seed=0).outputs(codes)
        judged = supervised.judge_head(known, np.arange(200), outputs=outputs)
        probes.append(judged["r2"]["value"])
    assert probes[1] > probes[0]


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    head, n_subjects, covered = CLASSIFY, 40, 0
    for _ in range(60):
        skill = rng.beta(6, 2, n_subjects)  # windows of a person share how well it goes
        unit = np.repeat([f"s{i:02d}" for i in range(n_subjects)], 20)
        truth = np.tile([0.0, 1.0], len(unit) // 2)
        right = rng.random(len(unit)) < np.repeat(skill, 20)
        outputs = np.eye(2)[np.where(right, truth, 1 - truth).astype(int)]
        known = Known(head, truth, ("a", "b"), unit)
        low, high = supervised.judge_head(known, np.arange(len(unit)), outputs=outputs)[
            "balanced_accuracy"
        ]["interval"]
        covered += low <= 0.75 <= high
    assert covered >= 52  # 95% of 60 is 57


def test_cross_validation_never_has_a_subject_on_both_sides() -> None:
    unit = np.repeat([f"s{i}" for i in range(12)], 5)
    truth = np.repeat(np.arange(12) % 2, 5).astype(float)
    truth[::7] = np.nan
    known = Known(CLASSIFY, truth, ("a", "b"), unit)
    seen: list[int] = []

    def predict(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        assert not set(unit[inside]) & set(unit[outside])
        assert np.isfinite(truth[inside]).all()
        assert set(truth[inside]) == {0, 1}  # both classes on the learning side
        seen.extend(outside.tolist())
        return np.eye(2)[truth[outside].astype(int)]

    found = supervised.cross_validate(known, np.arange(60), seed=0, predict=predict)
    assert found is not None
    assert sorted(seen) == np.flatnonzero(np.isfinite(truth)).tolist()
    assert found["balanced_accuracy"]["value"] == 1


def test_missing_features_stand_at_the_training_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    known = Known(REGRESS, 3 * x[:, 0], (), np.arange(200).astype(str))
    head = supervised.fit_head(known, x, rows=np.arange(200), seed=0)
    holes = x.copy()
    holes[:, 1] = np.nan
    np.testing.assert_allclose(head.outputs(holes), head.outputs(x), atol=0.05)


@pytest.mark.parametrize(
    ("values", "head", "error", "words"),
    [
        (["a"] * 59 + ["b"], CLASSIFY, InputError, "class 'b' has one member"),
        (["a"] * 60, CLASSIFY, InputError, "one class only"),
        ([None] * 60, CLASSIFY, InputError, "no label at all"),
        ([str(i) for i in range(60)], CLASSIFY, InputError, "60 different values"),
        (["young"] * 60, REGRESS, InputError, "60 values are no numbers"),
        ([1.0] * 60, REGRESS, InputError, "all the same"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_with_the_reason(
    values: list[Any], head: Head, error: type[Exception], words: str
) -> None:
    samples = with_target(head.target if head is CLASSIFY else "age_", values)
    head = head.model_copy(update={"target": "group" if head is CLASSIFY else "age_"})
    with pytest.raises(error, match=words):
        read_known(head, samples, beside=None)


def test_an_item_or_an_unknown_column_is_no_target() -> None:
    samples = with_target("diagnosis", ["a", "b"] * 30)
    with pytest.raises(StudyError, match=r"take it out of source\.items"):
        read_known(Head(kind="regress", target="age"), samples, beside=None)
    with pytest.raises(StudyError, match="did you mean 'diagnosis'"):
        read_known(Head(kind="classify", target="diagnoses"), samples, beside=None)


def test_labels_of_recordings_come_from_a_table_beside(tmp_path: Path) -> None:
    samples = made.eeg(12)
    meta = samples.meta.assign(subject=[f"{i // 4:02d}" for i in range(12)])
    samples = replace(samples, meta=meta)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tgroup\nsub-00\tcontrol\nsub-01\tcontrol\nsub-02\tn/a\n"
    )
    with pytest.raises(InputError, match="one class only"):
        read_known(CLASSIFY, samples, beside=tmp_path)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\nsub-00\t20\nsub-01\t30\nsub-02\t40\n"
    )
    known = read_known(REGRESS, samples, beside=tmp_path)
    assert known.values.tolist() == [20] * 4 + [30] * 4 + [40] * 4


def test_joint_training_of_a_head_on_the_input_is_refused() -> None:
    with pytest.raises(ValueError, match="fitted: jointly shapes the latent features"):
        Head.model_validate(
            {"kind": "classify", "target": "x", "from": "input", "fitted": "jointly"}
        )


@pytest.mark.parametrize("fitted", ["afterwards", "jointly"])
def test_a_study_with_a_head_predicts_new_rows(tmp_path: Path, fitted: str) -> None:
    samples = tiny.answers(400)
    table = pd.DataFrame(np.asarray(samples.values), columns=samples.entries).astype(int)
    table = table.where(np.asarray(samples.mask))
    rng = np.random.default_rng(1)
    trait = np.asarray(samples.values) @ np.array([1, 1, 1, 1, -1, -1])
    table["mood"] = np.where(trait > np.median(trait), "high", "low")
    table.loc[rng.random(400) < 0.6, "mood"] = None
    table.to_csv(tmp_path / "answers.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "study: moods\n"
        "source: {kind: questionnaire, path: answers.csv, items: [{items: 'Q*', range: [1, 5]}]}\n"
        "model:\n"
        "  architecture: {kind: dense, hidden: [8]}\n"
        "  latent_dim: 2\n"
        f"  head: {{kind: classify, target: mood, from: latents, fitted: {fitted}}}\n"
        "training: {epochs: 15, learning_rate: 0.01, device: cpu}\n"
    )
    run_plainly(train_job(tmp_path / "study.yaml", tmp_path / "out"))
    found = read_json(tmp_path / "out/metrics.json")["head"]
    assert found["labelled"] + found["unlabelled"] == 400
    assert found["unlabelled"] > 200
    assert found["cross_validation"] is not None
    for part in [p for p in ("held_out", "cross_validation") if found[p] is not None]:
        low, high = found[part]["balanced_accuracy"]["interval"]
        assert 0.5 < low < found[part]["balanced_accuracy"]["value"] <= high
        assert "balanced_accuracy" in found[part]["from_input"]
    assert "What the model says of mood" in (tmp_path / "out/report.html").read_text()

    loaded = bundles.load(tmp_path / "out/model")
    assert loaded.head is not None
    assert loaded.head.classes == ("high", "low")
    new = tmp_path / "new.csv"
    table[list(samples.entries)].head(50).to_csv(new, index=False)
    run_plainly(score_job(str(tmp_path / "out/model"), [str(new)], out=tmp_path / "scored"))
    scores = pd.read_parquet(tmp_path / "scored/scores.parquet")
    together = scores[["probability_mood_high", "probability_mood_low"]].sum(1)
    np.testing.assert_allclose(together, 1)
    predicted = (scores["predicted_mood"] == "high").to_numpy()
    assert (predicted == (trait[:50] > np.median(trait))).mean() > 0.7
    assert "predicted_mood" in pd.read_csv(tmp_path / "scored/persons.csv")
