"""Encoders of BERT's kind take a padding mask that is ready for attention, one line a row, made once for all layers.

Of their own accord they make a truth value for each two tokens, which torch's attention turns into numbers in every
layer anew: a tenth of the time of attention, and some more for the numbers. Measured on CPUs, and done on them only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tevatron_distill.reranker.last_layer import reads_first_token


@contextmanager
def ready_masks(model: Any) -> Iterator[None]:
    """Within it an encoder that `reads_first_token`, on a CPU, gets its mask as ``[R, 1, 1, T]`` of 0 and the lowest
    number, or None where there is no padding; models of other kinds stay as they are.
    """
    if not reads_first_token(model) or model.device.type != "cpu":
        yield
        return
    handle = model.base_model.register_forward_pre_hook(prepare, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def prepare(encoder: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An encoder's arguments with its ``attention_mask``, int64 ``[R, T]``, made ready.

    Masks of four dimensions are taken as they are (`transformers.masking_utils.create_bidirectional_mask`).
    """
    padding = named["attention_mask"] == 0
    if not padding.any():
        return inputs, named | {"attention_mask": None}
    numbers = torch.zeros(padding.shape, dtype=encoder.dtype).masked_fill_(padding, torch.finfo(encoder.dtype).min)
    return inputs, named | {"attention_mask": numbers[:, None, None]}
