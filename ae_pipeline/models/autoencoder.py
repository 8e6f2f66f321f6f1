"""An architecture, an objective and a likelihood put together: the model itself.

The model knows no trainer. It works in network units (see ``scaler.py``); tensors are
(n, *shape) with the shape of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column, Layout
from ae_pipeline.models import Model
from ae_pipeline.models.heads import supervised_loss
from ae_pipeline.models.layers import activation, glorot_, twice_differentiable
from ae_pipeline.models.likelihoods import Likelihood
from ae_pipeline.models.objectives import Encoding

__all__ = ["Autoencoder", "Code", "Loss"]


@dataclass(frozen=True)
class Code:
    """The latent features of a batch: (n, latent_dim); ``log_variance`` for Gaussian codes."""

    mean: Tensor
    log_variance: Tensor | None = None

    def draw(self, generator: torch.Generator | None) -> Tensor:
        """The mean, or a reparametrised draw of a Gaussian code (Kingma and Welling, 2014)."""
        if self.log_variance is None or generator is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + (0.5 * self.log_variance).exp() * noise


@dataclass(frozen=True)
class Loss:
    """``total`` is what is minimised; ``reconstruction`` the mean loss per entry within it."""

    total: Tensor
    reconstruction: Tensor


class Autoencoder(nn.Module):
    """Encoder, code, decoder, and the loss of its objective and likelihood.

    Parameters
    ----------
    config : Model
        Which architecture, objective, likelihood and latent size.
    layout : {'series', 'grid', 'table'}
    shape : tuple of int
        Shape of one sample: (channels, times), (rows, columns) or (items,).
    columns : sequence of Column
        Tables only.
    has_missing : bool
        Tables with missing answers show the network which ones are missing.

    Raises
    ------
    StudyError
        Where the latent size is not below the input's, or the parts do not fit the data.
    """

    def __init__(
        self,
        config: Model,
        layout: Layout,
        *,
        shape: tuple[int, ...],
        columns: Sequence[Column] = (),
        has_missing: bool = False,
    ) -> None:
        super().__init__()
        if config.latent_dim >= prod(shape):
            raise StudyError(
                f"model.latent_dim: {config.latent_dim} is not below the input's {prod(shape)} "
                "numbers, so nothing would have to be learned; choose a smaller one"
            )
        config.objective.check(layout, tuple(shape), latent_dim=config.latent_dim)
        self.config = config
        self.layout = layout
        self.shape = tuple(shape)
        self.has_missing = has_missing
        self.likelihood = Likelihood(config.likelihood, layout, shape=self.shape, columns=columns)
        self._nominal = [
            (i, len(column.levels)) for i, column in enumerate(columns) if column.type == "nominal"
        ]
        n_code = config.latent_dim * (2 if config.objective.bottleneck == "gaussian" else 1)
        self.encoder, self.decoder = config.architecture.build(
            self._input_shape(),
            n_code,
            latent_dim=config.latent_dim,
            output_shape=self._grid(self.likelihood.output_shape),
        )
        self.code_activation = activation(config.architecture.code_activation)
        self.head: nn.Module | None = None
        """A layer that carries labels into the code, while it is trained only."""
        if config.architecture.init == "glorot":
            glorot_(self)

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shapes as architectures want them: features first."""
        return shape if self.layout == "series" else (1, *shape)

    def _input_shape(self) -> tuple[int, ...]:
        if self.layout != "table":
            return self._grid(self.shape)
        n_inputs = self.shape[0] + sum(levels - 1 for _, levels in self._nominal)
        return self._grid((n_inputs + self.shape[0] * self.has_missing,))

    def _show(self, x: Tensor) -> Tensor:
        """What the encoder is shown of the values: nominal answers as one of n."""
        if not self._nominal:
            return x
        one_hot = dict(self._nominal)
        parts = []
        for i in range(x.shape[1]):
            if i in one_hot:
                # noise may have carried the answer past the last level
                level = (x[:, i] * (one_hot[i] - 1)).round().long().clamp(0, one_hot[i] - 1)
                parts.append(F.one_hot(level, one_hot[i]).to(x.dtype))
            else:
                parts.append(x[:, i : i + 1])
        return torch.cat(parts, 1)

    def _code(self, shown: Tensor, observed: Tensor | None) -> Code:
        """Latent features of what is shown, and of which answers are missing."""
        if self.has_missing and self.layout == "table":
            if observed is None:
                observed = shown.new_ones((len(shown), self.shape[0]))
            shown = torch.cat([shown, observed], 1)
        code: Tensor = self.encoder(shown if self.layout == "series" else shown.unsqueeze(1))
        if self.config.objective.bottleneck == "gaussian":
            mean, log_variance = code.chunk(2, 1)
            return Code(mean, log_variance.clamp(-12.0, 12.0))
        return Code(self.code_activation(code))

    def encode(self, x: Tensor, observed: Tensor | None = None) -> Code:
        """Latent features of ``x``; ``observed`` is 1 where an answer was given."""
        return self._code(self._show(x), observed)

    def decode(self, code: Tensor) -> Tensor:
        """Parameters of the likelihood, (n, *likelihood.output_shape), from (n, latent_dim)."""
        parameters: Tensor = self.decoder(code)
        return parameters if self.layout == "series" else parameters.squeeze(1)

    def loss(
        self,
        x: Tensor,
        observed: Tensor | None,
        generator: torch.Generator,
        epoch: int = 1,
        targets: Tensor | None = None,
    ) -> Loss:
        """Training loss of a batch: corrupted as the objective says, against the clean input.

        Parameters
        ----------
        x, observed : Tensor of shape (n, *shape)
            In network units; ``observed`` is 1 where an entry was.
        generator : torch.Generator
            All noise comes from it.
        epoch : int
            From 1, for objectives that start gently.
        targets : Tensor of shape (n,), optional
            What the head is to say, NaN where not known.
        """
        objective = self.config.objective
        seen, seen_observed, weight = objective.corrupt(
            x, observed, generator=generator, layout=self.layout
        )
        shown = self._show(seen)
        code = self._code(shown, seen_observed)
        parameters = self.decode(code.draw(generator))
        reconstruction = self.likelihood.loss(parameters, x, weight=weight)

        def encode(inputs: Tensor) -> Tensor:
            with twice_differentiable():
                return self._code(inputs, seen_observed).mean

        penalty = objective.penalty(
            Encoding(
                encode,
                shown,
                code.mean,
                code.log_variance,
                prod(self.shape) if weight is None else weight.sum().clamp_min(1.0) / len(x),
                self.config.architecture.exact_derivatives,
                generator,
                epoch,
            )
        )
        total = reconstruction if penalty is None else reconstruction + penalty
        if self.head is not None and targets is not None and self.config.head is not None:
            supervised = supervised_loss(self.head(code.mean), targets)
            if supervised is not None:
                total = total + self.config.head.weight * supervised
        return Loss(total, reconstruction)

    def forward(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Parameters of the likelihood from the clean input and the mean code."""
        return self.decode(self.encode(x, observed).mean)
