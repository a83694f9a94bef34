"""The trained weights as safetensors files: gathered layer by layer, cast and named as the base has them, cut into files.

All ranks gather together, one parameter at a time; the first one renames what it received, writes a file as soon as its
last tensor is there and lets go of it. So it needs memory for about one file and one decoder layer, whatever the model's
size. Names come from transformers' own mapping, which also turns fused experts into one tensor per expert; that it may be
applied layer by layer is checked on empty tensors before the first is gathered.

Source: transformers.core_model_loading (the mapping and its reverse), huggingface_hub.split_torch_state_dict_into_shards.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from training.engine.process_group import Ranks
from voc.errors import IntegrityError, ModelError
from voc.models.folder import INDEX_NAME, TensorLayout

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LAYER = re.compile(r"(.*?\.\d+)\.")
_MAX_LISTED = 3

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Where each tensor of an export goes.

    Attributes:
        dtypes: Dtype of each of the model's tensors in the export, by the model's names.
        file_of: File of each written tensor, by the base's names.
        contents: Number of tensors in each file.
        total_bytes: Bytes of all tensors.
    """

    dtypes: Mapping[str, torch.dtype]
    file_of: Mapping[str, str]
    contents: Mapping[str, int]
    total_bytes: int


def write_weights(
    folder: Path,
    model: PreTrainedModel,
    base: TensorLayout,
    ranks: Ranks,
    *,
    max_file_bytes: int,
    reload_dtype: torch.dtype,
) -> dict[str, str]:
    """Write a trained model's weights with the base's names and dtypes; called by all ranks together.

    Args:
        folder: Where the first rank writes; it exists there.
        model: The trained model, sharded or whole.
        base: The base's tensors.
        ranks: Where this process stands.
        max_file_bytes: Largest file; a larger tensor gets one of its own.
        reload_dtype: Dtype in which the export will be read again.

    Returns:
        The digest of every tensor of the model, by the model's names (`digest_tensor`, after the cast to the base's dtype
        and from there to `reload_dtype`); empty on other ranks.

    Raises:
        ModelError: If the base's tensors cannot be told from the model's.
        IntegrityError: If a weight is not finite, or tied ones moved apart.
    """
    state = list_state(model)
    tied = find_tied(model, state)
    plan = (
        plan_files(model, {n: t for n, t in state.items() if n not in tied}, base, max_file_bytes)
        if ranks.is_first
        else None
    )
    dtypes = _share(plan.dtypes if plan else None)
    digests: dict[str, str] = {}
    writer = _FileWriter(folder, plan) if plan else None
    for names in group_by_layer(name for name in state if name not in tied):
        unit = {name: _gather(state[name], dtypes[name], ranks) for name in names}
        if writer is None:
            continue
        for name, tensor in unit.items():
            _check_finite(name, tensor)
            digests[name] = digest_tensor(tensor.to(reload_dtype))
        for name, tensor in revert_weight_conversion(model, unit).items():
            writer.add(name, tensor)
    for name, source in tied.items():
        if state[name] is not state[source]:
            _check_tied(name, source, *(_gather(state[n], dtypes[source], ranks) for n in (name, source)))
        if ranks.is_first:
            digests[name] = digests[source]
    if writer is not None:
        writer.finish()
    return digests


def list_state(model: PreTrainedModel) -> Tensors:
    """Return the model's tensors by name; those that share one parameter are the same object."""
    state = model.state_dict()  # first: it shards what a forward pass left whole, and frees the memory of the whole
    parameters = dict(model.named_parameters(remove_duplicate=False))
    ignored = model._keys_to_ignore_on_save or ()
    return {
        name: parameters.get(name, tensor)
        for name, tensor in state.items()
        if not any(re.search(pattern, name) for pattern in ignored)
    }


def find_tied(model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the tensors that are not written because they are another one: name -> the one that is."""
    return {name: source for name, source in model.all_tied_weights_keys.items() if name in state and source in state}


def group_by_layer(names: Iterable[str]) -> list[list[str]]:
    """Group names by decoder layer, in order of appearance; names outside of layers stand alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        found = _LAYER.match(name)
        groups.setdefault(found[1] if found else name, []).append(name)
    return list(groups.values())


def plan_files(
    model: PreTrainedModel, state: Mapping[str, torch.Tensor], base: TensorLayout, max_file_bytes: int
) -> FilePlan:
    """Decide under which name, in which dtype and in which file each tensor is written, without its numbers.

    Args:
        model: The trained model; knows how its tensors map to files.
        state: Its tensors by its own names, without tied ones; only shapes are looked at.
        base: The base's tensors.
        max_file_bytes: Largest file.

    Raises:
        ModelError: If the mapping cannot be applied layer by layer, or the base's dtypes do not say what a tensor's is.
    """
    dtypes: dict[str, torch.dtype] = {}
    planned: Tensors = {}
    for names in group_by_layer(state):
        empty = {name: torch.empty(state[name].shape, device="meta") for name in names}
        converted = revert_weight_conversion(model, empty)
        renamed = [name for name in converted if name not in state]
        for name in names:
            dtypes[name] = _choose_dtype(name, [name] if name in converted else renamed, base)
        empty = {name: tensor.to(dtypes[name]) for name, tensor in empty.items()}
        planned |= revert_weight_conversion(model, empty)
    at_once = revert_weight_conversion(model, {n: torch.empty(t.shape, device="meta") for n, t in state.items()})
    if {n: t.shape for n, t in at_once.items()} != {n: t.shape for n, t in planned.items()}:
        raise ModelError(
            f"the tensors of {type(model).__name__} are joined over several layers in its files",
            expected="files whose tensors belong to one layer each",
            remedy="this architecture cannot be exported yet",
        )
    # Experts are views of the tensor they were fused in, and a view is counted with all of its storage.
    apart = {n: torch.empty(t.shape, dtype=t.dtype, device="meta") for n, t in planned.items()}
    split = split_torch_state_dict_into_shards(apart, max_shard_size=max_file_bytes)
    contents = {file: len(names) for file, names in split.filename_to_tensors.items()}
    return FilePlan(dtypes, split.tensor_to_filename, contents, int(split.metadata["total_size"]))


def choose_reload_dtype(base: TensorLayout, computed: torch.dtype) -> torch.dtype:
    """Return the narrowest dtype that reads every tensor without loss and computes as finely as training did.

    Args:
        base: Tensors of the base, whose dtypes the export has.
        computed: Dtype of training's forward pass.
    """
    dtypes = {DTYPES.get(dtype, torch.float32) for dtype, _ in base.values()}
    return reduce(torch.promote_types, dtypes, computed)


def digest_tensor(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and bytes."""
    state = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    data: Any = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    state.update(data)
    return state.hexdigest()


class _FileWriter:
    """Collects tensors and writes each file when its last one is there."""

    def __init__(self, folder: Path, plan: FilePlan) -> None:
        self._folder = folder
        self._plan = plan
        self._open: dict[str, Tensors] = {}

    def add(self, name: str, tensor: torch.Tensor) -> None:
        file = self._plan.file_of[name]
        tensors = self._open.setdefault(file, {})
        tensors[name] = tensor.contiguous()
        if len(tensors) == self._plan.contents[file]:
            save_file(tensors, self._folder / file, metadata={"format": "pt"})
            del self._open[file]

    def finish(self) -> None:
        if len(self._plan.contents) == 1:
            return
        index = {
            "metadata": {"total_size": self._plan.total_bytes},
            "weight_map": dict(sorted(self._plan.file_of.items())),
        }
        (self._folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def _gather(tensor: torch.Tensor, dtype: torch.dtype, ranks: Ranks) -> torch.Tensor:
    """Return a tensor whole and cast, on the CPU of the first rank; on others it is let go of at once."""
    tensor = tensor.detach().to(dtype)
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.cpu() if ranks.is_first else whole.new_empty(0)


def _share(value: Mapping[str, torch.dtype] | None) -> Mapping[str, torch.dtype]:
    """Return the first rank's value on all ranks."""
    shared = [value]
    dist.broadcast_object_list(shared, 0)
    return shared[0] or {}


def _choose_dtype(name: str, written: list[str], base: TensorLayout) -> torch.dtype:
    """Return the dtype of a tensor that is written under some names; a name that the base lacks has its one dtype."""
    dtypes = {base[n][0] for n in written if n in base} or {dtype for dtype, _ in base.values()}
    if len(dtypes) != 1:
        raise ModelError(
            f"the base stores {name!r} under other names, of the dtypes {', '.join(sorted(dtypes))}",
            expected="one dtype for what becomes one tensor",
        )
    (dtype,) = dtypes
    if dtype not in DTYPES:
        raise ModelError(
            f"the base stores {name!r} as {dtype}",
            expected=f"one of {', '.join(DTYPES)}",
            remedy="train from the unquantised weights",
        )
    return DTYPES[dtype]


def _check_finite(name: str, tensor: torch.Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise IntegrityError(
            f"the trained {name} holds numbers that are not finite as {tensor.dtype}",
            expected="finite weights",
            remedy="the training diverged, or the base's dtype is too narrow for what it became: look at metrics.jsonl",
        )


def _check_tied(name: str, source: str, one: torch.Tensor, other: torch.Tensor) -> None:
    if not torch.equal(one, other):
        raise IntegrityError(f"{name} is tied to {source}, yet training moved them apart")
