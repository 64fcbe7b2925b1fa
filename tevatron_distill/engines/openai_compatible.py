"""Models behind an OpenAI-compatible server: vLLM, SGLang, OpenAI and others."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tevatron_distill.engines.event_loop import run_to_end
from tevatron_distill.engines.request import Answer, PartlyAnsweredError, Request, check_kind
from tevatron_distill.engines.wire import (
    OPENAI_HOST,
    MalformedError,
    NoLogprobsError,
    Post,
    Reply,
    Wire,
    check_labels,
)
from tevatron_distill.extras import load_package
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates, InputError

logger = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
REQUESTS_PER_BATCH = 256
MOST_QUOTED = 500  # characters of a server's message
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds, as in openai's client


class OpenAICompatibleEngine:
    """Asks a server by the ``openai`` client, many requests at a time.

    ``choice`` reads the labels among the likeliest first tokens (`wire.read_labels`), ``text`` is generated, and
    ``likelihood`` needs a server that echoes prompts with their log-probabilities (``/completions`` of vLLM). The
    temperature is 0. Answers go by the request alone: neither the order in which they come nor how many are under way
    shows in them. The key is read from the environment variable ``OPENAI_API_KEY`` and kept nowhere; a server that
    needs none gets a word in its place.

    429, 408, 409, 5xx, broken connections and timeouts are tried again by the client, with back-off or as long as
    ``Retry-After`` says; a 200 that is no completion is tried again as often.

    Args:
        base_url: of the server, mostly with ``/v1`` at the end.
        model_name_or_path: the model's name on the server; every answer must carry it.
        concurrency: requests under way at a time.
        request_timeout: seconds that a request may take.
        max_retries: how often a request is tried again.
        api_dialect: ``openai`` sends what OpenAI's own API knows: the answer's beginning is left out, and a sentence
            asks for a label; ``vllm`` (also SGLang) goes on with the answer's beginning and tells the chat template
            whether to think; ``auto`` is ``openai`` at OpenAI's address and else ``vllm``.
        chat_template: ``never`` shows the published plain prompt by ``/completions``.
        top_logprobs: likely tokens that are asked for; OpenAI and vLLM give at most 20 by default.
        thinking_tokens: tokens that a reasoning model may think before a text; 0 tells it not to think.
        price_per_million_input: of a million tokens read.
        price_per_million_output: of a million tokens written.
        max_cost: a run asks no more when its tokens have cost so much; what is under way is still paid for.

    Raises:
        InputError: if ``openai`` is not installed, or the key is missing where OpenAI asks for it.
    """

    answers = frozenset({"choice", "text", "likelihood"})
    may_miss = True

    def __init__(
        self,
        base_url: str,
        model_name_or_path: str,
        *,
        concurrency: int = 32,
        request_timeout: float = 120.0,
        max_retries: int = 5,
        api_dialect: str = "auto",
        chat_template: str = "auto",
        top_logprobs: int = 20,
        thinking_tokens: int = 0,
        price_per_million_input: float = 0.0,
        price_per_million_output: float = 0.0,
        max_cost: float | None = None,
    ) -> None:
        self.model_name = model_name_or_path
        self.num_tokens = self.num_shortened = 0
        self._input_tokens = self._output_tokens = 0
        self._base_url = base_url
        self._concurrency = concurrency
        self._timeout = request_timeout
        self._max_retries = max_retries
        self._prices = price_per_million_input, price_per_million_output
        self._max_cost = max_cost
        self._top_logprobs = top_logprobs
        self._num_missing = self._num_silent = 0
        host = urlsplit(base_url).hostname
        dialect = api_dialect if api_dialect != "auto" else "openai" if host == OPENAI_HOST else "vllm"
        self._wire = Wire(dialect, chat_template == "never", thinking_tokens, top_logprobs)
        self._openai = load_package("openai", "--engine openai_compatible")
        if host == OPENAI_HOST and not _api_key():
            raise InputError(f"--base_url {base_url}: put the key into the environment variable {KEY_VARIABLE}")

    @property
    def identity(self) -> str:
        """The model's name; what is sent stands in each request's key, and a server may move."""
        return f"openai_compatible {self.model_name}"

    @property
    def cost(self) -> float:
        """What they cost."""
        return (self._input_tokens * self._prices[0] + self._output_tokens * self._prices[1]) / 1e6

    def prepare(self, candidates: Iterable[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Refuse a prompt whose labels the first token of an answer cannot tell apart.

        Raises:
            InputError: in this case.
        """
        check_kind("openai_compatible", self.answers, prompt)
        if prompt.answer == "choice":
            check_labels(prompt, num_passages, self._top_logprobs)

    def key_text(self, request: Request) -> str:
        """What is sent, and what is read from the answer."""
        prompt, post = request.prompt, self._wire.post(request)
        asked = prompt.labels(len(request.passages)) if prompt.answer == "choice" else [prompt.answer, post.skipped]
        return json.dumps([post.chat, post.body, *asked], ensure_ascii=False, sort_keys=True)

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The requests as they come; a batch is what one transaction of the cache holds."""
        indices = list(range(len(requests)))
        return [indices[start : start + REQUESTS_PER_BATCH] for start in range(0, len(indices), REQUESTS_PER_BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask the server.

        Raises:
            PartlyAnsweredError: if the server fails for good, ``max_cost`` is reached, or Ctrl-C comes.
        """
        answers: dict[int, Answer] = {}
        try:
            run_to_end(self._answer_all(requests, answers))
            if len(answers) < len(requests):
                raise InputError(
                    f"--max_cost {self._max_cost:g} is reached: {self._input_tokens} tokens read and "
                    f"{self._output_tokens} written cost {self.cost:.4f}; every finished query and answer is kept, and "
                    "the same command goes on from here and may spend as much again"
                )
        except (InputError, self._openai.OpenAIError, KeyboardInterrupt, SystemExit) as error:
            raise PartlyAnsweredError(answers, error) from None
        return [answers[index] for index in range(len(requests))]

    def report(self) -> Mapping[str, float]:
        """Tokens read and written and their cost; labels that were not among the likely tokens, and choices that were
        answered by none of their labels.
        """
        return {
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "cost": self.cost,
            "missing_labels": self._num_missing,
            "no_label": self._num_silent,
        }

    async def _answer_all(self, requests: Sequence[Request], answers: dict[int, Answer]) -> None:
        """Fill ``answers``, ``concurrency`` at a time, until all are there or the money is spent."""
        todo = iter(enumerate(requests))
        client = self._openai.AsyncOpenAI(
            api_key=_api_key() or "none",
            base_url=self._base_url,
            timeout=self._timeout,
            max_retries=self._max_retries,
        )
        async with client:
            workers = [
                asyncio.create_task(self._work(client, todo, answers))
                for _ in range(min(self._concurrency, len(requests)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, client: Any, todo: Iterator[tuple[int, Request]], answers: dict[int, Answer]) -> None:
        for index, request in todo:
            if self._max_cost is not None and self.cost >= self._max_cost:
                return
            reply = await self._ask(client, request)
            self._count(request, reply)
            answers[index] = reply.answer

    def _count(self, request: Request, reply: Reply) -> None:
        if self._max_cost is not None and not reply.counted:
            raise InputError(
                f"--max_cost cannot be kept: the server at {self._base_url} does not count tokens (`usage`); "
                "leave it out"
            )
        self._input_tokens += reply.input_tokens
        self._output_tokens += reply.output_tokens
        self.num_tokens += reply.input_tokens + reply.output_tokens
        self._num_missing += reply.num_missing
        self._num_silent += request.prompt.answer == "choice" and isinstance(reply.answer, str)

    async def _ask(self, client: Any, request: Request) -> Reply:
        """One request, tried again as often as it may be."""
        post = self._wire.post(request)
        problem = ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))
            try:
                return self._wire.read(request, post, self.model_name, await self._send(client, post))
            except MalformedError as error:
                problem = str(error)
                logger.info("the server sent no completion: %s", problem)
            except NoLogprobsError:
                raise self._no_logprobs(request.prompt) from None
        raise InputError(
            f"{self._base_url}: {self._max_retries + 1} times the server answered with something that is no "
            f"completion, at last {problem}; see that --base_url ends where its API begins (mostly /v1), and start the "
            "same command again"
        )

    async def _send(self, client: Any, post: Post) -> str:
        endpoint = client.chat.completions if post.chat else client.completions
        try:
            raw = await endpoint.with_raw_response.create(
                model=self.model_name, **_known(post.body), extra_body=_unknown(post.body)
            )
        except self._openai.APITimeoutError:
            problem, advice = f"no answer within {self._timeout:g} seconds", "raise --request_timeout"
        except self._openai.APIConnectionError as error:
            problem, advice = _without_key(f"{error.__cause__ or error}"), "see that the server is up"
        except self._openai.APIStatusError as error:
            said = _without_key(error.response.text)[:MOST_QUOTED]
            problem, advice = f"status {error.status_code}: {said}", _advice(error.status_code, said)
        else:
            return _without_key(raw.text)
        raise InputError(
            f"{self._base_url}: the server failed ({problem}; tried up to {self._max_retries + 1} "
            f"times); {advice}; the same command goes on behind what was answered"
        )

    def _no_logprobs(self, prompt: Prompt) -> InputError:
        if prompt.answer == "likelihood":
            return InputError(
                f"{self._base_url}: the server does not give the log-probabilities of a prompt (/completions with echo "
                f"and logprobs), which --prompt {prompt.name} needs; take vLLM's server, --engine hf, or another prompt"
            )
        return InputError(
            f"{self._base_url}: the server answered without the log-probabilities that were asked for (some drop "
            "logprobs silently); let it write its answer instead (--teacher setwise or listwise with --answer "
            "generate), or take a server that gives them, as vLLM's"
        )


STANDARD = {
    "messages",
    "prompt",
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "echo",
}


def _api_key() -> str:
    """The key, without the newline that a file leaves behind it; empty for none.

    Raises:
        InputError: if it cannot be sent.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the environment variable {KEY_VARIABLE} must be plain letters, digits and signs")
    return key


def _without_key(text: str) -> str:
    """What a server says, which may repeat the key."""
    key = _api_key()
    return text.replace(key, "***") if key else text


def _known(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in STANDARD}


def _unknown(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in STANDARD}


def _advice(status: int, message: str) -> str:
    if status in (401, 403):
        return f"put a key that it accepts into the environment variable {KEY_VARIABLE}"
    if status == 404:
        return "see that it serves this model (GET /v1/models), and that --base_url ends where its API begins"
    if "logprob" in message:
        return "lower --top_logprobs, or let it write its answer (--teacher setwise or listwise with --answer generate)"
    if "continue_final_message" in message or "chat_template_kwargs" in message:
        return "take --api_dialect openai, which sends nothing that OpenAI's own API does not know"
    if status == 429:
        return "lower --concurrency, or raise --max_retries"
    if status < 500:
        return "shorten what is asked (--window_size, --num_child) if it is too long, or see its log"
    return "see its log"
