"""Architectures, objectives and likelihoods, and :class:`Model`, the choice of one of each.

This file holds the configuration only and imports no torch: a study file is checked without it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ae_pipeline.config import Config
from ae_pipeline.models.architectures import AnyArchitecture
from ae_pipeline.models.heads import Head
from ae_pipeline.models.objectives import AnyObjective

__all__ = ["Model"]


class Model(Config):
    """Which autoencoder: any architecture with any objective and any likelihood."""

    architecture: AnyArchitecture
    """How encoder and decoder are built."""
    objective: AnyObjective
    """What the model is trained to do."""
    likelihood: Literal[
        "auto", "gaussian", "huber", "bernoulli", "categorical", "ordinal", "mixed"
    ] = "auto"
    """How an entry's error is measured: auto takes gaussian (mean squared error) for EEG, bernoulli
    (binary cross-entropy) for images, and mixed for a questionnaire, which is by each item's type
    (ordinal, categorical for nominal items, bernoulli for binary, gaussian for continuous ones);
    huber is the squared error that large deviations pull at less."""
    latent_dim: PositiveInt = 16
    """Numbers in the code (the latent features of a window, image or person)."""
    head: Head | None = None
    """What to predict beside, for instance {kind: classify, target: diagnosis, from: latents}; null
    for nothing."""
