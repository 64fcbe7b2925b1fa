"""Sorts as pure generators, how many questions each asks, and the runner that advances many together. No torch here."""

from __future__ import annotations

from collections.abc import Callable

from tevatron_distill.sorting.counts import question_bounds, question_size
from tevatron_distill.sorting.lockstep import Answer, Question, Sort, Sorted, run_in_lockstep
from tevatron_distill.sorting.rechecked_heapsort import rechecked_heapsort
from tevatron_distill.sorting.sorts import allpair, bubblesort, heapsort, pointwise, sliding_window

__all__ = [
    "SORTS",
    "Answer",
    "Question",
    "Sort",
    "Sorted",
    "allpair",
    "bubblesort",
    "heapsort",
    "pointwise",
    "question_bounds",
    "question_size",
    "rechecked_heapsort",
    "run_in_lockstep",
    "sliding_window",
]

SORTS: dict[str, Callable[..., Sort]] = {
    "pointwise": pointwise,
    "allpair": allpair,
    "sliding_window": sliding_window,
    "heapsort": heapsort,
    "bubblesort": bubblesort,
    "rechecked_heapsort": rechecked_heapsort,
}
"""How passages are sorted; the first argument of each is the number of passages."""
