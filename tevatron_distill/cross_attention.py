"""T5 decoders that write a token or two read the encoder's output without making keys and values of all of it.

A score ``(W_q x) · (W_k h)`` is ``(W_kᵀ W_q x) · h``, and a sum of values ``W_v h`` is ``W_v`` of the sum of ``h``.
These matrices are so multiplied with a few decoder tokens, and not with every token of the prompt: about a seventh of
the work of a T5 that answers by one token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.mt5.modeling_mt5 import MT5Attention
from transformers.models.t5.modeling_t5 import T5Attention


@contextmanager
def without_keys(model: Any) -> Iterator[None]:
    """Within it a T5's decoder makes neither keys nor values of its encoder's output; other models stay as they are.

    For inference alone: the matrices are read without their modules, as ZeRO-3 and adapters do not allow.

    Args:
        model: any model; T5 and mT5 in evaluation mode with plain matrices are meant.
    """
    looks = isinstance(model, nn.Module) and not model.training
    found = [module for module in model.modules() if _can_do_without(module)] if looks else []
    for attention in found:
        attention.forward = partial(attend, attention)
    try:
        yield
    finally:
        for attention in found:
            del attention.forward


def _can_do_without(module: Any) -> bool:
    return (
        type(module) in (T5Attention, MT5Attention)
        and module.is_decoder
        and not module.is_causal  # that is the attention of the decoder to itself
        and type(module.k) is nn.Linear
        and type(module.v) is nn.Linear
        and module.config._attn_implementation in ("sdpa", "eager")
    )


def attend(
    attention: Any,
    hidden: Tensor,
    mask: Tensor | None = None,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    past_key_values: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None, None]:
    """What T5's cross-attention gives, in its order of factors only where that is the shorter way.

    Args:
        attention: the module.
        hidden: the decoder's tokens, float ``[R, Q, D]``.
        mask: which of the encoder's tokens count, ``[R, 1, Q or 1, T]``; None for all.
        key_value_states: the encoder's output, float ``[R, T, D]``.
        position_bias: zeros.
        past_key_values: keys and values of a generation, which are kept for its later tokens.
    """
    size = attention.key_value_proj_dim
    if past_key_values is not None or key_value_states is None or 4 * hidden.shape[1] > size:
        made: tuple[Tensor, Tensor | None, None] = type(attention).forward(
            attention, hidden, mask, key_value_states, position_bias, past_key_values, **kwargs
        )
        return made
    query = attention.q(hidden).unflatten(-1, (attention.n_heads, size)).transpose(1, 2)
    shared = None if mask is None else mask[:, :, :1]
    context = read_unprojected(query, key_value_states, shared, attention.k, attention.v, scale=1.0)
    return attention.o(context), position_bias, None


def read_unprojected(
    query: Tensor, read: Tensor, mask: Tensor | None, key: nn.Linear, value: nn.Linear, scale: float
) -> Tensor:
    """What attention gives a few tokens, float ``[R, Q, H * size]``, without keys and values of those that they read.

    Args:
        query: of the few, ``[R, H, Q, size]``.
        read: the many, ``[R, T, D]``.
        mask: which of them count, as sdpa takes it, ``[R, 1, 1, T]``; None for all.
        key: makes their keys; its bias adds the same to all scores of a query, which the softmax takes away again.
        value: makes their values; its bias goes through a mean as it is.
        scale: of the scores.
    """
    heads = query.shape[1], query.shape[3]
    queries = query @ key.weight.unflatten(0, heads)  # [R, H, Q, D]
    one_head = read[:, None]  # which all queries share
    sums = scaled_dot_product_attention(queries.flatten(1, 2)[:, None], one_head, one_head, attn_mask=mask, scale=scale)
    values = sums.view_as(queries) @ value.weight.unflatten(0, heads).mT  # [R, H, Q, size]
    context = values.transpose(1, 2).flatten(2)
    return context if value.bias is None else context + value.bias
