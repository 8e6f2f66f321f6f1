"""The command that fills what is missing or hidden, and says how well it can.

What is completed: of a table the answers that are missing; of a recording the channels that it
lacks or that are bad; of images a half; and whatever ``hide`` names. All else of a recording
stays as in its file; what is completed has the file's reference and the band of the model's filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ae_pipeline import report
from ae_pipeline.analysis import completion
from ae_pipeline.analysis.completing import Completed, Completion, fit_simple
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inputs import Failure, Input
from ae_pipeline.ingest.origin import origin
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs.export import open_model
from ae_pipeline.report.pictures import portraits
from ae_pipeline.report.wording import spoken
from ae_pipeline.runtime.files import digest_files, read_json, write_json, write_text

__all__ = ["complete"]


def complete(
    model: str,
    given: str,
    *,
    out: Path,
    hide: str | None = None,
    way: str = "auto",
    study: Path | None = None,
    seed: int = 0,
    progress: Any = None,
) -> dict[str, Any]:
    """Write an input with its missing or hidden parts predicted, and a report of the errors.

    Parameters
    ----------
    model : str
        Bundle's folder, ``runs:/ID/model`` or ``models:/NAME@ALIAS``.
    given : str
        One recording, table or file of images.
    out : Path
        As in :func:`ae_pipeline.jobs.generate.generate`.
    hide : str, optional
        What to hide and predict although it is known: channels or items (``Fz,Cz``), seconds
        (``12-13.5``), or a half of images (``lower``, ``upper``, ``left``, ``right``).
    way : {'auto', 'one_pass', 'iterated', 'optimised'}
        auto takes the one that measures best on what is known of the input.
    study : Path, optional
        Study file, where it does not lie beside the model: the simple ways learn from its data.
    seed : int
    progress : Progress, optional

    Returns
    -------
    dict
        ``out``, ``report``, ``verdict``, ``measured``, ``hidden`` (errors on what ``hide`` named),
        ``completed`` (how much was filled).

    Raises
    ------
    StudyError
        Where model, ``out``, ``hide`` or ``way`` cannot be used.
    InputError
        Where the input cannot.
    """
    if way not in ("auto", *completion.WAYS):
        raise StudyError(f"--way {way}: expected auto, {', '.join(completion.WAYS)}")
    place, bundle = open_model(model, out)
    kind, source = kind_of(bundle.info.kind), bundle.info.source
    found = list(kind.find(source, [given]))
    failed = next((item for item in found if isinstance(item, Failure)), None)
    if failed is not None:
        raise InputError(failed.reason)
    if len(found) != 1:
        raise StudyError(f"{given}: stands for {len(found)} inputs; complete one at a time")
    item = found[0]
    assert isinstance(item, Input)
    simple, why_not = None, ""
    if bundle.info.layout != "series":  # signals have neighbours and times
        try:
            simple = fit_simple(bundle, origin(place, bundle.info, study=study).train)
        except InputError as error:
            why_not = f"No simple ways to hold the model against: {error}"
    task = Completion(bundle, out, hide, way, simple, seed, progress)
    result = kind.complete(task, source, item=item)
    warnings = (why_not, _seen_before(place, item))
    return _report(task, result, name=item.name, warnings=tuple(line for line in warnings if line))


def _seen_before(place: Path, item: Input) -> str:
    """A warning where the training's own record names the input."""
    provenance = place.parent / "provenance.json"
    if not provenance.is_file():
        return ""
    trained = read_json(provenance).get("inputs", {})
    if item.name in trained or digest_files(item.files or (item.path,)) in trained.values():
        return "The model was trained on this input: on other data its errors are larger."
    return ""


# -------------------------------------------------------------------------------- the report


BY = {"model": "model, {way}", "variance": "best constant"}
"""What has completed it, where the name of a method does not say it."""


def _report(
    task: Completion, result: Completed, *, name: str, warnings: tuple[str, ...]
) -> dict[str, Any]:
    """The figures as JSON and a page, beside the completed file."""
    info = task.bundle.info
    sentences = tuple(completion.sentence(found) for found in result.measured.values())
    sections = [_measured(result, sentences)]
    if result.hidden is not None:
        sections.append(_hidden(result.hidden))
    sections.append(_examples(task, result))
    verdict = f"Completed: {result.completed}. {sentences[0]}"
    view = report.PlainView(
        what="Completion",
        title=name,
        headline=report.Headline(
            verdict,
            tuple(_number(part, found) for part, found in result.measured.items()),
            ("Use the simple way where it is better", "Mark completed values as what they are"),
            "",
            ("Completed values are predictions, not data.", *warnings),
        ),
        sections=tuple(sections),
        facts={"Study": info.study, "Model": task.bundle.model_id, "File": task.out.name},
        notes=result.notes,
    )
    page = task.out.with_name(f"{task.out.name}_report.html")
    write_text(page, report.plain_page(view))
    figures = {
        "model": task.bundle.model_id,
        "completed": result.completed,
        "measured": result.measured,
        "hidden": result.hidden,
        "warnings": list(warnings),
    }
    write_json(task.out.with_name(f"{task.out.name}_report.json"), figures)
    return {"verdict": verdict, "out": str(task.out), "report": str(page), **figures}


def _number(part: str, found: Mapping[str, Any]) -> report.Number:
    rival, errors = found["best_simple"], found["errors"]
    beside = f"; {spoken(rival)} {errors[rival]:.3g}" if rival else ""
    return report.Number(f"Hidden {part}", f"{errors['model']:.3g}", f"mean squared error{beside}")


def _measured(result: Completed, sentences: tuple[str, ...]) -> report.Section:
    """Errors of the model and of the simple ways, for each part that was hidden."""
    import pandas as pd

    rows = [
        {
            "hidden": part,
            "by": spoken(BY.get(name, name).format(way=found["way"])),
            "mean_squared_error": error,
            "best": "best" if name == min(found["errors"], key=found["errors"].get) else "",
        }
        for part, found in result.measured.items()
        for name, error in sorted(found["errors"].items(), key=lambda pair: pair[1])
    ]
    ways = [
        {"hidden": part, "way": spoken(way), "mean_squared_error": error}
        for part, found in result.measured.items()
        for way, error in sorted(found["tried"].items(), key=lambda pair: pair[1])
    ]
    caption = (
        "Known values hidden and completed, in network units; the variance of what was hidden is "
        "what the best constant reaches."
    )
    chosen = "Ways of the model, on the part that chose between them."
    frames = ((caption, pd.DataFrame(rows)), (chosen, pd.DataFrame(ways)))
    return report.Section("How well it completes", sentences, (), frames)


def _hidden(hidden: Mapping[str, Any]) -> report.Section:
    """Errors on what was hidden by name."""
    import pandas as pd

    table = pd.DataFrame(
        [{"by": spoken(n), "mean_squared_error": e} for n, e in hidden["errors"].items()]
    ).sort_values("mean_squared_error")
    words = f"{hidden['what']} was hidden: {hidden['entries']:,} known values."
    return report.Section("What was hidden by name", (words,), (), (("Errors on it.", table),))


SHOWN = {
    "channels": "Windows with channels hidden: one of the hidden channels.",
    "time": "Windows with a stretch of time hidden.",
    "half": "Images with their lower half hidden.",
    "items": "People with some answers hidden.",
}


def _examples(task: Completion, result: Completed) -> report.Section:
    info = task.bundle.info
    pictures = tuple(
        portraits.rows_of(
            info.layout,
            shown,
            steps=steps,
            names=("",) if info.layout == "series" else info.entries,
            sfreq_hz=info.sfreq_hz,
            caption=SHOWN[part],
        )
        for part, shown, steps in result.shown
    )
    return report.Section("Examples", (), pictures)
