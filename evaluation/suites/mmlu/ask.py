"""Ask a served model the multiple-choice questions of one shard through lm-eval, in one of three protocols.

    python -m evaluation mmlu --store-uri URI --run-id ID --model NAME --protocol generative --shard 0 --num-shards 2

Reads: models.json, endpoint.json, the data set, tokenizer and chat template of the model. Needs NIGHTFORGE_ENDPOINT_KEY.
Writes: evaluation/<model>/mmlu_<protocol>/shard-.../ {samples.jsonl, manifest}: one line per question in file order. The
tasks are the versioned files in evaluation/suites/mmlu/tasks/. A run that is killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.serving.endpoint import Endpoint
from evaluation.shards.shard import PartFile, Shard, run_shard
from evaluation.suites.lm_eval.ask import ask_tasks
from evaluation.suites.lm_eval.tasks import load_own_tasks, read_chat_template
from evaluation.suites.mmlu.protocols import TASK_FOLDER, Asking, Protocol, make_asking, name_task, suite_of
from evaluation.suites.mmlu.readings import describe_answer
from evaluation.suites.protocol import Line
from evaluation.suites.registry import find_planned, report_skip
from voc.errors import IntegrityError
from voc.mmlu import MmluItem, digest_items, load_mmlu
from voc.models.folder import digest_model
from voc.prompts import MMLU_LETTERS, PROMPT_VERSION
from voc.run import Run, find_model, open_run
from voc.store.manifest import digest_bytes


def run_suite(arguments: argparse.Namespace) -> None:
    """Open the run and evaluate one shard."""
    run = open_run(arguments.store_uri, arguments.run_id)
    if not report_skip(run, arguments.model, suite_of(arguments.protocol)):
        evaluate_mmlu(run, arguments.model, arguments.protocol, Shard(arguments.shard, arguments.num_shards))


def evaluate_mmlu(run: Run, model: str, protocol: Protocol, shard: Shard) -> None:
    """Answer one shard's questions and write them.

    Raises:
        EndpointError: If the model is not served, another one is, or a request failed for good.
        DataError: If the questions cannot be read.
    """
    items = load_mmlu(run.config.evaluation.mmlu.dataset, run.config.evaluation.mmlu.limit)
    asking = make_asking(protocol, run.config.evaluation.mmlu)

    def ask(_: Endpoint, part: PartFile) -> tuple[list[Line], dict[str, Any]]:
        lines, facts = ask_questions(run, model, asking, shard, shard.pick(items), part=part)
        return lines, facts | summarise(lines)

    inputs = describe_inputs(run, model, asking, shard, items)
    planned = find_planned(run.config, suite_of(protocol))
    facts = run_shard(run, model, planned, shard, inputs=inputs, ask=ask, module=__name__)
    if facts is not None:
        accuracy = facts["accuracy"]
        print(f"{suite_of(protocol)} {model}: {facts['items']} questions, accuracy {accuracy:.4f}", flush=True)


def describe_inputs(run: Run, model: str, asking: Asking, shard: Shard, items: Sequence[MmluItem]) -> dict[str, Any]:
    """Return what a shard's answers depend on; few-shot count, chat template and system prompt are in `asked`."""
    entry, suite = find_model(run, model), run.config.evaluation.mmlu
    task = (TASK_FOLDER / f"{name_task(asking.protocol)}.yaml").read_bytes()
    has_template = asking.is_chat and entry.kind == "vllm"  # a closed model's is its own business
    decoding = {"scoring": suite.scoring, "max_tokens": suite.max_tokens if asking.protocol == "generative" else None}
    return {
        "suite": suite_of(asking.protocol),
        "model_digest": entry.digest or digest_model(entry.uri),
        "data_digest": digest_items(items),
        "prompt_version": PROMPT_VERSION,
        "task_digest": digest_bytes(task),
        "asked": asking.describe(items, read_chat_template(entry.uri) if has_template else None),
        "decoding": {name: value for name, value in decoding.items() if asking.is_chat == (name == "max_tokens")},
        "shard": [shard.number, shard.count],
        "max_model_len": run.config.serving.max_model_len,  # longer prompts are cut
    }


def ask_questions(
    run: Run, model: str, asking: Asking, shard: Shard, items: Sequence[MmluItem], *, part: PartFile
) -> tuple[list[Line], dict[str, Any]]:
    """Let lm-eval ask one shard's questions.

    Returns:
        One line per item, in order, and figures for the manifest.
    """
    suite, protocol = run.config.evaluation.mmlu, asking.protocol
    name = name_task(protocol)
    metadata = {
        "dataset": suite.dataset,
        "protocol": protocol,
        "limit": suite.limit,
        "num_fewshot": asking.num_fewshot,
        "shard": shard.number,
        "num_shards": shard.count,
    }
    tasks = load_own_tasks(TASK_FOLDER, [name], metadata)
    if protocol == "generative":
        tasks[name].set_config("generation_kwargs", {"max_gen_toks": suite.max_tokens}, update=True)
    results, facts = ask_tasks(
        run,
        model,
        "chat" if asking.is_chat else "log_likelihood",
        tasks,
        concurrency=suite.concurrency,
        scoring=suite.scoring,
        part=part,
        system_prompt=asking.system_prompt,
    )
    lines = make_lines(asking, items, results["samples"][name], {line["custom_id"]: line for line in part.lines})
    return lines, facts | {"task_version": results["versions"][name]}


def summarise(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the figures of a shard's manifest."""
    facts: dict[str, Any] = {
        "items": len(lines),
        "accuracy": sum(line["correct"] for line in lines) / len(lines) if lines else None,
    }
    if lines and "kind" in lines[0]:
        facts["answer_kinds"] = dict(sorted(Counter(line["kind"] for line in lines).items()))
    return facts


def make_lines(
    asking: Asking,
    items: Sequence[MmluItem],
    samples: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
) -> list[Line]:
    """Return one line per item.

    Args:
        asking: How they were asked.
        items: The shard's questions.
        samples: What lm-eval logged, in any order.
        answers: Part lines by id: finish reasons, or the way of scoring.

    Raises:
        IntegrityError: If lm-eval answered other questions than it was given.
    """
    by_id = {sample["doc"]["custom_id"]: sample for sample in samples}
    if by_id.keys() != {item.custom_id for item in items} or len(samples) != len(items):
        raise IntegrityError(f"lm-eval returned {len(samples)} samples", expected=f"one for each of {len(items)} items")
    read = {"log_likelihood": _read_scores, "generative": _read_text, "letter": _read_letter}[asking.protocol]
    return [
        {
            "custom_id": item.custom_id,
            "subject": item.subject,
            "slice": item.slice,
            "answer": item.answer,
            **read(item, by_id[item.custom_id]["resps"], answers[item.custom_id]),
            "prompt_hash": asking.hash_prompt(item),
        }
        for item in items
    ]


def _read_scores(item: MmluItem, responses: Sequence[Any], answer: Mapping[str, Any]) -> Line:
    scores = [float(response[0][0]) for response in responses]
    prediction = MMLU_LETTERS[scores.index(max(scores))]
    return {
        "prediction": prediction,
        "log_probabilities": scores,
        "scoring": answer["scoring"],
        "correct": prediction == item.answer,
    }


def _read_text(item: MmluItem, responses: Sequence[Any], answer: Mapping[str, Any]) -> Line:
    text, reason = str(responses[0][0]), str(answer["finish_reason"])
    return {
        "text": text,
        "finish_reason": reason,
        "completion_tokens": answer["completion_tokens"],
        **describe_answer(text, reason, item.answer),
    }


def _read_letter(item: MmluItem, responses: Sequence[Any], answer: Mapping[str, Any]) -> Line:
    text = str(responses[0][0]).strip()
    return {
        "text": text,
        "finish_reason": answer["finish_reason"],
        # A server that does not constrain shows here: anything but one of the letters is wrong, and counted.
        "is_letter": text in MMLU_LETTERS,
        "correct": text == item.answer,
    }
