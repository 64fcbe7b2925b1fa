"""Queries and passages apart, joined by MaxSim over their token vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tevatron_distill.layouts.rows import Row, pad_rows
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.verdict import SCORE_KINDS, Verdict
from tevatron_distill.schema import Candidates, Group, Passage


def max_sim(query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
    """Mean over the query's tokens of the largest dot product with a token of the passage.

    Args:
        query: token vectors, float ``[P, Tq, D]``, of unit length.
        query_counted: bool ``[P, Tq]``, True where a token counts; at least one in each row.
        passage: token vectors, float ``[P, Tp, D]``, of unit length.
        passage_counted: bool ``[P, Tp]``; a token that does not count can never be the largest.

    Returns:
        float32 ``[P]``, in -1..1.

    Source:
        Khattab and Zaharia 2020 (ColBERT) sum over the query's tokens; the mean orders passages equally and does not
        grow with the query.
    """
    similarity = query.float() @ passage.float().mT  # [P, Tq, Tp]
    largest = similarity.masked_fill(~passage_counted[:, None, :], -torch.inf).amax(dim=-1)
    return (largest * query_counted).sum(dim=-1) / query_counted.sum(dim=-1)


@dataclass
class DualLayout:
    """Groups to query rows ``[Q]`` and passage rows ``[P]``; token vectors to scores ``[Q, G]``.

    Args:
        tokenizer: the student's tokenizer.
        settings: lengths, pad id, temperature.
        encode_query: makes the row of a query.
        encode_passage: makes the row of a passage.
    """

    tokenizer: Any
    settings: RerankerSettings
    encode_query: Callable[[str], Row]
    encode_passage: Callable[[Passage], Row]
    model_inputs: tuple[str, ...] = (
        "query_input_ids",
        "query_attention_mask",
        "passage_input_ids",
        "passage_attention_mask",
    )
    loss_kinds: frozenset[str] = SCORE_KINDS
    term_weights: Mapping[str, float] = field(default_factory=dict)

    def pad(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` int64 and ``counted`` bool of these rows, ``[R, T]`` each."""
        settings = self.settings
        side, multiple = settings.padding_side, settings.pad_to_multiple_of
        limit = max(settings.query_max_len or 0, settings.passage_max_len or 0)
        return pad_rows(rows, settings.pad_token_id or 0, side, multiple, limit)

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs.

        Returns:
            ``query_*`` ``[Q, Tq]``, ``passage_*`` ``[P, Tp]`` (``input_ids``, ``attention_mask``, ``counted``) and
            ``row_index`` int64 ``[P, 2]``: query and place of each passage.
        """
        queries = self.pad([self.encode_query(group.query) for group in groups])
        passages = self.pad([self.encode_passage(passage) for group in groups for passage in group.passages])
        index = [(number, place) for number, group in enumerate(groups) for place in range(len(group.passages))]
        return {
            **{f"query_{name}": tensor for name, tensor in queries.items()},
            **{f"passage_{name}": tensor for name, tensor in passages.items()},
            "row_index": torch.tensor(index),
        }

    def row_scores(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """MaxSim as a logit: :func:`max_sim` divided by the temperature, float32 ``[P]``."""
        return max_sim(query, query_counted, passage, passage_counted) / (self.settings.temperature or 1.0)

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: ``query_vectors`` ``[Q, Tq, D]`` and ``passage_vectors`` ``[P, Tp, D]``.
            batch: ``query_counted``, ``passage_counted``, ``row_index`` int64 ``[P, 2]``, ``mask`` bool ``[Q, G]``.

        Returns:
            Scores float32 ``[Q, G]``; 0 where there is no passage.
        """
        owner = batch["row_index"][:, 0]
        scores = self.row_scores(
            outputs["query_vectors"].index_select(0, owner),
            batch["query_counted"].index_select(0, owner),
            outputs["passage_vectors"],
            batch["passage_counted"],
        )
        return Verdict(scores.new_zeros(batch["mask"].shape).index_put(tuple(batch["row_index"].T), scores))
