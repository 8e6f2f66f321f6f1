"""The command line: ``app`` is typer's, ``main`` the entry point."""

from ae_pipeline.cli.entry import app, main

__all__ = ["app", "main"]
