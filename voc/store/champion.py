"""The champion log: numbered, append-only records, each written create-only; the highest number is the champion.

Of two racing promotions exactly one creates the next number. A rollback is one more record.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from voc.store.base import Store
from voc.store.layout import CHAMPION_PREFIX

_RECORD = re.compile(rf"{CHAMPION_PREFIX}/(\d{{8}})\.json")


@dataclass(frozen=True, slots=True)
class ChampionRecord:
    """One promotion.

    Attributes:
        model_uri: Folder of the promoted model.
        model_digest: Manifest digest of that folder.
        run_id: Run that trained it.
        candidate: Arm that trained it.
        reason: The verdict's one-line reason.
        promoted_at: ISO time, UTC.
    """

    model_uri: str
    model_digest: str
    run_id: str
    candidate: str
    reason: str
    promoted_at: str


def last_number(store: Store) -> int:
    """Return the highest number in the log, 0 for an empty one."""
    numbers = [int(m[1]) for key in store.list_keys(CHAMPION_PREFIX) if (m := _RECORD.fullmatch(key))]
    return max(numbers, default=0)


def read_champion(store: Store) -> ChampionRecord | None:
    """Return the champion, or None before the first promotion."""
    number = last_number(store)
    if number == 0:
        return None
    return read_record(store, number)


def read_record(store: Store, number: int) -> ChampionRecord:
    """Return one record of the log.

    Raises:
        ObjectNotFoundError: If there is no such number.
    """
    return ChampionRecord(**json.loads(store.read_bytes(f"{CHAMPION_PREFIX}/{number:08d}.json")))


def append_champion(store: Store, record: ChampionRecord, *, after: int) -> int:
    """Write the record that follows number `after` and return its number.

    Args:
        store: Where the log is.
        record: The new champion.
        after: `last_number` as the caller's decision knew it.

    Raises:
        ObjectExistsError: If somebody else promoted since then.
    """
    number = after + 1
    data = json.dumps(asdict(record), indent=1, ensure_ascii=False).encode()
    store.create_bytes(f"{CHAMPION_PREFIX}/{number:08d}.json", data)
    return number
