"""Batches by a budget of tokens, in length order, halved when memory runs out: reranking, teaching, evaluation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
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


def auto_batch_tokens(device: str, hidden_size: int) -> int:
    """Tokens of a batch where nobody says how many: a fixed rule, so that any number of runs form the same batches.

    Args:
        device: ``cpu`` or ``cuda``. A CPU is fastest while a layer's activations stay in its caches; a GPU needs enough
            rows to be busy.
        hidden_size: of the model.
    """
    if device == "cpu":
        return 2048
    return 16384 if hidden_size >= 2048 else 65536


@dataclass
class Budget:
    """Tokens of a batch; it halves when memory runs out, and stays so for the rest of the run.

    Attributes:
        max_tokens: rows times padded length of a batch.
        num_halved: how often memory has run out.
    """

    max_tokens: int
    num_halved: int = 0

    def rows(self, length: int) -> int:
        """How many rows of a padded length fit, at least one."""
        return max(1, self.max_tokens // max(1, length))

    def halve(self, num_rows: int, length: int) -> None:
        """Remember that so many rows of a length do not fit into memory."""
        self.max_tokens = min(self.max_tokens, -(-num_rows // 2) * max(1, length))
        self.num_halved += 1
        logger.warning(
            "out of memory with %d rows of %d tokens; going on with batches of %d tokens",
            num_rows,
            length,
            self.max_tokens,
        )

    def report(self) -> dict[str, int]:
        """How often memory ran out and what is left of the budget; empty where it never did."""
        return {"out_of_memory": self.num_halved, "batch_tokens_left": self.max_tokens} if self.num_halved else {}


BATCHES_A_CORE = 4
"""With fewer, the wait for the last batch costs more than is won."""


def num_cores(device: str | torch.device) -> int:
    """How many cores can take a batch each: a CPU's, as many as torch has threads; 1 on other devices."""
    return torch.get_num_threads() if torch.device(device).type == "cpu" else 1


def run_batches(
    run: Callable[[list[int]], T],
    batches: Sequence[list[int]],
    lengths: Sequence[int],
    budget: Budget,
    *,
    multiple: int = 1,
    cores: int = 1,
) -> Iterator[tuple[list[int], T]]:
    """Run a function on each batch; one that does not fit into the device's memory is halved and tried again.

    The results are those of the whole batches up to rounding.

    Args:
        run: takes positions of rows.
        batches: as of :func:`token_budget_batches`, by the budget as it was given. While it is smaller, batches are cut
            to what it allows before they are tried.
        lengths: tokens of each row.
        budget: what fits, as far as is known; it is halved when memory runs out.
        multiple: lengths are rounded up to a multiple of it.
        cores: with more than one, and `BATCHES_A_CORE` batches for each, each takes batches of its own, as cores that
            share a batch wait for each other in it: the function is called from so many threads, in inference mode.

    Yields:
        The positions of a batch and what the function made of it.

    Raises:
        torch.cuda.OutOfMemoryError: if a single row does not fit.
    """
    if cores > 1 and len(batches) >= BATCHES_A_CORE * cores:
        yield from _run_on_cores(run, batches, cores)
        return
    waiting = [list(batch) for batch in reversed(batches)]
    while waiting:
        batch = waiting.pop()
        longest = padded_length(max((lengths[row] for row in batch), default=0), multiple)
        if budget.num_halved and len(batch) > budget.rows(longest):
            most = budget.rows(longest)
            waiting.extend([batch[most:], batch[:most]])
            continue
        try:
            result = run(batch)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            budget.halve(len(batch), longest)
        else:
            yield batch, result
            continue
        torch.cuda.empty_cache()
        waiting.append(batch)


def _run_on_cores(
    run: Callable[[list[int]], T], batches: Sequence[list[int]], cores: int
) -> Iterator[tuple[list[int], T]]:
    ready = threading.Semaphore(0)

    def take_one_core() -> None:
        torch.get_num_threads()  # the first call in a thread sets its number to that of all
        torch.set_num_threads(1)  # of this thread, and of those that begin from now on
        ready.release()

    @torch.inference_mode()
    def infer(batch: list[int]) -> T:
        return run(batch)

    threads = torch.get_num_threads()
    with ThreadPool(cores, take_one_core) as pool:
        for _ in range(cores):
            ready.acquire()
        torch.set_num_threads(threads)
        yield from zip(batches, pool.imap(infer, batches), strict=True)
