"""Which inputs the code depends on, and what each feature does, where both are known."""

from __future__ import annotations

from dataclasses import replace

import made
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import nn

from ae_pipeline.analysis.relevance import relevance
from ae_pipeline.data import Axis, Column, Samples
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.report.findings.training import relevance_section
from ae_pipeline.training.loop import FittedAutoencoder


def linear(weights: np.ndarray) -> FittedAutoencoder:
    """A table's autoencoder whose code is ``weights @ x`` and whose decoder is the transpose."""
    k, p = weights.shape
    config = Model.model_validate(
        {
            "architecture": {"kind": "dense", "hidden": []},
            "objective": {"kind": "vanilla"},
            "latent_dim": k,
            "likelihood": "gaussian",
        }
    )
    columns = tuple(Column(f"q{i}") for i in range(p))
    model = Autoencoder(config, "table", shape=(p,), columns=columns)
    maps = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, w in zip(maps, (weights, weights.T), strict=True):
            layer.weight.copy_(torch.from_numpy(w.astype(np.float32)))
            layer.bias.zero_()
    return FittedAutoencoder(model, Scaler(np.zeros(p, np.float32), np.ones(p, np.float32)))


def independent(n: int, p: int) -> Samples:
    values = np.random.default_rng(0).normal(size=(n, p)).astype(np.float32)
    names = tuple(f"q{i}" for i in range(p))
    meta = pd.DataFrame({"recording": map(str, range(n)), "subject": map(str, range(n))})
    columns = tuple(Column(name) for name in names)
    return Samples("questionnaire", values, meta, (Axis("item", names),), None, columns)


def test_dependence_is_the_share_of_a_linear_codes_variance() -> None:
    weights = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = relevance(linear(weights), independent(500, 4))
    expected = weights**2 / (weights**2).sum(1, keepdims=True)
    np.testing.assert_allclose(found.dependence, expected, atol=0.08)
    assert found.dependence[:, 3].max() == 0
    # z1 is q2 itself: two deviations from end to end
    assert found.effect[1, 2] == pytest.approx(2, rel=0.05)
    assert found.effect[1, [0, 1, 3]].max() == 0
    assert found.entries == ("q0", "q1", "q2", "q3")
    frame = found.frame()
    assert len(frame) == 8
    assert frame.loc[frame["dependence"].idxmax(), "entry"] in ("q1", "q2")


def test_a_dead_feature_depends_on_nothing_and_does_nothing() -> None:
    found = relevance(linear(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])), independent(200, 3))
    assert found.dependence[1].max() == found.effect[1].max() == 0
    assert found.by_entry()[2] == 0


def test_every_kind_gets_a_table_and_a_picture() -> None:
    for trained in (tiny.eeg(), tiny.table(), tiny.pictures()):
        samples = trained.data.samples
        found = relevance(trained.bundle.autoencoder, samples)
        k = trained.bundle.info.model.latent_dim
        assert found.dependence.shape == (k, len(found.entries))
        assert np.isfinite(found.dependence).all()
        assert (len(found.peak_hz) == k) == (samples.kind == "eeg")
        section = relevance_section(found, trained.bundle.info)
        assert section.pictures
        assert len(section.frames[1][1]) == k


def test_the_frequency_of_a_change_is_that_of_the_signal() -> None:
    samples = replace(made.eeg(60, 3, 64), mask=None)
    time_s = np.arange(64) / made.SFREQ_HZ
    waves = np.array([np.sin(2 * np.pi * 8 * time_s)] * 3)

    class Wave(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z[:, :1, None] * torch.from_numpy(waves.astype(np.float32))

    config = Model.model_validate(
        {
            "architecture": {"kind": "dense", "hidden": [4]},
            "objective": {"kind": "vanilla"},
            "latent_dim": 2,
        }
    )
    model = Autoencoder(config, "series", shape=samples.shape)
    model.decoder = Wave()
    found = relevance(FittedAutoencoder(model, Scaler.fit(samples)), samples)
    assert found.peak_hz[0] == pytest.approx(8)
