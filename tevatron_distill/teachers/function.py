"""Any function of Python as a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, Group, InputError, Passage
from tevatron_distill.sorting import SORTS, Answer, Question, Sorted, run_in_lockstep

Judge: TypeAlias = Callable[[str, Sequence[Passage]], Sequence[float]]
"""``(query, passages) → a score for each``, higher is better."""


class FunctionTeacher:
    """Orders candidates by a function that scores or compares passages.

    Args:
        judge: takes a query's text and passages and returns a number for each passage, higher is better. Without
            ``sort`` it sees all candidates of a query at once; with ``pointwise`` one; with ``allpair`` or
            ``heapsort`` two, of which only the better one matters; with ``bubblesort`` and ``sliding_window`` several.
        sort: name in `SORTS`, which decides what the function is asked; None for all candidates at once.
        name: of the teacher, for the record in its groups.
        options: of the sort, such as ``top_k=10``.

    Attributes:
        num_asked: how often the function was called. A question about a query is asked once.

    Raises:
        InputError: if there is no such sort; when teaching, if the function does not return a finite number for each
            passage.

    >>> passages = tuple(Passage(docid, text) for docid, text in {"a": "short", "b": "rather long"}.items())
    >>> teacher = FunctionTeacher(lambda query, passages: [len(passage.text) for passage in passages])
    >>> [group] = teacher.groups([Candidates("q", "a long one?", passages, (2.0, 1.0))])
    >>> group.permutation, group.scores
    ((1, 0), (5.0, 11.0))
    """

    def __init__(self, judge: Judge, sort: str | None = None, *, name: str = "function", **options: int) -> None:
        if sort is not None and sort not in SORTS:
            raise InputError(f"sort must be one of {', '.join(SORTS)}, or None; got {sort!r}")
        self._judge = judge
        self._sort = sort
        self._name = name
        self._options = options
        self.num_asked = 0

    def groups(self, candidates: Iterable[Candidates]) -> list[Group]:
        """The verdict on each query, in the order given; `write_groups` makes them the file that training reads."""
        block = list(candidates)
        taught = dict(self.teach(block))
        return [taught[index] for index in range(len(block))]

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Nothing to plan."""

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group]]:
        """Yield each query's index and group as it finishes."""
        known: dict[tuple[int, Question], Answer] = {}

        def ask(asked: list[tuple[int, Question]]) -> list[Answer]:
            for index, question in asked:
                if (index, question) not in known:
                    known[index, question] = self._ask(block[index], question)
            return [known[one] for one in asked]

        if self._sort is None:
            for index, entry in enumerate(block):
                scores = self._ask(entry, range(len(entry.passages)))
                yield index, self._group(entry, Sorted(from_scores(scores), len(scores), scores))
            return
        make = SORTS[self._sort]
        for index, result in run_in_lockstep([make(len(one.passages), **self._options) for one in block], ask):
            yield index, self._group(block[index], result)

    def _ask(self, entry: Candidates, question: Sequence[int]) -> tuple[float, ...]:
        self.num_asked += 1
        scores = tuple(map(float, self._judge(entry.query, [entry.passages[position] for position in question])))
        if len(scores) != len(question) or not all(map(math.isfinite, scores)):
            raise InputError(
                f'query_id "{entry.query_id}": the teacher\'s function must return a finite number for each of '
                f"{len(question)} passages; got {list(scores)}"
            )
        return scores

    def _group(self, entry: Candidates, result: Sorted) -> Group:
        return Group(
            query_id=entry.query_id,
            query=entry.query,
            passages=entry.passages,
            permutation=result.order,
            num_ranked=result.num_ranked,
            scores=result.scores,
            teacher={"name": self._name, **({} if self._sort is None else {"sort": self._sort})},
        )

    def report(self) -> Mapping[str, float]:
        """How often the function was ``asked``."""
        return {"asked": self.num_asked}
