"""What is asked of an engine, and what an engine is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tevatron_distill.prompts import Prompt, Wording
from tevatron_distill.schema import Candidates, InputError

Answer: TypeAlias = tuple[float, ...] | str
"""``choice``: a logit for each label, or the text of a model that says none of them (`may_miss`);
``text``: what was generated; ``likelihood``: one log-probability."""

WHO_ANSWERS: dict[str, tuple[str, ...]] = {
    "choice": ("hf", "vllm", "openai_compatible", "similarity", "recorded"),
    "text": ("hf", "vllm", "openai_compatible", "recorded"),
    "likelihood": ("hf", "vllm", "openai_compatible", "recorded"),
}
"""The engines for each kind of answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One prompt: passages of one query under the labels of a prompt, in the order shown.

    Attributes:
        prompt: the wording and its labels.
        candidates: the query and its first-stage list.
        positions: the passages shown, by their place in the list.
        passages: their texts, as the prompt renders and cuts them.
    """

    prompt: Prompt
    candidates: Candidates
    positions: tuple[int, ...]
    passages: tuple[str, ...]

    def render(self, *, is_encoder_decoder: bool, passages: Sequence[str] | None = None) -> Wording:
        """The wording filled in, with other ``passages`` where they are given."""
        shown = self.passages if passages is None else passages
        return self.prompt.render(self.candidates.query, shown, is_encoder_decoder=is_encoder_decoder)


class Engine(Protocol):
    """Answers requests, each by the kind that its prompt asks for.

    Attributes:
        model_name: what answers, for the record of the teacher.
        answers: the kinds of answer that it can give. Of logits only the differences count.
        num_tokens: tokens that went through the model so far, without padding.
        num_shortened: requests whose passages were shortened so far because the prompt was too long.
        may_miss: whether a choice may be answered by a text, for want of the labels.
    """

    model_name: str
    answers: frozenset[str]
    may_miss: bool
    num_tokens: int
    num_shortened: int

    @property
    def identity(self) -> str:
        """Everything but the request that an answer depends on."""

    def prepare(self, candidates: Iterable[Candidates], prompt: Prompt, num_passages: int) -> None:
        """See all queries of a run before the first request, to plan work and to refuse what cannot be asked.

        Args:
            candidates: the queries.
            prompt: what will be asked.
            num_passages: the most passages that a request shows.
        """

    def key_text(self, request: Request) -> str:
        """Everything in a request that its answer depends on."""

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Indices of requests that are answered together; a function of the requests alone."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer one batch: for each request what its prompt asks for.

        Raises:
            PartlyAnsweredError: if it ended early; what was answered is kept.
        """

    def report(self) -> Mapping[str, float]:
        """Figures of its own, beside tokens and shortened requests."""


class PartlyAnsweredError(Exception):
    """A batch ended early.

    Attributes:
        answers: what was answered until then, by the request's place in the batch.
        cause: why it ended: an `InputError`, or Ctrl-C.
    """

    def __init__(self, answers: Mapping[int, Answer], cause: BaseException) -> None:
        super().__init__(str(cause))
        self.answers = answers
        self.cause = cause


def check_kind(engine: str, answers: frozenset[str], prompt: Prompt) -> None:
    """Refuse a prompt whose kind of answer an engine cannot give.

    Args:
        engine: the engine's name, for the message.
        answers: the kinds that it can give.
        prompt: what would be asked.

    Raises:
        InputError: naming the engines that can.
    """
    if prompt.answer not in answers:
        *others, last = WHO_ANSWERS[prompt.answer]
        raise InputError(
            f"--engine {engine} gives {' and '.join(sorted(answers)) or 'nothing'}; --prompt {prompt.name} asks for "
            f"{prompt.answer}, which --engine {', '.join(others)} or {last} can give"
        )
