"""Scheduled runs that came too late are dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from prefect import get_client

__all__ = [
    "drop_late",
]


def drop_late(deployment: str | UUID, but: UUID | None = None) -> int:
    """Cancel scheduled runs of a deployment whose time has passed: the next one does their work.

    Parameters
    ----------
    deployment : str or UUID
        ``FLOW/DEPLOYMENT``, or its id.
    but : UUID, optional
        The run that is to stay.

    Returns
    -------
    int
        How many were cancelled.
    """
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled

    now, dropped = datetime.now(UTC), 0
    with get_client(sync_client=True) as client:
        if isinstance(deployment, str):
            try:
                deployment = client.read_deployment_by_name(deployment).id
            except ObjectNotFound:
                return 0
        waiting = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        )
        for run in waiting:
            due = run.expected_start_time
            if run.id != but and run.auto_scheduled and due is not None and due < now:
                message = "its time had passed; the run that is at work does what it would have"
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
                dropped += 1
    return dropped
