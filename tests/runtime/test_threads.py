"""One thread inside, as many as before afterwards; items made ready ahead stay in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from ae_pipeline.runtime.threads import ahead, one_thread


def blas() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_computing_is_done_in_one_thread_and_only_inside() -> None:
    before, others = torch.get_num_threads(), blas()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert set(blas()) <= {1}
        assert torch.get_num_threads() == 3
        assert blas() == others
        with one_thread(wanted=False):
            assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="x"), one_thread():
            raise ValueError("x")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_items_come_in_order_while_the_next_is_made_ready() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(5):
            threads.add(threading.get_ident())
            assert torch.get_num_threads() == 1
            made.append(number)
            yield number

    with one_thread():
        seen = []
        for number in ahead(items()):
            seen.append(number)
            assert len(made) <= len(seen) + 1  # one ahead, never more
    assert seen == list(range(5))
    assert threading.get_ident() not in threads
    assert list(ahead([])) == []


def test_what_goes_wrong_ahead_is_told_where_the_items_are_used() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        list(ahead(items()))
    begun = ahead(items())
    assert next(begun) == 1
    begun.close()  # whoever stops early is not told
