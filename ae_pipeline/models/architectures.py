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
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field, model_validator

from ae_pipeline.config import Config, StudyError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Activation",
    "AnyArchitecture",
    "Architecture",
    "Attention",
    "Conv",
    "Dense",
    "Recurrent",
]

Activation = Literal["linear", "relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"]
Shape = tuple[int, ...]

_Width = Annotated[int, Field(ge=1, le=4096)]
"""Wider layers are a slip of the keyboard, and take gigabytes before anything is learned."""

_Layers = Annotated[int, Field(ge=1, le=64)]
_Widths = Annotated[tuple[_Width, ...], Field(max_length=64)]


class Architecture(Protocol):
    """What a model needs of an architecture."""

    exact_derivatives: ClassVar[bool]
    """Whether the derivative of every unit of the code by the input is affordable."""

    @property
    def code_activation(self) -> Activation:
        """Nonlinearity on a point code."""

    @property
    def init(self) -> Literal["default", "glorot"]:
        """How the weights start."""

    def build(
        self, input_shape: Shape, code_size: int, *, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder."""


class _Coded(Config):
    """What every architecture can be told of its code and of how its weights start."""

    kind: str
    code_activation: Activation = "linear"
    """Nonlinearity of the code; the text's example uses leaky_relu (slope 0.3)."""
    init: Literal["default", "glorot"] = "default"
    """Initial weights: PyTorch's default, or glorot as Keras and the text's example."""


class Dense(_Coded):
    """Fully connected layers, mirrored (Hinton and Salakhutdinov, 2006)."""

    exact_derivatives: ClassVar[bool] = True

    kind: Literal["dense"] = "dense"
    """Every input is connected to every unit; right for tables and small images."""
    hidden: _Widths = (256,)
    """Units of the encoder's hidden layers, first to last; the decoder mirrors them."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""

    def build(
        self, input_shape: Shape, code_size: int, *, latent_dim: int, output_shape: Shape
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


class Conv(_Coded):
    """Strided convolutions, mirrored (Masci et al., 2011): 1-D over time or items, 2-D over pixels.

    EEG is convolved over time with electrodes as input features, images over both axes, tables
    over their items.
    """

    exact_derivatives: ClassVar[bool] = False

    kind: Literal["conv"] = "conv"
    """Small filters slid over time (EEG) or over the image."""
    channels: _Widths = (32, 16, 8)
    """Filters of each layer, first to last; the decoder mirrors them."""
    kernel: _Width = 7
    """Length of a filter in samples (pixels); odd lengths keep the signal centred."""
    stride: _Width = 2
    """Each layer shortens the signal by this factor."""
    hidden: _Widths = ()
    """Units of fully connected layers between the filters and the code; worth having for images,
    whose few features are not a linear map of what the filters see."""
    activation: Activation = "elu"
    """Nonlinearity of the hidden layers."""

    def build(
        self, input_shape: Shape, code_size: int, *, latent_dim: int, output_shape: Shape
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
                "shorten the kernel (of EEG, or lengthen windows.length_s)"
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
        encoder += [nn.Flatten()]
        for a, b in pairwise((n_flat, *self.hidden)):
            encoder += [nn.Linear(a, b), activation(self.activation)]
        encoder += [nn.Linear((n_flat, *self.hidden)[-1], code_size)]

        decoder: list[nn.Module] = []
        for a, b in pairwise((latent_dim, *reversed(self.hidden))):
            decoder += [nn.Linear(a, b), activation(self.activation)]
        decoder += [
            nn.Linear((latent_dim, *reversed(self.hidden))[-1], n_flat),
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


class Recurrent(_Coded):
    """A recurrence over patches, read to its end; the decoder writes the patches again.

    LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014), in both directions if
    wanted (Schuster and Paliwal, 1997), as encoder and decoder (Srivastava et al., 2015;
    Malhotra et al., 2016, for anomalies). EEG is read over time with electrodes as features,
    an image row by row, a table item by item. A strided front end joins neighbouring steps to
    patches, because a recurrence over hundreds of steps is slow and forgets.
    """

    exact_derivatives: ClassVar[bool] = False

    kind: Literal["recurrent"] = "recurrent"
    """A memory that reads the signal step by step."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Kind of memory: gru has fewer weights."""
    bidirectional: bool = False
    """Read forwards and backwards; costs twice as much."""
    patch: Literal["auto"] | _Width = "auto"
    """Samples (rows, items) that are read at once: auto takes as many as leave at most 32 steps."""
    embedding: _Width = 64
    """Numbers that a patch is turned into before it is read."""
    hidden: _Width = 64
    """Units of the memory, in each direction."""
    layers: _Layers = 1
    """Recurrences on top of each other."""

    def build(
        self, input_shape: Shape, code_size: int, *, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder; see the module's docstring.

        Raises
        ------
        StudyError
            Where a patch is longer than the input.
        """
        from torch import nn

        from ae_pipeline.models.layers import Crop, Gru, Last, Lstm, PadEnd, Permute

        def recurrence() -> nn.Module:
            cell = Lstm if self.cell == "lstm" else Gru
            return cell(
                self.embedding,
                self.hidden,
                self.layers,
                batch_first=True,
                bidirectional=self.bidirectional,
            )

        n_states = self.hidden * (2 if self.bidirectional else 1)
        n_features, n_times = _as_series(input_shape)
        patch, lacking = _patches(self.patch, (n_times,), at_most=32)
        encoder: list[nn.Module] = [
            *_rows_as_steps(input_shape),
            PadEnd(lacking),
            nn.Conv1d(n_features, self.embedding, patch, stride=patch),
            Permute(0, 2, 1),
            recurrence(),
            Last(self.bidirectional),
            nn.Linear(n_states, code_size),
        ]
        n_features, n_times = _as_series(output_shape)
        patch, lacking = _patches(self.patch, (n_times,), at_most=32)
        n_steps = (n_times + lacking[0]) // patch
        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, n_steps * self.embedding),
            nn.Unflatten(1, (n_steps, self.embedding)),
            recurrence(),
            Permute(0, 2, 1),
            nn.ConvTranspose1d(n_states, n_features, patch, stride=patch),
            Crop((n_times,)),
        ]
        if len(output_shape) == 3:
            decoder += [nn.Unflatten(1, (output_shape[0], output_shape[2])), Permute(0, 1, 3, 2)]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)


class Attention(_Coded):
    """A transformer over patches (Vaswani et al., 2017; Dosovitskiy et al., 2021), mirrored.

    Patches (of time over all electrodes, of an image's area, of neighbouring items) are
    embedded, marked with their place, and every one attends to every other one.
    """

    exact_derivatives: ClassVar[bool] = False

    kind: Literal["attention"] = "attention"
    """Every part of the signal looks at every other one."""
    patch: Literal["auto"] | _Width = "auto"
    """Samples (items; side of a patch in pixels) that are looked at as one: auto takes as many as
    leave at most 32 patches of a signal, 64 of an image."""
    width: _Width = 64
    """Numbers that stand for a patch; a multiple of heads."""
    heads: _Width = 4
    """Things that a patch can look for at once."""
    layers: _Layers = 2
    """Blocks of attention in the encoder, and as many in the decoder."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Attention:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    def build(
        self, input_shape: Shape, code_size: int, *, latent_dim: int, output_shape: Shape
    ) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder; see the module's docstring.

        Raises
        ------
        StudyError
            Where a patch is longer than the input.
        """
        from torch import nn

        from ae_pipeline.models.layers import Crop, PadEnd, Permute, Positions, TransformerBlock

        def blocks(n_steps: int) -> list[nn.Module]:
            return [
                Positions(n_steps, self.width),
                *(TransformerBlock(self.width, self.heads) for _ in range(self.layers)),
                nn.LayerNorm(self.width),
            ]

        n_in, *grid = input_shape
        patch, lacking = _patches(self.patch, tuple(grid), at_most=64 if len(grid) == 2 else 32)
        n_steps = prod((n + more) // patch for n, more in zip(grid, lacking, strict=True))
        flat = len(grid) == 1
        embed = (nn.Conv1d if flat else nn.Conv2d)(n_in, self.width, patch, stride=patch)
        encoder: list[nn.Module] = [
            PadEnd(lacking),
            embed,
            nn.Flatten(2),
            Permute(0, 2, 1),
            *blocks(n_steps),
            nn.Flatten(),
            nn.Linear(n_steps * self.width, code_size),
        ]
        n_out, *grid = output_shape
        patch, lacking = _patches(self.patch, tuple(grid), at_most=64 if len(grid) == 2 else 32)
        counts = [(n + more) // patch for n, more in zip(grid, lacking, strict=True)]
        draw = (nn.ConvTranspose1d if flat else nn.ConvTranspose2d)(
            self.width, n_out, patch, stride=patch
        )
        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, prod(counts) * self.width),
            nn.Unflatten(1, (prod(counts), self.width)),
            *blocks(prod(counts)),
            Permute(0, 2, 1),
            nn.Unflatten(2, tuple(counts)),
            draw,
            Crop(grid),
        ]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _patches(asked: int | str, grid: Shape, *, at_most: int) -> tuple[int, Shape]:
    """Side of a patch, and what each axis lacks to a whole number of them."""
    if isinstance(asked, int):
        patch = asked
        if patch > min(grid):
            raise StudyError(
                f"model.architecture.patch: {patch} exceeds the input ({min(grid)}); "
                "choose a smaller one or auto"
            )
    else:
        patch = next(
            p for p in range(1, max(grid) + 1) if prod(-(-n // p) for n in grid) <= at_most
        )
    return patch, tuple(-n % patch for n in grid)


def _as_series(shape: Shape) -> tuple[int, int]:
    """(features, steps) of what is read step by step; an image's steps are its rows."""
    return (shape[0] * shape[2], shape[1]) if len(shape) == 3 else (shape[0], shape[1])


def _rows_as_steps(shape: Shape) -> list[nn.Module]:
    """(n, features, rows, columns) -> (n, features * columns, rows); signals are so already."""
    from torch import nn

    from ae_pipeline.models.layers import Permute

    return [Permute(0, 1, 3, 2), nn.Flatten(1, 2)] if len(shape) == 3 else []


AnyArchitecture = Annotated[Dense | Conv | Recurrent | Attention, Field(discriminator="kind")]
