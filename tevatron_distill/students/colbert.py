"""MaxSim over an encoder's token vectors; a pretrained bi-encoder ranks well before any training."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils.generic import ModelOutput

from tevatron_distill.layouts import DualLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import render_passage
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    find_file,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
    with_prefix,
)

QUERY_MAX_LEN = 64
PASSAGE_MAX_LEN = 128
TEMPERATURE = 0.02
OPEN_RETRIEVALS_LINEAR = "colbert_linear.pt"
INCOMPLETE = "the folder must hold a whole encoder (and its projection `linear`, where colbert_dim is not 0)"


@dataclass
class ColbertOutput(ModelOutput):
    """Token vectors of unit length.

    Attributes:
        query_vectors: float ``[Q, Tq, D]``.
        passage_vectors: float ``[P, Tp, D]``.
    """

    query_vectors: Tensor | None = None
    passage_vectors: Tensor | None = None


@functools.cache
def colbert_class(parent: Any) -> Any:
    """An encoder's own class with a projection ``linear`` (where ``config.colbert_dim`` is not 0) and MaxSim's forward.

    It bears its parent's name, so that a saved folder opens as the plain encoder in other programs.
    """
    without_pooler = "add_pooling_layer" in inspect.signature(parent.__init__).parameters

    def init(self: Any, config: Any) -> None:
        parent.__init__(self, config, **({"add_pooling_layer": False} if without_pooler else {}))
        if config.colbert_dim:
            self.linear = nn.Linear(config.hidden_size, config.colbert_dim, bias=config.colbert_bias)
            self.post_init()

    def encode(self: Any, input_ids: Tensor, attention_mask: Tensor, normalize: bool = True) -> Tensor:
        """Token vectors ``[R, T, D]``, of unit length if asked; those of padding mean nothing."""
        hidden = parent.forward(self, input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.colbert_dim:
            hidden = self.linear(hidden)
        return functional.normalize(hidden.float(), dim=-1).to(hidden.dtype) if normalize else hidden

    def forward(
        self: Any,
        query_input_ids: Tensor,
        query_attention_mask: Tensor,
        passage_input_ids: Tensor,
        passage_attention_mask: Tensor,
        **kwargs: Any,
    ) -> ColbertOutput:
        """Token vectors of queries and passages; peft's empty keywords are passed over."""
        stray = sorted(name for name, value in kwargs.items() if value is not None)
        if stray:
            raise TypeError(f"this model makes token vectors and takes no {', '.join(stray)}")
        return ColbertOutput(
            query_vectors=self.encode(query_input_ids, query_attention_mask),
            passage_vectors=self.encode(passage_input_ids, passage_attention_mask),
        )

    members = {"__init__": init, "encode": encode, "forward": forward, "__module__": __name__}
    return type(parent.__name__, (parent,), members)


def load(source: Source, settings: RerankerSettings, options: LoadOptions, colbert_dim: int | None = None) -> Loaded:
    """Load an encoder for MaxSim.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; lengths, pad id and temperature are filled in.
        options: dtype, attention, LoRA, …
        colbert_dim: width of a projection; 0 for none, None for the folder's own.

    Raises:
        InputError: if the folder is no encoder, or lacks a projection at inference.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    published = open_retrievals_linear(source, options)
    if published is not None:
        config.colbert_dim, config.colbert_bias = len(published["weight"]), "bias" in published
    elif colbert_dim is not None:
        config.colbert_dim = colbert_dim
    config.colbert_dim = getattr(config, "colbert_dim", 0)
    config.colbert_bias = getattr(config, "colbert_bias", False)
    set_config_pad(config, pad)
    model, missing = load_model(colbert_class(encoder_class(source, config)), source, options, config)
    brought = ("linear",) if options.training or published is not None else adapter_modules(source)
    refuse_random(source, missing, brought, INCOMPLETE)
    if published is not None and any(name.startswith("linear.") for name in missing):
        model.linear.load_state_dict(published)
    positions = getattr(config, "max_position_embeddings", None) or PASSAGE_MAX_LEN + QUERY_MAX_LEN
    settings = replace(
        settings,
        pad_token_id=pad,
        query_max_len=settings.query_max_len or min(QUERY_MAX_LEN, positions),
        passage_max_len=settings.passage_max_len or min(PASSAGE_MAX_LEN, positions),
        temperature=settings.temperature or TEMPERATURE,
        count_special_tokens=settings.count_special_tokens is not False,
    )
    return Loaded(tokenizer, add_adapter(model, source, options, "FEATURE_EXTRACTION", ("linear",)), settings)


def encoder_class(source: Source, config: Any) -> Any:
    """The encoder's class of a config.

    Raises:
        InputError: if there is none.
    """
    found = MODEL_MAPPING.get(type(config), None)
    if config.is_encoder_decoder or found is None or isinstance(found, tuple):
        raise InputError(f"{source.base}: colbert needs an encoder (BERT's kind); got {config.model_type}")
    return found


def open_retrievals_linear(source: Source, options: LoadOptions) -> dict[str, Tensor] | None:
    """The projection that open-retrievals saves beside its encoder."""
    path = find_file(source.own, OPEN_RETRIEVALS_LINEAR, options.cache_dir)
    return None if path is None else torch.load(path, map_location="cpu", weights_only=True)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> DualLayout:
    """The layout of a loaded colbert student."""
    return DualLayout(
        tokenizer, settings, TextRows(tokenizer, settings, "query"), TextRows(tokenizer, settings, "passage")
    )


@dataclass
class TextRows:
    """A query or a passage as one row with the tokenizer's special tokens, cut on the right."""

    tokenizer: Any
    settings: RerankerSettings
    side: str

    def __call__(self, text: str | Passage) -> Row:
        settings = self.settings
        if isinstance(text, Passage):
            text = render_passage(text, "tevatron")
        prefix, length = (
            (settings.query_prefix, settings.query_max_len)
            if self.side == "query"
            else (settings.passage_prefix, settings.passage_max_len)
        )
        encoded = self.tokenizer(
            with_prefix(prefix, text), truncation=True, max_length=length, return_special_tokens_mask=True
        )
        counted = [settings.count_special_tokens is not False or not mark for mark in encoded["special_tokens_mask"]]
        if not counted:
            raise InputError(f"a {self.side} must have a token; got {text[:60]!r}")
        return Row(encoded["input_ids"], counted=counted if any(counted) else [True] * len(counted))
