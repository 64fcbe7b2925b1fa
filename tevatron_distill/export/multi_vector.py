"""ColBERT as PyLate's folder, which sentence-transformers 6 opens as a MultiVectorEncoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tevatron_distill.export.folder import save_model, save_tokenizer, write_json
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import STRIPPED, Readers
from tevatron_distill.layouts import RerankerSettings

MODULES = (("sentence_transformers.models.Transformer", ""), ("pylate.models.Dense.Dense", "1_Dense"))


def write_multi_vector(original: Original, folder: Path) -> Readers:
    """Write an encoder and the linear layer on its tokens, with markers, lengths and what does not count.

    The score is MaxSim: its sum over the query's tokens as PyLate takes it, or its mean (sentence-transformers'
    ``meanmaxsim``), which orders the passages of a query alike.

    Raises:
        InputError: if the student has another convention, or prefixes.
    """
    settings, model = original.layout.settings, original.loaded.model
    convention, prefixes = settings.colbert_convention, settings.query_prefix or settings.passage_prefix
    if convention not in ("pylate", "mean") or prefixes or settings.count_special_tokens is False:
        raise original.misfit("hub", "is PyLate's folder, of the conventions pylate and mean, without prefixes")
    save_model(model, folder)
    save_tokenizer(original.loaded.tokenizer, folder, padding_side="right")
    settings.save(folder)
    write_dense(model, folder / "1_Dense")
    write_json(
        folder / "modules.json",
        [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (kind, path) in enumerate(MODULES)],
    )
    lengths = (settings.query_max_len or 0, settings.passage_max_len or 0)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max(lengths), "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "ColBERT",
            "query_prefix": settings.query_marker or "",
            "document_prefix": settings.passage_marker or "",
            "query_length": lengths[0],
            "document_length": lengths[1],
            "do_query_expansion": bool(settings.query_expansion),
            "attend_to_expansion_tokens": bool(settings.attend_to_expansion),
            "skiplist_words": list(settings.skiplist or ()),
            "similarity_fn_name": "MaxSim" if convention == "pylate" else "meanmaxsim",
            "prompts": {},
        },
    )
    if settings.temperature != 1.0:
        original.notes.append(f"the student's score is MaxSim's divided by {settings.temperature}")
    if original.has_library("sentence_transformers", "sentence-transformers", "st"):
        return {"sentence-transformers": partial(read_multi_vector, folder, settings)}
    return {}


def write_dense(model: object, folder: Path) -> None:
    """Write the projection as PyLate does; the identity where there is none."""
    linear, config = getattr(model, "linear", None), model.config  # type: ignore[attr-defined]
    weights = {"linear.weight": torch.eye(config.hidden_size)}
    if linear is not None:
        weights = {f"linear.{name}": value.detach().contiguous() for name, value in linear.named_parameters()}
    width, hidden = weights["linear.weight"].shape
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    write_json(
        folder / "config.json",
        {
            "in_features": hidden,
            "out_features": width,
            "bias": "linear.bias" in weights,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )


def read_multi_vector(folder: Path, settings: RerankerSettings) -> Tensor:
    """Scores by sentence-transformers."""
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device="cpu")
    found = []
    for query, text in STRIPPED:
        vectors = (
            model.encode_query([query], show_progress_bar=False),
            model.encode_document([text], show_progress_bar=False),
        )
        found.append(model.similarity(*vectors).flatten())
    return torch.cat(found).float() / (settings.temperature or 1.0)
