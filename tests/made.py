"""Small samples of each kind with some structure to learn, made rather than read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ae_pipeline.data import Axis, Column, Layout, Samples, Windows

SFREQ_HZ = 64.0


def eeg(n: int = 40, channels: int = 4, length: int = 33, seed: int = 0) -> Samples:
    """Overlapping windows (microvolts) over one signal: two rhythms seen by all, and noise."""
    rng = np.random.default_rng(seed)
    step = length // 3
    n_times = step * (n - 1) + length
    time_s = np.arange(n_times) / SFREQ_HZ
    rhythms = np.sin(2 * np.pi * np.array([[6.0], [10.0]]) * time_s + rng.random((2, 1)))
    mixing = np.random.default_rng(9).normal(size=(channels, 2))  # one head for every seed
    seen = mixing @ (rhythms * (1 + rng.random((2, n_times))))
    gain = 10.0 * 2.0 ** np.arange(channels)[:, None]
    signal = gain * (seen + 0.3 * rng.normal(size=seen.shape))
    names = tuple(f"E{i + 1}" for i in range(channels))
    return Samples(
        "eeg",
        Windows(np.ascontiguousarray(signal.T, np.float32), np.arange(n) * step, length),
        meta(n),
        (Axis("channel", names, unit="uV"), Axis("time", step=1 / SFREQ_HZ, unit="s")),
        sfreq_hz=SFREQ_HZ,
    )


def digits(n: int = 40, size: int = 12, seed: int = 0) -> Samples:
    """Images (0 to 1) of a bright disc somewhere."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    middle = rng.uniform(2, size - 2, (n, 2, 1, 1))
    distance = np.hypot(rows - middle[:, 0], columns - middle[:, 1])
    values = np.clip(3 - distance, 0, 1).astype(np.float32)
    return Samples("mnist", values, meta(n), (Axis("row"), Axis("column")))


COLUMNS = (
    Column("age", "continuous"),
    *(Column(f"q{i}", "ordinal", (1.0, 2.0, 3.0, 4.0, 5.0)) for i in range(4)),
    Column("smokes", "binary", (1.0, 2.0)),
    Column("group", "nominal", (0.0, 1.0, 2.0)),
    Column("rt", "continuous"),
    *(Column(f"r{i}", "ordinal", (1.0, 2.0, 3.0, 4.0, 5.0)) for i in range(4)),
)


def answers(n: int = 80, missing: float = 0.1, seed: int = 0) -> Samples:
    """Answers that one trait explains, some of them missing (0 where they are)."""
    rng = np.random.default_rng(seed)
    trait = rng.normal(size=n)
    columns = []
    for column in COLUMNS:
        own = trait + 0.7 * rng.normal(size=n)
        if column.levels:
            low, high = column.levels[0], column.levels[-1]
            own = np.clip(np.rint((low + high) / 2 + own * (high - low) / 4), low, high)
        else:
            own = 40 + 10 * own
        columns.append(own)
    values = np.stack(columns, 1).astype(np.float32)
    mask = rng.random(values.shape) >= missing
    return Samples(
        "questionnaire",
        np.where(mask, values, np.float32(0)),
        meta(n),
        (Axis("item", tuple(column.name for column in COLUMNS)),),
        mask=mask if missing else None,
        columns=COLUMNS,
    )


def meta(n: int) -> pd.DataFrame:
    return pd.DataFrame({"recording": [f"r{i}" for i in range(n)], "subject": "s"})


LAYOUTS: dict[str, Layout] = {"eeg": "series", "mnist": "grid", "questionnaire": "table"}


def of_kind(kind: str, n: int = 40, seed: int = 0) -> Samples:
    makers = {"eeg": eeg, "mnist": digits, "questionnaire": answers}
    return makers[kind](n, seed=seed)


def as_array(samples: Samples) -> Samples:
    """The same windows with a copy of each of them in one array."""
    return replace(samples, values=np.asarray(samples.values[:]))
