"""Two nights around a change of the taxonomy are compared on what did not change."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.gather import gather
from evaluation.intervals import Bootstrap
from evaluation.items import Items
from evaluation.suites.voc.compare import Night, compare_nights, format_comparison, score_items
from voc.errors import TaxonomyError
from voc.labels.taxonomy import LEVELS, Leaf, Taxonomy
from voc.run import ModelEntry, open_run, write_models

OLD, NEW, WORSE, MIX = "night-1", "night-2", "night-3", "mix-75-25"
GONE, ADDED = ("Delivery", "Time", "Time quality", "Time good"), ("Delivery", "Time", "Time quality", "Time new")
CHANGES = (
    {"change": "rename", "from": ["Product"], "to": ["Goods"]},
    {"change": "retire", "from": list(GONE)},
    {"change": "add", "to": list(ADDED)},
)


def change_taxonomy(old):
    """Rename one L1 (the leaves below it keep their words) and put a new leaf in the place of one that is retired."""
    moved = [(leaf, ("Goods", *leaf.path[1:]) if leaf.path[0] == "Product" else leaf.path) for leaf in old.leaves]
    return Taxonomy(tuple(Leaf(ADDED if path == GONE else path, leaf.description) for leaf, path in moved))


@dataclass(frozen=True)
class Nights:
    root: Path
    uri: str
    changes: str

    def copy(self, target):
        shutil.copytree(self.root, target, dirs_exist_ok=True)
        return Nights(target, target.as_uri(), self.changes)

    def compare(self, *more, new=NEW, old=OLD):
        words = ["--store-uri", self.uri, "--run-id", new, "--with-run", old]
        return main(["compare", *words, *more])

    def read(self, path, *more, **runs):
        assert self.compare("--output", str(path), "--model", MIX, *more, **runs) == 0
        return json.loads(path.read_bytes())


def miss_new_leaf(line):
    """Answer as if the model had never heard of the new leaf."""
    kept = [s for s in line["segments"] or [] if tuple(s[level] for level in LEVELS) != ADDED]
    return {**line, "segments": kept}


@pytest.fixture(scope="module")
def nights(fake_run_class, tmp_path_factory):
    """Three gathered runs in one store that tests only read: before the change, after it, after it with a worse model."""
    root = tmp_path_factory.mktemp("nights")
    changes = root / "changes.jsonl"
    changes.write_text("".join(json.dumps(change) + "\n" for change in CHANGES))
    before = fake_run_class(root, OLD)
    gather(before.run)
    taxonomy = change_taxonomy(before.taxonomy)
    after = fake_run_class(root, NEW, taxonomy, data__taxonomy_changes=str(changes))
    for shard in (0, 1):
        after.write_shard(MIX, "voc", shard, list(map(miss_new_leaf, after.read_shard(MIX, "voc", shard))))
    gather(after.run)
    worse = fake_run_class(root, WORSE, taxonomy, data__taxonomy_changes=str(changes))
    lines = worse.read_shard(MIX, "voc", 0)
    worse.write_shard(MIX, "voc", 0, [{**line, "segments": None, "failure": "not_json"} for line in lines])
    gather(worse.run)
    return Nights(root, root.as_uri(), str(changes))


def test_a_change_of_the_taxonomy_alone_changes_no_figure_on_the_shared_leaves(nights, tmp_path):
    found = nights.read(tmp_path / "out.json")
    micro = {name: found[name]["all"]["f1"]["micro"]["value"] for name in ("new", "old")}
    assert micro["new"] < micro["old"] - 0.1
    assert found["new"]["shared"] == found["old"]["shared"]
    assert found["new"]["shared"]["num_labelled"] < found["new"]["shared"]["num_comments"] == 150
    leaves = found["leaves"]
    assert (leaves["num_old"], leaves["num_new"], leaves["num_shared"], leaves["num_other_path"]) == (18, 18, 17, 6)
    assert (leaves["only_old"], leaves["only_new"]) == ([list(GONE)], [list(ADDED)])
    assert found["changes"] == nights.changes
    assert found["paired"]["f1"]["micro"] == {
        **{"value": 0.0, "low": 0.0, "high": 0.0, "n": found["paired"]["num_comments"]},
        **{"gained": None, "lost": None, "p_value": None},
    }


def test_full_figures_are_those_that_gather_reported(nights, tmp_path):
    found = nights.read(tmp_path / "out.json")
    for name in ("new", "old"):
        run = open_run(nights.uri, found[name]["run_id"])
        results = json.loads(run.store.read_bytes(f"{run.layout.results(MIX)}/results.json"))
        for average, figure in found[name]["all"]["f1"].items():
            assert figure["value"] == pytest.approx(results["voc"]["levels"]["L4"][average]["f1"])
            assert [figure["low"], figure["high"]] == pytest.approx(results["voc"]["intervals"][average]["f1"])
        assert found[name]["model_digest"] == results["model"]["digest"]


def test_comments_whose_text_changed_are_not_paired_and_are_counted(nights, tmp_path):
    paired = nights.read(tmp_path / "out.json")["paired"]
    assert paired["num_other_text"] > 0
    assert paired["num_comments"] + paired["num_other_text"] == 150
    assert paired["num_other_gold"] == 0


def test_a_worse_model_is_seen_in_the_paired_difference(nights, tmp_path):
    found = nights.read(tmp_path / "out.json", new=WORSE)
    for difference in found["paired"]["f1"].values():
        assert difference["low"] <= difference["value"] <= difference["high"] < 0
    back = nights.read(tmp_path / "out.json", new=NEW, old=WORSE)
    assert back["leaves"]["num_shared"] == 18
    assert back["paired"]["f1"]["micro"]["low"] > 0


def test_the_table_says_all_of_it(nights, capsys):
    assert nights.compare("--model", MIX, new=WORSE) == 0
    said = capsys.readouterr().out
    assert "old: run night-1, model mix-75-25" in said
    assert "17 mean the same in both (6 of them under another path), of 18 old and 18 new" in said
    assert "only old: 1 (Delivery > Time > Time quality > Time good)" in said
    assert "F1 with 95% intervals" in said
    assert "new minus old" in said
    assert [line.split()[:2] for line in said.splitlines() if line.startswith(("all ", "shared "))] == [
        ["all", "old"],
        ["all", "new"],
        ["shared", "old"],
        ["shared", "new"],
    ]


def test_without_changes_only_equal_paths_are_shared(nights, tmp_path, capsys):
    empty = tmp_path / "none.jsonl"
    empty.write_text("")
    assert nights.read(tmp_path / "out.json", "--changes", str(empty))["leaves"]["num_shared"] == 11
    capsys.readouterr()
    assert nights.compare("--model", MIX, new=OLD, old=OLD) == 0
    assert "none given" in capsys.readouterr().out


def test_two_models_of_two_nights_can_be_named(nights, tmp_path):
    found = nights.read(tmp_path / "out.json", "--with-model", "customer-only")
    assert (found["new"]["model"], found["old"]["model"]) == (MIX, "customer-only")


def test_the_winner_of_each_night_is_compared_unless_a_model_is_named(nights, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    assert own.compare() == 2
    said = capsys.readouterr().err
    assert "the run 'night-2' promoted none of its 2 candidates" in said
    assert "one of base, customer-only, mix-75-25" in said
    assert "--model" in said
    for name in (OLD, NEW):
        run = open_run(own.uri, name)
        run.store.write_bytes(run.layout.decision, json.dumps({"promoted": MIX}).encode())
    assert own.compare() == 0
    assert capsys.readouterr().out.count("model mix-75-25") == 2


def test_the_only_candidate_needs_no_name(nights, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    for name in (OLD, NEW):
        write_models(open_run(own.uri, name), [ModelEntry(MIX, "candidate", "the mix", "file:///m", None)])
    assert own.compare() == 0
    assert capsys.readouterr().out.count("model mix-75-25") == 2


@pytest.mark.parametrize(
    ("more", "runs", "said"),
    [
        (["--model", "mx"], {}, "ConfigError: the run 'night-2' has no model 'mx'"),
        (["--model", MIX, "--with-model", "mx"], {}, "name it with --with-model"),
        (["--model", MIX], {"old": "night-0"}, "ConfigError: the run 'night-0' has no runs/night-0/config.json"),
        (["--model", MIX, "--changes", "/nowhere/changes.jsonl"], {}, "ObjectNotFoundError: "),
        (["--model", MIX, "--output", "ftp://host/out.json"], {}, "ConfigError: "),
    ],
)
def test_what_cannot_be_compared_is_named(nights, more, runs, said, capsys):
    assert nights.compare(*more, **runs) == 2
    assert said in capsys.readouterr().err


def test_changes_that_do_not_lead_to_the_later_taxonomy_are_refused(nights, capsys):
    assert nights.compare("--model", MIX, "--changes", nights.changes, new=OLD, old=NEW) == 2
    assert "TaxonomyError: " in capsys.readouterr().err


def test_changes_that_are_not_text_are_refused(nights, tmp_path, capsys):
    (tmp_path / "changes.jsonl").write_bytes(b"\xff\xfe{")
    assert nights.compare("--model", MIX, "--changes", str(tmp_path / "changes.jsonl")) == 2
    assert "is not text" in capsys.readouterr().err


def test_the_runs_own_changes_must_be_those_it_read(nights, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    manifest = own.root / "runs" / NEW / "data" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["inputs"]["taxonomy_changes"] = "0" * 64
    manifest.write_text(json.dumps(document))
    assert own.compare("--model", MIX) == 2
    assert "the changes that the run 'night-2' read" in capsys.readouterr().err
    assert own.compare("--model", MIX, "--changes", own.changes) == 0


@pytest.mark.parametrize("name", ["taxonomy.csv", "test.jsonl"])
def test_damaged_data_are_refused(nights, name, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    path = own.root / "runs" / OLD / "data" / name
    path.write_bytes(path.read_bytes() + b" ")
    assert own.compare("--model", MIX) == 2
    assert f"IntegrityError: {own.uri}/runs/night-1/data/{name} has SHA-256" in capsys.readouterr().err


def test_a_run_that_was_not_gathered_is_named_with_the_command(nights, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    (own.root / "runs" / OLD / "evaluation" / MIX / "results" / "manifest.json").unlink()
    assert own.compare("--model", MIX) == 2
    assert "python -m evaluation gather --run-id night-1" in capsys.readouterr().err


def test_results_of_other_data_are_refused(nights, tmp_path, capsys):
    own = nights.copy(tmp_path / "own")
    shutil.copytree(own.root / "runs" / OLD / "data", own.root / "runs" / NEW / "data", dirs_exist_ok=True)
    assert own.compare("--model", MIX) == 2
    assert "was gathered from the data" in capsys.readouterr().err


A, B, C = (("x", "y", "z", name) for name in "abc")
FEW = Bootstrap(20, 0.9, 0)


def make_night(name, leaves, gold, predicted, comments):
    taxonomy = Taxonomy(tuple(Leaf(path, "") for path in leaves))
    sets = [[frozenset(labels) for labels in side] for side in (gold, predicted)]
    return Night(name, "m", "digest", taxonomy, Items({"voc": list(comments)}, *sets, {}), comments)


def test_nights_without_a_common_comment_are_called_unpaired():
    old = make_night("o", [A, B], [[A], [B]], [[A], [B]], {"1": "good", "2": "bad"})
    new = make_night("n", [A, C], [[A], [C]], [[A], []], {"1": "other words", "3": "bad"})
    found = compare_nights(new, old, None, FEW)
    assert found["paired"] == {"num_comments": 0, "num_other_text": 1, "num_other_gold": 0, "f1": None}
    said = format_comparison({"changes": None, **found})
    assert "unpaired: no test comment has the same id and text in both runs (1 more have the same id" in said
    assert "new minus old" not in said


def test_pairs_are_found_in_any_order_and_changed_gold_labels_are_counted():
    old = make_night("o", [A, B], [[A], [B], [A]], [[A], [], [A]], {"1": "one", "2": "two", "9": "nine"})
    new = make_night("n", [A, B], [[A], [A]], [[A], [A]], {"2": "two", "1": "one"})
    paired = compare_nights(new, old, None, FEW)["paired"]
    assert (paired["num_comments"], paired["num_other_gold"]) == (2, 1)
    assert paired["f1"]["samples"]["value"] == 0.5


def test_rows_that_were_asked_differently_are_not_compared_without_saying_so():
    old = make_night("o", [A], [[A]], [[A]], {"1": "one"})
    free, bound = ({"prompt_variant": "taxonomy", "structured_output": on} for on in (False, True))
    found = compare_nights(replace(old, asked=bound), replace(old, asked=free), None, FEW)
    assert found["asked_differently"] == [{"setting": "structured_output", "old": False, "new": True}]
    assert "asked differently: structured_output was False (old) and is True (new)" in format_comparison(
        {"changes": None, **found}
    )
    same = compare_nights(replace(old, asked=free), replace(old, asked=free), None, FEW)
    assert "asked differently" not in format_comparison({"changes": None, **same})


def test_taxonomies_without_a_shared_leaf_are_refused():
    old, new = (make_night(leaf[3], [leaf], [[leaf]], [[leaf]], {"1": "one"}) for leaf in (A, B))
    with pytest.raises(TaxonomyError, match="share no leaf"):
        compare_nights(new, old, None, FEW)


def test_no_gold_label_on_the_shared_leaves_gives_figures_and_says_so():
    night = make_night("n", [A, B], [[], []], [[], [A]], {"1": "one", "2": "two"})
    scores = score_items(night.items, FEW)
    assert (scores["num_comments"], scores["num_labelled"], scores["num_predicted"]) == (2, 0, 1)
    assert [scores["f1"][name]["value"] for name in ("micro", "macro", "weighted", "samples")] == [0, 0, 0, 0.5]
