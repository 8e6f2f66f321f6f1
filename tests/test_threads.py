"""One thread inside, as many as before afterwards, whatever happens."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from ae_pipeline.threads import one_thread


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
