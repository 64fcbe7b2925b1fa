"""Language models in transformers: the labels of a prompt are compared by one forward pass."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tevatron_distill.batching import run_batches, token_budget_batches
from tevatron_distill.engines.identity import model_identity
from tevatron_distill.engines.loading import check_dtype, load_model
from tevatron_distill.engines.request import Request
from tevatron_distill.loading import read_config, read_tokenizer
from tevatron_distill.prompts import Prompt, Wording
from tevatron_distill.schema import Candidates, InputError

CHAT_TEMPLATES = ("auto", "always", "never")


class HFEngine:
    """An encoder-decoder or decoder-only language model that answers by the logits of the labels.

    The answer's beginning (``passage``) is put into the model's mouth, and the logits of the labels behind it are
    read from one forward pass; nothing is generated. Encoder-decoders get it as the decoder's first tokens, decoders
    behind the prompt, or behind the chat template's generation prompt.

    Args:
        model_name_or_path: name on the hub or folder; the weights are loaded when the first answer is not cached.
        dtype: ``auto`` (the checkpoint's), ``float32``, ``bfloat16`` or ``float16``.
        chat_template: ``auto`` uses the tokenizer's chat template where it has one; ``never`` shows the model the
            published plain prompt; ``always`` refuses a model without a template.
        max_length: tokens of a prompt; passages are shortened to fit, the words around them never.
        max_batch_tokens: tokens of a batch, padding included; a batch holds at least one prompt.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if the model cannot be loaded or used in this way.
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        dtype: str = "auto",
        chat_template: str = "auto",
        max_length: int = 1024,
        max_batch_tokens: int = 16384,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_name = model_name_or_path
        self.num_tokens = 0
        self.num_shortened = 0
        self._dtype = dtype
        self._max_batch_tokens = max_batch_tokens
        self._trust_remote_code = trust_remote_code
        self._config = read_config(model_name_or_path, trust_remote_code=trust_remote_code)
        check_dtype(dtype, self._config.model_type, model_name_or_path)
        self._is_encoder_decoder = bool(self._config.is_encoder_decoder)
        self._tokenizer, _ = read_tokenizer(model_name_or_path, trust_remote_code=trust_remote_code)
        positions = getattr(self._config.get_text_config(), "max_position_embeddings", None)  # T5 has no such limit
        self._max_length = min(max_length, positions or max_length)
        self._chat = self._decide_chat(chat_template)
        self._label_ids: dict[tuple[str, int], list[int]] = {}

    def _decide_chat(self, chat_template: str) -> bool:
        has_template = bool(self._tokenizer.chat_template) and not self._is_encoder_decoder
        if chat_template == "always" and not has_template:
            raise InputError(
                f"--chat_template always: {self.model_name} has no chat template for its decoder; use auto or never"
            )
        return has_template and chat_template != "never"

    @cached_property
    def identity(self) -> str:
        """Weights, precision, and how a prompt is shown."""
        weights = model_identity(self.model_name, getattr(self._config, "_commit_hash", None))
        return f"hf {weights} dtype={self._dtype} chat={self._chat} max_length={self._max_length}"

    @cached_property
    def _model(self) -> Any:
        auto_class = AutoModelForSeq2SeqLM if self._is_encoder_decoder else AutoModelForCausalLM
        return load_model(auto_class, self.model_name, self._dtype, trust_remote_code=self._trust_remote_code)

    def prepare(self, candidates: Sequence[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Refuse a prompt whose labels are no single tokens, and queries that leave no room for passages.

        Raises:
            InputError: in both cases.
        """
        self._labels(prompt, num_passages)
        for entry in candidates:
            room = self._max_length - len(self._tokenize(Request(prompt, entry, (), ("",) * num_passages)))
            if room < 0:
                raise InputError(
                    f'query_id "{entry.query_id}": the prompt must fit in --max_length {self._max_length} tokens; '
                    f"without any passage it has {-room} too many; raise --max_length or shorten the query"
                )

    def key_text(self, request: Request) -> str:
        """The whole prompt, the answer's beginning and the labels."""
        wording = request.render(is_encoder_decoder=self._is_encoder_decoder)
        shown = json.dumps(wording.messages(keep_system=False)) if self._chat else wording.text()
        return "\x1f".join([shown, wording.prefix, *request.prompt.labels(len(request.passages))])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Prompts of like length together, longest first, within the token budget."""
        texts = {text for request in requests for text in (request.candidates.query, *request.passages)}
        lengths = dict(zip(texts, self._count_tokens(list(texts)), strict=True))
        one_each = {request.prompt.name: request for request in requests}
        frame = {name: len(self._tokenize(_frame_of(request))) for name, request in one_each.items()}
        sizes = [
            min(
                self._max_length,
                frame[request.prompt.name]
                + lengths[request.candidates.query]
                + sum(lengths[text] for text in request.passages),
            )
            for request in requests
        ]
        return token_budget_batches(sizes, self._max_batch_tokens)

    def _count_tokens(self, texts: list[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def answer(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """The logits of each request's labels, behind the answer's beginning."""
        encoded = [self._encode(request) for request in requests]
        answers: dict[int, tuple[float, ...]] = {}
        for rows, logits in run_batches(
            lambda rows: self._label_logits([encoded[row] for row in rows], [requests[row] for row in rows]),
            [list(range(len(requests)))],
        ):
            answers.update(zip(rows, logits, strict=True))
        self.num_tokens += sum(len(ids) for ids in encoded)
        if self._is_encoder_decoder:
            self.num_tokens += sum(len(self._decoder_ids(request)) for request in requests)
        return [answers[row] for row in range(len(requests))]

    @torch.inference_mode()
    def _label_logits(self, encoded: list[list[int]], requests: list[Request]) -> list[tuple[float, ...]]:
        if self._is_encoder_decoder:
            logits = self._seq2seq_logits(encoded, [self._decoder_ids(request) for request in requests])
        else:
            logits = self._causal_logits(encoded)
        labels = torch.tensor(
            [self._labels(request.prompt, len(request.passages)) for request in requests], device=logits.device
        )
        return [tuple(row) for row in logits.gather(1, labels).float().tolist()]

    def _seq2seq_logits(self, encoded: list[list[int]], prefixes: list[list[int]]) -> Tensor:
        input_ids, attention_mask = self._pad(encoded, left=False)
        decoder_input_ids = torch.tensor(prefixes, device=self._model.device)
        output = self._model(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        )
        return output.logits[:, -1]

    def _causal_logits(self, encoded: list[list[int]]) -> Tensor:
        input_ids, attention_mask = self._pad(encoded, left=True)
        keywords: dict[str, Any] = {}
        taken = inspect.signature(self._model.forward).parameters
        if "position_ids" in taken:
            keywords["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        if "logits_to_keep" in taken:
            keywords["logits_to_keep"] = 1
        output = self._model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **keywords)
        return output.logits[:, -1]

    def _pad(self, encoded: list[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        # Padding is masked, so that any id serves where the tokenizer has none of its own.
        pad_id = self._tokenizer.pad_token_id or 0
        width = max(len(ids) for ids in encoded)
        input_ids = torch.full((len(encoded), width), pad_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(encoded):
            place = slice(width - len(ids), width) if left else slice(len(ids))
            input_ids[row, place] = torch.tensor(ids)
            attention_mask[row, place] = 1
        return input_ids.to(self._model.device), attention_mask.to(self._model.device)

    def _encode(self, request: Request) -> list[int]:
        ids = self._tokenize(request)
        if len(ids) <= self._max_length:
            return ids
        self.num_shortened += 1
        fits, too_long = 0, max(len(text) for text in request.passages)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if len(self._tokenize(request, max_characters=middle)) <= self._max_length:
                fits = middle
            else:
                too_long = middle
        return self._tokenize(request, max_characters=fits)

    def _tokenize(self, request: Request, max_characters: int | None = None) -> list[int]:
        wording = request.render(
            is_encoder_decoder=self._is_encoder_decoder, passages=[text[:max_characters] for text in request.passages]
        )
        if self._is_encoder_decoder:
            return self._tokenizer(wording.text())["input_ids"]
        if self._chat:
            return self._tokenizer(self._apply_chat(wording) + wording.prefix, add_special_tokens=False)["input_ids"]
        return self._plain_ids(wording.text() + wording.prefix)

    def _apply_chat(self, wording: Wording) -> str:
        messages = wording.messages(keep_system=False)
        text = self._tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # Qwen3 and its like: the answer begins at once; others do not read it
        )
        if messages[-1]["content"].strip() not in text:
            raise InputError(
                f"--chat_template: the template of {self.model_name} does not show the user's message; use never"
            )
        return text

    def _plain_ids(self, text: str) -> list[int]:
        ids = self._tokenizer(text)["input_ids"]
        # Some tokenizers end every text; the label must follow the text itself.
        return ids[:-1] if ids and ids[-1] == self._tokenizer.eos_token_id else ids

    def _decoder_ids(self, request: Request) -> list[int]:
        start = self._config.decoder_start_token_id
        if start is None:
            raise InputError(f"{self.model_name}: config.json must name a decoder_start_token_id")
        return [
            start,
            *self._tokenizer(request.render(is_encoder_decoder=True).prefix, add_special_tokens=False)["input_ids"],
        ]

    def _labels(self, prompt: Prompt, num_passages: int) -> list[int]:
        """The token of each label as it is spelled behind the answer's beginning."""
        key = (prompt.name, num_passages)
        if key not in self._label_ids:
            self._label_ids[key] = self._find_labels(prompt, num_passages)
        return self._label_ids[key]

    def _find_labels(self, prompt: Prompt, num_passages: int) -> list[int]:
        wording = _example(prompt, num_passages).render(is_encoder_decoder=self._is_encoder_decoder)
        if self._is_encoder_decoder:
            before = wording.prefix
        else:
            before = (self._apply_chat(wording) if self._chat else wording.text()) + wording.prefix
        ids = self._tokenizer(before, add_special_tokens=False)["input_ids"]
        found = []
        for label in prompt.labels(num_passages):
            with_label = self._tokenizer(f"{before}{wording.gap}{label}", add_special_tokens=False)["input_ids"]
            if with_label[:-1] != ids or with_label[-1] in found:
                raise InputError(
                    f'--prompt {prompt.name}: the label "{label}" must be one token of its own behind '
                    f'"{before[-40:]}"; {self.model_name} spells it {with_label[len(ids) :]}; '
                    "take another model or prompt"
                )
            found.append(with_label[-1])
        return found


def _example(prompt: Prompt, num_passages: int) -> Request:
    return Request(prompt, Candidates("", "query", (), ()), (), ("passage",) * num_passages)


def _frame_of(request: Request) -> Request:
    return Request(request.prompt, Candidates("", "", (), ()), (), ("",) * len(request.passages))
