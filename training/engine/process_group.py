"""The ranks of a training job: joined from Ray Train, from torchrun, or made up in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where this process stands.

    Attributes:
        rank: 0..world_size-1.
        world_size: Processes that train together.
        local_rank: Rank among the processes of this machine.
        device: Where this process computes.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True on the rank that logs and commits."""
        return self.rank == 0


@contextmanager
def join_ranks(*, use_gpu: bool) -> Iterator[Ranks]:
    """Join the process group that is there, else the one that torchrun's environment describes, else one of one process.

    A group that was made here is ended here. The group of a single process lives in memory and opens no port.
    """
    made_here = not dist.is_initialized()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if use_gpu and made_here:
        torch.cuda.set_device(local_rank)
    if made_here:
        backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
        if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    device = torch.device("cuda", torch.cuda.current_device()) if use_gpu else torch.device("cpu")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank, device)
    finally:
        if made_here:
            dist.destroy_process_group()
