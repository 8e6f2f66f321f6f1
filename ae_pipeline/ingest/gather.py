"""What a study trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ae_pipeline.data import Samples
from ae_pipeline.ingest.inputs import Failure
from ae_pipeline.kind import Spread, kind_of

if TYPE_CHECKING:
    from ae_pipeline.study import Study

__all__ = [
    "Gathered",
    "gather",
]


@dataclass(frozen=True)
class Gathered:
    """What a study trains on.

    ``digests`` has the digest of every input that is used; ``notes`` what readers guessed, in
    words without identities; ``facts`` numbers for the training card.
    """

    samples: Samples
    digests: dict[str, str]
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    positions_m: tuple[tuple[float | None, ...], ...] = ()
    sfreq_hz: float | None = None
    technical: frozenset[str] = frozenset()
    """Recordings with a bad channel: they train, but do not calibrate."""


def gather(
    study: Study,
    advance: Callable[[int, int, str], None],
    *,
    spread: Spread | None = None,
) -> Gathered:
    """Read everything a study trains on, as its kind of data does.

    Parameters
    ----------
    study : Study
    advance : callable
        Told (done, total, name) for each input.
    spread : callable, optional
        Looks through inputs in processes of their own.

    Raises
    ------
    InputError
        Where nothing can be used.
    """
    return kind_of(study.kind).gather(study, advance, spread=spread)
