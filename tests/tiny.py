"""Small data with known truth and models trained on it for two epochs, made once per session."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, Axis, Column, Recording, Samples
from ae_pipeline.ingest.gather import Gathered
from ae_pipeline.study import Study
from ae_pipeline.training.split import Division, divide

if TYPE_CHECKING:
    from ae_pipeline.data import Scorer
    from ae_pipeline.detectors.calibration import Calibration
    from ae_pipeline.detectors.chance import Chance
    from ae_pipeline.scoring.bundle import Bundle
    from ae_pipeline.training.history import History
    from ae_pipeline.training.loop import FittedAutoencoder

CHANNELS = ("Fz", "Cz", "Pz", "Oz")
SFREQ_HZ = 100.0
MODEL = {"architecture": {"kind": "dense", "hidden": [16]}, "latent_dim": 3}
TRAINING = {"epochs": 2, "early_stopping": None, "learning_rate": 1e-2, "device": "cpu"}


def one_recording(
    name: str,
    subject: str = "",
    seconds: float = 60.0,
    planted: Sequence[tuple[float, float, int]] = (),
    annotations: tuple[Annotation, ...] = (),
    segments: tuple[tuple[int, int], ...] = (),
    channels: tuple[str, ...] = CHANNELS,
    amplitude_uv: float = 10.0,
    sfreq_hz: float = SFREQ_HZ,
) -> Recording:
    """Noise with an alpha rhythm; ``planted`` are bursts (onset_s, duration_s, channel).

    10.3 Hz: of 10 Hz every window of half a second's step holds the same phase.
    """
    rng = np.random.default_rng(abs(hash_of(name)))
    n = round(seconds * sfreq_hz)
    t = np.arange(n) / sfreq_hz
    noise = np.cumsum(rng.standard_normal((len(channels), n)), 1)
    slow = np.apply_along_axis(lambda x: np.convolve(x, np.ones(200) / 200, "same"), 1, noise)
    data = (noise - slow[:, :n]) / 3 + np.sin(2 * np.pi * 10.3 * t + rng.uniform(0, 6))
    data *= amplitude_uv
    for onset_s, duration_s, channel in planted:
        here = (t >= onset_s) & (t < onset_s + duration_s)
        data[channel, here] += 30 * amplitude_uv * np.sin(2 * np.pi * 20 * t[here])
    signal = data.astype(np.float32)
    return Recording(
        name=name,
        subject=subject or name,
        session="",
        path=Path(f"{name}.edf"),
        files=(),
        ch_names=channels,
        positions_m=np.full((len(channels), 3), np.nan),
        sfreq_hz=sfreq_hz,
        n_times=n,
        annotations=annotations,
        reader=lambda start, stop: signal[:, start:stop],
        segments=segments,
    )


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[-6:], "big")


@dataclass(frozen=True)
class Trained:
    """Everything a training comes to; ``frame`` are the raw scores of the held-out rows."""

    study: Study
    data: Gathered
    division: Division
    fitted: FittedAutoencoder
    baselines: dict[str, Scorer]
    chance: Chance
    history: History
    calibration: Calibration
    frame: pd.DataFrame
    by_entry: NDArray[np.float32]
    bundle: Bundle


def train(study: Study, data: Gathered) -> Trained:
    """The steps of a training with a calibration part, one after another."""
    import torch

    from ae_pipeline.detectors.baselines import BASELINES, PrincipalComponents
    from ae_pipeline.detectors.chance import Chance
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.jobs.fit import Fitted, Prepared, make_bundle
    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.scoring.judge import Judge, raw_scores
    from ae_pipeline.training.loop import fit

    samples, division = data.samples, divide(data.samples.meta, study.split)
    torch.manual_seed(0)
    inside = samples.take(division.rows("train"))
    scaler = Scaler.fit(inside, 0)
    model = Autoencoder(
        study.model,
        samples.layout,
        shape=samples.shape,
        columns=samples.columns,
        has_missing=samples.layout == "table",
    )
    held = samples.take(division.rows("validation"))
    fitted, history = fit(model, inside, held, scaler, study.training)
    baselines: dict[str, Any] = {
        name: scorer.fit(inside, scaler, latent_dim=study.model.latent_dim, seed=0)
        for name, scorer in BASELINES.items()
    }
    rows = np.concatenate([division.rows("calibration"), division.rows("test")])
    ensemble = Ensemble.fit(fitted, inside, reference=held, seed=0)
    frame, scores, _ = raw_scores(ensemble, baselines, samples=samples.take(rows))
    frame["part"] = division.part[rows]
    pca = baselines["pca"]
    assert isinstance(pca, PrincipalComponents)
    likelihood = fitted.model.likelihood
    families = likelihood.uniform or likelihood.by_column
    frame["pca_loss"] = pca.losses(samples.take(rows), families)
    chance = Chance.fit(inside, pca, families=families)
    frame["chance_loss"] = chance.losses(samples.take(rows))
    mask = samples.take(rows).mask
    frame["n_observed"] = int(np.prod(samples.shape)) if mask is None else mask.sum(1)
    chosen = (frame["part"] == "calibration").to_numpy()
    judge, _ = Judge.fit(
        frame[chosen].reset_index(drop=True),
        scores.by_entry[chosen],
        unit=division.unit,
        detection=study.detection,
        windowed=samples.kind == "eeg",
    )
    prepared = Prepared(study, data, division, known=None, key="")
    bundle = make_bundle(prepared, Fitted(ensemble, baselines, chance, history), judge=judge)
    return Trained(
        study,
        data,
        division,
        fitted,
        baselines,
        chance,
        history,
        judge.calibration,
        frame,
        scores.by_entry,
        bundle,
    )


def assert_equal_scores(trained: Trained, one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal rows, scores to 1e-5.

    A p-value may differ by the calibration scores that are as close: the same answers, mostly.
    """
    assert list(one) == list(other)
    for name in map(str, one):
        a, b = one[name].to_numpy(), other[name].to_numpy()
        if name.startswith(("score", "top_deviation")):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=name)
        elif name == "p_value":
            known = trained.calibration.scores["score"]
            equal = np.abs(known - one["score"].to_numpy()[:, None]) <= 1e-5
            assert (np.abs(a - b) <= equal.sum(1) / (len(known) + 1) + 1e-9).all()
        elif np.issubdtype(a.dtype, np.floating):
            np.testing.assert_allclose(a, b, rtol=1e-5, err_msg=name)
        else:
            assert a.tolist() == b.tolist(), name


@cache
def eeg() -> Trained:
    """Ten subjects of a minute each, windows of 1 s with half of it shared."""
    from ae_pipeline.eeg.survey import survey
    from ae_pipeline.ingest.materialise import materialise

    study = Study.model_validate(
        {
            "study": "tiny-eeg",
            "source": {"kind": "eeg", "path": "nowhere"},
            "preprocess": {"high_pass_hz": 1.0, "low_pass_hz": 40.0},
            "windows": {"length_s": 1.0, "stride_s": 0.5},
            "split": {"calibration": 0.4, "test": 0.2, "validation": 0.1},
            "model": MODEL,
            "training": TRAINING,
            "detection": {"false_alarms_per_hour": 20},
        }
    )
    assert study.preprocess is not None
    assert study.windows is not None
    recordings = [one_recording(f"Anna_{n:02d}", f"Anna{n:02d}") for n in range(10)]
    parts = [
        (r, survey(r, study.preprocess, line_freq_hz=50.0, sfreq_hz=SFREQ_HZ)) for r in recordings
    ]
    place = Path(tempfile.mkdtemp(prefix="ae-pipeline-tiny-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    samples = materialise(parts, study.windows, path=place)
    digests = {r.name: f"digest of {r.name}" for r in recordings}
    return train(study, Gathered(samples, digests, facts={"subjects": 10}, sfreq_hz=SFREQ_HZ))


def answers(n: int, seed: int = 0) -> Samples:
    """Six items that one trait moves, the last two turned round; one answer in twenty missing."""
    rng = np.random.default_rng(seed)
    trait = rng.standard_normal((n, 1))
    sign = np.array([1, 1, 1, 1, -1, -1])
    values = np.clip(np.rint(3 + trait * sign + 0.5 * rng.standard_normal((n, 6))), 1, 5)
    mask = rng.random((n, 6)) > 0.05
    names = tuple(f"Q{i}" for i in range(1, 7))
    levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    meta = pd.DataFrame({"recording": [f"Berta-{seed}-{i}" for i in range(n)]})
    meta["subject"] = meta["recording"]
    meta["score_total"] = values.sum(1)  # a column of the user's own, not a scorer
    return Samples(
        "questionnaire",
        np.where(mask, values, 0).astype(np.float32),
        meta,
        (Axis("item", names),),
        mask,
        tuple(Column(name, "ordinal", levels) for name in names),
    )


@cache
def table() -> Trained:
    """Three hundred respondents."""
    study = Study.model_validate(
        {
            "study": "tiny-table",
            "source": {"kind": "questionnaire", "path": "nowhere.csv", "items": ["Q*"]},
            "split": {"leave_out_below": 0},
            "model": {**MODEL, "latent_dim": 1},
            "training": TRAINING,
        }
    )
    return train(study, Gathered(answers(300), {"table": "digest of Berta"}))


def images(n: int, seed: int = 0) -> Samples:
    """A bright square at one of four places, 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 0.1, (n, 8, 8)).astype(np.float32)
    label = rng.integers(4, size=n)
    for i, place in enumerate(label):
        row, column = divmod(int(place), 2)
        values[i, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.9
    names = [f"Carla-{seed}-{i:05d}" for i in range(n)]
    meta = pd.DataFrame({"recording": names, "subject": names, "label": label})
    return Samples("mnist", values, meta, (Axis("row"), Axis("column")))


@cache
def pictures() -> Trained:
    """Four hundred images."""
    study = Study.model_validate(
        {
            "study": "tiny-images",
            "source": {"kind": "mnist"},
            "model": MODEL,
            "training": TRAINING,
        }
    )
    return train(study, Gathered(images(400), {"images": "digest of Carla"}))
