"""From sharded float32 weights to a model folder that differs from the base in its weights only, verified before it counts.

The folder has the base's tensor names, shapes and dtypes as safetensors, and its other files byte for byte. Verified: the
layout against the base, every tensor bit for bit after a reload, and the next-token distributions of the reloaded model
against those of the model that was trained. Only then are the manifests written: the export's, then the training's.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import PreTrainedModel

from training.batches import Batch, Document, build_batch
from training.job import TrainingJob
from training.metrics import METRICS_NAME, summarise, write_metrics
from training.model import compute_logits, read_model
from training.process_group import Ranks
from training.routing import EXPERT_LOAD_NAME, get_routing, write_expert_load
from voc.errors import IntegrityError, ModelError
from voc.manifest import MANIFEST_NAME, commit_folder
from voc.model_folder import INDEX_NAME

MIN_COSINE = 0.999
VERIFICATION_NAME = "verification.json"
_COPIED_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_MAX_PROBES = 4
_MAX_LISTED = 5
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

TensorLayout = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked on an export.

    Attributes:
        num_tensors: Tensors in its files.
        num_parameters: Numbers in them.
        tensors_equal: Tensors of the reloaded model that are bit for bit those that were trained.
        min_cosine: Least cosine between next-token logits, trained against reloaded, over `num_positions` places.
        num_positions: Places compared.
        copied_files: Files taken over from the base unchanged.
    """

    num_tensors: int
    num_parameters: int
    tensors_equal: int
    min_cosine: float
    num_positions: int
    copied_files: tuple[str, ...]


def export_model(job: TrainingJob, ranks: Ranks, model: PreTrainedModel, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Gather, write, verify and commit the trained model; called by all ranks together.

    Raises:
        IntegrityError: If the written model is not the trained one.
        ModelError: If the base's files mix dtypes in a way that the trained tensors cannot follow.
    """
    probe = _build_probe(job)
    model.eval()
    with torch.no_grad():
        trained = compute_logits(model, probe.to(ranks.device)).cpu()
    whole: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if ranks.is_first:
        with tempfile.TemporaryDirectory(prefix="nightforge-export-") as name:
            folder, card = Path(name) / "export", Path(name) / "training"
            copied = write_model(folder, job.base.folder, model, whole)
            verification = verify_model(folder, job.base.folder, whole, (probe, trained), copied)
            facts = {"arm": job.arm, "run_id": job.run.layout.run_id, **summarise(metrics)}
            layout, store = job.run.layout, job.run.store
            manifest = commit_folder(store, layout.export(job.arm), folder, inputs=job.inputs, facts=facts)
            card.mkdir()
            write_metrics(card / METRICS_NAME, metrics)
            write_expert_load(card / EXPERT_LOAD_NAME, metrics, get_routing(model))
            document = {"model_digest": manifest.digest, "world_size": ranks.world_size, **asdict(verification)}
            (card / VERIFICATION_NAME).write_text(json.dumps(document, indent=1))
            commit_folder(store, layout.training(job.arm), card, inputs=job.inputs, facts=facts)
            print(
                f"{job.arm}: exported {verification.num_tensors} tensors, verified "
                f"(cosine {verification.min_cosine:.6f}), digest {manifest.digest[:12]}",
                flush=True,
            )
    dist.barrier()


def write_model(folder: Path, base: Path, model: PreTrainedModel, whole: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """Write the weights in the base's layout beside the base's other files.

    Args:
        folder: A folder to make.
        base: The base model's folder.
        model: The trained model; says how its tensors map to files.
        whole: Its complete state dict; cast to the base's dtypes in place.

    Returns:
        The names of the copied files.
    """
    _cast_as_base(whole, read_tensor_layout(base))
    _tie(whole, model.all_tied_weights_keys)
    folder.mkdir(parents=True)
    model.save_pretrained(folder, state_dict=dict(whole))
    for path in folder.iterdir():
        if path.suffix not in _WEIGHT_SUFFIXES and path.name != INDEX_NAME:
            path.unlink()
    copied = [p for p in sorted(base.iterdir()) if p.is_file() and p.suffix in _COPIED_SUFFIXES]
    copied = [p for p in copied if p.name not in {INDEX_NAME, MANIFEST_NAME} and not p.name.endswith(".index.json")]
    for path in copied:
        shutil.copyfile(path, folder / path.name)
    return tuple(path.name for path in copied)


def verify_model(
    folder: Path,
    base: Path,
    whole: Mapping[str, torch.Tensor],
    expected: tuple[Batch, torch.Tensor],
    copied: tuple[str, ...],
) -> Verification:
    """Compare a written model folder with its base's layout and with the trained model.

    Args:
        folder: The written folder.
        base: The base model's folder.
        whole: The trained state dict in the base's dtypes.
        expected: A batch, and the trained model's logits for it, [N, V].
        copied: Files taken over from the base.

    Raises:
        IntegrityError: With the first differences.
    """
    layout = read_tensor_layout(folder)
    reloaded = read_model(folder)
    _check_layout(layout, read_tensor_layout(base), set(reloaded.all_tied_weights_keys))
    tensors_equal = _check_tensors(reloaded.state_dict(), whole)
    with torch.no_grad():
        logits = compute_logits(reloaded, expected[0])
    cosines = F.cosine_similarity(expected[1], logits, dim=-1)
    min_cosine = float(cosines.min())
    if not min_cosine >= MIN_COSINE:
        raise IntegrityError(
            f"the exported model answers differently from the trained one: cosine {min_cosine:.5f}",
            expected=f"at least {MIN_COSINE} at every one of {cosines.numel()} places",
            remedy="keep the checkpoint; training and loading compute different functions",
        )
    num_parameters = sum(torch.Size(shape).numel() for _, shape in layout.values())
    return Verification(len(layout), num_parameters, tensors_equal, min_cosine, cosines.numel(), copied)


def read_tensor_layout(folder: Path) -> TensorLayout:
    """Return name -> (dtype, shape) of every tensor in a folder's safetensors, from their headers."""
    layout: TensorLayout = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                view = file.get_slice(name)
                layout[name] = (view.get_dtype(), tuple(view.get_shape()))
    return layout


def _cast_as_base(whole: dict[str, torch.Tensor], layout: TensorLayout) -> None:
    dtypes = {dtype for dtype, _ in layout.values()}
    for name, tensor in whole.items():
        if name not in layout and len(dtypes) != 1:
            raise ModelError(
                f"the base stores {name!r} under another name and mixes the dtypes {', '.join(sorted(dtypes))}",
                expected="one dtype, or tensors under their own names",
            )
        dtype = layout[name][0] if name in layout else next(iter(dtypes))
        if dtype not in _DTYPES:
            raise ModelError(
                f"the base stores {name!r} as {dtype}",
                expected=f"one of {', '.join(_DTYPES)}",
                remedy="train from the unquantised weights",
            )
        whole[name] = tensor.to(_DTYPES[dtype])


def _tie(whole: dict[str, torch.Tensor], tied: Mapping[str, str]) -> None:
    """Let tied tensors share memory again, which gathering undid, so that they are written once."""
    for name, source in tied.items():
        if not torch.equal(whole[name], whole[source]):
            raise IntegrityError(f"{name} is tied to {source}, yet training moved them apart")
        whole[name] = whole[source]


def _check_layout(seen: TensorLayout, expected: TensorLayout, tied: set[str]) -> None:
    problems = [f"{name} is missing" for name in sorted(expected.keys() - seen.keys() - tied)]
    problems += [f"{name} is new" for name in sorted(seen.keys() - expected.keys())]
    problems += [
        f"{name} is {seen[name]}, in the base {expected[name]}"
        for name in sorted(seen.keys() & expected.keys())
        if seen[name] != expected[name]
    ]
    if problems:
        raise IntegrityError(
            f"the export has another layout than the base in {len(problems)} tensors: "
            f"{'; '.join(problems[:_MAX_LISTED])}",
            expected="the same names, shapes and dtypes",
        )


def _check_tensors(reloaded: Mapping[str, torch.Tensor], whole: Mapping[str, torch.Tensor]) -> int:
    names = sorted(whole.keys() | reloaded.keys())
    wrong = [
        name
        for name in names
        if name not in reloaded or name not in whole or not torch.equal(reloaded[name], whole[name].float())
    ]
    if wrong:
        raise IntegrityError(
            f"{len(wrong)} of {len(names)} tensors differ after a reload: {', '.join(wrong[:_MAX_LISTED])}",
            expected="every tensor bit for bit",
        )
    return len(names)


def _build_probe(job: TrainingJob) -> Batch:
    """Return the first samples of the run."""
    samples = job.samples.read_step(0)[:_MAX_PROBES]
    return build_batch([Document(sample.input_ids, sample.labels) for sample in samples], pad_id=0)
