"""The optimiser and the size of its steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.training.loop import Training

__all__ = ["learning_rate_of", "optimizer_of"]


def learning_rate_of(config: Training, epoch: int) -> float:
    """Step size of an epoch, from 1."""
    if config.schedule == "constant" or config.epochs == 1:
        return config.learning_rate
    done = (epoch - 1) / (config.epochs - 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizer_of(config: Training, model: Autoencoder) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name, for the weights of a model."""
    import torch

    parameters, rate = model.parameters(), config.learning_rate
    if config.optimizer == "rmsprop":  # Keras' defaults, as in the text's example
        # all parameters at once would hold a temporary of each, more than the cache takes
        return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-7, foreach=False)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, foreach=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, fused=True)
    return torch.optim.AdamW(parameters, lr=rate, fused=True)
