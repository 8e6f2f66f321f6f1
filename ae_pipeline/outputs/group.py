"""Files about all inputs of a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.outputs.bids import write_dataset
from ae_pipeline.outputs.dictionary import write_described
from ae_pipeline.outputs.masking import IDENTITIES, PLAIN, SHARED, Masking
from ae_pipeline.outputs.persons import items_table, person_tables
from ae_pipeline.outputs.publish import flat, write_record
from ae_pipeline.outputs.run_folder import now
from ae_pipeline.report.findings.group import group_view
from ae_pipeline.report.findings.methods import methods_paragraph
from ae_pipeline.report.findings.rows import rows_view
from ae_pipeline.report.findings.words import evidence
from ae_pipeline.report.markdown import headline_markdown
from ae_pipeline.report.wording import count
from ae_pipeline.runtime.files import (
    digest_files,
    digest_json,
    read_json,
    versions,
    write_frame,
    write_json,
    write_text,
)
from ae_pipeline.scoring.examples import Example
from ae_pipeline.scoring.tables import recordings_frame
from ae_pipeline.tracking.record import Lineage, Record

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.outputs.run_folder import ScoreRun

__all__ = ["score_record", "write_group"]


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
    told = {json.dumps(p["source_dataset"]) for p in done if p.get("source_dataset")}
    write_dataset(out, run.bundle, sources=[json.loads(source) for source in sorted(told)])
    write_text(out / "methods.txt", methods_paragraph(run.bundle, run.detection) + "\n")
    if run.bundle.info.threshold is not None:
        headline = _group_of_recordings(run, [p["summary"] for p in provenances], stems=stems)
    else:
        headline = _group_of_rows(run, stems, failed=[p["summary"] for p in failed], done=done)
    inputs = {p["summary"]["recording"]: p["input"] for p in done}
    write_record(out / SHARED, score_record(run, headline, inputs=inputs, n_failed=len(failed)))
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
            "persons.json",
            "answers.csv",
            "flag_rates.csv",
            "items.csv",
            "items.json",
            "dataset_description.json",
            "README.md",
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
        "finished": now(),
        "outputs": {name: digest_files([out / name]) for name in group},
    }
    write_json(out / "provenance.json", provenance)
    pages = [out / name for name in ("report.html", "group_report.html") if (out / name).is_file()]
    found = {"out": str(out), "verdict": headline.verdict, "scored": len(done)}
    return found | ({"report": str(pages[0])} if pages else {})


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
    """The tables and the page of all recordings; the headline of what leaves."""
    out, masks = run.out, Masking.of(run.bundle.info)
    recordings = recordings_frame(summaries, run.detection)
    scores, latents = _rebuilt(out, stems)
    write_json(out / "pseudonyms.json", masks.names(recordings))
    write_frame(out / "group_desc-quality.tsv", recordings)
    links = {name: f"{name}_report.html" for name in stems}
    for folder, names in ((out, PLAIN), (out / SHARED, masks)):
        shown, windows = names.frame(recordings), names.frame(scores)
        write_frame(folder / "recordings.parquet", shown)
        if len(scores):
            write_frame(folder / "scores.parquet", windows)
            write_frame(folder / "latents.parquet", names.frame(latents))
        view = group_view(
            run.bundle,
            run.detection,
            recordings=shown,
            scores=windows,
            links=links if folder == out else {},
        )
        write_text(folder / "group_report.html", report.group_page(view))
    return view.headline


def _group_of_rows(
    run: ScoreRun,
    stems: list[str],
    *,
    failed: list[dict[str, Any]],
    done: list[dict[str, Any]],
) -> report.Headline:
    """The tables and the page of all rows; the headline of what leaves."""
    from ae_pipeline.scoring.judge import false_discoveries

    out, bundle = run.out, run.bundle
    if not stems:
        return report.Headline(
            f"Nothing could be scored: {count(len(failed), 'input')} failed.",
            next_steps=("Read the reasons in provenance.json of the results",),
        )
    scores, latents = _rebuilt(out, stems)
    scores["q_value"], scores["flagged"] = false_discoveries(
        scores["p_value"].to_numpy(), run.detection
    )
    worst, best = _load_examples([out / f"{stem}_examples.npz" for stem in stems])
    items, about, answers = _people(run, stems, n_rows=len(scores))
    masks = Masking.of(bundle.info)
    write_json(out / "pseudonyms.json", masks.names(scores))
    notes = [note for p in done for note in p["summary"]["notes"]]
    drawn: report.Drawn | None = None
    for folder, names in ((out, PLAIN), (out / SHARED, masks)):
        rows, codes = names.frame(scores), names.frame(latents)
        write_frame(folder / "scores.parquet", rows)
        write_frame(folder / "latents.parquet", codes)
        sections: tuple[report.Section, ...] = ()
        if items is not None:
            people = person_tables(rows, about, answers=names.frame(answers))
            sections = people.sections()
            if folder == out:
                people.write(folder)
        view = rows_view(
            bundle,
            run.detection,
            scores=rows,
            latents=codes,
            worst=evidence(bundle, names.example(worst)),
            best=evidence(bundle, names.example(best)),
            items=items,
            notes=names.notes(notes),
            sections=sections,
        )
        if drawn is None or (names.hides and view.color_by in IDENTITIES):
            drawn = report.draw(view)
        page = report.rows_page(view, drawn)
        write_text(folder / "report.html", page)
        write_text(folder / "group_report.html", page)
    return view.headline


def _people(
    run: ScoreRun, stems: list[str], *, n_rows: int
) -> tuple[pd.DataFrame | None, pd.DataFrame, pd.DataFrame]:
    """``items.csv``, and what is about respondents and their answers; of tables only."""
    import pandas as pd

    out = run.out
    if run.bundle.ensemble.person is None:
        return None, pd.DataFrame(), pd.DataFrame()
    parts = [pd.read_csv(out / f"{s}_items.tsv", sep="\t", dtype={"item": str}) for s in stems]
    items = items_table(parts, n_rows)
    write_described(out / "items.csv", items)
    about, answers = (
        pd.concat([pd.read_parquet(out / f"{s}_{what}.parquet") for s in stems])
        for what in ("persons", "answers")
    )
    return items, about.reset_index(drop=True), answers


def score_record(
    run: ScoreRun, headline: report.Headline, *, inputs: Mapping[str, str], n_failed: int
) -> Record:
    """Return what MLflow is to show of a scoring; ``inputs`` have the digest of each."""
    info, study = run.bundle.info, run.bundle.info.study
    digests = sorted(inputs.values())
    return Record(
        kind="score",
        experiment=study,
        run_name=f"score {count(len(inputs), 'input')}",
        key=digest_json([digests, run.identity]),
        description=headline_markdown(study, headline),
        params=flat(run.config) | {"model_id": run.bundle.model_id},
        metrics={"inputs": float(len(inputs)), "failed": float(n_failed)},
        tags={"kind": info.kind, "model_digest": run.bundle.digest, "step": "score"},
        dataset=Lineage(
            name=study,
            digest=digest_json(digests)[:32],
            source=info.kind,
            rows=len(inputs),
            features=int(np.prod(info.shape)),
        ),
    )
