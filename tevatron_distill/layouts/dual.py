"""Queries and passages apart, joined by a similarity of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tevatron_distill.layouts.rows import Row, pad_rows
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.similarity import Similarity, gold_term
from tevatron_distill.layouts.verdict import SCORE_KINDS, Verdict
from tevatron_distill.schema import Candidates, Group, Passage


class PassageRows:
    """The distinct passages of a batch, one row for each."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}

    def number(self, passage: Passage) -> int:
        """The row of a passage; a new one where it was not seen yet."""
        return self.numbers.setdefault((passage.title, passage.text), len(self.numbers))

    def passages(self) -> list[Passage]:
        """The passage of each row."""
        return [Passage("", text, title) for title, text in self.numbers]


@dataclass
class DualLayout:
    """Groups to query rows ``[Q]`` and rows ``[P]`` of their distinct passages; vectors to scores ``[Q, G]``.

    Args:
        tokenizer: the student's tokenizer.
        settings: lengths, pad id.
        encode_query: makes the row of a query.
        encode_passage: makes the row of a passage.
        similarity: joins the vectors of a query and a passage.
        learned: another similarity that training sees, where ranking and training differ; None for the same.
        gold: a group's reference is encoded too, and the term ``gold`` of the loss keeps it above the passages.
    """

    tokenizer: Any
    settings: RerankerSettings
    encode_query: Callable[[str], Row]
    encode_passage: Callable[[Passage], Row]
    similarity: Similarity
    learned: Similarity | None = None
    gold: bool = False
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
        """Ragged groups to the model's inputs; a passage that several queries share is one row.

        Returns:
            ``query_*`` ``[Q, Tq]``, ``passage_*`` ``[P, Tp]`` (``input_ids``, ``attention_mask``, ``counted``) and
            ``row_index`` int64 ``[N, 3]``: query, place and passage row of each passage of a group. With ``gold`` and
            references also ``gold_index`` int64 ``[n, 2]``: query and row of each reference.
        """
        rows = PassageRows()
        index = [
            (number, place, rows.number(passage))
            for number, group in enumerate(groups)
            for place, passage in enumerate(group.passages)
        ]
        gold = [
            (number, rows.number(Passage("", group.reference)))
            for number, group in enumerate(groups)
            if self.gold and isinstance(group, Group) and group.reference
        ]
        queries = self.pad([self.encode_query(group.query) for group in groups])
        passages = self.pad([self.encode_passage(passage) for passage in rows.passages()])
        return {
            **{f"query_{name}": tensor for name, tensor in queries.items()},
            **{f"passage_{name}": tensor for name, tensor in passages.items()},
            "row_index": torch.tensor(index),
            **({"gold_index": torch.tensor(gold)} if gold else {}),
        }

    def row_scores(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """The scores that rank, float32 ``[P]``."""
        return self.similarity(query, query_counted, passage, passage_counted)

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: ``query_vectors`` ``[Q, Tq, D]`` and ``passage_vectors`` ``[P, Tp, D]``.
            batch: as of :meth:`collate`, and ``mask`` bool ``[Q, G]``.

        Returns:
            Scores float32 ``[Q, G]``, 0 where there is no passage, and the term ``gold`` where there are references.
        """
        mask = batch["mask"]
        query, place, row = batch["row_index"].T
        scores = outputs["query_vectors"].new_zeros(mask.shape, dtype=torch.float32)
        scores = scores.index_put((query, place), self.learned_scores(outputs, batch, query, row))
        if "gold_index" not in batch:
            return Verdict(scores)
        owner, row = batch["gold_index"].T
        has_gold = torch.zeros_like(mask[:, 0]).index_fill(0, owner, True)
        gold = scores.new_zeros(len(mask)).index_put((owner,), self.learned_scores(outputs, batch, owner, row))
        return Verdict(scores, terms={"gold": gold_term(scores, mask, gold, has_gold)})

    def learned_scores(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], query: Tensor, row: Tensor
    ) -> Tensor:
        """Scores of pairs of a query and a passage row, in what training sees, float32 ``[N]``."""
        similarity = self.learned or self.similarity
        queries, query_counted = outputs["query_vectors"], batch["query_counted"]
        passages, passage_counted = outputs["passage_vectors"].float(), batch["passage_counted"]
        if len(row) <= len(passages):
            passages, passage_counted = passages.index_select(0, row), passage_counted[row]
            return similarity(queries.index_select(0, query), query_counted[query], passages, passage_counted)
        # passages are shared: every query meets all of them, and no vector is copied
        table = torch.stack(
            [
                similarity(queries[[number]], query_counted[[number]], passages, passage_counted)
                for number in range(len(queries))
            ]
        )
        return table[query, row]
