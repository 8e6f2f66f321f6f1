"""From a model and inputs to judged recordings or rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.ingest.inputs import Failure, Input, find_inputs
from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs.group import write_group
from ae_pipeline.outputs.masking import Masking
from ae_pipeline.outputs.publish import publish, summary_markdown
from ae_pipeline.outputs.run_folder import ScoreRun, refuse_foreign
from ae_pipeline.outputs.score import (
    begin_score,
    is_done,
    write_failure,
)
from ae_pipeline.runtime.files import digest_files, key, locked
from ae_pipeline.runtime.messages import Message, kept, replay, unexpected
from ae_pipeline.tracking.registry import model_folder

if TYPE_CHECKING:
    from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "ScoreJob",
    "score_job",
]

_LOG = logging.getLogger(__name__)


def score_job(
    model: str,
    inputs: Sequence[str],
    *,
    out: Path,
    error_rate: float | None = None,
    progress: Progress | None = None,
    fresh: bool = False,
    jobs: int = 1,
) -> ScoreJob:
    """Prepare to score inputs with a model.

    Parameters
    ----------
    model : str
        A bundle's folder, ``runs:/RUN_ID/model`` or ``models:/NAME@ALIAS``.
    inputs : sequence of str
        Files, folders, globs or BIDS roots.
    out : Path
        Folder for the results; a second call with the same model and rates adds to it.
    error_rate : float, optional
        Instead of the one the model was trained with.
    progress : Progress, optional
    fresh : bool
        Score again what is done already.
    jobs : int
        Inputs scored at a time, each in a process of its own with one thread.

    Raises
    ------
    StudyError
        Where the model cannot be used or the folder holds the results of another.
    """
    from ae_pipeline.scoring.bundle import load

    if jobs < 1:
        raise StudyError(f"--jobs {jobs}: expected at least 1 process")
    place = model_folder(model)
    return ScoreJob(
        load(place),
        inputs,
        out=out.absolute(),
        error_rate=error_rate,
        progress=progress or Progress(),
        fresh=fresh,
        processes=jobs,
        model=place.absolute(),
    )


def _score_alone(
    item: Input, *, model: Path, out: Path, error_rate: float | None, fresh: bool
) -> tuple[list[Message], list[Failure]]:
    """Score one input in this process; return what was logged, and failures."""
    bundle = _loaded(model)
    job = ScoreJob(bundle, [], out=out, error_rate=error_rate, progress=Progress(), fresh=fresh)
    with kept() as messages:
        job.score_input(item)
    return messages, job.failures


@lru_cache(maxsize=1)
def _loaded(model: Path) -> Bundle:
    """A process that scores several inputs reads the model once."""
    from ae_pipeline.scoring.bundle import load

    return load(model)


class ScoreJob:
    """From a model and inputs to judged recordings or rows."""

    kind = "score"

    def __init__(
        self,
        bundle: Bundle,
        inputs: Sequence[str],
        *,
        out: Path,
        error_rate: float | None,
        progress: Progress,
        fresh: bool,
        processes: int = 1,
        model: Path | None = None,
    ) -> None:
        from ae_pipeline.detectors.calibration import Detection

        self.bundle = bundle
        self.inputs = inputs
        self.out = out
        self.progress = progress
        self.fresh = fresh
        self.title = bundle.info.study
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        self.failures: list[Failure] = []
        self.processes = processes
        self.scoring = partial(
            _score_alone, model=model or Path(), out=out, error_rate=error_rate, fresh=fresh
        )
        given = bundle.info.detection.model_dump()
        if error_rate is not None:
            given["error_rate"] = error_rate
        try:
            self.detection = Detection(**given)
        except ValueError:
            raise StudyError(
                f"--error-rate {error_rate:g}: expected a share between 0 and 1, such as 0.05"
            ) from None
        self.run = ScoreRun(out, bundle, self.detection)
        self.kind_of_data = kind_of(bundle.info.kind)
        self.source = bundle.info.source
        refuse_foreign(out, "score", config=self.run.identity)

    def steps(self) -> Iterator[Step]:
        """One step for each input, then the group, then MLflow."""
        begin_score(self.run)
        found = list(find_inputs(self.source, self.inputs))
        items = [item for item in found if isinstance(item, Input)]
        n_processes = min(self.processes, len(items))
        if n_processes > 1:
            name = f"score {len(items)} inputs in {n_processes} processes"
            yield Step(name, partial(self._score_in_processes, items))
        for n, item in enumerate(found):
            if isinstance(item, Failure):
                self._fail(item, None)
            elif n_processes <= 1:
                run = partial(self.score_input, item, n, total=len(found))
                yield Step(f"score {Masking().recording(item.name)}", run)  # Prefect sees it
        yield Step("put the group together", self.put_together)
        yield Step("publish to MLflow", self._publish)

    def summary(self) -> str:
        """Markdown: the verdict and where things are."""
        return summary_markdown(self.out)

    def score_input(self, item: Input, n: int = 0, *, total: int = 1) -> None:
        """Score one input, unless that is done already; a bad one is a failure with its reason."""
        self.progress.stage(f"scoring {n + 1} of {total}: {item.name}")
        with locked(self.out / f".{item.name}.lock"):
            digest: str | None = None
            try:
                item = self.kind_of_data.open(self.source, item)
                digest = digest_files(item.files)
                item = replace(item, digest=digest)
                this = key("score", digest, config=self.run.config, bundle=self.bundle.digest)
                if not self.fresh and is_done(self.run, item.name, this=this):
                    _LOG.info(f"{item.name}: already scored with this model")
                    return
                self.kind_of_data.score(
                    self.run, self.source, item=item, key=this, progress=self.progress
                )
            except InputError as error:
                self._fail(Failure(item.name, item.subject, str(error)), digest)
            except MemoryError:
                reason = f"{item.path}: does not fit into memory; score it on a larger machine"
                self._fail(Failure(item.name, item.subject, reason), digest)
            except Exception as error:
                reason = unexpected(error, item.path, out=self.out)
                self._fail(Failure(item.name, item.subject, reason), digest)

    def _score_in_processes(self, items: list[Input]) -> None:
        """Score inputs in processes; one that a process dies of is a failure like others."""
        from ae_pipeline.runtime.operation import Processes
        from ae_pipeline.runtime.workers import Died, each

        self.progress.stage(f"scoring {len(items)} inputs, {self.processes} at a time")
        runner = Processes(workers=self.processes)
        scored = each(runner, self.scoring, items=items)
        for done, (item, result) in enumerate(scored, start=1):
            self.progress.advance(done, len(items), item.name)
            if isinstance(result, Died):
                reason = f"{item.path.name}: the process that scored it died twice (memory?)"
                self._fail(Failure(item.name, item.subject, reason), None)
                continue
            messages, failures = result
            replay(messages)
            self.failures += failures
            self.exit_status = 1 if failures else self.exit_status

    def _fail(self, failure: Failure, digest: str | None) -> None:
        self.exit_status = 1
        self.failures.append(failure)
        _LOG.warning(failure.reason)
        write_failure(self.run, failure, digest=digest)

    def put_together(self) -> None:
        """Rebuild what is about all inputs of the folder."""
        self.progress.stage("putting the group together")
        with locked(self.out / ".group.lock"):
            self.result = write_group(self.run)
        self.result["failed"] = [failure.reason for failure in self.failures]

    def _publish(self) -> None:
        self.progress.stage("publishing to MLflow")
        self.result |= publish(self.out)
