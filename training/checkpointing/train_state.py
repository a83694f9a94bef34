"""What a training goes on from, as plain tensors: read from model and optimizers, staged to CPU memory, put back.

Source: https://docs.pytorch.org/docs/stable/distributed.checkpoint.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from training.engine.optim import find_block_size, pack_moments, unpack_moments

State = dict[str, Any]


def read_state(model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> State:
    """Return this rank's part of the state; its tensors are those of the training, not copies."""
    state, block = _get_state(model, optimizers), find_block_size(optimizers)
    if block is not None:
        state["optimizer"]["state"] = unpack_moments(state["optimizer"]["state"], block)
    return state


def restore_state(model: torch.nn.Module, optimizers: Sequence[Optimizer], state: State) -> None:
    """Put a state of the form of `read_state` into model and optimizers."""
    optimizer, block = dict(state["optimizer"]), find_block_size(optimizers)
    if block is not None:
        own = _get_state(model, optimizers)["optimizer"]["state"]
        optimizer["state"] = pack_moments(own, optimizer["state"], block)
    set_state_dict(model, list(optimizers), model_state_dict=state["model"], optim_state_dict=optimizer)


class Stager:
    """Copies a state to CPU memory, so that training may change the original while the copy is written.

    On CUDA the memory is pinned and kept from one state to the next: a copy must have been written before the next is made.
    """

    def __init__(self) -> None:
        self._stager: DefaultStager | None = None

    def stage(self, state: State) -> State:
        """Return a copy of `state` in CPU memory, complete when this returns."""
        on_cuda = torch.cuda.is_available()
        if self._stager is None:
            self._stager = DefaultStager(
                StagingOptions(
                    use_pinned_memory=on_cuda,
                    use_shared_memory=False,
                    use_async_staging=False,
                    use_non_blocking_copy=on_cuda,
                )
            )
        staged = cast("State", self._stager.stage(state))
        if not on_cuda:  # nothing is won by keeping the memory
            self.close()
        return staged

    def close(self) -> None:
        """Give the memory back as soon as the copies are gone."""
        if self._stager is not None:
            self._stager.close()
            self._stager = None


def _get_state(model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> State:
    model_state, optimizer_state = get_state_dict(model, list(optimizers))
    return {"model": model_state, "optimizer": optimizer_state}
