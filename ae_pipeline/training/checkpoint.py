"""Training that goes on where it was killed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.runtime.files import write_through
from ae_pipeline.training.history import History

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ae_pipeline.models.autoencoder import Autoencoder

__all__ = ["resume_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path,
    model: Autoencoder,
    *,
    optimizer: torch.optim.Optimizer,
    history: History,
    best: dict[str, Tensor],
) -> None:
    """One safetensors file: weights, best weights, the optimiser's tensors, the history."""
    import torch
    from safetensors.torch import save_file

    tensors = {f"model/{name}": p.detach() for name, p in model.state_dict().items()}
    tensors |= {f"best/{name}": p for name, p in best.items()}
    numbers: dict[str, Any] = {}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{slot}"] = value
            else:
                numbers[f"{index}/{slot}"] = value
    note = json.dumps({"history": asdict(history), "numbers": numbers})
    with write_through(path) as temporary:
        contiguous = {name: t.contiguous().cpu() for name, t in tensors.items()}
        save_file(contiguous, temporary, {"state": note})


def resume_checkpoint(
    path: Path, model: Autoencoder, *, optimizer: torch.optim.Optimizer
) -> tuple[History, dict[str, Tensor]] | None:
    """Go on from a checkpoint; None where it is damaged or of another model, and says nothing."""
    from safetensors import SafetensorError

    try:
        history, weights, best, state = _read_checkpoint(path, model)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
    own = {name: p.shape for name, p in model.state_dict().items()}
    if any({name: p.shape for name, p in part.items()} != own for part in (weights, best)):
        return None
    model.load_state_dict(weights)
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return history, best


def _read_checkpoint(
    path: Path, model: Autoencoder
) -> tuple[History, dict[str, Tensor], dict[str, Tensor], dict[int, dict[str, Any]]]:
    """History, weights, best weights and the optimiser's state."""
    from safetensors import safe_open

    state: dict[int, dict[str, Any]] = {}
    weights: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}}
    device = str(next(model.parameters()).device)
    with safe_open(path, "pt", device=device) as file:
        note = json.loads(file.metadata()["state"])
        for name in file.keys():  # noqa: SIM118  (not a dict)
            group, _, rest = name.partition("/")
            if group == "optimizer":
                index, _, slot = rest.partition("/")
                state.setdefault(int(index), {})[slot] = file.get_tensor(name)
            else:
                weights[group][rest] = file.get_tensor(name)
    for name, value in note["numbers"].items():
        index, _, slot = name.partition("/")
        state.setdefault(int(index), {})[slot] = value
    return History(**note["history"]), weights["model"], weights["best"], state
