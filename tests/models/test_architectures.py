from __future__ import annotations

import math
from math import prod, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ae_pipeline.config import StudyError
from ae_pipeline.models.architectures import (
    AnyArchitecture,
    Architecture,
    Attention,
    Conv,
    Dense,
    Recurrent,
)
from ae_pipeline.models.layers import (
    Crop,
    Gru,
    Last,
    Lstm,
    PadEnd,
    Positions,
    SelfAttention,
    TransformerBlock,
    activation,
    glorot_,
    n_parameters,
    twice_differentiable,
)

EEG, IMAGE, TABLE = (4, 101), (1, 28, 28), (1, 25)


def round_trip(
    architecture: Architecture, shape: tuple[int, ...], output: tuple[int, ...], latent_dim: int = 3
) -> None:
    encoder, decoder = architecture.build(
        shape, latent_dim, latent_dim=latent_dim, output_shape=output
    )
    code = encoder(torch.randn(2, *shape))
    assert code.shape == (2, latent_dim)
    assert decoder(code).shape == (2, *output)


# -------------------------------------------------------------------------------- dense


def test_the_texts_model_has_exactly_its_parameters() -> None:
    encoder, decoder = Dense(hidden=(256,)).build(
        (1, 28, 28), 10, latent_dim=10, output_shape=(1, 28, 28)
    )
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
    encoder, decoder = Dense(hidden=(16, 8)).build((1, 20), 3, latent_dim=3, output_shape=(1, 20))
    widths = [
        [(m.in_features, m.out_features) for m in part.modules() if isinstance(m, nn.Linear)]
        for part in (encoder, decoder)
    ]
    assert widths == [[(20, 16), (16, 8), (8, 3)], [(3, 8), (8, 16), (16, 20)]]


def test_neither_code_nor_output_is_bent() -> None:
    """Logits leave the decoder, and the code's own nonlinearity is the model's business."""
    encoder, decoder = Dense(hidden=(8,), activation="sigmoid").build(
        (1, 6), 2, latent_dim=2, output_shape=(1, 6)
    )
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
            architecture.build(shape, 1, latent_dim=1, output_shape=shape)
    else:
        round_trip(architecture, shape, shape, latent_dim=1)


@pytest.mark.parametrize("shape", [EEG, IMAGE, TABLE, (64, 500), (1, 129)])
def test_default_convolutions_fit_common_inputs(shape: tuple[int, ...]) -> None:
    round_trip(Conv(), shape, shape)


def test_a_tables_items_may_have_several_parameters_each() -> None:
    round_trip(Conv(kernel=3), TABLE, (1, 77))


def test_a_kernel_longer_than_the_window_says_what_to_do() -> None:
    with pytest.raises(StudyError, match=r"kernel: 7 exceeds the input \(5\).*windows.length_s"):
        Conv().build((3, 5), 2, latent_dim=2, output_shape=(3, 5))


def test_convolution_slides_over_time_with_electrodes_as_features() -> None:
    encoder, _ = Conv(channels=(6,), kernel=5, stride=1).build(
        (3, 40), 2, latent_dim=2, output_shape=(3, 40)
    )
    convolution = encoder[0]
    assert isinstance(convolution, nn.Conv1d)
    assert convolution.weight.shape == (6, 3, 5)
    signal = torch.zeros(1, 3, 40)
    signal[0, 1, 20] = 1.0
    moved = torch.roll(signal, 4, dims=2)
    assert torch.equal(torch.roll(convolution(signal), 4, dims=2), convolution(moved))


# --------------------------------------------------------------------------- recurrence


SERIES = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 90)),
    st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 20)),
)


@settings(max_examples=40, deadline=None)
@given(
    shape=SERIES,
    cell=st.sampled_from(["lstm", "gru"]),
    both_ways=st.booleans(),
    layers=st.integers(1, 2),
    patch=st.one_of(st.just("auto"), st.integers(1, 9)),
)
def test_recurrences_give_back_any_shape(
    shape: tuple[int, ...], cell: str, both_ways: bool, layers: int, patch: int | str
) -> None:
    architecture = Recurrent.model_validate(
        {
            "cell": cell,
            "bidirectional": both_ways,
            "layers": layers,
            "patch": patch,
            "embedding": 5,
            "hidden": 4,
        }
    )
    if patch != "auto" and int(patch) > shape[1]:
        with pytest.raises(StudyError, match=f"patch: {patch} exceeds the input .{shape[1]}."):
            architecture.build(shape, 1, latent_dim=1, output_shape=shape)
    else:
        round_trip(architecture, shape, shape, latent_dim=1)


@pytest.mark.parametrize("architecture", [Recurrent(), Attention()])
def test_tables_may_have_more_parameters_than_items(architecture: Architecture) -> None:
    round_trip(architecture, TABLE, (1, 77))
    round_trip(architecture, TABLE, (1, 3))


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_code_rests_on_what_the_recurrence_ends_with(cell: str, both_ways: bool) -> None:
    mine, theirs = {"lstm": (Lstm, nn.LSTM), "gru": (Gru, nn.GRU)}[cell]
    recurrence, plain = (
        kind(3, 4, 2, batch_first=True, bidirectional=both_ways) for kind in (mine, theirs)
    )
    plain.load_state_dict(recurrence.state_dict())
    x = torch.randn(5, 7, 3)
    out, state = plain(x)
    assert torch.equal(recurrence(x), out)
    last_layer = (state[0] if cell == "lstm" else state)[-2 if both_ways else -1 :]
    expected = last_layer.transpose(0, 1).flatten(1)
    assert torch.equal(Last(both_ways)(out), expected)


def test_electrodes_are_features_and_an_images_rows_are_steps() -> None:
    def read(architecture: Recurrent, shape: tuple[int, ...]) -> tuple[int, ...]:
        encoder, _ = architecture.build(shape, 2, latent_dim=2, output_shape=shape)
        shapes: list[tuple[int, ...]] = []
        (front,) = (m for m in encoder.modules() if isinstance(m, nn.Conv1d))
        front.register_forward_hook(lambda _, inputs, out: shapes.extend([inputs[0].shape, out]))
        x = torch.arange(2.0 * prod(shape)).reshape(2, *shape)
        encoder(x)
        if len(shape) == 3:  # the second step holds the second row
            moved = x.clone()
            moved[:, :, 1] += 1
            before = shapes[1]
            encoder(moved)
            changed = (before != shapes[3]).any(1).any(0)  # type: ignore[attr-defined]
            assert changed.nonzero().flatten().tolist() == [1]
        return tuple(shapes[0])[1:]

    assert read(Recurrent(patch=4), (6, 40)) == (6, 40)
    assert read(Recurrent(), (1, 28, 20)) == (20, 28)


@pytest.mark.parametrize(
    ("shape", "steps"), [((64, 256), 32), ((19, 500), 32), ((1, 28, 28), 28), ((1, 12), 12)]
)
def test_a_recurrence_reads_a_few_dozen_steps_at_most(shape: tuple[int, ...], steps: int) -> None:
    encoder, _ = Recurrent().build(shape, 2, latent_dim=2, output_shape=shape)
    seen: list[int] = []
    (recurrence,) = (m for m in encoder.modules() if isinstance(m, Lstm))
    recurrence.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    encoder(torch.zeros(1, *shape))
    assert seen == [steps]


# ---------------------------------------------------------------------------- attention


@settings(max_examples=40, deadline=None)
@given(shape=SERIES, patch=st.one_of(st.just("auto"), st.integers(1, 9)))
def test_attention_gives_back_any_shape(shape: tuple[int, ...], patch: int | str) -> None:
    architecture = Attention.model_validate({"patch": patch, "width": 8, "heads": 2, "layers": 1})
    if patch != "auto" and int(patch) > min(shape[1:]):
        with pytest.raises(StudyError, match=f"patch: {patch} exceeds the input"):
            architecture.build(shape, 1, latent_dim=1, output_shape=shape)
    else:
        round_trip(architecture, shape, shape, latent_dim=1)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="width 10 is not a multiple of heads 4"):
        Attention(width=10)


def test_layers_of_attention_do_not_start_as_copies_of_each_other() -> None:
    encoder, _ = Attention(layers=2).build(EEG, 2, latent_dim=2, output_shape=EEG)
    one, other = (m for m in encoder if isinstance(m, TransformerBlock))
    assert not torch.equal(one.think[1].weight, other.think[1].weight)


def test_a_block_is_the_transformers() -> None:
    """Against PyTorch's own layer with the same weights."""
    block = TransformerBlock(8, 2)
    plain = nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    attention = block.attend[1]
    assert isinstance(attention, SelfAttention)
    plain.self_attn.in_proj_weight = attention.projections.weight
    plain.self_attn.in_proj_bias = attention.projections.bias
    plain.self_attn.out_proj = attention.output
    plain.norm1, plain.norm2 = block.attend[0], block.think[0]
    plain.linear1, plain.linear2 = block.think[1], block.think[3]
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(block(x), plain(x))


def test_attention_tells_where_a_patch_is() -> None:
    """Without positions the blocks would treat exchanged patches alike."""
    torch.manual_seed(0)
    encoder, _ = Attention(patch=10, layers=1).build((2, 40), 3, latent_dim=3, output_shape=(2, 40))
    x = torch.randn(1, 2, 40)
    exchanged = torch.cat([x[..., 10:20], x[..., :10], x[..., 20:]], 2)
    blocks = encoder[:-2]
    out, other = blocks(x), blocks(exchanged)
    assert not torch.allclose(out[:, [1, 0, 2, 3]], other, atol=1e-3)


def test_positions_are_sines_and_cosines_and_not_stored() -> None:
    positions = Positions(50, 6)
    pattern = positions(torch.zeros(1, 50, 6))[0]
    for place in (0, 7, 49):
        expected = [
            f(place / 10_000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)
        ]
        assert pattern[place].tolist() == pytest.approx(expected, abs=1e-5)
    assert not positions.state_dict()


@pytest.mark.parametrize("architecture", [Recurrent(layers=2), Recurrent(cell="gru"), Attention()])
def test_every_layer_with_weights_is_passed_with_one_tensor(architecture: Architecture) -> None:
    """What a summary of the layers rests on."""
    counted: list[int] = []

    def count(layer: nn.Module, _: Any, out: Any) -> None:
        assert isinstance(out, Tensor)
        counted.append(n_parameters(layer))

    encoder, decoder = architecture.build(EEG, 3, latent_dim=3, output_shape=EEG)
    for module in (*encoder.modules(), *decoder.modules()):
        if next(module.children(), None) is None and n_parameters(module):
            module.register_forward_hook(count)
    decoder(encoder(torch.randn(1, *EEG)))
    assert sum(counted) == n_parameters(encoder) + n_parameters(decoder)


def test_attention_and_recurrence_have_a_second_derivative_where_it_is_asked_for() -> None:
    for architecture in (Attention(layers=1), Recurrent(), Recurrent(cell="gru")):
        encoder, _ = architecture.build(EEG, 2, latent_dim=2, output_shape=EEG)
        x = torch.randn(3, *EEG, requires_grad=True)
        with twice_differentiable():
            code = encoder(x)
        (slope,) = torch.autograd.grad(code.sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert x.grad is not None
        assert bool(x.grad.any())


# ------------------------------------------------------------------------ every of them


@pytest.mark.parametrize(
    "architecture",
    [
        Dense(hidden=(16,)),
        Conv(channels=(4, 3), kernel=3),
        Recurrent(hidden=8, layers=2, bidirectional=True),
        Attention(width=8, heads=2),
    ],
)
@pytest.mark.parametrize("shape", [EEG, IMAGE, TABLE])
def test_every_parameter_gets_a_gradient(
    architecture: Architecture, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    encoder, decoder = architecture.build(shape, 5, latent_dim=5, output_shape=shape)
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


def test_padding_stands_at_the_end_and_crop_takes_it_off() -> None:
    x = torch.rand(2, 3, 4, 5)
    longer = PadEnd((2, 1))(x)
    assert longer.shape == (2, 3, 6, 6)
    assert float(longer.sum()) == pytest.approx(float(x.sum()), rel=1e-5)
    assert torch.equal(Crop((4, 5))(longer), x)
    assert PadEnd((0, 0))(x) is x


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "conv", "channels": [100_000]},
        {"kind": "conv", "channels": [8] * 1000},
        {"kind": "dense", "hidden": [10**9]},
        {"kind": "attention", "layers": 10_000},
    ],
)
def test_sizes_that_no_memory_holds_are_refused_before_anything_is_made(
    wrong: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AnyArchitecture).validate_python(wrong)
