import pytest

from evaluation.shards.shard import PartFile, Shard
from voc.errors import ConfigError
from voc.store.local import LocalStore


class FarStore(LocalStore):
    """A store that is not a folder of this machine."""

    def local_path(self, key):
        return None


@pytest.mark.parametrize("num_items", [0, 1, 7, 12])
def test_shards_hold_every_item_exactly_once(num_items):
    items = list(range(num_items))
    found = [item for number in range(3) for item in Shard(number, 3).pick(items)]
    assert sorted(found) == items


def test_a_shard_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="3 of 3"):
        Shard(3, 3)


@pytest.mark.parametrize("kind", [LocalStore, FarStore])
def test_a_killed_shard_goes_on_and_drops_only_the_torn_line(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "cache"))
    store = kind(tmp_path / "store")
    with PartFile(store, "a/shard", {"x": 1}) as part:
        part.append({"id": "ä"})
        part.append({"id": 2})
        path = part._path
    path.write_bytes(path.read_bytes() + b'{"id": 3, "te')
    with PartFile(store, "a/shard", {"x": 1}) as part:
        assert part.lines == [{"id": "ä"}, {"id": 2}]
        part.append({"id": 3})
    with PartFile(store, "a/shard", {"x": 1}) as part:
        assert part.lines == [{"id": "ä"}, {"id": 2}, {"id": 3}]
        part.remove()
    assert not path.exists()


def test_a_part_file_of_other_inputs_is_started_over(tmp_path):
    store = LocalStore(tmp_path)
    with PartFile(store, "shard", {"x": 1}) as part:
        part.append({"id": 1})
    with PartFile(store, "shard", {"x": 2}) as part:
        assert part.lines == []
        part.append({"id": 9})
    with PartFile(store, "shard", {"x": 2}) as part:
        assert part.lines == [{"id": 9}]


def test_a_part_file_torn_in_its_first_line_is_started_over(tmp_path):
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        path = part._path
    path.write_bytes(path.read_bytes()[:-3])
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        part.append({"id": 1})
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        assert part.lines == [{"id": 1}]


@pytest.mark.parametrize("torn", [b'{"id": 2, "te\n', b"\x00\x00\xff\xfe\n", b"[1]\n", b"\n"])
def test_a_line_that_is_torn_in_the_middle_and_what_follows_are_asked_again(tmp_path, capsys, torn):
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        part.append({"id": 1})
        path = part._path
    path.write_bytes(path.read_bytes() + torn + b'{"id": 3}\n')
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        assert part.lines == [{"id": 1}]
        part.append({"id": 2})
    assert f"1 lines are whole, the {len(torn) + 10} bytes after them are dropped" in capsys.readouterr().out
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        assert part.lines == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_part_file_cut_anywhere_keeps_its_whole_lines(tmp_path, cut):
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        for number in range(3):
            part.append({"id": number, "text": "ü\u2028\r"})
        path = part._path
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with PartFile(LocalStore(tmp_path), "shard", {}) as part:
        assert [line["id"] for line in part.lines] == list(range(whole[:-cut].count(b"\n") - 1))


def test_a_process_that_was_thought_dead_tears_no_line(tmp_path):
    store = LocalStore(tmp_path)
    with PartFile(store, "shard", {}) as old:
        old.append({"custom_id": 1})
        with PartFile(store, "shard", {}) as new:
            for number in range(2, 5):
                new.append({"custom_id": number, "text": "x" * number})
                old.append({"custom_id": number})
    with PartFile(store, "shard", {}) as part:
        assert [line["custom_id"] for line in part.lines] == [1, 2, 2, 3, 3, 4, 4]


def test_another_machine_goes_on_from_the_copy_in_the_store(tmp_path, monkeypatch):
    store = FarStore(tmp_path / "store")
    monkeypatch.setattr("evaluation.shards.shard.COPY_EVERY_S", -1)
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "first"))
    with PartFile(store, "shard", {}) as part:
        part.append({"id": 1})
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "second"))
    with PartFile(store, "shard", {}) as part:
        assert part.lines == [{"id": 1}]
        part.remove()
    assert list(store.list_keys()) == []
