from __future__ import annotations

import pytest

from voc.records.checks import find_damage

REAL_TEXT = [
    "„MENÜ“ und „Spaß“, Größe, Maße, STRAßE, Äpfel, ÖL …",
    "CASSÉ\xa0! DÉJÀ\xa0» À\xa0vendre, l'été où naïf, cœur, ŒUVRE, “ÉTÉ”, CHÂTEAU",
    "HYVÄ… PÅ” TÄÄ’ ÅR BLÅ» «ÆRLIG» Ø…",
    "NÃO! MAÇÃ” IRMÃ… AMANHÃ\xa0! São Tomé, coração – não é bom…",
    "Zażółć gęślą jaźń ŁÓDŹ, źle świeci żółta dioda",
    "VÝŠE NÍŽE DRÁŽĎANY příliš žluťoučký kůň",
    "¿Qué? ¡SÍ! año ÑOÑO señor, perché” “è” così…",
    "25 °C, 10 €, 5 m², 3½, ½, CAFÉ™, Nescafé®, 5 µm ± 2",
    "İstanbul ŞİŞLİ ĞÜ ışık",
    "Привет, как дела? «Ёлка»",
    "こんにちは、世界！「カメラ」 你好，世界。 안녕하세요",
    "मैं घर, مرحبا بالعالم, שלום עולם, Ελληνικά",
    "TẤT CẢ ĐÂY LÀ Tiếng Việt",
    "👍🏽 super ❤️ 🏳️‍🌈 a\tb\r\nc",
]
MISREAD = [
    "é",
    "für",
    "Größe",
    "it’s",
    "5 €",
    "“x”",
    "…",
    "à la",
    "naïf",
    "25 °C",
    "moją",
    "szedł",
    "Привет",
    "Ελλ",
    "שלום",
]
MISREAD += ["❤", "👍", "日本語", "カメラ", "你好", "한국어", "หนัง", "coração", "¿qué", "Ça"]


def misread(text: str, encoding: str) -> str:
    """Decode UTF-8 bytes one by one with a one-byte encoding, undefined bytes as Latin-1: what browsers do."""
    parts = []
    for byte in text.encode():
        try:
            parts.append(bytes([byte]).decode(encoding))
        except UnicodeDecodeError:
            parts.append(chr(byte))
    return "".join(parts)


@pytest.mark.parametrize("text", REAL_TEXT)
def test_real_text_of_many_languages_is_left_alone(text: str) -> None:
    assert find_damage(text) is None


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", MISREAD)
def test_text_that_was_read_with_another_encoding_is_found(text: str, encoding: str) -> None:
    assert find_damage(f"say {misread(text, encoding)} again") is not None


def test_what_was_meant_is_told() -> None:
    assert find_damage("sch\u00c3\u00b6n") == "'Ã¶' at character 3, probably 'ö' read with another encoding"


@pytest.mark.parametrize("code", [*range(9), 11, 12, *range(14, 32), 0x7F, 0x80, 0x92, 0xFFFD])
def test_control_and_replacement_characters_are_damage(code: int) -> None:
    assert f"{code:04X} at character 1" in str(find_damage(f"a{chr(code)}b"))
