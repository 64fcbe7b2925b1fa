"""Scores of students that read one passage at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from tevatron_distill.cross_attention import without_keys
from tevatron_distill.layouts import PointLayout
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.reranker.last_layer import first_token_only
from tevatron_distill.reranker.masks import ready_masks
from tevatron_distill.reranker.prefixes import score_related
from tevatron_distill.schema import Candidates


def score_rows(
    model: Any, layout: PointLayout, batcher: Batcher, candidates: Sequence[Candidates]
) -> list[list[float]]:
    """Scores of all lists' rows, which are batched together."""
    rows = [row for one in candidates for row in layout.rows(one)]

    related = score_related(model, layout, batcher, rows)
    if related is not None:
        return _by_list(layout.row_scores(related).tolist(), candidates)

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[float]:
        outputs = model(**{name: inputs[name] for name in layout.model_inputs})
        scores: list[float] = layout.row_scores(outputs).tolist()
        return scores

    flat = [0.0] * len(rows)
    with first_token_only(model, keys=False), ready_masks(model), without_keys(model):
        for place, score in batcher.run(layout, rows, forward):
            flat[place] = score
    return _by_list(flat, candidates)


def _by_list(flat: Sequence[float], candidates: Sequence[Candidates]) -> list[list[float]]:
    scores = iter(flat)
    return [list(islice(scores, len(one.passages))) for one in candidates]
