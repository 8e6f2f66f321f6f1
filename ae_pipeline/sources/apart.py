"""Readers that can end or exhaust their process, each run in a process of its own.

A C or Rust library that crashes on a damaged file, takes all memory or never returns costs one
line about this file, and the rest of the batch is done. The process opens the file, describes it
in one line of JSON, then answers requests for bytes until nobody asks any more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess  # nosec B404 (our own interpreter, our own modules)
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ae_pipeline.data import InputError

__all__ = ["PATIENCE_S", "Apart", "serve"]

PATIENCE_S = 60.0
"""How long an answer may take; on some damaged files a library never returns."""

Answer = Callable[[str], bytes]


class Apart:
    """A process that has a file open.

    Parameters
    ----------
    path : Path
    module : str
        Run with ``python -m``; calls :func:`serve`.
    reader : str
        What reads the file, in messages: ``antio, the library that reads ANT``.
    what : str
        What the file should be, in messages: ``ANT CNT``.
    advice : str
        What to do with a file that cannot be read.
    arguments : sequence of str
        Further arguments of the module, after the path.
    bounded : bool
        The process may take a bounded amount of memory only, and aborts beyond it.

    Raises
    ------
    InputError
        The reader refuses the file, crashes or does not return.
    """

    def __init__(
        self,
        path: Path,
        module: str,
        *,
        reader: str,
        what: str,
        advice: str,
        arguments: Sequence[str] = (),
        bounded: bool = False,
    ) -> None:
        self.bounded = bounded
        self.path, self.reader, self.what, self.advice = path, reader, what, advice
        self.lock = threading.Lock()
        self.process = subprocess.Popen(  # nosec B603
            [sys.executable, "-P", "-m", module, os.fspath(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.close = weakref.finalize(self, _end, self.process)
        self.late = False
        n_bytes = int.from_bytes(self._answer(8), "little")
        self.held: dict[str, Any] = json.loads(self._answer(n_bytes))
        if "refused" in self.held:
            raise InputError(f"{path}: {self.held['refused']}")

    def ask(self, question: str, n_bytes: int) -> bytes:
        """The answer to a question, of known length."""
        with self.lock:
            try:
                assert self.process.stdin is not None
                self.process.stdin.write(f"{question}\n".encode())
                self.process.stdin.flush()
            except OSError:  # it died before; the answer says how
                pass
            return self._answer(n_bytes)

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
        if self.late:
            return (
                f"{self.reader} did not finish reading the file within {PATIENCE_S:g} s; the file "
                f"is probably damaged; {self.advice}"
            )
        if code == -signal.SIGXCPU:
            return f"takes too long to be read; {self.advice}"
        if code == -signal.SIGABRT and self.bounded:
            return f"needs too much memory: damaged, or a cell far from the others; {self.advice}"
        if code < 0:
            name = signal.Signals(-code).name
            return f"crashed {self.reader} ({name}); the file is damaged; {self.advice}"
        return f"cannot be read as {self.what}: damaged, truncated or another format; {self.advice}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # what it was asked for is of no interest any more
            pass
    process.wait()


def serve(
    opened: Callable[[], tuple[dict[str, Any], Answer]],
    *,
    memory_mb: int | None = None,
    cpu_s: int | None = None,
) -> None:
    """Describe a file on stdout and answer questions about it: what the other process does.

    Parameters
    ----------
    opened : callable
        Opens the file; returns what is said of it (JSON) and a function that answers questions.
    memory_mb, cpu_s : int, optional
        Most memory beyond that in use at the start, and most processor time.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _limit(memory_mb, cpu_s)
    try:
        held, answer = opened()
    except InputError as error:
        held, answer = {"refused": str(error)}, _nothing
    except MemoryError:
        told = f"needs more than {memory_mb} MB of memory to be read as a table"
        held, answer = {"refused": told + "; save the used cells as CSV"}, _nothing
    said = json.dumps(held).encode()
    answers.write(len(said).to_bytes(8, "little") + said)
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(answer(line.decode().strip()))
        answers.flush()


def _nothing(question: str) -> bytes:
    return b""


def _limit(memory_mb: int | None, cpu_s: int | None) -> None:
    if sys.platform != "linux":  # others do not bound address space
        return
    import resource

    if memory_mb is not None:
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = in_use + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
