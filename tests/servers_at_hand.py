"""Ports on which nobody listens."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        return int(port.getsockname()[1])
