"""Ports on loopback: a configured one must be free, others are chosen."""

from __future__ import annotations

import os
import socket

from voc.errors import ConfigError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Tell whether nobody listens on the loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(variable: str, preferred: int | None = None) -> int:
    """Return the port that an environment variable fixes, else the preferred one if it is free, else any free one.

    Raises:
        ConfigError: If the fixed port is not a port or is taken.
    """
    fixed = os.environ.get(variable)
    if fixed:
        if not (fixed.isdigit() and 0 < int(fixed) < 65536):
            raise ConfigError(f"{variable} is {fixed!r}", expected="a port from 1 to 65535")
        if not is_free(int(fixed)):
            raise ConfigError(
                f"{variable} asks for port {fixed}, which is taken",
                expected="a free port on loopback",
                remedy=f"end what listens there, or set {variable} to another port, or unset it to have one chosen",
            )
        return int(fixed)
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
