"""A Prefect server that lives as long as the process that started it.

Prefect starts one by itself where it has no address, but leaves it running when the process is
killed. This one reads a pipe from its parent and stops when the pipe closes, which the kernel
sees to however the parent ends. The parent opens the port, so that there is none to guess and
the first request waits until the server is ready.

Run as a script, this file is the server: ``python server.py FILE_DESCRIPTOR_OF_THE_SOCKET``, with
``schedules`` behind it where it is to have pages and to look at the clock: a server that only keeps
a record does neither, and starts sooner.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OwnServer", "start_server"]

PATIENCE_S = 8


@dataclass(frozen=True)
class OwnServer:
    """A server that was started here."""

    address: str
    """Of its API; a request made at once is answered when the server is ready."""
    process: subprocess.Popen[bytes]
    owner: int
    """Process that may stop it; a fork of that process may not."""

    def stop(self) -> None:
        """Let the server write down what it has been told, and end."""
        if os.getpid() != self.owner or self.process.poll() is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S + 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(log: Path, schedules: bool = False) -> OwnServer:
    """Start a server that ends with this process.

    Parameters
    ----------
    log : Path
        File that what the server says is appended to.
    schedules : bool
        Whether it is to begin runs when their time has come, and to have pages.
    """
    with socket.create_server(("127.0.0.1", 0)) as port, log.open("ab") as output:
        address = f"http://127.0.0.1:{port.getsockname()[1]}/api"
        more = ["schedules"] if schedules else []
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(port.fileno()), *more],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[port.fileno()],
            # Ctrl-C is for us: the server is still needed to record that the run was stopped.
            start_new_session=True,
            env=os.environ
            | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}
            | {"PREFECT_SERVER_UI_API_URL": address},
        )
    server = OwnServer(address, process, os.getpid())
    atexit.register(server.stop)
    return server


def _serve(descriptor: int, schedules: bool) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=not schedules, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True
        time.sleep(PATIENCE_S)
        os._exit(1)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run([socket.socket(fileno=descriptor)])
    os._exit(0)  # everything is written; Prefect's threads would take their time


if __name__ == "__main__":
    _serve(int(sys.argv[1]), "schedules" in sys.argv[2:])
