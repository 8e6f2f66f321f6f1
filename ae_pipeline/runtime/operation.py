"""The ``operation`` part of a study: what runs by itself, when, on what, and who is told.

Times are the machine's own unless ``time_zone`` names another.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator

from ae_pipeline.config import Config

__all__ = ["AnyRunner", "Dask", "Operation", "Processes", "Sequential", "due_between"]


class Sequential(Config):
    """One recording after another, in the process that runs the night."""

    kind: Literal["sequential"] = "sequential"


class Processes(Config):
    """Several recordings at once, each in a process of its own on this machine."""

    kind: Literal["process"] = "process"
    workers: Literal["auto"] | PositiveInt = "auto"
    """Processes; auto takes one a core. Each holds a model and a block of signal in memory."""


class Dask(Config):
    """Recordings on the workers of a Dask scheduler that is running already."""

    kind: Literal["dask"] = "dask"
    scheduler: str = Field(pattern=r"^(tcp|tls)://[^/@\s]+:\d+$")
    """Address of the scheduler, such as tcp://cluster:8786; its workers need the same folders."""


AnyRunner = Sequential | Processes | Dask


class Operation(Config):
    """What runs by itself."""

    inbox: Path
    """Folder in which new recordings arrive; it is only ever read."""
    model: str | None = None
    """Model that scores: models:/NAME/VERSION, models:/NAME@champion or a bundle's folder. It is
    looked up once and then kept (a later champion changes nothing until you write another here);
    null takes the champion where there is one, else what the study's train has left."""
    expected: Path | None = None
    """List of what should arrive (a column 'recording', 'subject' or 'participant_id', or one name
    a line); the digest says what is missing."""
    schedule: str | None = None
    """When 'serve' scores the inbox, as in cron: "0 2 * * *" is every night at two; null runs it
    only when asked."""
    retrain: str | None = None
    """When 'serve' trains anew, as in cron: "0 4 * * 0" is Sundays at four; the result becomes the
    challenger. Null trains only when asked."""
    time_zone: str | None = None
    """Time zone of the schedules, such as Europe/Vienna; null is this machine's."""
    settle_s: NonNegativeFloat = 60.0
    """A file that changed within so many seconds is still being written: the next run takes it."""
    runner: Annotated[AnyRunner, Field(discriminator="kind")] = Sequential()
    """How recordings are spread: sequential, process or dask."""
    reference: Path | None = None
    """Recordings that never change, on which a challenger is compared with the champion."""
    hook: tuple[str, ...] = ()
    """Command that is given each digest on its standard input, as a list of words: [mail, -s,
    Night, lab@example.org]; no shell reads it, and the digest names nobody."""

    @field_validator("runner", mode="before")
    @classmethod
    def _by_its_name(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @field_validator("schedule", "retrain")
    @classmethod
    def _is_cron(cls, given: str | None) -> str | None:
        if given is not None:
            from cronsim import CronSim, CronSimError

            try:
                CronSim(given, datetime(2000, 1, 1))
            except CronSimError:
                raise ValueError(
                    f"{given!r} is no schedule; expected five fields as in cron, such as "
                    "'0 2 * * *' for every night at two"
                ) from None
        return given

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, given: str | None) -> str | None:
        if given is not None:
            _zone(given)
        return given


def _zone(name: str | None) -> tzinfo | None:
    from zoneinfo import ZoneInfo

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; expected a name like Europe/Vienna") from None


def due_between(
    schedule: str, start: datetime, *, end: datetime, zone: str | None = None, most: int = 400
) -> list[datetime]:
    """When a schedule was due after ``start`` and not after ``end``; at most the last ``most``.

    Parameters
    ----------
    schedule : str
        Five fields as in cron.
    start, end : datetime
        With time zones.
    zone : str, optional
        Time zone of the schedule; the machine's by default.
    """
    from collections import deque

    found = deque(_due(schedule, start.astimezone(_zone(zone)), end=end), maxlen=most)
    return list(found)


def _due(schedule: str, start: datetime, *, end: datetime) -> Iterator[datetime]:
    from cronsim import CronSim

    # a year of minutes is as far back as anybody wants to know
    start = max(start, end.astimezone(start.tzinfo) - timedelta(days=366))
    for moment in CronSim(schedule, start):
        if moment > end:
            return
        yield moment
