"""The steps in order: a study to a model, a model and inputs to results.

A job yields its steps one after another; running them is all there is to it, with Prefect
(``flows``) or without (:func:`run_plainly`), and the numbers are the same by construction. The
folder a job writes is the record: what is there is done, and what is not is made.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.analysis.rehearsal import rehearse, summarise
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.ingest.gather import Gathered, gather
from ae_pipeline.jobs.fit import (
    Fitting,
    HeldOut,
    heads_of,
    held_out_scores,
    known_labels,
    make_bundle,
    train_metrics,
)
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

    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.detectors.heads import FittedHead
    from ae_pipeline.models.heads import Labels
    from ae_pipeline.training.known import Known
    from ae_pipeline.training.loop import FittedAutoencoder, Training
    from ae_pipeline.training.split import Division

__all__ = [
    "TrainJob",
    "train_job",
]

_LOG = logging.getLogger(__name__)


MIN_COMPARED = 20
"""People held out below which nothing is said about factor analysis."""

MIN_TRAIN = 2
"""A spread takes two samples; a model worth having takes thousands, which the report shows."""


# -------------------------------------------------------------------------------- train


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
        if together.rank():  # the others train along; rank 0 does everything else
            yield Step("read the data", self._read)
            if not self._done():
                yield Step("train the autoencoder", self._fit)
            return
        recover_folder(self.out)
        yield Step("read the data", self._read, retries=1)
        if not self._done():
            yield Step("train the autoencoder", self._fit)
            if self.division.folds:
                yield Step("leave each subject out in turn", self._leave_out)
            yield Step("calibrate and score", self._judge)
            yield Step("write the results", self._write)
        if self.publishing:
            yield Step("publish to MLflow", self._publish)

    def summary(self) -> str:
        """Markdown: the verdict and where things are."""
        return summary_markdown(self.out)

    # ------------------------------------------------------------------------- steps

    def _read(self) -> None:
        self.progress.stage("reading")
        together.take_turns(first=True)
        from ae_pipeline.runtime.operation import Processes
        from ae_pipeline.runtime.workers import each

        spread = None if self.jobs == 1 else partial(each, Processes(workers=self.jobs))
        self.data: Gathered = gather(self.study, self.progress.advance, spread=spread)
        together.take_turns(first=False)
        for failure in self.data.failures:
            _LOG.warning(failure.reason)
            self.exit_status = 1
        self.known = known_labels(self.study, self.data)
        inputs = sorted(self.data.digests.values())
        if self.known is not None and self.known.files:
            inputs.append(digest_files(self.known.files))
        self.key = key("train", inputs, config=self.study.decisive())
        self.work = self.out.parent / f".{self.out.name}.{self.key[:12]}"
        from ae_pipeline.training.split import divide

        self.division: Division = divide(self.data.samples.meta, self.study.split)
        for claim in self.division.claims:
            _LOG.warning(claim)

    def _done(self) -> bool:
        provenance = self.out / "provenance.json"
        if self.fresh or not provenance.is_file() or read_json(provenance)["key"] != self.key:
            return False
        _LOG.info(f"{self.out} already holds this result; --no-cache trains it again")
        self._announce()
        return True

    def _fit(self) -> None:
        self.progress.stage("training")
        self.work.mkdir(parents=True, exist_ok=True)
        train = self.data.samples.take(self.division.rows("train"))
        if len(train) < MIN_TRAIN:
            raise InputError(
                f"{len(train)} windows or rows are left to train on after the split, at least "
                f"{MIN_TRAIN} are needed; lower the shares of split or add data"
            )
        validation = self.data.samples.take(self.division.rows("validation"))
        from ae_pipeline.tracking.live import watched

        with watched(self.study.study, self.key, listener=self.progress.training) as listener:
            self.ensemble, self.baselines, self.history = Fitting(
                self.study,
                train,
                validation,
                self.study.training,
                listener,
                self.work / "checkpoint.safetensors",
                self._labels(self.division.rows("train")),
            ).everything()
        together.leave()
        self.head: FittedHead | None = None
        self.head_found: dict[str, Any] | None = None
        if self.known is not None:
            self._fit_head(self.known)

    def _labels(self, rows: NDArray[np.int64]) -> Labels | None:
        """What a jointly trained head is to say of ``rows``."""
        joint = self.known is not None and self.known.head.fitted == "jointly"
        return self.known.labels(rows) if self.known is not None and joint else None

    def _fit_head(self, known: Known) -> None:
        """Fit the head on the training part; judge it on other subjects."""
        from ae_pipeline.detectors.heads import cross_validate, fit_head, judge_head, look_at

        self.progress.stage("fitting the head")
        samples, seed = self.data.samples, self.study.training.seed
        part = self.division.part
        inside = np.flatnonzero((part == "train") | (part == "validation"))
        fitted = self.ensemble.autoencoder
        latents = fitted.latents(samples)
        looks = {
            what: look_at(what, samples, latents=latents, scaler=fitted.scaler)
            for what in dict.fromkeys((known.head.from_, "input"))
        }
        self.head = fit_head(known, looks[known.head.from_], rows=inside, seed=seed)
        self.head_found = {
            "kind": known.head.kind,
            "target": known.head.target,
            "from": known.head.from_,
            "fitted": known.head.fitted,
            "classes": list(known.classes),
            "labelled": int(known.is_known.sum()),
            "unlabelled": int((~known.is_known).sum()),
            "held_out": None,
            "cross_validation": None,
        }
        if self.division.folds:
            return  # each subject is predicted while it is left out
        judged: dict[str, Any] = {}
        held = np.flatnonzero(((part == "calibration") | (part == "test")) & known.is_known)
        for what, x in looks.items():
            head = (
                self.head
                if what == known.head.from_
                else fit_head(known, x, rows=inside, seed=seed)
            )

            def predict(
                learn: NDArray[np.int64], ask: NDArray[np.int64], x: Any = x, what: str = what
            ) -> NDArray[np.float64]:
                if known.head.fitted == "jointly" and what != "input":
                    return self._predict_anew(known, learn, outside=ask)
                return fit_head(known, x, rows=learn, seed=seed).outputs(x[ask])

            judged[what] = (
                judge_head(known, held, outputs=head.outputs(x[held])) if len(held) else None,
                cross_validate(known, inside, seed=seed, predict=predict),
            )
        for i, name in enumerate(("held_out", "cross_validation")):
            own = judged[known.head.from_][i]
            if own is not None and known.head.from_ != "input":
                own["from_input"] = judged["input"][i]
            self.head_found[name] = own

    def _predict_anew(
        self, known: Known, inside: NDArray[np.int64], *, outside: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Outputs of rows that neither the network nor the head has seen."""
        from ae_pipeline.detectors.heads import fit_head, look_at

        part, seed = self.division.part, self.study.training.seed
        unlike = ~np.isin(known.unit, np.unique(known.unit[outside]))
        train, validation = (np.flatnonzero((part == p) & unlike) for p in ("train", "validation"))
        samples = self.data.samples
        fitted, _ = Fitting(
            self.study,
            samples.take(train),
            samples.take(validation),
            self._as_long(),
            labels=known.labels(train),
        ).network()
        rows = np.concatenate([inside, outside])
        chosen = samples.take(rows)
        x = look_at(known.head.from_, chosen, latents=fitted.latents(chosen), scaler=fitted.scaler)
        everywhere = np.full((len(samples), x.shape[1]), np.nan)
        everywhere[rows] = x
        return fit_head(known, everywhere, rows=inside, seed=seed).outputs(x[len(inside) :])

    def _as_long(self) -> Training:
        """Training for as long as the main model's best epoch."""
        epochs = max(1, self.history.best_epoch)
        return self.study.training.model_copy(update={"epochs": epochs, "early_stopping": None})

    def _leave_out(self) -> None:
        """Score every subject by models that never saw it, trained as long as the main one."""
        self.progress.stage("leaving subjects out")
        training = self._as_long()
        samples, part = self.data.samples, self.division.part
        predicted: list[tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]] = []
        self.left_out: list[HeldOut] = []
        self.rehearsals: list[pd.DataFrame] = []
        for n, rows in enumerate(self.division.folds):
            self.progress.advance(n, len(self.division.folds), "subjects left out")
            inside = [
                np.setdiff1d(np.flatnonzero(part == name), rows) for name in ("train", "validation")
            ]
            others, held = (samples.take(chosen) for chosen in inside)
            ensemble, baselines, _ = Fitting(
                self.study, others, held, training, labels=self._labels(inside[0])
            ).everything()
            held_out = samples.take(rows)
            head = None
            others_say: dict[str, NDArray[np.float64]] = {}
            if self.known is not None:
                learnt = np.concatenate(inside)
                head, others_say = heads_of(
                    self.known, ensemble.autoencoder, samples=samples, inside=learnt, outside=rows
                )
            self.left_out.append(
                held_out_scores(
                    ensemble, baselines, samples=held_out, part="calibration", head=head
                )
            )
            if head is not None:
                predicted.append((rows, others_say))
            self.rehearsals.append(self._rehearse(ensemble, baselines, samples=held_out))
        self.progress.advance(1, 1, "subjects left out")
        if self.known is not None and self.head_found is not None and predicted:
            from ae_pipeline.detectors.heads import judge_head

            rows = np.concatenate([each[0] for each in predicted])
            known = self.known.is_known[rows]
            judged = {
                what: judge_head(
                    self.known,
                    rows[known],
                    outputs=np.concatenate([each[1][what] for each in predicted])[known],
                )
                for what in predicted[0][1]
            }
            found: dict[str, Any] = {"folds": len(predicted)}
            found |= judged[self.known.head.from_]
            if self.known.head.from_ != "input":
                found["from_input"] = judged["input"]
            self.head_found["cross_validation"] = found

    def _judge(self) -> None:
        import pandas as pd

        self.progress.stage("calibrating")
        held_out = list(self.left_out) if self.division.folds else []
        rehearsals = list(self.rehearsals) if self.division.folds else []
        has_test = bool(len(self.division.rows("test")))
        for part in ("calibration", "test"):
            samples = self.data.samples.take(self.division.rows(part))
            if len(samples):
                held_out.append(
                    held_out_scores(
                        self.ensemble, self.baselines, samples=samples, part=part, head=self.head
                    )
                )
                if not self.division.folds and part == ("test" if has_test else "calibration"):
                    rehearsals.append(
                        self._rehearse(self.ensemble, self.baselines, samples=samples)
                    )
        if not any(each.frame["part"].iloc[0] == "calibration" for each in held_out):
            raise InputError(
                "no calibration data is left after the split; give split.calibration a larger "
                "share or add recordings"
            )
        frame = pd.concat([each.frame for each in held_out], ignore_index=True)
        by_entry = np.concatenate([each.by_entry for each in held_out])
        technical = frame["recording"].astype(str).isin(self.data.technical)
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
            unit=self.division.unit,
            detection=self.study.detection,
            windowed=kind_of(self.study.kind).events,
        )
        chosen[chosen] = kept
        frame.loc[~chosen & (frame["part"] == "calibration"), "part"] = "left out"
        rehearsal = summarise(pd.concat(rehearsals, ignore_index=True))
        bundle = make_bundle(
            self.study,
            self.data,
            division=self.division,
            ensemble=self.ensemble,
            baselines=self.baselines,
            judge=judge,
            history=self.history,
            rehearsal=rehearsal,
            head=self.head,
        )
        frame = judge_held_out(bundle, frame, by_entry=by_entry, calibration=chosen)
        latents = np.concatenate([each.latents for each in held_out])
        if self.ensemble.person is not None and self.division.folds:
            # latents of models that left out different people do not mean the same
            rows = np.concatenate(self.division.folds)
            latents = self.ensemble.autoencoder.latents(self.data.samples.take(rows))
        n_parameters = outputs.count_parameters(bundle)
        self.run = TrainRun(
            self.study,
            self.key,
            self.data,
            self.division,
            self.history,
            bundle,
            frame,
            latents,
            {
                **train_metrics(
                    n_parameters,
                    self.history,
                    frame=frame,
                    windowed=self.data.samples.layout == "series",
                ),
                "rehearsal": rehearsal,
                "active_units": self._active_units(held_out),
                "head": self.head_found,
                **({} if self.ensemble.person is None else self._of_people(frame)),
            },
        )

    def _of_people(self, frame: pd.DataFrame) -> dict[str, Any]:
        """What a questionnaire's metrics have beside those of all data."""
        from ae_pipeline.analysis.persons import PROPOSED

        proposed = int((frame["p_value"] <= PROPOSED).sum())
        return {"proposed": proposed, "factors": self._beside_factors()}

    def _beside_factors(self) -> dict[str, Any] | None:
        """The latents of a questionnaire beside factor analysis."""
        from ae_pipeline.analysis.factors import beside

        person = self.ensemble.person
        assert person is not None
        has_test = bool(len(self.division.rows("test")))
        held_out = self.data.samples.take(self.division.rows("test" if has_test else "validation"))
        train = self.data.samples.take(self.division.rows("train"))
        if len(held_out) < MIN_COMPARED or train.shape[0] < 3:
            return None
        self.progress.stage("comparing with factor analysis")
        training = self._as_long()

        def refit(samples: Samples, seed: int) -> FittedAutoencoder:
            anew = training.model_copy(update={"seed": seed})
            return Fitting(self.study, samples, None, anew).network()[0]

        latent_dim, seed = self.study.model.latent_dim, self.study.training.seed
        return beside(person, train, held_out=held_out, k=latent_dim, seed=seed, refit=refit)

    def _active_units(self, held_out: list[HeldOut]) -> int | None:
        """Variational models: features that say anything of held-out data (the rest collapsed)."""
        from ae_pipeline.models.objectives import active_units

        if self.study.model.objective.bottleneck != "gaussian":
            return None
        codes = np.concatenate([each.latents for each in held_out])
        n_active = int(active_units(codes).sum())
        if n_active < self.study.model.latent_dim:
            _LOG.warning(
                f"{n_active} of {self.study.model.latent_dim} latent features are active, the "
                "others collapsed to the prior; lower model.objective.beta or use free bits"
            )
        return n_active

    def _rehearse(
        self, ensemble: Ensemble, baselines: dict[str, Scorer], *, samples: Samples
    ) -> pd.DataFrame:
        """Known deviations planted into samples that these scorers were not fitted on."""
        alter = kind_of(self.study.kind).alteration(self.study, samples)
        one_subject = self.data.samples.meta["subject"].nunique() == 1
        with one_thread(samples.layout != "grid"):
            return rehearse(
                ensemble,
                baselines,
                samples=samples,
                alter=alter,
                seed=self.study.training.seed,
                by_recording=one_subject,
            )

    def _write(self) -> None:
        self.progress.stage("writing the report")
        place = self.work / "results"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        outputs.write_train(self.run, place, growth=self.work / "growth")
        replace_folder(place, self.out)
        shutil.rmtree(self.work, ignore_errors=True)
        self._announce()

    def _publish(self) -> None:
        self.progress.stage("publishing to MLflow")
        self.result |= publish(self.out)

    def _announce(self) -> None:
        self.result = {
            "bundle": str(self.out / "model"),
            "report": str(self.out / "report.html"),
            "metrics": read_json(self.out / "metrics.json"),
            "verdict": read_json(self.out / "provenance.json")["verdict"],
            "failed": [failure.reason for failure in self.data.failures],
        }


# -------------------------------------------------------------------------------- score
