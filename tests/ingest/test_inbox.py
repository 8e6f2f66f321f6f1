"""An inbox, night after night: real recordings, a real model, every result exactly once."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import lab
import pytest

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inbox import open_inbox
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.night import NightJob, _job, night_job
from ae_pipeline.jobs.status import overview, study_of, why
from ae_pipeline.jobs.train import train_job
from ae_pipeline.runtime import files as folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, its model, and no inbox yet."""
    place = tmp_path_factory.mktemp("lab")
    study = lab.write_study(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE_PIPELINE_CACHE", str(place / "cache"))
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)
        patch.chdir(place)
        (place / "mlflow.yaml").touch()
        run_plainly(train_job(study))
        operate(place)
        for number in range(2):
            arrive(place, f"N{number:02d}_rest", seed=50 + number)
        shutil.copytree(place, place / "before", ignore=shutil.ignore_patterns("before", "cache"))
        assert len(night(place).night.scored) == 2
        shutil.move(place / "before", place.parent / f"{place.name}-before")
    return place


AWAY = "postgresql://nobody@127.0.0.1:9/none"
"""An MLflow that is not there, as may be, and where that is known at once."""


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with an inbox of two recordings and nothing scored yet."""
    return elsewhere(trained.parent / f"{trained.name}-before", tmp_path, monkeypatch)


@pytest.fixture
def after(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The morning after the first night."""
    return elsewhere(trained, tmp_path, monkeypatch)


def elsewhere(there: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(there, here, dirs_exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(here / "cache"))
    return here


def operate(place: Path, **more: Any) -> None:
    """Write the ``operation`` part of the study."""
    study = place / "study.yaml"
    kept = [line for line in study.read_text().splitlines() if not line.startswith("operation")]
    operation = {"inbox": "inbox", "settle_s": 0, **more}
    study.write_text("\n".join([*kept, f"operation: {json.dumps(operation)}"]) + "\n")


def arrive(place: Path, name: str, seed: int = 0) -> Path:
    return lab.write_edf(place / f"inbox/{name}.edf", lab.noise(seconds=5, seed=seed))


def night(place: Path, **how: Any) -> NightJob:
    _job.cache_clear()
    job = night_job(place / "study.yaml", **how)
    run_plainly(job)
    return job


def results(place: Path) -> dict[str, int]:
    """Every result and when it was written."""
    found = place.glob("derivatives/small-inbox/small-*/*_provenance.json")
    return {f"{f.parent.name}/{f.name}": f.stat().st_mtime_ns for f in found}


def rewritten(before: dict[str, int], after: dict[str, int]) -> set[str]:
    both = {name.partition("/")[2].removesuffix("_provenance.json"): name for name in after}
    return {short for short, name in both.items() if before.get(name) != after[name]}


def test_the_first_night_scores_all_and_the_second_nothing(place: Path) -> None:
    (place / "inbox/N09_rest.edf").write_bytes(b"no recording")
    (place / "expected.tsv").write_text("participant_id\tage\nN00\t1\nN01\t1\nN07\t1\n")
    operate(place, expected="expected.tsv")
    first = night(place)
    assert first.exit_status == 1
    assert first.night.scored == ("N00_rest", "N01_rest")
    assert "N09_rest.edf" in first.night.failed["N09_rest"]
    assert first.result["verdict"] == "2 scored, 1 failed; expected 3, arrived 2: N07 missing."
    before = results(place)
    assert len(before) == 3

    second = night(place)
    assert second.exit_status == 0
    assert second.result["verdict"] == "Nothing new; expected 3, arrived 2: N07 missing."
    assert second.night.unchanged == 2
    assert list(second.night.set_aside) == ["N09_rest"]
    assert results(place) == before


def test_touched_is_not_scored_and_changed_is_scored_alone(after: Path) -> None:
    before = results(after)
    os.utime(after / "inbox/N00_rest.edf")
    assert not night(after).todo
    assert results(after) == before
    arrive(after, "N01_rest", seed=99)
    lines = why(open_inbox(after / "study.yaml"), after / "inbox/N01_rest.edf")
    assert any("changed: inputs (the content" in line for line in lines), lines
    job = night(after)
    assert job.night.scored == ("N01_rest",)
    assert rewritten(before, results(after)) == {"N01_rest"}
    lines = why(open_inbox(after / "study.yaml"), after / "inbox/N01_rest.edf")
    assert "because its content changed" in lines[1]
    assert "nothing" in lines[2]
    with pytest.raises(InputError, match="no input of the inbox"):
        why(open_inbox(after / "study.yaml"), after / "elsewhere.edf")


def test_equal_size_and_time_are_not_read_unless_asked(after: Path) -> None:
    file = after / "inbox/N01_rest.edf"
    was = file.stat()
    content = bytearray(file.read_bytes())
    content[-100:-50] = bytes(50)
    file.write_bytes(bytes(content))
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert not night(after).todo
    assert night(after, verify=True).night.scored == ("N01_rest",)


def test_what_is_being_written_waits_and_a_clock_set_back_does_not_matter(place: Path) -> None:
    operate(place, settle_s=60)
    day = timedelta(days=1).total_seconds()
    for name, age in (("N00_rest", -day), ("N01_rest", 0)):
        moment = time.time() - age
        os.utime(place / f"inbox/{name}.edf", (moment, moment))
    job = night(place)
    assert job.night.scored == ("N00_rest",)
    assert job.night.writing == ("N01_rest",)
    assert "1 still being written" in job.result["verdict"]
    os.utime(place / "inbox/N01_rest.edf", (time.time() - day,) * 2)
    assert night(place).night.scored == ("N01_rest",)

    last = job.inbox.nights()[-1][0] / "night.json"
    ahead = datetime.now().astimezone() + timedelta(days=2)
    last.write_text(json.dumps({**json.loads(last.read_text()), "began": ahead.isoformat()}))
    job = night(place)
    assert "set back" in job.night.notes[0]
    assert job.folder == job.inbox.nights()[-1][0], "later runs still sort last"


def test_a_broken_file_is_tried_again_only_when_it_changes(place: Path) -> None:
    file = place / "inbox/N09_rest.edf"
    file.write_bytes(b"no recording")
    assert list(night(place).night.failed) == ["N09_rest"]
    before = results(place)
    os.utime(file)
    assert not night(place).todo
    shutil.rmtree(place / "derivatives/small-inbox/.seen")
    assert not night(place).todo
    assert results(place) == before
    arrive(place, "N09_rest")
    assert night(place).night.scored == ("N09_rest",)


def test_the_results_are_the_record_and_the_cache_can_be_lost(after: Path) -> None:
    before = results(after)
    shutil.rmtree(after / "derivatives/small-inbox/.seen")
    assert not night(after).todo
    assert results(after) == before
    next(after.glob("derivatives/small-inbox/small-*/N01_rest_scores.parquet")).unlink()
    assert night(after).night.scored == ("N01_rest",)
    assert rewritten(before, results(after)) == {"N01_rest"}


def another_model(model: Path, new: Path) -> None:
    """The same weights under another description: another digest."""
    if new != model:
        shutil.copytree(model, new)
    content = json.loads((new / "bundle.json").read_text())
    content["claims"] = [*content["claims"], f"Made for {new.parent.name}."]
    (new / "bundle.json").write_text(json.dumps(content))


def test_another_model_scores_what_is_new_and_an_archive_only_when_asked(after: Path) -> None:
    before = results(after)
    first = open_inbox(after / "study.yaml").pin()
    assert first is not None
    own = after / "derivatives/small/model"
    another_model(own, after / "other/model")
    another_model(own, own)  # the study's own model is trained anew: the copy stays
    arrive(after, "N03_rest", seed=3)
    assert night(after).night.model_id == first.model_id

    operate(after, model="other/model")
    assert "model_asked" in overview(open_inbox(after / "study.yaml"))
    arrive(after, "N04_rest", seed=4)
    job = night(after)
    assert job.night.scored == ("N04_rest",)
    assert job.night.model_id != first.model_id
    then = results(after)
    assert {name for name in before if then[name] == before[name]} == set(before)

    backfill = night(after, since=date.today())
    assert set(backfill.night.scored) == {"N00_rest", "N01_rest", "N03_rest"}
    assert {n for n in then if results(after)[n] == then[n]} == set(then)
    assert not night(after, since=date.today()).todo
    assert not night(after, until=date(2020, 1, 1)).todo

    other = night(after, model=str(own))
    assert len(other.night.scored) == 4
    assert not night(after).todo, "the inbox keeps to its own model"
    assert not night(after, model=str(own)).todo


def test_a_newer_version_of_a_step_rescores_only_by_backfill(
    after: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(folder.STEP_VERSION, "score", folder.STEP_VERSION["score"] + 1)
    for lost in (False, True):
        if lost:
            shutil.rmtree(after / "derivatives/small-inbox/.seen")
        job = night(after)
        assert not job.todo
        assert len(job.night.older) == 2
    said = overview(open_inbox(after / "study.yaml"))
    assert said["states"] == "2 older"
    assert "--from" in said["inputs"][0]["because"]
    lines = why(open_inbox(after / "study.yaml"), after / "inbox/N00_rest.edf")
    assert any(line.startswith("changed: version") for line in lines)
    assert len(night(after, since=date.today()).night.scored) == 2
    assert night(after).night.unchanged == 2


def test_runs_that_did_not_happen_or_did_not_end_are_said(place: Path) -> None:
    operate(place, schedule="0 2 * * *")
    first = night(place)
    file = first.folder / "night.json"
    then = datetime.now().astimezone() - timedelta(days=3)
    record = {**json.loads(file.read_text()), "began": then.isoformat(), "status": "begun"}
    file.write_text(json.dumps(record))
    job = night(place)
    assert 2 <= len(job.night.missed_runs) <= 3
    assert all(moment.endswith("02:00") for moment in job.night.missed_runs)
    assert job.night.killed_runs == (then.isoformat(),)
    text = (job.folder / "digest.md").read_text()
    assert "did not happen" in text
    assert "Ended before it was done" in text
    assert not night(place).night.missed_runs
    assert not night(place).night.killed_runs


def test_only_one_run_at_a_time(place: Path) -> None:
    with folder.held(place / "derivatives/small-inbox/.night.lock") as mine:
        assert mine
        job = night(place)
    assert "Another run is at work" in job.result["verdict"]
    assert job.summary() == job.result["verdict"]
    assert not results(place)
    assert len(night(place).night.scored) == 2


def test_a_file_that_changes_while_it_is_read_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ae_pipeline.jobs.score import ScoreJob

    score = ScoreJob.score_input

    def and_then_it_grows(self: ScoreJob, item: Any, *rest: Any) -> None:
        score(self, item, *rest)
        if item.name == "N01_rest":
            with item.path.open("ab") as file:
                file.write(bytes(100))

    monkeypatch.setattr(ScoreJob, "score_input", and_then_it_grows)
    job = night(place)
    assert job.night.scored == ("N00_rest",)
    assert job.night.writing == ("N01_rest",)
    assert not any("N01" in name for name in results(place))


def test_names_are_kept_apart_and_inside_the_folder(after: Path) -> None:
    before = results(after)
    # files of one BIDS name in two folders, and names that mean harm
    for name in ("a/sub-01_eeg", "b/sub-01_eeg", "<img src=x>", "$(id);.."):
        arrive(after, name, seed=len(name))
    job = night(after)
    assert not job.night.failed
    assert len(job.night.scored) == 4
    then = results(after)
    assert len(then) == len(before) + 4
    assert {name for name in before if then[name] == before[name]} == set(before)
    inside = (after / "inbox", after / "derivatives", after / "cache")
    for file in after.rglob("*"):
        if "img" in file.name or "(id)" in file.name:
            assert any(folder in file.parents for folder in inside)
    page = (after / "derivatives/small-inbox/digest.html").read_text()
    assert "<img src=x>" not in page
    assert not night(after).todo


def test_a_link_in_the_results_is_replaced_and_not_followed(after: Path) -> None:
    victim = after / "victim"
    victim.write_text("precious")
    result = next(after.glob("derivatives/small-inbox/small-*/N00_rest_bads.tsv"))
    result.unlink()
    result.symlink_to(victim)
    arrive(after, "N00_rest", seed=77)
    assert night(after).night.scored == ("N00_rest",)
    assert victim.read_text() == "precious"
    assert not result.is_symlink()


def test_the_digest_that_leaves_names_nobody(place: Path) -> None:
    (place / "inbox/Nadia_rest.edf").write_bytes(b"no recording")
    (place / "expected.txt").write_text("N00\nBorodin\n")
    hook = [sys.executable, "-c", "import sys; open('told', 'w').write(sys.stdin.read())"]
    operate(place, expected="expected.txt", hook=hook)
    job = night(place)
    local = (job.folder / "digest.html").read_text()
    assert "Nadia_rest" in local
    assert "Borodin" in local
    shared = [f.read_text() for f in (job.folder / "pseudonymised").rglob("*") if f.is_file()]
    shared += [(place / "told").read_text(), job.summary()]
    for text in shared:
        for name in ("Nadia", "Borodin", "N00_rest", str(place)):
            assert name not in text
    assert not re.search(r"\b2 missing", shared[0])  # a pseudonym may end with a 2
    assert (place / "told").read_text() == job.summary()


def test_a_hook_that_fails_is_a_warning(after: Path, caplog: pytest.LogCaptureFixture) -> None:
    for hook in (["no-such-command"], [sys.executable, "-c", "raise SystemExit(3)"]):
        operate(after, hook=hook)
        assert night(after).exit_status == 0
    said = [line for line in caplog.messages if line.startswith("operation.hook")]
    assert "no-such-command" in said[0]
    assert "exit status 3" in said[1]


def test_expected_lists_of_all_forms(after: Path) -> None:
    for text, sentence in (
        ("N00_rest\nN01_rest\n", "expected 2, arrived 2"),
        ("# who\nN00\nN05\nN06\n", "expected 3, arrived 1: N05, N06 missing"),
        ("age,subject\n3,N01\n4,N08\n", "expected 2, arrived 1: N08 missing"),
    ):
        (after / "list").write_text(text)
        operate(after, expected="list")
        assert overview(open_inbox(after / "study.yaml"))["expected"] == sentence
    (after / "list").write_text("\n")
    with pytest.raises(StudyError, match="lists nothing"):
        night(after)


def test_a_study_without_inbox_says_what_to_add(after: Path) -> None:
    text = "\n".join(
        line
        for line in (after / "study.yaml").read_text().splitlines()
        if not line.startswith("operation")
    )
    (after / "study.yaml").write_text(text)
    with pytest.raises(StudyError, match="operation: {inbox: FOLDER}"):
        open_inbox(after / "study.yaml")
    operate(after, inbox="nowhere")
    with pytest.raises(StudyError, match="is no folder"):
        open_inbox(after / "study.yaml")
    for wrong, said in (
        ({"schedule": "at night"}, "no schedule"),
        ({"time_zone": "Vienna"}, "no time zone"),
        ({"runner": "threads"}, "runner"),
        ({"runner": {"kind": "dask", "scheduler": "here"}}, "scheduler"),
    ):
        operate(after, **wrong)
        with pytest.raises(StudyError, match=said):
            open_inbox(after / "study.yaml")


def test_the_study_of_an_inbox_is_known_once_it_has_run(after: Path) -> None:
    night(after)
    assert study_of(after / "inbox/N00_rest.edf") == after / "study.yaml"
    with pytest.raises(StudyError, match="--study"):
        study_of(after / "N00_rest.edf")
