"""A challenger against the champion: which flags change, and who promotes."""

from __future__ import annotations

from pathlib import Path

import lab
import pandas as pd
import pytest

from ae_pipeline.config import StudyError
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.night import night_job
from ae_pipeline.jobs.retrain import changes, retrain_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.tracking.registry import aliases, promote
from ae_pipeline.tracking.settings import load_settings


def test_every_flag_that_changes_is_listed(tmp_path: Path) -> None:
    for name, flagged in (("old", [True, False, False]), ("new", [False, False, True])):
        (tmp_path / name).mkdir()
        frame = pd.DataFrame({"recording": ["a", "b", "c"], "score": [1.0, 2, 3]})
        frame["p_value"], frame["flagged"] = 0.5, flagged
        frame.to_parquet(tmp_path / name / "recordings.parquet")
    table = changes(tmp_path / "old", tmp_path / "new")
    assert table["changes"].tolist() == [True, True, False]
    assert table["recording"].tolist() == ["a", "c", "b"]
    assert table["champion_flagged"].tolist() == [True, False, False]
    assert table["challenger_flagged"].tolist() == [False, True, False]


@pytest.mark.slow
def test_a_challenger_is_compared_and_a_person_promotes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = lab.write_study(tmp_path)
    (tmp_path / "mlflow.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    with study.open("a") as file:
        file.write("operation: {inbox: inbox, settle_s: 0, reference: reference}\n")
    (tmp_path / "inbox").mkdir()
    lab.write_edf(tmp_path / "reference/P90_rest.edf", lab.noise(seed=90, seconds=8))
    lab.write_edf(tmp_path / "inbox/P91_rest.edf", lab.noise(seed=91, seconds=8))
    settings = load_settings()
    first = train_job(study)
    run_plainly(first)
    name = "small"
    version = aliases(settings, name)["newest"]
    with pytest.raises(StudyError, match="why"):
        promote(settings, f"models:/{name}@newest", reason=" ")
    promoted = promote(settings, str(first.out / "model"), reason="the first")
    assert promoted == {"name": name, "version": version, "replaced": None}

    night = night_job(study)
    run_plainly(night)
    assert night.pin.version == "champion"
    study.write_text(study.read_text().replace("epochs: 2", "epochs: 3"))
    job = retrain_job(study)
    run_plainly(job)
    assert job.exit_status == 0
    place = Path(job.result["comparison"])
    page = place.read_text()
    assert "of 1 flags would change" in page
    shared = (place.parent / "pseudonymised/comparison.html").read_text()
    assert "P90" not in shared
    there = aliases(settings, name)
    assert there["champion"] == version
    assert there["challenger"] != version

    moved = promote(settings, f"models:/{name}@challenger", reason="sees more")
    assert moved["replaced"] == version
    assert aliases(settings, name)["former"] == version
    again = night_job(study)
    run_plainly(again)
    assert again.night.unchanged == 1, "a new champion rescores nothing"
    with pytest.raises(StudyError, match="expected models:/"):
        promote(settings, "nowhere", reason="because")
