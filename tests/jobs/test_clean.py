"""What clean removes, and what it must not touch."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from runs import all_runs, run_folder

from ae_pipeline.cli.operation import clean
from ae_pipeline.jobs.clean import leftovers, remove
from ae_pipeline.runtime.files import sweep
from ae_pipeline.tracking.commands import deleted_runs
from ae_pipeline.tracking.connection import connected
from ae_pipeline.tracking.publishing import publish
from ae_pipeline.tracking.settings import load_settings

OLD = time.time() - 40 * 24 * 3600
DEAD = 4194303
"""A process number that Linux does not give by default."""


def old(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    for each in (path, path.parent):
        os.utime(each, (OLD, OLD))
    return path


def test_only_what_nobody_needs_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    root, outside = tmp_path / "derivatives", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    kept = [
        old(root / "small/scores.parquet"),
        old(root / f".{os.getpid()}-0a1b2c3d.alive.tsv"),
        old(root / ".hidden-by-somebody/file"),
        outside / "precious",
    ]
    (root / ".small.0123456789ab").mkdir()
    (root / ".small.0123456789ab/checkpoint.safetensors").write_bytes(b"young")
    kept.append(root / ".small.0123456789ab/checkpoint.safetensors")
    gone = [
        old(root / f"small-inbox/m/.{DEAD}-0a1b2c3d.x_scores.parquet"),
        old(root / ".other.0123456789ab/checkpoint.safetensors").parent,
        old(tmp_path / "cache/signals/abc/signal.npy").parent,
    ]
    (root / f".{DEAD}-0a1b2c3e.link").symlink_to(outside)
    os.utime(root / f".{DEAD}-0a1b2c3e.link", (OLD, OLD), follow_symlinks=False)
    found = leftovers([root])
    assert {each.path for each in found} == {*gone, root / f".{DEAD}-0a1b2c3e.link"}
    assert all(each.why for each in found)
    remove(found)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    assert leftovers([root]) == []


def test_what_is_young_may_be_another_machines(tmp_path: Path) -> None:
    young = tmp_path / f".{DEAD}-0a1b2c3d.scores.parquet"
    young.touch()
    assert sweep(tmp_path) == []
    assert sweep(tmp_path, older_s=0) == [young]
    assert not young.exists()


def test_a_dry_run_only_says_and_a_real_one_removes_runs_deleted_in_mlflow_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cleaned(days: float, dry_run: bool, as_json: bool = False) -> str:
        """What the command says."""
        clean(None, days, dry_run, as_json)
        out, err = capsys.readouterr()
        assert err == ""
        return out

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mlflow.yaml").touch()
    assert cleaned(30, dry_run=True) == "nothing to remove\n"
    assert not (tmp_path / "data").exists()  # looking makes no database
    settings = load_settings(tmp_path)
    published = [
        publish(run_folder(tmp_path / name, key=name), settings) for name in ("one", "two")
    ]
    half = old(tmp_path / f"derivatives/.{DEAD}-0a1b2c3d.scores.parquet")
    with connected(settings) as client:
        client.delete_run(published[0].run_id)
        gone = Path(client.get_run(published[0].run_id).info.artifact_uri.removeprefix("file://"))
        kept = Path(client.get_run(published[1].run_id).info.artifact_uri.removeprefix("file://"))
    assert any(gone.rglob("*"))

    said = cleaned(0, dry_run=True)
    assert published[0].run_id in said
    assert str(half) in said
    assert "2 leftovers" in said
    assert "would be removed" in said
    assert half.exists()
    assert any(gone.rglob("*"))
    assert deleted_runs(settings, 30) == []

    told = json.loads(cleaned(0, dry_run=False, as_json=True))
    assert told["removed"]
    assert told["mlflow_runs"] == [published[0].run_id]
    assert not half.exists()
    assert not any(gone.rglob("*"))
    assert any(kept.rglob("*"))
    assert [run.info.run_id for run in all_runs(settings)] == [published[1].run_id]
    assert deleted_runs(settings, 0) == []
