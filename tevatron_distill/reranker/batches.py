"""What every way of ranking shares: token-budget batches of rows on a device, and a count of what was computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from tevatron_distill.batching import Budget, num_cores, run_batches, token_budget_batches
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings

T = TypeVar("T")


@dataclass
class TokenCount:
    """What has gone through the model.

    Attributes:
        rows: token rows.
        tokens: real tokens.
        padded: real tokens and padding.
        answers: generated answers.
        malformed: those that had to be repaired,
        problems: and how many of them for what (see ``PROBLEMS``; one may have several).
    """

    rows: int = 0
    tokens: int = 0
    padded: int = 0
    answers: int = 0
    malformed: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def real_share(self) -> float:
        """Share of real tokens in all that were computed; 1.0 before anything was."""
        return self.tokens / self.padded if self.padded else 1.0


class RowLayout(Protocol):
    """A layout that pads rows to the model's inputs."""

    settings: RerankerSettings

    def pad(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The model's inputs for these rows."""


@dataclass
class Batcher:
    """Runs rows through a model in batches of like length.

    Args:
        device: where the model is.
        batch_tokens: budget of a batch, padding included.
        on_cores: a CPU's cores may take a batch each.
        count: what has gone through the model.
        budget: what is left of ``batch_tokens`` when memory has run out.
    """

    device: torch.device
    batch_tokens: int
    on_cores: bool = False
    count: TokenCount = field(default_factory=TokenCount)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.batch_tokens)

    def run(
        self, layout: RowLayout, rows: Sequence[Row], forward: Callable[[dict[str, Tensor], list[int]], Sequence[T]]
    ) -> Iterator[tuple[int, T]]:
        """Call ``forward`` on padded batches, longest rows first, smaller ones when memory runs out.

        Args:
            layout: pads the rows.
            rows: token rows of any length.
            forward: takes the padded inputs on the device and the places of their rows; gives a result for each.

        Yields:
            The place of each row and its result, batch by batch.
        """
        multiple = layout.settings.pad_to_multiple_of
        lengths = [row.length for row in rows]
        self.count.rows += len(rows)
        self.count.tokens += sum(lengths)

        def padded(batch: list[int]) -> tuple[int, Sequence[T]]:
            inputs = layout.pad([rows[place] for place in batch])
            size = sum(inputs[name].numel() for name in ("input_ids", "decoder_input_ids") if name in inputs)
            return size, forward({name: tensor.to(self.device) for name, tensor in inputs.items()}, batch)

        batches = token_budget_batches(lengths, self.batch_tokens, multiple=multiple)
        cores = num_cores(self.device) if self.on_cores else 1
        for batch, (size, results) in run_batches(
            padded, batches, lengths, self.budget, multiple=multiple, cores=cores
        ):
            self.count.padded += size
            yield from zip(batch, results, strict=True)
