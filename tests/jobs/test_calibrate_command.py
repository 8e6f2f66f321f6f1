"""Other calibration data for the same weights, other error rates for the same scores."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from edfio import Edf, EdfAnnotation, EdfSignal
from lab import NAMES, SFREQ_HZ, noise, write_edf, write_study
from safetensors.numpy import load_file

from ae_pipeline import cli
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.detectors.reach import reach
from ae_pipeline.jobs.job import Job
from ae_pipeline.jobs.recalibrate import recalibrate
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report.findings.reasons import allowed as in_words
from ae_pipeline.scoring.bundle import load

N_NORMAL = 6


def run(job: Job) -> None:
    """Every step but MLflow's."""
    for step in job.steps():
        if "MLflow" not in step.name:
            step.run()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three people, and normal recordings of six others."""
    place = tmp_path_factory.mktemp("lab")
    run(train_job(write_study(place), place / "trained"))
    for n in range(N_NORMAL):
        write_edf(place / f"normal/N{n:02d}_rest.edf", noise(seed=50 + n))
    return place


@pytest.fixture(scope="module")
def model(lab: Path) -> Path:
    return lab / "trained/model"


@pytest.fixture(scope="module")
def anew(lab: Path, model: Path) -> Path:
    out = lab / "anew"
    result = recalibrate(str(model), [str(lab / "normal")], out=out)
    assert result["failed"] == []
    assert result["n_calibration"] == N_NORMAL
    assert result["smallest_p"] == 1 / (N_NORMAL + 1)
    return out


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three hundred respondents, and the tables of others."""
    place = tmp_path_factory.mktemp("table")
    for name, n, seed in (("answers", 300, 0), ("others", 150, 1), ("more", 150, 2)):
        write_answers(place / f"{name}.csv", n, seed)
    study = place / "study.yaml"
    study.write_text(
        "study: answers\n"
        "source: {kind: questionnaire, path: answers.csv, id_column: id,\n"
        "         items: [{items: 'Q*', range: [1, 5]}]}\n"
        "model: {architecture: {kind: dense, hidden: [16]}, latent_dim: 1}\n"
        "training: {epochs: 150, early_stopping: null}\n"
    )
    run(train_job(study, place / "trained"))
    return place


def write_answers(path: Path, n: int, seed: int, careless: int = 0) -> None:
    """Answers of one trait; the first few people alternate between the ends."""
    samples = tiny.answers(n, seed)
    values = np.where(samples.mask, samples.values, np.nan)
    values[:careless] = np.where(np.arange(values.shape[1]) % 2, 1, 5)
    frame = pd.DataFrame(values, columns=list(samples.entries)).astype("Int64")
    frame.insert(0, "id", [f"{path.stem}-{i:03d}" for i in range(n)])
    frame.to_csv(path, index=False)


Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process: exit status, standard output, complaints."""

    def call(*words: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["ae-pipeline", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        lines = [x for x in err.splitlines() if x.startswith(("error: ", "warning: "))]
        return int(end.value.code or 0), out, lines

    return call


# --------------------------------------------------------------------------- calibrate


@pytest.mark.parametrize("kind", ["eeg", "questionnaire"])
def test_weights_stay_and_thresholds_and_p_values_change(
    kind: str, lab: Path, anew: Path, table: Path
) -> None:
    if kind == "eeg":
        old, new = lab / "trained/model", anew
    else:
        old, new = table / "trained/model", table / "anew"
        recalibrate(str(old), [str(table / "others.csv")], out=new)
    before, after = (load_file(folder / "weights.safetensors") for folder in (old, new))
    assert set(before) == set(after)
    for name in before:
        if not name.startswith("calibration/"):
            assert before[name].tobytes() == after[name].tobytes(), name
    first, second = load(old), load(new)
    scores = [bundle.calibration.scores["score"] for bundle in (first, second)]
    assert not np.array_equal(*scores)
    assert first.digest != second.digest
    samples = tiny.answers(50, 9) if kind == "questionnaire" else first_windows(lab)
    judged = [bundle.judge(samples).frame for bundle in (first, second)]
    np.testing.assert_array_equal(judged[0]["score"], judged[1]["score"])
    assert (judged[0]["p_value"] != judged[1]["p_value"]).any()
    if kind == "eeg":
        assert second.info.threshold == second.calibration.event_threshold(6)
        assert second.info.threshold != first.info.threshold
    left = {"threshold", "claims", "exchangeable_unit"}
    assert first.info.model_dump(exclude=left) == second.info.model_dump(exclude=left)
    unit = "subjects" if kind == "eeg" else "rows"
    assert f"Calibrated anew on {second.calibration.n_units} {unit}" in second.info.claims[0]


def first_windows(lab: Path) -> tiny.Samples:
    """Windows of a recording, cleaned as the model wants them."""
    from ae_pipeline.ingest.gather import gather
    from ae_pipeline.study import load_study

    samples = gather(load_study(lab / "study.yaml"), lambda *a: None).samples
    return samples.take(slice(0, 40))


def test_the_command_prints_what_came_out(
    command: Run, lab: Path, model: Path, tmp_path: Path
) -> None:
    words = ("calibrate", "--model", model, lab / "normal")
    status, out, complaints = command(*words, "--out", tmp_path / "new")
    assert (status, complaints) == (0, [])
    assert f"n_calibration: {N_NORMAL}" in out
    assert f"next: ae-pipeline score --model {tmp_path / 'new'}" in out
    status, out, _ = command(*words, "--out", tmp_path / "again", "--json")
    assert status == 0
    result = json.loads(out)
    assert result["threshold"] == load(tmp_path / "new").info.threshold
    for name in ("bundle.json", "weights.safetensors"):
        one, other = (tmp_path / folder / name for folder in ("new", "again"))
        assert one.read_bytes() == other.read_bytes()


def test_another_montage_is_one_line_and_leaves_nothing(
    command: Run, model: Path, tmp_path: Path
) -> None:
    normal = write_edf(tmp_path / "in/X01_rest.edf", noise(2), ("Fz", "Cz"))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="lacks 2 of the model's 4 channels"):
        recalibrate(str(model), [str(normal)], out=out)
    status, said, complaints = command("calibrate", "--model", model, "-o", out, normal)
    assert status == 1
    assert not said
    assert len(complaints) == 1
    assert "lacks 2 of the model's 4 channels (Pz, Oz)" in complaints[0]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_inputs_that_are_not_there_are_one_line(command: Run, model: Path, tmp_path: Path) -> None:
    words = ("calibrate", "--model", model, "-o", tmp_path / "out")
    status, _, complaints = command(*words, tmp_path / "nowhere")
    assert status == 1
    assert len(complaints) == 1
    assert "nowhere" in complaints[0]
    assert not list(tmp_path.iterdir())


def test_a_table_of_other_items_is_one_line(command: Run, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    pd.DataFrame({"id": range(9), "Z1": range(9)}).to_csv(other, index=False)
    words = ("calibrate", "--model", table / "trained/model", "-o", tmp_path / "out")
    status, _, complaints = command(*words, other)
    assert status == 1
    assert len(complaints) == 1
    assert "Q1" in complaints[0]
    assert [p.name for p in tmp_path.iterdir()] == ["other.csv"]


def test_a_folder_that_holds_something_is_refused_and_kept(
    command: Run, lab: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = model.joinpath("bundle.json").read_bytes()
    for out in (tmp_path, model, tmp_path / "notes.txt"):
        status, _, complaints = command("calibrate", "--model", model, "-o", out, lab / "normal")
        assert status == 2
        assert len(complaints) == 1
        assert str(out) in complaints[0]
        with pytest.raises(StudyError):
            recalibrate(str(model), [str(lab / "normal")], out=out)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert model.joinpath("bundle.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_recording_with_a_flat_channel_is_left_out_with_its_reason(
    command: Run, lab: Path, model: Path, anew: Path, tmp_path: Path
) -> None:
    signal = noise(seed=99)
    signal[2] = 0
    flat = write_edf(tmp_path / "X99_rest.edf", signal)
    out = tmp_path / "out"
    words = ("calibrate", "--model", model, "-o", out, lab / "normal", flat)
    status, said, complaints = command(*words)
    assert status == 1
    assert f"n_calibration: {N_NORMAL}" in said
    assert len(complaints) == 1
    assert "X99_rest: bad channel Pz (flat" in complaints[0]
    for name in ("bundle.json", "weights.safetensors"):  # as if it had not been named
        assert (out / name).read_bytes() == (anew / name).read_bytes()
    lone = tmp_path / "lone"
    status, _, complaints = command("calibrate", "--model", model, "-o", lone, flat)
    assert status == 1
    assert "bad channel Pz (flat" in complaints[0]
    assert not lone.exists()


def test_stretches_annotated_as_bad_calibrate_nothing(model: Path, tmp_path: Path) -> None:
    signal = noise(seed=60)
    span = slice(15 * SFREQ_HZ, 20 * SFREQ_HZ)
    signal[:, span] += 400 * np.sin(np.arange(5 * SFREQ_HZ))
    limit = float(np.abs(signal).max()) + 1
    signals = [
        EdfSignal(
            row, SFREQ_HZ, label=name, physical_dimension="uV", physical_range=(-limit, limit)
        )
        for name, row in zip(NAMES, signal, strict=True)
    ]
    file = tmp_path / "B01_rest.edf"
    Edf(signals, annotations=[EdfAnnotation(14.5, 6.0, "BAD_movement")]).write(file)
    recalibrate(str(model), [str(file)], out=tmp_path / "out")
    calibration = load(tmp_path / "out").calibration
    end = calibration.onset_s + calibration.duration_s
    assert not ((calibration.onset_s < 20.5) & (end > 14.5)).any()
    assert len(calibration.onset_s) > 50
    plain = tmp_path / "plain"
    recalibrate(str(model), [str(write_edf(tmp_path / "P01_rest.edf", noise(seed=60)))], out=plain)
    usual = load(plain).calibration.scores["score"]
    assert calibration.scores["score"].max() < 3 * usual.max()


# --------------------------------------------------------------- what it is calibrated on


@pytest.mark.parametrize("n_calibration", [1, N_NORMAL])
def test_normal_calibration_data_never_lead_to_everything_flagged(
    lab: Path, model: Path, tmp_path: Path, n_calibration: int
) -> None:
    normal = sorted(map(str, (lab / "normal").glob("*.edf")))[:n_calibration]
    recalibrate(str(model), normal, out=tmp_path / "new")
    for n in range(2):
        write_edf(tmp_path / f"in/F{n:02d}_rest.edf", noise(seed=80 + n))
    given = [str(tmp_path / "in"), normal[0]]
    run(score_job(str(tmp_path / "new"), given, out=tmp_path / "scored"))
    scores = pd.read_parquet(tmp_path / "scored/scores.parquet")
    used = scores["recording"] == "N00_rest"
    assert scores.loc[used, "flagged"].mean() < 0.01
    assert scores.loc[~used, "flagged"].mean() < 0.1
    recordings = pd.read_parquet(tmp_path / "scored/recordings.parquet")
    assert not recordings["flagged"].any()


def test_after_calibration_other_normal_rows_have_uniform_p_values(
    table: Path, tmp_path: Path
) -> None:
    model = str(table / "trained/model")
    recalibrate(model, [str(table / "others.csv")], out=tmp_path / "new")
    run(score_job(str(tmp_path / "new"), [str(table / "more.csv")], out=tmp_path / "scored"))
    persons = pd.read_csv(tmp_path / "scored/persons.csv")
    assert len(persons) == 150
    assert persons["flagged"].mean() < 0.05
    for level in (0.1, 0.3, 0.5, 0.8):
        assert (persons["p_value"] <= level).mean() == pytest.approx(level, abs=0.13)


def test_a_shifted_population_calibrates_away_its_shift(
    lab: Path, model: Path, tmp_path: Path
) -> None:
    # another amplifier: everything twice as large; as abnormal as can be until it calibrates
    for n in range(5):
        write_edf(tmp_path / f"normal/A{n:02d}_rest.edf", 2 * noise(seed=110 + n))
    new = write_edf(tmp_path / "A09_rest.edf", 2 * noise(seed=120))
    recalibrate(str(model), [str(tmp_path / "normal")], out=tmp_path / "bundle")
    shares = []
    for name, folder in (("old", model), ("new", tmp_path / "bundle")):
        run(score_job(str(folder), [str(new)], out=tmp_path / name))
        shares.append(pd.read_parquet(tmp_path / name / "scores.parquet")["flagged"].mean())
    assert shares[0] > 0.5
    assert shares[1] < 0.05


# --------------------------------------------------------------------------- error rate


def test_another_error_rate_changes_flags_and_nothing_else(
    command: Run, table: Path, tmp_path: Path
) -> None:
    write_answers(tmp_path / "in.csv", 60, 5, careless=30)
    model = table / "trained/model"
    before = (model / "weights.safetensors").read_bytes()
    frames = []
    for rate in (0.02, 0.3):
        out = tmp_path / f"at-{rate}"
        job = score_job(str(model), [str(tmp_path / "in.csv")], out=out, error_rate=rate)
        run(job)
        assert job.exit_status == 0
        frames.append(pd.read_parquet(out / "scores.parquet"))
        assert (frames[-1]["flagged"] == (frames[-1]["q_value"] <= rate)).all()
        assert f"false share at most {rate:.0%}" in (out / "pseudonymised/summary.md").read_text()
    few, more = frames
    pd.testing.assert_frame_equal(few.drop(columns="flagged"), more.drop(columns="flagged"))
    assert (few["flagged"] <= more["flagged"]).all()
    assert not few["flagged"][30:].any()
    assert more["flagged"][:30].all()
    assert more["flagged"][30:].mean() < 0.5
    assert (model / "weights.safetensors").read_bytes() == before


def test_an_error_rate_that_is_no_share_is_refused(
    command: Run, table: Path, tmp_path: Path
) -> None:
    words = ("score", "--no-prefect", "--model", table / "trained/model", "-o", tmp_path / "out")
    for rate in (0, 1.5, -0.1, "nan"):
        status, _, complaints = command(*words, table / "more.csv", "--error-rate", rate)
        assert status == 2
        assert len(complaints) == 1
        assert "expected a share between 0 and 1" in complaints[0]
    assert not list(tmp_path.iterdir())


def test_too_little_calibration_data_is_said_with_how_much_would_be_needed(
    anew: Path, tmp_path: Path
) -> None:
    new = str(write_edf(tmp_path / "F00_rest.edf", noise(seed=90)))
    run(score_job(str(anew), [new], out=tmp_path / "out"))
    said = (
        f"Cannot flag at an error rate of 0.05 with {N_NORMAL} calibration subjects (smallest "
        "p 0.14); 19 would be needed for one alone."
    )
    assert said in (tmp_path / "out/pseudonymised/summary.md").read_text()
    assert said in (tmp_path / "out/group_report.html").read_text()
    # a rate that the data can support: nothing to excuse
    run(score_job(str(anew), [new], out=tmp_path / "rough", error_rate=0.3))
    for name in ("pseudonymised/summary.md", "group_report.html"):
        assert "Cannot flag" not in (tmp_path / "rough" / name).read_text()


def test_rows_are_told_when_flags_can_begin(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(score_job(str(table / "trained/model"), [str(table / "more.csv")], out=out, error_rate=0.1))
    n = load(table / "trained/model").calibration.n_units
    allowed = reach(n, 150, error_rate=0.1)
    assert allowed.fewest == int(np.ceil(150 / (n + 1) / 0.1))
    sentence = in_words(allowed, "respondents")
    assert "flags at an error rate of 0.1 begin where" in sentence
    for name in ("pseudonymised/summary.md", "report.html"):
        assert sentence in (out / name).read_text()
