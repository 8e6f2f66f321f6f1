"""Servers of Prefect and MLflow on this machine, together, for as long as the command runs.

MLflow's is started by a guard (this file as a script) that reads a pipe from the command and ends
the server when the pipe closes, which the kernel sees to however the command ends, as Prefect's
does (:mod:`flows.server`): started by their own commands, both would outlive one that is killed.
Prefect's settings stand here, too, since they have to be there before it is imported.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

__all__ = ["PREFECT_START_S", "entrance", "find_servers", "prepare_environment", "up"]

PREFECT_PORT = 4200
START_S = 120
PATIENCE_S = 8


PREFECT_START_S = 90
"""Longest start of Prefect's own server: on a slow machine the first one makes the database."""


def prepare_environment(root: Path | None = None) -> None:
    """Set what Prefect reads from the environment at its import, where the user has not.

    Parameters
    ----------
    root : Path, optional
        The project's root; Prefect keeps its database in ``data/prefect`` under it.
    """
    from ae_pipeline.runtime.files import project_root

    defaults = {
        "DO_NOT_TRACK": "true",
        "PREFECT_HOME": str((root or project_root()).absolute() / "data" / "prefect"),
        # The terminal belongs to the command line; Prefect's record gets every line.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PREFECT_START_S),
        # One write for many tasks: sqlite spends seconds on locks otherwise.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def up(say: Callable[[str], None], prefect_port: int = PREFECT_PORT) -> None:
    """Start both servers, say where they are, and keep them until the process is stopped.

    Parameters
    ----------
    say : callable
        Told one line at a time.
    prefect_port : int
        Port of Prefect's server; MLflow's is in ``mlflow.yaml``.

    Raises
    ------
    StudyError
        Where one of them does not start.
    """
    from ae_pipeline.config import StudyError
    from ae_pipeline.runtime.files import project_root, write_json
    from ae_pipeline.tracking.commands import ui_command
    from ae_pipeline.tracking.settings import load_settings
    from flows.server import start_server

    root = project_root()
    prepare_environment(root)
    settings = load_settings(root)
    command, environment = ui_command(settings)
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    mlflow = f"http://{settings.server.host}:{settings.server.port}"
    note = _note(root)
    try:
        own = start_server(home / "server.log", True, port=prefect_port)
    except OSError as error:
        raise StudyError(
            f"Prefect's server did not start on port {prefect_port} ({error.strerror}); name "
            "another with --port"
        ) from None
    guard = _guarded(command, environment, log=home.parent / "mlflow-server.log")
    servers = own.process, guard
    try:
        for name, server, address in (
            ("Prefect", own.process, f"{own.address}/health"),
            ("MLflow", guard, f"{mlflow}/health"),
        ):
            if not _answers(address, server):
                raise StudyError(
                    f"{name}'s server did not start (its reasons are in {home.parent}); is its "
                    "port taken?"
                )
        write_json(note, {"prefect": own.address, "mlflow": mlflow, "process": os.getpid()})
        say(entrance(own.address))
        say(f"MLflow: {mlflow}")
        say("commands of this project use them; stop with Ctrl-C")
        signal.signal(signal.SIGTERM, _interrupted)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        raise StudyError(f"a server has ended; its reasons are in {home.parent}")
    except KeyboardInterrupt:
        return
    finally:
        note.unlink(missing_ok=True)
        assert guard.stdin is not None
        guard.stdin.close()
        own.stop()
        guard.wait(2 * PATIENCE_S)


def entrance(address: str) -> str:
    """Where the pages of Prefect's server are, and what they ask for, for a person."""
    from flows.server import api_token

    return (
        f"Prefect: {address.removesuffix('/api')} (password, asked for once per browser: "
        f"{api_token()}; kept in {os.environ['PREFECT_HOME']}/api-token)"
    )


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def _note(root: Path) -> Path:
    return root / "data" / "servers.json"


def find_servers(root: Path) -> dict[str, str]:
    """Addresses of what :func:`up` has started in this project; empty where nothing runs."""
    try:
        content = json.loads(_note(root).read_text(encoding="utf-8"))
        os.kill(content["process"], 0)
    except (OSError, ValueError, KeyError):
        return {}
    return {name: content[name] for name in ("prefect", "mlflow")}


def _guarded(
    command: Sequence[str], environment: Mapping[str, str], *, log: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", __file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **environment},
        )


def _answers(address: str, guard: subprocess.Popen[bytes]) -> bool:
    from urllib.request import ProxyHandler, build_opener

    ask, until = build_opener(ProxyHandler({})), time.monotonic() + START_S
    while time.monotonic() < until and guard.poll() is None:
        with suppress(OSError, HTTPException), ask.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
        time.sleep(0.3)
    return False


def _guard(command: Sequence[str]) -> int:
    """Run a server in this session until it ends or our parent does."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(PATIENCE_S)
        # what the server has started is of this session's group, and so are we
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
