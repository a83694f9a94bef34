"""A suite as somebody would add it: one file, beside one line in the registry."""

import argparse
import asyncio
from typing import ClassVar

from evaluation.clients.interface import gather_all
from evaluation.clients.opening import open_client
from evaluation.shards.shard import Shard, run_shard
from evaluation.suites.protocol import COMMAND_ARGUMENTS, Column, Metric, PlannedSuite, ReportPart, Suite, Value
from evaluation.suites.registry import find_planned, report_skip
from voc.arguments import Command
from voc.models.folder import digest_model
from voc.run import find_model, open_run
from voc.store.manifest import digest_json

WORDS = {f"w{number:02d}": f"Say {number}" for number in range(60)}
RIGHT = "right"


class ToyReport(ReportPart):
    figures: ClassVar = {"toy": ("toy_right",)}

    def build_figures(self, results, decision):
        return {"toy_right": results["toy"]}

    def list_columns(self, results, decision):
        words = {"group": "Toy", "title": "Right", "full_title": "Toy, right", "short_title": "toy"}
        return [Column("toy_right", "toy", **words, n=results["toy"]["n"], unit="words", has_interval=False)]


class ToySuite(Suite):
    name = "toy"
    commands: ClassVar = {"toy": Command(f"{__name__}:run_toy", "ask toy questions", COMMAND_ARGUMENTS)}
    report = ToyReport()

    def plan(self, config):
        return (PlannedSuite("toy", 2, "toy"),)

    def list_metrics(self, config, suite):
        return (Metric("toy", RIGHT),)

    def expect(self, questions, suite, entry, shards):
        return {name: digest_json(prompt) for name, prompt in WORDS.items()}

    def measure(self, run, questions, answers, base):
        right = [line[RIGHT] for line in answers.lines["toy"]]
        return {"toy": {"value": sum(right) / len(right), "n": len(right)}}

    def list_items(self, questions, answers):
        return [
            {"suite": "toy", "custom_id": line["custom_id"], "metrics": {RIGHT: line[RIGHT]}}
            for line in answers.lines["toy"]
        ]

    def read_value(self, suite, metric, results):
        return Value(**results["toy"])


SUITE = ToySuite()


def run_toy(arguments: argparse.Namespace) -> None:
    run = open_run(arguments.store_uri, arguments.run_id)
    if not report_skip(run, arguments.model, "toy"):
        ask_toy(run, arguments.model, Shard(arguments.shard, arguments.num_shards))


def ask_toy(run, model, shard):
    entry = find_model(run, model)
    inputs = {"suite": "toy", "model_digest": entry.digest or digest_model(entry.uri), "shard": [shard.number]}

    def ask(endpoint, part):
        done = {line["custom_id"] for line in part.lines}

        async def ask_all():
            async with open_client(endpoint, concurrency=4) as client:

                async def ask_one(name):
                    answer = await client.chat([{"role": "user", "content": WORDS[name]}], max_tokens=4)
                    part.append(
                        {
                            "custom_id": name,
                            "prompt_hash": digest_json(WORDS[name]),
                            "text": answer.text,
                            RIGHT: answer.text == WORDS[name].split()[-1],
                        }
                    )

                await gather_all(ask_one(name) for name in shard.pick(list(WORDS)) if name not in done)

        asyncio.run(ask_all())
        return part.lines, {"items": len(part.lines)}

    run_shard(run, model, find_planned(run.config, "toy"), shard, inputs=inputs, ask=ask, module=__name__)
