"""Every architecture with every objective on every kind of data, and each objective by itself."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from made import LAYOUTS, as_array, of_kind
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal, kl_divergence

from ae_pipeline.config import StudyError
from ae_pipeline.data import Samples
from ae_pipeline.models import Model
from ae_pipeline.models.architectures import AnyArchitecture
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.objectives import (
    AnyObjective,
    Contractive,
    Denoising,
    Encoding,
    Masked,
    Sparse,
    Variational,
    active_units,
)
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training.history import Epoch, History
from ae_pipeline.training.loop import FittedAutoencoder, Training, fit

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dense": {"hidden": [32]},
    "conv": {"channels": [8, 4], "kernel": 3},
    "recurrent": {"hidden": 16, "embedding": 16},
    "attention": {"width": 16, "heads": 2, "layers": 1},
}
OBJECTIVES = ("vanilla", "denoising", "masked", "variational", "sparse", "contractive")
KINDS: tuple[str, ...] = ("eeg", "mnist", "questionnaire")
LATENT_DIM = 6
TRAINING: dict[str, Any] = {"batch_size": 8, "learning_rate": 3e-3, "device": "cpu"}

every_pair = pytest.mark.parametrize(
    ("architecture", "objective", "kind"),
    [(a, o, k) for k in KINDS for a in ARCHITECTURES for o in OBJECTIVES],
)


@cache
def samples_of(kind: str) -> tuple[Samples, Scaler]:
    samples = of_kind(kind, 64)
    return samples, Scaler.fit(samples)


def build(
    kind: str,
    architecture: dict[str, Any] | str = "dense",
    objective: dict[str, Any] | str = "vanilla",
    seed: int = 0,
    latent_dim: int = LATENT_DIM,
    likelihood: str = "auto",
) -> Autoencoder:
    if isinstance(architecture, str):
        architecture = {"kind": architecture, **ARCHITECTURES[architecture]}
    if isinstance(objective, str):
        objective = {"kind": objective}
    samples, _ = samples_of(kind)
    config = Model.model_validate(
        {
            "architecture": architecture,
            "objective": objective,
            "latent_dim": latent_dim,
            "likelihood": likelihood,
        }
    )
    torch.manual_seed(seed)
    is_table = kind == "questionnaire"
    return Autoencoder(
        config, LAYOUTS[kind], shape=samples.shape, columns=samples.columns, has_missing=is_table
    )


def batch_of(kind: str, n: int = 8) -> tuple[Tensor, Tensor | None]:
    """Some samples in network units, and their mask."""
    samples, scaler = samples_of(kind)
    values, mask = as_array(samples.take(slice(0, n))).batch(slice(None))
    observed = None if mask is None else torch.from_numpy(mask).float()
    return torch.from_numpy(scaler.transform(values, mask)), observed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_on(kind: str, model: Autoencoder) -> float:
    samples, scaler = samples_of(kind)
    return float(FittedAutoencoder(model, scaler).score(samples).total.mean())


@cache
def trained(
    architecture: str, objective: str, kind: str
) -> tuple[float, FittedAutoencoder, History]:
    """Loss before training, and what two epochs make of it."""
    samples, scaler = samples_of(kind)
    model = build(kind, architecture, objective)
    before = loss_on(kind, model)
    fitted, history = fit(
        model, samples, validation=samples, scaler=scaler, config=Training(epochs=2, **TRAINING)
    )
    return before, fitted, history


# ------------------------------------------------------------------------- every combination


def test_the_grid_holds_all_there_is() -> None:
    def kinds(union: Any) -> set[str]:
        return {member.model_fields["kind"].default for member in get_args(get_args(union)[0])}

    assert kinds(AnyArchitecture) == set(ARCHITECTURES)
    assert kinds(AnyObjective) == set(OBJECTIVES)


@every_pair
def test_shapes_come_round_and_every_parameter_gets_a_gradient(
    architecture: str, objective: str, kind: str
) -> None:
    model = build(kind, architecture, objective)
    x, observed = batch_of(kind)
    parameters = model(x, observed)
    assert model.encode(x, observed).mean.shape == (len(x), LATENT_DIM)
    assert model.likelihood.mean(parameters).shape == x.shape
    before = x.clone()
    model.loss(x, observed, generator()).total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert torch.equal(x, before)  # the target is left as it is


@every_pair
def test_it_improves_on_its_first_epoch(architecture: str, objective: str, kind: str) -> None:
    before, _, history = trained(architecture, objective, kind)
    first = history.rows[0]["validation_loss"]
    assert first is not None
    assert first < before


@every_pair
def test_saved_and_loaded_it_gives_equal_scores(
    architecture: str, objective: str, kind: str
) -> None:
    _, fitted, _ = trained(architecture, objective, kind)
    samples, scaler = samples_of(kind)
    state = {k: torch.from_numpy(v) for k, v in fitted.state().items() if "scaler" not in k}
    config = Model.model_validate_json(fitted.model.config.model_dump_json())
    again = Autoencoder(
        config,
        LAYOUTS[kind],
        shape=samples.shape,
        columns=samples.columns,
        has_missing=kind == "questionnaire",
    )
    again.load_state_dict(state)
    found, expected = FittedAutoencoder(again, scaler).score(samples), fitted.score(samples)
    np.testing.assert_array_equal(found.total, expected.total)
    np.testing.assert_array_equal(found.by_entry, expected.by_entry)


@every_pair
def test_scoring_uses_the_clean_input_and_the_mean_code(
    architecture: str, objective: str, kind: str
) -> None:
    _, fitted, _ = trained(architecture, objective, kind)
    model, (samples, _) = fitted.model, samples_of(kind)
    x, observed = batch_of(kind)
    with torch.no_grad():
        parameters = model.decode(model.encode(x, observed).mean)
        by_entry = model.likelihood.loss_per_entry(parameters, x).flatten(1)
    weight = torch.ones_like(by_entry) if observed is None else observed.flatten(1)
    expected = (by_entry * weight).sum(1) / weight.sum(1)
    scored = fitted.score(samples.take(slice(0, len(x)))).total
    np.testing.assert_allclose(scored, expected.numpy(), rtol=1e-4)
    one_by_one = [fitted.score(samples.take(slice(i, i + 1))).total[0] for i in range(2)]
    np.testing.assert_allclose(one_by_one, scored[:2], rtol=1e-5)


class Interrupted(Exception):
    pass


@every_pair
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(
    architecture: str, objective: str, kind: str, tmp_path: Path
) -> None:
    _, whole, expected = trained(architecture, objective, kind)
    samples, scaler = samples_of(kind)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def stop(event: Any) -> None:
        if not isinstance(event, Epoch) and event.epoch == 2:
            raise Interrupted

    given = (samples, samples, scaler, Training(epochs=2, **TRAINING))
    kept: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_every_s": 0.0}
    with pytest.raises(Interrupted):
        fit(build(kind, architecture, objective), *given, listeners=(stop,), **kept)
    resumed, history = fit(build(kind, architecture, objective, seed=7), *given, **kept)
    losses = [[row["train_loss"] for row in each.rows] for each in (history, expected)]
    assert losses[0] == losses[1]
    state = resumed.state()
    assert all(np.array_equal(value, state[name]) for name, value in whole.state().items())


# ------------------------------------------------------------------------------- denoising


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", ["gaussian", "salt_and_pepper", "missing"])
def test_denoising_is_judged_by_the_clean_input(kind: str, noise: str) -> None:
    model = build(kind, "dense", {"kind": "denoising", "noise": noise, "level": 1.0, "rate": 0.5})
    x, observed = batch_of(kind)
    objective = model.config.objective
    seen, seen_observed, weight = objective.corrupt(
        x, observed, generator=generator(), layout=LAYOUTS[kind]
    )
    assert not torch.equal(seen, x)
    parameters = model.decode(model.encode(seen, seen_observed).mean)
    expected = model.likelihood.loss(parameters, x, weight=observed)
    torch.testing.assert_close(model.loss(x, observed, generator()).total, expected)
    assert weight is observed
    if observed is not None:
        assert not seen[observed == 0].any()  # a missing answer stays missing


def test_gaussian_noise_has_its_level() -> None:
    x = torch.zeros(50, 4, 200)
    seen, *_ = Denoising(level=0.7).corrupt(x, None, generator=generator(), layout="series")
    assert float(seen.std()) == pytest.approx(0.7, rel=0.01)
    assert float(seen.mean()) == pytest.approx(0.0, abs=0.02)


def test_salt_and_pepper_are_equally_frequent_and_hit_their_share() -> None:
    x = torch.full((50, 28, 28), 0.5)
    objective = Denoising(noise="salt_and_pepper", rate=0.3)
    seen, *_ = objective.corrupt(x, None, generator=generator(), layout="grid")
    assert float((seen == 1).float().mean()) == pytest.approx(0.15, abs=0.01)
    assert float((seen == 0).float().mean()) == pytest.approx(0.15, abs=0.01)
    assert float((seen == 0.5).float().mean()) == pytest.approx(0.7, abs=0.01)
    peaks, *_ = objective.corrupt(
        torch.zeros(9, 4, 50), None, generator=generator(), layout="series"
    )
    assert sorted(peaks.unique().tolist()) == [-4.0, 0.0, 4.0]


def test_salt_and_pepper_of_an_item_are_its_own_extremes() -> None:
    x, observed = batch_of("questionnaire", 64)
    objective = Denoising(noise="salt_and_pepper", rate=0.9)
    seen, *_ = objective.corrupt(x, observed, generator=generator(), layout="table")
    assert bool((seen >= x.amin(0)).all())
    assert bool((seen <= x.amax(0)).all())


def test_noise_that_takes_values_away_takes_its_share() -> None:
    x, observed = torch.ones(200, 30), (torch.rand(200, 30, generator=generator(1)) > 0.1).float()
    objective = Denoising(noise="missing", rate=0.25)
    seen, shown, _ = objective.corrupt(
        x * observed, observed, generator=generator(), layout="table"
    )
    assert shown is not None
    assert torch.equal(seen, shown)  # what is gone is shown as missing
    assert float(shown.sum() / observed.sum()) == pytest.approx(0.75, abs=0.02)


def test_channel_dropout_silences_whole_channels() -> None:
    x = torch.rand(500, 8, 30, generator=generator()) + 1
    objective = Denoising(noise="channel_dropout", rate=0.25)
    seen, *_ = objective.corrupt(x, None, generator=generator(), layout="series")
    silent = (seen == 0).all(2)
    assert torch.equal(seen, x * ~silent[:, :, None])
    assert float(silent.float().mean()) == pytest.approx(0.25, abs=0.02)


# ---------------------------------------------------------------------------------- masked


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_masked_loss_ignores_visible_entries(kind: str, architecture: str) -> None:
    """Against the mean over the hidden entries alone, by hand; and visible targets are free."""
    model = build(kind, architecture, "masked")
    x, observed = batch_of(kind)
    seen, shown, weight = model.config.objective.corrupt(
        x, observed, generator=generator(), layout=LAYOUTS[kind]
    )
    assert weight is not None
    parameters = model.decode(model.encode(seen, shown).mean)
    by_entry = model.likelihood.loss_per_entry(parameters, x)
    loss = model.loss(x, observed, generator())
    torch.testing.assert_close(loss.total, by_entry[weight > 0].mean())
    elsewhere = torch.where(weight > 0, x, 1 - x)
    assert torch.equal(
        model.likelihood.loss(parameters, elsewhere, weight=weight), loss.reconstruction
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_never_sees_what_it_has_to_predict(kind: str) -> None:
    model = build(kind, "dense", "masked")
    x, observed = batch_of(kind)
    objective = model.config.objective
    seen, shown, weight = objective.corrupt(
        x, observed, generator=generator(), layout=LAYOUTS[kind]
    )
    assert weight is not None
    other = torch.where(weight > 0, 1 - x, x)
    again, shown_again, _ = objective.corrupt(
        other, observed, generator=generator(), layout=LAYOUTS[kind]
    )
    assert torch.equal(seen, again)
    assert torch.equal(seen[weight == 0], x[weight == 0])
    if observed is not None:
        assert shown is not None
        assert shown_again is not None
        assert torch.equal(shown, shown_again)
        assert torch.equal(shown + weight, observed)  # hidden or visible, if it is known at all


def test_hidden_shares_are_exact_and_have_their_shape() -> None:
    x = torch.rand(40, 6, 64) + 1

    def hidden(objective: Masked, x: Tensor, kind: str) -> Tensor:
        weight = objective.corrupt(x, None, generator=generator(), layout=LAYOUTS[kind])[2]
        assert weight is not None
        return weight > 0

    spans = hidden(Masked(hide="time", size=8, share=0.5), x, "eeg")
    assert bool((spans == spans[:, :1]).all())  # all channels alike
    blocks = spans[:, 0].reshape(40, 8, 8)
    assert bool((blocks.all(2) | ~blocks.any(2)).all())
    assert set(blocks.any(2).sum(1).tolist()) == {4}
    assert len(blocks.any(2).unique(dim=0)) > 10

    channels = hidden(Masked(hide="channels", share=0.5), x, "eeg")
    assert bool((channels == channels[:, :, :1]).all())
    assert set(channels[:, :, 0].sum(1).tolist()) == {3}

    both = hidden(Masked(share=0.5), x, "eeg")
    whole = (both == both[:, :, :1]).all((1, 2))
    assert 8 < int(whole.sum()) < 32  # by chance one or the other

    patches = hidden(Masked(size=4, share=0.25), torch.rand(40, 28, 28), "mnist")
    areas = patches.reshape(40, 7, 4, 7, 4)
    assert bool((areas.all((2, 4)) | ~areas.any(4).any(2)).all())
    assert set(areas.all((2, 4)).sum((1, 2)).tolist()) == {12}

    items = hidden(Masked(share=0.25), torch.rand(40, 12), "questionnaire")
    assert set(items.sum(1).tolist()) == {3}


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_something_is_always_hidden_and_something_left(share: float) -> None:
    for kind in KINDS:
        x, _ = batch_of(kind)
        weight = Masked(share=share).corrupt(x, None, generator=generator(), layout=LAYOUTS[kind])[
            2
        ]
        assert weight is not None
        hidden = weight.flatten(1).mean(1)
        assert bool(((hidden > 0) & (hidden < 1)).all())


# ----------------------------------------------------------------------------- variational


def encoding_of(
    mean: Tensor, log_variance: Tensor | None = None, n_entries: float = 1.0, epoch: int = 1
) -> Encoding:
    return Encoding(lambda x: x, mean, mean, log_variance, n_entries, True, generator(), epoch)


def test_divergence_is_that_of_the_distributions_per_entry() -> None:
    mean, log_variance = torch.randn(2, 50, 6, generator=generator())
    penalty = Variational(beta=3.0).penalty(encoding_of(mean, log_variance, n_entries=40))
    code, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)
    expected = 3.0 * kl_divergence(code, prior).sum(1).mean() / 40
    torch.testing.assert_close(penalty, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_at_beta_1_is_the_evidence_bound_per_known_entry(kind: str) -> None:
    model = build(kind, "dense", "variational")
    x, observed = batch_of(kind)
    loss = model.loss(x, observed, generator())
    code = model.encode(x, observed)
    by_entry = model.likelihood.loss_per_entry(model.decode(code.draw(generator())), x)
    known = torch.ones_like(x) if observed is None else observed
    assert code.log_variance is not None
    divergence = kl_divergence(Normal(code.mean, (0.5 * code.log_variance).exp()), Normal(0.0, 1.0))
    expected = ((by_entry * known).sum() + divergence.sum()) / known.sum()
    torch.testing.assert_close(loss.total, expected)


def test_free_bits_cost_nothing_and_pull_at_nothing() -> None:
    mean = torch.tensor([[0.1, 3.0], [-0.1, -3.0]], requires_grad=True)
    log_variance = torch.zeros(2, 2)
    penalty = Variational(free_bits=0.5).penalty(encoding_of(mean, log_variance))
    assert float(penalty) == pytest.approx(0.5 * math.log(2) + 4.5)
    penalty.backward()
    assert mean.grad is not None
    assert not mean.grad[:, 0].any()
    assert bool(mean.grad[:, 1].all())


def test_beta_rises_over_the_warm_up() -> None:
    mean, objective = torch.ones(3, 2), Variational(beta=2.0, warm_up_epochs=3)
    found = [
        float(objective.penalty(encoding_of(mean, torch.zeros(3, 2), epoch=epoch)))
        for epoch in (1, 2, 3, 4, 5)
    ]
    assert found == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_no_epoch_of_the_warm_up_is_kept() -> None:
    """A weak beta reconstructs best, and would always be chosen."""
    samples, scaler = samples_of("mnist")
    objective = {"kind": "variational", "beta": 100.0, "warm_up_epochs": 3}
    for early_stopping in (1, None):
        model = build("mnist", "dense", objective)
        training = Training(epochs=6, early_stopping=early_stopping, **TRAINING)
        _, history = fit(model, samples, validation=samples, scaler=scaler, config=training)
        assert history.best_epoch >= 4
    model = build("mnist", "dense", objective)
    with pytest.raises(StudyError, match="warm_up_epochs: 3 leave none of 3 training.epochs"):
        fit(
            model, samples, validation=samples, scaler=scaler, config=Training(epochs=3, **TRAINING)
        )


def test_collapsed_features_are_told_from_used_ones() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 4)) * [1.0, 0.01, 0.5, 0.05] + [0.0, 3.0, 0.0, 0.0]
    assert active_units(codes).tolist() == [True, False, True, False]


def test_a_heavy_beta_collapses_the_code_and_a_light_one_does_not() -> None:
    samples, scaler = samples_of("mnist")
    active = {}
    for beta in (1e-3, 1e3):
        model = build("mnist", "dense", {"kind": "variational", "beta": beta})
        training = Training(epochs=15, early_stopping=None, **TRAINING)
        fitted, _ = fit(model, samples, validation=None, scaler=scaler, config=training)
        active[beta] = int(active_units(fitted.latents(samples)).sum())
    assert active[1e-3] >= 2
    assert active[1e3] == 0


# ---------------------------------------------------------------------------------- sparse


def test_sparse_penalties_are_those_made_by_hand() -> None:
    # unit 0 is on in one sample of four, unit 1 always, unit 2 in the others than unit 0
    code = torch.tensor([[4.0, 1.0, 0.0], [0.0, -1.0, 3.0], [0.0, 1.0, 3.0], [0.0, 1.0, -3.0]])
    rates = torch.tensor([0.25, 1.0, 0.75])

    def penalty(measure: Any, **others: float) -> float:
        return float(Sparse(measure=measure, **others).penalty(encoding_of(code)))

    # an activity is 1 / sqrt(rate) where a unit is on, so that its mean is sqrt(rate)
    assert penalty("l1", weight=2.0) == pytest.approx(2 * float(rates.sqrt().mean()))
    # units 0 and 1 are on together in one sample, 1 and 2 in three, each pair of four samples
    expected = (2.0 * 1 + 1 * 3 / math.sqrt(0.75)) / 8
    assert penalty("neighbours", weight=1.0) == pytest.approx(expected)
    target, clipped = 0.2, rates.clamp(max=1 - 1e-6)
    divergence = target * (target / clipped).log() + 0.8 * (0.8 / (1 - clipped)).log()
    assert penalty("kl", weight=3.0, target=0.2) == pytest.approx(
        3 * float(divergence.mean()), rel=1e-2
    )


def test_a_code_at_the_target_rate_costs_nothing_by_divergence() -> None:
    code = torch.eye(4)[:, :2] * torch.tensor([1.0, 7.0])
    objective = Sparse(measure="kl", target=0.25)
    assert float(objective.penalty(encoding_of(code))) == pytest.approx(0, abs=1e-6)


def test_neighbours_that_take_turns_cost_nothing_however_busy() -> None:
    """What tells the three measures apart: these units are busy, but never side by side."""
    turns = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    together = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    measures: tuple[Any, ...] = ("l1", "kl", "neighbours")
    costs = {
        m: [float(Sparse(measure=m).penalty(encoding_of(code))) for code in (turns, together)]
        for m in measures
    }
    assert costs["l1"][0] == pytest.approx(costs["l1"][1])
    assert costs["kl"][0] == pytest.approx(costs["kl"][1])
    assert costs["neighbours"][0] == 0 < costs["neighbours"][1]


@pytest.mark.parametrize("measure", ["l1", "kl", "neighbours"])
def test_a_small_code_is_not_a_sparse_one(measure: Any) -> None:
    code, objective = torch.randn(30, 5, generator=generator()), Sparse(measure=measure)
    small = objective.penalty(encoding_of(0.01 * code))
    torch.testing.assert_close(small, objective.penalty(encoding_of(code)), rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------ contractive


def encoding_for(model: Autoencoder, x: Tensor, exact: bool, seed: int = 0) -> Encoding:
    return Encoding(
        lambda shown: model._code(shown, None).mean,
        x,
        model.encode(x).mean,
        None,
        x[0].numel(),
        exact,
        generator(seed),
        1,
    )


def contraction(model: Autoencoder, x: Tensor) -> Tensor:
    """Of each sample, by another way: a Jacobian at a time."""
    code = model.encode(x).mean
    spread = code.var(0, correction=0).sum() * code.shape[1]
    relative = x.var(0, correction=0).sum() / spread
    squared = [
        jacobian(lambda one: model.encode(one[None]).mean[0], row).square().sum() for row in x
    ]
    return torch.stack(squared).mean() * relative


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_exact_contraction_is_the_jacobians(architecture: str) -> None:
    model = build("eeg", architecture, "contractive")
    x, _ = batch_of("eeg")
    found = Contractive(weight=2.0).penalty(encoding_for(model, x, exact=True))
    assert found is not None
    torch.testing.assert_close(found, 2.0 * contraction(model, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["conv", "recurrent", "attention"])
def test_the_estimates_mean_is_the_exact_contraction(architecture: str) -> None:
    model = build("eeg", architecture, "contractive")
    x, _ = batch_of("eeg")
    draws = [
        Contractive(weight=1.0).penalty(encoding_for(model, x, exact=False, seed=seed))
        for seed in range(150)
    ]
    found = torch.stack([draw.detach() for draw in draws if draw is not None])
    error = float(found.std()) / math.sqrt(len(found))
    expected = float(contraction(model, x))
    assert error < 0.1 * expected
    assert float(found.mean()) == pytest.approx(expected, abs=4 * error)


def test_orthonormal_units_that_keep_all_variance_have_contraction_one() -> None:
    x = torch.randn(40, 5, generator=generator())
    turned = torch.linalg.qr(torch.randn(5, 5, generator=generator()))[0]
    for scale in (0.01, 1.0, 100.0):  # and a small code is not a contractive one
        encoding = Encoding(
            lambda shown, scale=scale: scale * shown @ turned,
            x, x, None, 5, True, generator(), 1,
        )  # fmt: skip
        found = Contractive(weight=1.0).penalty(encoding)
        assert found is not None
        assert float(found) == pytest.approx(1.0, rel=1e-3)


def test_one_sample_has_no_spread_to_compare_with() -> None:
    model = build("eeg", "dense", "contractive")
    x, _ = batch_of("eeg")
    loss = model.loss(x[:1], None, generator())
    assert torch.equal(loss.total, loss.reconstruction)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_penalty_has_the_right_gradient(architecture: str) -> None:
    """The second derivative, against differences: fused kernels lack it or get it wrong."""
    model = build("eeg", architecture, {"kind": "contractive", "weight": 1.0}).double()
    x = batch_of("eeg", 4)[0].double()

    def penalty() -> Tensor:
        loss = model.loss(x, None, generator())
        return loss.total - loss.reconstruction

    parameter = next(p for p in model.encoder.parameters() if p.dim() > 1)
    penalty().backward()
    assert parameter.grad is not None
    direction = parameter.grad / parameter.grad.norm()
    slope, step = float(parameter.grad.norm()), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter += sign * step * direction
        values.append(float(penalty().detach()))
        with torch.no_grad():
            parameter -= sign * step * direction
    assert slope > 0
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-3)


def test_what_is_exact_follows_the_architecture_unless_the_study_says() -> None:
    calls: list[int] = []

    def n_passes(architecture: str, how: str) -> int:
        model = build("eeg", architecture, {"kind": "contractive", "jacobian": how})
        calls.clear()
        first = next(m for m in model.encoder.modules() if isinstance(m, nn.Linear | nn.Conv1d))
        first.register_full_backward_hook(lambda *_: calls.append(1))
        model.loss(batch_of("eeg")[0], None, generator())
        return len(calls)

    assert n_passes("dense", "auto") == n_passes("conv", "exact") == LATENT_DIM
    assert n_passes("conv", "auto") == n_passes("dense", "estimate") == 1


def test_contraction_makes_the_code_stand_still_under_noise() -> None:
    samples, scaler = samples_of("mnist")
    x, _ = batch_of("mnist", 64)
    noisy = x + 0.2 * torch.randn(x.shape, generator=generator())
    moved = {}
    for weight in (1e-9, 0.3):
        model = build("mnist", "dense", {"kind": "contractive", "weight": weight})
        fit(model, samples, validation=None, scaler=scaler, config=Training(epochs=15, **TRAINING))
        with torch.no_grad():
            code = model.encode(x).mean
            moved[weight] = float(
                (model.encode(noisy).mean - code).square().sum() / code.var(0).sum()
            )
    assert moved[0.3] < 0.7 * moved[1e-9]


# -------------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize(
    ("kind", "objective", "reason"),
    [
        (
            "mnist",
            {"kind": "denoising", "noise": "channel_dropout"},
            "needs channels over time, which images",
        ),
        (
            "questionnaire",
            {"kind": "masked", "hide": "time"},
            "'time' needs channels.*items",
        ),
        ("mnist", {"kind": "masked", "hide": "channels"}, "'channels' needs channels.*patches"),
        ("eeg", {"kind": "masked", "size": 33}, "size: 33 would hide the whole input .4 x 33."),
        ("mnist", {"kind": "masked", "size": 12}, "size: 12 would hide the whole input .12 x 12."),
    ],
)
def test_a_pair_that_makes_no_sense_says_why(
    kind: str, objective: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StudyError, match=reason):
        build(kind, "dense", objective)


def test_a_single_unit_has_no_neighbours_and_a_single_channel_is_not_hidden() -> None:
    with pytest.raises(StudyError, match="'neighbours' needs model.latent_dim of at least 2"):
        build("eeg", "dense", {"kind": "sparse", "measure": "neighbours"}, latent_dim=1)
    with pytest.raises(StudyError, match="at least two channels, given one"):
        Masked(hide="channels").check("series", (1, 100), latent_dim=2)
    with pytest.raises(StudyError, match="at least two items, given one"):
        Masked().check("table", (1,), latent_dim=1)
