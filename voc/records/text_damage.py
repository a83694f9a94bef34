"""Traces that a text was decoded with the wrong encoding or cut in the wrong place, found before it is learned.

Three kinds: U+FFFD, which a decoder writes where it gave up; control characters that no keyboard writes; and UTF-8 that was
read as Windows-1252 or Latin-1 (`Ã©` for `é`, `â€™` for `’`). The last kind is told from real text by sequences that real
spelling does not have; what real text does have, a capital before a closing quote („MENÜ“, „Spaß“, HYVÄ…), is left alone, so a
text whose only damage looks like that is missed. Text damaged through other code pages (1250, 1251) is not looked for.

Source: The Unicode Standard, table 3-7 (well-formed UTF-8 byte sequences); the Windows-1252 code page.
"""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")

# The characters that the bytes 80..BF become. Punctuation follows letters in real text too; the rest does not.
_PUNCTUATION = "‚„…‹‘’“”•–—›\xa0«·»´™®°²³ªº¡¿"
_TAIL = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_ODD_TAIL = "".join(c for c in "€ƒ†‡ˆ‰Š‹ŒŽ˜šœžŸ" + "".join(map(chr, range(0xA1, 0xC0))) if c not in _PUNCTUATION)

# Nearly all real text is done after this scan: a letter of the lead bytes C2..F0 and a character of the bytes 80..BF.
_SUSPICIOUS = re.compile(f"[\xc2-\xf0][{_TAIL}]")
_MOJIBAKE = re.compile(
    "|".join(
        [
            f"[ÂÃ][{_ODD_TAIL}°®²³ªº¡¿]",  # Â° Ã© ÃŸ: the Latin-1 letters and signs
            f"(?<=[a-zß-ÿ])[ÂÃÄÅ][{_PUNCTUATION}]",  # mojÄ… naÃ¯: no word goes on with a capital and ends in punctuation
            "(?<![^\\s])[ÂÃ]\xa0",  # à and the hard space, by themselves
            f"[ÄÅ][‚‡ˆ™†›¼½¾±³¥§¹º¡¿{_ODD_TAIL}](?=[a-zß-ÿ])",  # Å‚a: Polish, Czech, Turkish
            f"[\xc2-\xdf][{_TAIL}][\xc2-\xdf][{_ODD_TAIL}]",  # Ð¿Ñ€: Cyrillic, Greek, Hebrew, Arabic
            f"[\xc2-\xdf][{_ODD_TAIL}][\xc2-\xdf][{_TAIL}]",
            f"[ÎÏÐÑØÙ×][{_TAIL}][ÎÏÐÑØÙ×][{_TAIL}]",
            f"â[€„†‡‚ˆ‰Œœ˜š™][{_TAIL}]",  # â€™ â‚¬ âœ…: typographic marks, currencies, symbols
            f"ã[€‚ƒ][{_TAIL}]",  # Japanese
            f"[à-ï][{_TAIL}][{_TAIL}][à-ï][{_TAIL}][{_TAIL}]",  # Chinese, Korean, Thai, Hindi
            f"ï[¼½»][{_TAIL}]",  # full-width punctuation, the byte order mark
            f"ðŸ[{_TAIL}]",  # emoji
        ]
    )
)


def find_damage(text: str) -> str | None:
    """Describe the first trace of damage in a text; None if there is none."""
    found = _CONTROL.search(text)
    if found is not None:
        return f"{_name(found[0])} at character {found.start()}"
    if text.isascii() or _SUSPICIOUS.search(text) is None:
        return None
    found = _MOJIBAKE.search(text)
    if found is None:
        return None
    meant = _decode_again(found[0])
    return f"{found[0]!r} at character {found.start()}" + (
        f", probably {meant!r} read with another encoding" if meant else ""
    )


def _name(character: str) -> str:
    if character == "\ufffd":
        return "the replacement character U+FFFD"
    return f"the control character U+{ord(character):04X}"


def _decode_again(text: str) -> str:
    """Return what the bytes of a misread piece say in UTF-8; empty if they are cut off."""
    raw = b"".join(_to_byte(character) for character in text)
    return raw.decode("utf-8", "ignore")


def _to_byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1", "ignore")  # the five bytes that Windows-1252 leaves undefined
