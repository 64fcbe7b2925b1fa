"""An encoder as the one model behind colbert and simcls: vectors of queries and of passages, apart."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils.generic import ModelOutput

from tevatron_distill.layouts.rows import Row
from tevatron_distill.prompts import render_passage
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.loading import Source, with_prefix


@dataclass
class VectorsOutput(ModelOutput):
    """Token vectors of unit length.

    Attributes:
        query_vectors: float ``[Q, Tq, D]``.
        passage_vectors: float ``[P, Tp, D]``.
    """

    query_vectors: Tensor | None = None
    passage_vectors: Tensor | None = None


@functools.cache
def vectors_class(parent: Any) -> Any:
    """An encoder's own class with a projection ``linear`` (where ``config.colbert_dim`` is not 0) and a forward over
    queries and passages.

    It bears its parent's name, so that a saved folder opens as the plain encoder in other programs.
    """
    without_pooler = takes_pooler(parent)

    def init(self: Any, config: Any) -> None:
        parent.__init__(self, config, **({"add_pooling_layer": False} if without_pooler else {}))
        if config.colbert_dim:
            self.linear = nn.Linear(config.hidden_size, config.colbert_dim, bias=config.colbert_bias)
            self.post_init()

    def encode(self: Any, input_ids: Tensor, attention_mask: Tensor, normalize: bool = True) -> Tensor:
        """Token vectors ``[R, T, D]``, of unit length if asked; those of padding mean nothing."""
        hidden = parent.forward(self, input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.colbert_dim:
            hidden = self.linear(hidden)
        return functional.normalize(hidden.float(), dim=-1).to(hidden.dtype) if normalize else hidden

    def encode_passages(self: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What training makes of passages, of which only tokens that are attended to count."""
        vectors: Tensor = self.encode(input_ids, attention_mask)
        return vectors

    def forward(
        self: Any,
        query_input_ids: Tensor,
        query_attention_mask: Tensor,
        passage_input_ids: Tensor,
        passage_attention_mask: Tensor,
        **kwargs: Any,
    ) -> VectorsOutput:
        """Token vectors of queries and passages; peft's empty keywords are passed over."""
        stray = sorted(name for name, value in kwargs.items() if value is not None)
        if stray:
            raise TypeError(f"this model makes token vectors and takes no {', '.join(stray)}")
        return VectorsOutput(
            query_vectors=self.encode(query_input_ids, query_attention_mask),
            passage_vectors=self.encode_passages(passage_input_ids, passage_attention_mask),
        )

    methods = {"__init__": init, "encode": encode, "encode_passages": encode_passages, "forward": forward}
    return type(parent.__name__, (parent,), {**methods, "__module__": __name__})


def takes_pooler(encoder: Any) -> bool:
    """Whether an encoder's class puts a layer on the first vector, unless it is told not to."""
    return "add_pooling_layer" in inspect.signature(encoder.__init__).parameters


def encoder_class(source: Source, config: Any, student: str) -> Any:
    """The encoder's class of a config.

    Raises:
        InputError: if there is none.
    """
    found = MODEL_MAPPING.get(type(config), None)
    if config.is_encoder_decoder or found is None or isinstance(found, tuple):
        raise InputError(f"{source.base}: {student} needs an encoder (BERT's kind); got {config.model_type}")
    return found


@dataclass
class TextRows:
    """A query or a passage as one row with the tokenizer's special tokens, cut on the right.

    Args:
        tokenizer: the student's tokenizer.
        side: ``query`` or ``passage``.
        prefix: put before the text.
        length: most tokens of a row, special tokens and marker included.
        counts: ``(ids, marks of special tokens)`` to which tokens count in the score.
        marker: id of a token put behind the first.
        filler: id of a token that fills rows up to ``length``; all fillers count.
        attend_to_filler: the text's tokens attend to the fillers.
    """

    tokenizer: Any
    side: str
    prefix: str
    length: int
    counts: Callable[[list[int], list[int]], list[bool]]
    marker: int | None = None
    filler: int | None = None
    attend_to_filler: bool = False

    def __call__(self, text: str | Passage) -> Row:
        if isinstance(text, Passage):
            text = render_passage(text, "tevatron")
        encoded = self.tokenizer(
            with_prefix(self.prefix, text),
            truncation=True,
            max_length=self.length - (self.marker is not None),
            return_special_tokens_mask=True,
        )
        ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
        if not ids:
            raise InputError(f"a {self.side} must have a token; got {text[:60]!r}")
        if self.marker is not None:
            ids[1:1], special[1:1] = [self.marker], [1]
        counted = self.counts(ids, special)
        if not any(counted):
            counted = [True] * len(ids)
        if self.filler is None:
            return Row(ids, counted=counted)
        room = self.length - len(ids)
        attended = [True] * len(ids) + [self.attend_to_filler] * room
        return Row(ids + [self.filler] * room, counted=counted + [True] * room, attended=attended)
