"""One token row for a query and two passages that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from tevatron_distill.layouts.rows import Row, add_positions, pad_rows
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.verdict import Verdict
from tevatron_distill.schema import Candidates, Group, Passage

PAIR_KINDS = frozenset({"margins", "pair_scores"})
"""Kinds of loss that a student which compares can learn by: it has no score for a passage by itself."""


class PairEncoder(Protocol):
    """Makes rows of texts that are cut into tokens once, however many comparisons they take part in."""

    def source(self, query: str) -> list[int]:
        """The source's segment, cut to its length."""

    def candidate(self, passage: Passage) -> list[int]:
        """A candidate's tokens, not cut yet: how far depends on the source."""

    def row(self, source: Sequence[int], first: Sequence[int], second: Sequence[int]) -> Row:
        """The row that shows two candidates, with the places where three vectors are read."""


@dataclass
class PairLayout:
    """Groups to rows of a query and two passages; two logits a row to what passages got beside each other.

    Args:
        tokenizer: the student's tokenizer.
        settings: lengths, pad id, padding side, how lists are ranked.
        encoder: makes the rows.
        model_inputs: names of what the model takes.
    """

    tokenizer: Any
    settings: RerankerSettings
    encoder: PairEncoder
    model_inputs: tuple[str, ...] = ("input_ids", "attention_mask", "places")
    loss_kinds: frozenset[str] = PAIR_KINDS
    term_weights: Mapping[str, float] = field(default_factory=dict)

    def rows(
        self,
        group: Group | Candidates,
        pairs: Sequence[tuple[int, int]],
        tokens: dict[int | None, list[int]] | None = None,
    ) -> Iterator[Row]:
        """The rows of these ordered pairs of positions; each text is cut into tokens once.

        Args:
            group: a query and its passages.
            pairs: which passages are shown, the first one first.
            tokens: those of earlier calls for this group, by position, the source's at None; added to.
        """
        tokens = {} if tokens is None else tokens
        for i, j in pairs:
            if None not in tokens:
                tokens[None] = self.encoder.source(group.query)
            for place in (i, j):
                if place not in tokens:
                    tokens[place] = self.encoder.candidate(group.passages[place])
            yield self.encoder.row(tokens[None], tokens[i], tokens[j])

    def pad(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The model's inputs for these rows: int64 ``[R, T]`` each, and ``places`` ``[R, 3]``."""
        settings = self.settings
        pad, side, multiple = settings.pad_token_id or 0, settings.padding_side, settings.pad_to_multiple_of
        batch = pad_rows(rows, pad, side, multiple, settings.rerank_max_len)
        read = batch["attention_mask"]
        if "decoder_input_ids" in self.model_inputs:
            decoded = pad_rows(
                [Row(row.decoder_input_ids or []) for row in rows], pad, side, multiple, settings.rerank_max_len
            )
            batch.update({f"decoder_{name}": tensor for name, tensor in decoded.items()})
            read = batch["decoder_attention_mask"]
        places = torch.tensor([row.places for row in rows])
        batch["places"] = places if side == "right" else places + read.shape[1] - read.sum(dim=1, keepdim=True)
        return add_positions(batch) if "position_ids" in self.model_inputs else batch

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs.

        Returns:
            The model's inputs and ``row_index`` int64 ``[R, 3]``: query, first and second place of each row. A batch
            in which nothing is compared has one row of a passage beside itself, which counts for nothing.
        """
        rows: list[Row] = []
        index: list[tuple[int, int, int]] = []
        for number, group in enumerate(groups):
            pairs = shown_pairs(group)
            rows.extend(self.rows(group, pairs))
            index.extend((number, i, j) for i, j in pairs)
        if not rows:
            rows, index = list(self.rows(groups[0], [(0, 0)])), [(0, 0, 0)]
        return {**self.pad(rows), "row_index": torch.tensor(index)}

    def row_scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The model's logits ``[R, 2, n_tasks]`` to float32 ``[R, 2]``: what the first and the second passage got."""
        return outputs["logits"].float().mean(dim=-1)

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: the model's output with ``logits`` ``[R, 2, n_tasks]``.
            batch: ``row_index`` int64 ``[R, 3]`` and ``mask`` bool ``[Q, G]``.

        Returns:
            Pair scores and mask ``[Q, G, G]``; as scores ``[Q, G]`` the mean margin over the other passages of the
            group, where a pair that was not shown counts as a tie.
        """
        mask = batch["mask"]
        query, first, second = batch["row_index"].T
        got = self.row_scores(outputs)
        size = mask.shape[1]
        blank = got.new_zeros(len(mask), size, size)
        sums = blank.index_put((query, first, second), got[:, 0], accumulate=True)
        sums = sums.index_put((query, second, first), got[:, 1], accumulate=True)
        ones = torch.ones_like(got[:, 0])
        count = blank.index_put((query, first, second), ones, accumulate=True)
        count = count.index_put((query, second, first), ones, accumulate=True)
        other = ~torch.eye(size, dtype=torch.bool, device=mask.device)
        shown = (count > 0) & other
        pair_scores = (sums / count.clamp(min=1)).masked_fill(~shown, 0)
        others = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=1)
        return Verdict((pair_scores - pair_scores.mT).sum(dim=-1) / others, pair_scores=pair_scores, pair_mask=shown)


def shown_pairs(group: Group | Candidates) -> Sequence[tuple[int, int]]:
    """The ordered pairs of a group that are shown: those drawn for it, else all of passages with different texts."""
    if isinstance(group, Group) and group.pairs is not None:
        return group.pairs
    texts = [(passage.title, passage.text) for passage in group.passages]
    places = range(len(texts))
    return [(i, j) for i in places for j in places if texts[i] != texts[j]]
