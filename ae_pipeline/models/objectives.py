"""What the autoencoder is trained to do, apart from being close to its input.

An objective is a record of three things and never sees a layer: how the input is corrupted
(what the network sees, and which entries count in the loss), which bottleneck the code has
(a point or a Gaussian), and which penalty is added. Adding one is one class here: derive from
:class:`Objective`, override what differs, and add it to :data:`AnyObjective`.

Scoring never corrupts: it uses the clean input and the mean code whatever the objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ae_pipeline.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

__all__ = ["AnyObjective", "Objective", "Vanilla"]


class Objective(Config):
    """The record; by itself it changes nothing."""

    bottleneck: ClassVar[Literal["point", "gaussian"]] = "point"

    def corrupt(
        self, x: Tensor, observed: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the network sees of ``x``.

        Parameters
        ----------
        x : Tensor of shape (n, *shape)
            In network units; 0 where not observed.
        observed : Tensor of the same shape, optional
            1 where observed.
        generator : torch.Generator
            The only source of randomness allowed, so that a resumed run repeats it.

        Returns
        -------
        seen, seen_observed, weight : Tensor, Tensor or None, Tensor or None
            The input, which of its entries are visible, and the weight of each entry in the
            loss (None: all alike).
        """
        return x, observed, observed

    def penalty(
        self,
        encode: Callable[[Tensor], Tensor],
        seen: Tensor,
        mean: Tensor,
        log_variance: Tensor | None,
    ) -> Tensor | None:
        """What is added to the loss, a scalar per batch; None adds nothing.

        Parameters
        ----------
        encode : callable
            Input of shape (n, *shape) to mean codes of shape (n, latent_dim), for derivatives.
        seen : Tensor of shape (n, *shape)
            What the network saw.
        mean, log_variance : Tensor of shape (n, latent_dim)
            The code; ``log_variance`` for a Gaussian bottleneck only.
        """
        return None


class Vanilla(Objective):
    """Reproduce the input through the bottleneck (Rumelhart, Hinton and Williams, 1986)."""

    kind: Literal["vanilla"] = "vanilla"
    """Reproduce the input as it is."""


AnyObjective = Annotated[Vanilla, Field(discriminator="kind")]
