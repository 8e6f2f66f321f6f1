"""The gate tells the truth: where a linear model is enough, and where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_pipeline.jobs.train import train_job
from ae_pipeline.scoring.bundle import load


def train(place: Path, source: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Metrics of a study trained as a user would, but for MLflow."""
    study = place / "study.yaml"
    study.write_text(json.dumps({"study": "gate", "source": source, **parts}))
    for step in train_job(study, place / "out").steps():
        if "MLflow" not in step.name:
            step.run()
    metrics: dict[str, Any] = json.loads((place / "out/metrics.json").read_text())
    return metrics


def said(place: Path) -> tuple[str, str]:
    """The summary, and the report's first screen and all else."""
    return tuple(
        (place / "out" / name).read_text() for name in ("pseudonymised/summary.md", "report.html")
    )  # type: ignore[return-value]


def answers_of_three_factors(n: int) -> pd.DataFrame:
    """Twelve measures that are linear in three normal factors: what PCA is made for."""
    rng = np.random.default_rng(0)
    loadings = np.random.default_rng(5).normal(size=(3, 12))
    values = 50 + 10 * (rng.normal(size=(n, 3)) @ loadings + 0.5 * rng.normal(size=(n, 12)))
    return pd.DataFrame(values.round(3), columns=[f"m{i:02d}" for i in range(12)])


def wandering_squares(n: int, seed: int) -> np.ndarray:
    """A bright square anywhere on a dim ground: two numbers say all, but none of it linearly."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 20, (n, 12, 12), dtype=np.uint8)
    for image, (row, column) in zip(images, rng.integers(0, 9, (n, 2)), strict=True):
        image[row : row + 4, column : column + 4] += 220
    return images


def write_idx(path: Path, images: np.ndarray) -> None:
    header = bytes([0, 0, 8, images.ndim]) + np.array(images.shape, ">u4").tobytes()
    path.write_bytes(header + images.tobytes())


def test_a_linear_model_is_enough_for_linear_data(tmp_path: Path) -> None:
    answers_of_three_factors(600).to_csv(tmp_path / "answers.csv", index=False)
    source = {"kind": "questionnaire", "path": "answers.csv", "items": ["m*"]}
    metrics = train(tmp_path, source, model={"latent_dim": 3})
    beats = metrics["beats_baselines"]
    assert beats["value"] is False
    assert beats["interval"][0] <= 0
    assert metrics["baselines"]["pca"]["test_loss"] < 1.02 * metrics["test_loss"]
    rehearsal = metrics["rehearsal"]
    assert not rehearsal["beats_baselines"]["autoencoder"]["value"]
    assert not rehearsal["beats_baselines"]["ensemble"]["value"]
    assert rehearsal["beats_baselines"]["ensemble"]["against"] == "pca"
    assert rehearsal["recommended"] == "pca"
    for text in said(tmp_path):
        assert "the linear model is enough" in text
        assert "does not lose: PCA" in text
    assert load(tmp_path / "out/model").info.rehearsal == rehearsal  # for later reports


def test_a_linear_model_is_not_enough_for_a_square_that_wanders(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", wandering_squares(2000, 0))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", wandering_squares(500, 1))
    source = {"kind": "mnist", "path": "."}
    metrics = train(tmp_path, source, model={"latent_dim": 4}, training={"epochs": 30})
    beats = metrics["beats_baselines"]
    assert beats["value"] is True
    assert beats["interval"][0] > 0
    assert metrics["test_loss"] < 0.9 * metrics["baselines"]["pca"]["test_loss"]
    rehearsal = metrics["rehearsal"]
    assert rehearsal["beats_baselines"]["ensemble"]["value"] is True
    assert rehearsal["recommended"] == "ensemble"
    areas = {name: values["roc_area"] for name, values in rehearsal["scorers"].items()}
    assert max(areas, key=lambda name: areas[name]) == "ensemble"
    for text in said(tmp_path):
        assert "The autoencoder reconstructs better than PCA of equal size" in text
        assert "does not lose: the ensemble" in text
        assert "the linear model is enough" not in text
