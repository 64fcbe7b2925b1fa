"""Students that read a window of passages and name them in order: RankZephyr, FIRST."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from tevatron_distill.engines.chat import Chat, Neutral, special_tokens
from tevatron_distill.layouts.list import ListLayout, Window
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import LIST_PROMPTS, ListPrompt, Parsed
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.cross_encoder import base_forward
from tevatron_distill.students.listwise_model import listwise_class
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    add_adapter,
    cut_text,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
)

logger = logging.getLogger(__name__)

DEFAULT_PROMPT = "rank_zephyr_alpha"
DECODES = ("logits", "generation")
WINDOW_SIZE = 20
STEP_SIZE = 10
INCOMPLETE = "the folder must hold a whole causal language model, or a listwise student that was saved by training"
DEFAULTS = RerankerSettings(student="listwise", padding_side="left", rerank_max_len=4096)


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load a causal language model to read windows.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; prompt, pad id, window and decoding are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the model is no causal language model, the identifiers are no single tokens where their logits
            are compared, or a setting is out of range.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    parent = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if config.is_encoder_decoder or parent is None or type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        raise InputError(f"{source.base}: listwise needs a causal language model; got {config.model_type}")
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or settings.rerank_max_len
    settings = replace(
        settings,
        prompt=list_prompt(settings.prompt).name,
        pad_token_id=pad,
        pair_encoding=False,
        rerank_max_len=min(settings.rerank_max_len, positions),
        window_size=settings.window_size or WINDOW_SIZE,
        step_size=settings.step_size or min(STEP_SIZE, (settings.window_size or WINDOW_SIZE) - 1),
        num_passes=settings.num_passes or 1,
        decode=settings.decode or "logits",
    )
    check_settings(settings)
    set_config_pad(config, pad)
    WindowRows(tokenizer, settings).check(settings.window_size or WINDOW_SIZE, options.training)
    model, missing = load_model(listwise_class(parent), source, options, config)
    refuse_random(source, missing, (), INCOMPLETE)
    return Loaded(tokenizer, add_adapter(model, source, options, "CAUSAL_LM", ()), settings)


def check_settings(settings: RerankerSettings) -> None:
    """Refuse windows that cannot be walked through.

    Raises:
        InputError: if a setting is out of range.
    """
    window_size, step_size = settings.window_size or 0, settings.step_size or 0
    if window_size < 2 or not 1 <= step_size < window_size or (settings.num_passes or 0) < 1:
        raise InputError(
            "--window_size must be at least 2, --step_size lie in 1..window_size - 1 and --num_passes be at least 1; "
            f"got {settings.window_size}, {settings.step_size}, {settings.num_passes}"
        )
    if settings.decode not in DECODES:
        raise InputError(f"--decode must be one of {', '.join(DECODES)}; got {settings.decode!r}")


def list_prompt(name: str | None) -> ListPrompt:
    """A row of ``LIST_PROMPTS``.

    Raises:
        InputError: if there is none of that name.
    """
    prompt = LIST_PROMPTS.get(name or DEFAULT_PROMPT)
    if prompt is None:
        raise InputError(f"--prompt must be one of {', '.join(LIST_PROMPTS)} for this student; got {name!r}")
    return prompt


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> ListLayout:
    """The layout of a loaded listwise student."""
    rows = WindowRows(tokenizer, settings)
    made = ListLayout(tokenizer, settings, rows)
    if "position_ids" not in inspect.signature(base_forward(model)).parameters:
        made.model_inputs = tuple(name for name in made.model_inputs if name != "position_ids")
    if not all(single for _, single in rows.identifiers(settings.window_size or WINDOW_SIZE)):
        made.loss_kinds = frozenset()
    return made


@dataclass
class WindowRows:
    """A query and passages under identifiers as one row; passages are shortened until the row fits.

    The row leaves room for an answer that names all passages, so that training and inference show the same prompt and
    no answer is ever cut. Each identifier is a token of its own behind the bracket, also where the tokenizer would
    join the two (``[A``): then both are spelled apart.
    """

    tokenizer: Any
    settings: RerankerSettings

    def __post_init__(self) -> None:
        self.prompt = list_prompt(self.settings.prompt)
        self._chat = Chat(self.tokenizer, self.tokenizer.name_or_path, "auto", False)
        self._neutral = Neutral(special_tokens(self.tokenizer))
        self._known: list[tuple[int, bool]] = []
        self._rooms: dict[int, int] = {}

    def __call__(self, query: str, passages: Sequence[Passage], order: Sequence[int] | None = None) -> Window:
        """The row of a window.

        Args:
            query: its text.
            passages: in the order shown.
            order: places of the passages that an answer names, best first; None for a row without an answer. An order
                of fewer than all passages is an answer without an end: what comes behind is not taught.

        Raises:
            InputError: if the window does not fit, or has more passages than identifiers.
        """
        head = self._fitting_head(query, [self.prompt.passage_text(passage) for passage in passages])
        start = len(head) - 1
        if order:
            head = head[:-1] + self._answer(order)
            if len(order) == len(passages):
                head.append(self.tokenizer.eos_token_id)
        return Window(Row(head), start, self.identifier_ids(len(passages)), bool(order))

    def room(self, num_passages: int) -> int:
        """Tokens of an answer that names all passages, its end included."""
        if num_passages not in self._rooms:
            self._rooms[num_passages] = len(self._answer(range(num_passages))) + 1
        return self._rooms[num_passages]

    def parse(self, text: str, num_passages: int) -> Parsed:
        """What a generated answer says."""
        return self.prompt.parse(text, num_passages)

    def identifier_ids(self, num_passages: int) -> list[int]:
        """The token of each identifier behind the bracket.

        Raises:
            InputError: if the student compares logits and an identifier is no single token.
        """
        names, found = self.prompt.identifiers(num_passages), self.identifiers(num_passages)
        several = [name for name, (_, single) in zip(names, found, strict=True) if not single]
        if several and self.settings.decode == "logits":
            raise InputError(
                f"--prompt {self.prompt.name}: the identifiers of {num_passages} passages must be single tokens to be "
                f"compared by their logits; this tokenizer spells {', '.join(several[:4])} as several; take windows of "
                "fewer passages (--window_size), a prompt with letters, or --decode generation"
            )
        return [token for token, _ in found]

    def identifiers(self, num_passages: int) -> list[tuple[int, bool]]:
        """For each identifier its first token behind the bracket, and whether that token is all of it.

        Raises:
            InputError: if there are fewer identifiers than passages.
        """
        names = self.prompt.identifiers(num_passages)
        for place in range(len(self._known), num_passages):
            token = self._answer([place])[1]
            self._known.append((token, self.tokenizer.convert_ids_to_tokens(token) == names[place]))
        return self._known[:num_passages]

    def check(self, num_passages: int, training: bool) -> None:
        """Look once at how this tokenizer spells prompts and answers.

        Args:
            num_passages: of a window.
            training: the student will be trained, and evaluated meanwhile.

        Raises:
            InputError: if it tells no offsets, has no end-of-sequence token, or joins the prompt with the answer.
        """
        if not self.tokenizer.is_fast:
            raise InputError("listwise needs a fast tokenizer, which tells where each token stands; got a slow one")
        if self.tokenizer.eos_token_id is None:
            raise InputError("listwise needs an end-of-sequence token, which ends an answer; this tokenizer has none")
        opening = self.tokenizer.convert_ids_to_tokens(self._example[-1])
        if re.sub(r"[^!-~]", "", opening) != "[":
            raise InputError(
                f"--prompt {self.prompt.name}: the bracket that opens the answer must be a token of its own; this "
                f"tokenizer joins it with the prompt's end to {opening!r}; take another model or prompt"
            )
        tokens = self.identifier_ids(num_passages)
        shared = len(tokens) - len(set(tokens))
        if shared and training:
            logger.warning(
                "%d identifiers begin with the same token as another, and evaluation during training cannot tell them "
                "apart; the student ranks by what it generates",
                shared,
            )

    @cached_property
    def _example(self) -> list[int]:
        return self._head("query", ["passage"])

    def _text(self, query: str, texts: Sequence[str]) -> tuple[str, bool]:
        """The prompt up to the answer, and whether it has its special tokens."""
        wording = self.prompt.render(query, texts, is_encoder_decoder=False)
        shown = self._chat.show(replace(wording, prefix=""), thinks=False)
        if self._chat.used:  # RankLLM puts the answer right behind the template's words
            return shown.text, shown.whole
        return shown.text + (" " if wording.base else "\n"), False

    def _tokens(self, text: str, whole: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=not whole)["input_ids"]
        return ids[:-1] if ids[-1] == self.tokenizer.eos_token_id else ids  # some tokenizers end every text

    def _head(self, query: str, texts: Sequence[str]) -> list[int]:
        """The prompt's tokens and the bracket that opens the answer."""
        text, whole = self._text(query, texts)
        return self._tokens(text + self.prompt.answer_prefix, whole)

    def _answer(self, order: Sequence[int]) -> list[int]:
        """The tokens of an answer as it stands behind a prompt, from the opening bracket on.

        Raises:
            InputError: if they depend on the prompt's end.
        """
        text, whole = self._text("query", ["passage"])
        ids = self._tokens(text + self.prompt.answer_text(order), whole)
        start = len(self._example) - 1
        answer = [part for token in ids[start:] for part in self._apart(token)]
        if [*ids[:start], answer[0]] != self._example:
            raise InputError(
                f"--prompt {self.prompt.name}: the answer must begin with a bracket of its own behind the prompt; this "
                f"tokenizer makes {self.tokenizer.convert_ids_to_tokens(ids[start:][:3])} of it; take another model or "
                "prompt"
            )
        return answer

    def _apart(self, token: int) -> list[int]:
        """An identifier and the brackets that a tokenizer joined it with, each as a token."""
        match = re.fullmatch(r"(.*\[)?([A-Z]{1,2}|[0-9]+)(\].*)?", self.tokenizer.convert_ids_to_tokens(token))
        if match is None:
            return [token]
        parts = self.tokenizer.convert_tokens_to_ids([part for part in match.groups() if part])
        return [token] if None in parts or self.tokenizer.unk_token_id in parts else list(parts)

    def _fitting_head(self, query: str, texts: list[str]) -> list[int]:
        settings, tokenizer = self.settings, self.tokenizer
        query, texts = self._neutral(query), [self._neutral(text) for text in texts]
        if settings.query_max_len:
            query = cut_text(tokenizer, query, settings.query_max_len)
        if settings.passage_max_len:
            texts = [cut_text(tokenizer, text, settings.passage_max_len) for text in texts]
        limit = settings.rerank_max_len - self.room(len(texts)) + 1  # the opening bracket belongs to the answer
        head = self._head(query, texts)
        if len(head) <= limit:
            return head
        offsets = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [[end for _, end in row] for row in offsets]
        longest = max(len(row) for row in ends)
        while len(head) > limit:
            kept = sum(min(len(row), longest) for row in ends) - (len(head) - limit)
            longest = min(longest - 1, longest_share([len(row) for row in ends], kept))
            if longest < 1:
                raise InputError(
                    f"query {query[:60]!r}: a window of {len(texts)} passages and its answer must fit in "
                    f"rerank_max_len {settings.rerank_max_len} tokens; with a word of each it does not; raise "
                    "--rerank_max_len, cut queries by --query_max_len, or take fewer passages (--window_size, "
                    "--train_group_size)"
                )
            pairs = zip(texts, ends, strict=True)
            head = self._head(query, [text if len(row) <= longest else text[: row[longest - 1]] for text, row in pairs])
        return head


def longest_share(lengths: Sequence[int], budget: int) -> int:
    """The largest length that lists can be cut to so that together they keep within a budget; short ones stay whole.

    >>> longest_share([2, 9, 9], 12), longest_share([2, 9, 9], 100), longest_share([2, 9], -1)
    (5, 9, 0)
    """
    rest, share = budget, 0
    for place, length in enumerate(sorted(lengths)):
        share = min(length, max(0, rest // (len(lengths) - place)))
        if share < length:
            return share
        rest -= length
    return share
