"""Listwise: the order of a window of passages."""

from __future__ import annotations

from collections.abc import Mapping

from tevatron_distill.prompts import Parsed
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, LabelOracle


class ListwiseOracle(LabelOracle):
    """Scores passages by their place in the generated order, or by the logits of the identifiers at its first place.

    Source:
        Sun et al. 2023, arXiv 2304.09542 (RankGPT); Reddy et al. 2024, arXiv 2406.15657 (FIRST, the logits).
    """

    name = "listwise"

    def named(self, book: Book, question: Question, parsed: Parsed) -> Mapping[int, float]:
        """The place of each passage, counted from the window's end."""
        order = [question[place] for place in parsed.order]
        book.unnamed.difference_update(order)
        book.unnamed.update(order[parsed.num_named :])
        return {position: float(len(order) - place) for place, position in enumerate(order)}
