"""Heaps and bubbles against what llm-rankers asked a judge, question by question, and where that led.

Half of the judges of heaps contradict themselves: whom they name best depends on the set alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tevatron_distill.sorting import bubblesort, heapsort, run_in_lockstep

RECORDED = json.loads((Path(__file__).parent / "recorded" / "sorts.json").read_text(encoding="utf-8"))["sorts"]


def of(*names):
    chosen = [one for one in RECORDED if one["sort"] in names]
    return pytest.mark.parametrize("recorded", chosen, ids=lambda one: f"{one['num_child']}-{one['size']}")


def asked_anew(sort, recorded):
    """The questions that our sort asks of the same judge, each as a set with its best, and the order that it finds."""
    named = {frozenset(shown): best for shown, best in recorded["asked"]}
    asked = []

    def ask(questions):
        answers = []
        for _, shown in questions:
            best = named[frozenset(shown)]
            asked.append((frozenset(shown), best))
            answers.append([float(position == best) for position in shown])
        return answers

    fresh = sort(recorded["size"], recorded["top_k"], recorded["num_child"])
    [(_, found)] = run_in_lockstep([fresh], ask)
    return asked, found


@of("heapsort", "pairwise heapsort")
def test_a_heap_asks_the_same_questions_one_after_the_other(recorded):
    asked, found = asked_anew(heapsort, recorded)
    assert asked == [(frozenset(shown), best) for shown, best in recorded["asked"]]
    assert list(found.order) == recorded["order"]


@of("bubblesort")
def test_bubblesort_finds_the_top_that_it_finds_there(recorded):
    """There the best of a window changes places with its first and the rest end as the first stage had them, here the
    others move up and stay so; and no window is asked about twice."""
    asked = []

    def ask(questions):
        asked.extend(shown for _, shown in questions)
        return [[recorded["worths"][position] for position in shown] for _, shown in questions]

    fresh = bubblesort(recorded["size"], recorded["top_k"], recorded["num_child"])
    [(_, found)] = run_in_lockstep([fresh], ask)
    top = recorded["top_k"]
    assert list(found.order[:top]) == recorded["order"][:top]
    assert len(asked) <= max(5, len(recorded["asked"]))
