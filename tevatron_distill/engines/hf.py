"""Language models in transformers: labels compared in one forward pass, generated texts, likelihoods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tevatron_distill.batching import Budget, auto_batch_tokens, run_batches, token_budget_batches
from tevatron_distill.engines.encoding import Encoded, Encoder
from tevatron_distill.engines.forward import Forward
from tevatron_distill.engines.identity import model_identity
from tevatron_distill.engines.loading import answering_device, check_dtype, load_model
from tevatron_distill.engines.request import Answer, Request, check_kind
from tevatron_distill.loading import read_config, read_tokenizer
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates

MOST_MENTIONS = 4
"""How often a prompt names its query at most, its target included."""
BUDGETS_PER_BLOCK = 8
"""A decoder's requests are answered in blocks of so many batches: those that begin alike together."""


class HFEngine:
    """An encoder-decoder or decoder-only language model.

    The answer's beginning (``Passage``, ``[``) is put into the model's mouth: encoder-decoders get it as the decoder's
    first tokens, decoders behind the prompt or behind the chat template's generation prompt. ``choice`` reads the
    logits of the labels there, ``likelihood`` those of the target's tokens, both by one forward pass; ``text``
    generates, always the likeliest token.

    Special tokens in queries and passages (``</s>``, ``<|im_end|>``) are spelled with a space inside, so that they
    end nothing.

    Args:
        model_name_or_path: name on the hub or folder; the weights are loaded when the first answer is not cached.
        dtype: ``auto`` (the checkpoint's), ``float32``, ``bfloat16`` or ``float16``.
        chat_template: ``auto`` uses the tokenizer's chat template where it has one; ``never`` shows the model the
            published plain prompt; ``always`` refuses a model without a template.
        max_length: tokens of a prompt, for decoders together with its answer; passages are shortened to fit, the
            words around them never.
        batch_tokens: tokens of a batch, padding and room for answers included; a batch holds at least one prompt. None
            is `auto_batch_tokens`.
        thinking_tokens: tokens that a reasoning model may think before it writes its answer; 0 tells it not to think.
            Labels and likelihoods are asked without thoughts.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if the model cannot be loaded or used in this way.
    """

    name = "hf"
    answers = frozenset({"choice", "text", "likelihood"})
    may_miss = False

    def __init__(
        self,
        model_name_or_path: str,
        *,
        dtype: str = "auto",
        chat_template: str = "auto",
        max_length: int = 1024,
        batch_tokens: int | None = None,
        thinking_tokens: int = 0,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_name = model_name_or_path
        self.num_tokens = 0
        self.num_shortened = 0
        self._dtype = dtype
        self._thinking_tokens = thinking_tokens
        self._trust_remote_code = trust_remote_code
        self._config = read_config(model_name_or_path, trust_remote_code=trust_remote_code)
        check_dtype(dtype, self._config.model_type, model_name_or_path)
        hidden_size = self._config.get_text_config().hidden_size
        self._batch_tokens = batch_tokens or auto_batch_tokens(answering_device(), hidden_size)
        self.budget = Budget(self._batch_tokens)
        self._tokenizer, _ = read_tokenizer(model_name_or_path, trust_remote_code=trust_remote_code)
        self._encoder = Encoder(
            self._tokenizer, self._config, model_name_or_path, chat_template, max_length, thinking_tokens
        )

    @cached_property
    def identity(self) -> str:
        """Weights, precision, and how a prompt is shown."""
        weights = model_identity(self.model_name, getattr(self._config, "_commit_hash", None))
        thoughts = f" thinking={self._thinking_tokens}" if self._thinking_tokens else ""
        return (
            f"{self.name} {weights} dtype={self._dtype} chat={self._encoder.chat.used} "
            f"max_length={self._encoder.max_length}{thoughts}"
        )

    @cached_property
    def _forward(self) -> Forward:
        auto_class = AutoModelForSeq2SeqLM if self._encoder.is_encoder_decoder else AutoModelForCausalLM
        model = load_model(auto_class, self.model_name, self._dtype, trust_remote_code=self._trust_remote_code)
        return Forward(model, self._tokenizer)

    def prepare(self, candidates: Iterable[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Refuse a prompt whose labels are no single tokens, and queries that leave no room for passages.

        Raises:
            InputError: in both cases.
        """
        check_kind(self.name, self.answers, prompt)
        empty = ("",) * num_passages
        nothing = Request(prompt, Candidates("", "", (), ()), (), empty)
        self._encoder.check(nothing)
        room = self._encoder.max_length - len(self._encoder.frame(nothing).input_ids) - self._encoder.room(nothing)
        for entry in candidates:
            if MOST_MENTIONS * len(entry.query.encode()) > room:  # a token has a byte or more
                self._encoder.check(Request(prompt, entry, (), empty))

    def key_text(self, request: Request) -> str:
        """The prompt as the model reads it, the answer's beginning, and what is asked of it."""
        shown, prompt = self._encoder.shown(request).text, request.prompt
        if prompt.answer == "text":
            return shown + self._encoder.prefix(request)
        asked = (
            prompt.labels(len(request.passages))
            if prompt.answer == "choice"
            else ["likelihood", prompt.target(request.candidates.query)]
        )
        return json.dumps([shown, self._encoder.prefix(request), *asked], ensure_ascii=False)

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Prompts of like length together, longest first, within the token budget.

        For decoders, which can compute a common beginning once, blocks of several batches: those of a query with the
        same first passages together, and these families by their longest prompt.
        """
        texts = {text for request in requests for text in (request.candidates.query, *request.passages)}
        lengths = dict(zip(texts, self._count_tokens(list(texts)), strict=True))
        frames: dict[tuple[str, int], int] = {}
        sizes = []
        for request in requests:
            key = request.prompt.name, len(request.passages)
            if key not in frames:
                frames[key] = len(self._encoder.frame(request).input_ids)
            size = frames[key] + lengths[request.candidates.query] + sum(lengths[text] for text in request.passages)
            sizes.append(min(self._encoder.max_length, size + self._encoder.room(request)))
        if self._encoder.is_encoder_decoder:
            return token_budget_batches(sizes, self._batch_tokens)
        own = [lengths[request.passages[-1]] if request.passages else 0 for request in requests]
        return _blocks(requests, sizes, own, BUDGETS_PER_BLOCK * self._batch_tokens)

    def _count_tokens(self, texts: list[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The logits of the labels, the text, or the target's log-probability, as each request's prompt asks."""
        forward = self._forward
        encoded = [self._encoder.encode(request) for request in requests]
        alike: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for index, request in enumerate(requests):
            begins = tuple(encoded[index].decoder_ids) if request.prompt.answer == "text" else ()
            alike.setdefault((request.prompt.answer, begins), []).append(index)
        answers: dict[int, Answer] = {}
        lengths = [row.num_tokens + row.room for row in encoded]
        for (kind, _), rows in alike.items():
            related = (
                forward.related_choices([encoded[row] for row in rows], self._batch_tokens, self.budget)
                if kind == "choice"
                else None
            )
            if related is not None:
                answers.update(zip(rows, related, strict=True))
                continue
            ask = partial(self._ask, forward, kind, encoded)
            cut = token_budget_batches([lengths[row] for row in rows], self._batch_tokens)
            batches = [[rows[place] for place in batch] for batch in cut]
            for batch, found in run_batches(ask, batches, lengths, self.budget):
                answers.update(zip(batch, found, strict=True))
        self.num_tokens += sum(row.num_tokens for row in encoded)
        self.num_shortened += sum(row.shortened for row in encoded)
        return [answers[index] for index in range(len(requests))]

    def report(self) -> Mapping[str, float]:
        """How often memory ran out, where it did."""
        return self.budget.report()

    def _ask(self, forward: Forward, kind: str, encoded: Sequence[Encoded], indices: list[int]) -> Sequence[Answer]:
        rows = [encoded[index] for index in indices]
        if kind == "choice":
            return forward.choice(rows)
        if kind == "likelihood":
            return forward.likelihood(rows)
        texts, num_tokens = forward.text(rows)
        self.num_tokens += num_tokens
        return texts


def _blocks(requests: Sequence[Request], sizes: Sequence[int], own: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Families of requests, longest first, in blocks of so many tokens; a block cuts a family only that is larger.

    Args:
        requests: of decoders.
        sizes: about how many tokens each prompt has.
        own: about how many of them its relatives do not share.
        max_tokens: of a block, those that are shared counted once.
    """
    families: dict[tuple[str, str, str, tuple[str, ...]], list[int]] = {}
    for index, request in enumerate(requests):
        key = request.prompt.name, request.candidates.query_id, request.candidates.query, request.passages[:-1]
        families.setdefault(key, []).append(index)
    blocks: list[list[int]] = []
    room = 0
    for family in sorted(families.values(), key=lambda family: -max(sizes[index] for index in family)):
        shared = max(sizes[index] - own[index] for index in family)
        fits = shared + sum(own[index] for index in family) <= room
        room = room - shared if fits else 0
        for index in family:
            if room <= 0:
                blocks.append([])
                room = max_tokens - shared
            blocks[-1].append(index)
            room -= own[index]
    return blocks
