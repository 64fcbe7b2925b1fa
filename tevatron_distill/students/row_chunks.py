"""Rows that go through a model some at a time: short ones beside short ones, and no more than memory holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tevatron_distill.batching import token_budget_batches
from tevatron_distill.layouts import DualLayout, Layout
from tevatron_distill.students.parted import weights_are_parted

CPU_TOKENS, GPU_TOKENS = 2048, 16384
"""Tokens of a chunk: about what a core's cache takes, and what keeps a GPU busy. Fixed, so that the same command gives
the same sums on every machine of a kind."""

TOKEN_COLUMNS = {
    "attention_mask": ("input_ids", "attention_mask", "token_type_ids", "position_ids"),
    "decoder_attention_mask": ("decoder_input_ids", "decoder_attention_mask"),
}
"""Inputs with a column for each token, by the mask that tells tokens from padding."""

PLACES = ("places", "answer_index")
"""Inputs that name columns: of the decoder's row where there is one."""


class Chunk(NamedTuple):
    """Some rows and, by mask, the columns that hold their tokens; no columns are all."""

    rows: slice | Tensor
    columns: dict[str, slice]


def auto_tokens(device: torch.device) -> int:
    """The tokens of a chunk for a device."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def chunk_students_rows(model: Any, layout: Layout, size: int | None = None, tokens: int | None = None) -> None:
    """Let a student's model take its rows in chunks, see :func:`chunk_rows`.

    Args:
        model: a ``PreTrainedModel`` or peft's model around one, before Trainer wraps it.
        layout: the student's.
        size: most rows of a chunk; None for no such limit.
        tokens: tokens of a chunk; None for rows as they stand.
    """
    if not isinstance(layout, DualLayout):
        chunk_rows(model, "forward", size, tokens)
        return
    model = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    if size is not None:  # queries and passages are rows of their own
        chunk_rows(model, "encode", size)
    if tokens is not None:  # a query's row may have tokens that count though nothing attends to them
        chunk_rows(model, "encode_passages", None, tokens)


def chunk_rows(model: Any, method: str, size: int | None, tokens: int | None = None) -> None:
    """Let a method of a model take its rows in chunks.

    The result and the gradients are those of all rows at once, but dropout draws other places. With a size chunks are
    computed again in the backward pass, so that memory is that of one. With a budget of tokens rows go in the order of
    their lengths, each chunk without the columns in which all of it is padding, so that padding costs next to nothing.
    Where weights are parted every process runs as many chunks as the one with the most.

    Args:
        model: whose method it is.
        method: its name; it takes tensors with the rows first and gives vectors of each token ``[R, T, D]``, or an
            output of tensors that have no columns for tokens. What is no tensor goes to every chunk as it is.
        size: most rows of a chunk; None for no such limit.
        tokens: rows times length of a chunk, for calls with an ``attention_mask``; None for rows as they stand.
    """
    inner = getattr(model, method)
    signature = inspect.signature(getattr(type(model), method))
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, value in signature.parameters.items() if name != "self" and value.kind not in kinds]

    def chunked(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names[: len(args)], args, strict=True)), **kwargs}
        rows = next(value for value in given.values() if isinstance(value, Tensor))
        if tokens is not None and _is_whole(given):
            chunks = list(_by_length(given, size, tokens))
        else:
            step = size or len(rows)
            chunks = [Chunk(slice(start, start + step), {}) for start in range(0, len(rows), step)]
        own = len(chunks)
        total = most_chunks(own, rows.device) if weights_are_parted(self) else own
        if total == 1 and not chunks[0].columns:
            return inner(*args, **kwargs)
        return _run(inner, given, chunks + chunks[-1:] * (total - own), own, again=size is not None)

    chunked.__signature__ = signature  # type: ignore[attr-defined]
    setattr(model, method, MethodType(chunked, model))


def _is_whole(given: Mapping[str, Any]) -> bool:
    """Whether a call shows whole rows, and not the next tokens of rows whose keys and values are kept."""
    ids, mask = given.get("input_ids"), given.get("attention_mask")
    whole = isinstance(ids, Tensor) and isinstance(mask, Tensor) and ids.shape == mask.shape
    return whole and given.get("past_key_values") is None


def _by_length(given: Mapping[str, Any], size: int | None, tokens: int) -> Iterator[Chunk]:
    device = given["attention_mask"].device
    spans = {
        # only positions that are given do not shift with the columns
        mask: _spans(given[mask], may_begin=mask == "attention_mask" and given.get("position_ids") is not None)
        for mask in TOKEN_COLUMNS
        if isinstance(given.get(mask), Tensor)
    }
    lengths = [sum(end - first for first, end in row) for row in zip(*spans.values(), strict=True)]
    batches = token_budget_batches(lengths, tokens, max_rows=size)
    for rows in batches:
        columns = {
            mask: slice(min(row[place][0] for place in rows), max(row[place][1] for place in rows))
            for mask, row in spans.items()
        }
        yield Chunk(slice(None) if len(batches) == 1 else torch.tensor(rows, device=device), columns)


def _spans(mask: Tensor, *, may_begin: bool) -> list[tuple[int, int]]:
    """The column of each row's first token, 0 where rows may not be cut there, and that behind its last."""
    real = mask.bool().int()
    end = mask.shape[1] - real.flip(1).argmax(dim=1)
    first = real.argmax(dim=1) if may_begin else torch.zeros_like(end)
    return [(first, end) for first, end in torch.stack([first, end], dim=1).tolist()]


def _cut(name: str, value: Any, chunk: Chunk, reads: str) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value[chunk.rows]
    for mask, columns in chunk.columns.items():
        if name in TOKEN_COLUMNS[mask]:
            return value[:, columns]
        if name in PLACES and mask == reads:
            return value - columns.start
    return value


def _run(inner: Callable[..., Any], given: dict[str, Any], chunks: list[Chunk], own: int, *, again: bool) -> Any:
    reads = "decoder_attention_mask" if given.get("decoder_attention_mask") is not None else "attention_mask"
    kinds: list[Any] = []

    def run(chunk: Chunk) -> dict[str, Tensor]:
        output = inner(**{name: _cut(name, value, chunk, reads) for name, value in given.items()})
        kinds.append(type(output))
        if isinstance(output, Tensor):
            columns = chunk.columns.get("attention_mask")
            if columns is None:
                return {"": output}
            behind = given["attention_mask"].shape[1] - columns.stop
            return {"": functional.pad(output, (0, 0, columns.start, behind))}
        # nothing else: a cache of keys and values would keep every chunk alive
        return {name: value for name, value in output.items() if isinstance(value, Tensor)}

    if again and len(chunks) > 1 and torch.is_grad_enabled():
        parts = [checkpoint(run, chunk, use_reentrant=False) for chunk in chunks]
    else:
        parts = [run(chunk) for chunk in chunks]
    joined = {name: torch.cat([part[name] for part in parts[:own]]) for name in parts[0]} if own > 1 else parts[0]
    order = [chunk.rows for chunk in chunks[:own] if isinstance(chunk.rows, Tensor)]
    if order:
        back = torch.cat(order).argsort()
        joined = {name: value[back] for name, value in joined.items()}
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
