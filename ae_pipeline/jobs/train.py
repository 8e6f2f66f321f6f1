"""The steps in order: a study to a model, a model and inputs to results.

A job yields its steps one after another; running them is all there is to it, with Prefect
(``flows``) or without (:func:`run_plainly`), and the numbers are the same by construction. The
folder a job writes is the record: what is there is done, and what is not is made.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.analysis.rehearsal import rehearse, summarise
from ae_pipeline.config import StudyError
from ae_pipeline.data import Doubt, InputError, Samples
from ae_pipeline.ingest.gather import Gathered, gather
from ae_pipeline.jobs.fit import (
    Fitted,
    Fitting,
    HeldOut,
    Prepared,
    held_out_scores,
    known_labels,
    make_bundle,
    train_metrics,
)
from ae_pipeline.jobs.fit_head import judge_folds, with_fold_head, with_head
from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs import training as outputs
from ae_pipeline.outputs.publish import publish, summary_markdown
from ae_pipeline.outputs.run_folder import TrainRun, refuse_foreign
from ae_pipeline.runtime.files import (
    digest_files,
    key,
    read_json,
    recover_folder,
    replace_folder,
)
from ae_pipeline.runtime.threads import one_thread
from ae_pipeline.scoring.judge import Judge, judge_held_out
from ae_pipeline.study import Study, load_study
from ae_pipeline.training import distributed as together

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.scoring.bundle import Bundle
    from ae_pipeline.training.loop import FittedAutoencoder
    from ae_pipeline.training.split import Division

__all__ = [
    "LeftOut",
    "TrainJob",
    "calibrated",
    "calibration_units",
    "rehearsed",
    "train_job",
]

_LOG = logging.getLogger(__name__)


MIN_COMPARED = 20
"""People held out below which nothing is said about factor analysis."""

MIN_TRAIN = 2
"""A spread takes two samples; a model worth having takes thousands, which the report shows."""


def train_job(
    study: Path,
    out: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    fresh: bool = False,
    jobs: int = 1,
) -> TrainJob:
    """Prepare to train a study.

    Parameters
    ----------
    study : Path
        Study file.
    out : Path, optional
        Folder for the results; the study's own by default.
    overrides : sequence of str
        ``a.b=value``.
    progress : Progress, optional
    fresh : bool
        Train again even where the results are there.
    jobs : int
        Recordings looked through at a time, each in a process of its own with one thread.

    Raises
    ------
    StudyError
        Where the study cannot be used or the folder holds something else.
    """
    if jobs < 1:
        raise StudyError(f"--jobs {jobs}: expected at least 1 process")
    checked = load_study(study, overrides)
    return TrainJob(checked, out, progress=progress or Progress(), fresh=fresh, jobs=jobs)


@dataclass(frozen=True)
class LeftOut:
    """Subjects scored by models that never saw them; ``head`` is its cross-validation."""

    held_out: tuple[HeldOut, ...] = ()
    rehearsals: tuple[pd.DataFrame, ...] = ()
    head: dict[str, Any] | None = None


class TrainJob:
    """From a study to a model, its scores on held-out data, a report and an MLflow run."""

    kind = "train"

    def __init__(
        self,
        study: Study,
        out: Path | None,
        *,
        progress: Progress,
        fresh: bool,
        publishing: bool = True,
        jobs: int = 1,
    ) -> None:
        self.study = study
        self.jobs = jobs
        self.publishing = publishing
        self.title = study.study
        self.out = (out or study.outputs.root / study.study).absolute()
        self.progress = progress
        self.fresh = fresh
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        refuse_foreign(self.out, "train")

    def steps(self) -> Iterator[Step]:
        """Read, train, calibrate, report, publish; nothing but publishing where it is done."""
        together.join()
        others = bool(together.rank())  # they train along; rank 0 does everything else
        if not others:
            recover_folder(self.out)
        read = Step("read the data", self._read, retries=0 if others else 1)
        yield read
        prepared: Prepared = read.value
        if not self._done(prepared):
            fit = Step("train the autoencoder", partial(self._fit, prepared))
            yield fit
            if others:
                return
            left_out = LeftOut()
            if prepared.division.folds:
                leave = Step(
                    "leave each subject out in turn", partial(self._leave_out, prepared, fit.value)
                )
                yield leave
                left_out = leave.value
            judge = Step(
                "calibrate and score", partial(self._judge, prepared, fit.value, left_out=left_out)
            )
            yield judge
            yield Step("write the results", partial(self._write, judge.value))
        if self.publishing and not others:
            yield Step("publish to MLflow", self._publish)

    def summary(self) -> str:
        """Markdown: the verdict and where things are."""
        return summary_markdown(self.out)

    def _read(self) -> Prepared:
        from ae_pipeline.runtime.operation import Processes
        from ae_pipeline.runtime.workers import each
        from ae_pipeline.training.split import divide

        self.progress.stage("reading")
        together.take_turns(first=True)
        spread = None if self.jobs == 1 else partial(each, Processes(workers=self.jobs))
        data = gather(self.study, self.progress.advance, spread=spread)
        together.take_turns(first=False)
        for failure in data.failures:
            _LOG.warning(failure.reason)
            self.exit_status = 1
        known = known_labels(self.study, data)
        inputs = sorted(data.digests.values())
        if known is not None and known.files:
            inputs.append(digest_files(known.files))
        division = divide(data.samples.meta, self.study.split)
        doubts = (note for note in data.notes if isinstance(note, Doubt))
        division = replace(division, claims=(*doubts, *division.claims))
        for claim in division.claims:
            _LOG.warning(claim)
        this = key("train", inputs, config=self.study.decisive())
        return Prepared(self.study, data, division, known, this)

    def _work(self, this: str) -> Path:
        """Where a training keeps what is unfinished."""
        return self.out.parent / f".{self.out.name}.{this[:12]}"

    def _done(self, prepared: Prepared) -> bool:
        provenance = self.out / "provenance.json"
        if self.fresh or not provenance.is_file() or read_json(provenance)["key"] != prepared.key:
            return False
        _LOG.info(f"{self.out} already holds this result; --no-cache trains it again")
        self._announce(prepared.data)
        return True

    def _fit(self, prepared: Prepared) -> Fitted:
        from ae_pipeline.tracking.live import watched

        self.progress.stage("training")
        work = self._work(prepared.key)
        work.mkdir(parents=True, exist_ok=True)
        train = prepared.part("train")
        if len(train) < MIN_TRAIN:
            raise InputError(
                f"{len(train)} windows or rows are left to train on after the split, at least "
                f"{MIN_TRAIN} are needed; lower the shares of split or add data"
            )
        with watched(self.study.study, prepared.key, listener=self.progress.training) as listener:
            fitted = Fitting(
                self.study,
                train,
                prepared.part("validation"),
                self.study.training,
                listener,
                work / "checkpoint.safetensors",
                prepared.labels(prepared.division.rows("train")),
            ).everything()
        together.leave()
        if prepared.known is not None:
            self.progress.stage("fitting the head")
        return with_head(prepared, fitted)

    def _leave_out(self, prepared: Prepared, fitted: Fitted) -> LeftOut:
        """Score every subject by models that never saw it, trained as long as the main one."""
        self.progress.stage("leaving subjects out")
        training = prepared.as_long_as(fitted.history)
        samples, part = prepared.data.samples, prepared.division.part
        predicted, held_out, rehearsals = [], [], []
        for n, rows in enumerate(prepared.division.folds):
            self.progress.advance(n, len(prepared.division.folds), "subjects left out")
            inside = [
                np.setdiff1d(np.flatnonzero(part == name), rows) for name in ("train", "validation")
            ]
            others, held = (samples.take(chosen) for chosen in inside)
            labels = prepared.labels(inside[0])
            of_others = Fitting(self.study, others, held, training, labels=labels).everything()
            of_others, said = with_fold_head(
                prepared, of_others, inside=np.concatenate(inside), outside=rows
            )
            own = samples.take(rows)
            held_out.append(held_out_scores(of_others, own, part="calibration"))
            rehearsals.append(rehearsed(prepared, of_others, samples=own))
            predicted += [] if said is None else [said]
        self.progress.advance(1, 1, "subjects left out")
        head = judge_folds(prepared.known, predicted)
        return LeftOut(tuple(held_out), tuple(rehearsals), head)

    def _judge(self, prepared: Prepared, fitted: Fitted, *, left_out: LeftOut) -> TrainRun:
        import pandas as pd

        self.progress.stage("calibrating")
        folds, has_test = prepared.division.folds, bool(len(prepared.division.rows("test")))
        held_out, rehearsals = list(left_out.held_out), list(left_out.rehearsals)
        for part in ("calibration", "test"):
            samples = prepared.part(part)
            if len(samples):
                held_out.append(held_out_scores(fitted, samples, part=part))
                if not folds and part == ("test" if has_test else "calibration"):
                    rehearsals.append(rehearsed(prepared, fitted, samples=samples))
        bundle, frame = calibrated(
            prepared,
            fitted,
            held_out=held_out,
            rehearsal=summarise(pd.concat(rehearsals, ignore_index=True)),
        )
        latents = np.concatenate([each.latents for each in held_out])
        n_active = _active_units(self.study, latents)
        head = fitted.head_figures
        if head is not None and left_out.head is not None:
            head = {**head, "cross_validation": left_out.head}
        metrics = {
            **train_metrics(
                outputs.count_parameters(bundle),
                fitted.history,
                frame=frame,
                windowed=prepared.data.samples.layout == "series",
            ),
            "rehearsal": bundle.info.rehearsal,
            "active_units": n_active,
            "head": head,
        }
        if fitted.ensemble.person is not None:
            metrics |= self._of_people(prepared, fitted, frame=frame)
            if folds:  # latents of models that left out different people do not mean the same
                left = prepared.data.samples.take(np.concatenate(folds))
                latents = fitted.ensemble.autoencoder.latents(left)
        return TrainRun(
            self.study,
            prepared.key,
            prepared.data,
            prepared.division,
            fitted.history,
            bundle,
            frame,
            latents,
            metrics,
        )

    def _of_people(
        self, prepared: Prepared, fitted: Fitted, *, frame: pd.DataFrame
    ) -> dict[str, Any]:
        """What a questionnaire's metrics have beside those of all data."""
        from ae_pipeline.analysis.persons import PROPOSED

        self.progress.stage("comparing with factor analysis")
        proposed = int((frame["p_value"] <= PROPOSED).sum())
        return {"proposed": proposed, "factors": _beside_factors(prepared, fitted)}

    def _write(self, run: TrainRun) -> None:
        self.progress.stage("writing the report")
        work = self._work(run.key)
        place = work / "results"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        outputs.write_train(run, place, growth=work / "growth")
        replace_folder(place, self.out)
        shutil.rmtree(work, ignore_errors=True)
        self._announce(run.data)

    def _publish(self) -> None:
        self.progress.stage("publishing to MLflow")
        self.result |= publish(self.out)

    def _announce(self, data: Gathered) -> None:
        self.result = {
            "bundle": str(self.out / "model"),
            "report": str(self.out / "report.html"),
            "metrics": read_json(self.out / "metrics.json"),
            "verdict": read_json(self.out / "provenance.json")["verdict"],
            "failed": [failure.reason for failure in data.failures],
        }


# -------------------------------------------------------------------------------- score


def rehearsed(prepared: Prepared, fitted: Fitted, *, samples: Samples) -> pd.DataFrame:
    """Score known deviations planted into samples that these scorers were not fitted on."""
    one_subject = prepared.data.samples.meta["subject"].nunique() == 1
    with one_thread(samples.layout != "grid"):
        return rehearse(
            fitted.ensemble,
            fitted.baselines,
            samples=samples,
            alter=kind_of(prepared.study.kind).alteration(prepared.study, samples),
            seed=prepared.study.training.seed,
            by_recording=one_subject,
        )


def calibrated(
    prepared: Prepared,
    fitted: Fitted,
    *,
    held_out: Sequence[HeldOut],
    rehearsal: dict[str, Any],
) -> tuple[Bundle, pd.DataFrame]:
    """Calibrate on the held-out rows; the bundle, and these rows as it judges them.

    Raises
    ------
    InputError
        Where nothing is left to calibrate with.
    """
    import pandas as pd

    if not any(each.frame["part"].iloc[0] == "calibration" for each in held_out):
        raise InputError(
            "no calibration data is left after the split; give split.calibration a larger "
            "share or add recordings"
        )
    frame = pd.concat([each.frame for each in held_out], ignore_index=True)
    by_entry = np.concatenate([each.by_entry for each in held_out])
    technical = frame["recording"].astype(str).isin(prepared.data.technical)
    if technical.all():
        technical[:] = False
        _LOG.warning(
            "every held-out recording has a bad channel; they calibrate nevertheless, and "
            "thresholds are higher for it"
        )
    frame.loc[technical & (frame["part"] == "calibration"), "part"] = "left out"
    chosen = (frame["part"] == "calibration").to_numpy(copy=True)
    judge, kept = Judge.fit(
        frame[chosen].reset_index(drop=True),
        by_entry[chosen],
        unit=prepared.division.unit,
        detection=prepared.study.detection,
        windowed=kind_of(prepared.study.kind).events,
    )
    chosen[chosen] = kept
    frame.loc[~chosen & (frame["part"] == "calibration"), "part"] = "left out"
    bundle = make_bundle(prepared, fitted, judge=judge, rehearsal=rehearsal)
    return bundle, judge_held_out(bundle, frame, by_entry=by_entry, calibration=chosen)


def calibration_units(data: Gathered, division: Division, *, trim: float = 0) -> int:
    """Return how many exchangeable units a training of this data will calibrate with."""
    from ae_pipeline.detectors.calibration import Calibration

    rows = np.concatenate([division.rows("calibration"), *division.folds])
    meta = data.samples.meta.iloc[rows].reset_index(drop=True)
    technical = meta["recording"].astype(str).isin(data.technical).to_numpy()
    if not technical.all():
        meta = meta[~technical].reset_index(drop=True)
    nothing = np.zeros((len(meta), 0), np.float32)
    n = Calibration.from_frame(meta.assign(score=0.0), nothing, unit=division.unit).n_units
    return n - int(trim * n)


def _beside_factors(prepared: Prepared, fitted: Fitted) -> dict[str, Any] | None:
    """The latents of a questionnaire beside factor analysis; None where people or items are few."""
    from ae_pipeline.analysis.factors import beside

    study, person = prepared.study, fitted.ensemble.person
    assert person is not None
    has_test = bool(len(prepared.division.rows("test")))
    held_out, train = prepared.part("test" if has_test else "validation"), prepared.part("train")
    if len(held_out) < MIN_COMPARED or train.shape[0] < 3:
        return None
    training = prepared.as_long_as(fitted.history)

    def refit(samples: Samples, seed: int) -> FittedAutoencoder:
        anew = training.model_copy(update={"seed": seed})
        return Fitting(study, samples, None, anew).network()[0]

    latent_dim, seed = study.model.latent_dim, study.training.seed
    return beside(person, train, held_out=held_out, k=latent_dim, seed=seed, refit=refit)


def _active_units(study: Study, latents: NDArray[np.float32]) -> int | None:
    """Variational models: features that say anything of held-out data (the rest collapsed)."""
    from ae_pipeline.models.objectives import active_units

    if study.model.objective.bottleneck != "gaussian":
        return None
    n_active = int(active_units(latents).sum())
    if n_active < study.model.latent_dim:
        _LOG.warning(
            f"{n_active} of {study.model.latent_dim} latent features are active, the "
            "others collapsed to the prior; lower model.objective.beta or use free bits"
        )
    return n_active
