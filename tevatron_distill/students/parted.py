"""Weights that are parted among processes (ZeRO-3, FSDP), and rows that go through a model a few at a time."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from tevatron_distill.layouts import DualLayout, Layout
from tevatron_distill.schema import InputError


def load_deepspeed() -> Any:
    """The deepspeed library.

    Raises:
        InputError: if it is not installed. A folder ``deepspeed`` of configs can be imported and is not it.
    """
    try:
        importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError('--deepspeed needs DeepSpeed: pip install "tevatron-distill[deepspeed]"') from error
    import deepspeed

    return deepspeed


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
    with load_deepspeed().zero.GatheredParameters(list(parameters), modifier_rank=0):
        yield


def chunk_students_rows(model: Any, layout: Layout, size: int) -> None:
    """Let a student's model take its rows in chunks, see :func:`chunk_rows`.

    Args:
        model: a ``PreTrainedModel`` or peft's model around one, before Trainer wraps it.
        layout: the student's.
        size: rows of a chunk.
    """
    if isinstance(layout, DualLayout):  # queries and passages are rows of their own
        chunk_rows(model if isinstance(model, PreTrainedModel) else model.get_base_model(), "encode", size)
    else:
        chunk_rows(model, "forward", size)


def chunk_rows(model: Any, method: str, size: int) -> None:
    """Let a method of a model take its rows in chunks, which are computed again in the backward pass.

    The result and the gradients are those of all rows at once, but dropout draws other places; memory is that of one
    chunk. Where weights are parted every process runs as many chunks as the one with the most.

    Args:
        model: whose method it is.
        method: its name; it takes tensors with the rows first and gives such a tensor, or an output of them. What is
            no tensor goes to every chunk as it is.
        size: rows of a chunk.
    """
    inner = getattr(model, method)

    def chunked(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _run(inner, size, weights_are_parted(self), args, kwargs)

    chunked.__signature__ = inspect.signature(getattr(type(model), method))  # type: ignore[attr-defined]
    setattr(model, method, MethodType(chunked, model))


def _run(inner: Callable[..., Any], size: int, parted: bool, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    rows = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    own = -(-len(rows) // size)
    total = most_chunks(own, rows.device) if parted else own
    if total == 1:
        return inner(*args, **kwargs)
    kinds: list[Any] = []

    def run(start: int) -> dict[str, Tensor]:
        def cut(value: Any) -> Any:
            return value[start : start + size] if isinstance(value, Tensor) else value

        output = inner(*map(cut, args), **{name: cut(value) for name, value in kwargs.items()})
        kinds.append(type(output))
        if isinstance(output, Tensor):
            return {"": output}
        # nothing else: a cache of keys and values would keep every chunk alive
        return {name: value for name, value in output.items() if isinstance(value, Tensor)}

    starts = [min(number, own - 1) * size for number in range(total)]
    if torch.is_grad_enabled():
        parts = [checkpoint(run, start, use_reentrant=False) for start in starts]
    else:
        parts = [run(start) for start in starts]
    joined = {name: torch.cat([part[name] for part in parts[:own]]) for name in parts[0]}
    for part in parts[own:]:  # only so that this process takes part in the others' backward passes
        for name, value in part.items():
            joined[name] = joined[name] + value.sum() * 0
    return joined[""] if kinds[0] is Tensor else kinds[0](**joined)


def most_chunks(own: int, device: torch.device) -> int:
    """The most chunks that any process has."""
    if not distributed.is_initialized():
        return own
    most = torch.tensor(own, device=device)
    distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
    return int(most)
