from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from ae_pipeline.config import StudyError
from ae_pipeline.data import Axis, InputError, Samples
from ae_pipeline.runtime.files import digest_files
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.judge import KEYS

KINDS = (tiny.eeg, tiny.table, tiny.pictures)


@pytest.fixture(params=KINDS, ids=["eeg", "table", "pictures"])
def trained(request: pytest.FixtureRequest) -> tiny.Trained:
    trained: tiny.Trained = request.param()
    return trained


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundles.save(tmp_path / "model", tiny.table().bundle)
    return tmp_path / "model"


def some(samples: Samples, n: int = 100) -> Samples:
    return samples.take(np.arange(n))


def sign(folder: Path) -> None:
    """Write the digest of other weights into the description, as a stranger would."""
    change(folder, weights_digest=digest_files([folder / "weights.safetensors"]))


def change(folder: Path, **values: object) -> None:
    """Change keys of the description."""
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | values))


def refusal(work: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------ on disk


def test_a_bundle_comes_back_with_equal_scores(trained: tiny.Trained, tmp_path: Path) -> None:
    samples = some(trained.data.samples)
    before = trained.bundle.judge(samples)
    bundles.save(tmp_path, trained.bundle)
    loaded = bundles.load(tmp_path)
    after = loaded.judge(samples)
    pd.testing.assert_frame_equal(before.frame, after.frame, rtol=1e-6, atol=1e-9)
    assert np.allclose(before.latents, after.latents, atol=1e-6)
    assert np.allclose(before.by_entry, after.by_entry, atol=1e-6)
    assert loaded.info.model_dump_json() == trained.bundle.info.model_dump_json()
    assert set(loaded.baselines) == {"pca", "robust_z", "isolation_forest"}
    assert {p.name for p in tmp_path.iterdir()} == {"bundle.json", "weights.safetensors"}


def test_the_digest_names_exactly_this_model(tmp_path: Path) -> None:
    one = tiny.table().bundle
    other = replace(one, info=one.info.model_copy(update={"study": "another"}))
    for name, bundle in (("a", one), ("b", one), ("c", other)):
        bundles.save(tmp_path / name, bundle)
    a, b, c = (bundles.load(tmp_path / name) for name in "abc")
    assert a.digest == b.digest != c.digest
    assert a.model_id == f"tiny-table-{a.digest[:10]}"


def test_no_identity_is_in_a_bundle(trained: tiny.Trained, tmp_path: Path) -> None:
    bundles.save(tmp_path, trained.bundle)
    content = (tmp_path / "bundle.json").read_bytes() + (
        tmp_path / "weights.safetensors"
    ).read_bytes()
    meta = trained.data.samples.meta
    names = {*meta["subject"], *meta["recording"], "nowhere", "digest of", str(Path.cwd())}
    assert [name for name in names if name.encode() in content] == []


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "not a model bundle" in refusal(lambda: bundles.load(tmp_path), StudyError)
    bundles.save(tmp_path / "model", tiny.table().bundle)
    told = refusal(lambda: bundles.load(tmp_path), StudyError)
    assert f"did you mean {tmp_path / 'model'}?" in told
    assert "not a model" in refusal(lambda: bundles.load(tmp_path / "nowhere"), StudyError)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"[]", b"null", b"7"])
def test_a_damaged_description_is_refused(saved: Path, content: bytes) -> None:
    (saved / "bundle.json").write_bytes(content)
    assert str(saved) in refusal(lambda: bundles.load(saved), StudyError)


def test_damaged_weights_are_refused(saved: Path) -> None:
    weights = saved / "weights.safetensors"
    whole = weights.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], b"\xff" * 64):
        weights.write_bytes(content)
        assert "damaged" in refusal(lambda: bundles.load(saved), StudyError)


def test_weights_of_another_model_are_refused(saved: Path, tmp_path: Path) -> None:
    bundles.save(tmp_path / "other", tiny.pictures().bundle)
    shutil.copyfile(tmp_path / "other/weights.safetensors", saved / "weights.safetensors")
    assert "not the file" in refusal(lambda: bundles.load(saved), StudyError)
    sign(saved)
    assert "do not fit" in refusal(lambda: bundles.load(saved), StudyError)


def test_missing_weights_are_named(saved: Path) -> None:
    weights = saved / "weights.safetensors"
    arrays = load_file(weights)
    for lacking in (
        "calibration/recording",
        "pca/mean",
        "autoencoder/scaler.scale",
        "ensemble/above",
    ):
        save_file({k: v for k, v in arrays.items() if k != lacking}, weights)
        sign(saved)
        assert lacking.partition("/")[2] in refusal(lambda: bundles.load(saved), StudyError)


def test_a_bundle_of_a_newer_version_is_refused(saved: Path) -> None:
    content = json.loads((saved / "bundle.json").read_text())
    content |= {"format": 99, "something_new": 1}
    (saved / "bundle.json").write_text(json.dumps(content))
    told = refusal(lambda: bundles.load(saved), StudyError)
    assert "format 99" in told
    assert "train it again" in told


def test_an_unknown_key_in_a_bundle_is_named(saved: Path) -> None:
    content = json.loads((saved / "bundle.json").read_text())
    (saved / "bundle.json").write_text(json.dumps({**content, "treshold": 1.0}))
    assert "did you mean 'threshold'?" in refusal(lambda: bundles.load(saved), StudyError)


# -------------------------------------------------------------------- a stranger's bundle


@pytest.mark.parametrize(
    "study", ["../../x", "/etc/x", "a/b", "..", "", "a\nb", "x" * 300, "\u202ea"]
)
def test_a_name_that_leads_elsewhere_is_refused(saved: Path, study: str) -> None:
    change(saved, study=study)
    assert "study" in refusal(lambda: bundles.load(saved), StudyError)


def test_links_are_refused_and_nothing_else_is_copied(saved: Path, tmp_path: Path) -> None:
    (saved / "secret").symlink_to("/etc/passwd")
    (saved / "more").mkdir()
    bundles.copy(saved, tmp_path / "copy")
    names = {"bundle.json", "weights.safetensors"}
    assert {each.name for each in (tmp_path / "copy").iterdir()} == names
    for name in names:
        (saved / name).rename(tmp_path / name)
        (saved / name).symlink_to(tmp_path / name)
        assert "is a link" in refusal(lambda: bundles.load(saved), StudyError)
        (saved / name).unlink()
        shutil.copyfile(tmp_path / name, saved / name)


WRONG_ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda a: np.full_like(a, np.nan),
    "infinite": lambda a: np.full_like(a, np.inf),
    "flat": lambda a: a.ravel()[:1].copy(),
    "longer": lambda a: np.concatenate([a, a]),
    "cube": lambda a: np.zeros((2, 2, 2), a.dtype),
    "none": lambda a: a.ravel()[:0].copy(),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
@pytest.mark.parametrize(
    "name",
    [
        "autoencoder/scaler.scale",
        "calibration/scores/score",
        "calibration/unit",
        "ensemble/above",
        "ensemble/person.precision",
        "isolation_forest/threshold",
        "pca/components",
        "robust_z/spread",
    ],
)
def test_arrays_that_are_not_what_they_should_be_are_refused(
    saved: Path, name: str, wrong: str
) -> None:
    weights = saved / "weights.safetensors"
    arrays = load_file(weights)
    if arrays[name].dtype.kind != "f" and wrong in ("nan", "infinite"):
        return  # whole numbers cannot be
    if (name, wrong) == ("pca/components", "longer"):
        return  # more components are a projection all the same
    save_file(arrays | {name: WRONG_ARRAYS[wrong](arrays[name])}, weights)
    sign(saved)
    assert "do not fit" in refusal(lambda: bundles.load(saved), StudyError)


@pytest.mark.parametrize("forest", ["isolation_forest", "ensemble/person.forest"])
def test_trees_that_point_back_are_refused(saved: Path, forest: str) -> None:
    weights = saved / "weights.safetensors"
    arrays = load_file(weights)
    for child in (0, -2, 10**6):
        left = arrays[f"{forest}/left" if "/" not in forest else f"{forest}.left"].copy()
        left[:, 0] = child
        name = f"{forest}/left" if "/" not in forest else f"{forest}.left"
        save_file(arrays | {name: left}, weights)
        sign(saved)
        assert "points back" in refusal(lambda: bundles.load(saved), StudyError)


def test_descriptions_that_are_not_what_they_should_be_are_refused(saved: Path) -> None:
    file = saved / "bundle.json"
    whole = file.read_text()
    content = json.loads(whole)
    wrong = ["[" * 100_000, '{"a":' * 100_000, whole.replace('"format": 2', '"format": NaN')]
    wrong += [
        whole.replace('"threshold": null', f'"threshold": {n}') for n in ("1e999", "9" * 5000)
    ]
    wrong += [json.dumps({k: v for k, v in content.items() if k != key}) for key in content]
    for key in content:
        wrong += [json.dumps({**content, key: v}) for v in ([[]], 7, "x", -1, {"kind": ["x"]})]
    wrong.append(json.dumps({**content, "shape": [10**9, 10**9]}))
    wrong.append(json.dumps({**content, "model": {**content["model"], "latent_dim": 10**12}}))
    said = [refused_or_none(saved, file.write_text(text)) for text in wrong]
    lines = [line for line in said if line is not None]
    assert len(lines) > 0.8 * len(wrong), "some keys may be left out, or hold what they want"
    assert max(len(line) for line in lines) < 700
    assert not any("\n" in line for line in lines)


def refused_or_none(folder: Path, _: object) -> str | None:
    try:
        bundles.load(folder)
    except StudyError as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------- misfits


def test_data_of_another_kind_is_refused() -> None:
    told = refusal(lambda: tiny.eeg().bundle.judge(tiny.images(3)), InputError)
    assert told == "the model is for eeg data, not mnist"


def eeg_samples(names: tuple[str, ...], n_times: int = 100, sfreq_hz: float = 100.0) -> Samples:
    meta = pd.DataFrame({"recording": ["r", "r"], "subject": ["s", "s"]})
    axes = (Axis("channel", names, unit="uV"), Axis("time", step=1 / sfreq_hz, unit="s"))
    values = np.ones((2, len(names), n_times), np.float32)
    return Samples("eeg", values, meta, axes, sfreq_hz=sfreq_hz)


def test_other_channels_are_refused_and_named() -> None:
    bundle = tiny.eeg().bundle
    told = refusal(lambda: bundle.judge(eeg_samples(("Fz", "Cz", "C3", "Oz"))), InputError)
    assert "missing Pz" in told
    assert "unknown C3" in told
    swapped = refusal(lambda: bundle.judge(eeg_samples(("Cz", "Fz", "Pz", "Oz"))), InputError)
    assert "another order" in swapped


def test_other_lengths_and_rates_are_refused() -> None:
    bundle = tiny.eeg().bundle
    longer = eeg_samples(tiny.CHANNELS, 120)
    assert "(4, 120) given" in refusal(lambda: bundle.judge(longer), InputError)
    faster = eeg_samples(tiny.CHANNELS, 100, 200.0)
    told = refusal(lambda: bundle.judge(faster), InputError)
    assert "200.0 Hz given, the model takes 100.0 Hz" in told


# -------------------------------------------------------------------------- plain values


def test_plain_arrays_are_judged_like_samples(trained: tiny.Trained) -> None:
    samples = some(trained.data.samples, 30)
    values, mask = samples.batch(slice(None))
    given = values if mask is None else np.where(mask, values, np.nan)
    judged = trained.bundle.judge_values(given)
    # plain windows come without the recording that says what is usual in it
    expected = trained.bundle.judge(replace(samples, robust_stats={})).frame
    keys = [c for c in expected if c in (*KEYS, "label")]
    tiny.assert_equal_scores(trained, judged, expected.drop(columns=keys))
    flat = trained.bundle.judge_values(given.reshape(len(given), -1))
    pd.testing.assert_frame_equal(flat, judged)


def test_a_window_alone_is_predicted_as_the_pipeline_scores_it() -> None:
    bundle = tiny.eeg().bundle
    samples = tiny.eeg().data.samples
    assert samples.robust_stats  # each recording's own
    judged = bundle.judge(samples).frame
    found = bundle.predict_values(samples.batch(slice(None))[0])
    assert {"score_autoencoder", "score_pca", "score_robust_z", "score_latent"} <= set(found)
    assert not {"score", "p_value", "flagged"} & set(found)
    for name in found:
        np.testing.assert_allclose(found[name], judged[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_tables_are_judged_by_name_with_missing_answers() -> None:
    bundle, samples = tiny.table().bundle, some(tiny.table().data.samples, 30)
    values, mask = samples.batch(slice(None))
    frame = pd.DataFrame(np.where(mask, values, np.nan), columns=samples.entries)
    assert frame.isna().any(axis=None)
    mixed = frame[list(samples.entries)[::-1]].assign(age=30, name="Berta")
    pd.testing.assert_frame_equal(
        bundle.judge_values(mixed), bundle.judge_values(frame.to_numpy(np.float64))
    )
    told = refusal(lambda: bundle.judge_values(frame.drop(columns=["Q2", "Q5"])), InputError)
    assert "lacks the model's columns Q2, Q5" in told


def test_a_missing_answer_is_not_an_answer_of_zero() -> None:
    bundle = tiny.table().bundle
    row = np.full((1, 6), 3.0)
    row[0, 2] = np.nan
    entry = bundle.judge_values(row)["top_entry"][0]
    assert entry != "Q3"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((2, 8, 8), 128.0), "pixels of 128 to 128 given, expected 0 (black) to 1"),
        (np.full((2, 8, 8), np.nan), "NaN or infinity"),
        (np.zeros((2, 7, 7)), "shape (2, 7, 7) given"),
        (np.zeros((0, 8, 8)), "shape (0, 8, 8) given"),
        (np.float32(1), "shape () given"),
        (np.full((1, 64), "dark"), "not all numbers"),
    ],
)
def test_values_that_are_no_images_are_refused(values: np.ndarray, told: str) -> None:
    assert told in refusal(lambda: tiny.pictures().bundle.judge_values(values), InputError)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_windows_in_another_unit_are_refused(factor: float) -> None:
    values, _ = some(tiny.eeg().data.samples, 5).batch(slice(None))
    told = refusal(lambda: tiny.eeg().bundle.judge_values(values * factor), InputError)
    assert "convert them to microvolts" in told
    assert len(tiny.eeg().bundle.judge_values(np.zeros_like(values))) == 5  # flat is no unit


def test_answers_that_an_item_does_not_have_are_refused() -> None:
    values = np.full((3, 6), 3.0)
    values[1, 4] = 9
    told = refusal(lambda: tiny.table().bundle.judge_values(values), InputError)
    assert told == "item 'Q5' holds 9, which is none of its answers (1, 2, 3, 4, 5)"


# ------------------------------------------------------------------------------ judging


def test_scores_are_finite_whatever_comes_in() -> None:
    samples = some(tiny.eeg().data.samples, 4)
    values, _ = samples.batch(slice(None))
    values[0] *= 1e15
    values[1] = np.finfo(np.float32).max
    values[2] = 0
    frame = tiny.eeg().bundle.judge(replace(samples, values=values)).frame
    scores = frame[[c for c in frame if c.startswith("score")]]
    assert np.isfinite(scores).all(axis=None)
    usual = tiny.eeg().calibration.scores["score"].max()
    assert frame["score"][0] > 2 * usual
    assert frame["score"][1] > 2 * usual
    assert frame["p_value"][:2].to_numpy() == pytest.approx(
        1 / (len(tiny.eeg().calibration.recording) + 1)
    )


def test_a_column_of_the_users_own_is_never_taken_for_a_scorer() -> None:
    trained = tiny.table()
    assert "score_total" in trained.data.samples.meta
    assert "score_total" not in trained.bundle.judge(some(trained.data.samples)).frame
    assert set(trained.calibration.scores) == {
        *("score", "score_autoencoder", "score_surprise", "score_pattern", "score_latent"),
        *("score_person_total", "score_isolation"),
        *("score_pca", "score_robust_z", "score_isolation_forest"),
    }


def test_the_channel_that_deviates_most_from_its_own_usual_is_named() -> None:
    bundle: Bundle = tiny.eeg().bundle
    errors = np.tile(bundle.calibration.entry_median, (3, 1))
    errors[0, 2] *= 5
    errors[1, 0] *= 1.1
    names, ratio = bundle.top_entries(errors)
    assert names[:2].tolist() == ["Pz", "Fz"]
    assert ratio == pytest.approx([5, 1.1, 1])


def test_a_row_does_not_depend_on_the_others(trained: tiny.Trained) -> None:
    samples = trained.data.samples
    rows = np.array([3, 90, 41])
    whole = trained.bundle.judge(samples).frame.iloc[rows]
    alone = pd.concat([trained.bundle.judge(samples.take([row])).frame for row in rows])
    tiny.assert_equal_scores(trained, whole, alone)
