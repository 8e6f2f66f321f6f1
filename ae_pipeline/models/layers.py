"""Small torch modules that the architectures are put together from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Crop",
    "Last",
    "PadEnd",
    "Permute",
    "Positions",
    "Recurrence",
    "activation",
    "glorot_",
    "n_parameters",
    "twice_differentiable",
]

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


class PadEnd(nn.Module):
    """Lengthen each trailing axis by some zeros at its end; :class:`Crop` takes them off."""

    def __init__(self, lacking: Sequence[int]) -> None:
        super().__init__()
        self.ends = [end for n in reversed(lacking) for end in (0, n)]

    def forward(self, x: Tensor) -> Tensor:
        """(n, ..., *shape) -> (n, ..., *longer)."""
        return F.pad(x, self.ends) if any(self.ends) else x


class Permute(nn.Module):
    """Put the axes in another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """As ``x.permute(axes)``; axis 0 counts the samples."""
        return x.permute(self.axes)


class Positions(nn.Module):
    """Add to each step a pattern of its place: sines and cosines (Vaswani et al., 2017)."""

    pattern: Tensor

    def __init__(self, n_steps: int, width: int) -> None:
        super().__init__()
        rates = 10_000.0 ** (-torch.arange(0, width, 2) / width)
        angles = torch.arange(n_steps)[:, None] * rates
        pattern = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width]
        # not learned, so it is made again rather than stored
        self.register_buffer("pattern", pattern, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, width) -> the same shape."""
        return x + self.pattern


class Recurrence(nn.Module):
    """An LSTM or GRU over steps: (n, steps, features) -> (n, steps, states)."""

    def __init__(self, cell: str, n_in: int, n_states: int, layers: int, both_ways: bool) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cells = kind(n_in, n_states, layers, batch_first=True, bidirectional=both_ways)

    def forward(self, x: Tensor) -> Tensor:
        """The states after each step; those of both directions side by side."""
        states: Tensor = self.cells(x)[0]
        return states


class Last(nn.Module):
    """Where a recurrence ends: (n, steps, states) -> (n, states).

    That is the last step forwards and the first step backwards.
    """

    def __init__(self, both_ways: bool) -> None:
        super().__init__()
        self.both_ways = both_ways

    def forward(self, states: Tensor) -> Tensor:
        """The states that have seen everything."""
        if not self.both_ways:
            return states[:, -1]
        forwards, backwards = states.chunk(2, 2)
        return torch.cat([forwards[:, -1], backwards[:, 0]], 1)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Kernels that have a second derivative, which fused attention and cuDNN's RNNs lack."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield


@torch.no_grad()
def glorot_(module: nn.Module) -> None:
    """Uniform initialisation of Glorot and Bengio (2010), biases at zero, as Keras does it."""
    for name, parameter in module.named_parameters():
        if "weight" in name.rpartition(".")[2] and parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        elif "bias" in name.rpartition(".")[2]:
            nn.init.zeros_(parameter)


def n_parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(prod(p.shape) for p in module.parameters() if p.requires_grad)
