"""Encoders whose score is read at their first token compute the last layer for that token alone.

Of a layer's twelve matrix products (in units of the hidden size squared) at most two, keys and values, need all tokens;
where a model is only asked for scores not even they do. A sixth of the model less in MiniLM-L6, a twelfth in BERT base.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    BertForSequenceClassification,
    CamembertForSequenceClassification,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from tevatron_distill.cross_attention import read_unprojected

READ_FIRST = (
    BertForSequenceClassification,
    CamembertForSequenceClassification,
    ElectraForSequenceClassification,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)
"""Classifiers whose head takes nothing but the first token, and whose layers name their parts as BERT's do."""


def reads_first_token(model: Any) -> bool:
    """Whether a model's score hangs on its last layer's first token alone, in a way that is known here."""
    return not model.training and _head_reads_first(model)


def _head_reads_first(model: Any) -> bool:
    if type(model) not in READ_FIRST:
        return False
    config = model.config
    return not (
        config.is_decoder
        or config.add_cross_attention
        or config.output_attentions
        or config.output_hidden_states
        or config.chunk_size_feed_forward
        or config._attn_implementation not in ("sdpa", "eager")
    )


@contextmanager
def first_token_only(model: Any, *, keys: bool = True) -> Iterator[None]:
    """Within it the last layer's output is one token long; models of other kinds stay as they are.

    Args:
        model: any model.
        keys: the last layer makes keys and values of all tokens. Without them its matrices are read without their
            modules, where those are plain.
    """
    if not reads_first_token(model):
        yield
        return
    layer = model.base_model.encoder.layer[-1]
    attention = layer.attention.self
    plain = type(attention.key) is nn.Linear and type(attention.value) is nn.Linear
    layer.forward = partial(first_token, layer, keys=keys or not plain)
    try:
        yield
    finally:
        del layer.forward


def learn_first_token(model: Any) -> None:
    """From now on a model's last layer is computed for the first token alone, in training too; models of other kinds
    stay as they are. The gradients are the same, but dropout draws other places.

    Args:
        model: a ``PreTrainedModel`` or peft's model around one.
    """
    model = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    if _head_reads_first(model):
        layer = model.base_model.encoder.layer[-1]
        layer.forward = partial(first_token, layer)


def first_token(
    layer: Any, hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, keys: bool = True, **__: Any
) -> Tensor:
    """What a layer makes of the first token, float ``[R, 1, D]``.

    Args:
        layer: one of BERT's kind.
        hidden: all tokens, float ``[R, T, D]``.
        attention_mask: as sdpa and eager attention take it, ``[R, 1, T, T]`` or broadcast to that; None for all tokens.
        keys: make keys and values of all tokens, as training and exports have them.
    """
    attention = layer.attention.self
    size = attention.attention_head_size

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (-1, size)).transpose(1, 2)

    first = hidden[:, :1]
    query = heads(attention.query(first))
    mask = attention_mask if attention_mask is None else attention_mask[:, :, :1]
    if keys:
        context = scaled_dot_product_attention(
            *(query, heads(attention.key(hidden)), heads(attention.value(hidden))),
            attn_mask=mask,
            dropout_p=attention.dropout.p if attention.training else 0.0,
        )
        context = context.transpose(1, 2).flatten(2)
    else:
        context = read_unprojected(query, hidden, mask, attention.key, attention.value, size**-0.5)
    attended = layer.attention.output(context, first)
    made: Tensor = layer.feed_forward_chunk(attended)
    return made
