"""Fewer layers: a student that begins as some layers of a deeper backbone."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

STACKS = ("layer", "layers", "block", "blocks", "h")
"""What architectures call the list of their layers."""

DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
"""What configs of encoder-decoders call the number of layers of their other half."""


def spaced(count: int, number: int) -> list[int]:
    """Places of evenly spaced layers, the first among them.

    >>> spaced(6, 3), spaced(6, 2), spaced(12, 5)
    ([0, 2, 4], [0, 3], [0, 2, 4, 7, 9])
    """
    return [place * count // number for place in range(number)]


def keep_layers(model: Any, number: int, path: str) -> None:
    """Leave a model some of its layers, evenly spaced; an encoder-decoder in each half.

    Evenly spaced layers rank better than the first ones before any training, and so does what begins with them.

    Args:
        model: a ``PreTrainedModel`` with all of its layers; it and its config are changed.
        number: layers to be left.
        path: the model's, for messages.

    Raises:
        InputError: if it has fewer, or its layers cannot be told or are not alike.

    Source:
        Sanh et al. 2019 (DistilBERT), whose student begins as every other layer of its teacher.
    """
    config = model.config.get_text_config()
    count: Any = getattr(config, "num_hidden_layers", None)
    stacks = list(_stacks(model))
    decoder = next((key for key in DECODER_LAYERS if config.is_encoder_decoder and key in config.to_dict()), None)
    counts = {count} if decoder is None else {count, getattr(config, decoder)}
    if not stacks or {len(stack) for stack in stacks} != counts:
        raise InputError(
            f"{path}: --num_hidden_layers cannot tell the layers of {config.model_type}; train it with all of them"
        )
    if number > min(counts):
        raise InputError(f"{path}: --num_hidden_layers must be at most {min(counts)}, for it has no more; got {number}")
    for stack in stacks:
        _cut(stack, spaced(len(stack), number))
    places = spaced(count, number)
    logger.info("%s: layers %s of %d are left", path, ", ".join(str(place + 1) for place in places), count)
    lists = {key: value for key, value in config.to_dict().items() if isinstance(value, list) and len(value) == count}
    for key, values in lists.items():  # layer_types and their like
        setattr(config, key, [values[place] for place in places])
    config.num_hidden_layers = number
    if decoder is not None:
        setattr(config, decoder, number)
    if not is_deepspeed_zero3_enabled() and _shapes(model) != _shapes_of_new(model):
        raise InputError(
            f"{path}: the layers of {config.model_type} are not alike, so that what is left of them could not be "
            "loaded again; train it with all of them"
        )


def _stacks(module: nn.Module) -> list[nn.ModuleList]:
    """The outermost lists of layers."""
    found: list[nn.ModuleList] = []
    for name, child in module.named_children():
        found.extend([child] if isinstance(child, nn.ModuleList) and name in STACKS else _stacks(child))
    return found


def _cut(stack: nn.ModuleList, places: list[int]) -> None:
    left = [stack[place] for place in places]
    del stack[len(left) :]
    for place, layer in enumerate(left):
        stack[place] = layer
        for module in layer.modules():
            if "layer_idx" in module.__dict__:  # where a cache keeps its keys and values
                setattr(module, "layer_idx", place)  # noqa: B010


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.named_parameters()}


def _shapes_of_new(model: Any) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(type(model)(model.config))
