"""Autoencoders for EEG recordings, images and questionnaires: what is normal, and what is not.

The names in ``__all__`` are the public surface: they keep their meaning within a major version.
Every other module is internal and may change with any release.

Importing this package loads none of prefect, mlflow, torch or mne; a name loads what it needs
when it is first used. Messages are logged below the logger ``ae_pipeline``.

Examples
--------
>>> import ae_pipeline
>>> sorted(ae_pipeline.__all__)
['Autoencoder', 'InputError', 'Study', 'StudyError', '__version__']
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ae_pipeline.config import StudyError
    from ae_pipeline.data import InputError
    from ae_pipeline.estimator import Autoencoder
    from ae_pipeline.study import Study

logging.getLogger(__name__).addHandler(logging.NullHandler())

__version__ = "0.1.0"
__all__ = ["Autoencoder", "InputError", "Study", "StudyError", "__version__"]

_WHERE = {
    "Autoencoder": "ae_pipeline.estimator",
    "InputError": "ae_pipeline.data",
    "Study": "ae_pipeline.study",
    "StudyError": "ae_pipeline.config",
}


def __getattr__(name: str) -> object:
    if name == "bundle":  # models registered by 0.1.0 import it
        return importlib.import_module("ae_pipeline.scoring.bundle")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
