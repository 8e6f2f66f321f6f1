"""What clean removes, and what it must not touch."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ae_pipeline.folder import sweep
from ae_pipeline.tidy import leftovers, remove

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
