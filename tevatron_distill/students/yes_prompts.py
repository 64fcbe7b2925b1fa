"""The prompts of Yes-token students, and the token rows that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import POINT_PROMPTS, STUDENT_PROMPTS, PointPrompt
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.loading import cut_text, cut_texts, with_prefix

DEFAULT_PROMPT = "instructdistill"
LLM_RANKER_PROMPT = "bge_gemma"
YES_PROMPTS: dict[str, PointPrompt] = {
    **STUDENT_PROMPTS,
    **{name: prompt for name, prompt in POINT_PROMPTS.items() if prompt.answer == "choice"},
}
"""``--prompt`` of yes_token and llm_ranker: a student can be asked whatever a teacher can."""

PASSAGE = "\x00passage\x00"
"""Stands for the passage while the words around it are made; no text has it."""


def student_prompt(name: str | None) -> PointPrompt:
    """A row of ``YES_PROMPTS``.

    Raises:
        InputError: if there is none of that name.
    """
    prompt = YES_PROMPTS.get(name or DEFAULT_PROMPT)
    if prompt is None:
        raise InputError(f"--prompt must be one of {', '.join(YES_PROMPTS)} for this student; got {name!r}")
    return prompt


def words_around(query: str, prompt: PointPrompt, settings: RerankerSettings) -> tuple[str, str]:
    """The words before the passage, and those behind it, behind which the answer comes."""
    if settings.task_prompt is not None:
        prompt = replace(prompt, instruction=settings.task_prompt)
    wording = prompt.render(with_prefix(settings.query_prefix.rstrip(" "), query), [PASSAGE], is_encoder_decoder=False)
    head, _, tail = (wording.text() + wording.prefix).partition(PASSAGE)
    return head, tail


def prompt_rows(tokenizer: Any, settings: RerankerSettings) -> Callable[[str, Sequence[Passage]], list[Row]]:
    """What makes the rows of a student's prompt."""
    if settings.prompt == LLM_RANKER_PROMPT:
        return LineRows(tokenizer, settings)
    return PromptRows(tokenizer, settings)


@dataclass
class PromptRows:
    """The prompt about one passage; where it is too long the passage is shortened, never the prompt's end."""

    tokenizer: Any
    settings: RerankerSettings

    def __call__(self, query: str, passages: Sequence[Passage]) -> list[Row]:
        settings, tokenizer = self.settings, self.tokenizer
        prompt = student_prompt(settings.prompt)
        if settings.query_max_len:
            query = cut_text(tokenizer, query, settings.query_max_len)
        head, tail = words_around(query, prompt, settings)
        prefix = settings.passage_prefix.rstrip(" ")
        texts = [with_prefix(prefix, prompt.passage_text(passage)) for passage in passages]
        if settings.passage_max_len:
            texts = cut_texts(tokenizer, texts, settings.passage_max_len)

        def encode(texts: Sequence[str]) -> list[list[int]]:
            words = [head + text + tail for text in texts]
            ids: list[list[int]] = tokenizer(words, add_special_tokens=not prompt.framed, verbose=False)["input_ids"]
            return ids

        def shorten(text: str, ids: list[int]) -> list[int]:
            while len(ids) > settings.rerank_max_len:
                length = len(self.tokens([text])[0])
                if length == 0:
                    raise no_room(query, len(ids), settings.rerank_max_len)
                text = cut_text(tokenizer, text, max(0, length - (len(ids) - settings.rerank_max_len)))
                [ids] = encode([text])
            return ids

        return [Row(shorten(text, ids)) for text, ids in zip(texts, encode(texts), strict=True)]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text by itself."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids


@dataclass
class LineRows(PromptRows):
    """The prompt of bge-reranker-v2-gemma and open-retrievals: query, passage and task on lines of their own.

    Each line, and each line break, is tokenised by itself behind the token that begins a sequence, as published. Only
    the passage is cut; open-retrievals cuts whatever stands last, the task with its answer too.
    """

    def __call__(self, query: str, passages: Sequence[Passage]) -> list[Row]:
        settings = self.settings
        prompt = student_prompt(settings.prompt)
        task = prompt.template.rpartition("\n")[2] if settings.task_prompt is None else settings.task_prompt
        if settings.query_max_len:
            query = cut_text(self.tokenizer, query, settings.query_max_len)
        prefix = settings.passage_prefix.rstrip(" ")
        texts = [with_prefix(prefix, prompt.passage_text(passage)) for passage in passages]
        asked = with_prefix(settings.query_prefix.rstrip(" "), query)
        head, end, line_break, *lines = self.tokens([asked, task, "\n", *texts])
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        room = settings.rerank_max_len - len(start) - len(head) - len(end) - 2 * len(line_break)
        if room < 0:
            raise no_room(query, settings.rerank_max_len - room, settings.rerank_max_len)
        room = min(room, settings.passage_max_len or room)
        return [Row([*start, *head, *line_break, *line[:room], *line_break, *end]) for line in lines]


def no_room(query: str, length: int, limit: int) -> InputError:
    """What is said where a query leaves no room for a passage."""
    return InputError(
        f"query {query[:60]!r}: the prompt with this query alone is {length} tokens long and rerank_max_len is "
        f"{limit}; raise it, or cut queries by --query_max_len"
    )
