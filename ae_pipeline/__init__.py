"""Autoencoders for EEG recordings, images and questionnaires: what is normal, and what is not.

Importing this package loads none of prefect, mlflow, torch or mne.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
