"""Sample data sets, and the demo on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ae_pipeline.cli.console import console, tell
from ae_pipeline.cli.execute import run_job
from ae_pipeline.cli.options import Folder, Json, NoPrefect
from ae_pipeline.config import StudyError

__all__ = ["data_fetch", "data_list", "demo"]


def data_list(as_json: Json = False) -> None:
    """List the sample data sets.

    Example: ae-pipeline data list
    """
    from ae_pipeline.sources.sample_data import SAMPLES

    if as_json:
        fields = ("name", "kind", "what", "size", "licence", "citation")
        tell(json.dumps([{f: getattr(s, f) for f in fields} for s in SAMPLES.values()]))
        return
    for sample in SAMPLES.values():
        tell(f"{sample.name:6} {sample.what} ({sample.size}; {sample.licence})")
    tell("next: ae-pipeline data fetch NAME")


def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from 'ae-pipeline data list'.")],
    as_json: Json = False,
) -> None:
    """Fetch a sample data set, check it, and print its folder.

    Example: ae-pipeline data fetch mnist
    """
    from ae_pipeline.sources.sample_data import fetch

    with console():
        place = fetch(name)
    tell(json.dumps({"name": name, "path": str(place)}) if as_json else place)


def demo(
    kinds: Annotated[
        list[str] | None, typer.Argument(help="eeg, mnist, questionnaire; all by default.")
    ] = None,
    out: Folder = Path("derivatives/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer epochs.")] = False,
    textbook: Annotated[
        bool, typer.Option("--textbook", help="The text's worked example (with mnist).")
    ] = False,
    no_prefect: NoPrefect = False,
    as_json: Json = False,
) -> None:
    """Do the main job on real data: three data sets, three reports, one index page.

    Example: ae-pipeline demo --quick
    """
    if textbook:
        from ae_pipeline.jobs.demo.textbook import TextbookJob

        if set(kinds or ()) - {TextbookJob.data}:
            raise StudyError("--textbook: the worked example is of digits: demo mnist --textbook")
        run_job(
            lambda p: TextbookJob(out / "textbook", quick, progress=p),
            no_prefect=no_prefect,
            as_json=as_json,
        )
    from ae_pipeline.jobs.demo.job import KINDS, DemoJob

    unknown = [kind for kind in kinds or () if kind not in KINDS]
    if unknown:
        raise StudyError(f"demo {unknown[0]}: expected {', '.join(KINDS)}")
    run_job(
        lambda p: DemoJob(kinds or KINDS, out, quick=quick, progress=p),
        no_prefect=no_prefect,
        as_json=as_json,
    )
