"""What is fitted says something of samples it was not fitted on, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from ae_pipeline.jobs.fit import Fitted, Fitting, Prepared, held_out_scores, known_labels
from ae_pipeline.jobs.fit_head import judge_folds, with_fold_head, with_head
from ae_pipeline.kinds.eeg import cleaned_band_hz


def test_the_band_ends_where_cleaning_or_sampling_ends() -> None:
    trained = tiny.eeg()
    samples, cleaning = trained.data.samples, trained.study.preprocess
    assert cleaning is not None
    for low_pass_hz, expected in ((20.0, 20.0), (None, 0.95 * tiny.SFREQ_HZ / 2)):
        given = {"high_pass_hz": 2.0, "low_pass_hz": low_pass_hz}
        changed = {"preprocess": cleaning.model_copy(update=given)}
        band_hz = cleaned_band_hz(trained.study.model_copy(update=changed), samples)
        assert band_hz == pytest.approx((2.0, expected))


def test_a_study_without_a_head_has_no_labels() -> None:
    trained = tiny.table()
    assert known_labels(trained.study, trained.data) is None


def test_held_out_rows_are_scored_as_the_network_scores_them() -> None:
    samples = tiny.images(60)
    train, other = samples.take(np.arange(40)), samples.take(np.arange(40, 60))
    study = tiny.pictures().study
    fitted = Fitting(study, train, None, study.training).everything()
    found = held_out_scores(fitted, other, part="test")
    assert len(fitted.history.rows) == study.training.epochs
    assert (found.frame["part"] == "test").all()
    assert (found.frame["n_observed"] == np.prod(samples.shape)).all()
    np.testing.assert_allclose(found.latents, fitted.ensemble.autoencoder.latents(other), atol=1e-5)


def test_without_a_head_nothing_is_fitted_or_judged() -> None:
    trained = tiny.table()
    prepared = Prepared(trained.study, trained.data, trained.division, known=None, key="")
    fitted = Fitted(trained.bundle.ensemble, trained.baselines, trained.chance, trained.history)
    rows = trained.division.rows("train")
    assert with_head(prepared, fitted) is fitted
    assert with_fold_head(prepared, fitted, inside=rows, outside=rows) == (fitted, None)
    assert judge_folds(None, []) is None
    assert prepared.labels(rows) is None
