"""What the autoencoder is trained to do, apart from being close to its input.

An objective is a record of three things and never sees a layer: how the input is corrupted
(what the network sees, and which entries count in the loss), which bottleneck the code has
(a point or a Gaussian), and which penalty is added. Adding one is one class here: derive from
:class:`Objective`, override what differs, and add it to :data:`AnyObjective`.

The loss that a penalty is added to is a mean per entry, so that it does not grow with the input.
Penalties do not grow with it either, and a ``weight`` means the same for images, windows and
tables:

* variational: the divergence of a sample over the number of its entries, so that ``beta`` 1 is
  the evidence lower bound per entry;
* sparse: a mean over samples and units of activities in units of each one's own root mean square;
* contractive: the squared Jacobian as a multiple of that of an orthonormal code without loss.

The last two are free of the code's scale on purpose: encoder and decoder do not share weights,
and a plain penalty would be met by a small code that the decoder makes large again.

Scoring never corrupts: it uses the clean input and the mean code whatever the objective.
Tensors are in network units, (n, *shape); for tables 0 where an answer is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ae_pipeline.config import Config, StudyError
from ae_pipeline.data import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

__all__ = [
    "AnyObjective",
    "Contractive",
    "Denoising",
    "Encoding",
    "Masked",
    "Objective",
    "Sparse",
    "Vanilla",
    "Variational",
    "active_units",
]

PEAK = 4.0
"""Height of salt and pepper in EEG, in robust standard deviations of the channel."""

TINY = 1e-8

THINGS = {"series": "series", "grid": "images", "table": "tables"}
"""What samples of each layout are called in messages."""


@dataclass(frozen=True)
class Encoding:
    """A batch on its way through the encoder: all that a penalty may depend on.

    Parameters
    ----------
    encode : callable
        ``shown`` to mean codes, differentiable twice.
    shown : Tensor of shape (n, *)
        What the network saw; nominal answers as one of n.
    mean, log_variance : Tensor of shape (n, latent_dim)
        The code; ``log_variance`` for a Gaussian bottleneck only.
    n_entries : float or Tensor
        Entries of a sample that count in the loss (their mean over the batch).
    exact_derivatives : bool
        Whether a derivative of every unit of the code is affordable.
    generator : torch.Generator
        The only source of randomness allowed.
    epoch : int
        From 1.
    """

    encode: Callable[[Tensor], Tensor]
    shown: Tensor
    mean: Tensor
    log_variance: Tensor | None
    n_entries: float | Tensor
    exact_derivatives: bool
    generator: torch.Generator
    epoch: int


class Objective(Config):
    """The record; by itself it changes nothing."""

    bottleneck: ClassVar[Literal["point", "gaussian"]] = "point"

    @property
    def settled_epoch(self) -> int:
        """The first epoch that is trained with the whole objective; none before it is kept."""
        return 1

    def check(self, layout: Layout, shape: tuple[int, ...], *, latent_dim: int) -> None:
        """Refuse data that the objective makes no sense for.

        Raises
        ------
        StudyError
            With the reason.
        """

    def corrupt(
        self, x: Tensor, observed: Tensor | None, *, generator: torch.Generator, layout: Layout
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the network sees of ``x``.

        Parameters
        ----------
        x : Tensor of shape (n, *shape)
            In network units; 0 where not observed. Left as it is.
        observed : Tensor of the same shape, optional
            1 where observed.
        generator : torch.Generator
            The only source of randomness allowed, so that a resumed run repeats it.
        layout : {'series', 'grid', 'table'}

        Returns
        -------
        seen, seen_observed, weight : Tensor, Tensor or None, Tensor or None
            The input, which of its entries are visible, and the weight of each entry in the
            loss (None: all alike).
        """
        return x, observed, observed

    def penalty(self, encoding: Encoding) -> Tensor | None:
        """What is added to the loss, a scalar per batch; None adds nothing."""
        return None


class Vanilla(Objective):
    """Reproduce the input through the bottleneck (Rumelhart, Hinton and Williams, 1986)."""

    kind: Literal["vanilla"] = "vanilla"
    """Reproduce the input as it is."""


# ------------------------------------------------------------------ what the network sees


class Denoising(Objective):
    """Reproduce the clean input from a noisy one (Vincent et al., 2008 and 2010).

    The network cannot copy, so it has to learn what data looks like. Every observed entry
    counts in the loss, and the target is never noisy.
    """

    kind: Literal["denoising"] = "denoising"
    """Reproduce the clean input from a noisy one."""
    noise: Literal["gaussian", "salt_and_pepper", "missing", "channel_dropout"] = "gaussian"
    """What is done to the input: gaussian adds noise everywhere, salt_and_pepper sets single values
    to an extreme, missing sets them to zero, channel_dropout (EEG) silences whole channels."""
    level: PositiveFloat = 0.3
    """Standard deviation of gaussian noise: 1 is a channel's or item's own spread, in images the
    step from black to white."""
    rate: float = Field(0.2, gt=0, lt=1)
    """Share of the values (or channels) that the other kinds of noise hit."""

    def check(self, layout: Layout, shape: tuple[int, ...], *, latent_dim: int) -> None:
        """Only EEG has channels."""
        if self.noise == "channel_dropout" and layout != "series":
            raise StudyError(
                f"model.objective.noise: 'channel_dropout' needs channels over time, which "
                f"{THINGS[layout]} do not have; "
                "use missing, salt_and_pepper or gaussian"
            )

    def corrupt(
        self, x: Tensor, observed: Tensor | None, *, generator: torch.Generator, layout: Layout
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See :meth:`Objective.corrupt`; a missing answer stays missing."""
        import torch

        if self.noise == "gaussian":
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            seen = x + self.level * noise
            return (seen if observed is None else seen * observed), observed, observed
        places = x.shape[:2] if self.noise == "channel_dropout" else x.shape
        hit = _uniform(places, x, generator=generator) < self.rate
        if self.noise == "salt_and_pepper":
            low, high = _extremes(x, layout)
            extreme = torch.where(_uniform(x.shape, x, generator=generator) < 0.5, low, high)
            seen = torch.where(hit, extreme, x)
            return (seen if observed is None else seen * observed), observed, observed
        left = (~hit).to(x.dtype).reshape(*hit.shape, *[1] * (x.dim() - hit.dim()))
        return x * left, (left if observed is None else observed * left), observed


class Masked(Objective):
    """Predict what is hidden from what is seen (Pathak et al., 2016; He et al., 2022).

    Of EEG, spans of time over all channels or whole channels are hidden, of images square
    patches, of tables items. Only what was hidden (and is known) counts in the loss: copying
    earns nothing. What is hidden is 0 in network units: silence, black, or an answer that is
    shown as missing.
    """

    kind: Literal["masked"] = "masked"
    """Predict hidden parts from the rest: spans of time, channels, patches of images, items."""
    share: float = Field(0.4, gt=0, lt=1)
    """Share of every sample that is hidden; more is harder and makes the code less local."""
    hide: Literal["auto", "time", "channels"] = "auto"
    """What is hidden of EEG: spans of time, whole channels, or (auto) one or the other by chance;
    of images it is always patches, of a questionnaire items."""
    size: Literal["auto"] | PositiveInt = "auto"
    """Length of a hidden span in samples (EEG), or side of a patch in pixels: auto takes an eighth
    of the window or image."""

    def check(self, layout: Layout, shape: tuple[int, ...], *, latent_dim: int) -> None:
        """Something must be left to see."""
        if layout != "series" and self.hide != "auto":
            raise StudyError(
                f"model.objective.hide: {self.hide!r} needs channels over time; of "
                f"{THINGS[layout]} {'patches' if layout == 'grid' else 'items'} are hidden: "
                "use auto"
            )
        if layout == "table":
            if shape[0] < 2:
                raise StudyError("model.objective: masked needs at least two items, given one")
            return
        if self.hide == "channels":
            if shape[0] < 2:
                raise StudyError(
                    "model.objective.hide: 'channels' needs at least two channels, given one; "
                    "use time"
                )
            return
        if max(self._blocks(layout, shape)) < 2:
            raise StudyError(
                f"model.objective.size: {self.size} would hide the whole input "
                f"({' x '.join(map(str, shape))}); choose at most half of its length, or auto"
            )

    def corrupt(
        self, x: Tensor, observed: Tensor | None, *, generator: torch.Generator, layout: Layout
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See :meth:`Objective.corrupt`."""
        hidden = self._hidden(x, generator, layout=layout)
        visible, counts = (~hidden).to(x.dtype), hidden.to(x.dtype)
        if observed is not None:
            visible, counts = visible * observed, counts * observed
        return x.masked_fill(hidden, 0.0), visible, counts

    def _hidden(self, x: Tensor, generator: torch.Generator, *, layout: Layout) -> Tensor:
        """Which entries are hidden, a boolean tensor like ``x``."""
        import torch

        n, *shape = x.shape
        if layout == "table":
            return _choose(x, shape[0], share=self.share, generator=generator)
        if self.hide == "channels":
            return _choose(x, shape[0], share=self.share, generator=generator)[
                :, :, None
            ].expand_as(x)
        blocks, size = self._blocks(layout, (*shape,)), self._size(layout, (*shape,))
        places = _choose(x, math.prod(blocks), share=self.share, generator=generator).reshape(
            n, *blocks
        )
        for axis in range(1, places.dim()):
            places = places.repeat_interleave(size, axis).narrow(
                axis, 0, shape[axis - places.dim()]
            )
        if layout == "grid":
            return places
        spans = places[:, None].expand_as(x)
        if self.hide == "time" or shape[0] < 2:
            return spans
        channels = _choose(x, shape[0], share=self.share, generator=generator)[
            :, :, None
        ].expand_as(x)
        return torch.where(_uniform((n, 1, 1), x, generator=generator) < 0.5, spans, channels)

    def _size(self, layout: Layout, shape: tuple[int, ...]) -> int:
        length = shape[-1] if layout == "series" else max(shape)
        return max(1, round(length / 8)) if self.size == "auto" else self.size

    def _blocks(self, layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Spans of a window, (1,), or patches down and across an image, (2,)."""
        size = self._size(layout, shape)
        return tuple(-(-length // size) for length in (shape[-1:] if layout == "series" else shape))


def _uniform(shape: tuple[int, ...], like: Tensor, *, generator: torch.Generator) -> Tensor:
    import torch

    return torch.rand(shape, generator=generator, device=like.device)


def _choose(like: Tensor, n_places: int, *, share: float, generator: torch.Generator) -> Tensor:
    """The same number of places in each sample, never none or all: (n, n_places), boolean."""
    import torch

    n_chosen = min(max(round(share * n_places), 1), n_places - 1)
    drawn = _uniform((len(like), n_places), like, generator=generator)
    lowest = drawn.topk(n_chosen, 1, largest=False, sorted=False).indices
    chosen = torch.zeros(drawn.shape, dtype=torch.bool, device=drawn.device)
    return chosen.scatter_(1, lowest, True)


def _extremes(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Lowest and highest value that salt and pepper take (of an item: in this batch)."""
    if layout == "table":
        return x.amin(0), x.amax(0)
    return (
        (x.new_tensor(0.0), x.new_tensor(1.0))
        if layout == "grid"
        else (x.new_tensor(-PEAK), x.new_tensor(PEAK))
    )


# --------------------------------------------------------------- what the code should be


class Variational(Objective):
    """A code that is a Gaussian for each sample and standard normal over all of them.

    Kingma and Welling (2014); ``beta`` from Higgins et al. (2017), ``warm_up_epochs`` from
    Sønderby et al. (2016), ``free_bits`` from Kingma et al. (2016). Minimised is

        reconstruction per entry + beta * KL(code of the sample || standard normal) / entries.

    Both remedies are against collapse, in which features say nothing of the input;
    :func:`active_units` tells.
    """

    bottleneck: ClassVar[Literal["point", "gaussian"]] = "gaussian"

    kind: Literal["variational"] = "variational"
    """A probabilistic code that new samples can be drawn from."""
    beta: PositiveFloat = 1.0
    """Weight of the code's divergence from a standard normal: 1 is the evidence lower bound, more
    gives fewer and more independent features, less a sharper reconstruction."""
    warm_up_epochs: NonNegativeInt = 0
    """Epochs over which beta rises to its value, against features that never start to be used; no
    epoch before that is kept."""
    free_bits: NonNegativeFloat = 0.0
    """Bits that each feature may carry at no cost, against unused features; 0.1 to 0.5 is usual."""

    @property
    def settled_epoch(self) -> int:
        """The first epoch with the full beta."""
        return self.warm_up_epochs + 1

    def penalty(self, encoding: Encoding) -> Tensor:
        """Divergence per entry, its weight growing over the warm-up."""
        assert encoding.log_variance is not None
        mean, log_variance = encoding.mean, encoding.log_variance
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        by_feature = divergence.mean(0).clamp_min(self.free_bits * math.log(2))
        ramp = min(1.0, encoding.epoch / self.settled_epoch)
        return self.beta * ramp * by_feature.sum() / encoding.n_entries


def active_units(codes: NDArray[Any], least_variance: float = 0.01) -> NDArray[np.bool_]:
    """Which features of a variational model say anything of the input (Burda et al., 2016).

    Parameters
    ----------
    codes : array of shape (n, latent_dim)
        Mean codes of samples. A collapsed feature has the prior's mean for all of them.
    least_variance : float
        Of the mean codes over samples, where the prior has variance 1.

    Returns
    -------
    array of bool of shape (latent_dim,)
    """
    return np.asarray(codes.var(0) > least_variance)


class Sparse(Objective):
    """Few units of the code active at a time (Olshausen and Field, 1996).

    A unit's activity is its absolute value over its root mean square in the batch. Three ways
    to keep it low, which are not the same:

    * ``l1``: the mean activity. Each unit costs by itself, whatever the others do, and a large
      value costs no more than its share: codes get many small values and a few large ones.
      Under a ReLU code units can fall silent for good.
    * ``kl``: the divergence of each unit's rate from ``target`` (Lee, Ekanadham and Ng, 2008).
      The rate is the squared mean activity, which is the share of samples that it is on for a
      unit that is on or off (Treves and Rolls, 1991). Each unit is held to the same rate over
      the samples, too silent is as wrong as too busy, and nothing says how many are active at
      once.
    * ``neighbours``: the mean product of the activities of adjacent units. A unit is discouraged
      while its neighbours are active, and free when they are silent, as in lateral inhibition
      (Hartline and Ratliff, 1957): active units come apart, but need not be rare.
    """

    kind: Literal["sparse"] = "sparse"
    """Few features active at a time."""
    measure: Literal["l1", "kl", "neighbours"] = "l1"
    """What is kept low: l1 the activity of each feature (with a linear or leaky code), kl its
    distance from a target rate, neighbours its activity while those beside it are active."""
    weight: PositiveFloat = 0.05
    """How much sparsity counts against reconstruction; raise it for fewer active features."""
    target: float = Field(0.1, gt=0, lt=1)
    """Share of the samples that a feature should be active for (kl only)."""

    def check(self, layout: Layout, shape: tuple[int, ...], *, latent_dim: int) -> None:
        """A single unit has no neighbours."""
        if self.measure == "neighbours" and latent_dim < 2:
            raise StudyError(
                "model.objective.measure: 'neighbours' needs model.latent_dim of at least 2; "
                "use l1 or kl"
            )

    def penalty(self, encoding: Encoding) -> Tensor:
        """One of the three measures."""
        code = encoding.mean
        activity = code.abs() / (code.square().mean(0) + TINY).sqrt()
        if self.measure == "l1":
            return self.weight * activity.mean()
        if self.measure == "neighbours":
            return self.weight * (activity[:, 1:] * activity[:, :-1]).mean()
        rate = activity.mean(0).square().clamp(1e-6, 1 - 1e-6)
        return (
            self.weight
            * (
                self.target * (self.target / rate).log()
                + (1 - self.target) * ((1 - self.target) / (1 - rate)).log()
            ).mean()
        )


class Contractive(Objective):
    """A code that stands still where the data does not vary (Rifai et al., 2011).

    The penalty is the squared Frobenius norm of the code's Jacobian J at each sample, as

        mean |J|^2 * (variance of the input) / (variance of the code * latent_dim),

    variances summed over entries and units: 1 for principal components that keep all variance,
    less for a code that noise moves less. The Jacobian is exact where that is cheap (dense
    architectures), else Hutchinson's estimate: E |v'J|^2 over random signs v (Hutchinson, 1990).
    """

    kind: Literal["contractive"] = "contractive"
    """Features that small changes of the input do not move."""
    weight: PositiveFloat = 0.01
    """How much contraction counts against reconstruction; raise it for steadier features."""
    jacobian: Literal["auto", "exact", "estimate"] = "auto"
    """How derivatives are taken: exact costs a pass for each feature, estimate one pass; auto is
    exact for dense models only."""

    def penalty(self, encoding: Encoding) -> Tensor | None:
        """Squared Jacobian relative to the spread of code and input."""
        if len(encoding.shown) < 2:  # one sample has no spread
            return None
        exact = self.jacobian == "exact"
        if self.jacobian == "auto":
            exact = encoding.exact_derivatives
        shown = encoding.shown.detach().requires_grad_()
        code = encoding.encode(shown)
        squared = (
            _exact(code, shown) if exact else _estimate(code, shown, generator=encoding.generator)
        )
        spread = code.var(0, correction=0).sum() * code.shape[1]
        input_spread = encoding.shown.detach().var(0, correction=0).sum()
        return self.weight * squared.mean() * input_spread / (spread + TINY)


def _exact(code: Tensor, shown: Tensor) -> Tensor:
    """Squared Frobenius norm of each sample's Jacobian, (n,): a derivative for every unit."""
    import torch

    rows = [
        torch.autograd.grad(unit.sum(), shown, create_graph=True)[0].flatten(1)
        for unit in code.unbind(1)
    ]
    return torch.stack([row.square().sum(1) for row in rows]).sum(0)


def _estimate(code: Tensor, shown: Tensor, *, generator: torch.Generator) -> Tensor:
    """An unbiased estimate of the same from one derivative, that of a random sum of the units."""
    import torch

    signs = (_uniform(tuple(code.shape), code, generator=generator) < 0.5).to(code.dtype) * 2 - 1
    (row,) = torch.autograd.grad(code, shown, signs, create_graph=True)
    return row.flatten(1).square().sum(1)


AnyObjective = Annotated[
    Vanilla | Denoising | Masked | Variational | Sparse | Contractive,
    Field(discriminator="kind"),
]
