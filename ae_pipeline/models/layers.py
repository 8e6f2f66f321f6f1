"""Small torch modules that the architectures are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

__all__ = ["Crop", "activation", "glorot_", "n_parameters"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.3),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: str) -> nn.Module:
    """A nonlinearity by name; ``leaky_relu`` has the text's slope 0.3."""
    return _ACTIVATIONS[name]()


class Crop(nn.Module):
    """Cut each trailing axis to a length (a transposed convolution can overshoot by a step)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ..., *longer) -> (n, ..., *shape)."""
        for axis, length in enumerate(reversed(self.shape), start=1):
            x = x.narrow(-axis, 0, length)
        return x


@torch.no_grad()
def glorot_(module: nn.Module) -> None:
    """Uniform initialisation of Glorot and Bengio (2010), biases at zero, as Keras does it."""
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            nn.init.xavier_uniform_(weight)
            bias = getattr(part, "bias", None)
            if isinstance(bias, nn.Parameter):
                nn.init.zeros_(bias)


def n_parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(prod(p.shape) for p in module.parameters() if p.requires_grad)
