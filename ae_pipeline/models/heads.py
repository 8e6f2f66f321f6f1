"""A head: what the code (or the input itself) says of something known about the samples.

A head is an extra layer for classification or regression, linear on standardised features, as a
linear probe is (Alain and Bengio, 2017). ``afterwards`` the network never sees a label, and the
head says what its code holds by itself. ``jointly`` the labels of those samples that have one
shape the code while it is learned (Ranzato and Szummer, 2008): the loss of a layer on the code is
added to the objective's. Either way the same linear reading is fitted at the end, so that both
compare. This file holds the configuration and the layer; ``supervised.py`` fits and judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from ae_pipeline.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Head", "Labels", "layer", "supervised_loss"]


class Head(Config):
    """What is predicted, from what, and when it is learned."""

    # "from" is no name that Python allows; the study file says it nevertheless
    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    kind: Literal["classify", "regress"]
    """classify: the target is one of a few classes; regress: it is a number."""
    target: str = Field(min_length=1)
    """Column that holds what is predicted; rows where it is empty train the rest of the model."""
    from_: Literal["latents", "input", "both"] = Field("latents", alias="from")
    """What it is predicted from: the latent features, simple features of the input (log powers of
    channels, means of 4 x 4 pixels, answers), or both."""
    fitted: Literal["afterwards", "jointly"] = "afterwards"
    """afterwards: the model learns without labels; jointly: labels shape the latent features."""
    weight: PositiveFloat = 0.1
    """How much the labels count against the reconstruction (jointly only)."""
    labels: Path | None = None
    """Table (CSV or TSV) with the target where the data has none itself: one row a recording or
    subject, named in a column recording, subject or participant_id; for EEG, null looks for
    participants.tsv beside the recordings."""

    @model_validator(mode="after")
    def _joint_needs_a_code(self) -> Head:
        if self.fitted == "jointly" and self.from_ == "input":
            raise ValueError(
                "fitted: jointly shapes the latent features, which from: input does not use; "
                "take from: latents or both, or fitted: afterwards"
            )
        return self


@dataclass(frozen=True)
class Labels:
    """What the layer on the code is to say of training samples.

    Parameters
    ----------
    values : array of shape (n,), float32
        Number of the class, or the standardised number; NaN where not known.
    n_outputs : int
        Number of classes; 1 for regression.
    """

    values: NDArray[np.float32]
    n_outputs: int


def layer(latent_dim: int, n_outputs: int) -> nn.Module:
    """The layer on the code that carries the labels back into the encoder."""
    from torch import nn

    return nn.Linear(latent_dim, n_outputs)


def supervised_loss(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """Mean loss over the samples whose target is known; None where none is.

    Parameters
    ----------
    outputs : Tensor of shape (n, classes), or (n, 1) for regression
    targets : Tensor of shape (n,)
        Number of the class, or the standardised number; NaN where not known.
    """
    import torch.nn.functional as F

    known = targets.isfinite()
    if not known.any():
        return None
    if outputs.shape[1] == 1:
        return F.mse_loss(outputs[known, 0], targets[known])
    return F.cross_entropy(outputs[known], targets[known].long())
