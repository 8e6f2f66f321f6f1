"""Jobs: the same numbers with Prefect and without, done once, made good after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from lab import noise, write_edf, write_study

from ae_pipeline import cli
from ae_pipeline.analysis.layers import layers_of
from ae_pipeline.jobs.job import Progress, Step, run_plainly
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.outputs import training as outputs
from ae_pipeline.scoring.bundle import load


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lab")
    run_plainly(train_job(write_study(place), place / "trained"))
    return place


@pytest.fixture(scope="module")
def results(lab: Path) -> Path:
    signal = noise(seed=7)
    signal[2, 2000:2200] += 300 * np.sin(np.arange(200))
    write_edf(lab / "new/P07_odd.edf", signal)
    write_edf(lab / "new/P08_plain.edf", noise(seed=8))
    run_plainly(score_job(str(lab / "trained/model"), [str(lab / "new")], out=lab / "scored"))
    return lab / "scored"


def test_train_leaves_every_promised_file(lab: Path) -> None:
    names = {str(p.relative_to(lab / "trained")) for p in (lab / "trained").rglob("*")}
    promised = {
        "model/bundle.json",
        "model/weights.safetensors",
        "history.csv",
        "scores.parquet",
        "latents.parquet",
        "metrics.json",
        "report.html",
        "provenance.json",
    }
    assert promised <= names
    metrics = json.loads((lab / "trained/metrics.json").read_text())
    assert metrics["epochs"] == 2
    assert metrics["parameters"] == outputs.count_parameters(load(lab / "trained/model"))
    assert np.isfinite(metrics["baselines"]["pca"]["test_loss"])
    assert set(metrics["beats_baselines"]) == {"value", "difference", "interval"}
    history = pd.read_csv(lab / "trained/history.csv")
    assert list(history) == ["epoch", "train_loss", "validation_loss", "seconds"]
    scores = pd.read_parquet(lab / "trained/scores.parquet")
    assert set(scores["part"]) == {"calibration"}  # three subjects: each left out in turn


def test_flow_and_plain_run_give_the_same_numbers(lab: Path) -> None:
    # as a command: a flow's own server leaves its address in the environment of its process
    command = Path(sys.executable).with_name("ae-pipeline")
    words = [str(command), "train", str(lab / "study.yaml"), "-o", str(lab / "by-prefect")]
    with (lab / "output.txt").open("wb") as output:
        done = subprocess.run(
            words, stdout=output, stderr=output, start_new_session=True, timeout=150, check=False
        )
    assert done.returncode == 0, (lab / "output.txt").read_text()
    plain, flow = lab / "trained", lab / "by-prefect"
    for name in ("scores.parquet", "latents.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(plain / name), pd.read_parquet(flow / name))
    for name in ("bundle.json", "weights.safetensors"):
        assert (plain / "model" / name).read_bytes() == (flow / "model" / name).read_bytes()
    timeless = [json.loads((f / "metrics.json").read_text()) for f in (plain, flow)]
    assert timeless[0] | {"seconds": 0} == timeless[1] | {"seconds": 0}


def test_another_seed_gives_other_numbers(lab: Path, tmp_path: Path) -> None:
    run_plainly(train_job(lab / "study.yaml", tmp_path / "other", overrides=["training.seed=1"]))
    same = pd.read_parquet(lab / "trained/scores.parquet")["score"]
    other = pd.read_parquet(tmp_path / "other/scores.parquet")["score"]
    assert not np.allclose(same, other)


def test_what_is_done_is_not_done_again_and_other_settings_replace_it(
    lab: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_plainly(train_job(lab / "study.yaml", out))
    weights = (out / "model/weights.safetensors").stat()
    steps = [step.name for step in _run_noting(train_job(lab / "study.yaml", out))]
    assert steps == ["read the data", "publish to MLflow"]
    assert (out / "model/weights.safetensors").stat().st_mtime_ns == weights.st_mtime_ns
    run_plainly(train_job(lab / "study.yaml", out, overrides=["model.latent_dim=2"]))
    assert load(out / "model").info.model.latent_dim == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # no trace of the work


def _run_noting(job: object) -> list[Step]:
    steps = []
    for step in job.steps():  # type: ignore[attr-defined]
        step.run()
        steps.append(step)
    return steps


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    class Stops(Progress):
        def training(self, event: object) -> None:
            if getattr(event, "batch", None) == 1 and event.epoch == 4:  # type: ignore[attr-defined]
                raise Killed

    from ae_pipeline.training import loop as train

    kept = {**train.fit.__kwdefaults__, "checkpoint_every_s": 0.0}
    monkeypatch.setattr(train.fit, "__kwdefaults__", kept)
    overrides = ["training.epochs=5"]
    out = tmp_path / "out"
    with pytest.raises(Killed):
        run_plainly(train_job(lab / "study.yaml", out, overrides=overrides, progress=Stops()))
    assert not out.exists()
    seen: list[int] = []

    class Notes(Progress):
        def training(self, event: object) -> None:
            if hasattr(event, "is_best"):
                seen.append(event.epoch)

    run_plainly(train_job(lab / "study.yaml", out, overrides=overrides, progress=Notes()))
    assert seen == [4, 5]
    run_plainly(train_job(lab / "study.yaml", tmp_path / "whole", overrides=overrides))
    weights = [(p / "model/weights.safetensors").read_bytes() for p in (out, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_score_leaves_files_that_mne_and_pandas_read(results: Path) -> None:
    recordings = pd.read_parquet(results / "recordings.parquet")
    assert list(recordings["recording"]) == ["P07_odd", "P08_plain"]  # worst first
    scores = pd.read_parquet(results / "scores.parquet")
    assert len(scores) == 2 * 79
    odd = scores[scores["recording"] == "P07_odd"]
    worst = odd.loc[odd["score"].idxmax()]
    assert 18.9 <= worst["onset_s"] <= 22
    assert worst["top_channel"] == "Pz"
    events = pd.read_csv(results / "P07_odd_desc-anomaly_events.tsv", sep="\t")
    strongest = events.loc[events["score"].idxmax()]
    assert strongest["onset"] < 22
    assert strongest["onset"] + strongest["duration"] > 20
    assert strongest["channel"].split(",")[0] == "Pz"
    annotations = mne.read_annotations(results / "P07_odd_desc-anomaly_annot.fif")
    np.testing.assert_allclose(annotations.onset, events["onset"], atol=1e-3)
    assert list(annotations.description) == list(events["trial_type"])
    assert not any(d.startswith("BAD") for d in annotations.description)
    clean = mne.read_annotations(results / "P08_plain_desc-anomaly_annot.fif")
    assert len(clean) == len(pd.read_csv(results / "P08_plain_desc-anomaly_events.tsv", sep="\t"))
    latents = pd.read_parquet(results / "latents.parquet")
    assert list(latents)[-3:] == ["z00", "z01", "z02"]
    assert np.isfinite(scores.filter(like="score").to_numpy()).all()


def test_scores_do_not_depend_on_what_else_is_scored(
    lab: Path, results: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    file = str(lab / "new/P08_plain.edf")
    run_plainly(score_job(str(lab / "trained/model"), [file], out=alone))
    together = pd.read_parquet(results / "scores.parquet")
    together = together[together["recording"] == "P08_plain"].reset_index(drop=True)
    columns = [c for c in together if c.startswith("score")] + ["p_value"]
    own = pd.read_parquet(alone / "scores.parquet")
    np.testing.assert_allclose(own[columns], together[columns], atol=1e-5)


def test_a_second_call_adds_and_rebuilds_the_group(lab: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", str(lab / "trained/model")
    write_edf(lab / "new/P07_odd.edf", noise(seed=7))
    write_edf(lab / "new/P08_plain.edf", noise(seed=8))
    run_plainly(score_job(model, [str(lab / "new/P07_odd.edf")], out=out))
    before = (out / "P07_odd_scores.parquet").stat().st_mtime_ns
    run_plainly(score_job(model, [str(lab / "new")], out=out))
    assert (out / "P07_odd_scores.parquet").stat().st_mtime_ns == before
    assert set(pd.read_parquet(out / "scores.parquet")["recording"]) == {"P07_odd", "P08_plain"}
    assert len(pd.read_parquet(out / "recordings.parquet")) == 2


def test_an_input_whose_output_was_lost_is_scored_again(lab: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", str(lab / "trained/model")
    file = write_edf(tmp_path / "P09_rest.edf", noise(seed=9))
    run_plainly(score_job(model, [str(file)], out=out))
    (out / "P09_rest_report.html").unlink()
    run_plainly(score_job(model, [str(file)], out=out))
    assert (out / "P09_rest_report.html").is_file()


def test_identities_stay_here(lab: Path, results: Path) -> None:
    for shared in (lab / "trained/pseudonymised", results / "pseudonymised"):
        assert (shared / "summary.md").is_file()
        for file in shared.rglob("*"):
            if file.suffix == ".parquet":
                text = pd.read_parquet(file).to_csv()
            else:
                text = file.read_text(errors="replace") if file.is_file() else ""
            assert "P00_rest" not in text, file
            assert "P07" not in text, file
    bundle = (lab / "trained/model/bundle.json").read_text()
    assert "P00" not in bundle
    assert str(lab) not in bundle


def test_layers_sum_up_to_the_parameters(lab: Path) -> None:
    bundle = load(lab / "trained/model")
    assert sum(n for _, _, n in layers_of(bundle)) == outputs.count_parameters(bundle)


def test_raw_data_is_never_touched(lab: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (lab / "recordings").iterdir()}
    run_plainly(train_job(lab / "study.yaml", lab / "again"))
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (lab / "recordings").iterdir()}
    assert before == after


def test_evaluate_prints_areas_events_and_kinds(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = tmp_path / "events.tsv"
    truth.write_text(
        "recording\tonset\tduration\ttrial_type\tchannel\nP07_odd\t20\t2\tanomaly/pop\tPz\n"
    )
    scores = results / "scores.parquet"
    argv = ["ae-pipeline", "evaluate", "--scores", str(scores), "--truth", str(truth)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    printed = capsys.readouterr().out
    for word in ("score_pca", "any_overlap", "szcore", "anomaly/pop", "1 of 1 events"):
        assert word in printed
