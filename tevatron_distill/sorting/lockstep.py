"""What a sort is: a generator that asks by ``yield``; and the runner that advances many of them together.

A question names passages by their first-stage positions; its answer scores each passage named, higher is better.
A sort yields the questions of a round, receives their answers and returns a `Sorted`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple, TypeAlias

Question: TypeAlias = tuple[int, ...]
"""Positions of the passages that are compared."""

Answer: TypeAlias = Sequence[float]
"""One score for each passage named, higher is better."""


class Sorted(NamedTuple):
    """What a sort found.

    Attributes:
        order: all positions, best first.
        num_ranked: how many leading places are the oracle's word; the places behind are tied.
        scores: a score for each position, where the sort has one.
    """

    order: tuple[int, ...]
    num_ranked: int
    scores: tuple[float, ...] | None = None


Sort: TypeAlias = Generator[list[Question], Sequence[Answer], Sorted]


def run_in_lockstep(
    sorts: Sequence[Sort], ask: Callable[[list[tuple[int, Question]]], Sequence[Answer]]
) -> Iterator[tuple[int, Sorted]]:
    """Advance many sorts together, so that each round asks the questions of all of them at once.

    Args:
        sorts: fresh sorts, one for each query.
        ask: takes the round's questions, each with the index of its sort, and returns an answer for each.

    Yields:
        The index and the result of each sort as it finishes, equal to what it finds alone.
    """
    answers: dict[int, list[Answer]] | None = None
    waiting: dict[int, list[Question]] = {index: [] for index in range(len(sorts))}
    while waiting:
        asking: dict[int, list[Question]] = {}
        for index in waiting:
            try:
                asking[index] = next(sorts[index]) if answers is None else sorts[index].send(answers[index])
            except StopIteration as finished:
                yield index, finished.value
        waiting = asking
        asked = [(index, question) for index, questions in waiting.items() for question in questions]
        given = iter(ask(asked)) if asked else iter(())
        answers = {index: [next(given) for _ in questions] for index, questions in waiting.items()}
