"""A heap that believes its judge, and the questions that are left, spent on doubt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from tevatron_distill.plackett_luce import most_likely_order
from tevatron_distill.sorting.counts import NUM_RECHECK_ROUNDS, question_bounds
from tevatron_distill.sorting.lockstep import Answer, Question, Sort, Sorted
from tevatron_distill.sorting.sorts import check_top_k, heapsort


def rechecked_heapsort(num_passages: int, top_k: int = 10, num_child: int = 9, max_questions: int = 60) -> Sort:
    """Find the best ``top_k`` with a heap of large sets, then spend the questions that are left on doubt.

    A heap believes every answer. Here its best are shown once more in other company: each place with those behind it,
    the last places with those that were left out, in three rounds. If no answer of the first round contradicts what
    the heap has found, that is the result, so a judge that never errs gets the exact top. Otherwise the passages stand
    by the worths that make all answers most likely together with the given order, the prior: the better that is (a
    first stage, or a student's run), the fewer of the judge's slips stay. The others follow in first-stage order.

    Args:
        num_passages: how many passages are sorted.
        top_k: how many places are found, at least 1.
        num_child: passages beside the best so far in a question, at least 1.
        max_questions: questions in all, no fewer than `heapsort` may need.

    Source:
        Heap: Zhuang et al. 2024, arXiv 2310.09497. Prior: as Podolak et al. 2025, arXiv 2504.10509 (Setwise
        Insertion), use the first stage's order, but weighed against the answers (`plackett_luce`) and after the heap.
    """
    check_top_k("rechecked_heapsort", top_k, num_child)
    needed = question_bounds("heapsort", num_passages, top_k=top_k, num_child=num_child)[1]
    if needed > max_questions:
        raise ValueError(
            f"rechecked_heapsort needs max_questions >= {needed} for {num_passages} passages, top_k {top_k} and "
            f"num_child {num_child}; got {max_questions}"
        )
    answered: list[tuple[Question, Answer]] = []
    found = yield from _kept(heapsort(num_passages, top_k, num_child), answered)
    best = found.order[: found.num_ranked]
    contradicted = False
    for rounds_left in range(NUM_RECHECK_ROUNDS, 0, -1):
        order = most_likely_order(num_passages, answered)
        num_questions = max(0, max_questions - len(answered)) // rounds_left
        questions = _rechecks(order, found.num_ranked, num_child, num_questions, {frozenset(q) for q, _ in answered})
        if questions:
            answers = yield questions
            answered += zip(questions, answers, strict=True)
            contradicted |= any(map(partial(_contradicts, best), questions, answers))
        if not contradicted:
            break
    if contradicted:
        best = tuple(most_likely_order(num_passages, answered)[: found.num_ranked])
    return Sorted((*best, *sorted(set(range(num_passages)) - set(best))), len(best))


def _kept(sort: Sort, answered: list[tuple[Question, Answer]]) -> Sort:
    """The sort itself, with its questions and answers written down."""
    answers: Sequence[Answer] | None = None
    while True:
        try:
            questions = next(sort) if answers is None else sort.send(answers)
        except StopIteration as finished:
            result: Sorted = finished.value
            return result
        answers = yield questions
        answered += zip(questions, answers, strict=True)


def _rechecks(
    order: list[int], num_ranked: int, num_child: int, num_questions: int, asked: Collection[frozenset[int]]
) -> list[Question]:
    """Sets worth asking about: half of them at the edge of the top, the others from each place on."""
    outside = [order[start : start + num_child] for start in range(num_ranked, len(order), num_child)]
    edge = [[order[num_ranked - 1 - place % min(3, num_ranked)], *others] for place, others in enumerate(outside)]
    inside = [order[start : start + num_child + 1] for start in range(len(order) - 1)]
    chosen: list[Question] = []
    for sets, room in ((edge, round(num_questions / 2)), (inside, num_questions)):
        fresh = [tuple(sorted(shown)) for shown in sets if frozenset(shown) not in asked]
        chosen += [shown for shown in fresh if shown not in chosen][: room - len(chosen)]
    return chosen


def _contradicts(best: Sequence[int], question: Question, answer: Answer) -> bool:
    """Whether another passage is chosen than the one that stands first among the best."""
    scores = dict(zip(question, answer, strict=True))
    known = [position for position in best if position in scores]
    return bool(known) and scores[known[0]] < max(answer)
