"""Results are BIDS derivatives: the official validator finds no error in them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import edf_files
import numpy as np
import pandas as pd
import pytest
import tiny
from lab import noise

from ae_pipeline.jobs.score import score_job
from ae_pipeline.scoring import bundle as bundles

LAYOUTS = ("flat", "nested", "bids", "table")


def recording(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = noise(seconds=30, seed=seed)
    values[1] = 0
    edf_files.write_edf(path, values, list(tiny.CHANNELS))


def laid_out(root: Path, layout: str) -> Path:
    """Inputs in one of the layouts, one of them broken."""
    root.mkdir()
    if layout == "table":
        samples = tiny.answers(60, seed=5)
        frame = pd.DataFrame(np.asarray(samples.values), columns=samples.entries)
        frame.where(np.asarray(samples.mask)).to_csv(root / "answers.csv", index=False)
        return root
    for subject in (1, 2):
        for session in (1, 2):
            name = {
                "flat": f"P{subject:02d}_{session}.edf",
                "nested": f"P{subject:02d}/day {session}.edf",
                "bids": f"sub-{subject:02d}/ses-{session}/eeg/"
                f"sub-{subject:02d}_ses-{session}_task-rest_run-1_eeg.edf",
            }[layout]
            recording(root / name, seed=10 * subject + session)
    broken = "sub-03/eeg/sub-03_task-rest_eeg.edf" if layout == "bids" else "broken.edf"
    (root / broken).parent.mkdir(parents=True, exist_ok=True)
    (root / broken).write_bytes(b"nothing of the kind")
    if layout == "bids":
        about = {"Name": "x", "BIDSVersion": "1.9.0", "DatasetDOI": "doi:10.1000/182"}
        (root / "dataset_description.json").write_text(json.dumps(about))
    return root


@pytest.fixture(scope="module", params=LAYOUTS)
def scored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A layout, and the results of what is laid out so."""
    place = tmp_path_factory.mktemp("derivatives")
    kind = "table" if request.param == "table" else "eeg"
    bundles.save(place / "model", getattr(tiny, kind)().bundle)
    inputs = laid_out(place / "in", request.param)
    job = score_job(str(place / "model"), [str(inputs)], out=place / "out")
    for step in list(job.steps())[:-1]:  # all but publishing
        step.run()
    assert job.exit_status == (kind == "eeg")
    return request.param, place / "out"


def validator() -> list[str]:
    """The validator's command; its wheel and deno's bring all of it, so that it runs offline."""
    package = pytest.importorskip("bids_validator_deno", reason="bids-validator-deno is missing")
    deno = pytest.importorskip("deno", reason="deno, which runs the validator, is missing")
    try:
        runtime = os.fsdecode(deno.find_deno_bin())
    except FileNotFoundError as error:
        pytest.skip(f"deno, which runs the validator, is missing: {error}")
    script = Path(package.__file__).with_name("bids-validator.js")
    return [runtime, "run", "--allow-read", "--allow-env", "--allow-write", str(script)]


def test_the_validator_finds_no_error(scored: tuple[str, Path], tmp_path: Path) -> None:
    layout, out = scored
    ran = subprocess.run(
        [*validator(), str(out), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "DENO_DIR": str(tmp_path), "DENO_NO_UPDATE_CHECK": "1"},
    )
    issues = json.loads(ran.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"]
    # nobody told us the authors, and results of other inputs have no folders by subject
    others = {issue["code"] for issue in issues} - {"TOO_FEW_AUTHORS"}
    assert others == (set() if layout == "bids" else {"SUBJECT_FOLDERS"})


def test_the_source_is_named_where_it_is_a_data_set(scored: tuple[str, Path]) -> None:
    layout, out = scored
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "ae-pipeline"
    source = {"URL": (out.parent / "in").as_uri(), "DOI": "doi:10.1000/182"}
    assert about.get("SourceDatasets") == ([source] if layout == "bids" else None)


def test_events_stand_once_and_locks_are_gone(scored: tuple[str, Path]) -> None:
    layout, out = scored
    assert not list(out.rglob("*.lock"))
    events = sorted(file.relative_to(out).parent for file in out.rglob("*_events.tsv"))
    folders = [f"sub-{s:02d}/ses-{t}/eeg" for s in (1, 2) for t in (1, 2)]
    expected = {"bids": folders, "table": []}.get(layout, ["."] * 4)
    assert [folder.as_posix() for folder in events] == expected
    for file in out.rglob("*_channels.tsv"):
        status = pd.read_csv(file, sep="\t").set_index("name")["status"]
        assert status.to_dict() == {"Fz": "good", "Cz": "bad", "Pz": "good", "Oz": "good"}
