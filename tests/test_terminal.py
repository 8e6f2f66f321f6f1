"""What the command prints for a person: narrow, without colour, and no garbage in a pipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_pipeline.cli import _print_worst


def scored(place: Path, n: int, eeg: bool) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "recording": [f"sub-{i:02d}_task-rest_with_a_long_name[bold]" for i in range(n)],
            "verdict": "clean",
            "events_per_hour": rng.gamma(1, 3, n),
            "flagged": rng.random(n) > 0.5,
            "score": rng.normal(0, 5, n),
            "p_value": rng.random(n),
            "q_value": np.nan,
        }
    )
    frame.to_parquet(place / ("recordings.parquet" if eeg else "scores.parquet"))
    return place


@pytest.mark.parametrize("eeg", [True, False])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_worst_are_shown_in_any_width(
    tmp_path: Path,
    eeg: bool,
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _print_worst(scored(tmp_path, 30, eeg))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(len(line) <= max(width, 50) for line in out.splitlines())
    assert "... and 22 more in" in out
    if width == 200:
        rows = out.splitlines()[1:9]
        assert all("[bold]" in row for row in rows)  # a name is text, never markup
        column = 3 if eeg else 2
        values = [float(row.split()[column]) for row in rows]
        assert values == sorted(values, reverse=True)
