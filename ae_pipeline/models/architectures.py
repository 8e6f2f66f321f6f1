"""Encoders and decoders; an architecture never sees a loss.

``build(input_shape, code_size, latent_dim, output_shape)`` returns an encoder that maps
(n, *input_shape) to (n, code_size) and a decoder that maps (n, latent_dim) to
(n, *output_shape). Shapes are (features, *grid): (channels, times) for EEG, (1, rows, columns)
for images, (1, items) for tables. ``code_size`` is ``latent_dim`` for a point code and twice
that for a Gaussian one. Adding an architecture is one class here and its name in
:data:`AnyArchitecture`.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field, PositiveInt

from ae_pipeline.config import Config, StudyError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Activation", "AnyArchitecture", "Architecture", "Conv", "Dense"]

Activation = Literal["linear", "relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"]
Shape = tuple[int, ...]


class Architecture(Protocol):
    """What a model needs of an architecture."""

    @property
    def code_activation(self) -> Activation:
        """Nonlinearity on a point code."""

    @property
    def init(self) -> Literal["default", "glorot"]:
        """How the weights start."""

    def build(
        self, input_shape: Shape, code_size: int, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder."""


class Dense(Config):
    """Fully connected layers, mirrored (Hinton and Salakhutdinov, 2006)."""

    kind: Literal["dense"] = "dense"
    """Every input is connected to every unit; right for tables and small images."""
    hidden: tuple[PositiveInt, ...] = (256,)
    """Units of the encoder's hidden layers, first to last; the decoder mirrors them."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    code_activation: Activation = "linear"
    """Nonlinearity of the code; the text's example uses leaky_relu (slope 0.3)."""
    init: Literal["default", "glorot"] = "default"
    """Initial weights: PyTorch's default, or glorot as Keras and the text's example."""

    def build(
        self, input_shape: Shape, code_size: int, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder; see the module's docstring."""
        from torch import nn

        from ae_pipeline.models.layers import activation

        def stack(sizes: list[int]) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for n_in, n_out in pairwise(sizes):
                layers += [nn.Linear(n_in, n_out), activation(self.activation)]
            return layers[:-1]  # the last layer is linear

        encoder = stack([prod(input_shape), *self.hidden, code_size])
        decoder = stack([latent_dim, *reversed(self.hidden), prod(output_shape)])
        return (
            nn.Sequential(nn.Flatten(), *encoder),
            nn.Sequential(*decoder, nn.Unflatten(1, output_shape)),
        )


class Conv(Config):
    """Strided convolutions, mirrored (Masci et al., 2011): 1-D over time or items, 2-D over pixels.

    EEG is convolved over time with electrodes as input features, images over both axes, tables
    over their items.
    """

    kind: Literal["conv"] = "conv"
    """Small filters slid over time (EEG) or over the image."""
    channels: tuple[PositiveInt, ...] = (32, 16, 8)
    """Filters of each layer, first to last; the decoder mirrors them."""
    kernel: PositiveInt = 7
    """Length of a filter in samples (pixels); odd lengths keep the signal centred."""
    stride: PositiveInt = 2
    """Each layer shortens the signal by this factor."""
    activation: Activation = "elu"
    """Nonlinearity of the hidden layers."""
    code_activation: Activation = "linear"
    """Nonlinearity of the code."""
    init: Literal["default", "glorot"] = "default"
    """Initial weights: PyTorch's default, or glorot."""

    def build(
        self, input_shape: Shape, code_size: int, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder; see the module's docstring.

        Raises
        ------
        StudyError
            Where the kernel is longer than the window or image.
        """
        from torch import nn

        from ae_pipeline.models.layers import Crop, activation

        n_in, *grid = input_shape
        n_out, *out_grid = output_shape
        if self.kernel > min(grid):
            raise StudyError(
                f"model.architecture.kernel: {self.kernel} exceeds the input ({min(grid)}); "
                "shorten the kernel or lengthen windows.length_s"
            )
        conv, transposed = (
            (nn.Conv2d, nn.ConvTranspose2d) if len(grid) == 2 else (nn.Conv1d, nn.ConvTranspose1d)
        )
        padding = self.kernel // 2
        grids = [tuple(grid)]
        for _ in self.channels:
            shrunk = ((n + 2 * padding - self.kernel) // self.stride + 1 for n in grids[-1])
            grids.append(tuple(shrunk))
        n_flat = self.channels[-1] * prod(grids[-1])

        encoder: list[nn.Module] = []
        for a, b in pairwise((n_in, *self.channels)):
            encoder += [
                conv(a, b, self.kernel, stride=self.stride, padding=padding),
                activation(self.activation),
            ]
        encoder += [nn.Flatten(), nn.Linear(n_flat, code_size)]

        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, n_flat),
            nn.Unflatten(1, (self.channels[-1], *grids[-1])),
        ]
        # a table's items can have several parameters each: then the last step is a linear map
        same_grid = out_grid == grid
        widths = (*reversed(self.channels), n_out if same_grid else self.channels[0])
        for (a, b), target in zip(pairwise(widths), reversed(grids[:-1]), strict=True):
            decoder += [
                activation(self.activation),
                transposed(
                    a,
                    b,
                    self.kernel,
                    stride=self.stride,
                    padding=padding,
                    output_padding=self.stride - 1,
                ),
                Crop(target),
            ]
        if not same_grid:
            n_wide = self.channels[0] * prod(grid)
            decoder += [activation(self.activation), nn.Flatten()]
            decoder += [nn.Linear(n_wide, prod(output_shape)), nn.Unflatten(1, output_shape)]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)


AnyArchitecture = Annotated[Dense | Conv, Field(discriminator="kind")]
