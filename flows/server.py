"""A Prefect server that lives as long as the process that started it.

Prefect starts one by itself where it has no address, but leaves it running when the process is
killed. This one reads a pipe from its parent and stops when the pipe closes, which the kernel
sees to however the parent ends. The parent opens the port, so that there is none to guess and
the first request waits until the server is ready.

Run as a script, this file is the server: ``python server.py FILE_DESCRIPTOR_OF_THE_SOCKET``, with
``schedules`` behind it where it is to have pages and to look at the clock: a server that only keeps
a record does neither, and starts sooner.

Only our own clients and its own pages may use it: everything but the health check wants the token
of :func:`api_token`; pages of other origins and other host names are refused.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OwnServer", "api_token", "start_server"]

PATIENCE_S = 8
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"


def api_token() -> str:
    """Return the password of the servers that are started here; it is made at the first start.

    It is kept in ``PREFECT_HOME``, readable by its owner only.
    """
    file = Path(os.environ["PREFECT_HOME"]) / "api-token"
    if not file.is_file():
        new = file.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.api-token")
        # whole or not at all, and another command may be faster
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
            out.write(f"ae-pipeline:{secrets.token_urlsafe(24)}\n")
        with suppress(FileExistsError):
            os.link(new, file)
        new.unlink()
    file.chmod(0o600)
    return file.read_text(encoding="utf-8").strip()


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


def start_server(log: Path, schedules: bool = False, *, port: int = 0) -> OwnServer:
    """Start a server that ends with this process.

    Parameters
    ----------
    log : Path
        File that what the server says is appended to.
    schedules : bool
        Whether it is to begin runs when their time has come, and to have pages.
    port : int
        Any free one by default.
    """
    with socket.create_server(("127.0.0.1", port)) as listening, log.open("ab") as output:
        origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
        address = f"{origin}/api"
        more = ["schedules"] if schedules else []
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(listening.fileno()), *more],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[listening.fileno()],
            # Ctrl-C is for us: the server is still needed to record that the run was stopped.
            start_new_session=True,
            env=os.environ
            | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}
            | {
                "PREFECT_SERVER_UI_API_URL": address,
                "PREFECT_SERVER_API_AUTH_STRING": api_token(),
                ORIGINS: os.environ.get(ORIGINS) or origin,
                # without pages there is nobody whom another page could use
                "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": str(schedules).lower(),
            },
        )
    server = OwnServer(address, process, os.getpid())
    atexit.register(server.stop)
    return server


def _serve(descriptor: int, schedules: bool) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    from ae_pipeline.runtime.own_pages import OwnPages

    served = create_app(ephemeral=not schedules, final=True)
    app = OwnPages(served, origins=os.environ[ORIGINS].split(","))
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
