"""ColBERT as a MultiVectorEncoder of sentence-transformers 6, whose encoder transformers opens by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from tevatron_distill.export.folder import save_model, save_tokenizer, write_json
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import PAIRS, Readers
from tevatron_distill.export.sentence_files import DENSE, IDENTITY, MASK, NORMALIZE, write_modules
from tevatron_distill.export.vector_rows import Side, VectorRows, check_rows, plain_tokenizer, vector_rows
from tevatron_distill.layouts import DualLayout
from tevatron_distill.layouts.similarity import MaxSim
from tevatron_distill.students.vectors import takes_pooler

DENSE_FOLDER = "1_Dense"


def write_multi_vector(original: Original, folder: Path) -> Readers:
    """Write an encoder, the projection of its token vectors, and which of them count.

    The similarity is MaxSim, as the mean over the query's tokens or as their sum; the student's score is that divided
    by its temperature, of which sentence-transformers knows nothing.

    Raises:
        InputError: if rows or scores are none that sentence-transformers has.
    """
    layout, model = original.layout, original.loaded.model
    if not isinstance(layout, DualLayout) or layout.settings.student != "colbert":
        raise original.misfit("hub", "is an encoder of token vectors here")
    tokenizer = plain_tokenizer(original)
    rows = vector_rows(layout, tokenizer)
    if rows.zeros_below is not None or rows.query.start or rows.passage.start:
        raise original.misfit("hub", "cannot leave the first token out, nor count padding (open_retrievals)")
    if rows.query.behind or rows.passage.behind:
        raise original.misfit("hub", "can put words before a text, and none behind it (query_prefix, passage_prefix)")
    check_rows(original, tokenizer, rows)
    linear = model.linear if model.config.colbert_dim else None
    if linear is not None:
        del model.linear  # so that what lies at the top is the plain encoder
    save_model(model, folder)
    longest = max(rows.query.max_length, rows.passage.max_length)
    save_tokenizer(tokenizer, folder, model_max_length=longest, padding_side="right")
    layout.settings.save(folder)
    if linear is not None:
        write_dense(linear, folder / DENSE_FOLDER)
    write_sentence_files(folder, rows, tokenizer, linear)
    if rows.temperature != 1.0:
        original.notes.append(f"the student's score is MaxSim divided by {rows.temperature}")
    if rows.passage.folded:
        original.notes.append(
            "this tokenizer tells white space apart: make single spaces of a passage's first, as the student does "
            "(`' '.join(passage.split())`)"
        )
    readers: Readers = {"transformers": partial(read_token_vectors, folder, rows)}
    if original.has_library("sentence_transformers", "sentence-transformers", "st"):
        readers["sentence-transformers"] = partial(read_multi_vector, folder, rows)
    return readers


def write_dense(linear: Any, folder: Path) -> None:
    """Write the projection's weights."""
    folder.mkdir()
    weights = {f"linear.{name}": value.detach().contiguous() for name, value in linear.named_parameters()}
    save_file(weights, folder / "model.safetensors")


def write_sentence_files(folder: Path, rows: VectorRows, tokenizer: Any, linear: Any) -> None:
    """Write ``modules.json`` and what belongs to it; ``linear`` is the projection, None for none."""
    names = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    tasks = [name for name, side in (("query", rows.query), ("document", rows.passage)) if side.skipped]
    words = tokenizer.convert_ids_to_tokens(rows.passage.skipped)
    mask = {"skiplist_words": words, "skiplist_tasks": tasks, "keep_only_token_ids": None}
    dense = []
    if linear is not None:
        sizes = {"in_features": linear.in_features, "out_features": linear.out_features}
        bias = linear.bias is not None
        dense = [(DENSE, {**sizes, "bias": bias, "activation_function": IDENTITY, **names})]
    write_modules(folder, *dense, (MASK, mask), (NORMALIZE, names))
    query, lengths = rows.query, {"query_length": rows.query.max_length, "document_length": rows.passage.max_length}
    expansion = None
    if query.filler is not None:
        token = tokenizer.convert_ids_to_tokens(query.filler)
        expansion = {"strategy": "fixed", "attend": query.attended, "token": token, "length": query.max_length}
    keywords = {"transformer_task": "feature-extraction", "model_kwargs": encoder_keywords(folder)}
    write_json(folder / "sentence_bert_config.json", {**keywords, **lengths, "query_expansion": expansion})
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": query.before, "document": rows.passage.before},
            "default_prompt_name": None,
            "similarity_fn_name": "meanmaxsim" if rows.pooling == "mean" else "maxsim",
        },
    )


def encoder_keywords(folder: Path) -> dict[str, bool]:
    """Without which transformers puts random weights on the first vector, and says at length that they are missing."""
    found = MODEL_MAPPING.get(type(AutoConfig.from_pretrained(folder)), None)
    return {"add_pooling_layer": False} if found is not None and takes_pooler(found) else {}


def given(side: Side, text: str) -> str:
    """A text as a user hands it over, who need not put anything before it."""
    return side.fill(text).removeprefix(side.before)


def read_multi_vector(folder: Path, rows: VectorRows) -> Tensor:
    """Scores by sentence-transformers."""
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device="cpu")
    queries = model.encode_query([given(rows.query, query) for query, _ in PAIRS], show_progress_bar=False)
    passages = model.encode_document([given(rows.passage, text) for _, text in PAIRS], show_progress_bar=False)
    return model.similarity_pairwise(queries, passages) / rows.temperature


def read_token_vectors(folder: Path, rows: VectorRows) -> Tensor:
    """Scores by transformers alone, and MaxSim by hand."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, **encoder_keywords(folder)).eval()
    dense = folder / DENSE_FOLDER / "model.safetensors"
    linear = load_file(dense) if dense.is_file() else None

    def encode(side: Side, text: str) -> Tensor:
        ids = tokenizer(side.fill(text), truncation=True, max_length=side.max_length)["input_ids"]
        row = side.row(list(ids))
        mask = torch.tensor([row.attended], dtype=torch.long)
        with torch.inference_mode():
            vectors = model(input_ids=torch.tensor([row.input_ids]), attention_mask=mask).last_hidden_state[0]
            if linear is not None:
                vectors = functional.linear(vectors, linear["linear.weight"], linear.get("linear.bias"))
        return functional.normalize(vectors, dim=-1)[torch.tensor(row.counted)]

    found, similarity = [], MaxSim(rows.pooling == "mean", rows.temperature)
    for query, text in PAIRS:
        one, other = encode(rows.query, query), encode(rows.passage, text)
        all_count = [torch.ones(1, len(vectors), dtype=torch.bool) for vectors in (one, other)]
        found.append(similarity(one[None], all_count[0], other[None], all_count[1]))
    return torch.cat(found)
