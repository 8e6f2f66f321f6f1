"""What earlier versions wrote is still read, and says what it said then.

``fixtures/make_v0_1.py`` tells how the files were made. They are never made again: where one of
these tests fails, users can no longer use the models they have.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_pipeline import bundle

ROOT = Path(__file__).resolve().parents[2]
OLD = Path(__file__).parents[1] / "fixtures" / "v0_1"
REGISTERED = OLD / "answers/registered"
MODELS = {"eeg": OLD / "eeg/model", "answers": REGISTERED / "artifacts/model"}
TABLES = {
    "eeg": ("scores", "latents", "recordings"),
    "answers": ("scores", "latents", "new_persons"),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def scored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Kind of data, and the folder of what ``score`` writes about the input kept with its model."""
    kind: str = request.param
    place = tmp_path_factory.mktemp(kind)
    (place / "mlflow.yaml").write_text("")  # what goes to MLflow stays here
    out = place / "out"
    words = ["score", "--model", MODELS[kind], "-o", out, OLD / kind / "input", "--no-prefect"]
    done = subprocess.run(
        [sys.executable, "-m", "ae_pipeline", *map(str, words)],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return kind, out


def assert_said(found: pd.DataFrame, file: Path) -> None:
    """Every column of the file is there with its values; there may be more columns by now.

    Numbers are equal to 1e-5 (of the number, or of the largest in its column where it is near
    zero). The reason is worded for people, and may be worded better. The first and last window of
    the recording are near to what they were: since then the filter continues a segment by its
    mirror image.
    """
    expected = pd.read_csv(file)
    if "onset_s" in expected and expected["onset_s"].notna().any():
        if "score" in expected:
            np.testing.assert_allclose(found["score"], expected["score"], rtol=0.05)
        found, expected = found[1:-1], expected[1:-1]
    assert len(found) == len(expected) > 0
    for name in expected.columns.drop("reason", errors="ignore"):
        then, now = expected[name], found[name].replace("", None)  # in CSV they are the same
        if name == "verdict":  # three calibration recordings never supported the word
            then = then.replace("clean", "nothing flagged")
        if name == "index_lz":  # 0.1.0 had it with the other sign than the literature
            then = -then
        assert now.isna().tolist() == then.isna().tolist(), name
        then, now = then[then.notna()], now[now.notna()]
        if pd.api.types.is_float_dtype(then):
            now = now.to_numpy(float)
            near_zero = 1e-5 * np.abs(then).max() if len(then) else 0
            np.testing.assert_allclose(now, then, rtol=1e-5, atol=near_zero, err_msg=name)
        else:
            assert now.tolist() == then.tolist(), name


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_an_old_bundle_is_loaded(kind: str) -> None:
    loaded = bundle.load(MODELS[kind])
    assert loaded.info.study == f"fixture-{kind}"
    assert loaded.info.versions["ae-pipeline"] == "0.1.0"


def test_an_old_bundle_scores_as_it_did(scored: tuple[str, Path]) -> None:
    kind, out = scored
    files = sorted((OLD / kind / "expected").glob("*.csv"))
    assert {file.stem for file in files} - {"predicted"} == set(TABLES[kind])
    for table in TABLES[kind]:
        assert_said(pd.read_parquet(out / f"{table}.parquet"), OLD / kind / f"expected/{table}.csv")


def test_an_old_registered_model_predicts_as_it_did() -> None:
    # Its detector.py was written by that version, and imports what was there then.
    import mlflow.pyfunc

    detector = mlflow.pyfunc.load_model(str(REGISTERED))
    items = bundle.load(MODELS["answers"]).info.entries
    answers = pd.read_csv(OLD / "answers/input/new.csv")[list(items)].astype(float)
    assert_said(detector.predict(answers), OLD / "answers/expected/predicted.csv")
