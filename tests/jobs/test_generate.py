"""Generated data obeys what real data obeys, opens where it should, and is measured honestly."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import ks_2samp

from ae_pipeline.analysis import likeness
from ae_pipeline.config import StudyError
from ae_pipeline.jobs.generate import decode, draw, generate
from ae_pipeline.kind import kind_of
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.outputs.export import check_ending, sheet
from ae_pipeline.report.pictures import portraits
from ae_pipeline.runtime.files import read_json
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.sources import images as mnist
from ae_pipeline.sources import questionnaire
from ae_pipeline.sources.items import QuestionnaireSource, as_answered


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for name in ("eeg", "table", "pictures"):
        bundles.save(place / name, getattr(tiny, name)().bundle)
    return place


# -------------------------------------------------------------------------------- drawing


def test_codes_are_drawn_from_the_mixture_of_the_training_codes() -> None:
    ensemble = tiny.pictures().bundle.ensemble
    drawn = ensemble.draw_codes(40_000, np.random.default_rng(0)).astype(float)
    weights = np.exp(ensemble.log_weights)
    mean = weights @ ensemble.means
    covariances = np.linalg.inv(
        ensemble.precisions_cholesky @ ensemble.precisions_cholesky.transpose(0, 2, 1)
    )
    away = ensemble.means - mean
    covariance = np.einsum("k,kij->ij", weights, covariances) + (weights * away.T) @ away
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.03 * spread.max())
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * spread.max() ** 2)


def test_the_same_seed_draws_the_same_data_and_another_one_does_not() -> None:
    bundle = tiny.table().bundle
    one, same, other = (np.asarray(draw(bundle, 50, seed=s).samples.values) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_answers_are_drawn_as_probable_as_the_decoder_says() -> None:
    import torch

    bundle = tiny.table().bundle
    codes = np.zeros((20_000, bundle.info.model.latent_dim), np.float32)
    drawn = decode(bundle, codes, rng=np.random.default_rng(0))
    model = bundle.autoencoder.model
    with torch.inference_mode():
        parameters = model.decode(torch.from_numpy(codes[:1]))
        losses = [
            model.likelihood.loss_per_entry(parameters, torch.full((1, 6), k / 4.0)).numpy()[0]
            for k in range(5)
        ]
    for item in range(6):
        shares = [(drawn[:, item] == level).mean() for level in (1, 2, 3, 4, 5)]
        np.testing.assert_allclose(shares, [np.exp(-loss[item]) for loss in losses], atol=0.02)


def test_noise_gives_generated_eeg_the_power_that_reconstructions_lack() -> None:
    bundle = tiny.eeg().bundle
    real = tiny.eeg().data.samples
    center = bundle.autoencoder.scaler
    ways = [draw(bundle, 200, seed=0, noise=noise).samples for noise in (True, False)]
    _, power = likeness.spectra([real, *ways])
    away = [np.abs(p - power[0]).mean() for p in power[1:]]
    assert away[0] < 0.5 * away[1]
    assert center.scale.shape == (4,)


def test_a_model_without_a_prior_or_a_density_says_so() -> None:
    bundle = tiny.table().bundle
    with pytest.raises(StudyError, match="model has no prior"):
        draw(bundle, 5, codes="prior")
    empty = replace(bundle, ensemble=replace(bundle.ensemble, means=np.zeros((0, 1))))
    with pytest.raises(StudyError, match="holds no density over its codes"):
        draw(empty, 5)


# ---------------------------------------------------------------------------------- files


def test_a_generated_table_obeys_range_and_type_and_says_that_it_is_synthetic(
    models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.csv"
    result = generate(str(models / "table"), 250, out=out)
    frame = pd.read_csv(out)
    assert frame["synthetic"].all()
    items = frame[[f"Q{i}" for i in range(1, 7)]]
    assert len(items) == 250
    assert items.isin([1, 2, 3, 4, 5]).all().all()
    assert (items.dtypes == np.int64).all()
    # no study beside the model: the report says what it cannot say
    assert "no study file beside the model" in Path(result["report"]).read_text()
    assert read_json(tmp_path / "new.csv_report.json")["synthetic"] is True


@pytest.mark.parametrize("name", ["new_raw.fif", "new.edf", "new-epo.fif"])
def test_generated_eeg_opens_in_mne(models: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    generate(str(models / "eeg"), 7, out=out)
    if name.endswith("-epo.fif"):
        epochs = mne.read_epochs(out, verbose="ERROR")
        assert epochs.get_data().shape == (7, 4, 100)
        assert list(epochs.event_id) == ["synthetic"]
        return
    raw = mne.io.read_raw(out, preload=True, verbose="ERROR")
    assert raw.ch_names == list(tiny.CHANNELS)
    assert raw.info["sfreq"] == tiny.SFREQ_HZ
    assert raw.n_times == 700
    assert [a["description"] for a in raw.annotations].count("synthetic") == 7
    drawn = np.concatenate(list(draw(tiny.eeg().bundle, 7).samples.values), axis=1)
    np.testing.assert_allclose(raw.get_data() * 1e6, drawn, atol=2e-3 * np.abs(drawn).max())


def test_generated_images_come_back_from_the_file(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "new-images-idx3-ubyte"
    generate(str(models / "pictures"), 12, out=out)
    back = mnist.load([out], mnist.MnistSource())
    drawn = draw(tiny.pictures().bundle, 12).samples
    np.testing.assert_allclose(back.values[:], drawn.values, atol=1e-6)
    generate(str(models / "pictures"), 12, out=tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert sheet(np.ones((5, 8, 8)), 3).shape == (18, 28)


def test_a_wrong_ending_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=re.escape("eeg data is written as .fif")):
        check_ending(kind_of("eeg"), tmp_path / "new.csv")
    with pytest.raises(StudyError, match="is a folder"):
        check_ending(kind_of("eeg"), tmp_path)


def test_answers_go_back_to_how_people_gave_them(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"A1": [1, 5, 2], "A2": [5, 1, 3], "B": ["no", "yes", "no"], "age": [20.5, None, 31.0]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    source = QuestionnaireSource.model_validate(
        {
            "path": tmp_path / "t.csv",
            "items": [
                {"items": "A*", "range": [1, 5], "reverse": "A2"},
                {"items": "B", "levels": ["no", "yes"], "type": "binary"},
                {"items": "age", "range": [18, 99], "type": "continuous"},
            ],
        }
    )
    samples = questionnaire.load([tmp_path / "t.csv"], source).samples
    values = np.asarray(samples.values)
    assert values[0, 1] == 1  # reversed
    back = as_answered(source, samples.columns, values=values, mask=samples.mask)
    pd.testing.assert_frame_equal(
        back[["A1", "A2", "age"]], table[["A1", "A2", "age"]], check_dtype=False
    )
    assert back["B"].tolist() == ["no", "yes", "no"]
    beyond = as_answered(source, samples.columns, values=values + 70)
    assert beyond["A1"].tolist() == [5, 5, 5]
    assert beyond["age"].max() <= 99


# ------------------------------------------------------------------------------- likeness


def test_other_real_data_cannot_be_told_from_real_data() -> None:
    real, other, train = (tiny.answers(400, seed) for seed in (1, 2, 3))
    found = likeness.compare(other, real, train=train, scaler=Scaler.fit(train)).figures
    low, high = found["two_samples"]["interval"]
    assert low <= 0.5 <= high
    assert found["copies"]["memorised"] is False
    assert found["correlation_difference"]["value"] < 0.1


def test_shuffled_answers_keep_their_marginals_and_lose_their_correlations() -> None:
    real, train = tiny.answers(600, 1), tiny.answers(600, 3)
    values = np.asarray(train.values).copy()
    rng = np.random.default_rng(0)
    for item in values.T:
        rng.shuffle(item)
    shuffled = replace(train, values=values, mask=values > 0)
    found = likeness.compare(shuffled, real, train=train, scaler=Scaler.fit(train)).figures
    assert found["marginal_distance"]["value"] < 0.1
    assert found["correlation_difference"]["value"] > 0.3
    assert found["two_samples"]["interval"][0] > 0.7


def test_copies_of_training_images_are_found() -> None:
    real, train = tiny.images(300, 1), tiny.images(300, 3)
    rng = np.random.default_rng(0)
    values = train.values[rng.integers(0, 300, 200)] + rng.normal(0, 0.001, (200, 8, 8))
    copied = replace(tiny.images(200, 5), values=values.astype(np.float32))
    found = likeness.copies(copied, real, train=train, scaler=Scaler.fit(train))
    assert found["memorised"] is True
    assert found["nearest_is_training"]["interval"][0] > 0.9
    assert found["distance_to_training"] < 0.1 * found["held_out_to_training"]


def test_the_distance_of_marginals_is_that_of_kolmogorov_and_smirnov() -> None:
    real, other = tiny.answers(300, 1), tiny.answers(300, 2)
    scaler = Scaler.fit(real)
    table = likeness.marginals(other, real, scaler=scaler)
    given = [np.asarray(s.values)[s.mask[:, 0], 0] for s in (real, other)]
    assert table["distance"][0] == pytest.approx(ks_2samp(*given).statistic)


def test_portraits_are_drawn_for_every_kind() -> None:
    for name, shape in (("grid", (8, 8)), ("series", (3, 50)), ("table", (5,))):
        rows = [("one", np.random.default_rng(0).random((4, *shape)))]
        names = tuple(f"n{i}" for i in range(shape[0]))
        drawn = portraits.rows_of(
            name,
            rows,
            steps=["a", "b", "c", "d"],
            names=names,
            sfreq_hz=100.0,
            caption="Caption.",
        )
        assert "Caption." in drawn.caption
        assert "<svg" in drawn.svg


def test_generated_answers_are_held_against_the_study_they_come_from(tmp_path: Path) -> None:
    from ae_pipeline.ingest.origin import origin
    from ae_pipeline.jobs.job import run_plainly
    from ae_pipeline.jobs.train import train_job

    samples = tiny.answers(300)
    table = pd.DataFrame(np.asarray(samples.values), columns=samples.entries).astype(int)
    table.where(np.asarray(samples.mask)).to_csv(tmp_path / "answers.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "study: answers\n"
        "source: {kind: questionnaire, path: answers.csv, items: [{items: 'Q*', range: [1, 5]}]}\n"
        "model: {architecture: {kind: dense, hidden: [8]}, latent_dim: 2}\n"
        "training: {epochs: 3, device: cpu}\n"
    )
    run_plainly(train_job(tmp_path / "study.yaml", tmp_path / "out"))
    model = tmp_path / "out/model"
    found = origin(model, bundles.load(model).info)
    assert len(found.train) + len(found.held_out) <= 300
    assert len(found.held_out) > 20
    known = set(found.train.meta["recording"])
    assert not known & set(found.held_out.meta["recording"])
    result = generate(str(model), 250, out=tmp_path / "new.csv")
    assert 0 <= result["figures"]["likeness"]["two_samples"]["area"] <= 1
    page = Path(result["report"]).read_text()
    for heading in ("Samples", "Generated against real", "What the latent features do"):
        assert heading in page
    (tmp_path / "answers.csv").write_text((tmp_path / "answers.csv").read_text() + "1,1,1,1,1,1\n")
    result = generate(str(model), 50, out=tmp_path / "again.csv")
    assert result["figures"]["likeness"] is None
    assert "not what the model was trained on" in Path(result["report"]).read_text()
