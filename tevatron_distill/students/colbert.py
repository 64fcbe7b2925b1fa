"""MaxSim over an encoder's token vectors; a pretrained bi-encoder ranks well before any training."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Any

import torch

from tevatron_distill.layouts import DualLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.similarity import MaxSim, MutualMaxSim
from tevatron_distill.loading import read_tokenizer
from tevatron_distill.schema import InputError
from tevatron_distill.students.colbert_folders import Published, read_published
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
)
from tevatron_distill.students.parted import whole
from tevatron_distill.students.vectors import TextRows, encoder_class, vectors_class

INCOMPLETE = "the folder must hold a whole encoder (and its projection `linear`, where colbert_dim is not 0)"


@dataclass(frozen=True)
class Convention:
    """How a program that trains such models makes rows and scores; the values stand where nothing else is said.

    Attributes:
        dim: width of the projection; 0 for none.
        bias: it has a bias.
        query_max_len: tokens of a query.
        passage_max_len: tokens of a passage.
        temperature: of the similarity.
        query_marker: token behind the query's first.
        passage_marker: token behind the passage's first.
        skiplist: tokens of a passage that do not count.
    """

    dim: int
    bias: bool
    query_max_len: int
    passage_max_len: int
    temperature: float
    query_marker: str = ""
    passage_marker: str = ""
    skiplist: tuple[str, ...] = ()


CONVENTIONS: dict[str, Convention] = {
    # ours: the mean over the query's tokens, special ones included, over the temperature
    "mean": Convention(0, False, 64, 128, 0.02),
    # the same and a fifth of MaxSim from the passage's tokens to the query's: the best of 0, .1, …, .5, .7, 1 with
    # untrained MiniLM on TREC DL20, on each of four first stages (.691 instead of .684)
    "mutual": Convention(0, False, 64, 128, 0.02),
    # LongxingTan/open-retrievals 0.0.15, models/rerank.py: a bias, the first token left out; the sum over the
    # temperature is what training sees, the mean is what ranks
    "open_retrievals": Convention(1024, True, 64, 256, 0.02),
    # lightonai/pylate 1.6, models/colbert.py: markers, [MASK] fills queries up, passages without punctuation; the sum
    "pylate": Convention(128, False, 32, 180, 1.0, "[Q] ", "[D] ", tuple(string.punctuation)),
}
"""``--colbert_convention``."""


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load an encoder for MaxSim.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; convention, lengths, pad id, temperature and width are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the folder is no encoder, or lacks a projection or a marker at inference.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    published = read_published(source, options)
    settings = filled(settings, published, config, pad)
    config.colbert_dim = settings.colbert_dim
    bias = CONVENTIONS[settings.colbert_convention or "mean"].bias
    config.colbert_bias = "bias" in published.linear if published else getattr(config, "colbert_bias", bias)
    if pad != tokenizer.mask_token_id or config.pad_token_id is None:  # PyLate's pad; the encoder counts by its own
        set_config_pad(config, pad)
    model, missing = load_model(vectors_class(encoder_class(source, config, "colbert")), source, options, config)
    brought = ("linear",) if options.training or published is not None else adapter_modules(source, options)
    refuse_random(source, missing, brought, INCOMPLETE)
    if published is not None and any(name.startswith("linear.") for name in missing):
        with whole(*model.linear.parameters()):
            model.linear.load_state_dict(published.linear)
    add_markers(tokenizer, model, settings, source, options)
    return Loaded(tokenizer, add_adapter(model, source, options, "FEATURE_EXTRACTION", ("linear",)), settings)


def filled(settings: RerankerSettings, published: Published | None, config: Any, pad: int) -> RerankerSettings:
    """Settings in which everything is said: by the caller or the student's own folder, else by another program's
    folder, else by the convention.

    Raises:
        InputError: if there is no such convention.
    """
    name = settings.colbert_convention or (published.convention if published else "mean")
    if name not in CONVENTIONS:
        raise InputError(f"--colbert_convention must be one of {', '.join(CONVENTIONS)}; got {name!r}")
    convention = CONVENTIONS[name]
    positions = getattr(config, "max_position_embeddings", None) or 1 << 20
    dim = len(published.linear["weight"]) if published else getattr(config, "colbert_dim", None)
    if settings.colbert_dim is not None:
        dim = settings.colbert_dim
    pylate = name == "pylate"
    values = {
        "query_max_len": min(convention.query_max_len, positions),
        "passage_max_len": min(convention.passage_max_len, positions),
        "temperature": convention.temperature,
        "count_special_tokens": True,
        "query_marker": convention.query_marker,
        "passage_marker": convention.passage_marker,
        "query_expansion": pylate,
        "attend_to_expansion": False,
        "skiplist": convention.skiplist,
        **(published.settings if published and published.convention == name else {}),
    }
    unsaid = {key: value for key, value in values.items() if getattr(settings, key) is None}
    return replace(
        settings,
        **unsaid,
        pad_token_id=pad,
        colbert_convention=name,
        colbert_dim=convention.dim if dim is None else dim,
    )


def add_markers(tokenizer: Any, model: Any, settings: RerankerSettings, source: Source, options: LoadOptions) -> None:
    """Give the tokenizer and the model the marker tokens that they lack.

    A new marker begins as the mean of its characters' vectors, so that an adapter, which leaves the embeddings alone,
    finds the same ones when it is loaded again.

    Raises:
        InputError: if a marker is missing where nothing will train it.
    """
    markers = [marker for marker in (settings.query_marker, settings.passage_marker) if marker]
    base = read_tokenizer(source.base, **options.hub_keywords())[0] if source.adapter else tokenizer
    new = [marker for marker in markers if marker not in base.get_vocab()]
    if new and not options.training and not source.adapter:
        raise InputError(
            f"{source.base}: the markers {', '.join(map(repr, new))} are no tokens of this model; train it first, or "
            "rank with another --colbert_convention"
        )
    if not new:
        return
    tokenizer.add_tokens([marker for marker in new if marker not in tokenizer.get_vocab()])
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with whole(weight), torch.no_grad():
        for marker in new:
            pieces = tokenizer(" ".join(marker.strip()), add_special_tokens=False)["input_ids"]
            weight[tokenizer.convert_tokens_to_ids(marker)] = weight[pieces].mean(dim=0)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> DualLayout:
    """The layout of a loaded colbert student."""
    passage_max_len, temperature = settings.passage_max_len or 0, settings.temperature or 1.0
    query, passage = text_rows(tokenizer, settings)
    if settings.colbert_convention == "open_retrievals":
        pads_below = passage_max_len - 1  # rows are filled up with pads to passage_max_len, and the first is left out
        ranks = MaxSim(pads_below=pads_below)
        return DualLayout(tokenizer, settings, query, passage, ranks, MaxSim(False, temperature, pads_below))
    if settings.colbert_convention == "mutual":
        return DualLayout(tokenizer, settings, query, passage, MutualMaxSim(temperature))
    return DualLayout(tokenizer, settings, query, passage, MaxSim(settings.colbert_convention != "pylate", temperature))


def text_rows(tokenizer: Any, settings: RerankerSettings) -> tuple[TextRows, TextRows]:
    """What makes the rows of queries and of passages."""
    query = TextRows(tokenizer, "query", settings.query_prefix, settings.query_max_len or 0, all_count)
    passage = TextRows(tokenizer, "passage", settings.passage_prefix, settings.passage_max_len or 0, all_count)
    if settings.colbert_convention == "open_retrievals":
        return replace(query, counts=all_but_first), replace(passage, counts=all_but_first)
    if settings.colbert_convention == "pylate":
        ids = tokenizer.get_vocab()
        skipped = {ids[word] for word in settings.skiplist or () if word in ids}
        fillers = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        filler = next(token for token in fillers if token is not None)
        return replace(
            query,
            marker=ids[settings.query_marker] if settings.query_marker else None,
            filler=filler if settings.query_expansion else None,
            attend_to_filler=bool(settings.attend_to_expansion),
        ), replace(
            passage,
            marker=ids[settings.passage_marker] if settings.passage_marker else None,
            counts=NotSkipped(frozenset(skipped)),
        )
    if settings.count_special_tokens is False:
        return replace(query, counts=no_special), replace(passage, counts=no_special)
    return query, passage


def all_count(ids: list[int], special: list[int]) -> list[bool]:
    """Every token counts."""
    return [True] * len(ids)


def all_but_first(ids: list[int], special: list[int]) -> list[bool]:
    """Every token but the first."""
    return [place > 0 for place in range(len(ids))]


@dataclass(frozen=True)
class NotSkipped:
    """Every token but these."""

    skipped: frozenset[int]

    def __call__(self, ids: list[int], special: list[int]) -> list[bool]:
        return [token not in self.skipped for token in ids]


def no_special(ids: list[int], special: list[int]) -> list[bool]:
    """Every token but the tokenizer's special ones."""
    return [not mark for mark in special]
