"""lm-eval as this pipeline uses it: tasks by name, their files, their needs and what their answers depend on; samples in memory.

lm_eval is imported inside functions only.

Source: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/task_guide.md (keys of a task);
Zhou et al., 2023, Instruction-Following Evaluation for Large Language Models (IFEval).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from voc.config.night import LmEvalTaskConfig, NightforgeConfig
from voc.errors import ConfigError, DataError
from voc.models.folder import read_model_file
from voc.store.manifest import digest_json
from voc.store.uri import open_uri

ModelKind = Literal["chat", "log_likelihood"]
# Where the Hugging Face layout keeps a chat template: a file of its own, or a key of the tokenizer's settings.
TEMPLATE_FILE, SETTINGS_FILE = "chat_template.jinja", "tokenizer_config.json"


def evaluate_tasks(
    lm: Any,
    tasks: Mapping[str, Any],
    *,
    is_chat: bool,
    docs: Mapping[str, Sequence[int]] | None = None,
    system_prompt: str | None = None,
) -> dict[str, Any]:
    """Return lm-eval's results of one model object, without what it would read of this machine."""
    silence()
    from lm_eval.evaluator import evaluate

    # Not simple_evaluate: it also describes the machine, for which it imports torch and runs pip.
    results: Any = evaluate(
        lm,
        {"tasks": dict(tasks), "groups": {}, "group_map": {}},
        samples=None if docs is None else dict(docs),
        apply_chat_template=is_chat,
        system_instruction=system_prompt,
        bootstrap_iters=0,
    )
    return dict(results)


def load_own_tasks(folder: Path, names: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return lm-eval's task objects of some files of a folder; their functions are called with `metadata`."""
    silence()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=dict(metadata))
    return dict(manager.load(list(names))["tasks"])


def read_chat_template(uri: str) -> str | None:
    """Return the chat template of a model folder, or None if it has none."""
    own = read_model_file(uri, TEMPLATE_FILE)
    if own is not None:
        return own.decode()
    settings = read_model_file(uri, SETTINGS_FILE)
    template = None if settings is None else json.loads(settings).get("chat_template")
    return template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)


def silence() -> None:
    """Keep lm-eval's bars and messages out of a job's log; call it before lm_eval is imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars become one endless line in a job's log
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def request_id(request: Any) -> str:
    """Return the document's own `custom_id`, else `<task>-<document>`; the choices of one question share it.

    Args:
        request: An lm-eval Instance.
    """
    own = request.doc.get("custom_id") if isinstance(request.doc, dict) else None
    return str(own) if own is not None else make_id(request.task_name, request.doc_id)


def make_id(task: str, doc_id: int) -> str:
    """Return the id of a document that has none of its own."""
    return f"{task}-{doc_id:06d}"


KINDS: dict[str, ModelKind] = {
    "generate_until": "chat",
    "multiple_choice": "log_likelihood",
    "loglikelihood": "log_likelihood",
}
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def suite_name(task: str) -> str:
    """Return the name of a task's suite, which is part of object keys."""
    return f"lm_eval_{task}"


def find_task(config: NightforgeConfig, name: str) -> LmEvalTaskConfig:
    """Return the task of a configuration.

    Raises:
        ConfigError: If it has none of that name.
    """
    try:
        return config.evaluation.lm_eval_task(name)
    except ValueError as error:
        raise ConfigError(str(error), expected="a name of evaluation.lm_eval_tasks") from None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a family of tasks imports or reads that lm-eval itself does not bring.

    Attributes:
        packages: Names to import.
        nltk_data: A resource of nltk, as `nltk.data.find` takes it, or None.
    """

    packages: tuple[str, ...]
    nltk_data: str | None = None


# lm-eval's ifeval would download nltk's data while it is imported, and would fail at the end of a shard without it.
NEEDS = {"ifeval": Needs(("langdetect", "immutabledict", "nltk"), "tokenizers/punkt_tab")}


@dataclass(frozen=True, slots=True)
class LoadedTasks:
    """Tasks that can be asked.

    Attributes:
        tasks: lm-eval's task objects by name; a group is its tasks.
        kind: Which requests they make; the same for all of them.
        num_docs: Questions per task, after the limit.
        describes: Per task, version, few-shot count, hash of the settings and of the questions.
    """

    tasks: Mapping[str, Any]
    kind: ModelKind
    num_docs: Mapping[str, int]
    describes: Mapping[str, dict[str, Any]]


@contextmanager
def load_tasks(config: LmEvalTaskConfig, *, seed: int) -> Iterator[LoadedTasks]:
    """Load a task or group with its data; files from a store are here while the block runs.

    Raises:
        ConfigError: If there is no such task, it needs what is not installed, or it cannot be asked here.
        DataError: If its data cannot be loaded.
    """
    check_needs(config.task_name)
    with tempfile.TemporaryDirectory(prefix="nightforge-tasks-") as name:
        tasks = _load(config, Path(name))
        kind = find_kind(config.task_name, tasks)
        for task in tasks.values():
            _apply(config, task, seed)
        docs = {task_name: list(task.eval_docs)[: config.limit] for task_name, task in tasks.items()}
        describes = {
            task_name: {
                "version": task.VERSION,
                "num_fewshot": task.config.num_fewshot or 0,
                "settings_hash": digest_json(_to_json(_without_paths(task.dump_config()))),
                "data_hash": digest_json(_to_json(docs[task_name])),
            }
            for task_name, task in tasks.items()
        }
        yield LoadedTasks(tasks, kind, {task_name: len(found) for task_name, found in docs.items()}, describes)


def check_needs(task: str) -> None:
    """Look for what a task needs before anything is asked.

    Raises:
        ConfigError: With everything that is missing and how to get it.
    """
    needs = next((needs for family, needs in NEEDS.items() if family in task), None)
    if needs is None:
        return
    missing = [name for name in needs.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the task {task} needs the packages {', '.join(missing)}, which are not installed",
            expected="the Ray image, whose lock has them",
            remedy=f"pip install {' '.join(missing)} on every Ray node, or take the task out of evaluation.lm_eval_tasks",
        )
    if needs.nltk_data is not None:
        _check_nltk(task, needs.nltk_data)
    if "langdetect" in needs.packages:
        import langdetect

        langdetect.DetectorFactory.seed = 0  # else it draws anew in every process, and so do figures


def _check_nltk(task: str, resource: str) -> None:
    import nltk

    try:
        nltk.data.find(resource)
    except LookupError:
        package = resource.rpartition("/")[2]
        raise ConfigError(
            f"the task {task} needs nltk's {package}, which is in none of {', '.join(nltk.data.path)}",
            expected="the Ray image, which brings it",
            remedy=f"where there is a network: python -m nltk.downloader -d FOLDER {package}; then set NLTK_DATA=FOLDER "
            "for the Ray head and workers",
        ) from None


def find_kind(name: str, tasks: Mapping[str, Any]) -> ModelKind:
    """Return which requests tasks make.

    Raises:
        ConfigError: If they make several kinds, one that is not asked here, or ask a question several times.
    """
    types = sorted({str(task.OUTPUT_TYPE) for task in tasks.values()})
    kinds = {KINDS.get(output_type) for output_type in types}
    if len(kinds) != 1 or None in kinds:
        raise ConfigError(
            f"the task {name} is of the output type {' and '.join(types)}",
            expected=f"one of {', '.join(KINDS)}, all of one kind",
            remedy="list the tasks of the group one by one, or leave it out",
        )
    repeated = [task_name for task_name, task in tasks.items() if (task.config.repeats or 1) > 1]
    if repeated:
        raise ConfigError(
            f"{', '.join(repeated)}: every question is asked several times", expected="repeats: 1; answers are greedy"
        )
    return next(kind for kind in kinds if kind is not None)


def _load(config: LmEvalTaskConfig, folder: Path) -> dict[str, Any]:
    silence()
    from lm_eval.tasks import TaskManager

    own = None if config.folder is None else _bring_folder(config.folder, folder / "tasks")
    manager = TaskManager(include_path=None if own is None else str(own), include_defaults=own is None)
    if config.task_name not in manager.task_index:
        raise ConfigError(
            f"there is no lm-eval task {config.task_name!r}",
            expected=f"a task or group of {config.folder or 'lm-eval ' + version('lm_eval')}",
            remedy="check evaluation.lm_eval_tasks; `lm-eval ls tasks` lists lm-eval's own",
        )
    if config.data_files and config.task_name not in manager.all_subtasks:
        raise ConfigError(
            f"{config.task_name} is a group of tasks, and data_files are for one",
            remedy="list its tasks one by one, each with its files",
        )
    try:
        loaded = manager.load([_describe(config, folder) if config.data_files else config.task_name])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the task {config.task_name} needs the package {error.name}, which is not installed",
            remedy=f"pip install {error.name} on every Ray node",
        ) from error
    except Exception as error:  # datasets raises a different class for each way to be offline, misspelt or damaged
        raise DataError(
            f"the task {config.task_name} cannot be loaded: {type(error).__name__}: {error}",
            expected="a data set that can be reached from here",
            remedy="name local copies with data_files, or check the network and HF_HUB_OFFLINE",
        ) from error
    return dict(loaded["tasks"])


def _describe(config: LmEvalTaskConfig, folder: Path) -> dict[str, Any]:
    """Return lm-eval's description of a task with other data than its own."""
    files = {split: str(_bring_file(uri, folder / "data" / split)) for split, uri in config.data_files.items()}
    suffix = next(s for s in _BUILDERS if next(iter(files.values())).endswith(s))
    data = {
        "dataset_path": _BUILDERS[suffix],
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
    }
    # As the one member of a group it is the registered task with these changes; alone it would be a new one.
    return {"group": "with_other_data", "task": [{"task": config.task_name, **data}]}


def _bring_file(uri: str, folder: Path) -> Path:
    store, key = open_uri(uri)
    path = store.local_path(key)
    if path is not None and path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / key.rpartition("/")[2]
    store.download_file(key, target)
    return target


def _bring_folder(uri: str, folder: Path) -> Path:
    store, key = open_uri(uri)
    path = store.local_path(key)
    if path is not None:
        if not path.is_dir():
            raise ConfigError(f"{uri} is no folder", expected="a folder with lm-eval task files")
        return path
    for found in store.list_keys(key):
        store.download_file(found, folder / found.removeprefix(f"{key}/"))
    return folder


def _apply(config: LmEvalTaskConfig, task: Any, seed: int) -> None:
    if config.num_fewshot is not None:
        task.set_config("num_fewshot", config.num_fewshot)
    if config.max_tokens is not None and task.OUTPUT_TYPE == "generate_until":
        task.set_config("generation_kwargs", {"max_gen_toks": config.max_tokens}, update=True)
    task.set_fewshot_seed(seed)


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's settings without where its data was on this machine; what the data is has a hash of its own."""
    return {name: value for name, value in settings.items() if name not in {"dataset_kwargs", "metadata"}}


def _to_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def pick_docs(loaded: LoadedTasks, number: int, count: int) -> dict[str, Sequence[int]]:
    """Return which questions of each task belong to a shard; a task that has none for it is left out."""
    ranges = {name: range(number, total, count) for name, total in loaded.num_docs.items()}
    return {name: found for name, found in ranges.items() if found}


def list_aggregations(loaded: LoadedTasks) -> dict[str, dict[str, str]]:
    """Return, per task and metric, the name of the function that makes one figure of all questions."""
    return {
        name: {metric: getattr(function, "__name__", str(function)) for metric, function in task.aggregation().items()}
        for name, task in loaded.tasks.items()
    }


def list_figures(task: Any) -> list[str]:
    """Return the names of a task's figures, `metric,filter` each, as lm-eval and `decision.metrics` write them."""
    filters = [str(one.name) for one in task._filters] if getattr(task, "_filters", None) else ["none"]
    return [f"{metric},{name}" for metric in task.aggregation() for name in filters]
