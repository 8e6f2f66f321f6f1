"""Many pieces of work, by the runner that a study names: here, in processes, or on Dask.

What is sent to a process or a Dask worker is a function of this package and plain values. Both
use Python's own serialisation between processes that belong together: a Dask scheduler has to be
one that you trust, on a network that you trust.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.environment import environment, threads_of_processes
from ae_pipeline.runtime.messages import configure
from ae_pipeline.runtime.operation import AnyRunner, Dask, Processes

__all__ = ["Died", "each", "n_workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Died(Exception):
    """The process that did a piece of work ended in the middle of it, twice."""


def n_workers(runner: AnyRunner) -> int:
    """Processes that a runner uses on this machine; Dask's are its own."""
    if not isinstance(runner, Processes):
        return 1
    if runner.workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return runner.workers


def each(
    runner: AnyRunner, work: Callable[[Item], Result], *, items: Sequence[Item]
) -> Iterator[tuple[Item, Result | Died]]:
    """Do ``work`` for every item; results come as they are ready.

    Parameters
    ----------
    runner : Sequential, Processes or Dask
    work : callable
        A function of a module (not a closure), for other processes find it by its name.
    items : sequence

    Yields
    ------
    (item, result)
        ``result`` is :class:`Died` where a process was killed while at it, then tried alone in a
        process of its own, and killed again. An exception of ``work`` is raised here.
    """
    if isinstance(runner, Dask):
        yield from _on_dask(runner, work, items=items)
    elif isinstance(runner, Processes) and len(items) > 1 and n_workers(runner) > 1:
        yield from _in_processes(min(n_workers(runner), len(items)), work, items=items)
    else:
        for item in items:
            yield item, work(item)


def _in_processes(
    n: int, work: Callable[[Item], Result], *, items: Sequence[Item]
) -> Iterator[tuple[Item, Result | Died]]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    left = dict(enumerate(items))
    # spawned, since a fork of a process with PyTorch's threads may hang
    context = get_context("spawn")
    with environment(threads_of_processes(1)), ProcessPoolExecutor(n, context, configure) as pool:
        waiting = {pool.submit(work, item): number for number, item in left.items()}
        try:
            for done in as_completed(waiting):
                result = done.result()
                yield left.pop(waiting[done]), result
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)
    # one of the rest ends its process: alone, it takes nobody with it
    for item in left.values():
        with (
            environment(threads_of_processes(1)),
            ProcessPoolExecutor(1, context, configure) as pool,
        ):
            try:
                result = pool.submit(work, item).result()
            except BrokenProcessPool:
                yield item, Died()
                continue
        yield item, result


def _on_dask(
    runner: Dask, work: Callable[[Item], Result], *, items: Sequence[Item]
) -> Iterator[tuple[Item, Result | Died]]:
    try:
        from distributed import Client, as_completed
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError:
        raise StudyError(
            "operation.runner dask: Dask is not installed; pip install 'ae-pipeline[dask]'"
        ) from None
    try:
        client = Client(runner.scheduler, timeout="5s", set_as_default=False)
    except (OSError, TimeoutError):
        raise StudyError(
            f"operation.runner.scheduler {runner.scheduler} does not answer; start it with "
            "'dask scheduler', and workers with 'dask worker ADDRESS'"
        ) from None
    with client, client.as_current():
        waiting = {client.submit(work, item, pure=False): item for item in items}
        for done in as_completed(waiting):
            try:
                yield waiting[done], done.result()
            except (KilledWorker, FutureCancelledError):
                yield waiting[done], Died()
