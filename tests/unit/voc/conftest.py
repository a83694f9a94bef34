"""A whole little night on disk, and stores of every kind."""

from __future__ import annotations

import copy
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from tests.s3_servers import BUCKET, S3Server, ceph_server, missing_ceph_programs
from voc.store.base import Store
from voc.store.uri import open_store

settings.register_profile("quick", deadline=None, max_examples=40, database=None)
settings.load_profile("quick")

TAXONOMY_CSV = (
    "L1,L2,L3,L4,description\n"
    "Product,Battery,Use,Runtime,how long it lasts\n"
    "Product,Screen,Build,Quality,the picture\n"
    "Service,Support,Use,Speed,how fast help comes\n"
)


def voc_row(identifier: str, comment: str = "the battery is great", **changes: str) -> dict[str, Any]:
    segment = {
        "content": "battery",
        "L1": "Product",
        "L2": "Battery",
        "L3": "Use",
        "L4": "Runtime",
        "emotion": "positive",
    }
    return {"id": identifier, "comment": comment, "segments": [{**segment, **changes}]}


@dataclass
class Night:
    """A configuration with everything it names, all of it good until a test spoils something."""

    folder: Path
    tree: dict[str, Any]

    @property
    def config_path(self) -> Path:
        path = self.folder / "night.yaml"
        path.write_text(yaml.safe_dump(self.tree, sort_keys=False))
        return path

    @property
    def store_folder(self) -> Path:
        return self.folder / "store"

    def path(self, name: str) -> Path:
        return self.folder / name

    def write_jsonl(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path, *, positions: int = 512) -> Path:
    """Write files that look like a model from the outside: nothing here loads weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    write_safetensors(folder / "model.safetensors", {"a": ("F32", (2, 3)), "b": ("BF16", (4,))})
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write a file of zeros with these tensors, as the format's specification says."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * {"F32": 4, "BF16": 2, "F8_E4M3": 1, "I8": 1}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    folder = tmp_path / "night"
    write_model(folder / "base")
    (folder / "mmlu").mkdir()
    for name in ("dev.parquet", "test.parquet"):
        (folder / "mmlu" / name).write_bytes(b"PAR1 rows PAR1")
    (folder / "taxonomy.csv").write_text(TAXONOMY_CSV)
    tree = {
        "name": "tiny",
        "store": {"uri": str(folder / "store")},
        "data": {
            "taxonomy": str(folder / "taxonomy.csv"),
            "test": str(folder / "test.jsonl"),
            "sources": [
                {"name": "customer", "uri": str(folder / "customer.jsonl"), "format": "voc"},
                {"name": "general", "uri": str(folder / "general.jsonl"), "format": "general"},
            ],
        },
        "model": {"base": str(folder / "base")},
        "arms": [
            {
                "name": "mix",
                "title": "75/25",
                "sources": [{"name": "customer", "weight": 3}, {"name": "general", "weight": 1}],
            }
        ],
        "training": {
            "max_steps": 10,
            "global_batch_size": 4,
            "max_seq_len": 256,
            "optimizer": {"learning_rate": 0.001},
        },
        "serving": {"max_model_len": 512},
        "evaluation": {"voc": {"max_tokens": 128}, "mmlu": {"dataset": str(folder / "mmlu"), "max_tokens": 128}},
    }
    made = Night(folder, copy.deepcopy(tree))
    made.write_jsonl("customer.jsonl", [voc_row(f"c{i}", f"the battery is great {i}") for i in range(8)])
    made.write_jsonl("test.jsonl", [voc_row(f"t{i}", f"a battery for test {i}") for i in range(5)])
    chat = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    made.write_jsonl("general.jsonl", [{"messages": chat}, {"prompt": "one two", "completion": " three"}])
    return made


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    missing = missing_ceph_programs()
    if missing:
        pytest.skip(f"Ceph is not installed ({', '.join(missing)}): Debian has ceph-mon, ceph-osd and radosgw")
    with ceph_server(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(params=["moto", "ceph"])
def s3_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Each S3 server in turn, with the process's AWS environment set to it."""
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=["local", "moto", "ceph"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store of each kind."""
    if request.param == "local":
        return (tmp_path / "a store").as_uri()
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/below"


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))
