"""Prefect flows around the steps: names, retries, a record of what ran; no logic of their own.

``flows.run_job(job)`` runs a job as a flow, against the server at ``PREFECT_API_URL`` where that
is set, else against one that lives as long as this process. :mod:`flows.pipeline` has the same
jobs as flows with plain parameters, for deployments. This is the only folder that imports
prefect, inside its functions: Prefect reads the environment at its import, so
:func:`prepare_environment` comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.run import run_job, using
from flows.servers import prepare_environment

if TYPE_CHECKING:
    from flows.deployments import serve
    from flows.pipeline import demo, inbox, retrain, score, train
    from flows.servers import entrance, up

__all__ = [
    "demo",
    "entrance",
    "inbox",
    "prepare_environment",
    "retrain",
    "run_job",
    "score",
    "serve",
    "train",
    "up",
    "using",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    prepare_environment()
    import importlib

    where = {"serve": "deployments", "up": "servers", "entrance": "servers"}.get(name, "pipeline")
    return getattr(importlib.import_module(f"flows.{where}"), name)
