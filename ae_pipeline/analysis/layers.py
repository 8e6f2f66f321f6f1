"""The layers of a network as a table."""

from __future__ import annotations

from typing import Any

from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "layers_of",
]


def layers_of(bundle: Bundle) -> list[tuple[str, str, int]]:
    """(name, output shape, parameters) of every layer that has any, encoder before decoder."""
    import torch
    from torch import nn

    from ae_pipeline.models.layers import n_parameters

    model = bundle.autoencoder.model
    found: list[tuple[str, str, int]] = []
    handles = []
    for side in ("encoder", "decoder"):
        for module in getattr(model, side).modules():
            if next(module.children(), None) is None and n_parameters(module):

                def note(layer: nn.Module, _: Any, out: torch.Tensor, side: str = side) -> None:
                    shape = " x ".join(str(n) for n in out.shape[1:])
                    name = f"{side}: {type(layer).__name__}"
                    found.append((name, shape, n_parameters(layer)))

                handles.append(module.register_forward_hook(note))
    with torch.inference_mode():
        model(torch.zeros((1, *model.shape), device=next(model.parameters()).device))
    for handle in handles:
        handle.remove()
    return found
