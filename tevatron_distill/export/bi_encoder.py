"""SimCLS as a bi-encoder of sentence-transformers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tevatron_distill.export.folder import save_model, save_tokenizer, write_json
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import PAIRS, Readers
from tevatron_distill.export.sentence_files import NORMALIZE, POOLING, write_modules
from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.students.loading import with_prefix


def write_bi_encoder(original: Original, folder: Path) -> Readers:
    """Write an encoder with ``[CLS]`` pooling and vectors of unit length, whose dot product is the score.

    Raises:
        InputError: if the student is another one, or has two lengths.
    """
    settings, model = original.layout.settings, original.loaded.model
    if settings.student != "simcls" or settings.query_max_len != settings.passage_max_len:
        raise original.misfit("hub", "is one encoder for queries and passages of one length")
    save_model(model, folder)
    save_tokenizer(original.loaded.tokenizer, folder, model_max_length=settings.query_max_len, padding_side="right")
    settings.save(folder)
    pooling = {"embedding_dimension": model.config.hidden_size, "pooling_mode": "cls"}
    write_modules(folder, (POOLING, pooling), (NORMALIZE, {}))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": settings.query_max_len})
    prefixes = {"query": settings.query_prefix, "document": settings.passage_prefix}
    prompts = {name: with_prefix(prefix, "\x00").partition("\x00")[0] for name, prefix in prefixes.items() if prefix}
    write_json(
        folder / "config_sentence_transformers.json",
        {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine", "prompts": prompts},
    )
    if settings.temperature != 1.0:
        original.notes.append(f"the student's score is the cosine divided by {settings.temperature}")
    if original.has_library("sentence_transformers", "sentence-transformers", "st"):
        return {"sentence-transformers": partial(read_bi_encoder, folder, settings)}
    return {}


def read_bi_encoder(folder: Path, settings: RerankerSettings) -> Tensor:
    """Scores by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    with torch.inference_mode():
        queries = model.encode_query([query for query, _ in PAIRS], convert_to_tensor=True, show_progress_bar=False)
        passages = model.encode_document([text for _, text in PAIRS], convert_to_tensor=True, show_progress_bar=False)
    return (queries * passages).sum(dim=-1) / (settings.temperature or 1.0)
