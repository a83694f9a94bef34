from __future__ import annotations

import threading
from pathlib import Path

import pytest

from voc.errors import ConfigError, ObjectExistsError, ObjectNotFoundError, StoreError
from voc.store.base import Store
from voc.store.local import LocalStore
from voc.store.uri import open_store, open_uri, read_uri

NUM_RACERS = 16


def test_what_is_written_is_read_back_and_replaced(store: Store) -> None:
    store.write_bytes("runs/a/file.bin", b"one")
    store.write_bytes("runs/a/file.bin", b"\x00two\xff")
    assert store.read_bytes("runs/a/file.bin") == b"\x00two\xff"
    assert store.exists("runs/a/file.bin")


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.write_bytes("empty", b"")
    assert store.exists("empty")
    assert store.read_bytes("empty") == b""


def test_a_missing_key_is_named(store: Store) -> None:
    assert not store.exists("runs/none")
    with pytest.raises(ObjectNotFoundError, match="runs/none"):
        store.read_bytes("runs/none")


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.write_bytes("folder/file", b"x")
    assert not store.exists("folder")
    with pytest.raises(ObjectNotFoundError):
        store.read_bytes("folder")


def test_keys_are_listed_sorted_and_by_whole_folder_names(store: Store) -> None:
    for key in ("a/2", "a/1", "a/b/3", "ab/4", "c"):
        store.write_bytes(key, b"x")
    assert list(store.list_keys()) == ["a/1", "a/2", "a/b/3", "ab/4", "c"]
    assert list(store.list_keys("a")) == ["a/1", "a/2", "a/b/3"]
    assert list(store.list_keys("a/b")) == ["a/b/3"]
    assert list(store.list_keys("nothing")) == []


def test_keys_are_listed_with_their_sizes(store: Store) -> None:
    store.write_bytes("a/2", b"four")
    store.write_bytes("a/1", b"")
    assert list(store.list_sizes("a")) == [("a/1", 0), ("a/2", 4)]


def test_a_stream_reads_on_from_wherever_it_is_put(store: Store) -> None:
    data = bytes(range(256)) * 20_000
    store.write_bytes("a/large", data)
    with store.open_stream("a/large") as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(3_000_001) == 3_000_001
        assert stream.read(1_500_000) == data[3_000_001:4_500_001]
        stream.seek(-4, 2)
        assert stream.read() == data[-4:]
        assert stream.read() == b""
        assert stream.seek(len(data) + 5) == len(data) + 5
        assert stream.read(1) == b""


def test_a_stream_of_an_empty_object_is_empty(store: Store) -> None:
    store.write_bytes("empty", b"")
    with store.open_stream("empty") as stream:
        assert stream.read() == b""


def test_a_stream_of_what_is_not_there_is_a_named_error(store: Store) -> None:
    store.write_bytes("folder/file", b"x")
    for key in ("none", "folder"):
        with pytest.raises(ObjectNotFoundError, match=key):
            store.open_stream(key)


def test_deleting_a_folder_leaves_its_namesakes(store: Store) -> None:
    for key in ("a/1", "a/b/2", "ab/3"):
        store.write_bytes(key, b"x")
    assert store.delete_prefix("a") == 2
    assert list(store.list_keys()) == ["ab/3"]
    assert store.delete_prefix("a") == 0


def test_deleting_one_key_leaves_the_others_and_may_be_repeated(store: Store) -> None:
    store.write_bytes("a/1", b"x")
    store.write_bytes("a/2", b"x")
    store.delete_key("a/1")
    store.delete_key("a/1")
    assert list(store.list_keys()) == ["a/2"]


def test_files_are_copied_in_and_out(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "in.bin", tmp_path / "new" / "out.bin"
    source.write_bytes(b"\x01" * 3_000_000)
    store.upload_file(source, "models/m/in.bin")
    store.download_file("models/m/in.bin", target)
    assert target.read_bytes() == source.read_bytes()


def test_copying_what_is_not_there_is_a_named_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.bin"):
        store.upload_file(tmp_path / "none.bin", "x")
    with pytest.raises(ObjectNotFoundError, match="none"):
        store.download_file("none", tmp_path / "out")


def test_create_refuses_an_existing_key_and_leaves_it(store: Store) -> None:
    store.create_bytes("champion/1", b"first")
    with pytest.raises(ObjectExistsError, match="champion/1"):
        store.create_bytes("champion/1", b"second")
    assert store.read_bytes("champion/1") == b"first"


def test_of_sixteen_racing_creates_exactly_one_wins(store_uri: str) -> None:
    barrier = threading.Barrier(NUM_RACERS)
    won: list[int] = []
    lost: list[int] = []

    def race(number: int) -> None:
        store = open_store(store_uri)
        store.exists("champion/1")  # connected before the start
        barrier.wait()
        try:
            store.create_bytes("champion/1", str(number).encode())
            won.append(number)
        except ObjectExistsError:
            lost.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(NUM_RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, NUM_RACERS - 1)
    assert open_store(store_uri).read_bytes("champion/1") == str(won[0]).encode()
    assert list(open_store(store_uri).list_keys()) == ["champion/1"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/./b", "a/"])
def test_escaping_keys_are_refused_by_every_operation(store: Store, key: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for operation in (
        lambda: store.read_bytes(key),
        lambda: store.write_bytes(key, b"x"),
        lambda: store.create_bytes(key, b"x"),
        lambda: store.exists(key),
        lambda: store.upload_file(file, key),
        lambda: store.download_file(key, tmp_path / "out"),
        lambda: store.delete_prefix(key),
        lambda: store.delete_key(key),
    ):
        with pytest.raises(StoreError, match="not usable"):
            operation()


def test_the_check_leaves_nothing_behind(store: Store) -> None:
    store.check()
    assert list(store.list_keys()) == []


def test_two_checks_at_once_do_not_disturb_each_other(store_uri: str) -> None:
    failures: list[BaseException] = []

    def check() -> None:
        try:
            for _ in range(3):
                open_store(store_uri).check()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_uris_lead_back_to_the_same_object(store: Store) -> None:
    store.write_bytes("runs/a/file.json", b"{}")
    assert read_uri(f"{store.uri}/runs/a/file.json") == b"{}"
    assert open_store(store.uri).read_bytes("runs/a/file.json") == b"{}"


def test_a_folder_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = LocalStore(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot write"):
        store.check()
    with pytest.raises(StoreError, match="cannot write"):
        store.create_bytes("a", b"x")


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        LocalStore(tmp_path).write_bytes("taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_uploading_a_file_onto_itself_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    LocalStore(tmp_path).upload_file(tmp_path / "x", "x")
    assert (tmp_path / "x").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("uri", "root"),
    [("file:///data/a%20b", "/data/a b"), ("/data/x", "/data/x"), ("file:///", "/"), ("/data/100%25", "/data/100%25")],
)
def test_local_addresses(uri: str, root: str) -> None:
    store = open_store(uri)
    assert isinstance(store, LocalStore)
    assert store.root == Path(root)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "", "s3://", "s3:///prefix", "file://data/folder"])
def test_unusable_addresses_name_what_is_expected(uri: str) -> None:
    with pytest.raises(ConfigError, match="file:///folder"):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "root", "name"),
    [("/top", "/", "top"), ("file:///top", "/", "top"), ("file:///a%20b/c%20d", "/a b", "c d"), ("/a/b/", "/a", "b")],
)
def test_an_object_uri_is_split(uri: str, root: str, name: str) -> None:
    store, key = open_uri(uri)
    assert (store.local_path(""), key) == (Path(root), name)


@pytest.mark.parametrize("uri", ["s3://bucket", "file:///", ""])
def test_an_address_without_an_object_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        open_uri(uri)
