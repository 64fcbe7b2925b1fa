"""Decoders whose prompt has the query first compute it once for all passages of a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from transformers import PreTrainedModel

from tevatron_distill.layouts import PointLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.reranker.batches import Batcher, TokenCount
from tevatron_distill.shared_prefix import LEAST_SAVED, can_share_prefixes, find_families, last_outputs, share_saved

_CAN_SHARE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def shares_prefixes(model: Any, layout: PointLayout) -> bool:
    """Whether a student is a decoder scored by one row of weights at its last token, with a plain cache."""
    if not layout.ends_at_pad or not isinstance(model, PreTrainedModel) or model.training:
        return False
    if model not in _CAN_SHARE:
        names = dict(model.named_children())
        head = names.get("score")
        _CAN_SHARE[model] = (
            head is not None
            and set(names) == {"score", model.base_model_prefix}
            and type(model).__name__.endswith("ForSequenceClassification")
            and can_share_prefixes(model.base_model)
        )
    return _CAN_SHARE[model]


def score_related(
    model: Any, layout: PointLayout, batcher: Batcher, rows: Sequence[Row]
) -> Mapping[str, Tensor] | None:
    """Logits ``[R, 1]`` of rows that begin alike, each beginning computed once; None where that saves too little.

    Args:
        model: a decoder with a score head.
        layout: the student's layout.
        batcher: its budget counts, and it counts the tokens.
        rows: token rows.
    """
    if not shares_prefixes(model, layout):
        return None
    ids = [row.input_ids for row in rows]
    families = find_families(ids)
    if share_saved(ids, families) < LEAST_SAVED:
        return None
    batcher.count.rows += len(rows)
    batcher.count.tokens += sum(map(len, ids)) - sum(one.shared * (len(one.rows) - 1) for one in families)
    with counted(model.base_model, batcher.count):
        hidden = last_outputs(
            model.base_model,
            ids,
            families,
            pad_token_id=layout.settings.pad_token_id or 0,
            max_tokens=batcher.batch_tokens,
            budget=batcher.budget,
        )
    return {"logits": model.score(hidden)}


@contextmanager
def counted(backbone: Any, count: TokenCount) -> Iterator[None]:
    """Count the tokens, padding included, that go through a model."""

    def note(_: Any, __: Any, inputs: Mapping[str, Any]) -> None:
        count.padded += inputs["input_ids"].numel()

    handle = backbone.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
