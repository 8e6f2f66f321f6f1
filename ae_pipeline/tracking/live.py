"""A training's losses in MLflow while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from typing import Any

from ae_pipeline.config import StudyError
from ae_pipeline.tracking.connection import Unreachable, connected, quoted
from ae_pipeline.tracking.publishing import METRICS_A_BATCH, PROCESS, WORK, experiment_id, origin
from ae_pipeline.tracking.settings import Settings, load_settings

__all__ = ["Live", "watched"]

LIVE_AFTER_S = 20.0
LIVE_S = 5.0
"""Seconds between two looks of a training's listener: few calls, each with all there is."""


class Live:
    """A training's losses in MLflow while it goes on, as far as MLflow can be had.

    Everything happens in a thread, so that training never waits; whatever fails ends it quietly,
    since :func:`publish` sends all of it once more. MLflow's own asynchronous logging begins a run
    synchronously, and at the end of the process waits for a server that hangs as long as its
    requests may take (measured: all of MLFLOW_HTTP_REQUEST_TIMEOUT). Left behind by a process that
    was killed, its run is closed as killed by the next :func:`publish` into the experiment.

    Parameters
    ----------
    settings : Settings
    experiment, run_name : str
    work : str
        ``Record.work`` of the run that :func:`publish` is to make of it.
    """

    def __init__(self, settings: Settings, experiment: str, *, run_name: str, work: str) -> None:
        import threading

        self._settings = settings
        self._what = (experiment, run_name, work)
        self._waiting: list[tuple[str, float, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def epoch(self, epoch: int, losses: Mapping[str, float | None]) -> None:
        """Losses of an epoch that has ended."""
        self._waiting += [(f"epoch/{n}", v, epoch) for n, v in losses.items() if v is not None]

    def close(self, patience_s: float = 10.0) -> None:
        """Send what is left and end."""
        self._end.set()
        self._thread.join(patience_s)

    def _work(self) -> None:
        experiment, run_name, work = self._what
        with suppress(Unreachable, StudyError), connected(self._settings) as client:
            from mlflow.entities import Metric

            place = experiment_id(
                client, self._settings.experiment or experiment, settings=self._settings
            )
            found = client.search_runs([place], f"tags.`{WORK}` = {quoted(work)}", max_results=1)
            tags = self._settings.tags | origin() | {WORK: work}
            run = found[0] if found else client.create_run(place, tags=tags, run_name=run_name)
            if run.info.status == "FINISHED":
                return
            client.set_tag(run.info.run_id, PROCESS, tags[PROCESS])
            client.update_run(run.info.run_id, "RUNNING")
            ended = False
            while not ended:
                ended = self._end.wait(LIVE_S)
                batch, self._waiting = self._waiting, []
                metrics = [Metric(n, v, run.info.start_time, e) for n, v, e in batch if isfinite(v)]
                for start in range(0, len(metrics), METRICS_A_BATCH):
                    client.log_batch(
                        run.info.run_id, metrics=metrics[start : start + METRICS_A_BATCH]
                    )


@contextmanager
def watched(
    experiment: str, work: str, *, listener: Callable[[Any], None]
) -> Iterator[Callable[[Any], None]]:
    """Give a listener to a training's events that tells ``listener``, and MLflow meanwhile.

    Trainings shorter than :data:`LIVE_AFTER_S` are published when they are done, and only then.
    """
    started = time.monotonic()
    live: Live | None = None
    waiting: list[Any] = []

    def told(event: Any) -> None:
        nonlocal live
        listener(event)
        if not hasattr(event, "is_best"):
            return
        waiting.append(event)
        if live is None and time.monotonic() - started >= LIVE_AFTER_S:
            live = Live(load_settings(), experiment, run_name="training now", work=work)
        while live is not None and waiting:
            each = waiting.pop(0)
            losses = {"train_loss": each.train_loss, "validation_loss": each.validation_loss}
            live.epoch(each.epoch, losses)

    try:
        yield told
    finally:
        if live is not None:
            live.close()
