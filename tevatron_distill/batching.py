"""Batches by a budget of tokens, in length order, halved when memory runs out: reranking, teaching, evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from tevatron_distill.layouts.rows import padded_length

logger = logging.getLogger(__name__)

T = TypeVar("T")


def token_budget_batches(
    lengths: Sequence[int], max_tokens: int, *, multiple: int = 1, max_rows: int | None = None
) -> list[list[int]]:
    """Cut rows into batches whose padded size stays within a budget, longest rows first.

    A pure function of the lengths: the same rows give the same batches, whatever ran before.

    Args:
        lengths: tokens of each row.
        max_tokens: rows times padded length of a batch; a single row may exceed it.
        multiple: lengths are rounded up to a multiple of it.
        max_rows: most rows of a batch.

    Returns:
        Positions of the rows, batch by batch; each position once. Equal lengths keep their order.

    Raises:
        ValueError: if ``max_tokens`` or ``max_rows`` is less than 1.

    >>> token_budget_batches([3, 9, 4, 10], max_tokens=20)
    [[3, 1], [2, 0]]
    """
    if max_tokens < 1 or (max_rows is not None and max_rows < 1):
        raise ValueError(f"max_tokens and max_rows must be at least 1; got {max_tokens}, {max_rows}")
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if room == 0:
            batches.append([])
            room = max(1, max_tokens // max(1, padded_length(lengths[position], multiple)))
            room = room if max_rows is None else min(room, max_rows)
        batches[-1].append(position)
        room -= 1
    return batches


def run_batches(run: Callable[[list[int]], T], batches: Sequence[list[int]]) -> Iterator[tuple[list[int], T]]:
    """Run a function on each batch; one that does not fit into the device's memory is halved and tried again.

    Args:
        run: takes positions of rows.
        batches: as of :func:`token_budget_batches`. Those behind a halved one are halved too, where they have as many
            rows, for they would not fit either.

    Yields:
        The positions of a batch and what the function made of it.

    Raises:
        torch.cuda.OutOfMemoryError: if a single row does not fit.
    """
    waiting = [list(batch) for batch in reversed(batches)]
    largest: int | None = None
    while waiting:
        batch = waiting.pop()
        if largest is not None and len(batch) > largest:
            waiting.extend([batch[largest:], batch[:largest]])
            continue
        try:
            result = run(batch)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            largest = -(-len(batch) // 2)
        else:
            yield batch, result
            continue
        logger.warning("out of memory with %d rows; going on with at most %d", len(batch), largest)
        torch.cuda.empty_cache()
        waiting.append(batch)
