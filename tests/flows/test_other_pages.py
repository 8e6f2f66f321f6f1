"""Pages of other origins, and other host names, cannot use the servers; their own pages can.

The servers are those of ``ae-pipeline up``; the browser is a real one, and so is the attack.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from servers_at_hand import free_port

from flows.servers import find_servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """
import sys
import flows
with flows.using():
    from prefect import get_client
    with get_client(sync_client=True) as client:
        if sys.argv[1] == "make":
            flow = client.create_flow_from_name("inbox")
            client.create_deployment(flow, "the-deployment", entrypoint="a:b")
        print([(str(d.id), d.paused) for d in client.read_deployments()][0])
"""
SENT = """async ([address, options]) => {
    try {
        const answer = await fetch(address, options);
        return {status: answer.status, text: await answer.text()};
    } catch (error) {
        return {status: 0, text: String(error)};
    }
}"""


@dataclass
class Site:
    """Both servers, and a page of another origin."""

    place: Path
    prefect: str
    mlflow: str
    stranger: str
    said: str
    environment: dict[str, str]

    @property
    def token(self) -> str:
        return (self.place / "p/api-token").read_text().strip()

    def client(self, word: str) -> str:
        """What our own client says of the deployment."""
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, word],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.strip()


class Blank(http.server.BaseHTTPRequestHandler):
    """A page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>stranger</title>")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    ports = free_port(), free_port()
    (place / "mlflow.yaml").write_text(f"server: {{port: {ports[1]}}}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place / "p")}
    with (place / "log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "ae_pipeline", "up", "--port", str(ports[0])],
            stdout=log,
            stderr=log,
            cwd=place,
            env=environment,
            start_new_session=True,
        )
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        until = time.monotonic() + 200
        while not find_servers(place):
            assert up.poll() is None, (place / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.5)
        found = find_servers(place)
        time.sleep(0.5)
        yield Site(
            place,
            found["prefect"].removesuffix("/api"),
            found["mlflow"],
            f"http://127.0.0.1:{page.server_port}",
            (place / "log").read_text(),
            environment,
        )
    finally:
        page.shutdown()
        up.send_signal(signal.SIGTERM)
        up.wait(60)


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def answer(address: str, body: object = None, **headers: str) -> int:
    """Status of an answer to a request that no browser restrains."""
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return int(urlopen(Request(address, data, named), timeout=20).status)
    except HTTPError as error:
        return error.code


def test_our_clients_have_the_token_and_nobody_else_does(site: Site) -> None:
    file = site.place / "p/api-token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(site.token) > 30
    assert site.token in site.said, "'up' says how its page is opened"
    site.client("make")
    json_type = {"content_type": "application/json"}
    assert answer(f"{site.prefect}/api/admin/version") == 401
    assert answer(f"{site.prefect}/api/deployments/filter", {}, **json_type) in (401, 403)
    assert answer(f"{site.prefect}/api/admin/version", authorization="Basic eDp5") == 401


def test_another_host_name_is_refused(site: Site) -> None:
    from base64 import b64encode

    known = f"Basic {b64encode(site.token.encode()).decode()}"
    version = f"{site.prefect}/api/admin/version"
    assert answer(version, authorization=known) == 200
    for host in (
        "evil.example",
        f"evil.example:{site.prefect.rpartition(':')[2]}",
        "127.0.0.1.e:1",
    ):
        assert answer(version, authorization=known, host=host) == 400
        assert answer(f"{site.mlflow}/", host=host) == 403


def test_a_page_of_another_origin_reads_and_changes_nothing(site: Site, tab: Page) -> None:
    before = site.client("read")
    identity = before.split("'")[1]
    deployment = f"{site.prefect}/api/deployments/{identity}"
    tab.goto(site.stranger)
    assert tab.title() == "stranger"
    typed = {"Content-Type": "application/json"}
    change = json.dumps({"paused": True})
    attempts: list[tuple[str, dict[str, Any]]] = [
        (deployment, {}),
        (deployment, {"method": "PATCH", "headers": typed, "body": change}),
        (deployment, {"method": "POST", "mode": "no-cors", "body": change}),
        (f"{deployment}/create_flow_run", {"method": "POST", "mode": "no-cors", "body": "{}"}),
        (f"{deployment}/create_flow_run", {"method": "POST", "headers": typed, "body": "{}"}),
        (f"{site.prefect}/api/csrf-token?client=x", {}),
    ]
    search = "ajax-api/2.0/mlflow/experiments/search?max_results=5"
    create = f"{site.mlflow}/api/2.0/mlflow/experiments/create"
    named = json.dumps({"name": "by a stranger"})
    attempts += [
        (f"{site.mlflow}/{search}", {}),
        (create, {"method": "POST", "headers": typed, "body": named}),
        (create, {"method": "POST", "mode": "no-cors", "body": named}),
    ]
    for address, options in attempts:
        seen = tab.evaluate(SENT, [address, options])
        assert seen["status"] == 0, (address, options, seen)  # unreadable, whatever was answered
        assert identity not in seen["text"]
    assert site.client("read") == before
    with urlopen(f"{site.mlflow}/{search}", timeout=20) as known:
        assert b"by a stranger" not in known.read()


def test_their_own_pages_work(site: Site, tab: Page) -> None:
    tab.goto(f"{site.prefect}/deployments")
    tab.locator("input[type=password]").fill(site.token)
    tab.keyboard.press("Enter")
    tab.get_by_text(re.compile("the-deployment")).first.wait_for()
    tab.goto(f"{site.mlflow}/#/experiments")
    tab.get_by_text("Default", exact=True).first.wait_for()
