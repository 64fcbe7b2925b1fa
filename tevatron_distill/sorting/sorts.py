"""The published sorts, as pure generators."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from tevatron_distill.sorting.lockstep import Answer, Question, Sort, Sorted


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
        for start, end in window_bounds(settled if window_size == 2 else 0, num_passages, window_size, step_size):
            window = tuple(order[start:end])
            [answer] = yield [window]
            order[start:end] = _best_first(window, answer)
        if order == before:
            break
    return Sorted(tuple(order), num_passages if window_size > 2 else min(num_passages, num_passes))


def window_bounds(first: int, last: int, window_size: int, step_size: int) -> Iterator[tuple[int, int]]:
    """Where the windows of a pass begin and end, from the back to the front."""
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
    check_top_k("bubblesort", top_k, num_child)
    order = list(range(num_passages))
    best_of: dict[Question, int] = {}
    for settled in range(min(top_k, num_passages)):
        for start, end in window_bounds(settled, num_passages, num_child + 1, num_child):
            window = tuple(order[start:end])
            if window not in best_of:
                [answer] = yield [window]
                best_of[window] = _best_first(window, answer)[0]
            best = best_of[window]
            order[start:end] = [best, *(position for position in window if position != best)]
    return Sorted(tuple(order), min(top_k, num_passages))


def check_top_k(sort: str, top_k: int, num_child: int) -> None:
    """Refuse what no heap can sort.

    Raises:
        ValueError: if one of the two is below 1.
    """
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
    check_top_k("heapsort", top_k, num_child)
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
