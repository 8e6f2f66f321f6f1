"""Person fit: planted careless answers are found, and each prediction is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from respondents import N_ITEMS, ONSET, careless, people, trained
from sklearn.metrics import roc_auc_score

from ae_pipeline.data import Axis, Column, Samples
from ae_pipeline.detectors.answer_models import context_mixture, from_answers_before
from ae_pipeline.detectors.answers import coded
from ae_pipeline.detectors.ensemble import Ensemble
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training.loop import Training, fit


@pytest.mark.parametrize("kind", ["random", "one answer", "up and down", "from the middle on"])
def test_careless_answers_score_higher_than_attentive_ones(kind: str) -> None:
    attentive = people(100, 3)
    scores = [trained().score(s).total for s in (attentive, careless(people(100, 4), kind))]
    y = np.repeat([0, 1], 100)
    assert roc_auc_score(y, np.concatenate(scores)) > 0.9


def test_without_a_presentation_order_there_is_no_longstring_and_no_onset() -> None:
    person = trained(order=False).person
    assert person is not None
    samples = people(20, 5, order=False)
    assert "longstring" not in person.indices(samples)
    assert person.onset(samples).columns.empty
    with_order = trained().person
    assert with_order is not None
    assert "longstring" in with_order.indices(people(20, 5))


def test_without_an_order_the_score_does_not_depend_on_the_columns_order() -> None:
    samples = people(30, 5, order=False)
    level = np.where(samples.mask, samples.values - 1, -1).astype(np.int64)
    shuffled = np.random.default_rng(0).permutation(N_ITEMS)
    before = from_answers_before(level, samples.columns)
    turned = replace(samples, columns=tuple(samples.columns[i] for i in shuffled))
    after = from_answers_before(level[:, shuffled], turned.columns)
    np.testing.assert_allclose(before.sum(1), after.sum(1), rtol=1e-6)


def test_the_predictor_of_patterns_is_a_distribution_over_the_next_answer() -> None:
    history = np.random.default_rng(0).integers(0, 3, (1, 6))
    total = 0.0
    for answer in range(3):
        level = np.column_stack([history, [[answer]]])
        total += float(np.exp(context_mixture(level, 3, lengths=(0, 1, 2))[0, -1]))
    assert total == pytest.approx(1, abs=1e-6)


def test_answers_are_levels_from_zero_and_positions_before_and_after_keying() -> None:
    columns = (Column("a", "ordinal", (1.0, 2.0, 3.0)), Column("b", "ordinal", (1.0, 2.0, 3.0)))
    columns = (columns[0], replace(columns[1], reverse=True))
    values = np.array([[1, 3], [2, 0]], np.float32)
    mask = np.array([[True, True], [True, False]])
    meta = pd.DataFrame(index=range(2))
    samples = Samples("questionnaire", values, meta, (Axis("item", ("a", "b")),), mask, columns)
    answers = coded(samples, np.ones(2), high=np.full(2, 3.0))
    assert answers.level.tolist() == [[0, 2], [1, -1]]
    np.testing.assert_allclose(answers.keyed, [[0, 1], [0.5, np.nan]])
    np.testing.assert_allclose(answers.raw, [[0, 0], [0.5, np.nan]])
    np.testing.assert_allclose(answers.given, [[1, 1], [2, np.nan]])


def test_the_onset_is_where_careless_answers_begin() -> None:
    person = trained().person
    assert person is not None
    predictions = person.onset(careless(people(100, 6), "from the middle on"))
    away = np.abs(predictions["onset_position"].astype(float) - 1 - ONSET)
    assert (away <= 5).mean() >= 0.5
    attentive = person.onset(people(100, 7))
    assert attentive["onset_item"].notna().mean() < 0.3


def test_lz_is_standardised_for_people_who_answer_as_the_model_says() -> None:
    person = trained().person
    assert person is not None
    lz = person.indices(people(300, 8))["lz"]
    assert abs(lz.mean()) < 0.4
    assert 0.5 < lz.std() < 1.6
    assert person.indices(careless(people(50, 8), "random"))["lz"].mean() < -3


def test_what_was_expected_stands_in_the_units_of_the_table_before_reverse_keying() -> None:
    person = trained().person
    assert person is not None
    samples = people(200, 10)
    predictions = person.predict_answers(samples)
    assert 1 <= predictions.expected.min() <= predictions.expected.max() <= 5
    turned = np.array([column.reverse for column in samples.columns])
    given = np.where(turned, 6 - samples.values, samples.values)
    for j in (0, 1):
        known = predictions.answers.known[:, j]
        assert np.corrcoef(predictions.expected[known, j], given[known, j])[0, 1] > 0.5


def test_an_answer_does_not_tell_its_own_prediction() -> None:
    person = trained().person
    assert person is not None
    samples = people(10, 11)
    changed = samples.values.copy()
    changed[:, 4] = 6 - changed[:, 4]
    first, second = (
        person.predict_answers(s).expected[:, 4]
        for s in (samples, replace(samples, values=changed))
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_missing_answer_is_neither_surprising_nor_a_gain() -> None:
    person = trained().person
    assert person is not None
    samples = people(50, 12)
    assert samples.mask is not None
    predictions = person.predict_answers(samples)
    assert (predictions.surprise[~samples.mask] == 0).all()
    assert (predictions.gain[~samples.mask] == 0).all()


def test_binary_nominal_and_continuous_items_are_judged_together() -> None:
    rng = np.random.default_rng(0)
    n = 150
    trait = rng.standard_normal(n)
    values = np.stack(
        [
            (trait + 0.5 * rng.standard_normal(n) > 0).astype(float),
            rng.integers(0, 4, n).astype(float),
            100 / (1 + np.exp(-trait - 0.3 * rng.standard_normal(n))),
            np.clip(np.rint(3 + trait), 1, 5),
        ],
        1,
    )
    columns = (
        Column("yes", "binary", (0.0, 1.0), "", (0, 1)),
        Column("which", "nominal", (0.0, 1.0, 2.0, 3.0), "", (0, 3)),
        Column("slider", "continuous", (), "", (0, 100)),
        Column("agree", "ordinal", (1.0, 2.0, 3.0, 4.0, 5.0), "", (1, 5)),
    )
    meta = pd.DataFrame({"recording": [str(i) for i in range(n)]})
    meta["subject"] = meta["recording"]
    axes = (Axis("item", tuple(c.name for c in columns)),)
    samples = Samples("questionnaire", values.astype(np.float32), meta, axes, None, columns)
    config = Model.model_validate(
        {
            "architecture": {"kind": "dense", "hidden": [8]},
            "objective": {"kind": "masked"},
            "latent_dim": 2,
        }
    )
    scaler = Scaler.fit(samples)
    model = Autoencoder(config, "table", shape=samples.shape, columns=columns, has_missing=True)
    fitted, _ = fit(model, samples, None, scaler, Training(epochs=3, device="cpu"))
    ensemble = Ensemble.fit(fitted, samples, reference=None, seed=0)
    assert np.isfinite(ensemble.score(samples).total).all()
    again = Ensemble.from_state(fitted, ensemble.state())
    np.testing.assert_array_equal(again.score(samples).total, ensemble.score(samples).total)
