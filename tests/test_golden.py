"""Numbers do not change unless their step's version does.

Where a change is meant to change numbers: bump ``folder.STEP_VERSION``, say so in CHANGELOG.md,
and write the new ones with ``python tests/test_golden.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from ae_pipeline.runtime.files import STEP_VERSION

GOLDEN = Path(__file__).with_name("golden.json")


def numbers(step: str) -> dict[str, list[float]]:
    """What a step makes of small data with a fixed seed."""
    if step == "preprocess":
        windows = np.asarray(tiny.eeg().data.samples.values[:])
        return {
            "rms_uv": windows.std((0, 2)).tolist(),
            "first_uv": windows[0, :, :3].ravel().tolist(),
        }
    if step == "train":
        return {
            name: [float(row["train_loss"]) for row in data.history.rows]
            for name, data in _data().items()
        }
    quantiles = [0.1, 0.5, 0.9, 1.0]
    found = {}
    for name, data in _data().items():
        judged = data.bundle.judge(data.data.samples).frame
        for column in [c for c in judged if c.startswith(("score", "p_value"))]:
            found[f"{name} {column}"] = judged[column].quantile(quantiles).tolist()
    return found


def _data() -> dict[str, tiny.Trained]:
    return {"eeg": tiny.eeg(), "table": tiny.table(), "images": tiny.pictures()}


@pytest.mark.parametrize("step", ["preprocess", "train", "score"])
def test_numbers_change_only_with_the_version_of_their_step(step: str) -> None:
    golden = json.loads(GOLDEN.read_text())[step]
    found = numbers(step)
    if golden["version"] != STEP_VERSION[step]:
        pytest.fail(f"STEP_VERSION[{step!r}] was raised: run 'python tests/test_golden.py'")
    assert set(found) == set(golden["numbers"])
    for name, values in golden["numbers"].items():
        # other processors add up in another order: two epochs carry that to the fourth digit
        np.testing.assert_allclose(
            found[name],
            values,
            rtol=2e-3,
            atol=2e-3,
            err_msg=f"{step} {name} changed: bump STEP_VERSION[{step!r}] if that was meant",
        )


if __name__ == "__main__":
    steps = ("preprocess", "train", "score")
    content = {step: {"version": STEP_VERSION[step], "numbers": numbers(step)} for step in steps}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
