"""What is fitted on one part of the data and says something of another part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Samples
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.study import Study
from ae_pipeline.training import distributed as together

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.detectors.heads import FittedHead
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.models.heads import Labels
    from ae_pipeline.training.history import Batch, Epoch, History
    from ae_pipeline.training.known import Known
    from ae_pipeline.training.loop import FittedAutoencoder, Training

__all__ = [
    "Fitting",
    "HeldOut",
    "cleaned_band_hz",
    "heads_of",
    "held_out_scores",
    "known_labels",
]


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
        has_missing = train.kind == "questionnaire"
        model = Autoencoder(self.study.model, train.kind, train.shape, train.columns, has_missing)
        listeners: tuple[Any, ...] = () if self.listener is None else (self.listener,)
        if self.checkpoint is not None and not together.rank():
            from ae_pipeline.training.loop import FittedAutoencoder
            from ae_pipeline.training.snapshots import Snapshots

            seen = (
                self.validation if self.validation is not None and len(self.validation) else train
            )
            fitted = FittedAutoencoder(model, scaler)
            listeners += (Snapshots(fitted, seen, self.checkpoint.parent / "growth"),)
        given = (model, train, self.validation, scaler, training, listeners, self.checkpoint)
        with one_thread(train.kind == "questionnaire"):  # steps of microseconds
            return fit(*given, labels=self.labels)

    def everything(self) -> tuple[Ensemble, dict[str, Scorer], History]:
        """The network, its views and the baselines, all on the same training data."""
        from ae_pipeline.detectors.baselines import BASELINES
        from ae_pipeline.detectors.ensemble import Ensemble

        fitted, history = self.network()
        seed, latent_dim = self.training.seed, self.study.model.latent_dim
        with one_thread(self.train.kind != "mnist"):
            ensemble = Ensemble.fit(fitted, self.train, self.validation, seed)
            baselines = {
                name: scorer.fit(self.train, fitted.scaler, latent_dim, seed)
                for name, scorer in BASELINES.items()
            }
        return ensemble, baselines, history


@dataclass(frozen=True)
class HeldOut:
    """Scores of samples that the scorers were not fitted on; rows as in ``frame``."""

    frame: pd.DataFrame
    by_entry: NDArray[np.float32]
    latents: NDArray[np.float32]


def held_out_scores(
    ensemble: Ensemble,
    baselines: dict[str, Scorer],
    samples: Samples,
    part: str,
    head: FittedHead | None = None,
) -> HeldOut:
    """Scores, what a head says, and the loss of PCA, of samples that nothing was fitted on."""
    from ae_pipeline.scoring.judge import raw_scores

    with one_thread(samples.kind != "mnist"):
        frame, scores, latents = raw_scores(ensemble, baselines, samples)
    if head is not None:
        frame = frame.assign(**head.predict(samples, latents, ensemble.autoencoder.scaler))
    frame["part"] = part
    frame["pca_loss"] = _pca_losses(ensemble.autoencoder, baselines, samples)
    n_entries = int(np.prod(samples.shape))
    frame["n_observed"] = n_entries if samples.mask is None else samples.mask.sum(1)
    return HeldOut(frame, scores.by_entry, latents)


def _pca_losses(
    fitted: FittedAutoencoder, baselines: dict[str, Scorer], samples: Samples
) -> NDArray[np.float64]:
    """Loss per entry of PCA at equal latent size, under the autoencoder's likelihood."""
    from ae_pipeline.detectors.baselines import PrincipalComponents

    pca = baselines["pca"]
    assert isinstance(pca, PrincipalComponents)
    likelihood = fitted.model.likelihood
    return pca.losses(samples, likelihood.uniform or likelihood.by_column)


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
    beside = place if study.kind == "eeg" and place is not None and place.is_dir() else None
    return read_known(study.model.head, data.samples, beside)


def heads_of(
    known: Known,
    fitted: FittedAutoencoder,
    samples: Samples,
    inside: NDArray[np.int64],
    outside: NDArray[np.int64],
) -> tuple[FittedHead | None, dict[str, NDArray[np.float64]]]:
    """A head on one network's codes, and what it and one on the input say of ``outside``.

    Nothing where ``inside`` knows one class only.
    """
    from ae_pipeline.detectors.heads import fit_head, look_at

    rows = np.concatenate([inside, outside])
    chosen = samples.take(rows)
    latents = fitted.latents(chosen)
    head: FittedHead | None = None
    outputs_of: dict[str, NDArray[np.float64]] = {}
    for what in dict.fromkeys((known.head.from_, "input")):
        x = look_at(what, chosen, latents, fitted.scaler)
        everywhere = np.full((len(samples), x.shape[1]), np.nan)
        everywhere[rows] = x
        try:
            fitted_head = fit_head(known, everywhere, inside, 0)
        except InputError:
            return None, {}
        outputs_of[what] = fitted_head.outputs(x[len(inside) :])
        head = fitted_head if what == known.head.from_ else head
    return head, outputs_of


def cleaned_band_hz(study: Study, samples: Samples) -> tuple[float, float]:
    """The band that a study's cleaning leaves of EEG, in hertz; means nothing for other data."""
    cleaning = study.preprocess
    nyquist_hz = (samples.sfreq_hz or 2.0) / 2
    low_hz = (cleaning.high_pass_hz if cleaning else None) or 0.0
    high_hz = min((cleaning.low_pass_hz if cleaning else None) or nyquist_hz, 0.95 * nyquist_hz)
    return low_hz, high_hz
