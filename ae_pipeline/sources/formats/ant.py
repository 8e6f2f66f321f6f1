"""ANT recordings (``.cnt``), whose reader is a C library that ends the process on damaged files.

So they are read in a process of their own (:mod:`ae_pipeline.sources.apart`). Patients are never
asked for: that is nobody's business here, and crashes where a file has none (anonymised).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, InputError
from ae_pipeline.sources.apart import Apart, serve
from ae_pipeline.sources.formats.content import Content, Signal

__all__ = ["is_ant", "read_ant"]

Float = NDArray[np.float32]

LIVING = 4
"""Processes that are kept for files that may be asked for more; others are started again."""


def is_ant(path: Path) -> bool:
    """Whether a ``.cnt`` file is ANT's (RIFF, or RF64 where it is large) and not Neuroscan's."""
    if path.suffix.lower() != ".cnt" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in (b"RIFF", b"RF64")


def read_ant(path: Path) -> Content:
    """Open an ANT file without its library in this process.

    Raises
    ------
    InputError
        The library refuses the file, crashes or does not come to an end.
    """
    if importlib.util.find_spec("antio") is None:
        raise InputError(
            f"{path.name}: needs the package antio to be read; install it (pip install antio)"
        )
    status = path.stat()
    asked = (Path(os.path.abspath(path)), status.st_mtime_ns, status.st_size, os.getpid())
    held = _other(*asked).held
    names = tuple(held["names"])
    cuts = _joins(path, held["n_times"])

    def signal_of(rows: list[int]) -> Signal:
        def reader(start: int, stop: int) -> Float:
            return _read(_other(*asked), start, stop)[rows]

        return Signal(held["n_times"], (), reader, cuts)

    return Content(
        names=names,
        types=tuple(held["types"]),
        rates_hz=(held["sfreq_hz"],) * len(names),
        positions_m=np.full((len(names), 3), np.nan),
        annotations=tuple(Annotation(*one) for one in held["annotations"]),
        files=(path, *(file for file in (path.with_suffix(".seg"),) if file.is_file())),
        signal=signal_of,
        orig_time=held["orig_time"] and datetime.fromisoformat(held["orig_time"]),
        notes=("antio warned when opening it",) if held["warned"] else (),
    )


def _joins(path: Path, n_times: int) -> tuple[int, ...]:
    """Samples at which recording went on after a pause, as the ``.seg`` file beside says.

    Its lines hold start (days), fraction of a second and samples of each segment, at times
    without the first one.
    """
    file = path.with_suffix(".seg")
    if not file.is_file():
        return ()
    rows = [line.split() for line in file.read_text("latin-1").splitlines()[1:]]
    lengths = [int(row[-1]) for row in rows if row and row[-1].isdigit()]
    joins = n_times - np.cumsum(lengths[::-1], dtype=np.int64)
    return tuple(int(join) for join in joins[::-1] if 0 < join < n_times)


@lru_cache(maxsize=LIVING)
def _other(path: Path, changed_ns: int, n_bytes: int, for_process: int) -> Apart:
    return Apart(
        path,
        "ae_pipeline.sources.formats.ant",
        reader="antio, the library that reads ANT,",
        what="ANT CNT",
        advice="open it in the program that wrote it and export it again, or drop it",
    )


def _read(other: Apart, start: int, stop: int) -> Float:
    """(channels, stop - start) in microvolts."""
    n_channels = len(other.held["names"])
    content = other.ask(f"{start} {stop}", 4 * n_channels * (stop - start))
    return np.frombuffer(content, np.float32).reshape(n_channels, -1)


def _opened(path: Path) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """What the other process does."""
    import mne
    from antio import parser

    parser.read_subject_info = lambda *_, **__: ("", "", 0, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raw = mne.io.read_raw_ant(path, preload=False, verbose="WARNING")
    held = {
        "names": raw.ch_names,
        "types": raw.get_channel_types(),
        "sfreq_hz": float(raw.info["sfreq"]),
        "n_times": int(raw.n_times),
        "annotations": [
            (float(one["onset"]), float(one["duration"]), str(one["description"]))
            for one in raw.annotations
            if str(one["description"])
        ],
        "orig_time": raw.info["meas_date"] and raw.info["meas_date"].isoformat(),
        "warned": bool(caught),
    }

    def answer(question: str) -> bytes:
        start, stop = map(int, question.split())
        with np.errstate(over="ignore", invalid="ignore"):
            return bytes((raw[:, start:stop][0] * 1e6).astype("<f4").tobytes())

    return held, answer


if __name__ == "__main__":
    serve(lambda: _opened(Path(sys.argv[1])))
