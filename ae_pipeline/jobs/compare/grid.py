"""The cells of a comparison: one model each, in a folder of its own, made in several processes.

A cell's folder is complete with its provenance, so that a comparison that was killed goes on
where it was. The threads of all processes together never exceed what :func:`run_cells` is given.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.analysis.rehearsal import area_and_interval, originals_and_copies
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.ingest.gather import Gathered, gather
from ae_pipeline.jobs.compare.probe import cross_validated_probe
from ae_pipeline.jobs.fit import known_labels
from ae_pipeline.jobs.job import Progress, run_plainly
from ae_pipeline.jobs.train import TrainJob
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs.masking import SHARED
from ae_pipeline.outputs.publish import write_record
from ae_pipeline.report.wording import number
from ae_pipeline.runtime.files import (
    key,
    read_json,
    recover_folder,
    write_folder,
    write_frame,
    write_json,
)
from ae_pipeline.runtime.messages import kept, unexpected
from ae_pipeline.runtime.operation import Processes
from ae_pipeline.runtime.workers import Died, each
from ae_pipeline.study import Study, load_study
from ae_pipeline.tracking.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.training.split import Division

    Rows = NDArray[np.intp]

__all__ = ["ARCHITECTURES", "LINEAR", "Cell", "Outcome", "in_words", "run_cells"]

ARCHITECTURES = ("dense", "conv", "recurrent", "attention")
LINEAR = {"pca": "PCA", "factor_analysis": "factor analysis"}
SLOWEST_FIRST = ("attention", "recurrent", "conv", "dense", *LINEAR)
"""Order of work: what takes longest must not be what is left at the end."""


@dataclass(frozen=True)
class Cell:
    """One model of the grid.

    ``objective`` is empty for linear methods, whose ``architecture`` is their name.
    """

    architecture: str
    objective: str
    latent_dim: int
    seed: int = 0

    @property
    def model(self) -> str:
        """What cells that differ by seed only have in common."""
        return "-".join(filter(None, (self.architecture, self.objective, str(self.latent_dim))))

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.model if self.architecture in LINEAR else f"{self.model}-seed{self.seed}"

    @property
    def overrides(self) -> list[str]:
        """What makes the study this cell's."""
        size = f"model.latent_dim={self.latent_dim}"
        if self.architecture in LINEAR:
            return [size]
        return [
            f"model.architecture.kind={self.architecture}",
            f"model.objective.kind={self.objective}",
            size,
            f"training.seed={self.seed}",
        ]


@dataclass(frozen=True)
class Outcome:
    """What a cell came to; numbers are None where a thing cannot be known.

    ``units`` holds ``unit`` and ``loss``, the mean held-out loss of each; ``probe`` is whether
    the linear probe was right about each row that has a label. A study with a head has its
    ``head`` (balanced accuracy or R², with a 95% interval) instead.
    """

    cell: Cell
    reason: str = ""
    test_loss: float | None = None
    units: pd.DataFrame | None = None
    probe: NDArray[np.float64] | None = None
    head: tuple[float, float, float] | None = None
    detection: float | None = None
    detection_interval: tuple[float, float] | None = None
    parameters: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    warnings: tuple[str, ...] = ()


def in_words(model: str) -> str:
    """A model in words: ``conv-masked-16`` as ``conv, masked, 16 features``."""
    *parts, size = model.split("-")
    words = [LINEAR.get(part, part) for part in parts]
    return f"{', '.join(words)}, {size} features"


def run_cells(
    study: Path,
    cells: Sequence[Cell],
    *,
    overrides: Sequence[str],
    place: Path,
    jobs: int,
    threads: int,
    fresh: bool = False,
) -> Iterator[Outcome]:
    """Outcomes as they come; what is there already is only read.

    Parameters
    ----------
    study : Path
        Study file.
    cells : sequence of Cell
    overrides : sequence of str
        ``a.b=value``, for every cell.
    place : Path
        Where the cells' folders are.
    jobs : int
        Processes; 1 makes them here, one after another.
    threads : int
        Of each process.
    fresh : bool
        Make again what is there.
    """
    rank = {name: n for n, name in enumerate(SLOWEST_FIRST)}
    ordered = sorted(cells, key=lambda cell: rank[cell.architecture])
    work = partial(_work, study=study, overrides=tuple(overrides), cells=place, fresh=fresh)
    for cell, outcome in each(Processes(workers=jobs), work, items=ordered, threads=threads):
        if isinstance(outcome, Died):
            yield Outcome(cell, "the process that made it died twice (out of memory?)")
        else:
            yield outcome


def _work(
    cell: Cell, *, study: Path, overrides: Sequence[str], cells: Path, fresh: bool
) -> Outcome:
    """Make one cell, or find that it is there, and read what it came to."""
    from ae_pipeline.training.loop import TrainingError

    try:
        checked = load_study(study, [*overrides, *cell.overrides])
        if cell.architecture in LINEAR:
            return _linear(checked, cell, folder=cells / cell.name, fresh=fresh)
        folder = cells / cell.name
        job = TrainJob(checked, folder, progress=Progress(), fresh=fresh, publishing=False)
        with kept() as messages:  # they would mix with those of other processes
            run_plainly(job)
        warnings = tuple(m.text for m in messages if m.level >= logging.WARNING)
        return _read_outcome(checked, cell, folder=folder, warnings=warnings)
    except (StudyError, InputError, TrainingError) as error:
        return Outcome(cell, str(error))
    except MemoryError:
        return Outcome(cell, "does not fit into memory; take fewer --jobs or a smaller model")
    except Exception as error:
        return Outcome(cell, unexpected(error, cell.name))


def _read_outcome(study: Study, cell: Cell, *, folder: Path, warnings: tuple[str, ...]) -> Outcome:
    import pandas as pd

    metrics = read_json(folder / "metrics.json")
    scores = pd.read_parquet(folder / "scores.parquet")
    latents = pd.read_parquet(folder / "latents.parquet")
    loss = scores["score_autoencoder"].to_numpy()
    rehearsed = metrics["rehearsal"]["scorers"]["ensemble"]
    bounds = rehearsed["interval"]
    return Outcome(
        cell,
        "",
        metrics["test_loss"],
        _by_unit(scores, loss),
        _probe(scores, latents),
        _head_figure(metrics.get("head")),
        rehearsed["roc_area"],
        None if bounds is None else (bounds[0], bounds[1]),
        metrics["parameters"],
        metrics["seconds"],
        metrics["epochs"],
        warnings,
    )


def _by_unit(frame: pd.DataFrame, loss: NDArray[np.float64]) -> pd.DataFrame:
    """Mean loss of each subject (recording where there is one subject only) or row of the test."""
    held = frame.assign(loss=loss)
    test = held[held["part"] == "test"]
    if test.empty:
        test = held[held["part"] == "calibration"]
    by_subject = frame["subject"].nunique() > 1
    unit = test["subject" if by_subject else "recording"].astype(str)
    return test.assign(unit=unit).groupby("unit")["loss"].mean().reset_index()


def _probe(frame: pd.DataFrame, latents: pd.DataFrame) -> NDArray[np.float64] | None:
    if "label" not in frame or frame["label"].isna().all():
        return None
    known = frame["label"].notna().to_numpy()
    codes = latents[[name for name in latents if str(name)[1:].isdigit()]].to_numpy()
    labels = frame["label"][known].astype(str).to_numpy()
    units = frame["subject"][known].astype(str).to_numpy()
    return cross_validated_probe(codes[known], labels, units=units)


def _head_figure(found: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    """What counts of a judged head: on held-out data, else in cross-validation by subject."""
    judged = (found or {}).get("held_out") or (found or {}).get("cross_validation") or {}
    for measure in ("balanced_accuracy", "r2"):
        if judged.get(measure) and judged[measure]["value"] is not None:
            low, high = judged[measure]["interval"] or (np.nan, np.nan)
            return judged[measure]["value"], low, high
    return None


def _linear_head(study: Study, data: Gathered, *, codes: Any, part: Any) -> dict[str, Any] | None:
    """The study's head on a linear method's codes; None without one, or where subjects are few."""
    from ae_pipeline.detectors.heads import fit_head, judge_head

    known = known_labels(study, data)
    if known is None or codes is None:
        return None
    inside = np.flatnonzero(part == "train")
    held = np.flatnonzero(((part == "calibration") | (part == "test")) & known.is_known)
    if not len(held):
        return None
    x = codes.astype(np.float64)
    head = fit_head(known, x, rows=inside, seed=study.training.seed)
    return {"held_out": judge_head(known, held, outputs=head.outputs(x[held]))}


def _linear(study: Study, cell: Cell, *, folder: Path, fresh: bool) -> Outcome:
    """A linear method on the same split, the same likelihood and the same planted deviations."""
    import pandas as pd

    data = gather(study, lambda done, total, what: None)
    this = key(
        "train",
        sorted(data.digests.values()),
        config=[study.decisive(), cell.architecture, "linear"],
    )
    recover_folder(folder)
    provenance = folder / "provenance.json"
    if fresh or not provenance.is_file() or read_json(provenance)["key"] != this:
        frame, codes, metrics = _fitted_linear(study, cell, data=data)
        _write_linear(
            study,
            cell,
            folder=folder,
            this=this,
            frame=frame,
            codes=codes,
            metrics=metrics,
        )
    metrics = read_json(folder / "metrics.json")
    scores_frame = pd.read_parquet(folder / "scores.parquet")
    latents = pd.read_parquet(folder / "latents.parquet")
    return Outcome(
        cell,
        "",
        metrics["test_loss"],
        _by_unit(scores_frame, scores_frame["loss"].to_numpy()),
        _probe(scores_frame, latents),
        _head_figure(metrics.get("head")),
        metrics["detection"],
        metrics.get("detection_interval"),
        metrics["parameters"],
        metrics["seconds"],
    )


def _fitted_linear(
    study: Study, cell: Cell, *, data: Gathered
) -> tuple[pd.DataFrame, NDArray[np.float32], dict[str, Any]]:
    """Held-out rows, their codes and the metrics of a linear method."""
    import pandas as pd

    from ae_pipeline.detectors.baselines import FactorAnalysis, PrincipalComponents
    from ae_pipeline.models.likelihoods import Likelihood
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.training.split import divide

    samples, seed = data.samples, study.training.seed
    division = divide(samples.meta, study.split)
    is_pca = cell.architecture == "pca"
    method = PrincipalComponents if is_pca else FactorAnalysis
    likelihood = Likelihood(
        study.model.likelihood, samples.layout, shape=samples.shape, columns=samples.columns
    )
    families = likelihood.uniform or likelihood.by_column
    pairs = _fitted_and_held_out(division)
    frames, codes, planted, seconds, count = [], [], [], 0.0, 0
    for fit_rows, rows, part in pairs:
        train, held_out = samples.take(fit_rows), samples.take(rows)
        started = time.perf_counter()
        fitted = method.fit(train, Scaler.fit(train, seed), latent_dim=cell.latent_dim, seed=seed)
        seconds += time.perf_counter() - started
        assert isinstance(fitted, PrincipalComponents)
        count = sum(array.size for name, array in fitted.state().items() if name != "weights")
        names = ("recording", "subject", "label")
        frame = held_out.meta[[n for n in names if n in held_out.meta]].copy()
        frame["part"], frame["loss"] = part, fitted.losses(held_out, families)
        frame["n_observed"] = _n_observed(held_out)
        frames.append(frame)
        codes.append(fitted.latents(held_out))
        everywhere = None if study.model.head is None else fitted.latents(samples)
        if division.folds or part == ("test" if len(pairs) > 1 else "calibration"):
            alter = kind_of(study.kind).alteration(study, held_out)
            for altered, some in enumerate(originals_and_copies(held_out, alter, seed=seed)):
                of_unit = some.meta[_unit(samples)].astype(str).to_numpy()
                said = fitted.score(some).total
                planted.append((said, np.full(len(some), altered == 1), of_unit))
    frame = pd.concat(frames, ignore_index=True)
    judged = frame[frame["part"] == "test"] if (frame["part"] == "test").any() else frame
    said, copied, units = (np.concatenate(p) for p in zip(*planted, strict=True))
    area, bounds = area_and_interval(said, copied, unit=units)
    metrics = {
        "test_loss": float(np.average(judged["loss"], weights=judged["n_observed"])),
        "detection": area,
        "detection_interval": bounds,
        "parameters": count,
        "seconds": seconds / len(pairs),
        "head": _linear_head(
            study, data, codes=None if division.folds else everywhere, part=division.part
        ),
    }
    return frame, np.concatenate(codes), metrics


def _fitted_and_held_out(division: Division) -> list[tuple[Rows, Rows, str]]:
    """Rows to fit on, rows to judge and their part: one pair a fold, or one a held-out part."""
    train = np.flatnonzero(division.part == "train")
    if division.folds:
        return [(np.setdiff1d(train, rows), rows, "calibration") for rows in division.folds]
    held = [(division.rows(part), part) for part in ("calibration", "test")]
    return [(train, rows, part) for rows, part in held if len(rows)]


def _unit(samples: Samples) -> str:
    """What intervals are over: subjects of EEG where there are several, else recordings, rows."""
    several = samples.layout == "series" and samples.meta["subject"].nunique() > 1
    return "subject" if several else "recording"


def _n_observed(samples: Samples) -> Any:
    return int(np.prod(samples.shape)) if samples.mask is None else samples.mask.sum(1)


def _write_linear(
    study: Study,
    cell: Cell,
    *,
    folder: Path,
    this: str,
    frame: pd.DataFrame,
    codes: NDArray[np.float32],
    metrics: dict[str, Any],
) -> None:
    """A folder like that of a training, with what a linear method has of it."""
    import pandas as pd

    with write_folder(folder) as place:
        write_json(place / "metrics.json", metrics)
        write_frame(place / "scores.parquet", frame)
        names = [f"z{i:02d}" for i in range(codes.shape[1])]
        write_frame(place / "latents.parquet", pd.DataFrame(codes, columns=names))
        name = in_words(cell.model)
        loss = number(metrics["test_loss"])
        record = Record(
            kind="train",
            experiment=study.study,
            run_name=name,
            key=this,
            description=f"# {study.study}\n\n{name}, held-out loss {loss}.\n",
            params={"method": cell.architecture, "latent_dim": cell.latent_dim},
            metrics={n: v for n, v in metrics.items() if isinstance(v, int | float)},
            tags={"kind": study.kind, "step": "train"},
        )
        write_record(place / SHARED, record)
        write_json(place / "provenance.json", {"kind": "linear", "status": "done", "key": this})
