from __future__ import annotations

from typing import Any

import pytest
import torch
from made import COLUMNS, LAYOUTS, as_array, of_kind
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder, Code
from ae_pipeline.models.layers import n_parameters
from ae_pipeline.models.objectives import Encoding, Objective, Vanilla
from ae_pipeline.models.scaler import Scaler

ARCHITECTURES = ({"kind": "dense", "hidden": (32,)}, {"kind": "conv", "channels": (8, 4)})
LIKELIHOODS: dict[str, tuple[str, ...]] = {
    "eeg": ("gaussian", "huber"),
    "mnist": ("bernoulli", "gaussian"),
    "questionnaire": ("mixed", "gaussian", "huber"),
}
GRID = [
    pytest.param(a, k, likelihood, id=f"{a['kind']}-{k}-{likelihood}")
    for a in ARCHITECTURES
    for k, likelihoods in LIKELIHOODS.items()
    for likelihood in likelihoods
]


def model_of(architecture: dict[str, Any], likelihood: str = "auto", latent_dim: int = 6) -> Model:
    return Model.model_validate(
        {
            "architecture": architecture,
            "objective": {"kind": "vanilla"},
            "likelihood": likelihood,
            "latent_dim": latent_dim,
        }
    )


def prepare(
    architecture: dict[str, Any], kind: str, likelihood: str = "auto", latent_dim: int = 6
) -> tuple[Autoencoder, Tensor, Tensor | None]:
    """A model and one batch, in network units, that fits it."""
    samples = as_array(of_kind(kind, 16))
    scaler = Scaler.fit(samples)
    torch.manual_seed(0)
    config = model_of(architecture, likelihood, latent_dim)
    model = Autoencoder(
        config,
        LAYOUTS[kind],
        shape=samples.shape,
        columns=samples.columns,
        has_missing=samples.mask is not None,
    )
    x = torch.from_numpy(scaler.transform(samples.values, samples.mask))  # type: ignore[arg-type]
    observed = None if samples.mask is None else torch.from_numpy(samples.mask).float()
    return model, x, observed


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# ------------------------------------------------------------------- every combination


@pytest.mark.parametrize(("architecture", "kind", "likelihood"), GRID)
def test_shapes_come_round(architecture: dict[str, Any], kind: str, likelihood: str) -> None:
    model, x, observed = prepare(architecture, kind, likelihood)
    parameters = model(x, observed)
    assert model.encode(x, observed).mean.shape == (len(x), 6)
    assert parameters.shape == (len(x), *model.likelihood.output_shape)
    assert model.likelihood.mean(parameters).shape == x.shape
    assert model.likelihood.loss_per_entry(parameters, x).shape == x.shape


@pytest.mark.parametrize(("architecture", "kind", "likelihood"), GRID)
def test_every_parameter_gets_a_gradient(
    architecture: dict[str, Any], kind: str, likelihood: str
) -> None:
    model, x, observed = prepare(architecture, kind, likelihood)
    model.loss(x, observed, generator()).total.backward()
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in model.parameters())


@pytest.mark.parametrize(("architecture", "kind", "likelihood"), GRID)
def test_one_batch_is_overfitted(architecture: dict[str, Any], kind: str, likelihood: str) -> None:
    model, x, observed = prepare(architecture, kind, likelihood, latent_dim=11)
    x, observed = x[:6], None if observed is None else observed[:6]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def step() -> float:
        loss = model.loss(x, observed, generator()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    first = step()
    # the least that any model can reach: grey pixels keep their own entropy
    floor = torch.zeros(())
    if model.likelihood.uniform == "bernoulli":
        floor = model.likelihood.loss(torch.logit(x, 1e-7), x)
    goal = float(floor) + 0.1 * (first - float(floor))
    assert any(step() < goal for _ in range(300))


# ---------------------------------------------------------------------------- the model


def test_the_texts_model_has_exactly_its_parameters() -> None:
    model = Autoencoder(model_of({"kind": "dense"}, latent_dim=10), "grid", shape=(28, 28))
    assert n_parameters(model) == 407_834


def test_the_default_of_a_study_without_architecture_details_is_the_texts() -> None:
    config = model_of({"kind": "dense"})
    assert config.architecture.kind == "dense"
    assert config.architecture.hidden == (256,)


def test_a_code_as_large_as_the_input_is_refused() -> None:
    config = model_of(ARCHITECTURES[0], latent_dim=12)
    with pytest.raises(StudyError, match=r"latent_dim: 12 is not below the input's 12 numbers"):
        Autoencoder(config, "table", shape=(12,), columns=COLUMNS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": {"kind": "denes"}},
        {"architecture": {"kind": "dense", "kernel": 3}},
        {"latent_dim": 0},
        {"likelihood": "poisson"},
    ],
)
def test_a_misspelt_model_is_refused(wrong: dict[str, Any]) -> None:
    right = {"architecture": {"kind": "dense"}, "objective": {"kind": "vanilla"}}
    with pytest.raises(ValidationError):
        Model.model_validate(right | wrong)


def test_loss_is_that_of_the_clean_input_through_the_mean_code() -> None:
    model, x, _ = prepare(ARCHITECTURES[1], "eeg")
    expected = (model.decode(model.encode(x).mean) - x).square().mean()
    loss = model.loss(x, None, generator())
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.reconstruction, expected)


def test_a_missing_answer_is_told_from_a_given_one() -> None:
    model, x, observed = prepare(ARCHITECTURES[0], "questionnaire")
    assert observed is not None
    assert not torch.equal(model(x, observed), model(x, torch.ones_like(x)))
    assert torch.equal(model(x, None), model(x, torch.ones_like(x)))


def test_nominal_answers_reach_the_network_as_one_of_n() -> None:
    samples = of_kind("questionnaire")
    columns: tuple[Column, ...] = samples.columns
    (index,) = (i for i, column in enumerate(columns) if column.type == "nominal")
    model = Autoencoder(model_of(ARCHITECTURES[0]), "table", shape=samples.shape, columns=columns)
    rows = []
    model.encoder.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0]))
    x = torch.zeros(3, len(columns))
    x[:, index] = torch.tensor([0.0, 0.5, 1.0])
    model.encode(x)
    shown = rows[0].squeeze(1)
    assert shown.shape == (3, len(columns) + 2)
    assert torch.equal(shown[:, index : index + 3], torch.eye(3))


def test_noise_does_not_carry_a_nominal_answer_past_its_levels() -> None:
    model, x, _ = prepare(ARCHITECTURES[0], "questionnaire")
    (index,) = (i for i, column in enumerate(COLUMNS) if column.type == "nominal")
    x[:, index] = torch.linspace(-3, 4, len(x))
    shown = model._show(x)[:, index : index + 3]
    assert shown[0].tolist() == [1, 0, 0]
    assert shown[-1].tolist() == [0, 0, 1]


def test_the_codes_nonlinearity_is_the_architectures() -> None:
    model, x, _ = prepare({**ARCHITECTURES[0], "code_activation": "sigmoid"}, "eeg")
    code = model.encode(1e3 * x).mean
    assert float(code.min()) >= 0
    assert float(code.max()) <= 1


def test_glorot_reaches_every_layer() -> None:
    for kind in ("conv", "recurrent", "attention"):
        model, *_ = prepare({"kind": kind, "init": "glorot"}, "eeg")
        biases = [p for name, p in model.named_parameters() if "bias" in name]
        assert biases
        assert all(float(p.abs().max()) == 0 for p in biases)


# ---------------------------------------------------------------------------- the parts


def test_vanilla_changes_nothing() -> None:
    x, observed = torch.randn(3, 4), torch.ones(3, 4)
    for objective in (Objective(), Vanilla()):
        assert objective.corrupt(x, observed, generator=generator(), layout="grid") == (
            x,
            observed,
            observed,
        )
        encoding = Encoding(lambda inputs: inputs, x, x, None, 4, True, generator(), 1)
        assert objective.penalty(encoding) is None
        assert objective.bottleneck == "point"


def test_a_point_code_is_drawn_as_it_is() -> None:
    mean = torch.randn(3, 2)
    assert Code(mean).draw(generator()) is mean
    assert Code(mean, torch.zeros(3, 2)).draw(None) is mean


def test_draws_of_a_gaussian_code_are_distributed_as_it_says() -> None:
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    n = 20_000
    code = Code(mean.expand(n, 2), log_variance.expand(n, 2).clone().requires_grad_())
    drawn = code.draw(generator())
    expected = Normal(mean[0], (0.5 * log_variance[0]).exp())
    torch.testing.assert_close(drawn.mean(0), expected.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), expected.stddev, atol=0.05, rtol=0)
    drawn.sum().backward()
    assert code.log_variance is not None
    assert code.log_variance.grad is not None  # the draw is reparametrised
    assert torch.equal(drawn, code.draw(generator()))
