"""Both servers together, on this computer only, and none of them left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from servers_at_hand import free_port

from flows.servers import find_servers

ROOT = Path(__file__).resolve().parents[2]


def alive(session: str) -> list[str]:
    """Processes of servers that were started from this session's folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"AE_TEST={session}".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_servers_answer_here_and_end_however_the_command_ends(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    (tmp_path / "mlflow.yaml").write_text(f"server: {{port: {ports[1]}}}\n")
    assert find_servers(tmp_path) == {}
    mark = os.urandom(4).hex()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from ae_pipeline.cli import main; main()",
                "up",
                "--port",
                str(ports[0]),
            ],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            start_new_session=True,
            env=environment
            | {"PYTHONPATH": str(ROOT), "AE_TEST": mark, "PREFECT_HOME": str(tmp_path / "p")},
        )
    try:
        until = time.monotonic() + 150
        while "stop with Ctrl-C" not in (tmp_path / "log").read_text():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.3)
        servers = find_servers(tmp_path)
        assert servers["prefect"] == f"http://127.0.0.1:{ports[0]}/api"
        for address in (f"{servers['prefect']}/health", f"{servers['mlflow']}/health"):
            assert urlopen(address, timeout=10).status == 200
        listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
        for port in ports:
            mine = [line.split()[1] for line in listening if f":{port:04X} 00000000" in line]
            assert mine
            assert all(address.startswith("0100007F:") for address in mine), "localhost only"
        assert alive(mark)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until = time.monotonic() + 30
    while alive(mark):
        assert time.monotonic() < until, alive(mark)
        time.sleep(0.3)
    assert find_servers(tmp_path) == {}, "a note of a process that is gone counts for nothing"
    assert json.loads((tmp_path / "data/servers.json").read_text())["process"] == process.pid
