"""Listwise: the order of a window of passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tevatron_distill.prompts import ListPrompt
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, EngineAnswer, Repairs, numbers_of


class ListwiseOracle:
    """Scores passages by their place in the generated order, or by the logits of the identifiers at its first place.

    Source:
        Sun et al. 2023, arXiv 2304.09542 (RankGPT); Reddy et al. 2024, arXiv 2406.15657 (FIRST, the logits).
    """

    name = "listwise"
    has_preferences = False

    def __init__(self, prompt: ListPrompt) -> None:
        self.prompt = prompt
        self._repairs = Repairs()

    def key(self, question: Question) -> Question:
        """The passages as they stand: their order is part of the prompt."""
        return question

    def shown(self, question: Question) -> list[Question]:
        """The window."""
        return [question]

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """Logits, or the place counted from the window's end."""
        [answer] = answers
        if self.prompt.answer == "choice":
            return dict(zip(question, numbers_of(answer, len(question)), strict=True))
        parsed = self._repairs.read(book, self.prompt, question, answer)
        order = [question[place] for place in parsed.order]
        book.unnamed.difference_update(order)
        book.unnamed.update(order[parsed.num_named :])
        return {position: float(len(order) - place) for place, position in enumerate(order)}

    def report(self) -> Mapping[str, float]:
        """What was wrong with generated answers."""
        return self._repairs.report()
