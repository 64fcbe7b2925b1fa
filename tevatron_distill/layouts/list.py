"""One token row for each window of passages: students that read a list at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tevatron_distill.layouts.rows import Row, add_positions, pad_rows
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.verdict import SCORE_KINDS, Verdict
from tevatron_distill.prompts import Parsed
from tevatron_distill.schema import Candidates, Group, Passage

NO_TARGET = -100
"""Stands in ``answer_ids`` where there is no token to learn."""


class Window(NamedTuple):
    """A query and some passages as one row, with or without the answer.

    Attributes:
        row: the prompt, the bracket that opens the answer, and the rest of the answer where one is given.
        answer_start: where in the row the opening bracket stands; behind it comes the first identifier.
        identifier_ids: the token of each passage's identifier, in the order shown.
        answered: whether the row holds an answer to learn, from the opening bracket to its end.
    """

    row: Row
    answer_start: int
    identifier_ids: list[int]
    answered: bool


class WindowEncoder(Protocol):
    """Makes rows of windows, and reads what is generated behind them."""

    def __call__(self, query: str, passages: Sequence[Passage], order: Sequence[int] | None = None) -> Window:
        """The row of a window; with ``order`` (places, best first) also the answer that names them."""

    def room(self, num_passages: int) -> int:
        """Tokens of an answer that names all passages, its end included."""

    def identifier_ids(self, num_passages: int) -> list[int]:
        """The token of each passage's identifier, in the order shown."""

    def parse(self, text: str, num_passages: int) -> Parsed:
        """What a generated answer says."""


@dataclass
class ListLayout:
    """Groups to windows ``[W]``, one a query; logits of the identifiers ``[W, n]`` to scores ``[Q, G]``.

    The passages of a group stand in the window in the group's order. A group's answer names them in the teacher's
    order as far as the teacher ranked them; candidates have none.

    Args:
        tokenizer: the student's tokenizer.
        settings: lengths, pad id, padding side, and how windows are walked through.
        encode: makes rows.
        answers: rows of groups hold the answer; without it there is no ``lm`` term to learn.
    """

    tokenizer: Any
    settings: RerankerSettings
    encode: WindowEncoder
    answers: bool = True
    model_inputs: tuple[str, ...] = (
        "input_ids",
        "attention_mask",
        "position_ids",
        "answer_index",
        "identifier_ids",
        "answer_ids",
    )
    loss_kinds: frozenset[str] = SCORE_KINDS
    term_weights: Mapping[str, float] = field(default_factory=lambda: {"lm": 1.0})

    def pad(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``position_ids`` of these rows, int64 ``[W, T]`` each."""
        settings = self.settings
        side, multiple = settings.padding_side, settings.pad_to_multiple_of
        batch = pad_rows(rows, settings.pad_token_id or 0, side, multiple, settings.rerank_max_len)
        return add_positions(batch) if "position_ids" in self.model_inputs else batch

    def window(self, group: Group | Candidates) -> Window:
        """The row of a whole group, with its answer where it has one."""
        ranked = group.permutation[: group.num_ranked] if isinstance(group, Group) and self.answers else None
        return self.encode(group.query, group.passages, ranked)

    def column(self, window: Window, width: int) -> int:
        """Where a row's opening bracket stands when it is padded to a width."""
        padding = width - len(window.row.input_ids) if self.settings.padding_side == "left" else 0
        return window.answer_start + padding

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs.

        Returns:
            ``input_ids``, ``attention_mask``, ``position_ids`` int64 ``[W, T]``; ``answer_index`` int64 ``[W]``, the
            column of the bracket that opens the answer; ``identifier_ids`` int64 ``[W, n]``, 0 where a window has
            fewer passages; and, for groups with a verdict, ``answer_ids`` int64 ``[W, A]``: the tokens from that
            bracket on, -100 behind their end.
        """
        windows = [self.window(group) for group in groups]
        batch = self.pad([window.row for window in windows])
        width = batch["input_ids"].shape[1]
        batch["answer_index"] = torch.tensor([self.column(window, width) for window in windows])
        batch["identifier_ids"] = stack([window.identifier_ids for window in windows], 0)
        if self.answers and any(isinstance(group, Group) for group in groups):
            targets = [
                window.row.input_ids[window.answer_start :] if window.answered else [NO_TARGET] for window in windows
            ]
            batch["answer_ids"] = stack(targets, NO_TARGET)
        return batch

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: ``logits`` ``[W, n]`` of the identifiers, and ``lm_loss`` ``[W]`` where the batch has answers.
            batch: ``mask`` bool ``[Q, G]``; windows are its queries, identifiers its passages.

        Returns:
            Scores float32 ``[Q, G]``, 0 where there is no passage, and the term ``lm``.
        """
        scores = outputs["logits"].float().masked_fill(~batch["mask"], 0)
        return Verdict(scores, terms={"lm": outputs["lm_loss"]} if "lm_loss" in outputs else {})


def stack(lists: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Lists of unequal length as int64 ``[len(lists), longest]``, filled up on the right."""
    width = max(len(values) for values in lists)
    return torch.tensor([[*values, *[fill] * (width - len(values))] for values in lists])
