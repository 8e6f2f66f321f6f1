from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from made import COLUMNS, LAYOUTS
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column
from ae_pipeline.models.likelihoods import FAMILIES, Likelihood

RNG = torch.Generator().manual_seed(0)


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=RNG)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG)


ITEMS = tuple(Column(f"q{i}", "ordinal", (1.0, 2.0, 3.0, 4.0)) for i in range(3))


# ------------------------------------------------------------------------------ families


def test_bernoulli_is_the_distributions_log_probability() -> None:
    logits, x = 3 * randn(50), (rand(50) > 0.5).float()
    loss = FAMILIES["bernoulli"].loss(logits, x)
    torch.testing.assert_close(loss, -Bernoulli(logits=logits).log_prob(x))
    torch.testing.assert_close(FAMILIES["bernoulli"].mean(logits), Bernoulli(logits=logits).mean)


def test_bernoulli_of_a_grey_pixel_is_its_cross_entropy() -> None:
    logits, x = 3 * randn(50), rand(50)
    p = torch.sigmoid(logits)
    by_hand = -(x * p.log() + (1 - x) * (1 - p).log())
    torch.testing.assert_close(FAMILIES["bernoulli"].loss(logits, x), by_hand)


def test_bernoulli_stays_finite_where_a_sigmoid_would_saturate() -> None:
    loss = FAMILIES["bernoulli"].loss(torch.tensor([-200.0, 200.0]), torch.tensor([1.0, 0.0]))
    assert loss.tolist() == [200.0, 200.0]


def test_gaussian_is_the_squared_error_and_a_normals_density_but_for_constants() -> None:
    mean, x = randn(50), randn(50)
    loss = FAMILIES["gaussian"].loss(mean, x)
    torch.testing.assert_close(loss.mean(), F.mse_loss(mean, x))
    density = -Normal(mean, 1.0).log_prob(x)
    torch.testing.assert_close(loss / 2 + 0.5 * math.log(2 * math.pi), density)


def test_huber_is_the_squared_error_up_to_one_and_linear_beyond() -> None:
    x = torch.tensor([0.0, 0.3, -1.0, 1.0, 3.0, -1001.0])
    parameters = x.new_zeros(6).requires_grad_()
    loss = FAMILIES["huber"].loss(parameters, x)
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.09, 1.0, 1.0, 5.0, 2001.0]))
    loss.sum().backward()
    assert parameters.grad is not None
    assert float(parameters.grad.abs().max()) == 2  # an outlier pulls no more than one unit does
    assert FAMILIES["huber"].mean(x) is x


def test_huber_finds_the_middle_that_an_outlier_does_not_move() -> None:
    x = torch.cat([torch.linspace(-0.5, 0.5, 99), torch.tensor([1e4])])
    middle = torch.zeros(1, requires_grad=True)
    for _ in range(100):
        loss = Likelihood("huber", "series", shape=(1,)).loss(middle.expand(100, 1), x[:, None])
        (slope,) = torch.autograd.grad(loss, middle)
        middle = (middle - 0.3 * slope).detach().requires_grad_()
    assert float(middle) == pytest.approx(0.01, abs=0.001)  # 99 pull back what one pulls
    assert float(x.mean()) > 99


def test_categorical_is_the_distributions_log_probability_of_the_level() -> None:
    logits, level = randn(50, 5), torch.randint(0, 5, (50,), generator=RNG)
    loss = FAMILIES["categorical"].loss(logits, level / 4)
    torch.testing.assert_close(loss, -Categorical(logits=logits).log_prob(level))
    expected = (Categorical(logits=logits).probs * torch.arange(5) / 4).sum(-1)
    torch.testing.assert_close(FAMILIES["categorical"].mean(logits), expected)


@pytest.mark.parametrize("n_levels", [2, 3, 7, 101])
def test_every_level_survives_the_way_over_network_units(n_levels: int) -> None:
    """Levels are spread over 0 to 1 in float32 and rounded back: none may meet its neighbour."""
    level = torch.arange(n_levels)
    logits = 50.0 * torch.eye(n_levels)
    loss = FAMILIES["categorical"].loss(logits, level.float() / (n_levels - 1))
    assert float(loss.max()) < 1e-3


# ---------------------------------------------------------------------------- likelihoods


@pytest.mark.parametrize(
    ("kind", "shape", "columns", "family"),
    [
        ("eeg", (4, 30), (), "gaussian"),
        ("mnist", (28, 28), (), "bernoulli"),
        ("questionnaire", (3,), ITEMS, None),
    ],
)
def test_auto_takes_what_fits_the_kind_of_data(
    kind: str, shape: tuple[int, ...], columns: tuple[Column, ...], family: str | None
) -> None:
    likelihood = Likelihood("auto", LAYOUTS[kind], shape=shape, columns=columns)  # type: ignore[arg-type]
    assert likelihood.uniform == family
    if family:
        assert likelihood.output_shape == shape
    else:
        assert likelihood.by_column == dict.fromkeys(range(3), ("ordinal", 4))


def test_each_column_of_a_mixed_table_has_its_own_family() -> None:
    likelihood = Likelihood("mixed", "table", shape=(len(COLUMNS),), columns=COLUMNS)
    fewer = {"nominal": 0, "ordinal": 1}  # thresholds lie between levels
    sizes = [max(1, len(c.levels) - fewer.get(c.type, len(c.levels))) for c in COLUMNS]
    assert likelihood.output_shape == (sum(sizes),)
    n = 6
    x = torch.stack(
        [
            torch.randint(0, len(c.levels), (n,), generator=RNG) / (len(c.levels) - 1)
            if c.levels
            else randn(n)
            for c in COLUMNS
        ],
        1,
    )
    parameters = randn(n, sum(sizes))
    loss = likelihood.loss_per_entry(parameters, x)
    mean = likelihood.mean(parameters)
    assert loss.shape == mean.shape == x.shape
    used = torch.zeros(sum(sizes), dtype=torch.int)
    for i, column in enumerate(COLUMNS):
        # which parameters a column's loss depends on says which ones are its own
        probe = parameters.clone().requires_grad_()
        likelihood.loss_per_entry(probe, x)[:, i].sum().backward()
        assert probe.grad is not None
        mine = probe.grad.abs().sum(0) > 0
        used += mine.int()
        own = parameters[:, mine]
        if column.type == "continuous":
            expected, level = (own[:, 0] - x[:, i]).square(), own[:, 0]
        elif column.type == "binary":
            expected = -Bernoulli(logits=own[:, 0]).log_prob(x[:, i])
            level = own[:, 0].sigmoid()
        else:
            size = len(column.levels)
            chosen = Categorical(logits=own)
            if column.type == "ordinal":
                chosen = Categorical(probs=FAMILIES["ordinal"].probabilities(own))
            expected = -chosen.log_prob((x[:, i] * (size - 1)).round())
            level = (chosen.probs * torch.arange(size) / (size - 1)).sum(1)
        torch.testing.assert_close(loss[:, i], expected, msg=column.name)
        torch.testing.assert_close(mean[:, i], level, msg=column.name)
    assert used.tolist() == [1] * sum(sizes)  # each parameter belongs to one column


@pytest.mark.parametrize("name", ["gaussian", "huber", "bernoulli", "categorical"])
def test_masked_loss_ignores_hidden_entries(name: str) -> None:
    likelihood = Likelihood(name, "table", shape=(3,), columns=ITEMS)
    x = torch.randint(0, 4, (8, 3), generator=RNG) / 3
    observed = (rand(8, 3) > 0.4).float()
    parameters = randn(8, *likelihood.output_shape)
    loss = likelihood.loss(parameters, x, weight=observed)
    elsewhere = torch.where(observed > 0, x, 1 - x)
    assert not torch.equal(x, elsewhere)
    assert torch.equal(loss, likelihood.loss(parameters, elsewhere, weight=observed))
    per_entry = likelihood.loss_per_entry(parameters, x)
    torch.testing.assert_close(loss, per_entry[observed > 0].mean())


def test_a_batch_without_any_observed_entry_costs_nothing() -> None:
    likelihood = Likelihood("gaussian", "table", shape=(3,), columns=ITEMS)
    assert float(likelihood.loss(randn(2, 3), randn(2, 3), weight=torch.zeros(2, 3))) == 0


@pytest.mark.parametrize("name", ["gaussian", "huber", "bernoulli", "categorical"])
def test_the_fused_mean_is_the_mean_of_the_entries(name: str) -> None:
    likelihood = Likelihood(name, "table", shape=(3,), columns=ITEMS)
    parameters, x = randn(8, *likelihood.output_shape), torch.randint(0, 4, (8, 3)) / 3
    mean = likelihood.loss_per_entry(parameters, x).mean()
    torch.testing.assert_close(likelihood.loss(parameters, x), mean)
    torch.testing.assert_close(likelihood.loss(parameters, x, weight=torch.ones(8, 3)), mean)


def test_a_family_that_needs_levels_refuses_data_without() -> None:
    with pytest.raises(StudyError, match="'categorical' needs items with declared levels"):
        Likelihood("categorical", "series", shape=(4, 30))
    with pytest.raises(StudyError, match="'mixed' needs items with declared levels"):
        Likelihood("mixed", "grid", shape=(28, 28))
    columns = (Column("q1", "ordinal", (1.0, 2.0)), Column("age"))
    with pytest.raises(StudyError, match="at least two levels; item 'age' declares 0"):
        Likelihood("categorical", "table", shape=(2,), columns=columns)
