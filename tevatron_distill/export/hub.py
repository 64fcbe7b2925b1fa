"""One folder that scores the same in transformers, sentence-transformers, vLLM and Tevatron, where the student can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from tevatron_distill.export.bi_encoder import write_bi_encoder
from tevatron_distill.export.folder import save_model, save_tokenizer
from tevatron_distill.export.list_model import write_list_model
from tevatron_distill.export.multi_vector import write_multi_vector
from tevatron_distill.export.original import Original
from tevatron_distill.export.pairrm import write_pairrm
from tevatron_distill.export.rescoring import (
    PAIRS,
    STRIPPED,
    Readers,
    read_classifier,
    read_cross_encoder,
    read_tevatron,
)
from tevatron_distill.export.sentence_files import ACTIVATION, write_cross_encoder_files
from tevatron_distill.export.seq2seq_lm import write_seq2seq_lm
from tevatron_distill.export.template import RowText, row_text
from tevatron_distill.layouts import PointLayout
from tevatron_distill.students.cross_encoder import JoinedRows, PairRows
from tevatron_distill.students.sample import TOLERANCE
from tevatron_distill.students.special_tokens import BARE, read_special_tokens

OTHERS: dict[str, Callable[[Original, Path], Readers]] = {
    "colbert": write_multi_vector,
    "listwise": write_list_model,
    "pair_ranker": write_pairrm,
    "simcls": write_bi_encoder,
}
"""Students that are no classifier → the form that their own libraries load."""


def write_hub(original: Original, folder: Path) -> Readers:
    """Write the form in which a student's kind is loaded elsewhere.

    It is a sequence classifier of one label (cross-encoders and language models), T5's own language model, or what
    `OTHERS` writes.

    Raises:
        InputError: if there is none for its kind.
    """
    kind = original.layout.settings.student
    if kind in OTHERS:
        return OTHERS[kind](original, folder)
    if not isinstance(original.layout, PointLayout) or kind == "summa_reranker":
        raise original.misfit("hub", "is what other libraries load, and there is none for this kind of student")
    if original.config.is_encoder_decoder:
        return write_seq2seq_lm(original, folder)
    return write_classifier(original, folder)


def write_classifier(original: Original, folder: Path) -> Readers:
    """Write a sequence classifier of one label, whose score is the raw logit in every library.

    Raises:
        InputError: if transformers has none for the architecture, or it cannot score as the student does.
    """
    refuse_unlike_classifier(original, "hub")
    save_model(original.loaded.model, folder, **ACTIVATION)
    text = write_texts(original, folder)
    if text is not None:
        linear = (name for name, module in original.loaded.model.named_children() if type(module) is nn.Linear)
        write_cross_encoder_files(folder, in_float32=[name for name in linear if name == "score"])
    return classifier_readers(original, folder, text)


def refuse_unlike_classifier(original: Original, format: str) -> None:
    """Refuse a student that no plain classifier can stand for.

    Raises:
        InputError: if transformers has no classifier for it, or its scores are capped.
    """
    if type(original.config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise original.misfit(format, "is a sequence classifier, which transformers lacks for this architecture")
    cap = original.layout.settings.softcap
    if cap is None:
        return
    uncapped = cap * torch.atanh(original.expected / cap)
    if not float((uncapped - original.expected).abs().max()) <= TOLERANCE:
        raise original.misfit(
            format, f"is a classifier, whose logits nothing caps at {cap:g} as the language model does"
        )
    original.notes.append(
        f"the student caps its logits at {cap:g} and a classifier does not: large scores differ, their order does not "
        "(--format causal_lm keeps the cap)"
    )


def write_texts(original: Original, folder: Path) -> RowText | None:
    """Write tokenizer, chat template and settings; returns how a row is one text, None for pairs without a template."""
    layout, tokenizer = original.layout, original.loaded.tokenizer
    settings = layout.settings
    if settings.query_max_len or settings.passage_max_len:
        original.notes.append(
            f"queries are cut at {settings.query_max_len} and passages at {settings.passage_max_len} tokens here; "
            "other libraries cut whole rows alone"
        )
    sizes = {"model_max_length": settings.rerank_max_len, "padding_side": "right"}
    pairs = isinstance(layout, PointLayout) and isinstance(layout.encode, PairRows) and tokenizer.cls_token is not None
    if pairs and not settings.query_prefix and not settings.passage_prefix:
        tokenizer.chat_template = None
        save_tokenizer(tokenizer, folder, **sizes)
        settings.save(folder)
        return None
    if "token_type_ids" in layout.model_inputs:
        raise original.misfit(
            "hub", "needs pairs without prefixes where segments are told apart: put the prefixes into the texts"
        )
    text, bare = row_text(original.loaded)
    bare.chat_template = text.jinja()
    save_tokenizer(bare, folder, **sizes)
    special = settings.special_tokens or read_special_tokens(tokenizer)
    replace(settings, special_tokens=None if special == BARE else special).save(folder)
    return text


def classifier_readers(original: Original, folder: Path, text: RowText | None) -> Readers:
    """The libraries that the folder is for."""
    readers: Readers = {"transformers": partial(read_classifier, folder, None if text is None else False)}
    if original.has_library("sentence_transformers", "sentence-transformers", "st"):
        readers["sentence-transformers"] = partial(read_cross_encoder, folder, STRIPPED if text is None else PAIRS)
    if text is not None:
        readers["vLLM's way with tokens"] = partial(read_classifier, folder, True)
        settings = original.layout.settings
        if isinstance(original.layout, PointLayout) and isinstance(original.layout.encode, JoinedRows):
            readers["Tevatron's way with rows"] = partial(read_tevatron, folder, settings, text.opening)
            if text.opening:
                original.notes.append(
                    "Tevatron's rerank driver adds no special token by this tokenizer: give it --query_prefix "
                    f"{text.opening + settings.query_prefix!r}"
                )
    return readers
