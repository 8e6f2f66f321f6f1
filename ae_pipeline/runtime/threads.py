"""How many threads compute.

A window of EEG is a few small matrix products and transforms. Spread over several threads each of
them costs more in waiting than in work, and on a machine that does other things besides they wait
for each other nearly all of the time (measured: twenty times longer at a load of three a core). So
every step computes in one thread; several recordings go to several processes. What tables train is
as small.

One long recording keeps a second core busy all the same: while a stretch of it is judged, the next
one is read, cleaned and sent through the network (:func:`ahead`). These are few and large steps, so
that the two threads seldom wait for each other's turn at the interpreter; two threads that both
judge gain less, because that is a great many small steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

__all__ = ["ahead", "one_thread"]

Item = TypeVar("Item")


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """PyTorch, BLAS and OpenMP compute in one thread inside (also as a decorator)."""
    if not wanted:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; while one of them is used, another thread makes the next ready."""
    remaining = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_take, remaining)
        while taken := coming.result():
            coming = pool.submit(_take, remaining)
            yield taken[0]


def _take(remaining: Iterator[Item]) -> tuple[Item, ...]:
    """The next item; nothing after the last."""
    return tuple(islice(remaining, 1))
