"""Deployments: what ``ae-pipeline serve`` keeps scheduled, and what has a form in Prefect's pages.

For each study with an ``operation`` part: ``inbox-STUDY`` by its schedule, ``retrain-STUDY`` by
its own, and ``score-STUDY`` on demand, all with forms. ``prefect.yaml`` has the same flows for
work pools.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from prefect import serve as prefect_serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from ae_pipeline.ingest.inbox import Inbox
from flows import pipeline

__all__ = [
    "deployments",
    "serve",
]

AT_ONCE = 2
"""Flow runs that one ``serve`` has under way: a night, and something that a person asked for."""


def deployments(inboxes: Sequence[Inbox]) -> list[RunnerDeployment]:
    """What is served for these studies."""
    return [each for inbox in inboxes for each in _of(inbox)]


def _of(inbox: Inbox) -> list[RunnerDeployment]:
    operation, study = inbox.operation, str(inbox.file)
    name = inbox.study.study
    common: dict[str, Any] = {
        "entrypoint_type": EntrypointType.MODULE_PATH,
        "tags": ["ae-pipeline", name],
        # ours is the lock that counts; this one only saves a process that would find it taken
        "concurrency_limit": ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
    }
    made = [
        pipeline.inbox.to_deployment(
            f"inbox-{name}",
            description=f"Score what is new in the inbox of {name}, once.",
            parameters={"study": study},
            schedules=_schedules(operation.schedule, operation.time_zone),
            **common,
        ),
        pipeline.retrain.to_deployment(
            f"retrain-{name}",
            description=f"Train {name} anew; the result becomes the challenger.",
            parameters={"study": study},
            schedules=_schedules(operation.retrain, operation.time_zone),
            **common,
        ),
        pipeline.score.to_deployment(
            f"score-{name}",
            description="Score recordings, images or a questionnaire with a model.",
            parameters={"model": _model(inbox), "out": str(inbox.place.with_name(f"{name}-asked"))},
            **common,
        ),
    ]
    return made  # type: ignore[return-value]  # to_deployment is typed for asynchronous callers too


def _model(inbox: Inbox) -> str:
    pin = inbox.last_pin()
    if pin is not None:
        return str(inbox.model(pin.model_id))
    return str(inbox.study.outputs.root / inbox.study.study / "model")


def _schedules(cron: str | None, zone: str | None) -> list[CronSchedule] | None:
    if cron is None:
        return None
    return [CronSchedule(cron=cron, timezone=zone or _local_zone())]


def _local_zone() -> str:
    """Name of this machine's time zone; Prefect would take UTC."""
    named = os.environ.get("TZ", "").removeprefix(":")
    where = named or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    return where or "UTC"


def serve(inboxes: Sequence[Inbox]) -> None:
    """Register the deployments and run what comes due, until the process is stopped.

    To be called inside :func:`flows.using`, which sees to a server.
    """
    made = deployments(inboxes)
    for inbox in inboxes:
        pipeline.drop_late(f"inbox/inbox-{inbox.study.study}")
        pipeline.drop_late(f"retrain/retrain-{inbox.study.study}")
    prefect_serve(*made, limit=AT_ONCE)
