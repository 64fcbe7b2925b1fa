"""How many questions a sort asks, before it asks them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.sorting import SORTS, question_bounds

SETTINGS = {
    "pointwise": [{}],
    "allpair": [{}],
    "sliding_window": [
        {"num_passes": passes, "window_size": window, "step_size": step}
        for passes in (1, 2, 5)
        for window, step in ((2, 1), (4, 2), (5, 1), (20, 10))
    ],
    "heapsort": [{"top_k": top_k, "num_child": children} for top_k in (1, 3, 50) for children in (1, 2, 3)],
    "bubblesort": [{"top_k": top_k, "num_child": children} for top_k in (1, 3, 50) for children in (1, 2, 3)],
}
SETTINGS["rechecked_heapsort"] = [
    {"top_k": top_k, "num_child": children, "max_questions": questions}
    for top_k in (1, 3, 50)
    for children, questions in ((1, 250), (9, 70))
]
CASES = [(sort, settings) for sort in SORTS for settings in SETTINGS[sort]]


def num_asked(sort, settings, num_passages, answer):
    """Different questions of a sort, a pair in both orders being one."""
    asked = set()
    running = SORTS[sort](num_passages, **settings)
    try:
        questions = next(running)
        while True:
            asked |= {tuple(sorted(question)) if len(question) == 2 else question for question in questions}
            questions = running.send([answer(question) for question in questions])
    except StopIteration:
        return len(asked)


@given(st.integers(0, 30), st.randoms(use_true_random=False), st.sampled_from(CASES))
def test_a_sort_asks_no_fewer_and_no_more(num_passages, random, case):
    sort, settings = case
    least, most = question_bounds(sort, num_passages, **settings)
    worth = [random.random() for _ in range(num_passages)]
    answers = {
        "by worth": lambda question: [worth[position] for position in question],
        "at random": lambda question: [random.random() for _ in question],
        "ties": lambda question: [0.0] * len(question),
        "backwards": lambda question: [float(position) for position in question],
        "forwards": lambda question: [-float(position) for position in question],
    }
    for name, answer in answers.items():
        assert least <= num_asked(sort, settings, num_passages, answer) <= most, name


@pytest.mark.parametrize(
    ("sort", "settings", "expected"),
    [
        ("pointwise", {}, 100),
        ("allpair", {}, 100 * 99 // 2),
        ("sliding_window", {"window_size": 20, "step_size": 10}, (100 - 20) // 10 + 1),
        ("sliding_window", {"window_size": 20, "step_size": 10, "num_passes": 1}, 9),
        ("sliding_window", {"window_size": 2, "step_size": 1, "num_passes": 1}, 99),
    ],
)
def test_a_sort_whose_questions_do_not_depend_on_answers_is_exact(sort, settings, expected):
    assert question_bounds(sort, 100, **settings) == (expected, expected)


@pytest.mark.parametrize(
    ("num_child", "expected"), [(1, (99, 300)), (2, (50, 151)), (3, (33, 85)), (9, (11, 40)), (19, (6, 25))]
)
def test_the_top_ten_of_a_hundred_by_a_heap(num_child, expected):
    # 85 is what setwise asks at the most, with three children
    assert question_bounds("heapsort", 100, top_k=10, num_child=num_child) == expected


def test_a_rechecked_heap_keeps_to_its_questions():
    assert question_bounds("rechecked_heapsort", 100) == (11, 60)
    assert question_bounds("rechecked_heapsort", 100, max_questions=50) == (11, 50)
    assert [question_bounds("rechecked_heapsort", few) for few in (0, 1, 2)] == [(0, 0), (0, 0), (1, 1)]


def test_prp_sliding_ten_compares_at_most_945_pairs_of_a_hundred():
    settings = {"num_passes": 10, "window_size": 2, "step_size": 1}
    assert question_bounds("sliding_window", 100, **settings) == (99, sum(range(90, 100)))
