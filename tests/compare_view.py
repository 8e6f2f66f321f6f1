"""What a comparison's page shows, of models that were not trained."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_pipeline.jobs.compare.choice import choose, tabulate
from ae_pipeline.jobs.compare.grid import Cell, Outcome
from ae_pipeline.report.views import CompareView, Headline


def outcome(
    architecture: str,
    loss: float,
    n_parameters: int = 100,
    seed: int = 0,
    spread: float = 0.01,
    detection: float = 0.8,
) -> Outcome:
    """A model whose units' losses vary together with those of the others, but for ``spread``."""
    shared = np.random.default_rng(0).normal(size=200)
    own = np.random.default_rng([seed, *architecture.encode()]).normal(scale=spread, size=200)
    losses = loss + shared + own - own.mean() - shared.mean()
    cell = Cell(architecture, "" if architecture == "pca" else "vanilla", 4, seed)
    units = pd.DataFrame({"unit": [f"u{i:03d}" for i in range(200)], "loss": losses})
    return Outcome(
        cell,
        "",
        loss,
        units,
        None,
        None,
        detection,
        (detection - 0.02, detection + 0.02),
        n_parameters,
        1.0,
        5,
    )


def example_view() -> CompareView:
    table, losses = tabulate([outcome("conv", 0.1), outcome("pca", 0.2)])
    table, choice = choose(table, losses, primary="test_loss")
    return CompareView(
        title="digits",
        what="images",
        headline=Headline("conv is best", baseline=choice["reason"]),
        table=table,
        links={"conv-vanilla-4": "cells/conv-vanilla-4-seed0/report.html"},
        failed=[("attention-vanilla-4", "<script>alert(1)</script>")],
    )
