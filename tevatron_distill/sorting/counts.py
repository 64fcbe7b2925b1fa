"""How many questions a sort asks, and of how many passages each."""

from __future__ import annotations

from tevatron_distill.sorting.sorts import window_bounds

NUM_RECHECK_ROUNDS = 3
"""In a round no question waits for another's answer; more rounds than three find nothing more."""


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
            sum(1 for _ in window_bounds(settled if shrinks else 0, num_passages, size, step))
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
