"""What ranks: anything that scores whole lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, overload

from tevatron_distill.schema import Candidates, Passage


class Ranking(ABC):
    """Ranks texts by the scores of lists."""

    @abstractmethod
    def score_candidates(self, candidates: Sequence[Candidates]) -> list[list[float]]:
        """Scores of whole lists, aligned with their passages."""

    @overload
    def rank(self, query: str, passages: Sequence[str]) -> list[tuple[int, float]]: ...
    @overload
    def rank(self, query: str, passages: Sequence[Passage]) -> list[tuple[str, float]]: ...
    def rank(self, query: str, passages: Sequence[str] | Sequence[Passage]) -> list[Any]:
        """Order passages for a query.

        Args:
            query: its text.
            passages: texts, or passages with title and docid.

        Returns:
            (position, score) of each text, or (docid, score) of each passage, best first; equal scores keep the
            order given.
        """
        if not passages:
            return []
        given = [
            passage if isinstance(passage, Passage) else Passage(str(position), str(passage))
            for position, passage in enumerate(passages)
        ]
        [scores] = self.score_candidates([Candidates("", query, tuple(given), (0.0,) * len(given))])
        names = [
            passage.docid if isinstance(passage, Passage) else position for position, passage in enumerate(passages)
        ]
        return sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
