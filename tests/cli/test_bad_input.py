"""What goes wrong gets one clear line and the right exit status; everything else is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from clinic_files import write_ant_that_crashes
from lab import noise, write_edf, write_study

from ae_pipeline import cli


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines that say what went wrong."""
        return [line for line in self.err.splitlines() if line.startswith(("error: ", "warning: "))]


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ae-pipeline", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(status, captured.out, captured.err)

    return command


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of three people, a study of them, and its trained model."""
    place = tmp_path_factory.mktemp("lab")
    write_study(place)
    argv = sys.argv
    sys.argv = ["ae-pipeline", "train", str(place / "study.yaml"), "--no-prefect"]
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        sys.argv = argv
    assert not end.value.code
    return place


@pytest.fixture(scope="module")
def model(lab: Path) -> Path:
    return lab / "derivatives/small/model"


# ------------------------------------------------------------------------- recordings


def broken_recordings(place: Path) -> dict[str, tuple[Path, str]]:
    """Each bad file and a word its message must hold."""
    whole = write_edf(place / "source.edf", noise()).read_bytes()
    files: dict[str, tuple[Path, str]] = {}

    def raw(name: str, content: bytes, word: str) -> None:
        (place / name).write_bytes(content)
        files[name] = (place / name, word)

    raw("empty.edf", b"", "empty")
    raw("text.edf", b"this is a letter, not a recording\n" * 30, "EDF")
    raw("cut.edf", whole[: 256 * 5 + 10], "truncated")
    files["short.edf"] = (write_edf(place / "short.edf", noise(seconds=2)), "3.3 s")
    emg = ("EMG1", "EMG2", "ECG", "EOG")
    files["muscles.edf"] = (write_edf(place / "muscles.edf", noise(), emg), "EEG")
    flat = np.zeros((4, 4000))
    files["flat.edf"] = (write_edf(place / "flat.edf", flat), "flat")
    files["volts.edf"] = (write_edf(place / "volts.edf", noise(), unit="V"), "unit")
    other = ("Fz", "Cz", "Pz", "C3")
    files["other.edf"] = (write_edf(place / "other.edf", noise(), other), "Oz")
    slow = write_edf(place / "slow.edf", noise(seconds=20), sfreq_hz=50)
    files["slow.edf"] = (slow, "50")
    raw("crash.cnt", write_ant_that_crashes(place).read_bytes(), "crashed")
    (place / "a.cnt").unlink()
    files["missing.edf"] = (place / "missing.edf", "no such file")
    (place / "source.edf").unlink()
    return files


def test_each_broken_recording_gets_its_line_and_the_good_ones_are_scored(
    run: Run, model: Path, tmp_path: Path
) -> None:
    bad = broken_recordings(tmp_path / "inbox")
    good = write_edf(tmp_path / "inbox/good.edf", noise(seed=9))
    inputs = [good, *(path for path, _ in bad.values())]
    outcome = run("score", "--no-prefect", "--model", model, "-o", tmp_path / "out", *inputs)
    assert outcome.status == 1
    for name, (_, word) in bad.items():
        stem = Path(name).stem
        lines = [line for line in outcome.complaints if stem in line]
        assert len(lines) == 1, (name, outcome.err)
        assert word.lower() in lines[0].lower(), (name, lines[0])
    recordings = pd.read_parquet(tmp_path / "out/recordings.parquet").set_index("recording")
    assert set(recordings.index[recordings["verdict"] == "failed"]) == {
        name if name == "missing.edf" else Path(name).stem for name in bad
    }
    assert recordings.loc["good", "verdict"] != "failed"
    scores = pd.read_parquet(tmp_path / "out/scores.parquet")
    assert set(scores["recording"]) == {"good"}
    assert not [
        p
        for p in (tmp_path / "out").rglob("*")
        if p.name.startswith(".") and p.suffix == ".parquet"
    ]


def test_a_broken_recording_does_not_stop_training(run: Run, lab: Path, tmp_path: Path) -> None:
    for file in (lab / "recordings").iterdir():
        (tmp_path / "recordings").mkdir(exist_ok=True)
        (tmp_path / "recordings" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "recordings/P07_rest.edf").write_bytes(b"nothing")
    (tmp_path / "study.yaml").write_text((lab / "study.yaml").read_text())
    outcome = run("train", "--no-prefect", tmp_path / "study.yaml")
    assert outcome.status == 1
    assert [line for line in outcome.complaints if "P07_rest" in line]
    assert (tmp_path / "derivatives/small/model/bundle.json").is_file()


def test_nothing_usable_is_one_line(run: Run, lab: Path, tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "study.yaml").write_text((lab / "study.yaml").read_text())
    outcome = run("train", "--no-prefect", tmp_path / "study.yaml")
    assert outcome.status == 1
    assert len(outcome.complaints) == 1
    assert not (tmp_path / "derivatives").exists()


# --------------------------------------------------------------------- study and bundle


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", ["training.epoch", "'epochs'"]),
        ("training.epochs=many", ["training.epochs", "many"]),
        ("training.epochs=0", ["training.epochs"]),
        ("model.architecture.kind=transformer", ["transformer", "dense"]),
        ("source.kind=meg", ["meg", "eeg"]),
        ("model.latent_dim=100000", ["latent_dim", "100000"]),
        ("windows.length_s=-1", ["windows.length_s"]),
        ("split.test=0.9", ["split"]),
        ("nonsense", ["KEY=VALUE"]),
        ("source.montage=biosem128", ["biosem128", "biosemi128"]),
        ("model.likelihood=categorical", ["likelihood", "categorical"]),
        ("model.likelihood=bernoulli", ["values of 0 to 1", "gaussian or huber"]),
        ("model.latent_dim=400", ["latent_dim: 400 is not below the input's 400"]),
        (
            "model.architecture={kind: conv, kernel: 201}",
            ["kernel: 201 exceeds the input (100)", "windows.length_s"],
        ),
        ("model.objective={kind: masked, hide: channel}", ["hide"]),
        ("model.head={kind: classify}", ["head", "target", "missing"]),
        ("model.head={kind: classify, target: age}", ["no column 'age'", "model.head.labels"]),
        ("model.head={kind: classify, target: age, from: codes}", ["from", "latents"]),
    ],
)
def test_a_wrong_study_is_one_line_and_status_2(
    run: Run, lab: Path, tmp_path: Path, override: str, words: list[str]
) -> None:
    outcome = run(
        "train", lab / "study.yaml", "--no-prefect", "--set", override, "-o", tmp_path / "out"
    )
    assert outcome.status == 2, outcome.err
    errors = [line for line in outcome.complaints if line.startswith("error")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_stops_with_status_1(run: Run, lab: Path, tmp_path: Path) -> None:
    words = ("training.optimizer=sgd", "training.learning_rate=1e30", "training.batch_size=500")
    given = [part for word in words for part in ("--set", word)]
    outcome = run("train", lab / "study.yaml", "--no-prefect", *given, "-o", tmp_path / "out")
    assert outcome.status == 1
    (line,) = [line for line in outcome.complaints if line.startswith("error")]
    assert "training stopped in epoch" in line
    assert "try training.learning_rate 1e+29" in line
    assert not (tmp_path / "out").exists()


def test_a_class_with_one_member_is_named_before_anything_is_trained(
    run: Run, lab: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("subject,group\nP00,a\nP01,a\nP02,b\n")
    head = f"model.head={{kind: classify, target: group, labels: {labels}}}"
    for command in (("validate",), ("train", "--no-prefect", "-o", tmp_path / "out")):
        outcome = run(command[0], lab / "study.yaml", *command[1:], "--set", head)
        assert outcome.status == 1
        assert any("class 'b' has one member (subject)" in line for line in outcome.complaints)
    assert not (tmp_path / "out").exists()


def test_generating_and_completing_refuse_what_cannot_be(
    run: Run, model: Path, lab: Path, tmp_path: Path
) -> None:
    recording = lab / "recordings/P00_rest.edf"
    out = tmp_path / "out.fif"
    for words, status, said in (
        (("generate", "--model", model, "--codes", "prior", "-o", out), 2, "no prior"),
        (("generate", "--model", model, "-o", tmp_path / "out.csv"), 2, "written as .fif"),
        (("generate", "--model", model, "-n", 0, "-o", out), 2, "at least 1"),
        (("complete", recording, "--model", model, "--hide", "C3", "-o", out), 2, "'C3'"),
        (("complete", lab / "none.edf", "--model", model, "-o", out), 1, "none.edf"),
        (("complete", lab / "recordings", "--model", model, "-o", out), 2, "one at a time"),
    ):
        outcome = run(*words)
        assert outcome.status == status, outcome.err
        assert said in outcome.complaints[0]
        assert not out.exists()


@pytest.mark.parametrize("content", ["", "just text", "study: [", "study: x\n"])
def test_a_file_that_is_no_study_is_one_line(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "study.yaml").write_text(content)
    outcome = run("validate", tmp_path / "study.yaml")
    assert outcome.status == 2
    assert len(outcome.complaints) == 1


def test_a_missing_study_says_how_to_get_one(run: Run, tmp_path: Path) -> None:
    outcome = run("train", tmp_path / "no.yaml")
    assert outcome.status == 2
    assert "init" in outcome.complaints[0]


def test_a_folder_that_is_no_model_is_refused(run: Run, lab: Path, tmp_path: Path) -> None:
    outcome = run("score", "--model", lab, "-o", tmp_path / "out", "x.edf", "--no-prefect")
    assert outcome.status == 2
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    (copy / "bundle.json").write_bytes((model / "bundle.json").read_bytes())
    (copy / "weights.safetensors").write_bytes((model / "weights.safetensors").read_bytes()[:-50])
    outcome = run("score", "--model", copy, "-o", tmp_path / "out", "x.edf", "--no-prefect")
    assert outcome.status == 2
    assert "damaged" in outcome.complaints[0]


# ------------------------------------------------------------------------------ outputs


def test_a_folder_with_other_things_in_it_is_never_replaced(
    run: Run, lab: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "documents/thesis.txt"
    precious.parent.mkdir()
    precious.write_text("ten years")
    outcome = run("train", lab / "study.yaml", "--no-prefect", "-o", precious.parent)
    assert outcome.status == 2
    assert "thesis.txt" in outcome.complaints[0]
    assert precious.read_text() == "ten years"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_output_is_refused(run: Run, lab: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    outcome = run("train", lab / "study.yaml", "--no-prefect", "-o", tmp_path / "closed/out")
    assert outcome.status == 2


def test_an_output_below_a_file_is_refused(run: Run, lab: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    outcome = run("train", lab / "study.yaml", "--no-prefect", "-o", tmp_path / "file/out")
    assert outcome.status == 2
    assert "is a file" in outcome.complaints[0]


def test_another_model_may_not_write_into_the_same_results(
    run: Run, lab: Path, model: Path, tmp_path: Path
) -> None:
    good = write_edf(tmp_path / "good.edf", noise(seed=5))
    out = tmp_path / "out"
    assert run("score", "--no-prefect", "--model", model, "-o", out, good).status == 0
    other = run("score", "--no-prefect", "--model", model, "-o", out, "--error-rate", 0.2, good)
    assert other.status == 2
    again = run("score", "--no-prefect", "--model", model, "-o", out, good)
    assert again.status == 0
    assert "already scored" in again.err


# -------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id,Q1,Q2\na,1,2\na,2,3\n", ["row", "id"]),
        ("id,Q1,Q2\na,1,two words\nb,2,3\n", ["Q2", "row"]),
        ("id,Q1,Q2\na,1,9\nb,2,3\n", ["Q2", "range"]),
        ("", ["empty"]),
        ("name,A,B\nx,1,2\n", ["id"]),
    ],
)
def test_a_table_that_cannot_be_used_names_column_and_row(
    run: Run, tmp_path: Path, table: str, words: list[str]
) -> None:
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "study.yaml").write_text(
        "study: answers\n"
        "source: {kind: questionnaire, path: table.csv, id_column: id, "
        'items: [{items: ["Q*"], range: [1, 5]}]}\n'
    )
    outcome = run("train", tmp_path / "study.yaml", "--no-prefect")
    assert outcome.status == 1, outcome.err
    assert len(outcome.complaints) == 1
    for word in words:
        assert word.lower() in outcome.complaints[0].lower()
    assert not (tmp_path / "derivatives").exists()


def test_unknown_commands_and_missing_options_are_one_line(run: Run, tmp_path: Path) -> None:
    for words in (["trian"], ["score", "x.edf"], ["demo", "meg"], ["data", "fetch", "mnits"]):
        outcome = run(*words)
        assert outcome.status == 2, words
        assert len([line for line in outcome.err.splitlines() if line.startswith("error")]) == 1
