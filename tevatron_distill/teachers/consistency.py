"""Permutation self-consistency: the candidates are asked about in several orders, and the verdicts are merged."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tevatron_distill.permutation import invert
from tevatron_distill.schema import Candidates, Group
from tevatron_distill.teachers.merging import merge_groups
from tevatron_distill.teachers.verdicts import Teacher


class SelfConsistency:
    """Shows a teacher the candidates in shuffled orders and merges what it says, which averages out position bias.

    Args:
        teacher: is asked about each order as if it were a query of its own.
        num_shuffles: orders of each query, at least 1.
        merge: how verdicts are merged, ``rrf`` or ``borda``.
        seed: an order depends on it, the query_id and its number alone.
        sort_depth: only so many of the first candidates are shuffled; None for all.

    Source:
        Tang et al. 2024, arXiv 2310.07712, who look for the order nearest to all by Kendall's tau; Borda's count is its
        usual approximation.
    """

    def __init__(
        self, teacher: Teacher, num_shuffles: int, merge: str = "rrf", *, seed: int = 42, sort_depth: int | None = None
    ) -> None:
        self._teacher = teacher
        self._num_shuffles = num_shuffles
        self._merge = merge
        self._seed = seed
        self._sort_depth = sort_depth

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Let the teacher see all queries."""
        self._teacher.prepare(candidates)

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group | None]]:
        """Teach all orders of a block together; yield each query's index and merged group as its last order ends."""
        orders = [self._order(entry, number) for entry in block for number in range(self._num_shuffles)]
        shuffled = [block[index // self._num_shuffles].select(order) for index, order in enumerate(orders)]
        verdicts: dict[int, dict[int, Group]] = {index: {} for index in range(len(block))}
        for asked, group in self._teacher.teach(shuffled):
            index, number = divmod(asked, self._num_shuffles)
            if group is not None:
                verdicts[index][number] = group.select(invert(orders[asked]))
            if len(verdicts[index]) == self._num_shuffles:
                yield index, self._merged([verdicts[index][number] for number in range(self._num_shuffles)])

    def _order(self, entry: Candidates, number: int) -> tuple[int, ...]:
        depth = min(len(entry.passages), self._sort_depth or len(entry.passages))
        front = list(range(depth))
        random.Random(f"{self._seed} {entry.query_id} {number}").shuffle(front)
        return (*front, *range(depth, len(entry.passages)))

    def _merged(self, groups: Sequence[Group]) -> Group:
        about = dict(groups[0].teacher or {})
        for count in ("answers", "malformed"):
            if any(count in (group.teacher or {}) for group in groups):
                about[count] = sum(int(str((group.teacher or {}).get(count, 0))) for group in groups)
        return replace(
            merge_groups(groups, self._merge),
            teacher={**about, "num_shuffles": self._num_shuffles, "merge": self._merge},
        )

    def report(self) -> Mapping[str, float]:
        """Figures of the teacher, over all orders."""
        return self._teacher.report()
