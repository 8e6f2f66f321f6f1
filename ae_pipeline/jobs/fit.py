"""What is fitted on one part of the data and says something of another part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples
from ae_pipeline.ingest.gather import Gathered
from ae_pipeline.kind import kind_of
from ae_pipeline.report.findings.reasons import claims
from ae_pipeline.runtime.files import digest_json, versions
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.scoring.bundle import Bundle, BundleInfo, describe_columns
from ae_pipeline.scoring.judge import Judge, raw_scores
from ae_pipeline.stats import mean_interval
from ae_pipeline.study import Study
from ae_pipeline.training import distributed as together

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.chance import Chance
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.detectors.heads import FittedHead
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.models import Model
    from ae_pipeline.models.heads import Labels
    from ae_pipeline.training.history import Batch, Epoch, History
    from ae_pipeline.training.known import Known
    from ae_pipeline.training.loop import FittedAutoencoder, Training
    from ae_pipeline.training.split import Division

__all__ = [
    "Fitted",
    "Fitting",
    "HeldOut",
    "Prepared",
    "held_out_scores",
    "known_labels",
    "make_bundle",
    "train_metrics",
]


@dataclass(frozen=True)
class Prepared:
    """What a study reads, who trains and who is held out, and what is known of them."""

    study: Study
    data: Gathered
    division: Division
    known: Known | None
    key: str

    def part(self, name: str) -> Samples:
        """The samples of a part: train, validation, calibration or test."""
        return self.data.samples.take(self.division.rows(name))

    def labels(self, rows: NDArray[np.int64]) -> Labels | None:
        """What a jointly trained head is to say of ``rows``."""
        joint = self.known is not None and self.known.head.fitted == "jointly"
        return self.known.labels(rows) if self.known is not None and joint else None

    def as_long_as(self, history: History) -> Training:
        """Training for as long as another model's best epoch."""
        epochs = max(1, history.best_epoch)
        return self.study.training.model_copy(update={"epochs": epochs, "early_stopping": None})


@dataclass(frozen=True)
class Fitted:
    """What was fitted on the training part; ``head_figures`` say what the head is worth."""

    ensemble: Ensemble
    baselines: dict[str, Scorer]
    chance: Chance
    history: History
    head: FittedHead | None = None
    head_figures: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Fitting:
    """What is fitted on what, and how.

    Parameters
    ----------
    study : Study
    train : Samples
    validation : Samples, optional
        Stops training early.
    training : Training
        The study's, or as long as another model took.
    listener : callable, optional
    checkpoint : Path, optional
        The main training's; those with a subject left out keep nothing.
    labels : Labels, optional
        For a head that is trained jointly.
    """

    study: Study
    train: Samples
    validation: Samples | None
    training: Training
    listener: Callable[[Epoch | Batch], None] | None = None
    checkpoint: Path | None = None
    labels: Labels | None = None

    def network(self) -> tuple[FittedAutoencoder, History]:
        """Scale and autoencoder on the training data."""
        import torch

        from ae_pipeline.models.autoencoder import Autoencoder
        from ae_pipeline.models.scaler import Scaler
        from ae_pipeline.training.loop import fit

        train, training = self.train, self.training
        torch.manual_seed(training.seed)
        scaler = Scaler.fit(train, training.seed)
        has_missing = train.layout == "table"
        model = Autoencoder(
            self.study.model,
            train.layout,
            shape=train.shape,
            columns=train.columns,
            has_missing=has_missing,
        )
        listeners: tuple[Any, ...] = () if self.listener is None else (self.listener,)
        if self.checkpoint is not None and not together.rank():
            from ae_pipeline.training.loop import FittedAutoencoder
            from ae_pipeline.training.snapshots import Snapshots

            seen = (
                self.validation if self.validation is not None and len(self.validation) else train
            )
            fitted = FittedAutoencoder(model, scaler)
            listeners += (Snapshots(fitted, seen, self.checkpoint.parent / "growth"),)
        with one_thread(train.layout == "table"):  # steps of microseconds
            return fit(
                model,
                train,
                self.validation,
                scaler,
                training,
                listeners=listeners,
                checkpoint=self.checkpoint,
                labels=self.labels,
            )

    def everything(self) -> Fitted:
        """The network, its views and the baselines, all on the same training data."""
        from ae_pipeline.detectors.baselines import BASELINES
        from ae_pipeline.detectors.chance import Chance
        from ae_pipeline.detectors.ensemble import Ensemble

        fitted, history = self.network()
        seed, latent_dim = self.training.seed, self.study.model.latent_dim
        with one_thread(self.train.layout != "grid"):
            ensemble = Ensemble.fit(fitted, self.train, reference=self.validation, seed=seed)
            baselines = {
                name: scorer.fit(self.train, fitted.scaler, latent_dim=latent_dim, seed=seed)
                for name, scorer in BASELINES.items()
            }
            chance = Chance.fit(self.train, baselines["pca"], families=_families(fitted))
        return Fitted(ensemble, baselines, chance, history)


@dataclass(frozen=True)
class HeldOut:
    """Scores of samples that the scorers were not fitted on; rows as in ``frame``."""

    frame: pd.DataFrame
    by_entry: NDArray[np.float32]
    latents: NDArray[np.float32]


def held_out_scores(fitted: Fitted, samples: Samples, *, part: str) -> HeldOut:
    """Score samples that nothing was fitted on, with the losses of PCA and of chance beside."""
    from ae_pipeline.detectors.baselines import PrincipalComponents

    with one_thread(samples.layout != "grid"):
        frame, scores, latents = raw_scores(fitted.ensemble, fitted.baselines, samples=samples)
    network = fitted.ensemble.autoencoder
    if fitted.head is not None:
        frame = frame.assign(**fitted.head.predict(samples, latents, network.scaler))
    frame["part"] = part
    pca = fitted.baselines["pca"]
    assert isinstance(pca, PrincipalComponents)
    frame["pca_loss"] = pca.losses(samples, _families(network))
    frame["chance_loss"] = fitted.chance.losses(samples)
    n_entries = int(np.prod(samples.shape))
    frame["n_observed"] = n_entries if samples.mask is None else samples.mask.sum(1)
    return HeldOut(frame, scores.by_entry, latents)


def _families(fitted: FittedAutoencoder) -> dict[int, tuple[str, int]] | str:
    """The likelihood of all entries, or of each column."""
    likelihood = fitted.model.likelihood
    return likelihood.uniform or likelihood.by_column


def known_labels(study: Study, data: Gathered) -> Known | None:
    """What is known of the target of the study's head; None without a head.

    Raises
    ------
    StudyError, InputError
        Where the labels cannot be found or used.
    """
    from ae_pipeline.training.known import read_known

    if study.model.head is None:
        return None
    place = study.source.path
    beside = (
        place if data.samples.layout == "series" and place is not None and place.is_dir() else None
    )
    return read_known(study.model.head, data.samples, beside=beside)


def make_bundle(
    prepared: Prepared, fitted: Fitted, *, judge: Judge, rehearsal: dict[str, Any] | None = None
) -> Bundle:
    """Put together everything that scoring needs."""
    study, data, division = prepared.study, prepared.data, prepared.division
    kind = kind_of(study.kind)
    samples, ensemble, head = data.samples, fitted.ensemble, fitted.head
    preprocess = study.preprocess
    if preprocess is not None:
        preprocess = preprocess.model_copy(update={"sfreq_hz": data.sfreq_hz})
    info = BundleInfo(
        study=study.study,
        kind=study.kind,
        model=_without_paths(study.model),
        shape=samples.shape,
        unit=kind.words.unit,
        entries=samples.entries,
        columns=describe_columns(samples.columns),
        positions_m=data.positions_m,
        sfreq_hz=samples.sfreq_hz,
        has_missing=ensemble.autoencoder.model.has_missing,
        source=study.source.model_copy(update={"path": Path()}),
        preprocess=preprocess,
        windows=study.windows,
        detection=study.detection,
        threshold=judge.threshold,
        exchangeable_unit=division.unit,
        claims=(
            *division.claims,
            *claims(judge.calibration.withdrawn(study.detection), division.unit),
        ),
        training={
            **study.normal,
            **data.facts,
            "parts": {
                part: int((division.part == part).sum())
                for part in ("train", "validation", "calibration", "test")
            },
            "epochs": len(fitted.history.rows),
            "seed": study.training.seed,
            "optimizer": study.training.optimizer,
            "learning_rate": study.training.learning_rate,
            "early_stopping": study.training.early_stopping or "off",
            "calibrated": "cross-conformal" if division.folds else "split conformal",
        },
        training_digest=digest_json(sorted(data.digests.values())),
        head_classes=() if head is None else head.classes,
        rehearsal=rehearsal or {},
        versions=dict(versions()),
    )
    return Bundle(info, ensemble, fitted.baselines, judge.calibration, head=head)


def _without_paths(model: Model) -> Model:
    """A bundle goes to others: where labels lay is nobody's business."""
    if model.head is None:
        return model
    return model.model_copy(update={"head": model.head.model_copy(update={"labels": None})})


def train_metrics(
    n_parameters: int, history: History, *, frame: pd.DataFrame, windowed: bool
) -> dict[str, Any]:
    """Content of ``metrics.json``: losses are means per entry, natural logarithm.

    Parameters
    ----------
    n_parameters : int
    history : History
    frame : DataFrame
        Judged held-out rows with ``score_autoencoder``, ``pca_loss``, ``chance_loss`` and
        ``n_observed`` (entries a row).
    windowed : bool
        Intervals are over subjects (EEG) rather than over rows.
    """
    test = frame[frame["part"] == "test"]
    if test.empty:  # few subjects: every calibration row was scored by a model that never saw it
        test = frame[frame["part"] == "calibration"]
    weight = test["n_observed"].to_numpy(float)
    own = test["score_autoencoder"].to_numpy()
    loss = float(np.average(own, weights=weight))
    baselines = {
        name: float(np.average(test[f"{name}_loss"], weights=weight)) for name in ("pca", "chance")
    }
    # a linear model that is worse than chance is no yardstick
    best_baseline = min(baselines, key=lambda name: baselines[name])
    gain = test[f"{best_baseline}_loss"].to_numpy() - own
    unit = "subject" if windowed else "recording"
    by_unit = gain if not windowed else test.assign(gain=gain).groupby(unit)["gain"].mean()
    bounds = mean_interval(np.asarray(by_unit, dtype=float))
    best = history.best
    return {
        "parameters": n_parameters,
        "epochs": len(history.rows),
        "best_epoch": history.best_epoch,
        "train_loss": best["train_loss"],
        "validation_loss": best["validation_loss"],
        "test_loss": loss,
        "explained_share": 1 - loss / baselines["chance"] if baselines["chance"] > 0 else None,
        "test_rows": len(test),
        "test_units": int(test[unit].nunique()) if windowed else len(test),
        "baselines": {name: {"test_loss": value} for name, value in baselines.items()},
        "best_baseline": best_baseline,
        "beats_baselines": {
            "value": None if bounds is None else bool(bounds[0] > 0),
            "difference": float(np.mean(by_unit)),
            "interval": bounds,
        },
        "seconds": float(sum(row["seconds"] or 0 for row in history.rows)),
    }
