from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from edfio import Edf, EdfSignal

from ae_pipeline.data import InputError, Windows
from ae_pipeline.ingest.gather import Gathered, gather
from ae_pipeline.ingest.inputs import Failure, Input, find_inputs
from ae_pipeline.kind import kind_of
from ae_pipeline.runtime.operation import Processes
from ae_pipeline.runtime.workers import each
from ae_pipeline.sources.eeg import EegSource
from ae_pipeline.sources.images import MnistSource
from ae_pipeline.sources.items import QuestionnaireSource
from ae_pipeline.sources.questionnaire import load
from ae_pipeline.study import Study


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(place))
    return place


def edf(path: Path, names: str = "Fz Cz Pz Oz", sfreq_hz: int = 100, seconds: int = 20) -> Path:
    rng = np.random.default_rng(sum(path.name.encode()))
    signals = [
        EdfSignal(
            rng.normal(0, 20, sfreq_hz * seconds),
            sfreq_hz,
            label=name,
            physical_dimension="uV",
            physical_range=(-300, 300),
        )
        for name in names.split()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Edf(signals).write(path)
    return path


def idx(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())
    return path


def study(source: dict[str, Any], **more: Any) -> Study:
    if source["kind"] == "eeg":
        more = {"preprocess": {"high_pass_hz": 1.0, "low_pass_hz": 30.0}, **more}
    return Study.model_validate({"study": "small", "source": source, **more})


def gathered(checked: Study) -> Gathered:
    return gather(checked, lambda done, total, name: None)


# ---------------------------------------------------------------------- what is trained on


def test_recordings_become_windows_of_known_subjects(tmp_path: Path) -> None:
    for name in ("S01_a", "S01_b", "S02_a"):
        edf(tmp_path / f"{name}.edf")
    data = gathered(study({"kind": "eeg", "path": tmp_path}))
    assert isinstance(data.samples.values, Windows)
    assert data.samples.entries == ("Fz", "Cz", "Pz", "Oz")
    # 20 s in windows of 2 s, one every half second
    assert data.samples.meta.groupby("recording").size().to_dict() == {
        "S01_a": 37,
        "S01_b": 37,
        "S02_a": 37,
    }
    assert set(data.samples.meta["subject"]) == {"S01", "S02"}
    assert (data.facts["recordings"], data.facts["subjects"], data.facts["windows"]) == (3, 2, 111)
    assert data.facts["hours"] == pytest.approx(60 / 3600, abs=1e-3)
    assert (data.sfreq_hz, len(data.positions_m)) == (100, 4)
    assert set(data.digests) == {"S01_a", "S01_b", "S02_a"}


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    for number in range(3):
        edf(tmp_path / f"S0{number}.edf")
    edf(tmp_path / "S03.edf", "Fz Cz Pz")  # a channel less
    edf(tmp_path / "S04.edf", "Oz Fz Cz Pz C3")  # another order and one more: brought to the usual
    edf(tmp_path / "S05.edf", seconds=1)
    (tmp_path / "S06.edf").write_bytes(b"")
    data = gathered(study({"kind": "eeg", "path": tmp_path}))
    assert set(data.digests) == {"S00", "S01", "S02", "S04"}
    reasons = {failure.name: failure.reason for failure in data.failures}
    assert set(reasons) == {"S03", "S05", "S06"}
    assert "lacks Oz, which most recordings have" in reasons["S03"]
    assert all("\n" not in reason for reason in reasons.values())
    assert data.samples.entries == ("Fz", "Cz", "Pz", "Oz")


def test_recordings_looked_through_in_processes_are_the_same(tmp_path: Path) -> None:
    for number in range(3):
        edf(tmp_path / f"S0{number}.edf")
    edf(tmp_path / "S03.edf", "Fz Cz Pz")
    edf(tmp_path / "S05.edf", seconds=1)
    checked = study({"kind": "eeg", "path": tmp_path})
    here = gathered(checked)
    spread = partial(each, Processes(workers=2))
    told: list[int] = []
    apart = gather(
        checked,
        lambda done, total, name: told.append(done),
        spread=spread,
    )
    assert (apart.digests, apart.failures, apart.facts) == (
        here.digests,
        here.failures,
        here.facts,
    )
    np.testing.assert_array_equal(apart.samples.values[:], here.samples.values[:])
    assert max(told) == 5


def test_a_recording_that_cannot_be_used_does_not_set_the_rate(tmp_path: Path) -> None:
    for number in range(2):
        edf(tmp_path / f"S0{number}.edf", sfreq_hz=200)
    edf(tmp_path / "S02.edf", "Fz Cz", sfreq_hz=80)
    assert gathered(study({"kind": "eeg", "path": tmp_path})).sfreq_hz == 200


def test_rates_are_brought_down_to_the_lowest_or_to_the_one_given(tmp_path: Path) -> None:
    edf(tmp_path / "S00.edf", sfreq_hz=200)
    edf(tmp_path / "S01.edf", sfreq_hz=100)
    data = gathered(study({"kind": "eeg", "path": tmp_path}))
    assert (data.sfreq_hz, data.samples.shape, data.failures) == (100, (4, 200), ())
    asked = {"preprocess": {"sfreq_hz": 150, "high_pass_hz": 1.0, "low_pass_hz": 30.0}}
    data = gathered(study({"kind": "eeg", "path": tmp_path}, **asked))
    assert (data.sfreq_hz, list(data.digests)) == (150, ["S00"])
    assert "sampled at 100 Hz" in data.failures[0].reason


def test_nothing_usable_is_one_line_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "S00.edf").write_bytes(b"")
    (tmp_path / "S01.edf").write_text("no recording")
    with pytest.raises(InputError, match="none of 2 recordings can be used; the first") as caught:
        gathered(study({"kind": "eeg", "path": tmp_path}))
    assert "\n" not in str(caught.value)
    edf(tmp_path / "S00.edf", seconds=1)
    (tmp_path / "S01.edf").unlink()
    with pytest.raises(InputError, match="no recording can be used; the first"):
        gathered(study({"kind": "eeg", "path": tmp_path}))


def test_the_cleaned_signal_is_made_once_for_what_decides_it(tmp_path: Path, cache: Path) -> None:
    edf(tmp_path / "S00.edf")
    source = {"kind": "eeg", "path": tmp_path}
    first = gathered(study(source))
    again = gathered(study(source, training={"epochs": 3}, split={"seed": 1}))
    signals = list(cache.rglob("signal.npy"))
    assert len(signals) == 1
    assert np.array_equal(first.samples.batch([5])[0], again.samples.batch([5])[0])
    gathered(study(source, preprocess={"high_pass_hz": 2.0, "low_pass_hz": 30.0}))
    assert len(list(cache.rglob("signal.npy"))) == 2
    edf(tmp_path / "S00.edf", seconds=25)  # other content under the same name
    assert len(gathered(study(source)).samples) == 47


def test_a_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    edf(tmp_path / "a/S00.edf")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/S00.edf").write_bytes((tmp_path / "a/S00.edf").read_bytes())
    digests = [gathered(study({"kind": "eeg", "path": tmp_path / f})).digests for f in "ab"]
    assert digests[0] == digests[1]


def test_images_and_labels_are_gathered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, n in (("train", 12), ("t10k", 8)):
        idx(tmp_path / f"{name}-images-idx3-ubyte", rng.integers(0, 256, (n, 8, 8)))
        labels = idx(tmp_path / f"{name}-labels-idx1-ubyte", rng.integers(0, 10, n))
    data = gathered(study({"kind": "mnist", "path": tmp_path}))
    assert len(data.samples) == data.facts["images"] == 20
    before = data.digests
    idx(labels, np.arange(8))
    assert gathered(study({"kind": "mnist", "path": tmp_path})).digests != before


def test_a_real_survey_is_gathered(shared_data: Path) -> None:
    source = {
        "kind": "questionnaire",
        "path": shared_data / "careless" / "items.csv",
        "id_column": "subject",
        "items": [{"items": ["gad7_*"], "range": [0, 3]}],
    }
    data = gathered(study(source))
    assert data.facts == {"respondents": 406, "items": 7}
    people = set(data.samples.meta["subject"])
    assert len(people) == 406
    assert not any(person in note for note in data.notes for person in people)


def test_real_recordings_are_gathered(shared_data: Path) -> None:
    source = {
        "kind": "eeg",
        "path": shared_data / "eegmat",
        "pattern": "*_2.edf",
        "exclude": ["ECG ECG", "EEG A2-A1"],
        "limit": 2,
    }
    data = gathered(study(source, preprocess={"sfreq_hz": 100, "low_pass_hz": 40.0}))
    assert data.samples.shape == (19, 200)
    assert set(data.samples.meta["subject"]) == {"Subject00", "Subject01"}
    assert data.facts["reference"] == "average"
    assert np.isfinite(data.positions_m).all()
    values = data.samples.batch(np.arange(0, len(data.samples), 20))[0]
    assert 1 < np.median(np.abs(values)) < 30  # microvolts
    assert not any("Subject" in note for note in data.notes)


# ------------------------------------------------------------------------ what is scored

EEG = EegSource(path=Path())
IMAGES = MnistSource()
TABLE = QuestionnaireSource(path=Path(), id_column="id", items=("Q*",))


def names(source: Any, *inputs: Path | str) -> list[str]:
    return [item.name for item in find_inputs(source, [str(one) for one in inputs])]


def table(path: Path, start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"p{start + i},{i % 3},{(i + 1) % 3}" for i in range(9)]
    path.write_text("id,Q1,Q2\n" + "\n".join(rows) + "\n")
    return path


def test_recordings_are_found_and_opened(tmp_path: Path) -> None:
    edf(tmp_path / "data/S01/rest.edf")
    edf(tmp_path / "data/S02/rest.edf")
    edf(tmp_path / "sub-03_task-rest_eeg.edf")
    found = list(
        find_inputs(EEG, [str(tmp_path / "data"), str(tmp_path / "sub-03_task-rest_eeg.edf")])
    )
    assert all(isinstance(item, Input) for item in found)
    assert [item.name for item in found] == ["S01__rest", "S02__rest", "sub-03_task-rest"]
    assert [item.subject for item in found] == ["S01", "S02", "03"]
    assert isinstance(found[0], Input)
    recording = kind_of("eeg").open(EEG, found[0]).content
    assert (recording.name, recording.duration_s) == ("S01__rest", 20)


def test_one_wrong_path_does_not_hide_the_others(tmp_path: Path) -> None:
    edf(tmp_path / "S01.edf")
    found = list(find_inputs(EEG, [str(tmp_path / "nowhere.edf"), str(tmp_path / "S01.edf")]))
    assert isinstance(found[0], Failure)
    assert "nowhere.edf" in found[0].reason
    assert isinstance(found[1], Input)
    table(tmp_path / "t/a.csv")
    found = list(find_inputs(TABLE, [str(tmp_path / "nowhere.csv"), str(tmp_path / "t")]))
    assert [type(item) for item in found] == [Failure, Input]


def test_tables_are_named_after_their_files(tmp_path: Path) -> None:
    for name in ("wave.1.csv", "wave.2.csv", "plain.tsv"):
        table(tmp_path / name)
    assert names(TABLE, tmp_path) == ["plain", "wave.1", "wave.2"]


def test_colliding_names_are_told_apart(tmp_path: Path) -> None:
    paths = [table(tmp_path / f) for f in ("a/x.csv", "b/x.csv", "b/x.tsv", "b/y.csv")]
    found = names(TABLE, *paths)
    assert found == ["a__x", "b__x_csv", "b__x_tsv", "y"]


def test_a_file_given_twice_is_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "x.csv")
    monkeypatch.chdir(tmp_path)
    assert names(TABLE, path, path, "x.csv", tmp_path) == ["x"]


def test_images_bring_their_labels(tmp_path: Path) -> None:
    bundle = tiny.pictures().bundle
    images = idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((3, *bundle.info.shape)))
    labels = idx(tmp_path / "t10k-labels-idx1-ubyte", np.arange(3))
    (item,) = find_inputs(IMAGES, [str(tmp_path)])
    assert isinstance(item, Input)
    assert item.files == (images, labels)
    only_ones = IMAGES.model_copy(update={"digits": (1,)})
    ((samples, notes),) = kind_of("mnist").samples(bundle, only_ones, item=item)
    assert len(samples) == 3  # what the model was trained on does not limit what is scored
    assert (samples.meta["label"].tolist(), notes) == ([0, 1, 2], ())


def test_a_table_is_held_to_the_models_items(tmp_path: Path) -> None:
    (item,) = find_inputs(TABLE, [str(table(tmp_path / "new.csv"))])
    assert isinstance(item, Input)
    columns = load([item.path], TABLE).samples.columns
    samples, _ = kind_of("questionnaire").read([item.path], TABLE, columns=columns[::-1])
    assert samples.entries == ("Q2", "Q1")
    assert samples.meta["recording"].tolist() == [f"p{i}" for i in range(9)]


# --------------------------------------------------------------------- different channels

MANY = "Fp1 Fp2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8"


def test_recordings_with_other_channels_are_met_as_the_study_says(tmp_path: Path) -> None:
    for number in range(3):
        edf(tmp_path / f"S0{number}.edf", f"{MANY} T3 T4")
    edf(tmp_path / "S03.edf", f"{MANY} T8 T7")  # the same places by newer names
    edf(tmp_path / "S04.edf", f"{MANY} T3")
    source = {"kind": "eeg", "path": tmp_path}
    refused = gathered(study(source))
    assert [f.name for f in refused.failures] == ["S04"]
    shared = gathered(study({**source, "different_channels": "intersection"}))
    assert not shared.failures
    assert shared.samples.entries == tuple(f"{MANY} T3".split())
    assert any("13 channels are in all 5" in note and "T4" in note for note in shared.notes)
    filled = gathered(study({**source, "different_channels": "interpolate"}))
    assert not filled.failures
    assert filled.samples.entries == tuple(f"{MANY} T3 T4".split())
    assert any("interpolated from the others: T4" in note for note in filled.notes)
