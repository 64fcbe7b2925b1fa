"""Candidates that a teacher sees in another order than the first stage's, such as a student's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tevatron_distill.permutation import from_scores, invert
from tevatron_distill.schema import Candidates, Group, InputError, Permutation, Run
from tevatron_distill.teachers.verdicts import Teacher


class FromRun:
    """Lets a teacher start from a run's order; its groups come back in first-stage order.

    Args:
        teacher: sorts.
        run: a student's, say. Candidates that it lacks stand behind, in first-stage order.

    Raises:
        InputError: by `prepare`, if the run lacks a query.
    """

    def __init__(self, teacher: Teacher, run: Run) -> None:
        self._teacher = teacher
        self._run = run

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Let the teacher see all queries."""
        for entry in candidates:
            if entry.query_id not in self._run:
                raise InputError(
                    f'--prior_run_path must have every query; got none for query_id "{entry.query_id}"; '
                    "rank its candidates, too"
                )
        self._teacher.prepare(candidates)

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group | None]]:
        """Yield each query's index and group as it finishes."""
        orders = [self._order(entry) for entry in block]
        for index, group in self._teacher.teach([one.select(order) for one, order in zip(block, orders, strict=True)]):
            yield index, None if group is None else group.select(invert(orders[index]))

    def _order(self, entry: Candidates) -> Permutation:
        scores = self._run[entry.query_id]
        return from_scores([scores.get(passage.docid, -math.inf) for passage in entry.passages])

    def report(self) -> Mapping[str, float]:
        """The teacher's figures."""
        return self._teacher.report()
