"""Autoencoders for EEG recordings, images and questionnaires: what is normal, and what is not.

Importing this package loads none of prefect, mlflow, torch or mne; :class:`Autoencoder` loads
what it needs when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ae_pipeline.estimator import Autoencoder

__version__ = "0.1.0"
__all__ = ["Autoencoder", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Autoencoder":
        from ae_pipeline.estimator import Autoencoder

        return Autoencoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
