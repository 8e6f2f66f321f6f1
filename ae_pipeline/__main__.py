"""``python -m ae_pipeline`` is the command ``ae-pipeline``; torchrun starts it this way."""

from __future__ import annotations

from ae_pipeline.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
