"""Files about all inputs of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import __version__, report
from ae_pipeline.outputs.masking import _masked, _pseudonyms
from ae_pipeline.outputs.persons import _all_items, _persons
from ae_pipeline.outputs.publish import _write_score_run
from ae_pipeline.outputs.run_folder import _evidence, _now, _with_frame
from ae_pipeline.outputs.score import SHARED
from ae_pipeline.report.findings.group import group_view
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.rows import rows_view
from ae_pipeline.runtime.files import (
    digest_files,
    harmless,
    read_json,
    versions,
    write_frame,
    write_json,
    write_text,
)
from ae_pipeline.scoring.bundle import BundleInfo
from ae_pipeline.scoring.examples import Example
from ae_pipeline.scoring.tables import recordings_frame

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.outputs.run_folder import ScoreRun

__all__ = [
    "write_group",
]


def _load_examples(paths: list[Path]) -> tuple[Example, Example]:
    import pandas as pd

    found: dict[str, list[Example]] = {"worst": [], "best": []}
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            for which, examples in found.items():
                rows = json.loads(arrays[f"{which}_rows"].tobytes())
                frame = pd.DataFrame(rows)
                examples.append(
                    Example(arrays[f"{which}_values"], arrays[f"{which}_reconstructions"], frame)
                )
    joined = []
    for which, sign in (("worst", -1), ("best", 1)):
        examples = found[which]
        frame = pd.concat([e.frame for e in examples], ignore_index=True)
        order = np.argsort(sign * frame["score"].to_numpy(), kind="stable")
        order = order[: len(examples[0].frame)]
        joined.append(
            Example(
                np.concatenate([e.values for e in examples])[order],
                np.concatenate([e.reconstructions for e in examples])[order],
                frame.iloc[order].reset_index(drop=True),
            )
        )
    return joined[0], joined[1]


def write_group(run: ScoreRun) -> dict[str, Any]:
    """Everything that is about all inputs of a folder, rebuilt from their own files.

    Returns
    -------
    dict
        Where things are and the verdict, for the terminal.
    """
    out = run.out
    provenances = [read_json(file) for file in sorted(out.glob("*_provenance.json"))]
    done = [p for p in provenances if p["status"] == "done"]
    failed = [p for p in provenances if p["status"] == "failed"]
    stems = [p["summary"]["recording"] for p in done]
    write_json(out / "dataset_description.json", _description(run.bundle.info))
    write_text(out / "methods.txt", methods_paragraph(run.bundle, run.detection) + "\n")
    if run.bundle.info.threshold is not None:
        headline = _group_of_recordings(run, [p["summary"] for p in provenances], stems=stems)
    else:
        headline = _group_of_rows(run, stems, failed=[p["summary"] for p in failed], done=done)
    inputs = {p["summary"]["recording"]: p["input"] for p in done}
    _write_score_run(run, headline, inputs=inputs, n_failed=len(failed))
    group = [
        name
        for name in (
            "scores.parquet",
            "recordings.parquet",
            "latents.parquet",
            "group_desc-quality.tsv",
            "group_report.html",
            "report.html",
            "persons.csv",
            "answers.csv",
            "flag_rates.csv",
            "items.csv",
            "dataset_description.json",
            "methods.txt",
        )
        if (out / name).is_file()
    ]
    provenance = {
        "kind": "score",
        "status": "done",
        "config": run.identity,
        "verdict": headline.verdict,
        "inputs": inputs,
        "failed": {p["summary"]["recording"]: p["summary"]["reason"] for p in failed},
        "versions": dict(versions()),
        "finished": _now(),
        "outputs": {name: digest_files([out / name]) for name in group},
    }
    write_json(out / "provenance.json", provenance)
    pages = [out / name for name in ("report.html", "group_report.html") if (out / name).is_file()]
    found = {"out": str(out), "verdict": headline.verdict, "scored": len(done)}
    return found | ({"report": str(pages[0])} if pages else {})


def _description(info: BundleInfo) -> dict[str, Any]:
    return {
        "Name": f"{info.study}: anomaly scores and latent features",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "ae-pipeline", "Version": __version__}],
    }


def _rebuilt(out: Path, stems: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All windows or rows and their latents, from the files of the inputs."""
    import pandas as pd

    if not stems:
        return pd.DataFrame(), pd.DataFrame()
    scores = [pd.read_parquet(out / f"{stem}_scores.parquet") for stem in stems]
    latents = [
        pd.read_csv(
            out / f"{stem}_desc-latent_features.tsv",
            sep="\t",
            na_values="n/a",
            dtype={"recording": "string", "subject": "string"},
        )
        for stem in stems
    ]
    return pd.concat(scores, ignore_index=True), pd.concat(latents, ignore_index=True)


def _group_of_recordings(
    run: ScoreRun, summaries: list[dict[str, Any]], *, stems: list[str]
) -> report.Headline:
    out, info = run.out, run.bundle.info
    recordings = recordings_frame(summaries, run.detection)
    scores, latents = _rebuilt(out, stems)
    view = group_view(run.bundle, run.detection, recordings=recordings, scores=scores)
    names = _pseudonyms(recordings, info.kind)
    write_json(out / "pseudonyms.json", names)
    for folder in (out, out / SHARED):
        shown = recordings if folder == out else _masked(recordings, names)
        write_frame(folder / "recordings.parquet", shown)
        if len(scores):
            write_frame(
                folder / "scores.parquet", scores if folder == out else _masked(scores, names)
            )
            write_frame(
                folder / "latents.parquet", latents if folder == out else _masked(latents, names)
            )
        page = view
        if folder != out:
            masked = _masked(scores, names) if len(scores) else scores
            page = group_view(run.bundle, run.detection, recordings=shown, scores=masked)
            page = _without_links(page)
        write_text(folder / "group_report.html", report.group_page(page))
    write_frame(out / "group_desc-quality.tsv", recordings)
    return view.headline


def _without_links(view: report.GroupView) -> report.GroupView:
    return replace(view, links={})


def _group_of_rows(
    run: ScoreRun,
    stems: list[str],
    *,
    failed: list[dict[str, Any]],
    done: list[dict[str, Any]],
) -> report.Headline:
    import pandas as pd

    from ae_pipeline.scoring.judge import false_discoveries

    out, bundle = run.out, run.bundle
    if not stems:
        return report.Headline(
            f"Nothing could be scored: {len(failed)} input(s) failed.",
            warnings=tuple(f["reason"] for f in failed),
        )
    scores, latents = _rebuilt(out, stems)
    scores["q_value"], scores["flagged"] = false_discoveries(
        scores["p_value"].to_numpy(), run.detection
    )
    worst, best = _load_examples([out / f"{stem}_examples.npz" for stem in stems])
    items, about, answers = None, pd.DataFrame(index=scores.index), pd.DataFrame()
    if bundle.ensemble.person is not None:
        items = _all_items(
            [pd.read_csv(out / f"{s}_items.tsv", sep="\t", dtype={"item": str}) for s in stems],
            len(scores),
        )
        write_frame(out / "items.csv", harmless(items))
        about, answers = (
            pd.concat([pd.read_parquet(out / f"{s}_{what}.parquet") for s in stems])
            for what in ("persons", "answers")
        )
        about = about.reset_index(drop=True)
    names = _pseudonyms(scores, run.bundle.info.kind)
    write_json(out / "pseudonyms.json", names)
    notes = [note for p in done for note in p["summary"]["notes"]]
    headline: report.Headline | None = None
    drawn: report.Drawn | None = None
    for folder in (out, out / SHARED):
        hide: Callable[[pd.DataFrame], pd.DataFrame] = (
            (lambda f: f) if folder == out else (lambda f: _masked(f, names))
        )
        write_frame(folder / "scores.parquet", hide(scores))
        write_frame(folder / "latents.parquet", hide(latents))
        sections: tuple[report.Section, ...] = ()
        if items is not None:
            sections = _persons(
                hide(scores), about, answers=hide(answers), write=folder == out, out=folder
            )
        view = rows_view(
            bundle,
            run.detection,
            scores=hide(scores),
            latents=hide(latents),
            worst=_evidence(bundle, _with_frame(worst, hide)),
            best=_evidence(bundle, _with_frame(best, hide)),
            items=items,
            notes=notes,
            sections=sections,
        )
        headline = view.headline
        if drawn is None or view.color_by in names:
            drawn = report.draw(view)
        page = report.rows_page(view, drawn)
        write_text(folder / "report.html", page)
        write_text(folder / "group_report.html", page)
    assert headline is not None
    return headline
