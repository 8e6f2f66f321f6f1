"""Two processes under torchrun against one: the same weights, one report, one run in MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lab
import numpy as np
import pytest

from ae_pipeline.training import distributed as together

ROOT = Path(__file__).resolve().parents[2]


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert (together.rank(), together.size(), together.is_joined()) == (0, 1, False)
    rows = torch.arange(5)
    assert together.share(rows) is rows
    monkeypatch.setenv("RANK", "3")  # of some other launcher
    assert together.rank() == 0
    together.join()
    together.take_turns(first=True)
    together.leave()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    study = lab.write_study(tmp_path, 9)
    (tmp_path / "mlflow.yaml").touch()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AE_PIPELINE_CACHE": str(tmp_path / "c")}
    environment["MLFLOW_TRACKING_URI"] = "postgresql://nobody@127.0.0.1:9/none"
    command = ["-m", "ae_pipeline", "train", str(study), "--no-prefect", "--out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = {}
    for name, launcher in (("one", []), ("two", torchrun)):
        with (tmp_path / f"{name}.txt").open("wb") as log:
            subprocess.run(
                [sys.executable, *launcher, *command, str(tmp_path / name)],
                stdout=log,
                stderr=log,
                cwd=tmp_path,
                env=environment,
                check=False,
                timeout=170,
            )
        said[name] = (tmp_path / f"{name}.txt").read_text()
    weights = [load_file(tmp_path / name / "model/weights.safetensors") for name in said]
    assert set(weights[0]) == set(weights[1]), said["two"]
    for name, one in weights[0].items():
        if name.startswith("autoencoder/"):
            np.testing.assert_allclose(one, weights[1][name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert said["two"].count("- training\n") == 1, "one process speaks"
    history = [(tmp_path / name / "history.csv").read_text().splitlines()[-1] for name in said]
    losses = [[float(cell) for cell in line.split(",")[1:3]] for line in history]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
