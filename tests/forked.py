"""The command line without waiting for its imports, which take longer than what most tests type.

One process imports what commands import and then waits. What is typed as ``ae-pipeline`` becomes
a fork of it, with the folder, the environment, the standard streams and the exit status that the
typed command would have. Whether the installed command itself works (and imports what it needs by
itself) is shown in ``test_main_job.py`` and wherever a test starts ``.venv/bin/ae-pipeline``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

__all__ = ["ready"]

# What commands import while they run; none of it starts a thread, which a fork would lose.
MODULES = (
    "torch._dynamo",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.manifold",
    "sklearn.mixture",
    "scipy.signal",
    "scipy.optimize",
    "pyarrow.parquet",
    "matplotlib.figure",
    "mne.io",
    "flows.pipeline",
    "ae_pipeline.cli",
    "ae_pipeline.outputs.training",
)
TYPED = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    said = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(said).to_bytes(4, "big")], [0, 1, 2])
    line.sendall(said)
    sys.exit(int(line.recv(16) or b"137"))
"""


@contextlib.contextmanager
def ready(place: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder for the front of PATH whose ``ae-pipeline`` starts at once.

    Parameters
    ----------
    place : Path
        An empty folder.
    environment : mapping
        In which the modules are imported: Prefect reads its settings then.
    """
    address, log = place / "line", place / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, __file__, str(address)],
            env={**environment, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
            stdout=said,
            stderr=said,
        )
    try:
        until = time.monotonic() + 120
        while not address.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        (place / "bin").mkdir()
        command = place / "bin/ae-pipeline"
        command.write_text(TYPED.format(python=sys.executable, address=str(address)))
        command.chmod(0o755)
        yield place / "bin"
    finally:
        process.kill()
        process.wait()


def main(address: Path) -> None:
    """Import, then fork for everyone who calls."""
    for name in MODULES:
        importlib.import_module(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads: a fork would have one"
    gc.freeze()  # what is never looked at is never copied
    # nobody waits for those who attend to a call
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{address}.new")
        door.listen()
        os.rename(f"{address}.new", address)
        while True:
            line, _ = door.accept()
            with line:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    door.close()
                    attend(line)


def attend(line: socket.socket) -> None:
    """One command: run it in a process of its own, and say how it ended."""
    header, streams, _, _ = socket.recv_fds(line, 4, 3)
    with line.makefile("rb") as rest:
        words, folder, environment = json.loads(rest.read(int.from_bytes(header, "big")))
    pid = os.fork()
    if pid == 0:
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["ae-pipeline", *words]
        _run()
    for stream in streams:
        os.close(stream)
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if select.select([line], [], [], 0.02)[0]:  # who typed it has gone
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):
        line.send(str(os.waitstatus_to_exitcode(ended[1]) % 256).encode())
    os._exit(0)


def _run() -> NoReturn:
    """The command, and all of an interpreter's end but taking the modules apart again."""
    from ae_pipeline import cli

    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for them
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
