"""The rows that both sides of `data_vs_datasets` read: VOC comments and general chats in the contract's JSONL.

    python -m benchmarks.study_rows --rows 15000 --output DIR

Three rows of four are VOC rows. One VOC row in 500 is spoiled (a label outside the taxonomy, a segment that is not in the
comment), so that both sides have something to refuse, and the counts can be compared.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voc.taxonomy import LEVELS, Leaf, format_taxonomy

VOC_SHARE = 0.75
SPOILED_EVERY = 500
TAXONOMY_FILE, VOC_FILE, GENERAL_FILE = "taxonomy.csv", "train.jsonl", "general.jsonl"

# A stand-in until the study corpus can be made at any size: words of several scripts, sizes like the study's.
_WORDS = {
    "en": "the camera app battery night alarm keeps losing connection after every update and support never replied",
    "de": "die Kamera verliert nachts ständig Verbindung obwohl das WLAN völlig einwandfrei läuft ärgerlich",
    "fr": "la caméra perd sans arrêt sa connexion après chaque mise à jour c'est vraiment très décevant",
    "es": "la cámara pierde la conexión cada noche después de actualizar ¡qué decepción! nadie contesta",
    "ja": "夜になる と 接続 が 切れます アプリ の 更新 後 通知 が 届かなく なりました 残念 です",
    "zh": "晚上 经常 掉线 应用 更新 以后 通知 收不到 客服 一直 没有 回复 画质 倒是 清晰",
    "ru": "камера постоянно теряет соединение ночью после обновления приложение тормозит и вылетает",
}
_EMOTIONS = ("negative", "neutral", "positive", "angry", "disappointed")


def write_rows(folder: Path, num_rows: int) -> Path:
    """Write taxonomy, VOC rows and general rows into `folder`, unless they are there, and return it.

    Args:
        folder: Where they go; complete when it is there.
        num_rows: VOC and general rows together.
    """
    if folder.is_dir():
        return folder
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    num_voc = round(num_rows * VOC_SHARE)
    leaves = _make_leaves()
    (draft / TAXONOMY_FILE).write_text(format_taxonomy(leaves), encoding="utf-8")
    rng = random.Random(0)
    _write_lines(draft / VOC_FILE, (_spoil(_make_voc_row(rng, leaves, i), i) for i in range(num_voc)))
    _write_lines(draft / GENERAL_FILE, (_make_chat(rng) for _ in range(num_rows - num_voc)))
    draft.rename(folder)
    return folder


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _spoil(row: dict[str, Any], number: int) -> dict[str, Any]:
    if number % SPOILED_EVERY == 7 and row["segments"]:
        field, value = ("L4", "No such leaf") if number // SPOILED_EVERY % 2 else ("content", "not in it")
        row["segments"][0][field] = value
    return row


def _make_leaves() -> list[Leaf]:
    return [
        Leaf((f"Area {i // 142}", f"Topic {i // 24}", f"Aspect {i // 4}", f"Issue {i}"), f"says that issue {i} occurs")
        for i in range(1420)
    ]


def _make_voc_row(rng: random.Random, leaves: list[Leaf], number: int) -> dict[str, Any]:
    lang = rng.choice(list(_WORDS))
    contents = [
        " ".join(rng.choices(_WORDS[lang].split(), k=rng.randint(5, 25))) + rng.choice(".!?😡")
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))
    ]
    segments = [
        {
            "content": content,
            **dict(zip(LEVELS, leaves[int(1420 * rng.random() ** 3)].path, strict=True)),
            "emotion": rng.choice(_EMOTIONS),
        }
        for content in contents
    ]
    day = f"2026-{1 + number % 12:02}-{1 + number % 28:02}"
    return {
        "id": f"voc-{number:08}",
        "comment": " ".join(contents),
        "segments": segments if number % 25 else [],
        "lang": lang,
        "source": "store",
        "created_at": day,
    }


def _make_chat(rng: random.Random) -> dict[str, Any]:
    def say(longest: int) -> str:
        return " ".join(rng.choices(_WORDS["en"].split(), k=rng.randint(10, longest)))

    turns = [{"role": "user", "content": say(60)}, {"role": "assistant", "content": say(400)}]
    if rng.random() < 0.2:
        turns += [{"role": "user", "content": say(60)}, {"role": "assistant", "content": say(400)}]
    if rng.random() < 0.003:
        turns[-1]["content"] = " ".join(say(400) for _ in range(20))
    return {"messages": turns, "category": rng.choice(("chat", "math", "code"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    print(json.dumps({"rows": str(write_rows(arguments.output, arguments.rows))}))


if __name__ == "__main__":
    main()
