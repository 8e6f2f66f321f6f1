"""Many pieces of work, by the runner that a study names: here, in processes, or on Dask.

What is sent to a process or a Dask worker is a function of this package and plain values. Both
use Python's own serialisation between processes that belong together: a Dask scheduler has to be
one that you trust, on a network that you trust.

The pool is Python's own: joblib's fails as a whole where one process dies, and does not say at
which item.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.messages import configure
from ae_pipeline.runtime.operation import AnyRunner, Dask, Processes

__all__ = ["Died", "each", "environment", "n_workers"]

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


@contextmanager
def environment(values: Mapping[str, str], override: bool = True) -> Iterator[None]:
    """Set environment variables inside; without ``override`` only those not set already."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({n: v for n, v in values.items() if override or before[n] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def each(
    runner: AnyRunner,
    work: Callable[[Item], Result],
    *,
    items: Sequence[Item],
    threads: int = 1,
) -> Iterator[tuple[Item, Result | Died]]:
    """Do ``work`` for every item; results come as they are ready.

    Parameters
    ----------
    runner : Sequential, Processes or Dask
    work : callable
        A function of a module or a partial of one (not a closure): other processes find it by
        its name.
    items : sequence
    threads : int
        Of each process on this machine.

    Yields
    ------
    (item, result)
        ``result`` is :class:`Died` where a process was killed while at it, then tried alone in a
        process of its own, and killed again. An exception of ``work`` is raised here.
    """
    if isinstance(runner, Dask):
        yield from _on_dask(runner, work, items=items)
    elif isinstance(runner, Processes) and len(items) > 1 and n_workers(runner) > 1:
        n = min(n_workers(runner), len(items))
        left = dict(enumerate(items))
        for number, result in _in_pool(work, items, n=n, threads=threads):
            yield left.pop(number), result
        # one of the rest ends its process: alone, it takes nobody with it
        for item in left.values():
            alone = [result for _, result in _in_pool(work, [item], n=1, threads=threads)]
            yield item, alone[0] if alone else Died()
    else:
        for item in items:
            yield item, work(item)


def _in_pool(
    work: Callable[[Item], Result], items: Sequence[Item], *, n: int, threads: int
) -> Iterator[tuple[int, Result]]:
    """Number and result of each item, as they come; they end where a process was killed."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # libraries read these on import; processes start when they are given work
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # spawned, since a fork of a process with PyTorch's threads may hang
    with ProcessPoolExecutor(n, get_context("spawn"), _begin) as pool:
        try:
            with environment(dict.fromkeys(limits, str(threads))):
                waiting = {pool.submit(work, item): number for number, item in enumerate(items)}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """First thing in a process: to end when the one that started it is gone, however it went."""
    from multiprocessing import parent_process

    configure()
    parent = parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


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
