"""Answers with known careless respondents, and a model trained on them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch

from ae_pipeline.data import Axis, Column, Samples
from ae_pipeline.detectors.ensemble import Ensemble
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training.loop import Training, fit

N_ITEMS, N_LEVELS = 20, 5


ONSET = 8


def people(n: int, seed: int = 0, order: bool = True) -> Samples:
    """Four scales of five items; every second item is turned round."""
    rng = np.random.default_rng(seed)
    trait = np.repeat(rng.standard_normal((n, 4)), 5, axis=1)
    values = np.clip(np.rint(3 + 1.1 * trait + 0.6 * rng.standard_normal((n, N_ITEMS))), 1, 5)
    mask = rng.random(values.shape) > 0.03
    levels = tuple(float(k) for k in range(1, N_LEVELS + 1))
    columns = tuple(
        Column(
            f"I{i:02d}", "ordinal", levels, f"S{i // 5}", (1, 5), i % 2 == 1, i if order else None
        )
        for i in range(N_ITEMS)
    )
    meta = pd.DataFrame({"recording": [f"p{i}" for i in range(n)]})
    meta["subject"] = meta["recording"]
    names = tuple(column.name for column in columns)
    answers = np.where(mask, values, 0).astype(np.float32)
    return Samples("questionnaire", answers, meta, (Axis("item", names),), mask, columns)


def careless(samples: Samples, kind: str, seed: int = 9) -> Samples:
    """The same people, answering carelessly (raw answers: half of the items are keyed back)."""
    rng = np.random.default_rng(seed)
    n = len(samples)
    raw = rng.integers(1, N_LEVELS + 1, (n, N_ITEMS)).astype(np.float32)
    if kind == "one answer":
        raw[:] = rng.integers(1, N_LEVELS + 1, (n, 1))
    if kind == "up and down":
        raw[:] = np.resize([1, 2, 3, 4, 5, 4, 3, 2], N_ITEMS)
    turned = np.array([column.reverse for column in samples.columns])
    values = np.where(turned, 6 - raw, raw)
    if kind == "from the middle on":
        values[:, :ONSET] = samples.values[:, :ONSET]
    assert samples.mask is not None
    return replace(samples, values=np.where(samples.mask, values, 0).astype(np.float32))


@cache
def trained(order: bool = True) -> Ensemble:
    torch.manual_seed(0)
    train, held = people(400, 1, order), people(120, 2, order)
    config = Model.model_validate(
        {
            "architecture": {"kind": "dense", "hidden": [16]},
            "objective": {"kind": "masked", "share": 0.25},
            "latent_dim": 4,
        }
    )
    scaler = Scaler.fit(train)
    model = Autoencoder(config, "table", shape=train.shape, columns=train.columns, has_missing=True)
    training = Training(epochs=15, learning_rate=5e-3, batch_size=32, device="cpu")
    fitted, _ = fit(model, train, held, scaler, training)
    return Ensemble.fit(fitted, train, reference=held, seed=0)
