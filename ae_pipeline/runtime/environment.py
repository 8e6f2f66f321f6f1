"""Environment variables for a while; what processes started meanwhile inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["environment", "threads_of_processes"]


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


def threads_of_processes(n: int) -> dict[str, str]:
    """Variables with which a process computes in ``n`` threads; libraries read them on import."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(n))
