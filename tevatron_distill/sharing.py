"""One rule for sharing queries out: block b belongs to share b % n, whoever starts the processes.

torch is imported where processes meet, so that what only counts shares starts without it.
"""

from __future__ import annotations

import atexit
import datetime
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tevatron_distill.schema import InputError

T = TypeVar("T")
PATIENCE = datetime.timedelta(days=100)
"""How long the first process to finish waits for the last."""


@dataclass(frozen=True)
class Share:
    """One part of the blocks of queries of an input.

    Attributes:
        index: counted from 0.
        count: of all shares.

    >>> [block for block in range(7) if Share(1, 3).owns(block)]
    [1, 4]
    """

    index: int = 0
    count: int = 1

    def owns(self, block: int) -> bool:
        """Whether a block, counted from 0, is of this share."""
        return block % self.count == self.index


@dataclass(frozen=True)
class Processes:
    """What a launcher (torchrun, accelerate, deepspeed, …) has started, as this process sees it.

    Attributes:
        rank: which process this is.
        world_size: how many there are, on all machines.
        on_one_machine: whether all are on the same.
    """

    rank: int = 0
    world_size: int = 1
    on_one_machine: bool = True

    @classmethod
    def launched(cls) -> Processes:
        """Read the launcher's environment, take this process's GPU, and meet the others.

        Raises:
            InputError: if the environment is not a launcher's.
        """
        names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        world, rank, local_rank, local_world = (_number(name) for name in names)
        if world is None or world < 2:
            return cls()
        if rank is None or not 0 <= rank < world:
            raise InputError(
                f"WORLD_SIZE is {world}, but RANK {os.environ.get('RANK', 'is not set')}: start the processes by "
                f"torchrun --nproc_per_node {world} -m tevatron_distill.driver.…, or unset WORLD_SIZE"
            )
        import torch.distributed

        if torch.cuda.is_available():
            torch.cuda.set_device((rank if local_rank is None else local_rank) % torch.cuda.device_count())
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", timeout=PATIENCE, rank=rank, world_size=world)
        return cls(rank, world, local_world == world)

    @property
    def is_first(self) -> bool:
        """The first process reads, merges and reports for all."""
        return self.rank == 0

    def share(self, num_shards: int = 1, shard_index: int = 0) -> Share:
        """This process's share of all blocks, or of one shard's."""
        return Share(shard_index + num_shards * self.rank, num_shards * self.world_size)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them.

        Raises:
            SystemExit: where the first has failed, which says why.
        """
        if self.world_size == 1:
            return make()
        import torch.distributed

        made: list[Any] = [make()] if self.is_first else [None]
        try:
            torch.distributed.broadcast_object_list(made, src=0)
        except RuntimeError as error:
            raise SystemExit(1) from error
        return made[0]

    def wait(self) -> None:
        """Go on when all processes have come here.

        Raises:
            SystemExit: where another has failed, which says why.
        """
        if self.world_size > 1:
            import torch.distributed

            try:
                torch.distributed.barrier()
            except RuntimeError as error:
                raise SystemExit(1) from error


def leave_processes() -> None:
    """End this process well if it is one of several that have met; nothing happens in one that is alone.

    A thread of gloo's that frees its last tensor while Python is being finalised aborts the process (status -6) after
    all work is done, and destroying the group ends these threads only if nothing else, as DeepSpeed does, refers to
    it (pytorch/pytorch#179291, #190489). So exit handlers run, and Python is not finalised.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return
    distributed.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _number(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else None
