"""A backbone that compares two candidates: LLM-Blender's PairRanker as a model of transformers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
)

from tevatron_distill.schema import InputError
from tevatron_distill.students.parted import weights_are_parted, whole

MARKERS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
"""Added tokens that open the segments, in the order of `MARKER_KEYS`."""

MARKER_KEYS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
"""Keys of PairRM's config that hold the ids of the markers."""

SPELLINGS = ("source", "candidate one", "candidate two")
"""A new marker starts as the mean of the vectors of its spelling."""

DROPOUT = 0.05
PART_TOKENS = 65536
"""Tokens that go through the model at a time where nothing is learned."""


def backbone_kind(path: str, config: Any) -> tuple[str, Any]:
    """How a model of this config reads, ``encoder``, ``causal`` or ``encoder_decoder``, and its class without a head.

    Raises:
        InputError: if it is none of these.
    """
    parent = MODEL_MAPPING.get(type(config), None)
    if parent is not None and not isinstance(parent, tuple):
        if config.is_encoder_decoder:
            return "encoder_decoder", parent
        if type(config) in MODEL_FOR_MASKED_LM_MAPPING:
            return "encoder", parent
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
            return "causal", parent
    raise InputError(
        f"{path}: pair_ranker needs an encoder, a causal language model or an encoder-decoder; got {config.model_type}"
    )


@functools.cache
def pair_class(parent: Any) -> Any:
    """A model's own class with ``head_layer`` on the vectors at three places.

    It bears its parent's name, so that a saved folder opens as the plain backbone in other programs.
    """
    without_pooler = "add_pooling_layer" in inspect.signature(parent.__init__).parameters
    extra = {"use_cache": False} if "use_cache" in inspect.signature(parent.forward).parameters else {}

    def init(self: Any, config: Any) -> None:
        parent.__init__(self, config, **({"add_pooling_layer": False} if without_pooler else {}))
        width = getattr(config, "word_embed_proj_dim", None) or config.hidden_size  # OPT's last layer is narrower
        self.head_layer = nn.Sequential(
            nn.Dropout(config.drop_out),
            nn.Linear(2 * width, width),
            nn.Tanh(),
            nn.Dropout(config.drop_out),
            nn.Linear(width, config.n_tasks),
        )
        self.post_init()

    def forward(
        self: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        places: Tensor,
        position_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Compare two candidates.

        Args:
            input_ids: int64 ``[R, T]``.
            attention_mask: int64 ``[R, T]``.
            places: int64 ``[R, 3]``, where source, first and second candidate are read in the last hidden states.
            position_ids: int64 ``[R, T]``, for causal models.
            decoder_input_ids: int64 ``[R, U]``, for encoder-decoders, as its mask.
            decoder_attention_mask: int64 ``[R, U]``.
            kwargs: empty keywords, which peft sends, are passed over.

        Returns:
            ``logits`` ``[R, 2, n_tasks]`` of the first and the second candidate.

        Raises:
            TypeError: if another input is passed, such as labels.
        """
        stray = sorted(name for name, value in kwargs.items() if value is not None)
        if stray:
            raise TypeError(f"this model compares candidates and takes no {', '.join(stray)}")
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "places": places,
            "position_ids": position_ids,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
        }
        given = {name: value for name, value in inputs.items() if value is not None}
        width = input_ids.shape[1] if decoder_input_ids is None else input_ids.shape[1] + decoder_input_ids.shape[1]
        undivided = torch.is_grad_enabled() or weights_are_parted(self)
        parts = [compare(self, **part) for part in ([given] if undivided else row_parts(given, width))]
        return SequenceClassifierOutput(logits=torch.cat(parts))

    def compare(self: Any, places: Tensor, **inputs: Tensor) -> Tensor:
        hidden = parent.forward(self, **inputs, **extra).last_hidden_state
        read = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[-1]))  # [R, 3, D]
        pairs = torch.cat([read[:, :1].expand(-1, 2, -1), read[:, 1:]], dim=-1)  # [R, 2, 2D]
        logits: Tensor = self.head_layer(pairs)
        return logits

    members = {"__init__": init, "forward": forward, "__module__": __name__}
    return type(parent.__name__, (parent,), members)


def row_parts(inputs: dict[str, Tensor], width: int) -> Iterator[dict[str, Tensor]]:
    """Rows in parts that fit into memory, where nothing is learned: evaluation compares all pairs of whole groups.

    Args:
        inputs: tensors with the rows first.
        width: tokens of a row, padding included.
    """
    count = len(inputs["input_ids"])
    size = max(1, PART_TOKENS // width)
    for start in range(0, count, size):
        yield {name: tensor[start : start + size] for name, tensor in inputs.items()}


def add_markers(tokenizer: Any) -> tuple[int, ...]:
    """The ids of the markers; added to the tokenizer where it lacks them."""
    known = tokenizer.get_added_vocab()
    tokenizer.add_tokens([marker for marker in MARKERS if marker not in known], special_tokens=True)
    return tuple(tokenizer.convert_tokens_to_ids(list(MARKERS)))


def start_markers(model: Any, tokenizer: Any, ids: tuple[int, ...]) -> None:
    """Give new markers a place among the embeddings and vectors that depend on the folder alone.

    A LoRA adapter does not save embeddings, so what it was trained with must come back when it is loaded.
    """
    if max(ids) >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with whole(weight), torch.no_grad():
        for index, spelling in zip(ids, SPELLINGS, strict=True):
            pieces = tokenizer(spelling, add_special_tokens=False)["input_ids"]
            weight[index] = weight[pieces].float().mean(dim=0).to(weight.dtype)


def position_limit(model: Any, config: Any) -> int | None:
    """Tokens of the longest row that has learned positions; None where positions are relative.

    RoBERTa's kin count theirs from behind the pad id.
    """
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or not getattr(config, "position_biased_input", True):  # DeBERTa-v3
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return positions - int(module.padding_idx) - 1
    return positions
