from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made import answers, as_array, digits, eeg, of_kind
from safetensors import safe_open

from ae_pipeline.config import StudyError
from ae_pipeline.data import Samples, Windows
from ae_pipeline.models import Model
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.training.history import Batch, Epoch, History, Listener
from ae_pipeline.training.loop import (
    FittedAutoencoder,
    Training,
    TrainingError,
    choose_device,
    fit,
)
from ae_pipeline.training.optimizer import learning_rate_of

QUICK: dict[str, Any] = {"epochs": 5, "batch_size": 16, "device": "cpu"}


def build(samples: Samples, kind: str = "dense", seed: int = 0, latent_dim: int = 4) -> Autoencoder:
    torch.manual_seed(seed)
    config = Model.model_validate(
        {
            "architecture": {"kind": kind},
            "objective": {"kind": "vanilla"},
            "latent_dim": latent_dim,
        }
    )
    return Autoencoder(
        config,
        samples.layout,
        shape=samples.shape,
        columns=samples.columns,
        has_missing=samples.layout == "table",
    )


def run(
    train: Samples,
    validation: Samples | None = None,
    *,
    architecture: str = "dense",
    listeners: tuple[Listener, ...] = (),
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 20.0,
    model: Autoencoder | None = None,
    **training: Any,
) -> tuple[FittedAutoencoder, History]:
    config = Training(**QUICK | training)
    return fit(
        model or build(train, architecture, config.seed),
        train,
        validation=validation,
        scaler=Scaler.fit(train),
        config=config,
        listeners=listeners,
        checkpoint=checkpoint,
        checkpoint_every_s=checkpoint_every_s,
    )


def losses(history: History) -> list[tuple[Any, Any]]:
    return [(row["train_loss"], row["validation_loss"]) for row in history.rows]


def same_weights(a: FittedAutoencoder, b: FittedAutoencoder) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


# ------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("architecture", ["dense", "conv"])
@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_training_lowers_the_loss_on_data_it_has_not_seen(kind: str, architecture: str) -> None:
    train, validation = of_kind(kind, 80), of_kind(kind, 40, seed=1)
    _, history = run(train, validation, architecture=architecture, epochs=8, learning_rate=3e-3)
    first, best = history.rows[0], history.best
    assert history.best_epoch > 1
    assert best["validation_loss"] < 0.95 * first["validation_loss"]  # type: ignore[operator]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
def test_every_optimizer_learns(optimizer: str) -> None:
    _, history = run(as_array(eeg(80)), optimizer=optimizer, epochs=8, learning_rate=3e-3)
    (first, _), *_, (last, _) = losses(history)
    assert last < first


def test_a_plain_loop_gives_the_same_losses() -> None:
    """Against the loop that a textbook would write, step for step."""
    samples = digits(40)
    _, history = run(samples, epochs=2, optimizer="rmsprop")
    model = build(samples)
    x = torch.from_numpy(np.asarray(samples.values))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    expected = []
    for epoch in (1, 2):
        seed = int(np.random.SeedSequence([0, epoch]).generate_state(1)[0])
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        total = 0.0
        for rows in order.split(16):
            loss = F.binary_cross_entropy(torch.sigmoid(model(x[rows])), x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        expected.append(total / 40)
    assert [loss for loss, _ in losses(history)] == pytest.approx(expected, rel=1e-4)


def test_views_on_a_signal_train_as_plain_windows_do() -> None:
    samples = eeg(60)
    (_, views), (_, plain) = run(samples), run(as_array(samples))
    np.testing.assert_allclose(
        [a for a, _ in losses(views)], [a for a, _ in losses(plain)], rtol=1e-4
    )


def test_views_are_scaled_as_plain_windows_are() -> None:
    samples = eeg(20)
    scaler = Scaler(np.array([3, -5, 0, 40], np.float32), np.array([1, 2, 4, 8], np.float32))
    fitted = FittedAutoencoder(build(samples), scaler)
    views, plain = fitted.score(samples), fitted.score(as_array(samples))
    np.testing.assert_allclose(views.by_entry, plain.by_entry, rtol=1e-5)


def test_the_data_is_left_as_it_is(tmp_path: Path) -> None:
    samples = eeg(60)
    windows = samples.values
    assert isinstance(windows, Windows)
    np.save(tmp_path / "signal.npy", windows.signal)
    signal = np.load(tmp_path / "signal.npy", mmap_mode="c")
    mapped = replace(samples, values=replace(windows, signal=signal))
    for train in (mapped, as_array(samples), answers(60), digits(60)):
        before = np.asarray(train.values[:]).copy()
        fitted, _ = run(train, train, architecture="conv", epochs=2)
        fitted.score(train)
        fitted.latents(train)
        fitted.reconstruct(train)
        np.testing.assert_array_equal(np.asarray(train.values[:]), before)
    np.testing.assert_array_equal(np.load(tmp_path / "signal.npy"), windows.signal)


# --------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_the_same_seed_gives_the_same_history_to_the_bit(architecture: str) -> None:
    train, validation = eeg(60), eeg(20, seed=1)
    one, history = run(train, validation, architecture=architecture)
    other, again = run(train, validation, architecture=architecture)
    assert losses(history) == losses(again)
    assert same_weights(one, other)


def test_another_seed_gives_another_history() -> None:
    train = eeg(60)
    model = build(train)
    same = build(train)
    assert all(map(torch.equal, model.parameters(), same.parameters()))
    (_, one), (_, other) = run(train, model=model), run(train, model=same, seed=1)
    assert losses(one) != losses(other)  # the order of the samples alone


def test_listeners_change_nothing() -> None:
    train, validation = answers(60), answers(20, seed=1)
    seen: list[Epoch | Batch] = []
    _, silent = run(train, validation)
    _, told = run(train, validation, listeners=(seen.append,))
    assert losses(silent) == losses(told)
    assert seen


# ------------------------------------------------------------------------------- resuming


class Interrupted(Exception):
    pass


def interrupt_in(epoch: int, batch: int | None = None) -> Listener:
    """Raise in the middle of an epoch, or (without ``batch``) when it has ended."""

    def listener(event: Epoch | Batch) -> None:
        at = event.batch if isinstance(event, Batch) else None
        if (event.epoch, at) == (epoch, batch):
            raise Interrupted

    return listener


@pytest.mark.parametrize(
    ("kind", "architecture", "optimizer"),
    [
        ("eeg", "conv", "adamw"),
        ("mnist", "dense", "rmsprop"),
        ("questionnaire", "dense", "adam"),
        ("questionnaire", "conv", "sgd"),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(
    kind: str, architecture: str, optimizer: str, tmp_path: Path
) -> None:
    train, validation = of_kind(kind, 60), of_kind(kind, 20, seed=1)
    checkpoint = tmp_path / "checkpoint.safetensors"
    given: dict[str, Any] = {"architecture": architecture, "optimizer": optimizer, "epochs": 6}
    whole, expected = run(train, validation, **given)
    for stop in (interrupt_in(3, 2), interrupt_in(5)):
        with pytest.raises(Interrupted):
            run(
                train,
                validation,
                listeners=(stop,),
                checkpoint=checkpoint,
                checkpoint_every_s=0,
                **given,
            )
    seen: list[int] = []
    resumed, history = run(
        train,
        validation,
        listeners=(lambda event: seen.append(event.epoch),),
        checkpoint=checkpoint,
        checkpoint_every_s=0,
        # other weights to begin with: all of them come from the checkpoint
        model=build(train, architecture, seed=7),
        **given,
    )
    assert min(seen) == 5  # epoch 5 had ended, but nobody had heard of it yet
    assert losses(history) == losses(expected)
    assert (history.best_epoch, history.best_loss) == (expected.best_epoch, expected.best_loss)
    assert same_weights(resumed, whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    train, checkpoint = digits(40), tmp_path / "checkpoint.safetensors"
    one, history = run(train, checkpoint=checkpoint, checkpoint_every_s=0)
    seen: list[Epoch | Batch] = []
    other, again = run(train, listeners=(seen.append,), checkpoint=checkpoint)
    assert not seen
    assert history == again
    assert same_weights(one, other)


def test_a_run_that_was_stopped_early_stays_stopped(tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": 50, "early_stopping": 1, "learning_rate": 0.05}
    train, validation = eeg(20), replace(eeg(20), values=-np.asarray(eeg(20).values[:]))
    checkpoint = tmp_path / "checkpoint.safetensors"
    _, history = run(train, validation, checkpoint=checkpoint, checkpoint_every_s=0, **given)
    assert len(history.rows) < 50
    _, again = run(train, validation, checkpoint=checkpoint, **given)
    assert history == again


def test_the_first_epoch_is_kept_and_then_one_every_so_often(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    written: list[tuple[int, bool]] = []

    def listener(event: Epoch | Batch) -> None:
        if isinstance(event, Epoch):
            written.append((event.epoch, checkpoint.is_file()))
            if event.epoch == 2:
                first.append(checkpoint.stat().st_mtime_ns)

    first: list[int] = []
    run(digits(40), listeners=(listener,), checkpoint=checkpoint, checkpoint_every_s=3600)
    assert written == [(1, False), (2, True), (3, True), (4, True), (5, True)]
    assert first == [checkpoint.stat().st_mtime_ns]
    with safe_open(checkpoint, "np") as file:  # arrays and text, nothing to be unpickled
        assert {name.split("/")[0] for name in file.keys()} == {"model", "best", "optimizer"}  # noqa: SIM118


# ------------------------------------------------------------------------- early stopping


def overfitted() -> tuple[Samples, Samples]:
    """Few noisy windows to learn by heart, and others on which that does not help."""
    rng = np.random.default_rng(0)
    train, validation = as_array(eeg(16)), as_array(eeg(16, seed=1))
    noise = [rng.normal(size=(16, *train.shape)).astype(np.float32) * 60 for _ in range(2)]
    return (
        replace(train, values=train.values + noise[0]),
        replace(validation, values=validation.values + noise[1]),
    )


def test_early_stopping_keeps_the_best_epoch() -> None:
    train, validation = overfitted()
    events: list[Epoch] = []

    def listener(event: Epoch | Batch) -> None:
        if isinstance(event, Epoch):
            events.append(event)

    given: dict[str, Any] = {"epochs": 60, "learning_rate": 0.01, "early_stopping": 4}
    fitted, history = run(train, validation, listeners=(listener,), **given)
    validated = [event.validation_loss for event in events]
    best = int(np.argmin(validated))  # type: ignore[arg-type]
    assert 1 < best + 1 < len(validated) == best + 1 + 4 < 60
    assert history.best_epoch == best + 1
    assert history.best["validation_loss"] == history.best_loss == min(validated)  # type: ignore[type-var]
    assert [e.epoch for e in events if e.is_best][-1] == history.best_epoch
    assert fitted.score(validation).total.mean() == pytest.approx(history.best_loss, rel=1e-6)


def test_without_early_stopping_every_epoch_is_made_and_the_best_is_kept() -> None:
    train, validation = overfitted()
    given: dict[str, Any] = {"epochs": 30, "learning_rate": 0.01, "early_stopping": None}
    fitted, history = run(train, validation, **given)
    assert len(history.rows) == 30 > history.best_epoch
    assert fitted.score(validation).total.mean() == pytest.approx(history.best_loss, rel=1e-6)


@pytest.mark.parametrize("empty", [True, False])
def test_without_validation_data_the_last_epoch_is_kept(empty: bool) -> None:
    train, _ = overfitted()
    nothing = train.take(np.array([], dtype=int)) if empty else None
    _, history = run(train, nothing, epochs=6, early_stopping=1)
    assert history.best_epoch == len(history.rows) == 6
    assert all(row["validation_loss"] is None for row in history.rows)


def test_validation_loss_is_the_mean_over_what_was_answered() -> None:
    train, validation = answers(60), answers(40, missing=0.4, seed=1)
    fitted, history = run(train, validation, epochs=1)
    assert validation.mask is not None
    scores = fitted.score(validation)
    per_entry = scores.by_entry[validation.mask]
    assert history.best_loss == pytest.approx(per_entry.mean(), rel=1e-5)


# --------------------------------------------------------------------------------- events


def test_every_batch_and_every_epoch_is_told() -> None:
    events: list[Epoch | Batch] = []
    read: list[float] = []

    def listener(event: Epoch | Batch) -> None:
        events.append(event)
        if isinstance(event, Batch):
            read.append(event.loss())

    _, history = run(digits(40), digits(8, seed=1), listeners=(listener,), epochs=2)
    told = [(e.epoch, e.batch if isinstance(e, Batch) else "end", e.n_epochs) for e in events]
    assert told == [(epoch, at, 2) for epoch in (1, 2) for at in (1, 2, 3, "end")]
    assert {e.n_batches for e in events if isinstance(e, Batch)} == {3}
    weights = np.array([16, 16, 8] * 2).reshape(2, 3)
    means = np.average(np.reshape(read, (2, 3)), axis=1, weights=weights[0])
    assert [loss for loss, _ in losses(history)] == pytest.approx(means, rel=1e-5)
    ends = [e for e in events if isinstance(e, Epoch)]
    assert [(e.train_loss, e.validation_loss) for e in ends] == losses(history)
    assert all(0 < row["seconds"] < 60 for row in history.rows)  # type: ignore[operator]


@pytest.mark.parametrize(("architecture", "expected"), [("dense", 2), ("conv", 5)])
def test_the_batch_size_fits_the_architecture(architecture: str, expected: int) -> None:
    events: list[Epoch | Batch] = []
    given: dict[str, Any] = {"batch_size": "auto", "epochs": 1}
    run(digits(300, 8), architecture=architecture, listeners=(events.append,), **given)
    assert sum(isinstance(e, Batch) for e in events) == expected


# ---------------------------------------------------------------------------------- errors


def test_a_loss_that_is_no_number_names_the_epoch_and_the_cure(tmp_path: Path) -> None:
    train, checkpoint = as_array(eeg(16)), tmp_path / "checkpoint.safetensors"
    given: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e25, "batch_size": 16}
    with pytest.raises(TrainingError) as caught:
        run(train, checkpoint=checkpoint, checkpoint_every_s=0, **given)
    message = str(caught.value)
    assert message.startswith("training stopped in epoch 2: the loss is no longer a number")
    assert "training.learning_rate 1e+24" in message
    assert str(checkpoint) in message
    assert "\n" not in message
    with safe_open(checkpoint, "pt") as file:  # one step had been made when epoch 1 ended
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert all(torch.isfinite(w).all() for name, w in weights.items() if "best/" in name)


def test_a_loss_that_is_no_number_keeps_the_last_good_epoch(tmp_path: Path) -> None:
    train, checkpoint = as_array(eeg(16)), tmp_path / "checkpoint.safetensors"
    given: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e25, "batch_size": 16}
    with pytest.raises(TrainingError, match="what was learned until epoch 1 is in"):
        run(train, checkpoint=checkpoint, checkpoint_every_s=1e9, **given)
    with safe_open(checkpoint, "pt") as file:
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118


def test_extreme_values_are_named_as_the_cause() -> None:
    train = as_array(eeg(16))
    values = np.asarray(train.values).copy()
    values[3, 1, :4] = 3e24
    odd = replace(train, values=values)
    with pytest.raises(TrainingError, match="values of 1e[+]09 usual deviations; find and remove"):
        run(odd, batch_size=16, optimizer="sgd", learning_rate=1e20, epochs=4)


def test_out_of_memory_names_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    from ae_pipeline.models.autoencoder import Autoencoder

    whole = Autoencoder.loss

    def limited(self: Any, x: Any, *args: Any) -> Any:
        if len(x) > 10:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return whole(self, x, *args)

    monkeypatch.setattr(Autoencoder, "loss", limited)
    with pytest.raises(TrainingError) as caught:
        run(digits(100, 8), batch_size=64)
    assert str(caught.value) == (
        "out of memory in epoch 1 with training.batch_size 64; 8 fits: set training.batch_size to 8"
    )

    def never(self: Any, x: Any, *args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Autoencoder, "loss", never)
    with pytest.raises(TrainingError, match="not even one sample fits"):
        run(digits(100, 8), batch_size=64)


@pytest.mark.parametrize("damage", ["cut", "other model"])
def test_a_checkpoint_that_cannot_be_used_is_trained_over(tmp_path: Path, damage: str) -> None:
    train, checkpoint = digits(60, 8), tmp_path / "checkpoint.safetensors"
    run(train, checkpoint=checkpoint, checkpoint_every_s=0, epochs=2)
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
        fitted, history = run(train, checkpoint=checkpoint, epochs=2)
    else:
        fitted, history = run(
            train, checkpoint=checkpoint, epochs=2, model=build(train, latent_dim=2)
        )
    assert [row["epoch"] for row in history.rows] == [1, 2]
    assert np.isfinite(fitted.score(train).total).all()


def test_a_message_names_no_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    train = as_array(eeg(64))
    given: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e25}
    for checkpoint in (None, tmp_path / "checkpoint.safetensors"):
        with pytest.raises(TrainingError, match="epoch 1") as caught:
            run(train, checkpoint=checkpoint, **given)
        assert "checkpoint" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_validation_loss_that_is_no_number_stops_training_too() -> None:
    train = as_array(eeg(16))
    given: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e25, "batch_size": 16}
    with pytest.raises(TrainingError, match="epoch 1"):
        run(train, as_array(eeg(8, seed=1)), **given)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_a_studys_mistake(name: str) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[name]:
        assert choose_device(name) == name
        return
    with pytest.raises(StudyError, match=f"training.device: '{name}' given.*use auto or cpu"):
        choose_device(name)


def test_auto_takes_an_accelerator_where_there_is_one() -> None:
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device("auto") == "cpu") is not there
    assert choose_device("cpu") == "cpu"


# --------------------------------------------------------------------------------- scoring


def test_an_eeg_score_is_the_mean_squared_error_in_robust_deviations() -> None:
    samples = as_array(eeg(30))
    fitted, _ = run(samples)
    scale = fitted.scaler.scale[:, None]
    error = ((np.asarray(samples.values) - fitted.reconstruct(samples)) / scale) ** 2
    scores = fitted.score(samples)
    np.testing.assert_allclose(scores.total, error.mean((1, 2)), rtol=1e-3)
    np.testing.assert_allclose(scores.by_entry, error.mean(2), rtol=1e-3, atol=1e-5)


def test_an_images_score_is_the_cross_entropy_of_its_reconstruction() -> None:
    samples = digits(30)
    fitted, _ = run(samples)
    again = torch.from_numpy(fitted.reconstruct(samples))
    x = torch.from_numpy(np.asarray(samples.values))
    expected = F.binary_cross_entropy(again, x, reduction="none").mean((1, 2))
    np.testing.assert_allclose(fitted.score(samples).total, expected, rtol=1e-4)


def test_a_persons_score_is_the_mean_over_the_answers_given() -> None:
    train, samples = answers(60), answers(30, missing=0.4, seed=1)
    fitted, _ = run(train)
    scores = fitted.score(samples)
    assert samples.mask is not None
    expected = [row[m].mean() for row, m in zip(scores.by_entry, samples.mask, strict=True)]
    np.testing.assert_allclose(scores.total, expected, rtol=1e-5)


def test_latents_are_the_codes_of_the_clean_input() -> None:
    samples = eeg(70)
    fitted, _ = run(samples)
    latents = fitted.latents(samples)
    x = torch.from_numpy(fitted.scaler.transform(np.asarray(samples.values[:])))
    with torch.inference_mode():
        expected = fitted.model.encode(x).mean.numpy()
    assert latents.shape == (70, 4)
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["eeg", "mnist", "questionnaire"])
def test_passes_go_through_the_samples_in_order_and_in_network_units(kind: str) -> None:
    samples = of_kind(kind, 150)  # three batches
    fitted, _ = run(samples)
    passes = list(fitted.passes(samples))
    values, mask = samples.batch(slice(None))
    x, mean, code = (
        np.concatenate([getattr(each, name).numpy() for each in passes])
        for name in ("x", "mean", "code")
    )
    np.testing.assert_allclose(x, fitted.scaler.transform(values, mask), rtol=1e-6, atol=1e-6)
    if mask is None:
        assert all(each.observed is None for each in passes)
    else:
        observed = np.concatenate(
            [each.observed.numpy() for each in passes if each.observed is not None]
        )
        np.testing.assert_array_equal(observed, mask)
    with torch.inference_mode():
        given = None if mask is None else torch.from_numpy(mask.astype(np.float32))
        expected = fitted.model.encode(torch.from_numpy(x), given).mean.numpy()
    np.testing.assert_allclose(code, expected, rtol=1e-4, atol=1e-5)
    made = fitted.scaler.transform(fitted.reconstruct(samples))
    np.testing.assert_allclose(mean, made, rtol=1e-4, atol=1e-5)
    total = np.concatenate([each.scores.total for each in passes])
    np.testing.assert_array_equal(total, fitted.score(samples).total)


def test_a_reconstruction_is_in_the_datas_own_units() -> None:
    samples = as_array(eeg(60))
    fitted, _ = run(samples, epochs=80, learning_rate=3e-3)
    values, again = np.asarray(samples.values), fitted.reconstruct(samples)
    assert again.shape == values.shape
    for channel in range(4):  # gains differ by a factor of eight
        r = np.corrcoef(values[:, channel].ravel(), again[:, channel].ravel())[0, 1]
        ratio = again[:, channel].std() / values[:, channel].std()
        assert r > 0.5
        assert 0.5 < ratio < 1.1


def test_a_cosine_schedule_falls_to_a_hundredth_and_constant_stays() -> None:
    cosine = Training(epochs=5, learning_rate=0.1, schedule="cosine")
    rates = [learning_rate_of(cosine, epoch) for epoch in range(1, 6)]
    np.testing.assert_allclose(rates, [0.1, 0.0855, 0.0505, 0.0155, 0.001], atol=1e-4)
    constant = Training(epochs=5, learning_rate=0.1)
    assert {learning_rate_of(constant, epoch) for epoch in range(1, 6)} == {0.1}
