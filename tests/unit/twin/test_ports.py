"""Ports: a fixed one must be free, others are chosen."""

from __future__ import annotations

import socket

import pytest

from demo.twin.ports import LOOPBACK, choose_port, is_free
from voc.errors import ConfigError

VARIABLE = "NIGHTFORGE_TEST_PORT"


def test_a_taken_port_says_which_setting_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv(VARIABLE, str(port))
        with pytest.raises(ConfigError, match=rf"{VARIABLE} asks for port {port}, which is taken"):
            choose_port(VARIABLE)


def test_a_preferred_port_that_is_taken_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert choose_port(VARIABLE, port) != port


@pytest.mark.parametrize("value", ["0", "70000", "http"])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigError, match="Expected"):
        choose_port(VARIABLE)
