"""Models of one study side by side: a grid of autoencoders, and linear methods of equal size.

Losses are means per entry on data that nothing was fitted on, natural logarithm; intervals (95%)
are over subjects or rows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline import report
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.gather import gather
from ae_pipeline.jobs.compare.choice import choose, tabulate
from ae_pipeline.jobs.compare.grid import ARCHITECTURES, LINEAR, Cell, Outcome, in_words, run_cells
from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs.masking import SHARED
from ae_pipeline.outputs.publish import publish, summary_markdown, write_record
from ae_pipeline.outputs.run_folder import refuse_foreign
from ae_pipeline.report.markdown import headline_markdown
from ae_pipeline.report.wording import count, interval, number
from ae_pipeline.runtime.files import (
    digest_json,
    read_json,
    versions,
    write_frame,
    write_json,
    write_text,
)
from ae_pipeline.study import load_study
from ae_pipeline.tracking.record import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompareJob"]

_LOG = logging.getLogger(__name__)

# --------------------------------------------------------------------------------- the job


class CompareJob:
    """Train the grid of a study, put the results in one table, say which to take and why.

    Parameters
    ----------
    study : Path
        Study file; what the grid does not name is as it stands there.
    architectures, objectives : sequence of str
        Kinds; the study's own where empty. Where nothing at all is named, all architectures.
    latent_dims : sequence of int
    seeds : int
        Each model is trained this many times, from the study's seed on.
    out : Path, optional
        Folder for the results.
    overrides : sequence of str
        ``a.b=value``, for every cell.
    jobs : int, optional
        Processes; as many as there are cores by default, one on a GPU.
    progress : Progress, optional
    fresh : bool
        Train again what is there.

    Raises
    ------
    StudyError
        Where the study or the grid cannot be used; nothing has been written.
    """

    kind = "compare"

    def __init__(
        self,
        study: Path,
        architectures: Sequence[str] = (),
        *,
        objectives: Sequence[str] = (),
        latent_dims: Sequence[int] = (),
        seeds: int = 1,
        out: Path | None = None,
        overrides: Sequence[str] = (),
        jobs: int | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
    ) -> None:
        if seeds < 1 or (jobs is not None and jobs < 1):
            raise StudyError("--seeds and --jobs: expected 1 or more")
        self.file = study
        self.overrides = tuple(overrides)
        self.study = own = load_study(study, overrides)
        if not (architectures or objectives or latent_dims):
            architectures = ARCHITECTURES
        self.cells = [
            Cell(architecture, objective, latent_dim, own.training.seed + n)
            for architecture in _distinct(architectures, own.model.architecture.kind)
            for objective in _distinct(objectives, own.model.objective.kind)
            for latent_dim in _distinct(latent_dims, own.model.latent_dim)
            for n in range(seeds)
        ]
        for cell in self.cells:  # an unknown kind is told before anything is trained
            load_study(study, [*overrides, *cell.overrides])
        sizes = dict.fromkeys(cell.latent_dim for cell in self.cells)
        self.cells += [Cell(name, "", size) for name in LINEAR for size in sizes]
        self.title = f"{own.study}, {len(self.cells)} models"
        self.out = (out or own.outputs.root / f"{own.study}-compare").absolute()
        self.jobs = jobs
        self.progress = progress or Progress()
        self.fresh = fresh
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        self.findings: list[str] = []
        refuse_foreign(self.out, "compare")

    def steps(self) -> Iterator[Step]:
        """Read once, train every cell, compare, publish."""
        yield Step("read the data", self._read, retries=1)
        yield Step("train the models", self._train)
        yield Step("compare", self._compare)
        yield Step("publish to MLflow", self._publish)

    def summary(self) -> str:
        """Markdown: the choice and its reason."""
        return summary_markdown(self.out)

    # -------------------------------------------------------------------------- steps

    def _read(self) -> None:
        """What is read from many files is cached here, before the processes start."""
        from ae_pipeline.training.split import divide

        self.progress.stage("reading")
        data = gather(self.study, self.progress.advance)
        for failure in data.failures:
            _LOG.warning(failure.reason)
            self.exit_status = 1
        for claim in divide(data.samples.meta, self.study.split).claims:
            _LOG.warning(claim)
        self.claims = divide(data.samples.meta, self.study.split).claims
        self.out.mkdir(parents=True, exist_ok=True)
        begun = {"kind": "compare", "status": "begun", "study": self.study.study}
        write_json(self.out / "provenance.json", begun)

    def _train(self) -> None:
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        n_cores = n_cores or os.cpu_count() or 1
        jobs = min(self.jobs or (1 if self._on_gpu() else n_cores), len(self.cells))
        threads = max(1, n_cores // jobs)
        self.progress.stage(
            f"training {len(self.cells)} models, {jobs} at a time, {threads} "
            f"thread{'s' if threads > 1 else ''} each"
        )
        self.machine = {"jobs": jobs, "threads": threads}
        self.outcomes: list[Outcome] = []
        place = self.out / "cells"
        for outcome in run_cells(
            self.file,
            self.cells,
            overrides=self.overrides,
            place=place,
            jobs=jobs,
            threads=threads,
            fresh=self.fresh,
        ):
            self.outcomes.append(outcome)
            cell = outcome.cell
            self.progress.advance(len(self.outcomes), len(self.cells), cell.name)
            if outcome.reason:
                self.exit_status = 1
                _LOG.warning(f"{cell.name}: {outcome.reason}")
            else:
                _LOG.info(
                    f"{cell.name}: held-out loss {number(outcome.test_loss)}"
                    f" ({outcome.seconds or 0:.0f} s)"
                )
        order = {cell: i for i, cell in enumerate(self.cells)}
        self.outcomes.sort(key=lambda outcome: order[outcome.cell])
        if all(outcome.reason for outcome in self.outcomes):
            raise InputError(f"none of the models could be trained: {self.outcomes[0].reason}")

    def _on_gpu(self) -> bool:
        from ae_pipeline.training.loop import choose_device

        return choose_device(self.study.training.device) != "cpu"

    def _compare(self) -> None:
        self.progress.stage("comparing")
        table, losses = tabulate(self.outcomes)
        table, choice = choose(table, losses, primary=self.study.primary_metric)
        first = next(o.cell for o in self.outcomes if o.cell.model == choice["model"])
        self.chosen = self.out / "cells" / first.name
        failed = [(o.cell.name, o.reason) for o in self.outcomes if o.reason]
        write_frame(self.out / "comparison.csv", table)
        shared = self.out / SHARED
        write_frame(shared / "comparison.csv", table)
        for folder in (self.out, shared):
            local = folder == self.out
            view = report.CompareView(
                title=self.study.study,
                hypothesis=self.study.hypothesis,
                what=kind_of(self.study.kind).words.title,
                headline=self._headline(table, choice),
                table=table,
                primary=self.study.primary_metric,
                links={
                    o.cell.model: f"cells/{o.cell.name}/report.html"
                    for o in reversed(self.outcomes)
                    if local and not o.reason and o.cell.architecture not in LINEAR
                },
                failed=failed if local else [(name, "see the local report") for name, _ in failed],
                facts=self._facts(),
            )
            write_text(folder / "report.html", report.compare_page(view))
        headline = view.headline
        this = digest_json([sorted(o.cell.name for o in self.outcomes), self._keys()])
        write_record(shared, self._record(table, choice, headline=headline, key=this))
        write_json(
            self.out / "provenance.json",
            {
                "kind": "compare",
                "status": "done",
                "key": this,
                "verdict": choice["reason"],
                "chosen": choice["model"],
                "cells": self._keys(),
                "failed": dict(failed),
                "versions": dict(versions()),
                **self.machine,
            },
        )
        self.result = {
            "verdict": headline.verdict,
            "chosen": choice["model"],
            "reason": choice["reason"],
            "models": _records(table),
            "failed": [f"{name}: {reason}" for name, reason in failed],
            "out": str(self.out),
            "report": str(self.out / "report.html"),
        }
        if (self.chosen / "model").is_dir():
            self.result["bundle"] = str(self.chosen / "model")
        self.findings = [choice["reason"], "", *report.text_table(table), ""]

    def _record(
        self, table: pd.DataFrame, choice: Mapping[str, Any], *, headline: report.Headline, key: str
    ) -> Record:
        """What MLflow is to show of the comparison."""
        best = table[table["model"] == choice["model"]].iloc[0]
        measured = {n: best[n] for n in ("test_loss", "downstream", "detection", "parameters")}
        return Record(
            kind="compare",
            experiment=self.study.study,
            run_name=f"compare {count(len(table), 'model')}",
            key=key,
            description=headline_markdown(self.study.study, headline),
            params={"chosen": choice["model"], "models": len(table), "seeds": self._seeds()},
            metrics={n: float(v) if np.isfinite(v) else None for n, v in measured.items()},
            tags={
                "kind": self.study.kind,
                "step": "compare",
                "primary_metric": self.study.primary_metric,
            },
        )

    def _publish(self) -> None:
        """The comparison, then its models under it; only the chosen model is registered."""
        self.progress.stage("publishing to MLflow")
        parent = publish(self.out)
        self.result |= parent
        if "run" not in parent:
            return
        for outcome in self.outcomes:
            folder = self.out / "cells" / outcome.cell.name
            if not outcome.reason:
                publish(folder, parent=parent["run"], register=folder == self.chosen)

    # ------------------------------------------------------------------------- pieces

    def _seeds(self) -> int:
        return len({o.cell.seed for o in self.outcomes if o.cell.architecture not in LINEAR})

    def _keys(self) -> dict[str, str]:
        files = {
            o.cell.name: self.out / "cells" / o.cell.name / "provenance.json"
            for o in self.outcomes
            if not o.reason
        }
        return {name: read_json(file)["key"] for name, file in files.items()}

    def _headline(self, table: pd.DataFrame, choice: Mapping[str, Any]) -> report.Headline:
        best = table[table["model"] == choice["model"]].iloc[0]
        metric = {"test_loss": "held-out loss", "roc_area": "detection (rehearsal)"}
        numbers = [
            report.Number(
                "Held-out loss",
                number(best["test_loss"]),
                interval((best["test_loss_low"], best["test_loss_high"]), 4),
            )
        ]
        for name, label in (
            ("downstream", "Downstream score"),
            ("detection", "Detection (rehearsal)"),
        ):
            if best[name] == best[name]:
                span = interval((best[f"{name}_low"], best[f"{name}_high"]), 4)
                numbers.append(report.Number(label, f"{best[name]:.3f}", span))
        if len(numbers) < 4:
            numbers.append(report.Number("Models", str(len(table)), f"{self._seeds()} seed(s)"))
        linear = choice["model"].partition("-")[0] in LINEAR
        steps = [
            "Score new data with the linear method of any model here: the column score_pca"
            if linear
            else "Score new data with the chosen model: ae-pipeline score --model "
            f"cells/{self.chosen.name}/model --out RESULTS DATA",
            "Look at the chosen model's own report: its name in the table leads there",
            "All runs side by side in MLflow: ae-pipeline ui",
        ]
        return report.Headline(
            f"Of {len(table)} models, {in_words(choice['model'])} is best by "
            f"{metric[self.study.primary_metric]}.",
            tuple(numbers),
            tuple(steps),
            choice["reason"],
            tuple(self.claims),
        )

    def _facts(self) -> dict[str, str]:
        facts = {
            "Study": self.study.study,
            "Chosen by": f"{self.study.primary_metric} (primary_metric of the study)",
            "Seeds": str(self._seeds()),
            "Processes": f"{self.machine['jobs']}, {self.machine['threads']} thread(s) each",
        }
        return facts | {f"Version of {name}": version for name, version in versions().items()}


def _distinct(given: Sequence[Any], own: Any) -> list[Any]:
    return list(dict.fromkeys(given)) or [own]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them."""
    import json

    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found
