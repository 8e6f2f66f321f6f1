"""Answers to questionnaires: one person a row, one item a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column, Layout, Samples
from ae_pipeline.kind import Float, Kind, Proposal, Source, Spread, Words
from ae_pipeline.kinds.samples import SamplesKind
from ae_pipeline.sources import questionnaire
from ae_pipeline.sources.items import QuestionnaireSource, as_answered, possible_range

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.scoring.bundle import Bundle, BundleInfo
    from ae_pipeline.study import Study

__all__ = ["KIND", "Questionnaire"]

MANY_PEOPLE = 4_000
"""People above which fewer than the usual 200 epochs are proposed, in proportion."""

FEWEST_EPOCHS = 10


class Questionnaire(SamplesKind):
    """Tables of answers."""

    name = "questionnaire"
    layout: Layout = "table"
    source: type[Source] = QuestionnaireSource
    endings: tuple[str, ...] = (".csv", ".tsv")
    words = Words(
        title="questionnaire",
        one="respondent",
        many="respondents",
        cases="respondents",
        holders="respondents",
        made="rows",
        entries="items",
        entry_column="item",
        unit="answer",
        unit_shown="answer",
        loss="loss per answer",
        scores="answers to a questionnaire, person by person",
    )
    defaults: Mapping[str, Any] = {
        "split": {"leave_out_below": 1000},
        "model": {
            "architecture": {"kind": "dense", "hidden": [64]},
            "objective": {"kind": "masked", "share": 0.25},
            "latent_dim": 5,
        },
        "training": {"epochs": 200, "early_stopping": 20, "learning_rate": 2e-3},
    }

    def files(self, path: Path | str) -> list[Path]:
        """List the tables of a file or folder."""
        return questionnaire.find(path)

    def read(
        self, paths: Sequence[Path], source: Any, *, columns: Sequence[Column] = ()
    ) -> tuple[Samples, tuple[str, ...]]:
        """Read answers as the study, or the model, describes them."""
        table = questionnaire.load(paths, source, columns=columns or None)
        return table.samples, table.notes

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        """Write generated answers as people give them."""
        from ae_pipeline.runtime.files import write_frame

        frame = _as_answered(bundle.info.source, samples)
        frame["synthetic"] = True
        write_frame(path, frame)

    def write_completed(
        self,
        bundle: Bundle,
        source: Any,
        *,
        samples: Samples,
        visible: NDArray[np.bool_],
        out: Path,
    ) -> str:
        """Write all answers, and which of them are predictions."""
        from ae_pipeline.runtime.files import write_frame

        frame = _as_answered(source, samples)
        names = np.array(bundle.info.entries)
        frame["completed"] = [" ".join(names[~row]) for row in visible]
        write_frame(out, frame)
        return f"{int((~visible).sum()):,} of {visible.size:,} answers"

    def propose(self, source: Path | None) -> Proposal:
        """Return items, scales and ranges as the table suggests them."""
        if source is None:
            return Proposal({"source": {"kind": self.name, "items": ["Q*"]}})
        from ae_pipeline.sources.cells import count_rows
        from ae_pipeline.sources.proposal import propose
        from ae_pipeline.training.split import Split, divide

        section, comments = propose(source)
        table = questionnaire.load([source], QuestionnaireSource.model_validate(section))
        divide(table.samples.meta, Split())  # what validate would refuse is refused now
        section["path"] = str(source)
        notes = {f"source.{key}": text for key, text in comments.items()}
        content: dict[str, Any] = {"source": section}
        n_rows = count_rows(source)
        if n_rows > MANY_PEOPLE:
            epochs = max(FEWEST_EPOCHS, round(200 * MANY_PEOPLE / n_rows))
            content["training"] = {"epochs": epochs, "early_stopping": max(3, epochs // 10)}
            notes["training.epochs"] = (
                f"About {n_rows:,} rows make many steps an epoch: {epochs} are enough to look at; "
                "try more before you compare models."
            )
        return Proposal(content, notes)

    def gather(
        self,
        study: Study,
        advance: Callable[[int, int, str], None],
        *,
        spread: Spread | None = None,
    ) -> Gathered:
        """Read all tables as one."""
        data = super().gather(study, advance, spread=spread)
        facts = {"respondents": len(data.samples), "items": len(data.samples.entries)}
        return replace(data, digests={"table": data.digests[self.words.cases]}, facts=facts)

    def possible(self, info: BundleInfo, values: Float, *, drawn: bool) -> Float:
        """Return answers within their range and on their levels."""
        from ae_pipeline.scoring.bundle import columns_of

        if not drawn:
            return values
        source: Any = info.source
        out = values.copy()
        for j, column in enumerate(columns_of(info)):
            if column.levels:
                levels = np.array(column.levels, np.float32)
                out[:, j] = levels[np.abs(values[:, j, None] - levels).argmin(1)]
            elif (bounds := possible_range(source, column)) is not None:
                out[:, j] = np.clip(values[:, j], *bounds)
        return out


def _as_answered(source: Any, samples: Samples) -> pd.DataFrame:
    """Answers in people's own terms, with the name of each person first."""
    values = np.asarray(samples.values)
    frame = as_answered(source, samples.columns, values=values)
    frame.insert(0, source.id_column or "id", samples.meta["recording"])
    return frame


KIND: Kind = Questionnaire()
