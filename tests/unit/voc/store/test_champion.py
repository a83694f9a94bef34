from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from voc.errors import ObjectExistsError
from voc.store.base import Store
from voc.store.champion import ChampionRecord, append_champion, last_number, read_champion
from voc.store.uri import open_store

NUM_RACERS = 8
RECORD = ChampionRecord("file:///m", "digest", "run-1", "mix", "better by 0.1", "2026-11-22T03:00:00+00:00")


def test_an_empty_log_has_no_champion(store: Store) -> None:
    assert (last_number(store), read_champion(store)) == (0, None)


def test_the_highest_number_is_the_champion_and_history_stays(store: Store) -> None:
    assert append_champion(store, RECORD, after=0) == 1
    assert append_champion(store, replace(RECORD, run_id="run-2"), after=1) == 2
    champion = read_champion(store)
    assert champion is not None
    assert champion.run_id == "run-2"
    assert list(store.list_keys("champion")) == ["champion/00000001.json", "champion/00000002.json"]


def test_a_rollback_is_one_more_record(store: Store) -> None:
    append_champion(store, RECORD, after=0)
    append_champion(store, replace(RECORD, run_id="run-2"), after=1)
    append_champion(store, replace(RECORD, reason="rollback"), after=2)
    champion = read_champion(store)
    assert champion is not None
    assert (champion.run_id, last_number(store)) == ("run-1", 3)


def test_a_decision_made_on_an_older_champion_loses(store: Store) -> None:
    append_champion(store, RECORD, after=0)
    with pytest.raises(ObjectExistsError):
        append_champion(store, replace(RECORD, run_id="late"), after=0)
    assert read_champion(store) == RECORD


def test_of_racing_promotions_exactly_one_wins(store_uri: str) -> None:
    barrier = threading.Barrier(NUM_RACERS)
    won: list[str] = []

    def promote(name: str) -> None:
        store = open_store(store_uri)
        seen = last_number(store)
        barrier.wait()
        try:
            append_champion(store, replace(RECORD, run_id=name), after=seen)
            won.append(name)
        except ObjectExistsError:
            pass

    threads = [threading.Thread(target=promote, args=(f"run-{number}",)) for number in range(NUM_RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    champion = read_champion(open_store(store_uri))
    assert champion is not None
    assert won == [champion.run_id]
    assert last_number(open_store(store_uri)) == 1


def test_other_files_beside_the_log_are_not_records(local_store: Store) -> None:
    append_champion(local_store, RECORD, after=0)
    for name in ("99999999.json.bak", "notes.txt", "123.json"):
        local_store.write_bytes(f"champion/{name}", b"x")
    assert last_number(local_store) == 1
