"""What a teacher is: it turns queries with their candidates into groups, and can say what that took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from tevatron_distill.schema import Candidates, Group


class Teacher(Protocol):
    """Gives verdicts on blocks of queries."""

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """See all queries of a run before the first block, to plan work and to refuse what cannot be taught.

        They may be gone through more than once, and need not be held.
        """

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group | None]]:
        """Yield the index in the block and the group of each query, as they finish; None where there is no verdict."""

    def report(self) -> Mapping[str, float]:
        """Figures of all that was taught so far."""
