"""Autoencoders for EEG recordings, images and questionnaires: what is normal, and what is not.

Importing this package loads none of prefect, mlflow, torch or mne; :class:`Autoencoder` loads
what it needs when it is first named.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ae_pipeline.estimator import Autoencoder

logging.getLogger(__name__).addHandler(logging.NullHandler())

__version__ = "0.1.0"
__all__ = ["Autoencoder", "__version__"]

_WHERE = {
    "Autoencoder": ("ae_pipeline.estimator", "Autoencoder"),
    "bundle": ("ae_pipeline.scoring.bundle", None),  # models registered by 0.1.0 import it
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, inside = _WHERE[name]
    loaded = importlib.import_module(module)
    return loaded if inside is None else getattr(loaded, inside)
