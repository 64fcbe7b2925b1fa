"""Flags of teachers behind a server or on several GPUs, and of what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.screens import first
from tevatron_distill.engines import API_DIALECTS
from tevatron_distill.schema import InputError


@dataclass(kw_only=True)
class ServerArguments:
    """How a server is asked, and what its tokens cost."""

    base_url: str | None = field(
        default=None,
        metadata={
            "help": first(
                "teacher",
                "engine openai_compatible: the server's address, http://localhost:8000/v1; its key is read from "
                "the environment variable OPENAI_API_KEY",
            )
        },
    )
    api_dialect: str = field(
        default="auto",
        metadata={
            "choices": list(API_DIALECTS),
            "help": "`openai` sends what OpenAI's own API knows; `vllm` (also for SGLang) goes on with the answer's "
            "beginning and switches thoughts; `auto` is `openai` at api.openai.com and else `vllm`",
        },
    )
    concurrency: int = field(default=32, metadata={"help": "requests to the server that are under way at a time"})
    request_timeout: float = field(default=120.0, metadata={"help": "seconds that a request to the server may take"})
    max_retries: int = field(
        default=5,
        metadata={"help": "how often a request that failed is sent again, after a pause or the server's Retry-After"},
    )
    top_logprobs: int = field(
        default=20, metadata={"help": "likely tokens, among which the server's answer is searched for the labels"}
    )
    tensor_parallel_size: int = field(default=1, metadata={"help": "engine vllm: GPUs that share the model"})
    price_per_million_input: float = field(default=0.0, metadata={"help": "price of a million tokens read"})
    price_per_million_output: float = field(default=0.0, metadata={"help": "price of a million tokens written"})
    max_cost: float | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "engine openai_compatible: a run (of several processes each) stops when its tokens have cost so "
                "much; what is done is kept, and the same command goes on from there",
            )
        },
    )
    plan: bool = field(
        default=False,
        metadata={"help": first("how", "say how many questions, tokens, hours and what price, and ask nothing")},
    )
    tokens_per_second: float | None = field(
        default=None, metadata={"help": "for the hours of --plan; a run's report has it"}
    )

    def __post_init__(self) -> None:
        check_choice("api_dialect", self.api_dialect, API_DIALECTS)
        for flag in ("concurrency", "top_logprobs", "tensor_parallel_size"):
            if getattr(self, flag) < 1:
                raise InputError(f"--{flag} must be at least 1; got {getattr(self, flag)}")
        for flag in ("max_retries", "price_per_million_input", "price_per_million_output"):
            if getattr(self, flag) < 0:
                raise InputError(f"--{flag} must be 0 or more; got {getattr(self, flag)}")
        for flag in ("request_timeout", "max_cost", "tokens_per_second"):
            value = getattr(self, flag)
            if value is not None and not value > 0:
                raise InputError(f"--{flag} must be above 0; got {value}")
        if self.max_cost is not None and not self.price_per_million_input + self.price_per_million_output:
            raise InputError("--max_cost needs --price_per_million_input and --price_per_million_output")
        if self.base_url is not None:
            _check_url(self.base_url)


def _check_url(url: str) -> None:
    """Refuse what is no address, and addresses with a secret in them, which the run's record would keep."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "--base_url must be an address alone, without user, password or ?parameters, as it is recorded; put the "
            "key into the environment variable OPENAI_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--base_url must be like http://localhost:8000/v1; got {url!r}")
