from __future__ import annotations

import socket

import pytest

from voc.records.language import UNDETERMINED, choose_language, detect_language

LONG = "Die Kamera verliert nachts ständig die Verbindung."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (LONG, "de"),
        ("La caméra perd sans arrêt\nsa connexion\r\nchaque nuit.", "fr"),
        ("Kamera ciągle traci połączenie w nocy.", "pl"),
        ("THE CAMERA KEEPS LOSING ITS CONNECTION AT NIGHT", "en"),
        ("夜になると接続が切れます。", "ja"),
    ],
)
def test_sentences_are_told_apart(text: str, code: str) -> None:
    found, score = detect_language(text)
    assert found == code
    assert 0 <= score <= 1


@pytest.mark.parametrize("text", ["", " \n", "👍👍", "12 + 3", "\u200b"])
def test_without_letters_nothing_is_detected(text: str) -> None:
    assert detect_language(text) == (UNDETERMINED, 0.0)


def test_detection_never_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    from voc.records import language

    language._open_model.cache_clear()
    assert detect_language(LONG)[0] == "de"


@pytest.mark.parametrize(
    ("declared", "detected", "text", "chosen"),
    [
        ("de", ("de", 0.99), LONG, ("de", False)),
        ("DE-at", ("de", 0.99), LONG, ("de", False)),
        ("en", ("de", 0.99), LONG, ("en", True)),
        ("en", ("de", 0.79), LONG, ("en", False)),
        ("en", ("de", 0.99), "sehr gut, danke", ("en", False)),
        ("nb", ("no", 0.99), LONG, ("nb", False)),
        ("hr", ("sr", 0.99), LONG, ("hr", False)),
        ("deu", ("de", 0.99), LONG, ("deu", False)),
        ("", ("de", 0.99), LONG, ("de", False)),
        (None, ("de", 0.6), LONG, ("de", False)),
        (None, ("de", 0.3), LONG, (UNDETERMINED, False)),
        (None, ("de", 0.99), "ok gut", (UNDETERMINED, False)),
        (" ", (UNDETERMINED, 0.0), "", (UNDETERMINED, False)),
    ],
)
def test_the_declared_language_counts_and_only_a_sure_contradiction_is_noted(
    declared: str | None, detected: tuple[str, float], text: str, chosen: tuple[str, bool]
) -> None:
    assert choose_language(declared, detected, text) == chosen
