"""Protection of a web server on this computer against the web pages that a browser shows.

A page of any site may send requests to 127.0.0.1. Neither server has a setting for what is needed:
Prefect 3.8 checks no Host header, and MLflow 3.17 takes every origin on this computer for its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

__all__ = ["HERE", "OwnPages"]

HERE = ("127.0.0.1", "localhost")

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]


class OwnPages:
    """ASGI middleware that refuses requests of other pages and under other names.

    Parameters
    ----------
    app : ASGI application
    hosts : collection of str
        Names under which the server is reached, without the port; empty where the server checks
        them itself. Another name is a foreign one that was made to point here (DNS rebinding).
    origins : collection of str
        Origins of other pages that may use the server; its own is always one of them.
    """

    def __init__(
        self,
        app: Callable[[Scope, Channel, Channel], Awaitable[None]],
        hosts: Collection[str] = HERE,
        origins: Collection[str] = (),
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Channel, send: Channel) -> None:
        """Hand the request on, or answer 403 (400 for another host)."""
        kind = scope["type"]
        status = self._refusal(scope) if kind in ("http", "websocket") else None
        if status is None:
            await self.app(scope, receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            plain = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": status, "headers": plain})
            await send({"type": "http.response.body", "body": b"refused: another host or origin"})

    def _refusal(self, scope: Scope) -> int | None:
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or (self.hosts and hosts[0].rpartition(":")[0] not in self.hosts):
            return 400
        own = {f"http://{hosts[0]}", *self.origins}
        return 403 if any(n == b"origin" and value not in own for n, value in headers) else None
