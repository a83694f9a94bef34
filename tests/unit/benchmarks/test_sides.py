from pathlib import Path

from benchmarks.sides import make_rows


def test_inputs_are_made_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path))
    folder = make_rows(40)
    made = (folder / "train.jsonl").stat().st_mtime_ns
    assert len((folder / "train.jsonl").read_bytes().splitlines()) == 30
    assert make_rows(40) == folder
    assert (folder / "train.jsonl").stat().st_mtime_ns == made
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
