"""What an oracle is: it puts a sort's question into prompts, and reads scores from their answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from tevatron_distill.prompts import PROBLEMS, Parsed, TeacherPrompt
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.sorting import Question

EngineAnswer: TypeAlias = Sequence[float] | str
"""Numbers or a text, by the prompt's kind of answer."""


class Book:
    """What is known about one query while it is sorted.

    Attributes:
        candidates: the query with its first-stage list.
        texts: the passages as the prompt shows them.
        known: the scores that each question has brought, by the oracle's key.
        preferences: ``{(i, j): p}`` of the pairs asked, with ``i < j``.
        unnamed: positions that the last answer about them did not name.
        num_answers: texts that were generated for this query, and choices that the engine may have missed.
        num_malformed: how many of them had to be repaired.
        num_silent: how many of them say nothing about any passage.
    """

    def __init__(self, candidates: Candidates, prompt: TeacherPrompt) -> None:
        self.candidates = candidates
        self.texts = [prompt.passage_text(passage) for passage in candidates.passages]
        self.known: dict[Question, Mapping[int, float]] = {}
        self.preferences: dict[tuple[int, int], float] = {}
        self.unnamed: set[int] = set()
        self.num_answers = 0
        self.num_malformed = 0
        self.num_silent = 0


class Oracle(Protocol):
    """Asks about some passages of a query.

    Attributes:
        name: the teacher's, for the record.
        prompt: shows the passages.
        has_preferences: it keeps a preference for each pair that it asks about.
    """

    name: str
    prompt: TeacherPrompt
    has_preferences: bool

    def key(self, question: Question) -> Question:
        """Questions with equal keys are one."""

    def shown(self, question: Question) -> list[Question]:
        """The orders in which the passages are shown, a prompt each."""

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """The score of each position, higher is better, from an answer to each order shown."""

    def report(self) -> Mapping[str, float]:
        """Figures of all that was read so far."""


class Repairs:
    """Counts what was wrong with generated answers.

    Attributes:
        counts: answers that were ``ok``, and those with each of `PROBLEMS`; an answer may have several. One that names
            all that it should, only in another format, is counted but not malformed.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def read(self, book: Book, prompt: TeacherPrompt, order: Question, answer: EngineAnswer) -> Parsed:
        """Parse an answer and count it, also in the query's book."""
        parsed = prompt.parse(text_of(answer), len(order))
        book.num_answers += 1
        book.num_malformed += not parsed.num_named or bool(set(parsed.problems) - {"wrong_format"})
        book.num_silent += not parsed.num_named
        self.counts.update(parsed.problems or ["ok"])
        return parsed

    def report(self) -> Mapping[str, float]:
        """All counts, where anything was read."""
        return {kind: self.counts[kind] for kind in ("ok", *PROBLEMS)} if self.counts else {}


class LabelOracle(ABC):
    """Shows the passages of a question once, under labels: their logits are the scores, or a text names them.

    Args:
        prompt: shows the passages.
    """

    name: str
    has_preferences = False

    def __init__(self, prompt: TeacherPrompt) -> None:
        self.prompt = prompt
        self._repairs = Repairs()

    def key(self, question: Question) -> Question:
        """The passages as they stand: their order is part of the prompt."""
        return question

    def shown(self, question: Question) -> list[Question]:
        """The passages in the order of the sort."""
        return [question]

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """The logits of the labels, or what the text says."""
        [answer] = answers
        if self.prompt.answer == "choice":
            return self._chosen(book, question, answer)
        return self.named(book, question, self._repairs.read(book, self.prompt, question, answer))

    def _chosen(self, book: Book, question: Question, answer: EngineAnswer) -> Mapping[int, float]:
        """The logits; without any, no passage is better than another."""
        numbers = logits_of(book, answer, len(question))
        book.unnamed.difference_update(question)
        if numbers is None:
            book.unnamed.update(question)
        return dict(zip(question, numbers or (0.0,) * len(question), strict=True))

    @abstractmethod
    def named(self, book: Book, question: Question, parsed: Parsed) -> Mapping[int, float]:
        """The score of each position from a text."""

    def report(self) -> Mapping[str, float]:
        """What was wrong with generated answers."""
        return self._repairs.report()


def text_of(answer: EngineAnswer) -> str:
    """An answer that must be a text.

    Raises:
        InputError: if it is numbers.
    """
    if not isinstance(answer, str):
        raise InputError(f"the prompt asks for a text; the engine answered {list(answer)}; use --answer logits")
    return answer


def logits_of(book: Book, answer: EngineAnswer, expected: int) -> Sequence[float] | None:
    """The numbers of a choice; None where a text came in their place, which is counted in the query's book.

    Raises:
        InputError: if there are more or fewer.
    """
    book.num_answers += 1
    if isinstance(answer, str):
        book.num_malformed += 1
        book.num_silent += 1
        return None
    return numbers_of(answer, expected)


def numbers_of(answer: EngineAnswer, expected: int) -> Sequence[float]:
    """An answer that must be numbers.

    Raises:
        InputError: if it is a text, or holds more or fewer.
    """
    if isinstance(answer, str) or len(answer) != expected:
        raise InputError(
            f"the prompt asks for {expected} numbers; the engine answered {answer!r}; "
            "use another engine, or --answer generate where the teacher has it"
        )
    return answer


def probability(first: float, second: float) -> float:
    """Probability of the first of two logits, without overflow.

    >>> probability(1.5, 1.5), probability(9e4, -9e4)
    (0.5, 1.0)
    """
    difference = first - second
    if difference >= 0:
        return 1.0 / (1.0 + math.exp(-difference))
    return math.exp(difference) / (1.0 + math.exp(difference))
