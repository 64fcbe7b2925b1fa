"""One encoder, and the cosine of the ``[CLS]`` vectors of source and candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tevatron_distill.layouts import DualLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.similarity import Cosine
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    add_adapter,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
)
from tevatron_distill.students.vectors import TextRows, encoder_class, vectors_class

MAX_LEN = 256
"""Tokens of a source, and of a candidate (LLM-Blender's ``source_maxlength`` and ``candidate_maxlength``)."""


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load an encoder.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; lengths, pad id and temperature are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the folder is no encoder, or lacks some of its weights.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    config.colbert_dim = 0
    set_config_pad(config, pad)
    model, missing = load_model(vectors_class(encoder_class(source, config, "simcls")), source, options, config)
    refuse_random(source, missing, (), "the folder must hold a whole encoder")
    length = min(MAX_LEN, getattr(config, "max_position_embeddings", None) or MAX_LEN)
    settings = replace(
        settings,
        pad_token_id=pad,
        query_max_len=settings.query_max_len or length,
        passage_max_len=settings.passage_max_len or length,
        temperature=settings.temperature or 1.0,
    )
    return Loaded(tokenizer, add_adapter(model, source, options, "FEATURE_EXTRACTION", ()), settings)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> DualLayout:
    """The layout of a loaded simcls student."""
    return DualLayout(
        tokenizer,
        settings,
        TextRows(tokenizer, "query", settings.query_prefix, settings.query_max_len or MAX_LEN, only_first),
        TextRows(tokenizer, "passage", settings.passage_prefix, settings.passage_max_len or MAX_LEN, only_first),
        Cosine(settings.temperature or 1.0),
        gold=True,
        term_weights={"gold": 1.0},
    )


def only_first(ids: list[int], special: list[int]) -> list[bool]:
    """The first token, ``[CLS]``, stands for the text."""
    return [place == 0 for place in range(len(ids))]
