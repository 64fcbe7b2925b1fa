"""Setwise: which of several passages is the most relevant one."""

from __future__ import annotations

from collections.abc import Mapping

from tevatron_distill.prompts import Parsed
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, LabelOracle


class SetwiseOracle(LabelOracle):
    """Scores passages by the logits of their labels, or gives 1 to the passage whose label is generated.

    An answer without a label gives nothing to any passage, so that the first stage decides.

    Source:
        Zhuang et al. 2024, arXiv 2310.09497.
    """

    name = "setwise"

    def named(self, book: Book, question: Question, parsed: Parsed) -> Mapping[int, float]:
        """1 for the passage that is named."""
        best = {question[place] for place in parsed.order[: parsed.num_named]}
        return {position: float(position in best) for position in question}
