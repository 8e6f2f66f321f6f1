"""What an entry of the data is thought to be distributed as: the third, independent choice.

A :class:`Family` is a record of functions over one entry's parameters. :class:`Likelihood`
applies one family to a whole image or signal, or one to each column of a table. Everything is
in network units: 0 to 1 for pixels and for the levels of an item, standardised otherwise.

Losses are natural logarithms per entry. The Gaussian is the mean squared error of the text
(the constant and the factor 1/2 of the log density are left out), the Bernoulli its binary
cross-entropy, the categorical its cross-entropy. The Huber loss (Huber, 1964) is the squared
error up to a deviation of one network unit and grows linearly beyond, with the same factor left
out, so that it equals the Gaussian for small errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column, Layout

__all__ = ["FAMILIES", "Family", "Likelihood"]

LEAST = 1e-6
"""Probability below which no level falls, so that no single answer decides a training step."""

SELDOM = 0.6
"""Share of entries that count up to which picking them out is worth its time."""


@dataclass(frozen=True)
class Family:
    """One distribution: how many parameters an entry has, its loss and its mean.

    ``loss(parameters, x)`` and ``mean(parameters)`` take parameters of shape (..., k) and give
    shape (...); one-parameter families take and give the same shape. Families of levels have
    ``n_levels - fewer`` parameters and say how probable each level is, shape (..., n_levels).
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor], Tensor]
    needs_levels: bool = False
    fewer: int = 0
    probabilities: Callable[[Tensor], Tensor] | None = None


def _squared_error(parameters: Tensor, x: Tensor) -> Tensor:
    away = parameters - x
    return away.square() if away.requires_grad else away.square_()


def _huber(parameters: Tensor, x: Tensor) -> Tensor:
    return 2 * F.huber_loss(parameters, x, reduction="none")


def _binary_cross_entropy(parameters: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(parameters, x, reduction="none")


def _cross_entropy(parameters: Tensor, x: Tensor) -> Tensor:
    level = (x * (parameters.shape[-1] - 1)).round().long()
    chosen = torch.log_softmax(parameters, -1).gather(-1, level.unsqueeze(-1))
    return -chosen.squeeze(-1)


def _expected(probabilities: Tensor) -> Tensor:
    """Mean level, 0 for the lowest and 1 for the highest."""
    n_levels = probabilities.shape[-1]
    positions = torch.arange(n_levels, dtype=probabilities.dtype, device=probabilities.device)
    return probabilities @ (positions / (n_levels - 1))


def _ordinal(parameters: Tensor) -> Tensor:
    """Probability of each level: the first parameter is a threshold, the others steps from it."""
    first, steps = parameters[..., :1], F.softplus(parameters[..., 1:])
    below = torch.sigmoid(torch.cat([first, first + steps.cumsum(-1)], -1))
    edges = (torch.zeros_like(below[..., :1]), torch.ones_like(below[..., :1]))
    between = torch.diff(torch.cat([edges[0], below, edges[1]], -1), dim=-1).clamp_min(LEAST)
    return between / between.sum(-1, keepdim=True)


def _ordinal_loss(parameters: Tensor, x: Tensor) -> Tensor:
    probabilities = _ordinal(parameters)
    level = (x * (probabilities.shape[-1] - 1)).round().long()
    return -probabilities.gather(-1, level.unsqueeze(-1)).squeeze(-1).log()


def _two(parameters: Tensor) -> Tensor:
    p = torch.sigmoid(parameters)
    return torch.stack([1 - p, p], -1)


FAMILIES: dict[str, Family] = {
    "gaussian": Family(_squared_error, lambda parameters: parameters),
    "huber": Family(_huber, lambda parameters: parameters),
    "bernoulli": Family(_binary_cross_entropy, torch.sigmoid, probabilities=_two),
    "categorical": Family(
        _cross_entropy,
        lambda parameters: _expected(torch.softmax(parameters, -1)),
        needs_levels=True,
        probabilities=lambda parameters: torch.softmax(parameters, -1),
    ),
    "ordinal": Family(
        _ordinal_loss,
        lambda parameters: _expected(_ordinal(parameters)),
        needs_levels=True,
        fewer=1,
        probabilities=_ordinal,
    ),
}

_FOR_TYPE = {
    "continuous": "gaussian",
    "binary": "bernoulli",
    "ordinal": "ordinal",
    "nominal": "categorical",
}


class Likelihood:
    """A family for each entry of a sample, behind one interface with a mask per entry.

    Parameters
    ----------
    name : str
        A family for every entry, ``mixed`` (by each column's type), or ``auto``: Gaussian for
        EEG, Bernoulli for images, by column for tables.
    layout : {'series', 'grid', 'table'}
    shape : tuple of int
        Shape of one sample.
    columns : sequence of Column
        Tables only.

    Attributes
    ----------
    uniform : str or None
        The one family of every entry, else None and
    by_column : dict of int to (family, levels)

    Raises
    ------
    StudyError
        Where the family needs levels that the data does not declare.
    """

    def __init__(
        self, name: str, layout: Layout, *, shape: tuple[int, ...], columns: Sequence[Column] = ()
    ) -> None:
        self.shape = shape
        self.uniform: str | None = None
        self.by_column: dict[int, tuple[str, int]] = {}
        self._groups: list[tuple[str, Tensor, int, int]] = []  # family, columns, start, size
        if name == "auto":
            name = {"series": "gaussian", "grid": "bernoulli", "table": "mixed"}[layout]
        if name == "bernoulli":
            _refuse_unbounded(layout, columns)
        if name != "mixed" and not FAMILIES[name].needs_levels:
            self.uniform = name
            self.output_shape = shape
            return
        if not columns:
            raise StudyError(
                f"model.likelihood: {name!r} needs items with declared levels, which this "
                "data does not have; use gaussian, huber or bernoulli"
            )
        by_group: dict[tuple[str, int], list[int]] = {}
        for index, column in enumerate(columns):
            family = _FOR_TYPE[column.type] if name == "mixed" else name
            size = len(column.levels) if FAMILIES[family].needs_levels else 1
            if FAMILIES[family].needs_levels and size < 2:
                raise StudyError(
                    f"model.likelihood: {family!r} needs at least two levels; item "
                    f"{column.name!r} declares {size}; declare its range or use mixed"
                )
            by_group.setdefault((family, size), []).append(index)
            self.by_column[index] = (family, size)
        start = 0
        for (family, n_levels), indices in by_group.items():
            size = n_levels - FAMILIES[family].fewer
            self._groups.append((family, torch.tensor(indices), start, size))
            start += size * len(indices)
        self.output_shape = (start,)

    def loss_per_entry(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Loss of each entry, shape (n, *shape), natural logarithm; masks are the caller's."""
        if self.uniform is not None:
            return FAMILIES[self.uniform].loss(parameters, x)
        if len(self._groups) == 1:  # of every entry, in order: nothing to gather
            family, columns, start, size = self._groups[0]
            chosen = self._of_group(family, parameters, n=len(columns), start=start, size=size)
            return FAMILIES[family].loss(chosen, x)
        out = torch.empty_like(x)
        for family, columns, start, size in self._groups:
            chosen = self._of_group(family, parameters, n=len(columns), start=start, size=size)
            out[:, columns] = FAMILIES[family].loss(chosen, x[:, columns])
        return out

    def loss(self, parameters: Tensor, x: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss over the entries with weight (all of them where ``weight`` is None)."""
        if weight is None:
            # the fused mean saves a pass over memory, a tenth of a dense training step
            if self.uniform == "bernoulli":
                return F.binary_cross_entropy_with_logits(parameters, x)
            if self.uniform == "gaussian":
                return F.mse_loss(parameters, x)
            return self.loss_per_entry(parameters, x).mean()
        per_entry = self._loss_where(parameters, x, weight=weight)
        return (per_entry * weight).sum() / weight.sum().clamp_min(1.0)

    def _loss_where(self, parameters: Tensor, x: Tensor, *, weight: Tensor) -> Tensor:
        """Loss per entry where there is a weight; levels elsewhere are 0, and not computed.

        Of a masked table three quarters count for nothing, and logarithms of levels are most of a
        training step.
        """
        if len(self._groups) != 1 or not FAMILIES[self._groups[0][0]].needs_levels:
            return self.loss_per_entry(parameters, x)
        places = weight.flatten().nonzero()[:, 0]
        if len(places) > SELDOM * weight.numel():
            return self.loss_per_entry(parameters, x)
        family, columns, start, size = self._groups[0]
        chosen = self._of_group(family, parameters, n=len(columns), start=start, size=size).flatten(
            0, 1
        )
        losses = FAMILIES[family].loss(
            chosen.index_select(0, places), x.flatten().index_select(0, places)
        )
        return torch.zeros_like(x).flatten().index_put((places,), losses).view_as(x)

    def mean(self, parameters: Tensor) -> Tensor:
        """Expected value of each entry in network units, shape (n, *shape)."""
        if self.uniform is not None:
            return FAMILIES[self.uniform].mean(parameters)
        out = parameters.new_empty((len(parameters), *self.shape))
        for family, columns, start, size in self._groups:
            chosen = self._of_group(family, parameters, n=len(columns), start=start, size=size)
            out[:, columns] = FAMILIES[family].mean(chosen)
        return out

    def said_of(
        self, parameters: Tensor, items: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """What is said of some items of a table, and of no others.

        Parameters
        ----------
        parameters : Tensor of shape (n, *output_shape)
        items : Tensor of bool, of shape (items,)

        Returns
        -------
        list of (columns, mean, probabilities)
            For each family: which items, (m,); their means in network units, (n, m); and how
            probable each level is, (n, m, levels), None for items without levels (continuous
            ones). A binary item under ``bernoulli`` has two.
        """
        if self.uniform is not None:
            family = FAMILIES[self.uniform]
            chosen = parameters.flatten(1)[:, items]
            levels = None if family.probabilities is None else family.probabilities(chosen)
            return [(items.nonzero()[:, 0], family.mean(chosen), levels)]
        found = []
        for name, columns, start, size in self._groups:
            family, asked = FAMILIES[name], items[columns]
            chosen = self._of_group(name, parameters, n=len(columns), start=start, size=size)[
                :, asked
            ]
            levels = None if family.probabilities is None else family.probabilities(chosen)
            if levels is not None and family.needs_levels:
                mean = _expected(levels)
            else:
                mean = family.mean(chosen)
            found.append((columns[asked], mean, levels))
        return found

    @staticmethod
    def _of_group(family: str, parameters: Tensor, *, n: int, start: int, size: int) -> Tensor:
        """The parameters of a family's ``n`` entries, which stand together: a view."""
        chosen = parameters[:, start : start + n * size].reshape(-1, n, size)
        return chosen if FAMILIES[family].needs_levels else chosen.squeeze(-1)


def _refuse_unbounded(layout: Layout, columns: Sequence[Column]) -> None:
    """A probability says nothing of values beyond 0 to 1."""
    loose = [column.name for column in columns if column.type == "continuous"]
    if layout == "series" or loose:
        what = "a signal" if layout == "series" else f"the continuous item {loose[0]!r}"
        raise StudyError(
            f"model.likelihood: 'bernoulli' needs values of 0 to 1, which {what} does not have; "
            f"use {'gaussian or huber' if layout == 'series' else 'mixed'}"
        )
