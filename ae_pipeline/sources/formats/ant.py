"""ANT recordings (``.cnt``), whose reader is a C library that ends the process on damaged files.

So another process reads them: it opens the file through MNE, says what it holds in a line of JSON,
and sends the samples it is asked for. Where it dies, that is one line about this file, and the
others of a batch are scored. Patients are never asked for: that is nobody's business here, and
crashes where a file has none (anonymised).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess  # nosec B404 (our own interpreter, our own module)
import sys
import threading
import warnings
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, InputError
from ae_pipeline.sources.formats.content import MNE_WARNED, Content, Signal

__all__ = ["is_ant", "read_ant"]

Float = NDArray[np.float32]

LIVING = 4
"""Processes that are kept for files that may be asked for more; others are started again."""

PATIENCE_S = 60.0
"""How long an answer may take; on some damaged files the library never ends."""


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

    def signal_of(rows: list[int]) -> Signal:
        def reader(start: int, stop: int) -> Float:
            return _other(*asked).read(start, stop)[rows]

        return Signal(held["n_times"], (), reader)

    return Content(
        names=names,
        types=tuple(held["types"]),
        rates_hz=(held["sfreq_hz"],) * len(names),
        positions_m=np.full((len(names), 3), np.nan),
        annotations=tuple(Annotation(*one) for one in held["annotations"]),
        files=(path,),
        signal=signal_of,
        notes=(MNE_WARNED,) if held["warned"] else (),
    )


class _Other:
    """A process that has the file open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.process = subprocess.Popen(  # nosec B603
            [sys.executable, "-P", "-m", "ae_pipeline.sources.formats.ant", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _end, self.process)
        self.late = False
        n_bytes = int.from_bytes(self._answer(8), "little")
        self.held: dict[str, Any] = json.loads(self._answer(n_bytes))

    def read(self, start: int, stop: int) -> Float:
        """(channels, stop - start) in microvolts."""
        n_channels = len(self.held["names"])
        with self.lock:
            try:
                assert self.process.stdin is not None
                self.process.stdin.write(f"{start} {stop}\n".encode())
                self.process.stdin.flush()
            except OSError:  # it died before; the answer says how
                pass
            content = self._answer(4 * n_channels * (stop - start))
        return np.frombuffer(content, np.float32).reshape(n_channels, -1)

    def _answer(self, n_bytes: int) -> bytes:
        assert self.process.stdout is not None
        watch = threading.Timer(PATIENCE_S, self._give_up)
        watch.start()
        try:
            content = self.process.stdout.read(n_bytes)
        finally:
            watch.cancel()
        if len(content) < n_bytes:
            raise InputError(f"{self.path.name}: {self._why()}")
        return content

    def _give_up(self) -> None:
        self.late = True
        self.process.kill()

    def _why(self) -> str:
        code = self.process.wait()
        advice = "open it in the program that wrote it and export it again, or drop it"
        if self.late:
            return f"antio, which reads ANT, came to no end in {PATIENCE_S:g} s: damaged; {advice}"
        if code < 0:
            name = signal.Signals(-code).name
            return f"crashed antio, the library that reads ANT ({name}): damaged; {advice}"
        return f"cannot be read as ANT CNT: damaged, truncated or another format; {advice}"


@lru_cache(maxsize=LIVING)
def _other(path: Path, changed_ns: int, n_bytes: int, for_process: int) -> _Other:
    return _Other(path)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # what it was asked for is of no interest any more
            pass
    process.wait()


def _serve(path: Path) -> None:
    """What the other process does, until nobody asks any more."""
    import mne
    from antio import parser

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints is no answer
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
        "warned": bool(caught),
    }
    said = json.dumps(held).encode()
    answers.write(len(said).to_bytes(8, "little") + said)
    answers.flush()
    for line in sys.stdin.buffer:
        start, stop = map(int, line.split())
        with np.errstate(over="ignore", invalid="ignore"):
            answers.write((raw[:, start:stop][0] * 1e6).astype("<f4").tobytes())
        answers.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
