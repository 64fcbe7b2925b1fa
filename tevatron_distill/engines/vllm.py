"""vLLM's offline engine, in an environment of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from tevatron_distill.engines.encoding import Encoded
from tevatron_distill.engines.forward import without_thoughts
from tevatron_distill.engines.hf import HFEngine
from tevatron_distill.engines.request import Answer, Request
from tevatron_distill.extras import load_package
from tevatron_distill.schema import InputError

REQUESTS_PER_BATCH = 4096
MOST_LABELS = 128
"""Token ids whose log-probabilities vLLM gives at a place."""


class VLLMEngine(HFEngine):
    """The same prompts, token by token, as `HFEngine`, answered by vLLM.

    vLLM forms its own batches and keeps the keys and values of common beginnings (prefix caching). ``choice`` may
    only answer with a label and gives the log-probability of each, ``text`` is greedy, ``likelihood`` reads the
    log-probabilities of the prompt. Its numbers differ from transformers' by rounding, and with what is batched.

    Args:
        model_name_or_path: name on the hub or folder of a decoder.
        dtype: ``auto`` (the checkpoint's), ``float32``, ``bfloat16`` or ``float16``.
        chat_template: as in `HFEngine`.
        max_length: tokens of a prompt with its answer; passages are shortened to fit.
        thinking_tokens: as in `HFEngine`.
        tensor_parallel_size: GPUs that share the model.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if vLLM is not installed, or the model is an encoder-decoder.
    """

    name = "vllm"

    def __init__(
        self,
        model_name_or_path: str,
        *,
        dtype: str = "auto",
        chat_template: str = "auto",
        max_length: int = 1024,
        thinking_tokens: int = 0,
        tensor_parallel_size: int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        self._vllm = load_package("vllm", "--engine vllm")
        super().__init__(
            model_name_or_path,
            dtype=dtype,
            chat_template=chat_template,
            max_length=max_length,
            thinking_tokens=thinking_tokens,
            trust_remote_code=trust_remote_code,
        )
        self._tensor_parallel_size = tensor_parallel_size
        self._encoder.max_length -= 1  # vLLM writes a token also where only the prompt is read
        if self._encoder.is_encoder_decoder:
            raise InputError(
                f"--engine vllm serves decoders; {model_name_or_path} is an encoder-decoder; use --engine hf"
            )

    @cached_property
    def _llm(self) -> Any:
        return self._vllm.LLM(
            model=self.model_name,
            dtype=self._dtype,
            max_model_len=self._encoder.max_length + 1,
            enable_prefix_caching=True,
            tensor_parallel_size=self._tensor_parallel_size,
            max_logprobs=MOST_LABELS,
            trust_remote_code=self._trust_remote_code,
        )

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The requests as they come; vLLM batches them itself."""
        indices = list(range(len(requests)))
        return [indices[start : start + REQUESTS_PER_BATCH] for start in range(0, len(indices), REQUESTS_PER_BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The log-probabilities of the labels, the text, or the target's log-probability."""
        rows = [self._encoder.encode(request) for request in requests]
        kinds = [request.prompt.answer for request in requests]
        asked = [self._ask_for(kind, row) for kind, row in zip(kinds, rows, strict=True)]
        outputs = self._llm.generate(
            [{"prompt_token_ids": one.prompt_token_ids} for one in asked],
            [self._vllm.SamplingParams(temperature=0.0, **one.sampling) for one in asked],
            use_tqdm=False,
        )
        self.num_shortened += sum(row.shortened for row in rows)
        self.num_tokens += sum(len(output.prompt_token_ids) + len(output.outputs[0].token_ids) for output in outputs)
        return [self._read(kind, row, output) for kind, row, output in zip(kinds, rows, outputs, strict=True)]

    def _ask_for(self, kind: str, row: Encoded) -> _Asked:
        if kind == "choice":
            sampling = {
                "max_tokens": 1,
                "allowed_token_ids": row.labels,
                "logprobs": len(row.labels),
                "logprob_token_ids": row.labels,
            }
            return _Asked(row.input_ids, sampling)
        if kind == "likelihood":
            return _Asked(row.input_ids + row.target, {"max_tokens": 1, "prompt_logprobs": 0})
        return _Asked(row.input_ids, {"max_tokens": row.room})

    def _read(self, kind: str, row: Encoded, output: Any) -> Answer:
        said = output.outputs[0]
        if kind == "choice":
            return tuple(float(said.logprobs[0][label].logprob) for label in row.labels)
        if kind == "likelihood":
            places = output.prompt_logprobs[len(row.input_ids) :]
            return (sum(float(place[token].logprob) for place, token in zip(places, row.target, strict=True)),)
        return without_thoughts(self._tokenizer, row, list(said.token_ids))


class _Asked(NamedTuple):
    prompt_token_ids: list[int]
    sampling: dict[str, Any]
