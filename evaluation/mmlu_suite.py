"""Ask a served model the multiple-choice questions of one shard through lm-eval, in one of two protocols.

    python -m evaluation mmlu --store-uri URI --run-id ID --model NAME --protocol generative --shard 0 --num-shards 2

Reads: models.json, endpoint.json, the data set, the tokenizer in the model's folder. Needs NIGHTFORGE_ENDPOINT_KEY.
Writes: evaluation/<model>/mmlu_<protocol>/shard-.../ {samples.jsonl, manifest}: one line per question in file order. The
tasks are the versioned files in evaluation/tasks/. A run that is killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from evaluation.endpoint import find_served_model, read_card, read_key
from evaluation.mmlu_answers import read_leniently, read_strictly
from evaluation.mmlu_task import TASK_FOLDER
from evaluation.shards import PartFile, Shard, add_shard_arguments, finish_shard, say_if_finished
from voc.errors import IntegrityError
from voc.manifest import digest_bytes
from voc.mmlu import MmluItem, digest_items, load_mmlu, load_mmlu_examples
from voc.model_folder import digest_model, localise_model
from voc.prompts import MMLU_LETTERS, PROMPT_VERSION, render_mmlu_generative, render_mmlu_log_likelihood
from voc.responses import looks_like_voc
from voc.run import Run, add_run_arguments, find_model, open_run

Protocol = Literal["log_likelihood", "generative"]
FILE_NAME = "samples.jsonl"


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `mmlu`."""
    parser = subparsers.add_parser("mmlu", help="ask a served model multiple-choice questions")
    add_run_arguments(parser)
    parser.add_argument("--model", required=True, help="name of a model in the run's models.json")
    parser.add_argument("--protocol", required=True, choices=get_args(Protocol), help="score letters, or read answers")
    add_shard_arguments(parser)
    parser.set_defaults(run=run_suite)


def run_suite(arguments: argparse.Namespace) -> None:
    """Open the run and evaluate one shard."""
    run = open_run(arguments.store_uri, arguments.run_id)
    evaluate_mmlu(run, arguments.model, arguments.protocol, Shard(arguments.shard, arguments.num_shards))


def evaluate_mmlu(run: Run, model: str, protocol: Protocol, shard: Shard) -> None:
    """Answer one shard's questions and write them.

    Raises:
        EndpointError: If the model is not served, another one is, or a request failed for good.
        DataError: If the questions cannot be read.
    """
    suite = f"mmlu_{protocol}"
    prefix = run.layout.shard(model, suite, shard.number, shard.count)
    items = load_mmlu(run.config.evaluation.mmlu.dataset, run.config.evaluation.mmlu.limit)
    inputs = describe_inputs(run, model, protocol, shard, items)
    if say_if_finished(run, prefix, inputs, f"{suite} {model} {shard.number}/{shard.count}"):
        return
    endpoint, start = find_served_model(run, model, inputs["model_digest"]), time.monotonic()
    with (
        run.timed(f"{suite}-{model}-{shard.number:03d}-of-{shard.count:03d}"),
        PartFile(run.store, prefix, inputs) as part,
    ):
        resumed = len(part.lines)
        samples, facts = run_lm_eval(run, model, protocol, shard, part=part)
        lines = make_lines(protocol, shard.pick(items), samples)
        facts |= {
            "items": len(lines),
            "accuracy": sum(line["correct"] for line in lines) / len(lines),
            "wall_s": round(time.monotonic() - start, 3),
            "resumed_items": resumed,
            "engine": endpoint.engine,
        }
        finish_shard(run.store, prefix, FILE_NAME, lines, inputs=inputs, facts=facts)
        part.remove()
    print(f"{suite} {model}: {facts['items']} questions, accuracy {facts['accuracy']:.4f}", flush=True)


def describe_inputs(
    run: Run, model: str, protocol: Protocol, shard: Shard, items: Sequence[MmluItem]
) -> dict[str, Any]:
    """Return what a shard's answers depend on."""
    entry, suite = find_model(run, model), run.config.evaluation.mmlu
    inputs = {
        "suite": f"mmlu_{protocol}",
        "model_digest": entry.digest or digest_model(entry.uri),
        "data_digest": digest_items(items),
        "prompt_version": PROMPT_VERSION,
        "task_digest": digest_bytes((TASK_FOLDER / f"{name_task(protocol)}.yaml").read_bytes()),
        "shard": [shard.number, shard.count],
        "max_model_len": run.config.serving.max_model_len,  # longer prompts are cut
    }
    if protocol == "generative":
        return inputs | {"max_tokens": suite.max_tokens}
    examples = digest_items(load_mmlu_examples(suite.dataset)) if suite.num_fewshot else None
    return inputs | {"num_fewshot": suite.num_fewshot, "examples_digest": examples}


def name_task(protocol: Protocol) -> str:
    """Return the name of a protocol's task, which is also its file's."""
    return f"nightforge_mmlu_{protocol}"


def run_lm_eval(
    run: Run, model: str, protocol: Protocol, shard: Shard, *, part: PartFile
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Let lm-eval ask the questions.

    Returns:
        lm-eval's logged samples in document order, and figures for the manifest.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars become one endless line in a job's log
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from evaluation.mmlu_model import GenerativeModel, LogLikelihoodModel

    suite, key = run.config.evaluation.mmlu, read_key()
    entry = find_model(run, model)
    endpoint = find_served_model(run, model, entry.digest or digest_model(entry.uri))
    max_model_len = int(read_card(endpoint, key).get("max_model_len") or run.config.serving.max_model_len)
    common: dict[str, Any] = {"max_model_len": max_model_len, "concurrency": suite.concurrency, "part": part}
    lm: Any = (
        GenerativeModel(endpoint, key, **common)
        if protocol == "generative"
        else LogLikelihoodModel(endpoint, key, folder=localise_model(entry.uri), **common)
    )
    metadata = {
        "dataset": suite.dataset,
        "protocol": protocol,
        "limit": suite.limit,
        "num_fewshot": suite.num_fewshot,
        "shard": shard.number,
        "num_shards": shard.count,
    }
    loaded = TaskManager(include_path=str(TASK_FOLDER), include_defaults=False, metadata=metadata).load(
        [name_task(protocol)]
    )
    if protocol == "generative":
        task = loaded["tasks"][name_task(protocol)]
        task.set_config("generation_kwargs", {"max_gen_toks": suite.max_tokens}, update=True)
    # Not simple_evaluate: it also describes the machine, for which it imports torch and runs pip.
    results: Any = evaluate(lm, loaded, apply_chat_template=protocol == "generative", bootstrap_iters=0)
    facts = {"truncated_prompts": lm.truncated, "task_version": results["versions"][name_task(protocol)]}
    if protocol == "log_likelihood":
        facts["questions_by_scoring"] = lm.questions
    return results["samples"][name_task(protocol)], facts


def make_lines(
    protocol: Protocol, items: Sequence[MmluItem], samples: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return one line per item from lm-eval's samples.

    Raises:
        IntegrityError: If lm-eval answered other questions than it was given.
    """
    by_id = {sample["doc"]["custom_id"]: sample for sample in samples}
    wanted = {item.custom_id for item in items}
    if by_id.keys() != wanted or len(samples) != len(items):
        raise IntegrityError(f"lm-eval returned {len(samples)} samples", expected=f"one for each of {len(items)} items")
    make = _make_generative_line if protocol == "generative" else _make_log_likelihood_line
    return [make(item, by_id[item.custom_id]["resps"]) for item in items]


def _make_log_likelihood_line(item: MmluItem, responses: Sequence[Any]) -> dict[str, Any]:
    scores = [float(response[0][0]) for response in responses]
    prediction = MMLU_LETTERS[scores.index(max(scores))]
    prompt = render_mmlu_log_likelihood(item.subject, item.question, item.choices)
    return {
        "custom_id": item.custom_id,
        "subject": item.subject,
        "slice": item.slice,
        "answer": item.answer,
        "prediction": prediction,
        "log_probabilities": scores,
        "correct": prediction == item.answer,
        "prompt_hash": digest_bytes(prompt.encode()),
    }


def _make_generative_line(item: MmluItem, responses: Sequence[Any]) -> dict[str, Any]:
    text = str(responses[0][0])
    strict = read_strictly(text)
    prompt = render_mmlu_generative(item.question, item.choices)
    return {
        "custom_id": item.custom_id,
        "subject": item.subject,
        "slice": item.slice,
        "answer": item.answer,
        "text": text,
        "strict": strict,
        "lenient": read_leniently(text),
        "correct": strict == item.answer,
        "schema_leak": looks_like_voc(text),
        "prompt_hash": digest_bytes(prompt.encode()),
    }
