"""Sorts as pure generators that ask by ``yield``, and the runner that advances many of them together. No torch here.

A question names passages by their first-stage positions; its answer scores each passage named, higher is better.
A sort yields the questions of a round, receives their answers and returns a `Sorted`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from tevatron_distill.plackett_luce import most_likely_order

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


def pointwise(num_passages: int) -> Sort:
    """Ask about each passage by itself, all at once; equal scores keep the first-stage order.

    Args:
        num_passages: how many passages are sorted.
    """
    answers = yield [(position,) for position in range(num_passages)]
    scores = tuple(float(score) for [score] in answers)
    order = sorted(range(num_passages), key=lambda position: (-scores[position], position))
    return Sorted(tuple(order), num_passages, scores)


def allpair(num_passages: int) -> Sort:
    """Ask about every pair at once; a passage's score is the sum of its votes.

    Equal sums keep the first-stage order, which is what the published ``1 / (10 + rank)`` does to votes of 0, .5 and 1.

    Args:
        num_passages: how many passages are sorted.

    Source:
        Qin et al. 2023, arXiv 2306.17563 (PRP-Allpair); InstructDistill, arXiv 2311.01555.
    """
    pairs: list[Question] = [(i, j) for i in range(num_passages) for j in range(i + 1, num_passages)]
    scores = [0.0] * num_passages
    answers = yield pairs
    for (i, j), (score_i, score_j) in zip(pairs, answers, strict=True):
        scores[i] += score_i
        scores[j] += score_j
    order = sorted(range(num_passages), key=lambda position: (-scores[position], position))
    return Sorted(tuple(order), num_passages, tuple(scores))


def sliding_window(num_passages: int, num_passes: int = 1, window_size: int = 20, step_size: int = 10) -> Sort:
    """Sort from the back by overlapping windows, in one or more passes.

    A pass puts the best ``window_size - step_size`` passages in front. With windows of two it is bubblesort
    (PRP-sliding-K): a conflict swaps nothing, and a pass leaves alone the places that earlier passes have settled.
    A pass that changes nothing is the last one.

    Args:
        num_passages: how many passages are sorted.
        num_passes: how many times the list is walked through, at least 1.
        window_size: passages in a question, at least 2.
        step_size: how far the window moves, from 1 to ``window_size - 1``.

    Source:
        Sun et al. 2023, arXiv 2304.09542 (20/10); Qin et al. 2023, arXiv 2306.17563 (2/1). The first window is cut
        at the front where the steps do not end there, so that no passage is left out.
    """
    if num_passes < 1 or window_size < 2 or not 1 <= step_size < window_size:
        raise ValueError(
            "sliding_window needs num_passes >= 1 and 1 <= step_size < window_size; "
            f"got num_passes {num_passes}, window_size {window_size}, step_size {step_size}"
        )
    order = list(range(num_passages))
    for settled in range(num_passes):
        before = list(order)
        for start, end in _window_bounds(settled if window_size == 2 else 0, num_passages, window_size, step_size):
            window = tuple(order[start:end])
            [answer] = yield [window]
            order[start:end] = _best_first(window, answer)
        if order == before:
            break
    return Sorted(tuple(order), num_passages if window_size > 2 else min(num_passages, num_passes))


def _window_bounds(first: int, last: int, window_size: int, step_size: int) -> Iterator[tuple[int, int]]:
    end = last
    while end - first > 1:
        start = max(first, end - window_size)
        yield start, end
        if start == first:
            return
        end -= step_size


def _best_first(window: Question, answer: Answer) -> list[int]:
    scored = sorted(zip(answer, window, strict=True), key=lambda pair: -pair[0])
    return [position for _, position in scored]


def bubblesort(num_passages: int, top_k: int = 10, num_child: int = 3) -> Sort:
    """Find the best ``top_k`` passages one after the other, by carrying the best of each window to the front.

    A pass walks from the back through windows of ``num_child + 1`` passages that overlap by one; the best of a window
    moves to its front, the others keep their order, and ties move nothing. A window is asked about once. The answer
    needs to name the best of a window only (setwise).

    Args:
        num_passages: how many passages are sorted.
        top_k: how many places are found, at least 1.
        num_child: passages beside the best so far in a question, at least 1.

    Source:
        Zhuang et al. 2024, arXiv 2310.09497. Their code skips windows that it takes for settled, and so loses the best
        ones with many children; here no window is skipped, only not asked about again.
    """
    _check_top_k("bubblesort", top_k, num_child)
    order = list(range(num_passages))
    best_of: dict[Question, int] = {}
    for settled in range(min(top_k, num_passages)):
        for start, end in _window_bounds(settled, num_passages, num_child + 1, num_child):
            window = tuple(order[start:end])
            if window not in best_of:
                [answer] = yield [window]
                best_of[window] = _best_first(window, answer)[0]
            best = best_of[window]
            order[start:end] = [best, *(position for position in window if position != best)]
    return Sorted(tuple(order), min(top_k, num_passages))


def _check_top_k(sort: str, top_k: int, num_child: int) -> None:
    if top_k < 1 or num_child < 1:
        raise ValueError(f"{sort} needs top_k >= 1 and num_child >= 1; got top_k {top_k}, num_child {num_child}")


def heapsort(num_passages: int, top_k: int = 10, num_child: int = 1) -> Sort:
    """Find the best ``top_k`` passages with a heap; the others follow in first-stage order.

    A question is a parent with its ``num_child`` children (setwise). With ``num_child`` 1 the questions are pairs:
    the heap is binary, and the best so far is compared with one child after the other. Equal scores go to the
    passage that the first stage has in front.

    Args:
        num_passages: how many passages are sorted.
        top_k: how many places are found, at least 1.
        num_child: children in a question, at least 1.

    Source:
        Qin et al. 2023, arXiv 2306.17563 (pairs); Zhuang et al. 2024, arXiv 2310.09497 (setwise), whose ties leave
        the parent in place.
    """
    _check_top_k("heapsort", top_k, num_child)
    heap = list(range(num_passages))
    arity = max(2, num_child)
    for parent in reversed(range((num_passages + arity - 2) // arity)):
        yield from _sift_down(heap, parent, num_child)
    best: list[int] = []
    while heap and len(best) < top_k:
        best.append(heap[0])
        last = heap.pop()
        if heap and len(best) < top_k:
            heap[0] = last
            yield from _sift_down(heap, 0, num_child)
    rest = sorted(set(range(num_passages)) - set(best))
    return Sorted((*best, *rest), len(best))


def _sift_down(heap: list[int], parent: int, num_child: int) -> Generator[list[Question], Sequence[Answer], None]:
    arity = max(2, num_child)
    while children := list(range(parent * arity + 1, min(parent * arity + arity + 1, len(heap)))):
        best = parent
        for start in range(0, len(children), num_child):
            places = [best, *children[start : start + num_child]]
            [answer] = yield [tuple(heap[place] for place in places)]
            scored = zip(answer, places, strict=True)
            best = max(scored, key=lambda pair: (pair[0], -heap[pair[1]]))[1]
        if best == parent:
            return
        heap[parent], heap[best] = heap[best], heap[parent]
        parent = best


NUM_RECHECK_ROUNDS = 3
"""In a round no question waits for another's answer; more rounds than three find nothing more."""


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
    _check_top_k("rechecked_heapsort", top_k, num_child)
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


SORTS: dict[str, Callable[..., Sort]] = {
    "pointwise": pointwise,
    "allpair": allpair,
    "sliding_window": sliding_window,
    "heapsort": heapsort,
    "bubblesort": bubblesort,
    "rechecked_heapsort": rechecked_heapsort,
}
"""How passages are sorted; the first argument of each is the number of passages."""


def question_size(sort: str, window_size: int | None = None, num_child: int | None = None) -> int:
    """The most passages that a sort asks about at once.

    >>> question_size("allpair"), question_size("sliding_window", 20), question_size("heapsort", num_child=3)
    (2, 20, 4)
    """
    if sort == "pointwise":
        return 1
    if sort == "sliding_window":
        return window_size or 20
    if sort == "rechecked_heapsort":
        return 1 + (num_child or 9)
    return 2 if sort == "allpair" else 1 + (num_child or 1)


def question_bounds(
    sort: str,
    num_passages: int,
    *,
    num_passes: int | None = None,
    window_size: int | None = None,
    step_size: int | None = None,
    top_k: int = 10,
    num_child: int | None = None,
    max_questions: int | None = None,
) -> tuple[int, int]:
    """The least and the most different questions that a sort asks; equal where the answers do not matter.

    Of a pair, both orders are one question.

    Args:
        sort: key of `SORTS`.
        num_passages: how many passages are sorted.
        num_passes, window_size, step_size, top_k, num_child, max_questions: as the sort takes them.

    >>> question_bounds("allpair", 100), question_bounds("sliding_window", 100, window_size=20, step_size=10)
    ((4950, 4950), (9, 9))
    >>> question_bounds("heapsort", 100, top_k=10, num_child=1)
    (99, 300)
    """
    num_pairs = num_passages * (num_passages - 1) // 2
    if sort == "pointwise":
        return num_passages, num_passages
    if sort == "allpair":
        return num_pairs, num_pairs
    if sort == "heapsort":
        least, most = _heap_bounds(num_passages, top_k, num_child or 1)
    elif sort == "rechecked_heapsort":
        least, heap = _heap_bounds(num_passages, top_k, num_child or 9)
        most = heap + NUM_RECHECK_ROUNDS * 2 * (num_passages - 1) if num_passages > 2 else heap
        most = min(most, max_questions or 60)
    else:
        bubbles = sort == "bubblesort"
        size = (num_child or 3) + 1 if bubbles else window_size or 20
        step = size - 1 if bubbles else step_size or 10
        passes = min(top_k, num_passages) if bubbles else num_passes or 1
        shrinks = bubbles or size == 2
        windows = [
            sum(1 for _ in _window_bounds(settled if shrinks else 0, num_passages, size, step))
            for settled in range(passes)
        ]
        least, most = windows[0] if windows else 0, sum(windows)
    pairs_only = question_size(sort, window_size, num_child) == 2
    return least, min(most, num_pairs) if pairs_only else most


def _heap_bounds(num_passages: int, top_k: int, num_child: int) -> tuple[int, int]:
    """Building the heap asks each parent about its children; a passage may then sink along the longest path."""
    arity = max(2, num_child)

    def asked(parent: int, size: int) -> int:
        return -(-max(0, min(arity, size - parent * arity - 1)) // num_child)

    def sunk(parent: int, size: int) -> int:
        total = 0
        while questions := asked(parent, size):
            total += questions
            parent = parent * arity + 1
        return total

    parents = range((num_passages + arity - 2) // arity)
    least = sum(asked(parent, num_passages) for parent in parents)
    built = sum(sunk(parent, num_passages) for parent in parents)
    return least, built + sum(sunk(0, num_passages - found) for found in range(1, min(top_k, num_passages)))


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
