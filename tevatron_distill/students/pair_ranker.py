"""LLM-Blender's PairRanker: source and two candidates in one row, a logit for each candidate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tevatron_distill.layouts import PairLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
    with_prefix,
)
from tevatron_distill.students.pair_checkpoint import load_llm_blender, read_llm_blender
from tevatron_distill.students.pair_model import (
    DROPOUT,
    MARKER_KEYS,
    MARKERS,
    add_markers,
    backbone_kind,
    pair_class,
    position_limit,
    start_markers,
)

logger = logging.getLogger(__name__)

DEFAULTS = RerankerSettings(student="pair_ranker", rerank_max_len=2048)
"""PairRM's lengths: a source of 1224, candidates of 412, together 2048 tokens."""

CANDIDATE_SHARE = 412 / 2048
LEAST_TOKENS = 4
HEAD = ("head_layer",)
INCOMPLETE = (
    "a pair_ranker at inference is a folder that training left, llm-blender/PairRM-hf's layout or a checkpoint of "
    "LLM-Blender; a plain backbone must be trained first"
)


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load a backbone, a trained student, PairRM-hf, or a checkpoint of LLM-Blender.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; lengths and pad id are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the folder is no backbone for it, lacks the head at inference, or the lengths do not fit.
    """
    published = read_llm_blender(source, options)
    if published is not None:
        tokenizer, model, settings = load_llm_blender(source, published, settings, options)
        return finish(source, tokenizer, model, settings, options)
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    _, parent = backbone_kind(source.base, config)
    new_markers = MARKER_KEYS[0] not in config.to_dict()
    ids = add_markers(tokenizer)
    if not new_markers and any(getattr(config, key) != index for key, index in zip(MARKER_KEYS, ids, strict=True)):
        raise InputError(
            f"{source.base}: the tokenizer and the model must agree on the markers' ids; got {ids} and "
            f"{tuple(getattr(config, key) for key in MARKER_KEYS)}; use the tokenizer that it was trained with"
        )
    config.update(dict(zip(MARKER_KEYS, ids, strict=True)))
    config.n_tasks, config.drop_out = getattr(config, "n_tasks", 1), getattr(config, "drop_out", DROPOUT)
    set_config_pad(config, pad)
    # PairRM-hf keeps its backbone under pretrained_model
    model, missing = load_model(pair_class(parent), source, options, config, key_mapping={r"^pretrained_model\.": ""})
    refuse_random(source, missing, HEAD if options.training else adapter_modules(source, options), INCOMPLETE)
    if new_markers:
        start_markers(model, tokenizer, ids)
    return finish(source, tokenizer, model, settings, options)


def finish(source: Source, tokenizer: Any, model: Any, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Put an adapter on the model and fill in the settings."""
    settings = replace(settings, pad_token_id=model.config.pad_token_id)
    settings = fit_lengths(settings, position_limit(model, model.config))
    return Loaded(tokenizer, add_adapter(model, source, options, "FEATURE_EXTRACTION", HEAD), settings)


def fit_lengths(settings: RerankerSettings, positions: int | None) -> RerankerSettings:
    """Fill in the lengths that are not given, in PairRM's proportions.

    Raises:
        InputError: if source and candidates together exceed the row, or one of them gets too little.
    """
    limit = settings.rerank_max_len
    if positions is not None and limit > positions:
        level = logging.INFO if limit == DEFAULTS.rerank_max_len else logging.WARNING
        logger.log(level, "rerank_max_len %d is cut to the model's %d positions", limit, positions)
        limit = positions
    query, passage = settings.query_max_len, settings.passage_max_len
    if passage is None:
        passage = int(limit * CANDIDATE_SHARE) if query is None else (limit - query) // 2
    query = limit - 2 * passage if query is None else query
    if min(query, passage) < LEAST_TOKENS or query + 2 * passage > limit:
        raise InputError(
            f"query_max_len and twice passage_max_len must fit into rerank_max_len, with {LEAST_TOKENS} tokens at "
            f"least for each; got {query}, {passage} and {limit}; change --query_max_len (--source_maxlength), "
            "--passage_max_len (--candidate_maxlength) or --rerank_max_len"
        )
    return replace(settings, rerank_max_len=limit, query_max_len=query, passage_max_len=passage)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> PairLayout:
    """The layout of a loaded student.

    Raises:
        InputError: if the tokenizer has no token that ends a segment.
    """
    kind, _ = backbone_kind("", model.config)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "places")
    if kind == "encoder_decoder":
        inputs += ("decoder_input_ids", "decoder_attention_mask")
    elif kind == "causal":
        inputs += ("position_ids",)
    start = model.config.decoder_start_token_id if kind == "encoder_decoder" else None
    return PairLayout(tokenizer, settings, SegmentRows(tokenizer, settings, kind, start), inputs)


@dataclass
class SegmentRows:
    """Segments ``[CLS] marker text [SEP]``, one behind the other.

    An encoder's vectors are read at the markers. A causal model and a decoder see only what stands before, so
    candidates are read at the ends of their segments and the source at its marker once more, behind both candidates;
    LLM-Blender reads them at the markers in front, where the texts are not seen yet.

    Args:
        tokenizer: has the markers.
        settings: prefixes and lengths. What the source leaves of its length is shared by the two candidates of its own
            row (LLM-Blender: by what the longest source of the batch leaves).
        kind: ``encoder``, ``causal`` or ``encoder_decoder``.
        start: the token that a decoder starts with.
    """

    tokenizer: Any
    settings: RerankerSettings
    kind: str
    start: int | None = None

    def __post_init__(self) -> None:
        tokenizer = self.tokenizer
        self.markers = tokenizer.convert_tokens_to_ids(list(MARKERS))
        first = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        if last is None:
            raise InputError("pair_ranker needs a tokenizer with a [SEP] or an end-of-sequence token; this has neither")
        self.opening = [first] if self.kind == "encoder" and first is not None else []
        self.beginning = [first] if self.kind == "causal" and first is not None else []
        self.closing = [last]
        unknown = {tokenizer.unk_token_id}
        added = {index for token, index in tokenizer.get_added_vocab().items() if token.startswith("<|candidate")}
        self.reserved = {*tokenizer.all_special_ids, *self.markers, *added} - unknown

    def tokens(self, marker: str, text: str) -> list[int]:
        """A text's own tokens; markers and special tokens that a user has typed into it are left out."""
        encoded = self.tokenizer(marker + text, add_special_tokens=False, verbose=False)["input_ids"]
        return [token for token in encoded if token not in self.reserved]

    def source(self, query: str) -> list[int]:
        """``[CLS] <|source|> query [SEP]``."""
        room = self.settings.query_max_len or 0
        tokens = self.tokens(MARKERS[0], with_prefix(self.settings.query_prefix, query))
        segment = [*self.beginning, *self.opening, self.markers[0]]
        return [*segment, *tokens[: room - len(segment) - 1], *self.closing]

    def candidate(self, passage: Passage) -> list[int]:
        """The tokens of title and text."""
        text = f"{passage.title} {passage.text}" if passage.title else passage.text
        return self.tokens(MARKERS[1], with_prefix(self.settings.passage_prefix, text))

    def row(self, source: Sequence[int], first: Sequence[int], second: Sequence[int]) -> Row:
        """The row that shows two candidates to the model."""
        settings = self.settings
        read_last = self.kind != "encoder"
        begin = [self.start] if self.start is not None else []
        around = len(begin) + read_last
        left = (settings.query_max_len or 0) - len(source)
        room = min((settings.passage_max_len or 0) + left // 2, (settings.rerank_max_len - len(source) - around) // 2)
        room -= len(self.opening) + 2
        one, two = (
            [*self.opening, marker, *tokens[:room], *self.closing]
            for marker, tokens in zip(self.markers[1:], (first, second), strict=True)
        )
        if not read_last:
            place = len(self.opening)
            places = (place, len(source) + place, len(source) + len(one) + place)
            return Row([*source, *one, *two], places=places)
        front = begin if self.kind == "encoder_decoder" else list(source)
        end = len(front) + len(one) + len(two)
        decoded = [*front, *one, *two, self.markers[0]]
        places = (end, len(front) + len(one) - 1, end - 1)
        if self.kind == "causal":
            return Row(decoded, places=places)
        return Row(list(source), places=places, decoder_input_ids=decoded)
