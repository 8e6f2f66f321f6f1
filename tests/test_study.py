from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from edfio import Edf, EdfSignal

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.jobs.init import initial_study, study_file
from ae_pipeline.kind import kind_of
from ae_pipeline.models.architectures import Conv, Dense
from ae_pipeline.sources.eeg import EegSource
from ae_pipeline.sources.items import QuestionnaireSource
from ae_pipeline.study import Study, load_study

SOURCES: dict[str, dict[str, Any]] = {
    "eeg": {"kind": "eeg", "path": "recordings"},
    "mnist": {"kind": "mnist"},
    "questionnaire": {"kind": "questionnaire", "path": "items.csv", "items": ["Q*"]},
}


@pytest.fixture(params=SOURCES)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def written(folder: Path, content: Any) -> Path:
    file = folder / "study.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return file


def minimal(kind: str = "eeg", **more: Any) -> dict[str, Any]:
    return {"study": "small", "source": dict(SOURCES[kind]), **more}


def complaint(folder: Path, content: Any, *overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(written(folder, content), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------- defaults


def test_three_lines_are_a_study(kind: str, tmp_path: Path) -> None:
    study = load_study(written(tmp_path, minimal(kind)))
    defaults = kind_of(kind).defaults
    assert study.kind == kind
    assert study.model.latent_dim == defaults["model"]["latent_dim"]
    assert study.model.architecture.kind == defaults["model"]["architecture"]["kind"]
    assert study.training.epochs == defaults["training"]["epochs"]
    assert (study.preprocess is not None) == (study.windows is not None) == (kind == "eeg")


def test_digits_start_from_the_model_of_the_text(tmp_path: Path) -> None:
    from ae_pipeline.models.autoencoder import Autoencoder

    study = load_study(written(tmp_path, minimal("mnist")))
    model = Autoencoder(study.model, "grid", shape=(28, 28))
    assert sum(p.numel() for p in model.parameters()) == 407_834
    assert study.training.optimizer == "rmsprop"


def test_what_is_given_is_laid_over_the_defaults(tmp_path: Path) -> None:
    given = minimal("mnist", model={"latent_dim": 3}, training={"epochs": 2})
    study = load_study(written(tmp_path, given))
    assert study.model.architecture == Dense(
        hidden=(256,), code_activation="leaky_relu", init="glorot"
    )
    assert (study.model.latent_dim, study.training.epochs) == (3, 2)
    assert study.training.optimizer == "rmsprop"
    assert study.split.validation == 0.1


def test_another_architecture_takes_no_default_of_the_first(tmp_path: Path) -> None:
    given = minimal("mnist", model={"architecture": {"kind": "conv", "kernel": 5}})
    assert load_study(written(tmp_path, given)).model.architecture == Conv(kernel=5)
    same = minimal("mnist", model={"architecture": {"kind": "dense", "hidden": [9]}})
    architecture = load_study(written(tmp_path, same)).model.architecture
    assert architecture == Dense(hidden=(9,), code_activation="leaky_relu", init="glorot")


def test_a_part_left_empty_is_a_part_left_open(kind: str, tmp_path: Path) -> None:
    parts = ["split", "model", "training", "detection", "outputs", "preprocess", "windows"]
    empty = load_study(written(tmp_path, minimal(kind, **dict.fromkeys(parts))))
    assert empty == load_study(written(tmp_path, minimal(kind)))


def test_only_what_changes_numbers_is_decisive(tmp_path: Path) -> None:
    one = load_study(written(tmp_path, minimal()))
    (tmp_path / "elsewhere").mkdir()
    moved = minimal(hypothesis="more alpha", outputs={"root": "other"})
    assert load_study(written(tmp_path / "elsewhere", moved)).decisive() == one.decisive()
    other = load_study(written(tmp_path, minimal()), ["training.seed=1"])
    assert other.decisive() != one.decisive()


# ----------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (minimal(trainning={"epochs": 3}), "trainning: unknown key; did you mean 'training'?"),
        (minimal(training={"epoch": 3}), "training.epoch: unknown key; did you mean 'epochs'?"),
        (
            minimal(model={"architecture": {"kind": "conv", "kernl": 3}}),
            "model.architecture.kernl: unknown key; did you mean 'kernel'?",
        ),
        (
            minimal(windows={"lenght_s": 3}),
            "windows.lenght_s: unknown key; did you mean 'length_s'",
        ),
        (minimal(training={"epochs": "many"}), "training.epochs: should be a valid integer"),
        (minimal(training={"epochs": 0}), "training.epochs: should be greater than 0"),
        (
            minimal(training=7),
            "training: should hold keys (batch_size, device, early_stopping, epochs",
        ),
        (minimal(split={"validation": 0.5, "test": 0.5}), "split: validation, calibration and"),
        ({"study": "x"}, "source: is missing; add it"),
        ({"source": SOURCES["eeg"]}, "study: is missing; add it"),
        (minimal() | {"study": "../up"}, "study: "),
        ({"study": "x", "source": {"path": "p"}}, "source: needs a 'kind'"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, content: Any, told: str) -> None:
    message = complaint(tmp_path, content)
    assert told in message
    assert str(tmp_path / "study.yaml") in message


def test_a_wrong_kind_lists_what_there_is(tmp_path: Path) -> None:
    told = complaint(tmp_path, {"study": "x", "source": {"kind": "egg", "path": "p"}})
    assert "source.kind: 'egg' is not known" in told
    assert all(kind in told for kind in SOURCES)
    told = complaint(tmp_path, minimal(model={"architecture": {"kind": "dens"}}))
    assert "model.architecture.kind: 'dens' is not known" in told
    assert "'dense'" in told
    assert "'conv'" in told


@pytest.mark.parametrize("part", ["preprocess", "windows"])
@pytest.mark.parametrize("kind_without", ["mnist", "questionnaire"])
def test_only_eeg_is_cleaned_and_cut(tmp_path: Path, kind_without: str, part: str) -> None:
    told = complaint(tmp_path, minimal(kind_without, **{part: {}}))
    assert f"{part}: a {kind_without} study has none, remove it" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("study: [", "line 1: not readable as YAML"),
        ("study: a\n  source: b: c", "line 2: not readable as YAML"),
        ("just words", "expected keys like"),
        ("", "expected keys like"),
        ("- study: x", "expected keys like"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in complaint(tmp_path, text)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such study file; write one with 'ae-pipeline init"):
        load_study(tmp_path / "nowhere.yaml")
    with pytest.raises(StudyError, match="no such study file"):
        load_study(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(StudyError, match="not readable as YAML"):
        load_study(tmp_path / "b.yaml")


def test_outputs_that_are_no_keys_are_refused_rather_than_ignored(tmp_path: Path) -> None:
    assert "outputs: should hold keys (root)" in complaint(tmp_path, minimal(outputs="results"))


# -------------------------------------------------------------------------------- paths


def test_relative_paths_start_at_the_study_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "studies").mkdir()
    content = minimal(outputs={"root": "results"})
    content["source"]["path"] = "../recordings/*.edf"
    file = written(tmp_path / "studies", content)
    monkeypatch.chdir(tmp_path)
    for name in (file, file.relative_to(tmp_path)):
        study = load_study(name)
        assert isinstance(study.source, EegSource)
        assert study.source.path == tmp_path / "studies/../recordings/*.edf"
        assert study.outputs.root == tmp_path / "studies/results"
    default = load_study(written(tmp_path, minimal()))
    assert default.outputs.root == tmp_path / "derivatives"
    empty = load_study(written(tmp_path, minimal(outputs={"root": None})), ["outputs.root=x"])
    assert empty.outputs.root == tmp_path / "x"


def test_absolute_and_home_paths_stay(tmp_path: Path) -> None:
    content = minimal()
    content["source"]["path"] = "/data/eeg"
    assert load_study(written(tmp_path, content)).source.path == Path("/data/eeg")
    content["source"]["path"] = "~/eeg"
    assert load_study(written(tmp_path, content)).source.path == Path.home() / "eeg"
    assert load_study(written(tmp_path, minimal("mnist"))).source.path is None


# --------------------------------------------------------------------------------- --set


def test_values_are_overridden_from_the_command_line(tmp_path: Path) -> None:
    file = written(tmp_path, minimal(split=None))
    study = load_study(
        file,
        [
            "training.epochs=5",
            "training.early_stopping=null",
            "training.learning_rate=1e-4",
            "source.exclude=[ECG ECG, A1]",
            "model.architecture.channels=[4, 2]",
            "split.seed=7",
            "hypothesis='more alpha: yes'",
            "preprocess.notch=off",
        ],
    )
    assert (study.training.epochs, study.training.early_stopping) == (5, None)
    assert study.training.learning_rate == 1e-4
    assert isinstance(study.source, EegSource)
    assert study.source.exclude == ("ECG ECG", "A1")
    assert study.model.architecture == Conv(channels=(4, 2))
    assert (study.split.seed, study.hypothesis) == (7, "more alpha: yes")
    assert study.preprocess is not None
    assert study.preprocess.notch == "off"
    assert yaml.safe_load(file.read_text()) == minimal(split=None)  # the file stays as it is


def test_another_kind_set_by_hand_drops_the_fields_of_the_first(tmp_path: Path) -> None:
    # in the files that init writes, every field of the architecture is spelt out
    file = written(tmp_path, study_file(minimal("mnist")))
    overrides = ["model.architecture.kernel=3", "model.architecture.kind=conv"]
    assert load_study(file, overrides).model.architecture == Conv(kernel=3)
    same = load_study(file, ["model.architecture.kind=dense"])
    assert same == load_study(file)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "expected KEY=VALUE, for instance training.epochs=5"),
        ("=5", "expected KEY=VALUE"),
        ("study.name=x", "study has no keys of its own"),
        ("training.epochs=[", "not readable as YAML"),
        ("training.epoch=5", "did you mean 'epochs'?"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, told: str) -> None:
    assert told in complaint(tmp_path, minimal(), override)


# ------------------------------------------------------------------------ written studies


def assert_fits(text: str) -> None:
    """Every line of comment fits the screen; nothing but values is longer."""
    for line in text.splitlines():
        assert not line.endswith(" ")
        if line.lstrip().startswith("#"):
            assert len(line) <= 100, line


def same_as_given(folder: Path, text: str, given: dict[str, Any]) -> Study:
    study = load_study(written(folder, text))
    assert study == load_study(written(folder, given))
    return study


def test_a_written_study_reads_as_the_same_study(kind: str, tmp_path: Path) -> None:
    given = minimal(kind)
    if kind == "mnist":
        given["source"]["path"] = None  # not an example to fill in
    text = study_file(given)
    assert_fits(text)
    same_as_given(tmp_path, text, given)


def test_awkward_values_survive_being_written(tmp_path: Path) -> None:
    given = minimal(hypothesis="patients: 'slower' # or not\nat all")
    given["source"] |= {"subject_pattern": r"^(S\d+)[a-z]*: #", "exclude": ["no", "on", "1", "ü"]}
    given["preprocess"] = {"notch": "off", "low_pass_hz": None}
    given["training"] = {"learning_rate": 1e-5, "early_stopping": None}
    study = same_as_given(tmp_path, study_file(given), given)
    assert isinstance(study.source, EegSource)
    assert study.source.exclude == ("no", "on", "1", "ü")


def test_every_setting_of_a_kind_is_written_and_explained(kind: str) -> None:
    text = study_file(minimal(kind))
    lines = text.splitlines()
    content = yaml.safe_load(text)
    assert set(content) == set(Study.model_fields) - (
        set() if kind == "eeg" else {"preprocess", "windows"}
    )
    for number, line in enumerate(lines):
        name = line.strip().partition(":")[0]
        if line.strip() and not line.strip().startswith(("#", "-")) and name != "kind":
            assert lines[number - 1].strip().startswith("#"), f"{name} is not explained"


def test_notes_stand_beside_what_they_are_about() -> None:
    given = minimal("questionnaire")
    given["source"]["items"] = [
        {"items": [f"{block}*"], "range": [1, 5], "scale": block} for block in "AB"
    ]
    notes = {
        "source.items": "two blocks",
        "source.items.0.range": "lowest and highest found",
        "source.items.1.range": "lowest and highest found",
        "source.items.1.reverse": "reverse-keyed? B2",
    }
    lines = [line.strip() for line in study_file(given, notes).splitlines()]
    start = lines.index("items:")
    assert f"{lines[start - 2]} {lines[start - 1].strip('# ')}".endswith("Two blocks.")
    assert lines[start + 1 : start + 5] == [
        "# range: Lowest and highest found.",
        "- {items: [A*], range: [1, 5], scale: A}",
        "# reverse: Reverse-keyed? B2.",
        "- {items: [B*], range: [1, 5], scale: B}",
    ]


# --------------------------------------------------------------------------------- init


def test_init_without_data_gives_a_study_to_fill_in(kind: str, tmp_path: Path) -> None:
    text = initial_study(kind)
    assert_fits(text)
    study = load_study(written(tmp_path, text))
    assert (study.study, study.kind) == (f"my-{kind}-study", kind)


def test_init_refuses_an_unknown_kind() -> None:
    with pytest.raises(
        StudyError, match="'meg' is not installed; expected one of eeg, mnist, questionnaire"
    ):
        initial_study("meg")


def test_init_names_the_study_after_the_data(tmp_path: Path) -> None:
    for folder, name in (("März 2024", "M-rz-2024"), ("_rest.v2", "rest"), ("ßß", "study")):
        place = tmp_path / folder
        place.mkdir()
        (place / "items.csv").write_text("id,Q1,Q2\n" + "\n".join(f"p{i},1,2" for i in range(9)))
        (place / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(12))
        text = initial_study("mnist", place)
        assert load_study(written(tmp_path, text)).study == name
    assert load_study(written(tmp_path, initial_study("mnist", place, name="mine"))).study == "mine"


def test_init_on_rest_and_arithmetic_leaves_out_what_is_no_eeg(
    shared_data: Path, tmp_path: Path
) -> None:
    text = initial_study("eeg", shared_data / "eegmat")
    assert_fits(text)
    study = load_study(written(tmp_path, text))
    assert isinstance(study.source, EegSource)
    assert study.preprocess is not None
    assert set(study.source.exclude) == {"ECG ECG", "EEG A2-A1"}
    assert study.preprocess.sfreq_hz == 500
    found = subjects_of(study.source)
    assert found == {
        f"Subject{n:02d}_{part}": f"Subject{n:02d}" for n in range(6) for part in (1, 2)
    }


def test_init_on_motor_imagery_finds_one_subject(shared_data: Path, tmp_path: Path) -> None:
    text = initial_study("eeg", shared_data / "eegmmidb")
    assert_fits(text)
    study = load_study(written(tmp_path, text))
    assert isinstance(study.source, EegSource)
    assert study.preprocess is not None
    assert (study.source.exclude, study.preprocess.sfreq_hz) == ((), 160)
    assert set(subjects_of(study.source).values()) == {"S001"}
    assert study.source.subject_pattern is not None


def subjects_of(source: EegSource) -> dict[str, str]:
    from ae_pipeline.sources.eeg import find

    found = find([source.path], source.pattern, subject_pattern=source.subject_pattern)
    return {one.name: one.subject for one in found}


def test_init_on_a_survey_finds_its_blocks(shared_data: Path, tmp_path: Path) -> None:
    text = initial_study("questionnaire", shared_data / "careless" / "items.csv")
    assert_fits(text)
    source = load_study(written(tmp_path, text)).source
    assert isinstance(source, QuestionnaireSource)
    assert source.id_column == "subject"
    blocks = {block.scale: block.range for block in source.items}
    assert set(blocks) == {"7u", "7d", "gad7", "pswq", "bis", "bas", "shaps"}
    assert (blocks["gad7"], blocks["bis"]) == ((0, 3), (1, 4))
    assert "lowest and highest possible one" in text


def edf(path: Path, channels: list[str], sfreq_hz: int, seconds: int = 30) -> None:
    rng = np.random.default_rng(0)
    signals = [
        EdfSignal(
            rng.normal(0, 20, sfreq_hz * seconds),
            sfreq_hz,
            label=name,
            physical_dimension="uV",
            physical_range=(-300, 300),
        )
        for name in channels
    ]
    Edf(signals).write(path)


def test_init_takes_the_lowest_rate_and_the_channels_of_all(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    edf(data / "S01_rest.edf", ["Fz", "Cz", "Pz", "M1"], 200)
    edf(data / "S02_rest.edf", ["Fz", "Cz", "Pz", "Oz"], 100)
    (data / "S03_rest.edf").write_bytes(b"")
    text = initial_study("eeg", data)
    assert_fits(text)
    study = load_study(written(tmp_path, text))
    assert isinstance(study.source, EegSource)
    assert study.preprocess is not None
    assert study.preprocess.sfreq_hz == 100
    assert set(study.source.exclude) == {"M1", "Oz"}
    joined = " ".join(line.strip(" #") for line in text.splitlines())
    assert "1 of the files found cannot be used; the first, S03_rest.edf" in joined
    assert "Not in every recording: Oz." in joined


def test_init_fits_short_and_slow_recordings(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    edf(data / "a.edf", ["Fz", "Cz", "Pz"], 80, seconds=3)
    text = initial_study("eeg", data)
    assert_fits(text)
    study = load_study(written(tmp_path, text))
    assert study.preprocess is not None
    assert study.preprocess.high_pass_hz is not None
    assert study.preprocess.low_pass_hz is not None
    assert study.windows is not None
    assert 1.1 <= study.preprocess.high_pass_hz < 1.2  # 3.3 / 3 s
    assert study.preprocess.low_pass_hz < 40
    assert study.windows.length_s == 1.5
    assert study.windows.stride_s <= 0.75


def test_init_on_nothing_usable_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 files is a usable EEG recording"):
        initial_study("eeg", tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        initial_study("mnist", tmp_path / "nowhere")


def test_another_architecture_names_the_keys_to_drop_at_once(tmp_path: Path) -> None:
    settings = {"kind": "attention", "hidden": [64], "activation": "relu"}
    message = complaint(tmp_path, minimal(model={"architecture": settings}))
    assert "kind: attention has no hidden, activation; drop these keys" in message
    assert "unknown key" not in message
