"""Where data comes from: files to recordings or samples, and the sample data sets."""

from __future__ import annotations

__all__: list[str] = []
