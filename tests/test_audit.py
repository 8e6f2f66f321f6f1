"""``make audit`` never calls good what it did not check, nor hides what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).resolve().parent.parent / ".ci" / "audit"
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "new", "skip_reason": "Dependency not found on PyPI: new (3.0)"}


@pytest.mark.parametrize(
    ("every", "status", "said"),
    [
        ([GOOD], 0, "1 of 1 packages checked, 0 with known vulnerabilities"),
        ([GOOD, BAD], 1, "bad 2.0: PYSEC-1, mended in 2.1"),
        ([GOOD, UNKNOWN], 2, "NOT CHECKED (Dependency not found on PyPI): new"),
        ([BAD, UNKNOWN], 1, "1 of 2 packages checked, 1 with known vulnerabilities, 1 NOT"),
        ([], 2, "0 of 0 packages checked"),
    ],
)
def test_what_was_not_checked_is_said_and_is_no_success(
    every: list[dict[str, Any]], status: int, said: str, tmp_path: Path
) -> None:
    answer = tmp_path / "pip-audit"  # in its place: what it says depends on the day and the index
    answer.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'dependencies': every})}\nEND\n")
    answer.chmod(0o755)
    command = [sys.executable, str(AUDIT), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stdout


def test_a_pip_audit_that_breaks_is_no_success(tmp_path: Path) -> None:
    answer = tmp_path / "pip-audit"
    answer.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    answer.chmod(0o755)
    done = subprocess.run([sys.executable, str(AUDIT), str(answer)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no network" in done.stdout
