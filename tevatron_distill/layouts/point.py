"""One token row for each (query, passage): cross-encoders and Yes-token students."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tevatron_distill.layouts.rows import Row, add_positions, pad_rows
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.verdict import SCORE_KINDS, Verdict
from tevatron_distill.schema import Candidates, Group, InputError, Passage


@dataclass
class PointLayout:
    """Groups to (query, passage) rows; logits ``[R, 1]`` to scores ``[Q, G]``.

    Args:
        tokenizer: the student's tokenizer.
        settings: lengths, pad id, padding side, softcap.
        encode: makes a row of a query and each passage.
        model_inputs: names of what the model takes.
        ends_at_pad: the model pools the last token that is not the pad token, so that no row may end in it.
    """

    tokenizer: Any
    settings: RerankerSettings
    encode: Callable[[str, Sequence[Passage]], list[Row]]
    model_inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    ends_at_pad: bool = False
    loss_kinds: frozenset[str] = SCORE_KINDS
    term_weights: Mapping[str, float] = field(default_factory=dict)

    def rows(self, group: Group | Candidates) -> list[Row]:
        """One row for each passage of a group.

        Raises:
            InputError: if a row ends in the pad token, where the model would pool another token.
        """
        if not group.passages:
            return []
        rows = self.encode(group.query, group.passages)
        for passage, row in zip(group.passages, rows, strict=True):
            if self.ends_at_pad and row.input_ids[-1] == self.settings.pad_token_id:
                token = self.tokenizer.convert_ids_to_tokens(row.input_ids[-1])
                raise InputError(
                    f'query_id "{group.query_id}", docid "{passage.docid}": a text must not end in the pad token, '
                    f"for the model reads its score at the last token that is no padding; got {token!r} at the end; "
                    "remove it from the text, or train and rerank with --append_eos_token"
                )
        return rows

    def pad(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The model's inputs for these rows, int64 ``[R, T]`` each."""
        settings = self.settings
        side, multiple = settings.padding_side, settings.pad_to_multiple_of
        batch = pad_rows(rows, settings.pad_token_id or 0, side, multiple, settings.rerank_max_len)
        return add_positions(batch) if "position_ids" in self.model_inputs else batch

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs.

        Returns:
            The model's inputs ``[R, T]`` and ``row_index`` int64 ``[R, 2]``: query and place of each row.
        """
        rows: list[Row] = []
        index: list[tuple[int, int]] = []
        for number, group in enumerate(groups):
            rows.extend(self.rows(group))
            index.extend((number, place) for place in range(len(group.passages)))
        return {**self.pad(rows), "row_index": torch.tensor(index)}

    def row_scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The model's logits ``[R, 1]`` to float32 scores ``[R]``."""
        scores = outputs["logits"].squeeze(-1).float()
        cap = self.settings.softcap
        return scores if cap is None else cap * torch.tanh(scores / cap)

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: the model's output with ``logits`` ``[R, 1]``.
            batch: ``row_index`` int64 ``[R, 2]`` and ``mask`` bool ``[Q, G]``.

        Returns:
            Scores float32 ``[Q, G]``; 0 where there is no passage.
        """
        scores = self.row_scores(outputs)
        return Verdict(scores.new_zeros(batch["mask"].shape).index_put(tuple(batch["row_index"].T), scores))
