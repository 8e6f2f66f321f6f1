"""A model trained anew stands against the champion, on recordings that never change.

``retrain`` trains into a folder of its own, lets the alias ``challenger`` name the result, scores
the reference set with both models and lists every flag that would change. Nothing is promoted
here: a person does that, with a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.config import StudyError
from ae_pipeline.ingest.inbox import Inbox
from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.jobs.score import ScoreJob, score_job
from ae_pipeline.jobs.train import TrainJob
from ae_pipeline.outputs.masking import PLAIN, SHARED, Masking
from ae_pipeline.outputs.publish import publish, summary_markdown, write_record
from ae_pipeline.report import Headline, Listing, Number, listing_page
from ae_pipeline.report.markdown import headline_markdown
from ae_pipeline.report.wording import spoken
from ae_pipeline.runtime.files import digest_json, read_json, write_frame, write_json, write_text
from ae_pipeline.study import Study, load_study
from ae_pipeline.tracking.record import Record
from ae_pipeline.tracking.registry import model_folder, registered_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RetrainJob", "changes", "retrain_job"]

_LOG = logging.getLogger(__name__)

CHALLENGER = "challenger"
MOST_STRETCHES = 200


def retrain_job(
    study: Path, progress: Progress | None = None, *, fresh: bool = False
) -> RetrainJob:
    """Prepare to train a study's challenger.

    Parameters
    ----------
    study : Path
        Study file.
    progress : Progress, optional
    fresh : bool
        Train also where the same data and settings have been trained.

    Raises
    ------
    StudyError
        Where the study cannot be used.
    """
    return RetrainJob(
        study.absolute(), load_study(study), progress=progress or Progress(), fresh=fresh
    )


class RetrainJob:
    """From a study to a challenger and what would change with it."""

    kind = "retrain"

    def __init__(self, file: Path, study: Study, *, progress: Progress, fresh: bool) -> None:
        self.file, self.study = file, study
        self.title = study.study
        self.progress = progress
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        root = study.outputs.root
        self.place = root / f"{study.study}-comparison"
        self.training = TrainJob(
            study, root / f"{study.study}-challenger", progress=progress, fresh=fresh
        )

    def steps(self) -> Iterator[Step]:
        """Train, name the challenger, score the reference set twice, compare, publish."""
        yield from self.training.steps()
        self.exit_status = self.training.exit_status
        self.result = dict(self.training.result)
        yield Step("name the challenger", self._name)
        reference = None if self.study.operation is None else self.study.operation.reference
        if reference is None:
            _LOG.warning(
                "no comparison with the champion: name recordings that never change under "
                "operation.reference"
            )
            return
        champion = self._champion()
        if champion is None:
            _LOG.warning("there is no champion to compare with; see 'ae-pipeline promote'")
            return
        models = {"champion": champion, CHALLENGER: self.training.out / "model"}
        jobs = {
            name: score_job(
                str(model),
                [str(reference)],
                out=self.place / _short(model),
                error_rate=None,
                progress=self.progress,
            )
            for name, model in models.items()
        }
        for name, job in jobs.items():
            for step in job.steps():
                if step.name != "publish to MLflow":
                    yield Step(f"{name}: {step.name}", step.run)
        yield Step("compare", partial(self._compare, jobs))
        yield Step("publish to MLflow", self._publish)

    def summary(self) -> str:
        """Markdown: what would change."""
        if "comparison" in self.result:
            return summary_markdown(Path(self.result["comparison"]).parent)
        return self.training.summary()

    def _name(self) -> None:
        from ae_pipeline.tracking.connection import Unreachable
        from ae_pipeline.tracking.registry import point
        from ae_pipeline.tracking.settings import load_settings

        published = self.training.out / "published.json"
        if not published.is_file():
            _LOG.warning("MLflow is away: the challenger gets its alias with the next run")
            return
        known = read_json(published)
        try:
            point(
                load_settings(),
                known["model_name"],
                alias=CHALLENGER,
                version=known["model_version"],
            )
        except Unreachable as error:
            _LOG.warning(f"{error}; the challenger gets its alias with the next run")

    def _champion(self) -> Path | None:
        """The champion of the registry, else the model that scores the inbox, else the study's."""
        name = registered_name(self.study.study)
        try:
            return model_folder(f"models:/{name}@champion")
        except StudyError:
            pass
        if self.study.operation is not None:
            inbox = Inbox(self.file, self.study, self.study.operation)
            pin = inbox.last_pin()
            if pin is not None:
                return inbox.model(pin.model_id)
        own = self.study.outputs.root / self.study.study / "model"
        return own if own.is_dir() else None

    def _compare(self, jobs: Mapping[str, ScoreJob]) -> None:
        import pandas as pd

        self.progress.stage("comparing with the champion")
        old, new = (jobs[name].run for name in ("champion", CHALLENGER))
        table = changes(old.out, new.out)
        stretches = _stretches(old.out, new.out) if old.bundle.info.threshold is not None else None
        inputs = read_json(new.out / "provenance.json")["inputs"]
        place = self.place / f"{new.bundle.model_id}-against-{old.bundle.model_id}"
        before = sorted(self.place.glob("*/comparison.json"))
        reference = digest_json(sorted(inputs.values()))
        notes = [
            "The reference set is not what it was in an earlier comparison."
            for file in before
            if read_json(file)["reference"] != reference
        ][:1]
        masks = Masking.of(new.bundle.info)
        for folder, names in ((place, PLAIN), (place / SHARED, masks)):
            shown = names.frame(table)
            spans = None if stretches is None else names.frame(stretches)
            head = _headline(shown, spans, notes=notes)
            page = listing_page(
                f"{self.title}: challenger against champion",
                f"{new.bundle.model_id} against {old.bundle.model_id}",
                headline=head,
                listings=[
                    _section(shown),
                    *([] if spans is None else [_section_of_stretches(spans)]),
                ],
            )
            write_text(folder / "comparison.html", page)
            write_frame(folder / "comparison.tsv", shown)
        changed = int(table["changes"].sum())
        scores = {
            f"{which}_flagged": float(pd.Series(table[f"{which}_flagged"]).sum())
            for which in ("champion", CHALLENGER)
        }
        record = Record(
            kind="comparison",
            experiment=self.title,
            run_name=f"challenger {new.bundle.model_id}",
            key=digest_json([reference, old.identity, new.identity]),
            description=headline_markdown(f"{self.title}: challenger against champion", head),
            params={"champion": old.bundle.model_id, "challenger": new.bundle.model_id},
            metrics={"compared": float(len(table)), "changed": float(changed), **scores},
            tags={"step": "comparison", "model_digest": new.bundle.digest},
        )
        write_record(place / SHARED, record)
        write_json(
            place / "comparison.json",
            {"reference": reference, "changed": changed, "key": record.key},
        )
        self.result |= {
            "comparison": str(place / "comparison.html"),
            "changed": changed,
            "verdict": head.verdict,
        }

    def _publish(self) -> None:
        publish(Path(self.result["comparison"]).parent)


def _short(model: Path) -> str:
    """A folder for the results of a model, by its content."""
    from ae_pipeline.runtime.files import digest_files

    return digest_files([model / "bundle.json", model / "weights.safetensors"])[:12]


def changes(old: Path, new: Path) -> pd.DataFrame:
    """Every recording, image or respondent as two scorings judge it; ``changes`` where they differ.

    Parameters
    ----------
    old, new : Path
        Folders of results, of the champion and of the challenger.
    """
    import pandas as pd

    wanted = ["recording", "score", "p_value", "flagged", "verdict", "n_events"]
    frames = []
    for folder in (old, new):
        file = folder / "recordings.parquet"
        frame = pd.read_parquet(file if file.is_file() else folder / "scores.parquet")
        frame = frame[[name for name in wanted if name in frame]]
        frames.append(frame.set_index("recording"))
    table = frames[0].add_suffix("_old").join(frames[1].add_suffix("_new"), how="outer")
    out = pd.DataFrame({"recording": table.index.astype(str)})
    for column in wanted[1:]:
        for which, suffix in (("champion", "old"), (CHALLENGER, "new")):
            if f"{column}_{suffix}" in table:
                out[f"{which}_{column}"] = table[f"{column}_{suffix}"].to_numpy()
    flags = [out[f"{w}_flagged"].astype("boolean").fillna(False) for w in ("champion", CHALLENGER)]
    out["changes"] = (flags[0] != flags[1]).astype(bool)
    return out.sort_values("changes", ascending=False, kind="stable").reset_index(drop=True)


def _stretches(old: Path, new: Path) -> pd.DataFrame:
    """Windows that only one of two models flags."""
    import pandas as pd

    wanted = ["recording", "window", "onset_s", "duration_s", "flagged"]
    frames = [pd.read_parquet(folder / "scores.parquet", columns=wanted) for folder in (old, new)]
    both = frames[0].merge(
        frames[1], on=["recording", "onset_s"], how="outer", suffixes=("", "_new")
    )
    was = both["flagged"].astype("boolean").fillna(False)
    now = both["flagged_new"].astype("boolean").fillna(False)
    differing = both[(was != now).to_numpy()]
    flagged_by = now[differing.index].map({True: CHALLENGER, False: "champion"})
    return pd.DataFrame(
        {
            "recording": differing["recording"].astype(str),
            "onset_s": differing["onset_s"],
            "flagged_by": flagged_by,
        }
    )


def _headline(table: pd.DataFrame, stretches: pd.DataFrame | None, *, notes: list[str]) -> Headline:
    changed = table[table["changes"]]
    gained = int(changed["challenger_flagged"].astype("boolean").fillna(False).sum())
    lost = len(changed) - gained
    if len(changed):
        verdict = (
            f"With the challenger {len(changed)} of {len(table)} flags would change: {gained} "
            f"more, {lost} fewer."
        )
    else:
        verdict = f"With the challenger none of {len(table)} flags would change."
    numbers = [
        Number("compared", str(len(table)), ""),
        Number("newly flagged", str(gained), ""),
        Number("no longer flagged", str(lost), ""),
    ]
    if stretches is not None:
        numbers.append(Number("windows that change", str(len(stretches)), ""))
    steps = (
        "Look at each recording below in both reports.",
        "If the challenger is the better one: ae-pipeline promote models:/NAME@challenger "
        "--reason '...'",
    )
    return Headline(verdict, tuple(numbers), steps, warnings=tuple(notes))


def _section(table: pd.DataFrame) -> Listing:
    columns = [str(c) for c in table if c != "changes"]
    rows = []
    for _, row in table[table["changes"]].iterrows():
        rows.append((tuple(_cell(row[c]) for c in columns), ""))
    return Listing(
        "Flags that change",
        tuple(spoken(c) for c in columns),
        tuple(rows),
        "No flag changes.",
    )


def _section_of_stretches(stretches: pd.DataFrame) -> Listing:
    shown = stretches.head(MOST_STRETCHES)
    rows = tuple(
        ((str(row["recording"]), f"{row['onset_s']:.1f} s", str(row["flagged_by"])), "")
        for _, row in shown.iterrows()
    )
    more = len(stretches) - len(shown)
    title = "Windows that only one of them flags" + (f" ({more} more)" if more else "")
    return Listing(title, ("recording", "onset", "flagged by"), rows, "None.")


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "n/a"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
