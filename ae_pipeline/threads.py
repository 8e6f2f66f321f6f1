"""How many threads compute.

A window of EEG is a few small matrix products and transforms. Spread over several threads each of
them costs more in waiting than in work, and on a machine that does other things besides they wait
for each other nearly all of the time (measured: twenty times longer at a load of three a core). So
EEG is read, cleaned and scored in one thread; several recordings go to several processes. What
tables train is as small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_thread"]


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
