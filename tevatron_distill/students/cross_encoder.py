"""Any ``AutoModelForSequenceClassification`` with one label: BERT's kind by pair encoding, decoders as RankLLaMA."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from tevatron_distill.layouts import PointLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.loading import tensors_alone
from tevatron_distill.prompts import PASSAGE_STYLES
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    classifier_class,
    cut_text,
    cut_texts,
    find_file,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
    with_prefix,
)
from tevatron_distill.students.pair_model import position_limit
from tevatron_distill.students.parted import whole

logger = logging.getLogger(__name__)

HEADS = ("score", "classifier", "classification_head", "pre_classifier", "pooler", "head")
RANDOM_HEAD = (
    "a score that nothing has learned ranks nothing; train first (driver.train), "
    "or choose another --student (a language model: yes_token, a bi-encoder: colbert)"
)


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load a sequence classifier; in training the score head may be new.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; pad id and the way of encoding are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the head would be random at inference, or the folder has more than one label.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    check_one_label(source, config)
    config.num_labels = 1
    set_config_pad(config, pad)
    model, missing = load_model(classifier_class(config), source, options, config)
    head = tevatron_head(source, settings, options)
    published = ("score",) if head is not None else ()
    brought = HEADS if options.training else (*adapter_modules(source, options), *published)
    refuse_random(source, missing, brought, RANDOM_HEAD)
    if head is not None:
        with whole(model.score.weight), torch.no_grad():
            model.score.weight.copy_(head)
    model = add_adapter(model, source, options, "SEQ_CLS", ("score", "classifier"))
    if settings.pair_encoding is None:
        settings = replace(settings, pair_encoding=tokenizer.cls_token is not None and tokenizer.sep_token is not None)
    if settings.pair_encoding and settings.append_eos_token:
        logger.warning(
            "--append_eos_token changes nothing where the tokenizer joins query and passage; for one string, as in "
            "Tevatron's present program, add --pair_encoding false"
        )
    settings = replace(settings, pad_token_id=pad, reranker_model_type="sequence_classification")
    return Loaded(tokenizer, model, fit_positions(settings, model))


def tevatron_head(source: Source, settings: RerankerSettings, options: LoadOptions) -> torch.Tensor | None:
    """The weight of the head that Tevatron's ``backbone`` type saves beside a bare decoder, float ``[1, D]``.

    A backbone pooled at its last token with a linear head without bias is a decoder's sequence classifier.

    Raises:
        InputError: if the folder says ``backbone`` and is none of these.
    """
    if settings.reranker_model_type != "backbone":
        return None
    path = find_file(source.own, "reranker_head.pt", options.cache_dir)
    if path is None or source.adapter or settings.reranker_pooling != "last" or settings.pair_encoding:
        raise InputError(
            f"{source.own}: a folder of the type backbone is read when it is a decoder with reranker_head.pt, pooled "
            "at the last token, without an adapter; train again as sequence_classification"
        )
    with tensors_alone(path):
        [weight] = torch.load(path, map_location="cpu", weights_only=True).values()
    return weight.reshape(1, -1)


def check_one_label(source: Source, config: Any) -> None:
    """Refuse a classifier of several labels.

    Raises:
        InputError: if the folder holds one.
    """
    classifies = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    if classifies and config.num_labels != 1 and source.adapter is None:
        raise InputError(
            f"{source.base}: a reranker has one label; got a classifier of {config.num_labels}; "
            "start from its encoder, or from a folder with one label"
        )


def fit_positions(settings: RerankerSettings, model: Any) -> RerankerSettings:
    """Shorten the longest row to the positions that an encoder has learned."""
    positions = position_limit(model, model.config)
    if settings.pair_encoding and positions and settings.rerank_max_len > positions:
        logger.warning("rerank_max_len %d is cut to the model's %d positions", settings.rerank_max_len, positions)
        return replace(settings, rerank_max_len=positions)
    return settings


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> PointLayout:
    """The layout of a loaded cross-encoder."""
    if settings.pair_encoding:
        takes_types = "token_type_ids" in inspect.signature(base_forward(model)).parameters
        takes_types = takes_types and "token_type_ids" in tokenizer.model_input_names
        inputs = ("input_ids", "attention_mask", *(("token_type_ids",) if takes_types else ()))
        pooled_first = tokenizer.cls_token is not None
        return PointLayout(tokenizer, settings, PairRows(tokenizer, settings, takes_types), inputs, not pooled_first)
    return PointLayout(tokenizer, settings, JoinedRows(tokenizer, settings), ends_at_pad=True)


def base_forward(model: Any) -> Any:
    """The forward of the model itself, without peft around it."""
    return (model if isinstance(model, PreTrainedModel) else model.get_base_model()).forward


@dataclass
class PairRows:
    """``[CLS] query [SEP] title text [SEP]``; the passage is cut first.

    A long query is cut only as far as that the passage, too, has half of the row (or all that it needs).
    """

    tokenizer: Any
    settings: RerankerSettings
    token_types: bool

    def __call__(self, query: str, passages: Sequence[Passage]) -> list[Row]:
        settings, tokenizer = self.settings, self.tokenizer
        texts = [with_prefix(settings.passage_prefix, PASSAGE_STYLES["tevatron"](passage)) for passage in passages]
        if settings.passage_max_len:
            texts = cut_texts(tokenizer, texts, settings.passage_max_len)
        query = with_prefix(settings.query_prefix, query)
        if settings.query_max_len:
            query = cut_text(tokenizer, query, settings.query_max_len)
        encoded = tokenizer([query] * len(texts), texts, return_token_type_ids=self.token_types, verbose=False)
        types = encoded["token_type_ids"] if self.token_types else [None] * len(texts)
        return [
            Row(ids, kinds) if len(ids) <= settings.rerank_max_len else self.cut_row(query, text)
            for ids, kinds, text in zip(encoded["input_ids"], types, texts, strict=True)
        ]

    def cut_row(self, query: str, text: str) -> Row:
        """The row of a query and a text that are too long."""
        limit, tokenizer = self.settings.rerank_max_len, self.tokenizer
        room = limit - tokenizer.num_special_tokens_to_add(pair=True)
        text_tokens = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        encoded = tokenizer(
            cut_text(tokenizer, query, max(room // 2, room - text_tokens)),
            text,
            truncation="only_second",
            max_length=limit,
            return_token_type_ids=self.token_types,
        )
        return Row(encoded["input_ids"], encoded["token_type_ids"] if self.token_types else None)


def join_pair(query: str, passage: Passage, query_prefix: str, passage_prefix: str) -> str:
    """Query and passage as Tevatron writes them for decoders, its double spaces included.

    >>> join_pair("what is llama", Passage("7", "an animal", "x-y"), "query: ", "document: ")
    'query:  what is llama document:  x y an animal'
    >>> join_pair("what is llama", Passage("7", "an animal", "x-y"), "A: {}", "B: {}")
    'A: what is llama B: x y an animal'
    """
    title = passage.title.replace("-", " ").strip()
    asked, shown = f"{query_prefix} {query}", f"{passage_prefix} {title} {passage.text}"
    if "{}" in query_prefix:
        asked = with_prefix(query_prefix, query)
    if "{}" in passage_prefix:
        shown = with_prefix(passage_prefix, f"{title} {passage.text}".strip())
    return f"{asked} {shown}".strip()


@dataclass
class JoinedRows:
    """One string, cut on the right, for decoders (texttron/tevatron dd06310, reranker)."""

    tokenizer: Any
    settings: RerankerSettings

    def __call__(self, query: str, passages: Sequence[Passage]) -> list[Row]:
        settings, tokenizer = self.settings, self.tokenizer
        if settings.query_max_len:
            query = cut_text(tokenizer, query, settings.query_max_len)
        if settings.passage_max_len:
            cut = cut_texts(tokenizer, [passage.text for passage in passages], settings.passage_max_len)
            passages = [replace(passage, text=text) for passage, text in zip(passages, cut, strict=True)]
        texts = [join_pair(query, passage, settings.query_prefix, settings.passage_prefix) for passage in passages]
        room = settings.rerank_max_len - settings.append_eos_token
        end = [tokenizer.eos_token_id] if settings.append_eos_token else []
        # whatever the tokenizer was saved with: the head of the row is what both programs keep
        encoded = tokenizer(texts, truncation=True, max_length=room, return_attention_mask=False)
        return [Row([*ids, *end]) for ids in encoded["input_ids"]]
