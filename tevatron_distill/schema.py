"""The nouns of the package: passages, candidates, a teacher's verdict, runs and judgements. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Permutation: TypeAlias = tuple[int, ...]
"""0-based positions in a group, best first."""

Run: TypeAlias = dict[str, dict[str, float]]
"""``{query_id: {docid: score}}``; a higher score is a better passage."""

Qrels: TypeAlias = dict[str, dict[str, int]]
"""``{query_id: {docid: grade}}``."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A unit of text that is ranked."""

    docid: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query's first-stage list, best first, with the first stage's scores."""

    query_id: str
    query: str
    passages: tuple[Passage, ...]
    scores: tuple[float, ...]

    def top(self, depth: int) -> Candidates:
        """The first ``depth`` candidates."""
        return Candidates(self.query_id, self.query, self.passages[:depth], self.scores[:depth])

    def select(self, positions: Sequence[int]) -> Candidates:
        """The candidates of these positions, each with its score where there are scores, in the order given."""
        return Candidates(
            self.query_id,
            self.query,
            tuple(self.passages[position] for position in positions),
            tuple(self.scores[position] for position in positions) if self.scores else (),
        )

    def judged(self, grades: Mapping[str, float], teacher: Mapping[str, object] | None = None) -> Group:
        """A group whose verdict is a judgement.

        Args:
            grades: ``{docid: grade}``; a passage that is not judged has grade 0, and a grade above 0 is relevant.
            teacher: who judged.

        Returns:
            The group, best grade first, equal grades in first-stage order; only relevant passages are ranked.

        >>> passages = tuple(Passage(d, d) for d in "abc")
        >>> group = Candidates("q", "?", passages, (3.0, 2.0, 1.0)).judged({"c": 2, "b": 1})
        >>> group.permutation, group.num_ranked, group.judgements
        ((2, 1, 0), 2, (0.0, 1.0, 2.0))
        """
        judgements = tuple(float(grades.get(passage.docid, 0)) for passage in self.passages)
        return Group(
            query_id=self.query_id,
            query=self.query,
            passages=self.passages,
            permutation=tuple(sorted(range(len(judgements)), key=lambda position: -judgements[position])),
            num_ranked=sum(judgement > 0 for judgement in judgements),
            judgements=judgements,
            teacher=teacher,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """What one query trains on: passages in first-stage order and a verdict on them.

    Attributes:
        query_id: name of the query.
        query: its text.
        passages: ``G`` passages in first-stage order.
        permutation: positions ``0..G-1``, best first.
        num_ranked: how many leading places of the permutation are the verdict; the places behind are tied.
        scores: teacher's scores aligned with ``passages``, higher is better, where the teacher has them.
        preferences: triples ``(i, j, p)``: the teacher prefers passage ``i`` to ``j`` with probability ``p``
            (both orders of asking averaged); each unordered pair at most once.
        judgements: relevance grades aligned with ``passages``, where the verdict is a judgement. They are the labels
            then, as the permutation orders equal grades by the first stage.
        teacher: who gave the verdict (name, sort, model, prompt).
        metrics: named measures of quality, each aligned with ``passages`` (candidates scored against a reference).
        reference: the text that the candidates are measured against.
        pairs: ordered pairs ``(i, j)`` of positions that a pair student is shown in one step; None for all of them.
    """

    query_id: str
    query: str
    passages: tuple[Passage, ...]
    permutation: Permutation
    num_ranked: int
    scores: tuple[float, ...] | None = None
    preferences: tuple[tuple[int, int, float], ...] | None = None
    judgements: tuple[float, ...] | None = None
    teacher: Mapping[str, object] | None = None
    metrics: Mapping[str, tuple[float, ...]] | None = None
    reference: str | None = None
    pairs: tuple[tuple[int, int], ...] | None = None

    def ranks(self) -> tuple[int, ...]:
        """1-based rank of each passage; the passages behind ``num_ranked`` share the rank ``num_ranked + 1``.

        >>> passages = tuple(Passage(d, d) for d in "abc")
        >>> Group("q", "?", passages, permutation=(2, 0, 1), num_ranked=1).ranks()
        (2, 2, 1)
        """
        ranks = [0] * len(self.passages)
        for place, position in enumerate(self.permutation):
            ranks[position] = min(place, self.num_ranked) + 1
        return tuple(ranks)

    def select(self, positions: Sequence[int]) -> Group:
        """The sub-group of these positions, in the order given; the verdict is restricted to it.

        >>> passages = tuple(Passage(d, d) for d in "abcd")
        >>> drawn = Group("q", "?", passages, permutation=(3, 1, 0, 2), num_ranked=4).select([1, 3])
        >>> [passage.docid for passage in drawn.passages], drawn.permutation
        (['b', 'd'], (1, 0))
        """
        place_of = {position: place for place, position in enumerate(positions)}
        kept = [position for position in self.permutation if position in place_of]
        ranked = set(self.permutation[: self.num_ranked])
        return Group(
            query_id=self.query_id,
            query=self.query,
            passages=tuple(self.passages[position] for position in positions),
            permutation=tuple(place_of[position] for position in kept),
            num_ranked=sum(position in ranked for position in kept),
            scores=None if self.scores is None else tuple(self.scores[position] for position in positions),
            preferences=None
            if self.preferences is None
            else tuple(
                (place_of[i], place_of[j], p) for i, j, p in self.preferences if i in place_of and j in place_of
            ),
            judgements=None if self.judgements is None else tuple(self.judgements[position] for position in positions),
            teacher=self.teacher,
            metrics=None
            if self.metrics is None
            else {name: tuple(values[position] for position in positions) for name, values in self.metrics.items()},
            reference=self.reference,
            pairs=None
            if self.pairs is None
            else tuple((place_of[i], place_of[j]) for i, j in self.pairs if i in place_of and j in place_of),
        )


@dataclass(frozen=True, slots=True)
class Filler(Group):
    """Stands in a batch where no group is left, so that every process has one; it counts for nothing."""


class InputError(ValueError):
    """Input that breaks a rule; the message says place, rule, what came, and what to do."""
