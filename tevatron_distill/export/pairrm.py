"""PairRM's layout, of which LLM-Blender and its class for transformers read the same folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from tevatron_distill.export.folder import read_json, save_tokenizer, write_json
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import CASES, Readers
from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.schema import Candidates
from tevatron_distill.students.pair_checkpoint import CANDIDATE_MARKER
from tevatron_distill.students.pair_model import MARKER_KEYS, MARKERS, backbone_kind

BACKBONE = "pretrained_model."
FAMILIES = ("deberta", "roberta", "bert", "xlm-roberta")
"""Beginnings of ``model_type`` that LLM-Blender builds an encoder for."""


def write_pairrm(original: Original, folder: Path) -> Readers:
    """Write PairRM: the backbone under ``pretrained_model``, ``head_layer``, and the keys that both programs look for.

    LLM-Blender takes the backbone's config from the folder itself, for none is named (``model_name``).

    Raises:
        InputError: if the student is no encoder that compares pairs.
    """
    settings, model, tokenizer = original.layout.settings, original.loaded.model, original.loaded.tokenizer
    config = original.config
    if settings.student != "pair_ranker" or backbone_kind("", config)[0] != "encoder":
        raise original.misfit("pairrm", "is an encoder that compares pairs")
    if settings.query_prefix or settings.passage_prefix:
        raise original.misfit("pairrm", "has no prefixes: put them into the texts")
    if not config.model_type.startswith(FAMILIES):
        original.notes.append(
            f"LLM-Blender builds no {config.model_type}; its class for transformers is DeBERTa's alone"
        )
    tokenizer.add_tokens([CANDIDATE_MARKER])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)  # LLM-Blender resizes to exactly that
    config.save_pretrained(folder)
    write_json(
        folder / "config.json",
        {
            **read_json(folder / "config.json"),
            **({"architectures": ["DebertaV2PairRM"]} if config.model_type == "deberta-v2" else {}),
            "ranker_type": "pairranker",
            "source_maxlength": settings.query_max_len,
            "candidate_maxlength": settings.passage_max_len,
            "cand_prefix_id": tokenizer.convert_tokens_to_ids(CANDIDATE_MARKER),
            "sep_token_id": tokenizer.sep_token_id,
        },
    )
    save_file(published_weights(model), folder / "model.safetensors", {"format": "pt"})
    save_tokenizer(tokenizer, folder, padding_side="right")
    settings.save(folder)
    return {"LLM-Blender's way": partial(read_pairrm, folder, settings)}


def published_weights(model: Any) -> dict[str, Tensor]:
    """The weights by their published names, and zeros for the pooler that LLM-Blender builds and never reads."""
    state = {
        name if name.startswith("head_layer.") else BACKBONE + name: value.detach().contiguous()
        for name, value in model.state_dict().items()
    }
    if "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(model.config)].__init__).parameters:
        width = model.config.hidden_size
        state[f"{BACKBONE}pooler.dense.weight"] = torch.zeros(width, width)
        state[f"{BACKBONE}pooler.dense.bias"] = torch.zeros(width)
    return state


def read_pairrm(folder: Path, settings: RerankerSettings) -> Tensor:
    """Scores by what LLM-Blender publishes: its model, its way of making rows, and its mean over all comparisons."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    backbone = AutoModel.from_config(config, dtype=torch.float32).eval()
    backbone.load_state_dict({k.removeprefix(BACKBONE): v for k, v in state.items() if k.startswith(BACKBONE)})
    first, second = ((state[f"head_layer.{place}.weight"], state[f"head_layer.{place}.bias"]) for place in (1, 4))

    def compare(query: str, one: str, other: str) -> Tensor:
        ids = pair_row(tokenizer, query, one, other, settings)
        with torch.inference_mode():
            hidden = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
        source, left, right = (hidden[ids.index(getattr(config, key))] for key in MARKER_KEYS)
        scores = [
            functional.linear(torch.tanh(functional.linear(torch.cat([source, side]), *first)), *second).mean()
            for side in (left, right)
        ]
        return scores[0] - scores[1]

    return torch.cat([full_comparison(case, compare) for case in CASES])


def pair_row(tokenizer: Any, query: str, one: str, other: str, settings: RerankerSettings) -> list[int]:
    """A row as PairRM's card makes it: what the source leaves of the length is shared by the candidates."""
    source_length, length = settings.query_max_len or 0, settings.passage_max_len or 0
    source = tokenizer.encode(MARKERS[0] + query, max_length=source_length, truncation=True)
    room = (source_length + 2 * length - len(source)) // 2
    candidates = [
        tokenizer.encode(marker + text, max_length=room, truncation=True)
        for marker, text in zip(MARKERS[1:], (one, other), strict=True)
    ]
    return [*source, *candidates[0], *candidates[1]]


def full_comparison(case: Candidates, compare: Callable[[str, str, str], Tensor]) -> Tensor:
    """Each candidate's mean margin over all others, in both orders, float32 ``[G]`` (mode ``full``, ``max logits``)."""
    texts = [passage.text for passage in case.passages]
    margins = torch.zeros(len(texts), len(texts))
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            if i != j:
                margins[i, j] = compare(case.query, one, other)
    return (margins - margins.T).sum(dim=1) / (2 * (len(texts) - 1))
