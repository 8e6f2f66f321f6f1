"""Chance is what the marginals of the training part say, entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from ae_pipeline.data import Column, Samples, axes_of
from ae_pipeline.detectors.baselines import PrincipalComponents
from ae_pipeline.detectors.chance import Chance
from ae_pipeline.models.scaler import Scaler


def answers(values: list[list[float]], columns: tuple[Column, ...]) -> Samples:
    array = np.array(values, np.float32)
    given = np.isfinite(array)
    meta = pd.DataFrame(index=range(len(array)))
    axes = axes_of("table", tuple(column.name for column in columns))
    return Samples("questionnaire", np.where(given, array, 0), meta, axes, given, columns)


def test_answers_are_guessed_by_how_often_each_was_given() -> None:
    columns = (
        Column("q", "ordinal", (1.0, 2.0, 3.0, 4.0, 5.0)),
        Column("w", "continuous"),
    )
    train = answers([[1, 0], [1, 2], [2, 4], [np.nan, 2]], columns)
    scaler = Scaler.fit(train, 0)
    pca = PrincipalComponents.fit(train, scaler, latent_dim=1, seed=0)
    chance = Chance.fit(train, pca, families={0: ("ordinal", 5), 1: ("gaussian", 0)})
    np.testing.assert_allclose(chance.shares[0], np.array([3, 2, 1, 1, 1]) / 8)
    new = answers([[2, 2], [5, np.nan], [np.nan, np.nan]], columns)
    found = chance.losses(new)
    assert found[0] == pytest.approx(-np.log(2 / 8) / 2)  # 2 is the mean of the other
    assert found[1:] == pytest.approx([-np.log(1 / 8), 0])


def test_the_mean_explains_nothing_of_a_signal() -> None:
    trained = tiny.eeg()
    samples = trained.data.samples.take(trained.division.rows("train"))
    scaled = replace(samples, scaled=None)
    found = trained.chance.losses(scaled)
    values = trained.fitted.scaler.transform(samples.batch(slice(None))[0], None)
    expected = np.square(values.reshape(len(values), -1) - trained.chance.flat.mean).mean(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
