"""Weights that are parted among processes (ZeRO-3, FSDP)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from tevatron_distill.extras import load_package


def weights_are_parted(model: nn.Module) -> bool:
    """Whether each process holds a part of each weight, so that all must run as many forward passes."""
    kinds = (FSDPModule, FullyShardedDataParallel)
    return bool(is_deepspeed_zero3_enabled()) or any(isinstance(module, kinds) for module in model.modules())


@contextmanager
def whole(*parameters: nn.Parameter) -> Iterator[None]:
    """Within it parameters are whole, also where ZeRO-3 has parted them; what is written into them stays."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    with load_package("deepspeed", "--deepspeed").zero.GatheredParameters(list(parameters), modifier_rank=0):
        yield
