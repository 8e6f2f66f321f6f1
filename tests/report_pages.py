"""A page of each kind, from views that are made up."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ae_pipeline.kind import kind_of
from ae_pipeline.report.pages import (
    group_page,
    index_page,
    recording_page,
    rows_page,
    train_page,
)
from ae_pipeline.report.pictures.truth import recording_strip, strips_by_kind
from ae_pipeline.report.views import (
    Evidence,
    GroupView,
    Headline,
    IndexEntry,
    IndexView,
    Number,
    RecordingView,
    RowsView,
    TrainView,
)

HEAD = Headline(
    "One stretch stands out, on Fp1.",
    (Number("windows flagged", "3 of 60"), Number("test loss", "0.2533", "0.241 to 0.266")),
    ("Look at 12 to 14 s.",),
    "Nearly: PCA finds the same stretch.",
    ("Calibrated on 4 subjects only.",),
)


def texts(*values: str | None) -> pd.Series[Any]:
    """A column that may hold lone surrogates, which Arrow's strings refuse."""
    return pd.Series(values, dtype="object")


def windows(n: int = 60, name: str = "sub-01_task-rest") -> pd.DataFrame:
    """Rows of scores.parquet as ``score`` leaves them for EEG today."""
    rng = np.random.default_rng(0)
    score = rng.gamma(4, 0.25, n)
    score[n // 3] = 6
    return pd.DataFrame(
        {
            "recording": texts(*[name] * n),
            "subject": "sub-01",
            "window": np.arange(n),
            "onset_s": np.arange(n) * 0.5,
            "duration_s": 2.0,
            "score": score,
            "score_pca": score * 1.1,
            "p_value": rng.uniform(0.01, 1, n),
            "q_value": np.nan,
            "flagged": score > 2,
            "top_channel": "Fp1",
            "top_band": None,
            "reason": pd.Series([None] * n, dtype="object"),
        }
    )


def latents(keys: pd.DataFrame, dim: int = 4) -> pd.DataFrame:
    z = np.random.default_rng(1).normal(size=(len(keys), dim))
    named = pd.DataFrame(z, columns=[f"z{i:02d}" for i in range(dim)])
    return pd.concat([keys[["recording", "window"]].reset_index(drop=True), named], axis=1)


def eeg_evidence(names: tuple[str, ...], m: int = 2) -> Evidence:
    rng = np.random.default_rng(2)
    values = rng.normal(0, 20, (m, len(names), 250)).astype(np.float32)
    return Evidence(values, values * 0.7, windows().head(m), 125.0, names, "µV")


def recording_view(names: tuple[str, ...] = ("Fp1", "Cz", "O2")) -> RecordingView:
    scores = windows()
    events = pd.DataFrame(
        {
            "onset": [10.0, 4.0],
            "duration": 2.0,
            "trial_type": "anomaly/unexplained",
            "channel": texts(names[0], ",".join(names)),
            "score": [6.0, 2.5],
            "p_value": [0.01, np.nan],
            "false_alarms_per_hour": [0.0, 3.2],
            "reason": texts(names[0], None),
        }
    )
    return RecordingView(
        title="sub-01_task-rest",
        headline=HEAD,
        scores=scores,
        events=events,
        threshold=2.0,
        quality=pd.DataFrame({"name": texts(names[0]), "reason": ["flat for 3.0 s"]}),
        channel_scores=np.random.default_rng(3).gamma(2, 1, (len(scores), len(names))),
        ch_names=names,
        worst=eeg_evidence(names),
        best=eeg_evidence(names, 1),
        bad_spans=[(40.0, 45.0)],
        latents=latents(scores),
        facts={"model": "bundle 8d21c0"},
    )


def train_view(kind: str = "eeg") -> TrainView:
    scores = windows().assign(part=["calibration"] * 30 + ["test"] * 30)
    return TrainView(
        title="resting-eeg",
        what=kind_of(kind).words.title,
        thing=kind_of(kind).words.one,
        headline=HEAD,
        hypothesis="eyes closed differs from eyes open",
        history=pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "train_loss": [0.5, 0.4, 0.3],
                "validation_loss": [0.5, 0.42, 0.44],
                "seconds": 1.0,
            }
        ),
        metrics={
            "parameters": 407834,
            "epochs": 3,
            "train_loss": 0.3,
            "validation_loss": 0.42,
            "test_loss": None,
            "baselines": {"pca": {"test_loss": 0.3121}, "robust_z": {"test_loss": None}},
            "beats_baselines": {"value": True, "difference": 0.0588, "interval": [0.04, 0.07]},
        },
        scores=scores,
        latents=latents(scores),
        color_by="subject",
        worst=eeg_evidence(("Fp1", "Cz")),
        layers=[("encoder.0", (32, 125), 4288), ("latent", (16,), 100)],
        facts={"seed": "0"},
        notes=("Losses are means per entry.",),
    )


def rows_view(kind: str, names: tuple[str, ...] = ("A1", "A2", "A3", "C1")) -> RowsView:
    rng = np.random.default_rng(4)
    n = 40
    scores = pd.DataFrame(
        {
            "recording": [f"{i}" for i in range(n)],
            "subject": [f"{i}" for i in range(n)],
            "score": rng.gamma(2, 1, n),
            "p_value": rng.uniform(size=n),
            "q_value": rng.uniform(size=n),
            "flagged": [True] * 2 + [False] * (n - 2),
            "top_item": names[0],
            "reason": None,
        }
    )
    z = pd.DataFrame(rng.normal(size=(n, 3)), columns=["z00", "z01", "z02"])
    frame = pd.concat([scores[["recording"]], z], axis=1)
    if kind == "mnist":
        frame["label"] = rng.integers(0, 10, n)
        images = rng.uniform(size=(3, 28, 28))
        shown = Evidence(images, images * 0.9, scores.head(3))
        items = None
    else:
        given = rng.integers(1, 7, (2, len(names))).astype(float)
        given[0, 1] = np.nan
        shown = Evidence(
            given,
            np.full_like(given, 3.2),
            scores.head(2),
            None,
            names,
            "answer",
            [range(1, 7)] * len(names),
        )
        items = pd.DataFrame(
            {"item": texts(*names), "mean_error": 0.4, "share_flagged": 0.05, "note": None}
        )
    return RowsView(
        title="rows",
        what=kind_of(kind).words.title,
        thing=kind_of(kind).words.one,
        things=kind_of(kind).words.many,
        headline=HEAD,
        scores=scores,
        latents=frame,
        worst=shown,
        best=shown,
        items=items,
    )


def group_view(names: tuple[str, ...] = ("sub-01", "sub-02", "sub-03", "bad")) -> GroupView:
    n = len(names)
    return GroupView(
        title="all",
        headline=HEAD,
        recordings=pd.DataFrame(
            {
                "recording": texts(*names),
                "subject": texts(*names),
                "usable_share": [0.9] * (n - 1) + [np.nan],
                "quality_findings": pd.array([1] * (n - 1) + [None], dtype="Int64"),
                "events_per_hour": [4.0] * (n - 1) + [np.nan],
                "score": [float(i) for i in range(n - 1)] + [np.nan],
                "p_value": [0.1] * (n - 1) + [np.nan],
                "q_value": np.nan,
                "flagged": pd.array([i == n - 2 for i in range(n - 1)] + [None], dtype="boolean"),
                "verdict": ["clean"] * (n - 1) + ["failed"],
                "reason": [None] * (n - 1) + ["bad.edf: is empty; copy it again"],
            }
        ),
        scores=pd.concat([windows(60, name) for name in names[:-1]]),
        threshold=3.0,
        links={name: f"{name}_report.html" for name in names[:-1]},
    )


def index_view() -> IndexView:
    """Two data sets as the demo shows them: a recording with planted events, altered images."""
    scores = windows()
    planted = pd.DataFrame(
        {
            "onset": [10.0, 16.0],
            "duration": [1.0, 2.0],
            "trial_type": ["anomaly/pop", "anomaly/blink"],
            "named": ["anomaly/pop", ""],
        }
    )
    signal = np.random.default_rng(5).normal(0, 20, 30 * 250)
    rows = rows_view("mnist")
    kinds = np.repeat(["as written", "negative"], [30, 10])
    altered = rows.scores.assign(kind=kinds[::-1])
    return IndexView(
        title="demo",
        headline=HEAD,
        first=(("EEG: open the worst recording", "eeg/a b#1.html"),),
        entries=[
            IndexEntry(
                "EEG",
                "3 of 4 events were found.",
                "eeg/a b#1.html",
                "EEG",
                numbers=HEAD.numbers,
                pictures=(
                    recording_strip(signal, 250, scores=scores, labelled=planted, threshold=2.0),
                ),
                baseline="Yes: a z-score does.",
                found=(("Found against planted.", pd.DataFrame({"planted": [4], "found": [3]})),),
                more=(("How it was trained", "eeg/t.html"),),
            ),
            IndexEntry(
                "Digits",
                "2 of 10 images were found.",
                "m",
                "images",
                pictures=(strips_by_kind(altered, ["as written", "negative"], what="images"),),
                cards=rows.worst,
            ),
        ],
        commands=(("Recordings", ("ae-pipeline init eeg recordings/ -o study.yaml",)),),
        facts={"version": "1"},
    )


PAGES = {
    "recording": lambda: recording_page(recording_view()),
    "train eeg": lambda: train_page(train_view()),
    "rows mnist": lambda: rows_page(rows_view("mnist")),
    "rows questionnaire": lambda: rows_page(rows_view("questionnaire")),
    "group": lambda: group_page(group_view()),
    "index": lambda: index_page(index_view()),
}


@cache
def page(name: str) -> str:
    """Drawing takes most of a second; the views are the same each time."""
    return PAGES[name]()
