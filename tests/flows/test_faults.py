"""Ten kills at random moments; ``benchmarks/faults.py`` has a hundred and the other faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_kills_lose_repeat_and_halve_nothing(tmp_path: Path) -> None:
    seed = str(int.from_bytes(os.urandom(2), "big"))
    command = ["-n", "10", "--kills-only", "--settle", "10", "--seed", seed]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks/faults.py"), *command],
            stdout=out,
            stderr=out,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert done.returncode == 0, f"seed {seed}: {(tmp_path / 'out').read_text()}"
