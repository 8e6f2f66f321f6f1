"""A kind of data of another package: series of a wearable, one CSV a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import PositiveFloat

from ae_pipeline.data import Column, InputError, Layout, Samples, axes_of
from ae_pipeline.kind import Source, Words
from ae_pipeline.kinds.samples import SamplesKind
from ae_pipeline.runtime.files import write_frame
from ae_pipeline.scoring.bundle import Bundle


class WearableSource(Source):
    """Series of a wearable."""

    kind: Literal["wearable"] = "wearable"
    path: Path
    """Folder of CSV files, one a person, one column a sensor."""
    sfreq_hz: PositiveFloat = 50.0
    """Rows a second."""


class Wearable(SamplesKind):
    name = "wearable"
    layout: Layout = "series"
    source = WearableSource
    endings = (".csv",)
    words = Words(
        title="wearable",
        one="stretch",
        many="stretches",
        cases="people",
        holders="people",
        made="stretches",
        entries="sensors",
        entry_column="sensor",
        unit="g",
        unit_shown="g",
        loss="mean squared error",
        scores="series of a wearable, second by second",
    )
    defaults: Mapping[str, Any] = {
        "model": {
            "architecture": {"kind": "dense", "hidden": [16]},
            "objective": {"kind": "vanilla"},
            "latent_dim": 3,
        },
        "training": {"epochs": 6},
    }

    def files(self, path: Path | str) -> list[Path]:
        found = sorted(Path(path).glob("*.csv")) if Path(path).is_dir() else [Path(path)]
        if not found or not found[0].is_file():
            raise InputError(f"{path}: no CSV file")
        return found

    def read(
        self, paths: Sequence[Path], source: Any, *, columns: Sequence[Column] = ()
    ) -> tuple[Samples, tuple[str, ...]]:
        n = round(source.sfreq_hz)
        values, rows, sensors = [], [], ()
        for path in paths:
            table = pd.read_csv(path)
            signal, sensors = table.to_numpy(np.float32).T, tuple(table)
            for i in range(signal.shape[1] // n):
                values.append(signal[:, i * n : (i + 1) * n])
                rows.append((path.stem, path.stem, i, float(i), 1.0))
        meta = pd.DataFrame(
            rows, columns=["recording", "subject", "window", "onset_s", "duration_s"]
        )
        axes = axes_of(self.layout, sensors, sfreq_hz=source.sfreq_hz, unit=self.words.unit)
        return Samples(self.name, np.stack(values), meta, axes, sfreq_hz=source.sfreq_hz), ()

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        signal = np.concatenate(list(np.asarray(samples.values)), axis=1).T
        write_frame(path, pd.DataFrame(signal, columns=list(bundle.info.entries)))


KIND = Wearable()
