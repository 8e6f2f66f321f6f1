"""The benchmarks of training and of digits still run; their figures are measured by hand."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.study import Study

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def benchmark(name: str) -> Any:
    spec = spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["ours", "matrix products", "plain loop", "bare loop"])
def test_a_contender_trains_an_epoch(name: str) -> None:
    training = benchmark("training")
    x = np.random.default_rng(0).random((300, training.SIZES[0]), np.float32)
    training.CONTENDERS[name][0](x)()


def test_the_convolutional_model_of_digits_is_a_study() -> None:
    digits = benchmark("digits")
    content = {"study": "conv", "source": {"kind": "mnist"}, "model": digits.CONV}
    study = Study.model_validate(content | {"training": digits.CONV_TRAINING})
    assert study.training.epochs == 15
    model = Autoencoder(study.model, "grid", shape=(28, 28))
    assert model(torch.zeros(2, 28, 28)).shape == (2, 28, 28)


def test_a_limit_is_held_by_every_seed_or_said_not_to_be() -> None:
    held = benchmark("digits")._held
    assert held("text", "probe", [0.91, 0.92], 0.9).endswith(": held")
    assert held("text", "probe", [0.89, 0.92], 0.9).endswith("held by the mean, NOT by every seed")
    assert held("text", "test_loss", [0.10, 0.12], 0.109).endswith(": NOT HELD")
    assert "0.1100 (0.1000 to 0.1200), to hold <= 0.109" in held(
        "a", "test_loss", [0.1, 0.12], 0.109
    )
