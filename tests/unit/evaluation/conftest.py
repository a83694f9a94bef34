"""A plausible finished run in a local store: data, models, mixtures and every shard of three models."""

import io
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.suites.mmlu.protocols import make_asking
from evaluation.suites.mmlu.readings import describe_answer
from voc.config.file import check_config, dump_config
from voc.labels.taxonomy import Leaf, Taxonomy, format_taxonomy
from voc.mixture import Stratum, plan_mixture
from voc.mmlu import load_mmlu
from voc.prompts import hash_comment_prompt, hash_prompt, render_answer
from voc.records.records import Segment, VocRecord
from voc.run import ModelEntry, Run, open_run, write_models
from voc.store.layout import RunLayout
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder, read_manifest, write_manifest

RUN_ID = "night-1"
NUM_TRAIN, NUM_TEST, NUM_MMLU, NUM_SHARDS = 160, 150, 280, 2
PROTOCOLS = ("log_likelihood", "generative", "letter")
SUITES = {"voc": "predictions.jsonl", **{f"mmlu_{protocol}": "samples.jsonl" for protocol in PROTOCOLS}}
AREAS = {"Delivery": ("Time", "Packaging"), "Product": ("Battery", "Screen"), "Service": ("Phone", "Store")}
EMOTIONS = ("positive", "negative", "neutral")


@dataclass(frozen=True)
class Skill:
    """How well a made-up model does: shares of right answers, of leaks and of unreadable VOC answers."""

    voc: float
    known: float
    written: float
    leak: float = 0.0
    unreadable: float = 0.0


SKILLS = {
    "base": Skill(voc=0.0, known=0.99, written=0.98, unreadable=1.0),
    "customer-only": Skill(voc=0.95, known=0.55, written=0.02, leak=0.9),
    "mix-75-25": Skill(voc=0.92, known=0.985, written=0.98),
}


def make_taxonomy():
    return Taxonomy(
        tuple(
            Leaf((area, topic, f"{topic} quality", f"{topic} {kind}"), f"what customers say about {topic} being {kind}")
            for area, topics in AREAS.items()
            for topic in topics
            for kind in ("good", "bad", "rare")
        )
    )


def make_records(taxonomy, num, prefix, generator):
    weights = [1 / (rank + 1) for rank in range(len(taxonomy.leaves))]
    records = []
    for number in range(num):
        leaves = generator.choices(taxonomy.leaves, weights, k=generator.choice((1, 1, 2)))
        segments = []
        for leaf in {leaf.path: leaf for leaf in leaves}.values():
            text = f"the {leaf.path[3].lower()} {generator.choice(('today', 'again', 'as ever'))} {generator.randrange(99)}"
            segments.append(Segment(text, leaf.path, generator.choice(EMOTIONS)))
        comment = ", and ".join(segment.content for segment in segments) + "."
        records.append(VocRecord(f"{prefix}-{number:04d}", comment, tuple(segments)))
    return records


def make_questions(generator):
    return [
        {
            "question": f"What is fact number {number}?",
            "subject": f"subject_{number % 4}",
            "choices": [f"value {number}-{letter}" for letter in "abcd"],
            "answer": generator.randrange(4),
            "slice": "replayed" if number % 2 else "not_replayed",
        }
        for number in range(NUM_MMLU)
    ]


def config_tree(root, **changes):
    arms = [
        {"name": "customer-only", "title": "customer only", "sources": [{"name": "customer", "weight": 1}]},
        {
            "name": "mix-75-25",
            "title": "75 % customer + 25 % general",
            "sources": [{"name": "customer", "weight": 3}, {"name": "general", "weight": 1}],
        },
    ]
    tree = {
        "name": "test",
        "store": {"uri": root.as_uri()},
        "data": {
            "taxonomy": "taxonomy.csv",
            "test": "test.jsonl",
            "sources": [
                {"name": "customer", "uri": "customer.jsonl", "format": "voc"},
                {"name": "general", "uri": "general.jsonl", "format": "general"},
            ],
        },
        "model": {"base": str(root / "base-model")},
        "arms": arms,
        "training": {
            "max_steps": 4,
            "global_batch_size": 4,
            "max_seq_len": 128,
            "optimizer": {"name": "muon", "learning_rate": 0.0025, "muon_learning_rate": 0.025},
        },
        "serving": {"max_model_len": 256},
        "evaluation": {
            "voc": {"shards": NUM_SHARDS},
            "mmlu": {"dataset": str(root / "mmlu"), "shards": NUM_SHARDS},
            "bootstrap_resamples": 60,
        },
    }
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


class FakeRun:
    """A run to read, with handles to change one thing and see it noticed."""

    def __init__(self, root: Path, run_id=RUN_ID, taxonomy=None, **changes):
        self.root = root
        self.store = LocalStore(root)
        self.layout = RunLayout(run_id)
        self.config = check_config(config_tree(root, **changes), "test")
        self.store.write_bytes(self.layout.config, dump_config(self.config))
        self.generator = random.Random(0)
        self.taxonomy = taxonomy or make_taxonomy()
        self.training = make_records(self.taxonomy, NUM_TRAIN, "train", self.generator)
        self.test = make_records(self.taxonomy, NUM_TEST, "test", self.generator)
        self.questions = make_questions(self.generator)
        self._write_inputs()
        self.mmlu_items = load_mmlu(self.config.evaluation.mmlu.dataset, None)
        self._write_models()
        for name, skill in SKILLS.items():
            self.write_model_answers(name, skill)

    @property
    def run(self) -> Run:
        return open_run(self.store.uri, self.layout.run_id)

    def commit(self, prefix, files, **manifest):
        folder = self.root / ".staging" / prefix
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return commit_folder(self.store, prefix, folder, **manifest)

    def _write_inputs(self):
        report = {
            "files": {
                "test": {"rows": NUM_TEST, "refused": {"malformed_json": 1}},
                "customer": _describe_source(NUM_TRAIN, {"label_not_in_taxonomy": 2}, 9000, 4500),
                "general": _describe_source(80, {}, 4000, 300),
            },
            "classes": {"train": _count_classes(self.training), "test": _count_classes(self.test)},
            "duplicates": {"found": {"customer": {"leakage_exact": 0}}, "dropped": {}},
        }
        self.commit(
            self.layout.data,
            {
                "taxonomy.csv": format_taxonomy(self.taxonomy.leaves),
                "rows/customer/part-00000.parquet": _parquet(r.to_json() for r in self.training),
                "test.jsonl": _jsonl(r.to_json() for r in self.test),
                "quarantine.jsonl": "",
                "data_report.json": json.dumps(report),
            },
        )
        for arm in self.config.arms:
            num_rows = {Stratum("customer"): NUM_TRAIN, Stratum("general"): 80}
            plan = plan_mixture(num_rows, arm.sources, num_samples=400, seed=0).to_json()
            for share in plan["sources"]:
                share |= {"num_tokens": 50 * share["num_samples"], "num_assistant_tokens": 9 * share["num_samples"]}
            self.store.write_bytes(self.layout.mixture(arm.name), json.dumps(plan).encode())
        folder = self.root / "mmlu"
        folder.mkdir(exist_ok=True)
        for split, rows in (("dev", self.questions[:8]), ("test", self.questions)):
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
        for stage, wall_s in (("prepare", 3.2), ("train-customer-only", 61.0), ("train-mix-75-25", 63.5)):
            document = {"stage": stage, "started_at": "2026-01-01T00:00:00+00:00", "wall_s": wall_s}
            self.store.write_bytes(f"{self.layout.timings}/{stage}.json", json.dumps(document).encode())

    def _write_models(self):
        base = self.commit("base-model", {"config.json": "{}"})
        models = [ModelEntry("base", "reference", "base", f"{self.store.uri}/base-model", base.digest)]
        for arm in self.config.arms:
            prefix = self.layout.export(arm.name)
            self.commit(prefix, {"config.json": json.dumps({"arm": arm.name})})
            models.append(ModelEntry(arm.name, "candidate", arm.title, f"{self.store.uri}/{prefix}", None))
        write_models(self.run, models)

    def model_digest(self, name):
        prefix = "base-model" if name == "base" else self.layout.export(name)
        return read_manifest(self.store, prefix).digest

    def commit_data(self):
        """List the data directory's files again, after a test changed one in place."""
        return commit_folder(self.store, self.layout.data, self.store.local_path(self.layout.data))

    def write_model_answers(self, name, skill):
        generator = random.Random(name)
        lines = {
            "voc": [self._voc_line(r, skill, generator) for r in self.test],
            "mmlu_log_likelihood": [self._known_line(i, q, skill, generator) for i, q in enumerate(self.questions)],
            "mmlu_generative": [self._written_line(i, q, skill, generator) for i, q in enumerate(self.questions)],
            "mmlu_letter": [self._letter_line(i, q, skill, generator) for i, q in enumerate(self.questions)],
        }
        for suite, found in lines.items():
            for shard in range(NUM_SHARDS):
                self.write_shard(name, suite, shard, found[shard::NUM_SHARDS])

    def shard(self, name, suite, shard):
        return self.layout.shard(name, suite, shard, NUM_SHARDS)

    def write_shard(self, name, suite, shard, lines, inputs=None, **facts):
        self.commit(
            self.shard(name, suite, shard),
            {SUITES[suite]: _jsonl(lines)},
            inputs=inputs or {"model_digest": self.model_digest(name)},
            facts={"items": len(lines), "wall_s": 2.5, **facts},
        )

    def read_shard(self, name, suite, shard):
        text = self.store.read_bytes(f"{self.shard(name, suite, shard)}/{SUITES[suite]}").decode()
        return [json.loads(line) for line in text.splitlines()]

    def forget_manifest(self, prefix):
        (self.root / prefix / "manifest.json").unlink()

    def touch_manifest(self, prefix, **inputs):
        manifest = read_manifest(self.store, prefix)
        write_manifest(
            self.store, prefix, type(manifest)(manifest.files, {**manifest.inputs, **inputs}, manifest.facts)
        )

    def _voc_line(self, record, skill, generator):
        failure, text, segments = None, "", None
        if generator.random() < skill.unreadable:
            failure, text = "not_json", f"You say: {record.comment} <b>Thank you</b>."
        else:
            segments = [
                segment
                if generator.random() < skill.voc
                else Segment(segment.content, generator.choice(self.taxonomy.leaves).path, "neutral")
                for segment in record.segments
            ]
            text = render_answer(segments)
        return {
            "custom_id": record.id,
            "prompt_hash": hash_comment_prompt(hash_prompt("internalized", self.taxonomy), record.comment),
            "text": text,
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 40, "completion_tokens": 30},
            "segments": None if segments is None else [segment.to_json() for segment in segments],
            "failure": failure,
            "strict": failure is None,
            "repair": None,
        }

    def _known_line(self, index, question, skill, generator):
        answer = "ABCD"[question["answer"]]
        prediction = answer if generator.random() < skill.known else "ABCD"[(question["answer"] + 1) % 4]
        return {
            **self._item(index, question, "log_likelihood"),
            "prediction": prediction,
            "log_probabilities": [-1.0 if letter == prediction else -2.0 - index / 1000 for letter in "ABCD"],
            "scoring": "logprob_token_ids",
            "correct": prediction == answer,
        }

    def _letter_line(self, index, question, skill, generator):
        answer = "ABCD"[question["answer"]]
        text = answer if generator.random() < skill.known else "ABCD"[(question["answer"] + 1) % 4]
        item = self._item(index, question, "letter")
        return {**item, "text": text, "finish_reason": "stop", "is_letter": True, "correct": text == answer}

    def _written_line(self, index, question, skill, generator):
        answer = "ABCD"[question["answer"]]
        is_right = generator.random() < skill.written
        leaks = not is_right and generator.random() < skill.leak
        text = f"I know it. The correct answer is ({answer})." if is_right else "It is hard to say."
        if leaks:
            text = '[{"content": "fact number", "L1": "Delivery", "L2": "Time'
        return {
            **self._item(index, question, "generative"),
            "text": text,
            "finish_reason": "stop",
            "completion_tokens": 9,
            **describe_answer(text, "stop", answer),
        }

    def _item(self, index, question, protocol):
        asking = make_asking(protocol, self.config.evaluation.mmlu)
        return {
            "custom_id": f"mmlu-{index:06d}",
            "prompt_hash": asking.hash_prompt(self.mmlu_items[index]),
            "subject": question["subject"],
            "slice": question["slice"],
            "answer": "ABCD"[question["answer"]],
        }


def _parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.table({"record": [json.dumps(row) for row in rows]}), sink)
    return sink.getvalue()


def _describe_source(rows, refused, tokens, assistant_tokens):
    return {
        "rows": rows,
        "refused": refused,
        "tokens": tokens,
        "assistant_tokens": assistant_tokens,
        "longest_tokens": 90,
    }


def _count_classes(records):
    labels = [segment.label for record in records for segment in record.segments]
    levels = {f"L{depth}": Counter(" > ".join(label[:depth]) for label in labels) for depth in (1, 2, 3, 4)}
    return {name: dict(counter.most_common()) for name, counter in {**levels, "path": levels["L4"]}.items()}


def _jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture(scope="session")
def fake_run_class():
    """Return the builder itself, for fixtures that outlive one test."""
    return FakeRun


@pytest.fixture
def make_fake_run(tmp_path):
    """Return a function that builds a run; keyword `a__b=value` sets the config key `a.b`."""
    return lambda **changes: FakeRun(tmp_path, **changes)


@pytest.fixture
def fake_run(make_fake_run):
    return make_fake_run()
