"""Training by several processes under ``torchrun``: each takes a share of every batch.

The batch, the order of the samples and the seed are those of one process, and gradients are
averaged by what they stand for, so that without noise the result is that of one process up to
rounding. Every process holds the same weights; rank 0 alone writes, reports and publishes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "average_gradients",
    "is_joined",
    "join",
    "leave",
    "rank",
    "share",
    "size",
    "take_turns",
    "total",
]


def rank() -> int:
    """Number of this process among those that torchrun has started; 0 without it."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


def size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def join() -> None:
    """Meet the other processes; nothing where there are none."""
    if size() == 1 or is_joined():
        return
    import torch.distributed as together

    together.init_process_group("gloo")


def leave() -> None:
    """Part from the others: from here on each is on its own."""
    if is_joined():
        import torch.distributed as together

        together.destroy_process_group()


def is_joined() -> bool:
    """Whether this process trains together with others now."""
    if size() == 1:
        return False
    import torch.distributed as together

    return bool(together.is_initialized())


def take_turns(first: bool) -> None:
    """Called with True before and with False after something that rank 0 is to do first."""
    if is_joined() and first == (rank() > 0):
        import torch.distributed as together

        together.barrier()


def share(rows: Tensor) -> Tensor:
    """The rows of a batch that this process takes."""
    return rows[rank() :: size()] if is_joined() else rows


def average_gradients(model: torch.nn.Module, n_here: int, *, n_all: int) -> None:
    """Replace gradients by their mean over all samples of the batch, wherever they were taken."""
    if not is_joined():
        return
    import torch
    import torch.distributed as together

    parameters = [p for p in model.parameters() if p.requires_grad]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([part.flatten() for part in parts]).mul_(n_here / n_all).cpu()
    together.all_reduce(flat)
    at = 0
    for parameter in parameters:
        n = parameter.numel()
        parameter.grad = flat[at : at + n].view_as(parameter).to(parameter.device)
        at += n


def total(value: Tensor) -> Tensor:
    """Sum of a number over all processes."""
    if not is_joined():
        return value
    import torch.distributed as together

    summed = value.detach().cpu().clone()
    together.all_reduce(summed)
    return summed.to(value.device)
