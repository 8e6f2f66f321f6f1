"""Scores of new samples, and what the calibration says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Samples, Scorer, Scores
from ae_pipeline.detectors.baselines import score_all
from ae_pipeline.detectors.ensemble import LINEAR_TO, Ensemble, Through

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Judged",
    "raw_scores",
]


KEYS = ("recording", "subject", "session", "window", "onset_s", "duration_s")
"""What a judged sample is known by; whatever else a table holds stays with the samples."""


@dataclass(frozen=True)
class Judged:
    """What a bundle says of samples.

    ``columns`` are (n,) arrays: ``score``, ``score_NAME``, ``p_value``, ``flagged`` (EEG) and the
    entry that deviates most; ``frame`` has them beside the keys of ``meta``. ``by_entry`` is the
    default detector's error, (n, k); ``latents`` is (n, latent_dim).
    """

    meta: pd.DataFrame
    columns: dict[str, NDArray[Any]]
    by_entry: NDArray[np.float32]
    latents: NDArray[np.float32]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a sample."""
        return _beside(self.meta, self.columns)

    @classmethod
    def join(cls, parts: Sequence[Judged]) -> Judged:
        """One after the other."""
        import pandas as pd

        if len(parts) == 1:
            return parts[0]
        return cls(
            pd.concat([part.meta for part in parts], ignore_index=True),
            {
                name: np.concatenate([part.columns[name] for part in parts])
                for name in parts[0].columns
            },
            np.concatenate([part.by_entry for part in parts]),
            np.concatenate([part.latents for part in parts]),
        )


def raw_scores(
    ensemble: Ensemble, baselines: dict[str, Scorer], *, samples: Samples
) -> tuple[pd.DataFrame, Scores, NDArray[np.float32]]:
    """Every scorer's score beside the samples' keys, without any calibration.

    Returns
    -------
    frame : DataFrame
        What a sample is known by (:data:`KEYS`; ``label`` of images), ``score`` (the
        ensemble's), ``score_autoencoder`` and the other views and baselines as ``score_NAME``,
        ``top_view`` (what deviates most) and ``top_deviation`` (robust standard deviations).
    scores : Scores
        The autoencoder's, with the ensemble's deviation of each channel or error of each item.
    latents : array of shape (n, latent_dim)
    """
    columns, scores, latents = _raw_columns(ensemble, baselines, samples=samples)
    return _beside(_known(samples), columns), scores, latents


def _known(samples: Samples) -> pd.DataFrame:
    """What samples are known by."""
    keys = (*KEYS, "label") if samples.layout == "grid" else KEYS
    return samples.meta[[name for name in keys if name in samples.meta]]


def _beside(known: pd.DataFrame, columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([known, pd.DataFrame(columns, index=known.index)], axis=1)


def _raw_columns(
    ensemble: Ensemble,
    baselines: dict[str, Scorer],
    *,
    samples: Samples,
    through: Through | None = None,
) -> tuple[dict[str, NDArray[Any]], Scores, NDArray[np.float32]]:
    """:func:`raw_scores` without the keys."""
    if through is None:
        through = ensemble.through(samples)
    seen = ensemble.look(samples, through)
    scores = Scores(_finite(seen.autoencoder.total), _finite(seen.by_entry))
    found: dict[str, Any] = {
        "score": _finite(seen.total),
        "score_autoencoder": scores.total,
        **{f"score_{name}": _finite(values) for name, values in seen.deviations.items()},
    }
    found.pop("score_error", None)  # the autoencoder's score says the same
    if "latent" not in seen.deviations:
        found["score_latent"] = _finite(seen.views["latent"])
    for name, each in score_all(baselines, samples, scaled=through.scaled).items():
        found[f"score_{name}"] = _finite(each.total)
    if len(seen.top_band):
        found["top_band"] = seen.top_band
        found["score_state"] = _finite(seen.state)
    names = list(seen.deviations)
    deviations = np.stack([_finite(values) for values in seen.deviations.values()], 1)
    top = deviations.argmax(1)
    found["top_view"] = np.array(names, dtype=object)[top]
    # in words a deviation is told in full, not compressed as it is added
    largest = deviations[np.arange(len(top)), top] / LINEAR_TO
    found["top_deviation"] = _finite(LINEAR_TO * np.sinh(np.clip(largest, -80, 80)))
    return found, scores, seen.latents


def _finite(errors: NDArray[Any]) -> NDArray[Any]:
    """An error beyond float32 is still an error: the largest number, never infinity."""
    most = float(np.finfo(np.float32).max)
    return np.asarray(np.nan_to_num(errors, nan=most, posinf=most))
