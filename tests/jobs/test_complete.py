"""Completion: the hidden is never looked at, simple ways are right, files come back whole."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import edf_files
import edfio
import mne
import numpy as np
import pandas as pd
import pytest
import tiny
from lab import noise, write_edf

from ae_pipeline.analysis import completion
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.jobs.complete import complete
from ae_pipeline.jobs.generate import generate
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.sources import images as mnist


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for name in ("eeg", "table", "pictures"):
        bundles.save(place / name, getattr(tiny, name)().bundle)
    return place


def scaled(trained: tiny.Trained, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    values, mask = trained.data.samples.batch(slice(0, n))
    x = trained.bundle.autoencoder.scaler.transform(values, mask)
    return x, np.ones(x.shape, bool) if mask is None else mask


@pytest.mark.parametrize("way", completion.WAYS)
@pytest.mark.parametrize(
    ("name", "part"),
    [("eeg", "channels"), ("eeg", "time"), ("table", "items"), ("pictures", "half")],
)
def test_what_is_hidden_never_reaches_the_model(name: str, part: Any, way: Any) -> None:
    trained = getattr(tiny, name)()
    x, observed = scaled(trained)
    visible = completion.hide(part, observed, rng=np.random.default_rng(0))
    assert (observed & ~visible).any(axis=tuple(range(1, x.ndim))).all()
    made = completion.complete(trained.bundle, x, visible=visible, way=way)
    lied = np.where(visible, x, np.float32(7))
    np.testing.assert_array_equal(
        made, completion.complete(trained.bundle, lied, visible=visible, way=way)
    )
    assert np.isfinite(made).all()


def test_the_optimised_code_explains_what_is_visible_better_than_one_pass() -> None:
    trained = tiny.pictures()
    x, observed = scaled(trained, 60)
    visible = completion.hide("half", observed, rng=np.random.default_rng(0))
    errors = [
        completion.error(
            completion.complete(trained.bundle, x, visible=visible, way=way), x, hidden=visible
        )[0]
        for way in ("one_pass", "optimised")
    ]
    assert errors[1] < errors[0]


def test_ridge_is_the_conditional_mean_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    x = (rng.normal(size=(20_000, 4)) @ root.T).astype(np.float32)
    simple = completion.Simple.fit(x, np.ones(x.shape, bool))
    visible = np.ones((100, 4), bool)
    visible[:50, 1], visible[50:, 2:] = False, False
    made = simple.ridge(x[:100], visible)
    covariance = root @ root.T
    covariance += 0.1 * np.trace(covariance) / 4 * np.eye(4)
    exact = covariance[[1]][:, [0, 2, 3]] @ np.linalg.inv(covariance[[0, 2, 3]][:, [0, 2, 3]])
    np.testing.assert_allclose(made[:50, 1], x[:50, [0, 2, 3]] @ exact[0], atol=0.1)
    np.testing.assert_array_equal(made[visible], x[:100][visible])


def test_lines_are_completed_exactly_by_lines_and_steps_by_the_last_value() -> None:
    ways = completion.simple_ways(tiny.eeg().bundle, "time", simple=None)
    line = np.linspace(-3, 5, 50, dtype=np.float32) * np.ones((2, 4, 1), np.float32)
    visible = np.ones(line.shape, bool)
    visible[:, :, 10:20] = False
    np.testing.assert_allclose(ways["linear"](line, visible), line, atol=1e-5)
    steps = np.repeat(line[:, :, :1], 50, 2)
    np.testing.assert_array_equal(ways["last_value"](steps, visible), steps)


def test_splines_are_those_of_mne() -> None:
    names = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"]
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage("standard_1020")
    positions = np.array([channel["loc"][:3] for channel in info["chs"]])
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(len(names), 200))
    raw = mne.io.RawArray(signal.copy(), info, verbose="ERROR")
    raw.info["bads"] = ["Cz", "O1"]
    raw.interpolate_bads(verbose="ERROR")
    base = tiny.eeg().bundle
    scale = rng.uniform(1, 3, len(names)).astype(np.float32)
    scaler = replace(base.autoencoder.scaler, center=np.zeros_like(scale), scale=scale)
    described = base.info.model_copy(
        update={"entries": tuple(names), "positions_m": tuple(map(tuple, positions.tolist()))}
    )
    fitted = replace(base.autoencoder, scaler=scaler)
    bundle = replace(base, info=described, ensemble=replace(base.ensemble, autoencoder=fitted))
    visible = np.ones((1, len(names), 200), bool)
    visible[:, [names.index("Cz"), names.index("O1")]] = False
    x = (signal / scale[:, None]).astype(np.float32)[None]
    made = completion.simple_ways(bundle, "channels", simple=None)["spherical_spline"](x, visible)
    np.testing.assert_allclose(made[0] * scale[:, None], raw.get_data(), atol=1e-3)


def test_hidden_channels_are_taken_out_of_the_common_average() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1, 2, 3, 4], np.float32)
    microvolts = rng.normal(size=(5, 4, 30)).astype(np.float32)
    microvolts -= microvolts.mean(1, keepdims=True)  # the sum of the others is the hidden one
    visible = np.ones(microvolts.shape, bool)
    visible[:, 2] = False
    x = completion.without_hidden_reference(microvolts / scale[:, None], visible, scale=scale)
    again = x * scale[:, None]
    np.testing.assert_allclose(again[:, [0, 1, 3]].sum(1), 0, atol=1e-5)


def test_a_measurement_says_who_wins_whoever_it_is() -> None:
    trained = tiny.table()
    x, observed = scaled(trained, 300)
    unit = np.arange(300)
    simple = completion.Simple.fit(x, observed)
    found = completion.measure(
        trained.bundle, x, observed=observed, unit=unit, part="items", simple=simple
    )
    errors = found["errors"]
    assert set(errors) == {"model", "mean", "ridge", "variance"}
    assert errors["ridge"] < errors["mean"]  # one trait moves all six
    assert found["way"] in completion.WAYS
    assert found["best"] == min(("model", "mean", "ridge"), key=lambda name: errors[name])
    assert (found["wins"] is True) == (found["interval"][0] > 0)
    assert "Hidden answers" in completion.sentence(found)
    alone = completion.measure(
        trained.bundle, x, observed=observed, unit=unit, part="items", simple=None
    )
    assert alone["best_simple"] is None


# ---------------------------------------------------------------------------------- files


def test_a_table_comes_back_with_every_answer_and_the_known_ones_unchanged(
    models: Path, tmp_path: Path
) -> None:
    samples = tiny.answers(80, seed=5)
    mask = np.asarray(samples.mask)
    table = pd.DataFrame(np.asarray(samples.values), columns=samples.entries).where(mask)
    table.to_csv(tmp_path / "answers.csv", index=False)
    out = tmp_path / "completed.csv"
    result = complete(str(models / "table"), str(tmp_path / "answers.csv"), out=out, hide="Q2")
    back = pd.read_csv(out)
    items = back[list(samples.entries)]
    assert items.isin([1, 2, 3, 4, 5]).all().all()
    kept = mask.copy()
    kept[:, 1] = False
    np.testing.assert_array_equal(items.to_numpy()[kept], np.asarray(samples.values)[kept])
    assert back["completed"].str.contains("Q2").all()
    assert result["hidden"]["entries"] == mask[:, 1].sum()
    assert "no study file beside the model" in result["warnings"][0]
    with pytest.raises(StudyError, match="'Q9' is none of the model's items"):
        complete(
            str(models / "table"), str(tmp_path / "answers.csv"), out=tmp_path / "9.csv", hide="Q9"
        )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_edf(tmp_path / "P09.edf", noise(seconds=30, seed=9))


def test_a_recording_that_lacks_a_channel_comes_back_with_it(models: Path, tmp_path: Path) -> None:
    names = ("Fz", "Cz", "Oz")
    given = write_edf(tmp_path / "P09.edf", noise(3, 30, seed=9), names)
    out = tmp_path / "completed_raw.fif"
    result = complete(str(models / "eeg"), str(given), out=out)
    raw = mne.io.read_raw_fif(out, verbose="ERROR")
    assert raw.ch_names == [*names, "Pz"]
    assert "completed Pz" in set(raw.annotations.description)
    assert "channels Pz" in result["completed"]
    assert np.isfinite(raw.get_data()).all()
    assert raw.get_data(picks="Pz").std() > 0


def test_a_hidden_stretch_is_filled_and_the_rest_of_the_recording_is_left(
    models: Path, tmp_path: Path, recording: Path
) -> None:
    whole = tmp_path / "whole_raw.fif"
    complete(str(models / "eeg"), str(recording), out=whole, hide="Fz")
    out = tmp_path / "filled_raw.fif"
    result = complete(str(models / "eeg"), str(recording), out=out, hide="10-10.3")
    assert set(result["measured"]) == {"channels", "time"}
    assert set(result["hidden"]["errors"]) == {"model", "linear", "last_value"}
    one, other = (mne.io.read_raw_fif(f, verbose="ERROR").get_data()[1:] for f in (whole, out))
    inside = np.zeros(one.shape[1], bool)
    inside[1000:1030] = True
    np.testing.assert_allclose(one[:, ~inside], other[:, ~inside])
    assert (one[:, inside] != other[:, inside]).all()
    for hide, words in (("10-11", "more than half of the model's window"), ("29-40", "expected")):
        with pytest.raises(StudyError, match=words):
            complete(str(models / "eeg"), str(recording), out=tmp_path / "other.edf", hide=hide)


LABELS = ["EEG FZ-REF", "EEG CZ-REF", "EEG PZ-REF", "EEG OZ-REF", "ECG"]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A laboratory's EDF: names, a date and events of its own, an ECG, and a flat channel."""
    signal = noise(5, 30, seed=9)
    signal[2] = 0
    return edf_files.write_edf(
        tmp_path / "flat.edf",
        signal + 100,  # cleaning takes the constant out, completion must not
        LABELS,
        recording=edfio.Recording(startdate=datetime.date(2019, 3, 17)),
        patient=edfio.Patient(name="Erika_Mustermann"),
        annotations=[edfio.EdfAnnotation(12.5, 1.0, "go")],
    )


@pytest.mark.parametrize("name", ["out_raw.fif", "out.edf"])
@pytest.mark.parametrize("hide", [None, "Oz", "10-10.3"])
def test_what_was_not_asked_for_comes_back_bit_by_bit(
    models: Path, tmp_path: Path, flat: Path, name: str, hide: str | None
) -> None:
    complete(str(models / "eeg"), str(flat), out=tmp_path / name, hide=hide)
    before = mne.io.read_raw(flat, verbose="ERROR")
    after = mne.io.read_raw(tmp_path / name, verbose="ERROR")
    assert after.ch_names == before.ch_names
    for key in ("sfreq", "highpass", "lowpass", "meas_date"):
        assert after.info[key] == before.info[key]
    completed = {"EEG PZ-REF"} | ({"EEG OZ-REF"} if hide == "Oz" else set())
    kept = np.ones((5, before.n_times), bool)
    kept[[name in completed for name in LABELS]] = False
    if hide == "10-10.3":
        kept[:4, 1000:1030] = False
    one, other = before.get_data(), after.get_data()
    np.testing.assert_array_equal(one[kept], other[kept])
    assert (one[~kept] != other[~kept]).mean() > 0.95
    marks = set(after.annotations.description) - {"go"}
    assert marks >= {f"completed {name}" for name in completed}
    assert len(marks) == (4 if hide == "10-10.3" else len(completed))
    go = after.annotations[[d == "go" for d in after.annotations.description]]
    assert (go.onset, go.duration) == (12.5, 1.0)
    assert b"Mustermann" not in (tmp_path / name).read_bytes()


def test_a_channel_is_completed_in_the_reference_of_the_file(tmp_path: Path) -> None:
    base = tiny.eeg().bundle
    assert base.info.preprocess is not None
    average = base.info.preprocess.model_copy(update={"reference": "average"})
    bundle = replace(base, info=base.info.model_copy(update={"preprocess": average}))
    bundles.save(tmp_path / "average", bundle)
    shared = 200 * np.sin(2 * np.pi * 6 * np.arange(3000) / 100)  # the average takes it away
    given = write_edf(tmp_path / "P09.edf", noise(seconds=30, seed=9) + shared)
    complete(str(tmp_path / "average"), str(given), out=tmp_path / "out_raw.fif", hide="Oz")
    truth, made = (
        mne.io.read_raw(file, verbose="ERROR").get_data(picks="Oz")[0]
        for file in (given, tmp_path / "out_raw.fif")
    )
    assert np.corrcoef(truth, made)[0, 1] > 0.9
    assert made.std() == pytest.approx(truth.std(), rel=0.2)


def test_other_formats_keep_their_samples_and_dates(
    models: Path, tmp_path: Path, flat: Path
) -> None:
    raw = mne.io.read_raw(flat, preload=True, verbose="ERROR")
    raw.pick(LABELS[:4]).crop(2.0).save(tmp_path / "cropped_raw.fif", fmt="double", verbose="ERROR")
    out = tmp_path / "out_raw.fif"
    complete(str(models / "eeg"), str(tmp_path / "cropped_raw.fif"), out=out)
    after = mne.io.read_raw(out, verbose="ERROR")
    assert after.first_time == raw.first_time
    np.testing.assert_array_equal(after.get_data()[[0, 1, 3]], raw.get_data()[[0, 1, 3]])
    times = {one["description"]: one["onset"] - after.first_time for one in after.annotations}
    assert times == pytest.approx({"go": 10.5, "completed EEG PZ-REF": 0.0})
    result = complete(str(models / "eeg"), str(out), out=tmp_path / "again.edf", hide="Pz")
    again = mne.io.read_raw(tmp_path / "again.edf", verbose="ERROR")
    np.testing.assert_allclose(again.get_data()[[0, 1, 3]], raw.get_data()[[0, 1, 3]], atol=2e-8)
    page = Path(result["report"]).read_text()
    assert "EDF stores 16 bits" in page


def test_half_an_image_is_completed_and_the_other_half_left(models: Path, tmp_path: Path) -> None:
    images = tiny.images(30, seed=4)
    pixels = np.rint(255 * np.clip(images.values[:], 0, 1)).astype(np.uint8)
    given = tmp_path / "few-images-idx3-ubyte"
    given.write_bytes(
        bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes() + pixels.tobytes()
    )
    out = tmp_path / "completed-images-idx3-ubyte"
    complete(str(models / "pictures"), str(given), out=out, hide="left")
    back = mnist.load([out], mnist.MnistSource()).values[:]
    np.testing.assert_allclose(back[:, :, 4:], pixels[:, :, 4:] / 255, atol=1e-6)
    assert (back[:, :, :4] != pixels[:, :, :4] / 255).mean() > 0.9
    with pytest.raises(StudyError, match="expected lower, upper, left, right"):
        complete(str(models / "pictures"), str(given), out=tmp_path / "other.png", hide="middle")


def test_an_input_that_is_not_there_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        complete(str(models / "table"), str(tmp_path / "none.csv"), out=tmp_path / "out.csv")
    with pytest.raises(StudyError, match="--way best: expected auto"):
        complete(str(models / "table"), "x.csv", out=tmp_path / "out.csv", way="best")


def test_what_is_there_is_never_written_over(models: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("id,Q1,Q2,Q3,Q4,Q5,Q6\n" + "\n".join(f"p{i},1,2,3,4,5,1" for i in range(9)))
    before = answers.read_bytes()
    with pytest.raises(StudyError, match="exists already"):
        complete(str(models / "table"), str(answers), out=answers)
    with pytest.raises(StudyError, match="exists already"):
        generate(str(models / "table"), 5, out=answers)
    assert answers.read_bytes() == before
