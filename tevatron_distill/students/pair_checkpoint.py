"""Checkpoints of LLM-Blender's own program: a config of its flags, a state of its module, no config of transformers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tevatron_distill.formats.jsonl import read_json
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.loading import DTYPES, read_config, read_tokenizer, tensors_alone
from tevatron_distill.schema import InputError
from tevatron_distill.students.loading import LoadOptions, Source, can_be_read, find_file, set_config_pad
from tevatron_distill.students.pair_model import DROPOUT, MARKER_KEYS, MARKERS, add_markers, backbone_kind, pair_class

logger = logging.getLogger(__name__)

WEIGHT_FILES = ("pytorch_model.bin", "model.safetensors")
CANDIDATE_MARKER = "<|candidate|>"
"""A fourth token that LLM-Blender adds, and replaces before its model sees it."""


def read_llm_blender(source: Source, options: LoadOptions) -> dict[str, Any] | None:
    """The flags in a checkpoint of LLM-Blender; None where the folder is something else.

    Raises:
        InputError: if it holds another ranker.
    """
    values = read_folder_config(source, options)
    if "ranker_type" not in values or (values.get("model_name") is None and MARKER_KEYS[0] in values):
        return None  # the second is of both kinds, as driver.export writes it
    if str(values["ranker_type"]).lower() != "pairranker":
        raise InputError(f"{source.base}: pair_ranker reads LLM-Blender's pairranker; got {values['ranker_type']}")
    return values


def is_pair_ranker(values: Mapping[str, Any]) -> bool:
    """Whether a folder with these keys in its config is PairRM-hf's kind, or LLM-Blender's own."""
    return str(values.get("ranker_type", "")).lower() == "pairranker" or MARKER_KEYS[0] in values


def read_folder_config(source: Source, options: LoadOptions) -> dict[str, Any]:
    """The keys of a folder's ``config.json``; none where it has no such file."""
    path = find_file(source.base, "config.json", options.cache_dir)
    return {} if path is None else dict(read_json(path))


def load_llm_blender(
    source: Source, flags: dict[str, Any], settings: RerankerSettings, options: LoadOptions
) -> tuple[Any, Any, RerankerSettings]:
    """Tokenizer, model and settings of a checkpoint of LLM-Blender, whose backbone is named in its flags.

    Raises:
        InputError: if weights are missing or do not fit.
    """
    name = options.config_name or flags["model_name"]
    if not can_be_read(name, options):
        raise InputError(
            f"{source.base} is a checkpoint on {name}, whose config cannot be read here; get it, or name where it lies "
            "by --config_name (llm-blender/PairRM-hf needs no other model)"
        )
    with_tokenizer = any(find_file(source.base, file, options.cache_dir) for file in ("tokenizer.json", "spm.model"))
    tokenizer, pad = read_tokenizer(
        options.tokenizer_name or (source.base if with_tokenizer else name), **options.hub_keywords()
    )
    if MARKERS[0] not in tokenizer.get_added_vocab():
        tokenizer.add_tokens([*MARKERS, CANDIDATE_MARKER])
    config = read_config(name, **options.hub_keywords())
    kind, parent = backbone_kind(name, config)
    if kind != "encoder":
        logger.warning(
            "%s: LLM-Blender reads a %s model at the beginnings of its segments, where the candidates are not seen "
            "yet; here it is read at their ends, so train it on before it ranks",
            source.base,
            kind,
        )
    state = read_state(source, options)
    config.update(dict(zip(MARKER_KEYS, add_markers(tokenizer), strict=True)))
    config.n_tasks = len(state["head_layer.4.bias"])
    config.drop_out = flags.get("drop_out", DROPOUT)
    config.vocab_size = max(len(rows) for key, rows in state.items() if key.endswith(EMBEDDINGS))
    set_config_pad(config, pad)
    model = pair_class(parent)(config)
    prefix = f"{model.base_model_prefix}."
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    result = model.load_state_dict(state, strict=False)
    if result.missing_keys:
        raise InputError(f"{source.base}: weights are missing and would be random: {', '.join(result.missing_keys)}")
    dtype = DTYPES[options.dtype]
    if isinstance(dtype, torch.dtype):
        model.to(dtype)
    query, passage = flags.get("source_maxlength"), flags.get("candidate_maxlength")
    if query and passage and settings.query_max_len is None and settings.passage_max_len is None:
        settings = replace(settings, query_max_len=query, passage_max_len=passage, rerank_max_len=query + 2 * passage)
    return tokenizer, model, settings


EMBEDDINGS = ("word_embeddings.weight", "shared.weight", "embed_tokens.weight")


def read_state(source: Source, options: LoadOptions) -> dict[str, torch.Tensor]:
    """The weights, the backbone's without LLM-Blender's prefix; a pickle is read as tensors only.

    Raises:
        InputError: if there are none.
    """
    for file in WEIGHT_FILES:
        path = find_file(source.base, file, options.cache_dir)
        if path is None:
            continue
        state = load_file(path) if file.endswith("safetensors") else load_pickle(path)
        return {key.removeprefix("pretrained_model."): value for key, value in state.items()}
    raise InputError(f"{source.base}: must hold {' or '.join(WEIGHT_FILES)} beside its config.json; found neither")


def load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a pickle; no code in it runs."""
    with tensors_alone(path):
        state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
