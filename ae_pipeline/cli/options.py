"""Options that several commands share: one spelling, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "File",
    "Folder",
    "Json",
    "Model",
    "NoCache",
    "NoPrefect",
    "Out",
    "Set",
    "StudyBeside",
    "StudyFile",
]

StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).", metavar="STUDY")]
Model = Annotated[str, typer.Option(help="Bundle folder, runs:/ID/model, models:/NAME@ALIAS.")]
StudyBeside = Annotated[
    Path | None, typer.Option(help="Study file, where it does not lie beside the model.")
]
Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")]
File = Annotated[
    Path,
    typer.Option("--out", "-o", help=".fif or .edf; idx3-ubyte or .png; .csv or .tsv."),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override: a.b=value.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same steps without Prefect.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do again what is done already.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
