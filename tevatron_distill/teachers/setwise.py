"""Setwise: which of several passages is the most relevant one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tevatron_distill.prompts import ChoicePrompt
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, EngineAnswer, Repairs, numbers_of


class SetwiseOracle:
    """Scores passages by the logits of their labels, or gives 1 to the passage whose label is generated.

    An answer without a label gives nothing to any passage, so that the first stage decides.

    Source:
        Zhuang et al. 2024, arXiv 2310.09497.
    """

    name = "setwise"
    has_preferences = False

    def __init__(self, prompt: ChoicePrompt) -> None:
        self.prompt = prompt
        self._repairs = Repairs()

    def key(self, question: Question) -> Question:
        """The passages as they stand: their order is part of the prompt."""
        return question

    def shown(self, question: Question) -> list[Question]:
        """The passages in the order of the sort, the parent first."""
        return [question]

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """Logits of the labels, or 1 for the best."""
        [answer] = answers
        if self.prompt.answer == "choice":
            return dict(zip(question, numbers_of(answer, len(question)), strict=True))
        parsed = self._repairs.read(book, self.prompt, question, answer)
        best = {question[place] for place in parsed.order[: parsed.num_named]}
        return {position: float(position in best) for position in question}

    def report(self) -> Mapping[str, float]:
        """What was wrong with generated answers."""
        return self._repairs.report()
