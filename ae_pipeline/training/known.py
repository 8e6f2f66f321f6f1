"""Labels and targets that a study names, read from its tables."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples
from ae_pipeline.models.heads import Head, Labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Known",
    "read_known",
]


MAX_CLASSES = 50


_KEYS = ("recording", "subject", "participant_id")


_IDENTITY = ("recording", "subject", "session", "window", "onset_s", "duration_s", "file", "set")


@dataclass(frozen=True)
class Known:
    """What is known of the samples' target.

    Parameters
    ----------
    head : Head
    values : array of shape (n,), float64
        Number of the class, or the number itself; NaN where not known.
    classes : tuple of str
        Names of the classes; empty for regression.
    unit : array of str, shape (n,)
        Subject of each sample, never on both sides of a split.
    files : tuple of Path
        Where labels came from, beside the data.
    """

    head: Head
    values: NDArray[np.float64]
    classes: tuple[str, ...]
    unit: NDArray[np.str_]
    files: tuple[Path, ...] = ()

    def labels(self, rows: NDArray[Any]) -> Labels:
        """For the layer on the code; numbers are standardised."""
        values = self.values[rows]
        if not self.classes:
            known = values[np.isfinite(values)]
            values = (values - known.mean()) / max(float(known.std()), 1e-12)
        return Labels(values.astype(np.float32), max(1, len(self.classes)))

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Where the target is known, shape (n,)."""
        return np.isfinite(self.values)


def read_known(head: Head, samples: Samples, *, beside: Path | None) -> Known:
    """The target of each sample, from the data itself or from a table of labels.

    Parameters
    ----------
    head : Head
    samples : Samples
        Everything a study reads.
    beside : Path, optional
        The study's source: a folder of recordings may hold ``participants.tsv``.

    Raises
    ------
    StudyError
        Where there is no such column, or it cannot be a target.
    InputError
        Where the labels cannot be used: too few, no number, a class with one member.
    """
    import pandas as pd

    column, files = _column(head, samples, beside=beside)
    unit = np.asarray(samples.meta["subject"].astype(str), dtype=np.str_)
    where = f"model.head.target {head.target!r}"
    if head.kind == "regress":
        numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
        lost = int((numbers.isna() & column.notna()).sum())
        if lost:
            raise InputError(
                f"{where}: {lost} values are no numbers; correct them, or use kind: classify"
            )
        values = np.array(numbers.to_numpy(np.float64, na_value=np.nan), dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        known = np.isfinite(values)
        if len(np.unique(unit[known])) < 3 or np.ptp(values[known]) == 0:
            raise InputError(
                f"{where}: {known.sum()} known values of {len(np.unique(unit[known]))} subjects, "
                "or all the same; a regression needs three subjects that differ"
            )
        return Known(head, values, (), unit, files)
    words = [_word(value) for value in column]
    classes = tuple(sorted({word for word in words if word is not None}, key=_natural))
    if len(classes) < 2:
        raise InputError(
            f"{where}: {'one class only' if classes else 'no label at all'}; name a column with at "
            "least two classes"
        )
    if len(classes) > MAX_CLASSES:
        raise InputError(
            f"{where}: {len(classes)} different values, at most {MAX_CLASSES} can be classes; "
            "use kind: regress for numbers"
        )
    place = {name: float(i) for i, name in enumerate(classes)}
    values = np.array([np.nan if word is None else place[word] for word in words], dtype=np.float64)
    for i, name in enumerate(classes):
        members = len(np.unique(unit[values == i]))
        if members < 2:
            thing = "row" if samples.layout != "series" else "subject"
            raise InputError(
                f"{where}: class {name!r} has one member ({thing}), so it cannot be both learned "
                "and checked; join it with another class or leave its label empty"
            )
    return Known(head, values, classes, unit, files)


def _column(
    head: Head, samples: Samples, *, beside: Path | None
) -> tuple[pd.Series[Any], tuple[Path, ...]]:
    """The target of each sample as it is written, and the file it came from."""
    meta = samples.meta
    if head.labels is None and head.target in meta and head.target not in _IDENTITY:
        return meta[head.target], ()
    if head.labels is None and head.target in samples.entries:
        raise StudyError(
            f"model.head.target: {head.target!r} is an input of the model; take it out of "
            "source.items to predict it"
        )
    file = head.labels
    if file is None and beside is not None and (beside / "participants.tsv").is_file():
        file = beside / "participants.tsv"
    if file is not None:
        return _from_table(head, file, meta=meta), (file,)
    if samples.layout == "series" and head.target in ("session", "task", "run", "acq"):
        short = {"session": "ses"}.get(head.target, head.target)
        found = meta["recording"].astype(str).str.extract(rf"(?:^|_){short}-([A-Za-z0-9]+)")[0]
        if found.notna().any():
            return found, ()
    there = [str(name) for name in meta if str(name) not in _IDENTITY]
    near = difflib.get_close_matches(head.target, there, 1)
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else f"there are {', '.join(there[:8])}"
        if there
        else "name a table of labels under model.head.labels"
    )
    raise StudyError(f"model.head.target: no column {head.target!r} beside the inputs; {hint}")


def _from_table(head: Head, file: Path, *, meta: pd.DataFrame) -> pd.Series[Any]:
    """A column of a table of labels, for each sample by its recording or subject."""
    import pandas as pd

    try:
        table = pd.read_csv(file, sep=None, engine="python", dtype=str, na_values=["n/a"])
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = getattr(error, "strerror", None) or "not a table"
        raise StudyError(f"model.head.labels: {file}: cannot be read ({reason})") from None
    lower = {str(name).lower(): name for name in table}
    key = next((lower[name] for name in _KEYS if name in lower), None)
    if key is None:
        raise StudyError(
            f"model.head.labels: {file.name} has no column {', '.join(_KEYS[:-1])} or {_KEYS[-1]}"
        )
    if head.target not in table:
        raise StudyError(
            f"model.head.target: {file.name} has no column {head.target!r}; it has "
            f"{', '.join(map(str, table.columns[:8]))}"
        )
    if table[key].duplicated().any():
        raise StudyError(f"model.head.labels: {file.name} names one {key} twice")
    strip = re.compile(r"^sub-")
    by_name = dict(
        zip(table[key].map(lambda v: strip.sub("", str(v))), table[head.target], strict=True)
    )
    wanted = meta["recording" if str(key).lower() == "recording" else "subject"].astype(str)
    found = wanted.map(lambda name: by_name.get(strip.sub("", name)))
    if found.isna().all():
        raise StudyError(
            f"model.head.labels: no {key} of {file.name} is among the data's; it has "
            f"{next(iter(by_name))!r}, the data {wanted.iloc[0]!r}"
        )
    return found


def _word(value: Any) -> str | None:
    """A class as text; None where not known."""
    import pandas as pd

    if value is None or value is pd.NA or value != value or str(value).strip() == "":
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
