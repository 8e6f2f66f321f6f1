"""The autoencoder as a scikit-learn estimator: a transformer and an outlier detector in one.

``fit`` trains any architecture with any objective on a table (rows are samples, columns
continuous, NaN is a missing value), or on images or EEG windows where ``kind`` says so. As
scikit-learn has it, scores are higher where a sample is *more normal*.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column, InputError, Samples, axes_of
from ae_pipeline.kind import kind_of

__all__ = ["Autoencoder"]

LEAST_TO_HOLD_OUT = 40
"""Samples below which none are kept back to stop the training early."""


class Autoencoder(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    OutlierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """An autoencoder with scikit-learn's contract.

    Parameters
    ----------
    architecture : str or dict, default='dense'
        ``dense``, ``conv``, ``recurrent`` or ``attention``; as a dict with its own settings, as in
        a study file: ``{"kind": "dense", "hidden": [64, 32]}``.
    objective : str or dict, default='vanilla'
        ``vanilla``, ``denoising``, ``masked``, ``variational``, ``sparse`` or ``contractive``.
    latent_dim : int, optional
        Numbers in the code; None takes half of the features, at most 16.
    likelihood : str, default='auto'
        How an entry's error is measured: squared error for tables and EEG, cross-entropy for
        images; ``huber`` lets large deviations count less.
    kind : {'table', 'mnist', 'eeg'}, default='table'
        ``mnist`` takes images of 0 to 1, ``eeg`` windows of (channels, times); both either as
        (n, *shape) or flat with ``shape``.
    shape : tuple of int, optional
        Shape of one image or window, where X is flat.
    epochs, batch_size, learning_rate, optimizer, early_stopping, device
        As in a study file (:class:`ae_pipeline.training.loop.Training`).
    validation_fraction : float, default=0.1
        Share of the samples that only stops the training early, where there are at least 40.
    contamination : float, default=0.05
        Share of the training samples that ``predict`` calls outliers.
    random_state : int, RandomState or None, default=0
        Same number, same results, to the bit on one CPU.

    Attributes
    ----------
    latent_dim_ : int
    history_ : list of dict
        Losses of each epoch.
    offset_ : float
        ``score_samples`` below it is an outlier.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from ae_pipeline import Autoencoder
    >>> X = np.random.default_rng(0).normal(size=(60, 6))
    >>> model = Autoencoder("dense", "variational", latent_dim=2, epochs=2).fit(X)
    >>> model.transform(X).shape
    (60, 2)
    >>> X[0] = 20  # like no other sample
    >>> int(model.score_samples(X).argmin())
    0
    """

    def __init__(
        self,
        architecture: str | dict[str, Any] = "dense",
        objective: str | dict[str, Any] = "vanilla",
        latent_dim: int | None = None,
        *,
        likelihood: str = "auto",
        kind: Literal["table", "mnist", "eeg"] = "table",
        shape: tuple[int, ...] | None = None,
        epochs: int = 100,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 1e-3,
        optimizer: str = "adamw",
        early_stopping: int | None = 10,
        validation_fraction: float = 0.1,
        contamination: float = 0.05,
        device: str = "auto",
        random_state: Any = 0,
    ) -> None:
        self.architecture = architecture
        self.objective = objective
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.kind = kind
        self.shape = shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.contamination = contamination
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Autoencoder:
        """Train on samples; ``y`` is not looked at.

        Parameters
        ----------
        X : array-like of shape (n, features), or (n, *shape) for images and EEG
            NaN is a missing value (tables only).
        y : ignored

        Raises
        ------
        ValueError
            Where data or settings cannot be used; the message says what to change.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> model = Autoencoder(epochs=2).fit(X)
        >>> model.latent_dim_, len(model.history_)
        (3, 2)
        """
        values = self._validated(X, reset=True)
        try:
            self._train(values)
        except (StudyError, InputError) as error:
            raise ValueError(str(error)) from None
        return self

    def _train(self, values: NDArray[Any]) -> None:
        import torch
        from pydantic import ValidationError

        from ae_pipeline.config import explain
        from ae_pipeline.detectors.ensemble import Ensemble
        from ae_pipeline.models import Model
        from ae_pipeline.models.autoencoder import Autoencoder as Network
        from ae_pipeline.models.scaler import Scaler
        from ae_pipeline.training.loop import Training, fit

        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination: {self.contamination} given, expected (0, 0.5]")
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        samples = self._samples(values)
        n_entries = int(np.prod(samples.shape))
        self.latent_dim_ = self.latent_dim or max(1, min(16, n_entries // 2))
        config: Any
        try:
            config = Model.model_validate(
                {
                    "architecture": _named(self.architecture),
                    "objective": _named(self.objective),
                    "latent_dim": self.latent_dim_,
                    "likelihood": self.likelihood,
                }
            )
        except ValidationError as error:
            raise explain(error, Model, where="Autoencoder") from None
        try:
            training = Training(
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                optimizer=self.optimizer,
                early_stopping=self.early_stopping,
                device=self.device,
                seed=seed,
            )
        except ValidationError as error:
            raise explain(error, Training, where="Autoencoder") from None
        n = len(samples)
        order = rng.permutation(n)
        wanted = self.early_stopping is not None and n >= LEAST_TO_HOLD_OUT
        n_held = round(self.validation_fraction * n) if wanted else 0
        inside = samples.take(np.sort(order[n_held:]))
        held = samples.take(np.sort(order[:n_held])) if n_held else None
        scaler = Scaler.fit(inside, seed)
        has_missing = samples.mask is not None and not samples.mask.all()
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers are the caller's
            torch.manual_seed(seed)
            network = Network(
                config,
                samples.layout,
                shape=samples.shape,
                columns=samples.columns,
                has_missing=has_missing,
            )
        fitted, history = fit(network, inside, held, scaler, training)
        self._ensemble = Ensemble.fit(fitted, inside, reference=held, seed=seed)
        self._draw_seed = int(rng.randint(2**31 - 1))
        self.history_ = history.rows
        self._noise = self._residual(inside)
        self.offset_ = float(np.percentile(self._scores(samples), 100 * self.contamination))

    def transform(self, X: Any) -> NDArray[Any]:
        """Return codes, (n, latent_dim), of the type of X.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> Autoencoder(latent_dim=2, epochs=2).fit(X).transform(X.astype("float32")).dtype
        dtype('float32')
        """
        check_is_fitted(self)
        values = self._validated(X)
        codes = self._ensemble.autoencoder.latents(self._samples(values))
        return codes.astype(values.dtype, copy=False)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Decode codes, (n, latent_dim), into the data's own units, shaped as fit's X was.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> model = Autoencoder(latent_dim=2, epochs=2).fit(X)
        >>> model.inverse_transform(np.zeros((3, 2))).shape
        (3, 6)
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32])
        if codes.shape[1] != self.latent_dim_:
            raise ValueError(
                f"X has {codes.shape[1]} features, but Autoencoder's codes have {self.latent_dim_}"
            )
        values = self._decode(codes.astype(np.float32))
        return values.reshape(len(codes), *self._given_shape).astype(codes.dtype, copy=False)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return minus the anomaly score of each sample, (n,); higher is more normal.

        It is the score of the command line: the ensemble of views of the autoencoder.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> model = Autoencoder(epochs=2).fit(X)
        >>> bool(model.score_samples(X).mean() > model.score_samples(X + 20).mean())
        True
        """
        check_is_fitted(self)
        return self._scores(self._samples(self._validated(X)))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``score_samples`` minus ``offset_``: negative for outliers.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> int((Autoencoder(contamination=0.1, epochs=2).fit(X).decision_function(X) < 0).sum())
        6
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return 1 for samples like the training data, -1 for outliers.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> Autoencoder(epochs=2).fit(X).predict(X[:2] + [[0], [20]])
        array([ 1, -1])
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of ``score_samples``, which a grid search maximises.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> model = Autoencoder(epochs=2).fit(X)
        >>> bool(model.score(X) == model.score_samples(X).mean())
        True
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """Draw new samples, shaped as fit's X was.

        From the prior of a variational model, else from a Gaussian mixture of the training codes.
        Each call draws the same samples for the same ``n_samples``.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 6))
        >>> Autoencoder(epochs=2).fit(X).sample(3).shape
        (3, 6)
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples: {n_samples} given, at least 1 expected")
        rng = np.random.default_rng(self._draw_seed)
        model = self._ensemble.autoencoder.model
        if model.config.objective.bottleneck == "gaussian":
            codes = rng.standard_normal((n_samples, self.latent_dim_)).astype(np.float32)
        else:
            codes = self._ensemble.draw_codes(n_samples, rng)
        values = self._decode(codes).astype(np.float64)
        if self._noise.size:
            values = values + self._noise * rng.standard_normal(values.shape)
        return np.asarray(values.reshape(n_samples, *self._given_shape), dtype=np.float64)

    @property
    def _n_features_out(self) -> int:
        """Names of the codes are made of it."""
        return self.latent_dim_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.kind == "table"
        tags.input_tags.three_d_array = self.kind != "table"
        return tags

    # ----------------------------------------------------------------------------- inside

    def _validated(self, X: Any, reset: bool = False) -> NDArray[Any]:
        """X as floats; the number of features as at fit."""
        table = self.kind == "table"
        values: NDArray[Any] = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if table else True,
            ensure_min_samples=2 if reset else 1,
            ensure_min_features=2 if reset else 1,
            allow_nd=not table,
        )
        if reset:
            self._given_shape = values.shape[1:]
            shape = tuple(self.shape) if self.shape is not None else self._given_shape
            if not table and len(shape) != 2:
                raise ValueError(
                    f"kind {self.kind!r}: X has samples of shape {shape}; give (n, rows, columns), "
                    "(n, channels, times), or shape"
                )
            if int(np.prod(shape)) != int(np.prod(self._given_shape)):
                raise ValueError(f"shape {shape} does not fit {self._given_shape} values a sample")
            self._shape = self._given_shape if table else shape
        elif values.shape[1:] != self._given_shape:
            raise ValueError(f"samples of shape {values.shape[1:]}, fitted on {self._given_shape}")
        return values

    def _samples(self, values: NDArray[Any]) -> Samples:
        import pandas as pd

        kind = kind_of("questionnaire" if self.kind == "table" else self.kind)
        shape = self._shape
        meta = pd.DataFrame(index=range(len(values)))
        shaped = values.reshape(len(values), *shape)
        largest = np.finfo(np.float32).max
        shaped = np.clip(shaped, -largest, largest).astype(np.float32)
        if kind.layout == "table":
            names = tuple(f"x{i}" for i in range(shape[0]))
            columns = tuple(Column(name) for name in names)
            mask = np.isfinite(shaped)
            filled = np.where(mask, shaped, np.float32(0))
            axes = axes_of("table", names)
            return Samples(kind.name, filled, meta, axes, mask, columns)
        if kind.layout == "grid":
            if shaped.min() < 0 or shaped.max() > 1:
                raise ValueError(
                    f"pixels of {shaped.min():g} to {shaped.max():g} given, expected 0 (black) to "
                    "1; divide by the largest possible value"
                )
            return Samples(kind.name, shaped, meta, axes_of("grid"))
        names = tuple(f"ch{i}" for i in range(shape[0]))
        # times are counted in samples: nothing here depends on a rate but the bands
        return Samples(kind.name, shaped, meta, axes_of("series", names), sfreq_hz=100.0)

    def _scores(self, samples: Samples) -> NDArray[np.float64]:
        most = float(np.finfo(np.float32).max)  # as the command line has what is beyond it
        total = np.nan_to_num(self._ensemble.view_scores(samples).total, nan=most, posinf=most)
        return np.asarray(-total, dtype=np.float64)

    def _decode(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        fitted = self._ensemble.autoencoder
        device = next(fitted.model.parameters()).device
        with torch.inference_mode():
            parameters = fitted.model.decode(torch.from_numpy(codes).to(device))
            mean = fitted.model.likelihood.mean(parameters).cpu().numpy()
        return fitted.scaler.inverse(mean)

    def _residual(self, samples: Samples) -> NDArray[np.float64]:
        """Standard deviation of what the model leaves of each column; empty for images."""
        if samples.layout == "grid":
            return np.zeros(0)
        left = self._ensemble.autoencoder.reconstruct(samples) - samples.batch(slice(None))[0]
        if samples.mask is not None:
            left = np.where(samples.mask, left, np.nan)
        with np.errstate(invalid="ignore"):
            spread = np.sqrt(np.nanmean(np.square(left.astype(np.float64)), axis=0))
        return np.asarray(np.nan_to_num(spread), dtype=np.float64)


def _named(part: str | dict[str, Any]) -> dict[str, Any]:
    return {"kind": part} if isinstance(part, str) else dict(part)
