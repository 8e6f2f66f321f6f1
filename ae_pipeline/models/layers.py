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
    "Gru",
    "Last",
    "Lstm",
    "PadEnd",
    "Permute",
    "Positions",
    "SelfAttention",
    "TransformerBlock",
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


class Lstm(nn.LSTM):
    """The states after each step only, so that it can stand in a row with other layers."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(n, steps, features) -> (n, steps, states); both directions side by side."""
        states: Tensor = super().forward(x)[0]
        return states


class Gru(nn.GRU):
    """The states after each step only, as :class:`Lstm`."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(n, steps, features) -> (n, steps, states); both directions side by side."""
        states: Tensor = super().forward(x)[0]
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


class SelfAttention(nn.Module):
    """Every step takes from every other one what it asks for (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, width) -> the same shape."""
        by_head = self.projections(x).unflatten(2, (3, self.heads, -1))
        query, key, value = by_head.permute(2, 0, 3, 1, 4)  # each (n, heads, steps, width / heads)
        taken = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.output(taken.transpose(1, 2).flatten(2))
        return mixed


class TransformerBlock(nn.Module):
    """Attention, then a small network at each step, both added to what comes in.

    Normalised before rather than after, which trains without a warm-up (Xiong et al., 2020).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads))
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, width) -> the same shape."""
        x = x + self.attend(x)
        out: Tensor = x + self.think(x)
        return out


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
