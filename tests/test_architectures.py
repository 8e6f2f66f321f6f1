from __future__ import annotations

from math import prod, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ae_pipeline.config import StudyError
from ae_pipeline.models.architectures import Conv, Dense
from ae_pipeline.models.layers import Crop, activation, glorot_, n_parameters

EEG, IMAGE, TABLE = (4, 101), (1, 28, 28), (1, 25)


def round_trip(
    architecture: Dense | Conv, shape: tuple[int, ...], output: tuple[int, ...], latent_dim: int = 3
) -> None:
    encoder, decoder = architecture.build(shape, latent_dim, latent_dim, output)
    code = encoder(torch.randn(2, *shape))
    assert code.shape == (2, latent_dim)
    assert decoder(code).shape == (2, *output)


# -------------------------------------------------------------------------------- dense


def test_the_texts_model_has_exactly_its_parameters() -> None:
    encoder, decoder = Dense(hidden=(256,)).build((1, 28, 28), 10, 10, (1, 28, 28))
    assert n_parameters(encoder) == 203_530
    assert n_parameters(decoder) == 204_304
    assert [p.shape for p in encoder.parameters()] == [(256, 784), (256,), (10, 256), (10,)]


@pytest.mark.parametrize("shape", [EEG, IMAGE, TABLE, (1, 2), (1, 3, 5)])
@pytest.mark.parametrize("hidden", [(), (8,), (16, 8, 4)])
def test_dense_gives_back_the_shape_it_was_given(
    shape: tuple[int, ...], hidden: tuple[int, ...]
) -> None:
    round_trip(Dense(hidden=hidden), shape, shape)
    round_trip(Dense(hidden=hidden), shape, (1, 7))


def test_the_decoder_mirrors_the_encoder() -> None:
    encoder, decoder = Dense(hidden=(16, 8)).build((1, 20), 3, 3, (1, 20))
    widths = [
        [(m.in_features, m.out_features) for m in part.modules() if isinstance(m, nn.Linear)]
        for part in (encoder, decoder)
    ]
    assert widths == [[(20, 16), (16, 8), (8, 3)], [(3, 8), (8, 16), (16, 20)]]


def test_neither_code_nor_output_is_bent() -> None:
    """Logits leave the decoder, and the code's own nonlinearity is the model's business."""
    encoder, decoder = Dense(hidden=(8,), activation="sigmoid").build((1, 6), 2, 2, (1, 6))
    far = encoder(1e6 * torch.randn(64, 1, 6, generator=torch.Generator().manual_seed(0)))
    assert far.unique(dim=0).shape[0] > 1
    assert decoder(1e6 * torch.ones(1, 2)).abs().max() < 10  # hidden sigmoids are saturated
    assert isinstance(encoder[-1], nn.Linear)
    assert isinstance(decoder[-2], nn.Linear)


# -------------------------------------------------------------------------- convolution


@settings(max_examples=60, deadline=None)
@given(
    grid=st.one_of(
        st.tuples(st.integers(1, 70)), st.tuples(st.integers(1, 20), st.integers(1, 20))
    ),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 4),
    layers=st.integers(1, 3),
)
def test_convolutions_give_back_any_shape(
    grid: tuple[int, ...], kernel: int, stride: int, layers: int
) -> None:
    architecture = Conv(channels=(4, 3, 2)[:layers], kernel=kernel, stride=stride)
    shape = (2, *grid)
    if kernel > min(grid):
        with pytest.raises(StudyError, match=f"kernel: {kernel} exceeds the input .{min(grid)}."):
            architecture.build(shape, 1, 1, shape)
    else:
        round_trip(architecture, shape, shape, latent_dim=1)


@pytest.mark.parametrize("shape", [EEG, IMAGE, TABLE, (64, 500), (1, 129)])
def test_default_convolutions_fit_common_inputs(shape: tuple[int, ...]) -> None:
    round_trip(Conv(), shape, shape)


def test_a_tables_items_may_have_several_parameters_each() -> None:
    round_trip(Conv(kernel=3), TABLE, (1, 77))


def test_a_kernel_longer_than_the_window_says_what_to_do() -> None:
    with pytest.raises(StudyError, match=r"kernel: 7 exceeds the input \(5\).*windows.length_s"):
        Conv().build((3, 5), 2, 2, (3, 5))


def test_convolution_slides_over_time_with_electrodes_as_features() -> None:
    encoder, _ = Conv(channels=(6,), kernel=5, stride=1).build((3, 40), 2, 2, (3, 40))
    convolution = encoder[0]
    assert isinstance(convolution, nn.Conv1d)
    assert convolution.weight.shape == (6, 3, 5)
    signal = torch.zeros(1, 3, 40)
    signal[0, 1, 20] = 1.0
    moved = torch.roll(signal, 4, dims=2)
    assert torch.equal(torch.roll(convolution(signal), 4, dims=2), convolution(moved))


@pytest.mark.parametrize("architecture", [Dense(hidden=(16,)), Conv(channels=(4, 3), kernel=3)])
@pytest.mark.parametrize("shape", [EEG, IMAGE, TABLE])
def test_every_parameter_gets_a_gradient(
    architecture: Dense | Conv, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    encoder, decoder = architecture.build(shape, 5, 5, shape)
    x = torch.randn(16, *shape)
    (decoder(encoder(x)) - x).square().mean().backward()
    without = [
        name
        for part in (encoder, decoder)
        for name, p in part.named_parameters()
        if p.grad is None or not p.grad.abs().max() > 0
    ]
    assert not without


# ------------------------------------------------------------------------------- layers


def test_leaky_relu_has_the_texts_slope() -> None:
    assert activation("leaky_relu")(torch.tensor([-2.0, 3.0])).tolist() == pytest.approx([-0.6, 3])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", -1.0),
        ("relu", 0.0),
        ("elu", -0.63212),
        ("gelu", -0.15866),
        ("tanh", -0.76159),
        ("sigmoid", 0.26894),
    ],
)
def test_nonlinearities_are_what_their_names_say(name: str, expected: float) -> None:
    assert float(activation(name)(torch.tensor(-1.0))) == pytest.approx(expected, abs=1e-4)


def test_crop_keeps_the_beginning_of_each_trailing_axis() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(Crop((3, 5))(x), x[..., :3, :5])
    assert torch.equal(Crop((5,))(x), x[..., :5])


def test_glorot_fills_its_interval_and_clears_biases() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 100)
    glorot_(nn.Sequential(layer))
    limit = sqrt(6 / 300)
    assert float(layer.bias.abs().max()) == 0
    assert float(layer.weight.abs().max()) <= limit
    assert float(layer.weight.std()) == pytest.approx(limit / sqrt(3), rel=0.02)


def test_only_what_is_trained_is_counted() -> None:
    layer = nn.Linear(5, 3)
    assert n_parameters(layer) == prod((5, 3)) + 3
    layer.bias.requires_grad_(False)
    assert n_parameters(layer) == 15
