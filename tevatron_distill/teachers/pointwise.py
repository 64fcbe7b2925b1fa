"""Pointwise: a passage is judged by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tevatron_distill.prompts import PointPrompt
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, EngineAnswer, logits_of, numbers_of, probability


class PointwiseOracle:
    """Scores a passage by what the prompt's labels say.

    Two labels (yes, no) give the probability of the first, one label its logit, none the log-likelihood of the query.
    A passage whose answer is none of the labels comes last and has no score.

    Source:
        Nogueira et al. 2020, arXiv 2003.06713 (true and false); Sachan et al. 2022, arXiv 2204.07496 (likelihood);
        Zhuang et al. 2023, arXiv 2310.14122 (yes and no).
    """

    name = "pointwise"
    has_preferences = False

    def __init__(self, prompt: PointPrompt) -> None:
        self.prompt = prompt

    def key(self, question: Question) -> Question:
        """The passage."""
        return question

    def shown(self, question: Question) -> list[Question]:
        """The passage."""
        return [question]

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """Probability, logit or log-likelihood."""
        [position], [answer] = question, answers
        if self.prompt.answer == "likelihood":
            [score] = numbers_of(answer, 1)
            return {position: score}
        logits = logits_of(book, answer, 2 if self.prompt.no else 1)
        if logits is None:
            book.unnamed.add(position)
            return {position: -math.inf}
        return {position: probability(*logits) if self.prompt.no else logits[0]}

    def report(self) -> Mapping[str, float]:
        """Nothing but what the engine counts."""
        return {}
