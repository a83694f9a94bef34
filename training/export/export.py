"""From sharded weights to a model folder that differs from the base in its weights only, verified before it counts.

The folder has the base's tensor names, shapes and dtypes as safetensors, and its settings and tokenizer byte for byte; pickles
and code of the base stay behind. `training.export.verification` judges it. Only then are the manifests
written: the export's, then the training's, which holds the card.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from training.engine.batches import Batch, Document, build_batch
from training.engine.model import compute_logits
from training.engine.process_group import Ranks
from training.engine.routing import EXPERT_LOAD_NAME, get_routing, write_expert_load
from training.export.verification import Trained, find_prompt_room, list_questions, verify_model
from training.export.verification_card import CARD_FORMAT, CARD_NAME, format_card
from training.export.vllm_smoke import write_draft
from training.export.weights import DTYPES, choose_reload_dtype, write_weights
from training.job import TrainingJob
from training.metrics import METRICS_NAME, StepFigures, summarise, write_metrics
from voc.models.folder import INDEX_NAME
from voc.models.folder import list_weight_files
from voc.models.folder import read_tensor_layout
from voc.store.manifest import MANIFEST_NAME, commit_folder, digest_json

_COPIED_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
_DOCUMENTS = {".md", ".gitattributes", ""}
_MAX_PROBES = 4
_MAX_PLACES = 512
_PROBE_TOKENS = 4096  # or a training pass's, if that is more: nothing is kept for a backward pass here
_GIB = 1 << 30
_VERIFY_TIMEOUT = timedelta(hours=6)  # a model of hundreds of gigabytes is read, compared and uploaded meanwhile


@dataclass(frozen=True, slots=True)
class WrittenFolder:
    """What was written.

    Attributes:
        digests: Digest of each tensor, as `training.export.weights.write_weights` returns them.
        copied: Files taken over from the base unchanged.
        left_out: Files of the base that were not: pickles, code, weights of other formats.
    """

    digests: Mapping[str, str]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]


def export_model(job: TrainingJob, ranks: Ranks, model: PreTrainedModel, metrics: Sequence[StepFigures]) -> None:
    """Write, verify and commit the trained model; called by all ranks together.

    Raises:
        IntegrityError: If the written model is not the trained one, with the check that found it.
        ModelError: If the base's files mix dtypes in a way that the trained tensors cannot follow.
    """
    probe = build_probe(job)
    model.eval()
    with torch.no_grad():
        logits = compute_logits(model, probe.to(ranks.device)).cpu()
    # The first rank works alone for long; a collective of the training's group would give up on it.
    waiting = dist.new_group(backend="gloo", timeout=_VERIFY_TIMEOUT)
    with tempfile.TemporaryDirectory(prefix="nightforge-export-") as name:
        folder = Path(name) / "export"
        max_file_bytes = int(job.training.export.max_shard_gib * _GIB)
        base, computed = read_tensor_layout(job.base.folder), getattr(torch, job.training.param_dtype)
        reload_dtype = choose_reload_dtype(base, computed)
        written = write_model(
            folder, job.base.folder, model, ranks, max_file_bytes=max_file_bytes, reload_dtype=reload_dtype
        )
        if ranks.is_first:
            is_exact = {computed, *(DTYPES[dtype] for dtype, _ in base.values())} == {torch.float32}
            trained = Trained(probe, logits, written.digests, job.base.tokenizer, reload_dtype, is_exact)
            card = verify_model(folder, job.base.folder, trained, written.copied)
            card = card | {"left_out": list(written.left_out)}
            left = Path(name) / "training"
            left.mkdir()
            write_metrics(left / METRICS_NAME, metrics)
            write_expert_load(left / EXPERT_LOAD_NAME, metrics, get_routing(model))
            questions = list_questions(probe, logits, find_prompt_room(model))
            card = {"world_size": ranks.world_size, **card}
            _commit(job, Path(name), card, digest_json(dict(written.digests)), metrics, questions=questions)
    dist.barrier(waiting)
    dist.destroy_process_group(waiting)


def write_model(
    folder: Path,
    base: Path,
    model: PreTrainedModel,
    ranks: Ranks,
    *,
    max_file_bytes: int,
    reload_dtype: torch.dtype,
) -> WrittenFolder:
    """Write the weights in the base's layout beside the base's other files; called by all ranks together.

    Args:
        folder: A folder to make, on the first rank.
        base: The base model's folder.
        model: The trained model, sharded or whole.
        ranks: Where this process stands.
        max_file_bytes: Largest weight file.
        reload_dtype: Dtype in which the export will be read again.

    Raises:
        ModelError: If the base's tensors cannot be told from the model's.
        IntegrityError: If a weight is not finite, or tied ones moved apart.
    """
    if ranks.is_first:
        folder.mkdir(parents=True)
    digests = write_weights(
        folder, model, read_tensor_layout(base), ranks, max_file_bytes=max_file_bytes, reload_dtype=reload_dtype
    )
    if not ranks.is_first:
        return WrittenFolder({}, (), ())
    files = [path for path in sorted(base.iterdir()) if path.is_file() and path.name != MANIFEST_NAME]
    copied = [p for p in files if p.suffix in _COPIED_SUFFIXES and not p.name.endswith(".index.json")]
    for path in copied:
        shutil.copyfile(path, folder / path.name)
    known = {*copied, *list_weight_files(base), base / INDEX_NAME}
    left_out = [path.name for path in files if path not in known and path.suffix not in _DOCUMENTS]
    return WrittenFolder(digests, tuple(path.name for path in copied), tuple(left_out))


def build_probe(job: TrainingJob) -> Batch:
    """Return the first samples of the run, no more than memory has room for, with at most `_MAX_PLACES` to compare."""
    room = max(job.training.micro_batch_size * job.training.max_seq_len, _PROBE_TOKENS)
    documents: list[Document] = []
    for sample in job.samples.read_step(0)[:_MAX_PROBES]:
        room -= len(sample.input_ids)
        if room >= 0 or not documents:
            documents.append(Document(sample.input_ids, sample.labels))
    batch = build_batch(documents, pad_id=0)
    chosen = torch.linspace(0, len(batch.places) - 1, min(len(batch.places), _MAX_PLACES)).long()
    return replace(batch, places=batch.places[chosen], targets=batch.targets[chosen])


def _commit(
    job: TrainingJob,
    folder: Path,
    card: Mapping[str, Any],
    weights_digest: str,
    metrics: Sequence[StepFigures],
    *,
    questions: Sequence[Mapping[str, Any]],
) -> None:
    """Put the export and then what training leaves into the store, a draft of it where vLLM is to be asked.

    `weights_digest` goes over names and numbers of all tensors, so that it does not depend on how they are cut into files.
    """
    layout, store = job.run.layout, job.run.store
    names = {"arm": job.arm, "run_id": layout.run_id}
    facts = {**names, **summarise(metrics), "weights_digest": weights_digest}
    manifest = commit_folder(store, layout.export(job.arm), folder / "export", inputs=job.inputs, facts=facts)
    left = folder / "training"
    digests = {"model_digest": manifest.digest, "weights_digest": weights_digest}
    asks_vllm = job.training.export.vllm_smoke
    vllm = {} if asks_vllm else {"vllm": "not asked (training.export.vllm_smoke is false)"}
    document = {"format": CARD_FORMAT, **names, **digests, **card, **vllm}
    (left / CARD_NAME).write_text(format_card(document), encoding="utf-8")
    if asks_vllm:
        write_draft(store, layout.training(job.arm), left, questions)
    else:
        commit_folder(store, layout.training(job.arm), left, inputs=job.inputs, facts=facts)
    print(
        f"{job.arm}: exported {card['round_trip']['tensors']} tensors, verified "
        f"(cosine {card['distributions']['min_cosine']:.6f}), digest {manifest.digest[:12]}",
        flush=True,
    )
