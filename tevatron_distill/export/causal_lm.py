"""A Yes-token student as the causal language model it came from, the Yes row back in the head."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tevatron_distill.export.folder import save_model, save_tokenizer
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import Readers, read_cross_encoder
from tevatron_distill.export.sentence_files import ACTIVATION, write_cross_encoder_files
from tevatron_distill.export.seq2seq_lm import answer, encode_prompts
from tevatron_distill.export.template import row_text, shows_query_first
from tevatron_distill.layouts import PointLayout, RerankerSettings
from tevatron_distill.students.yes_prompts import LineRows
from tevatron_distill.students.yes_token import logit_scale


def write_causal_lm(original: Original, folder: Path) -> Readers:
    """Write a causal language model, which scores by the logit of yes behind the prompt.

    It opens in sentence-transformers, too, where the prompt shows the query first.

    Raises:
        InputError: if the student is no causal language model that answers by a token.
    """
    layout, settings, config = original.layout, original.layout.settings, original.config
    causal = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if not isinstance(layout, PointLayout) or settings.yes_token_id is None or causal is None:
        raise original.misfit("causal_lm", "is a causal language model that answers by a token")
    model = language_model(original, causal)
    save_model(model, folder, architectures=[causal.__name__], tie_word_embeddings=False, **ACTIVATION)
    readers: Readers = {}
    tokenizer = original.loaded.tokenizer
    if shows_query_first(layout):
        text, _ = row_text(original.loaded)
        tokenizer.chat_template = text.jinja()
        write_cross_encoder_files(folder, logits=(settings.yes_token_id, settings.no_token_id))
        if original.has_library("sentence_transformers", "sentence-transformers", "st"):
            readers["sentence-transformers"] = partial(read_cross_encoder, folder)
    else:
        original.notes.append(
            f"--prompt {settings.prompt} shows the passage before the query, so the folder is not made for "
            "sentence-transformers, which would cut long rows at the query"
        )
    save_tokenizer(tokenizer, folder, model_max_length=settings.rerank_max_len, padding_side="left")
    settings.save(folder)
    if not isinstance(layout.encode, LineRows):
        readers["transformers"] = partial(read_causal_lm, folder, settings)
    return readers


def language_model(original: Original, causal: Any) -> Any:
    """The student's layers under a head whose row of yes gives the score.

    The other rows are those of an adapter's base, or the embeddings where the model ties them; else they are lost, and
    zero. The head is a matrix of its own: a tied one would change what the word yes means where it is read.
    """
    student, settings, config = original.loaded.model, original.layout.settings, original.config
    with torch.device("meta"):
        model = causal(config)
    setattr(model, model.base_model_prefix, getattr(student, student.base_model_prefix))
    old, row = model.get_output_embeddings(), student.score.weight.detach()[0].float()
    head = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
    with torch.no_grad():
        head.weight.copy_(other_rows(original, head.weight))
        if head.bias is not None:
            head.bias.zero_()
        row = row / logit_scale(config.get_text_config())
        if settings.no_token_id is not None:
            row = row + head.weight[settings.no_token_id]
        head.weight[settings.yes_token_id] = row
    model.set_output_embeddings(head)
    model.config.tie_word_embeddings = False
    return model


def other_rows(original: Original, weight: Tensor) -> Tensor:
    """Rows for the words that are no answer, float ``[V, D]``."""
    source = original.source
    if source.adapter is not None:
        base = AutoModelForCausalLM.from_pretrained(source.base, dtype=torch.float32)
        rows: Tensor = base.get_output_embeddings().weight.detach()
        return rows
    if original.config.get_text_config().tie_word_embeddings:
        embeddings: Tensor = original.loaded.model.get_input_embeddings().weight.detach()
        return embeddings
    original.notes.append(
        "the head has the answer's rows alone, for a student does not keep the others: it cannot write"
    )
    return torch.zeros_like(weight)


def read_causal_lm(folder: Path, settings: RerankerSettings) -> Tensor:
    """Scores by the published snippet: the last logits of a batch padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = encode_prompts(tokenizer, settings, "left")
    positions = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1]
    return answer(logits, settings)
