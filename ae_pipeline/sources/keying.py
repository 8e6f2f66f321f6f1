"""Which items of a block are reverse-keyed, as the answers show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keying", "keying"]

LEAST_LOADING = 0.1
MOST_ROWS = 20_000


class Keying(NamedTuple):
    """What the answers say of reverse keying."""

    turned: list[str]
    """Items that run against most others of their block."""
    undecided: tuple[list[str], list[str]] | None
    """Both halves of a block that is split evenly: either may be the reverse-keyed one."""


def keying(block: NDArray[np.floating[Any]], names: Sequence[str]) -> Keying:
    """Items whose loading on their block's first principal component has the rarer sign.

    Parameters
    ----------
    block : array of shape (n, items)
        Answers as given, NaN where missing.
    names : sequence of str

    Returns
    -------
    Keying
        An item counts only where it goes with the rest of the block, so keyed, beyond chance.
    """
    if len(names) < 2 or len(block) < 10:
        return Keying([], None)
    import pandas as pd

    answers = pd.DataFrame(np.asarray(block[:MOST_ROWS], np.float64))
    related = answers.corr().fillna(0).to_numpy()
    loadings = np.linalg.eigh(related)[1][:, -1]
    sign = np.where(np.abs(loadings) >= LEAST_LOADING, np.sign(loadings), 0)
    standard = ((answers - answers.mean()) / answers.std().replace(0, np.nan)).fillna(0).to_numpy()
    keyed = standard * sign
    rest = keyed.sum(1, keepdims=True) - keyed
    size = np.sqrt((keyed**2).sum(0) * (rest**2).sum(0))
    fits = (keyed * rest).sum(0) / np.maximum(size, 1e-9) > 2 / np.sqrt(len(answers))
    sign = np.where(fits, sign, 0)
    plus, minus = (
        [name for name, one in zip(names, sign, strict=True) if one == each] for each in (1, -1)
    )
    if not plus or not minus:
        return Keying([], None)
    if len(plus) == len(minus):
        first = plus if names[0] in plus or names[0] not in minus else minus
        return Keying([], (first, minus if first is plus else plus))
    return Keying(min(plus, minus, key=len), None)
