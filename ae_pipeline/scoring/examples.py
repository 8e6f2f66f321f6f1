"""The worst and best windows or rows, kept with what is drawn of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Recording, Samples
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.judge import Judged
from ae_pipeline.scoring.tables import LATENTS, TIMES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Example",
    "pick_examples",
]


N_WORST = 6


N_BEST = 3


AT_A_TIME = 4096
"""Rows of a table that are turned into something else together."""


@dataclass(frozen=True)
class Example:
    """A handful of samples to look at, beside what the model makes of them.

    ``values`` and ``reconstructions`` are (m, *shape) in the data's units; ``frame`` has their
    m judged rows. ``normal`` are m windows with nothing unusual, each the one of the recording
    whose code is nearest, and ``normal_s`` their onsets (EEG, where there are any).
    """

    values: NDArray[np.float32]
    reconstructions: NDArray[np.float32]
    frame: pd.DataFrame
    normal: NDArray[np.float32] | None = None
    normal_s: NDArray[np.float64] | None = None


def pick_examples(
    bundle: Bundle, samples: Samples, *, frame: pd.DataFrame
) -> tuple[Example, Example]:
    """The most and the least abnormal samples, with reconstructions."""
    worst, best = _keepers()
    for keeper in (worst, best):
        keeper.offer(samples, frame["score"].to_numpy())
    shown = worst.shown(bundle, N_WORST), best.shown(bundle, N_BEST)
    return shown[0].example(frame), shown[1].example(frame)


def _keepers() -> tuple[_Keeper, _Keeper]:
    """For the worst and the best; several times as many as are shown, because windows overlap."""
    return _Keeper(8 * N_WORST, largest=True), _Keeper(8 * N_BEST, largest=False)


class _Rows:
    """Judged rows of a recording, on disk until the last of them is there.

    Two files without names: of a day's rows memory holds none while blocks of signal come and go.
    """

    def __init__(self, recording: Recording) -> None:
        from tempfile import TemporaryFile

        self.recording = recording
        self.rows = TemporaryFile()  # noqa: SIM115 (arrays read from it)
        self.by_entry = TemporaryFile()  # noqa: SIM115
        self.dtype: np.dtype[Any] | None = None
        self.words: dict[str, dict[Any, int]] = {}
        self.n_rows = self.n_entries = 0

    def add(self, judged: Judged) -> None:
        """The rows of the next block."""
        columns = {name: judged.meta[name].to_numpy() for name in TIMES}
        columns |= {**judged.columns, LATENTS: judged.latents}
        for name, values in columns.items():
            if values.dtype.kind not in "biuf":  # the same few words again and again
                known = self.words.setdefault(name, {})
                codes = [-1 if w is None else known.setdefault(w, len(known)) for w in values]
                columns[name] = np.array(codes, np.int16)
        if self.dtype is None:
            self.dtype = np.dtype([(n, v.dtype, v.shape[1:]) for n, v in columns.items()])
        table = np.empty(len(judged.meta), self.dtype)
        for name, values in columns.items():
            table[name] = values
        self.rows.write(table.tobytes())
        self.n_rows += len(table)
        self.n_entries = judged.by_entry.shape[1]
        self.by_entry.write(np.ascontiguousarray(judged.by_entry, np.float32).tobytes())

    def read(self) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Columns and codes of all rows, read a few at a time: they are large enough once."""
        import pandas as pd

        assert self.dtype is not None
        made: dict[str, Any] = {
            name: np.empty((self.n_rows, *self.dtype[name].shape), self.dtype[name].base)
            for name in self.dtype.names or ()
        }
        self.rows.seek(0)
        for start in range(0, self.n_rows, AT_A_TIME):
            table = np.fromfile(self.rows, self.dtype, AT_A_TIME)
            for name, values in made.items():
                values[start : start + len(table)] = table[name]
        codes = made.pop(LATENTS)
        for name, known in self.words.items():
            made[name] = _few_words(made[name], list(known))
        everywhere = np.zeros(self.n_rows, np.int8)
        one = self.recording
        for name, word in (("recording", one.name), ("subject", one.subject)):
            made[name] = _few_words(everywhere, [word])
        return pd.DataFrame(made, copy=False), codes

    def channels(self) -> NDArray[np.float32]:
        """By channel, (n, channels); it stays on disk, and memory has what was looked at."""
        self.by_entry.flush()
        return np.memmap(self.by_entry, np.float32, "r").reshape(-1, self.n_entries)

    def channels_of(self, row: int) -> NDArray[np.float32]:
        """One row of them, without what the system maps around it."""
        self.by_entry.seek(4 * self.n_entries * row)
        return np.fromfile(self.by_entry, np.float32, self.n_entries)


def _few_words(codes: NDArray[Any], words: list[str]) -> pd.Categorical:
    """A column of words of which there are few."""
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=pd.Index(words, dtype=object))


class _Keeper:
    """Keeps the ``size`` samples with the largest (smallest) scores while others stream by."""

    def __init__(self, size: int, largest: bool) -> None:
        self.size, self.sign = size, 1.0 if largest else -1.0
        self.score = np.empty(0)
        self.row = np.empty(0, np.intp)
        self.kept: Samples | None = None
        self.offered = 0

    def offer(self, samples: Samples, score: NDArray[np.float64]) -> None:
        """Samples that follow those offered before."""
        import pandas as pd

        known = len(self.score)
        every = np.concatenate([self.score, score])
        best = np.argsort(-self.sign * every, kind="stable")[: self.size]
        new = best[best >= known] - known
        offered, self.offered = self.offered, self.offered + len(score)
        if self.kept is not None and not len(new):
            return  # of a long recording nearly always: nothing is copied
        values, mask = samples.batch(new)
        meta = samples.meta.iloc[new]
        if self.kept is not None:
            meta = pd.concat([self.kept.meta, meta])
            values = np.concatenate([self.kept.values[:], values])
            if mask is not None and self.kept.mask is not None:
                mask = np.concatenate([self.kept.mask, mask])
        # those that stay come first in what is joined, then the new ones
        place = np.where(best < known, best, known + np.cumsum(best >= known) - 1)
        self.row = np.concatenate([self.row, new + offered])[place]
        self.score = every[best]
        self.kept = replace(
            samples,
            values=values[place],
            mask=None if mask is None else mask[place],
            meta=meta.iloc[place].reset_index(drop=True),
            raw=None,
            common=None,
        )

    def shown(self, bundle: Bundle, n: int) -> _Shown:
        """The ``n`` best of all offered that do not overlap in time."""
        assert self.kept is not None
        chosen = _apart(self.kept.meta, n)
        kept = self.kept.take(chosen)
        values, mask = kept.batch(slice(None))
        if mask is not None:
            values = np.where(mask, values, np.nan)
        return _Shown(values, bundle.autoencoder.reconstruct(kept), self.row[chosen])


@dataclass(frozen=True)
class _Shown:
    """Samples beside what the model makes of them, and which rows of all they are."""

    values: NDArray[np.float32]
    reconstructions: NDArray[np.float32]
    rows: NDArray[np.intp]

    def example(self, frame: pd.DataFrame) -> Example:
        """With their rows of what judges all."""
        judged = frame.iloc[self.rows].reset_index(drop=True)
        return Example(self.values, self.reconstructions, judged)


def _apart(meta: pd.DataFrame, n: int) -> list[int]:
    """The first ``n`` whose windows do not overlap (rows of tables never do)."""
    if "onset_s" not in meta:
        return list(range(len(meta)))[:n]
    chosen: list[int] = []
    onset, duration = meta["onset_s"].to_numpy(), meta["duration_s"].to_numpy()
    recording = meta["recording"].to_numpy()
    for row in range(len(meta)):
        if all(
            recording[row] != recording[other] or abs(onset[row] - onset[other]) >= duration[row]
            for other in chosen
        ):
            chosen.append(row)
        if len(chosen) == n:
            break
    return chosen
