"""Scores of students that read one passage at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from tevatron_distill.layouts import PointLayout
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.reranker.last_layer import first_token_only
from tevatron_distill.schema import Candidates


def score_rows(
    model: Any, layout: PointLayout, batcher: Batcher, candidates: Sequence[Candidates]
) -> list[list[float]]:
    """One forward pass for each passage; rows of all lists are batched together."""
    rows = [row for one in candidates for row in layout.rows(one)]

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[float]:
        outputs = model(**{name: inputs[name] for name in layout.model_inputs})
        scores: list[float] = layout.row_scores(outputs).tolist()
        return scores

    flat = [0.0] * len(rows)
    with first_token_only(model):
        for place, score in batcher.run(layout, rows, forward):
            flat[place] = score
    scores = iter(flat)
    return [list(islice(scores, len(one.passages))) for one in candidates]
