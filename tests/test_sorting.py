from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.sorting import SORTS, allpair, heapsort, run_in_lockstep, sliding_window

PAIR_SORTS = {
    "allpair": lambda n, k: allpair(n),
    "sliding_window": lambda n, k: sliding_window(n, num_passes=k, window_size=2, step_size=1),
    "heapsort": lambda n, k: heapsort(n, top_k=k, num_child=1),
}


def votes_of(worth):
    """A judge that gives its vote to the worthiest passages of a question, shared by those that tie."""

    def answer(question):
        best = max(worth[position] for position in question)
        winners = [position for position in question if worth[position] == best]
        return tuple(float(position in winners) / len(winners) for position in question)

    return answer


def scores_of(worth):
    return lambda question: tuple(worth[position] for position in question)


def run_alone(sort, judge):
    """Drive one sort by hand; returns its result and every question it asked."""
    asked = []
    answers = None
    while True:
        try:
            questions = next(sort) if answers is None else sort.send(answers)
        except StopIteration as finished:
            return finished.value, asked
        asked += questions
        answers = [judge(question) for question in questions]


worths = st.lists(st.integers(-5, 5), min_size=0, max_size=14)
distinct_worths = st.lists(st.integers(-50, 50), min_size=0, max_size=14, unique=True)


def best_first(worth):
    return sorted(range(len(worth)), key=lambda position: (-worth[position], position))


def test_every_sort_of_the_table_has_pairs_tested_here():
    assert set(PAIR_SORTS) == set(SORTS)


@pytest.mark.parametrize("name", PAIR_SORTS)
@given(worth=distinct_worths, top_k=st.integers(1, 16))
def test_a_perfect_judge_of_pairs_gets_the_true_top_k(name, worth, top_k):
    result, _ = run_alone(PAIR_SORTS[name](len(worth), top_k), votes_of(worth))
    assert list(result.order[:top_k]) == best_first(worth)[:top_k]
    assert result.num_ranked == (len(worth) if name == "allpair" else min(top_k, len(worth)))


@given(worth=distinct_worths, top_k=st.integers(1, 16), num_child=st.integers(1, 20))
def test_heapsort_is_exact_for_any_number_of_children(worth, top_k, num_child):
    result, asked = run_alone(heapsort(len(worth), top_k, num_child), votes_of(worth))
    ranked = best_first(worth)[:top_k]
    rest = [position for position in range(len(worth)) if position not in ranked]
    assert result.order == (*ranked, *rest)
    assert all(2 <= len(question) <= num_child + 1 for question in asked)


@given(worth=worths, top_k=st.integers(1, 16), num_child=st.integers(1, 5))
def test_heapsort_breaks_ties_by_the_first_stage(worth, top_k, num_child):
    result, _ = run_alone(heapsort(len(worth), top_k, num_child), votes_of(worth))
    assert list(result.order[:top_k]) == best_first(worth)[:top_k]


@given(worth=distinct_worths, window_size=st.integers(3, 8), step=st.integers(1, 7))
def test_a_pass_of_windows_puts_the_best_in_front(worth, window_size, step):
    step_size = min(step, window_size - 1)
    result, asked = run_alone(sliding_window(len(worth), 1, window_size, step_size), scores_of(worth))
    exact = window_size - step_size
    assert list(result.order[:exact]) == best_first(worth)[:exact]
    assert {position for question in asked for position in question} == set(range(len(worth)) if len(worth) > 1 else ())
    assert result.num_ranked == len(worth)


@pytest.mark.parametrize("name", PAIR_SORTS)
@given(num_passages=st.integers(0, 14), top_k=st.integers(1, 16))
def test_a_judge_without_an_opinion_leaves_the_first_stage_order(name, num_passages, top_k):
    result, _ = run_alone(PAIR_SORTS[name](num_passages, top_k), lambda question: (1.0, 1.0))
    assert result.order == tuple(range(num_passages))


@pytest.mark.parametrize("name", SORTS)
@given(data=st.data(), num_passages=st.integers(0, 12))
def test_a_lying_judge_still_gets_a_permutation(name, data, num_passages):
    keywords = {
        "allpair": {},
        "sliding_window": {"num_passes": 3, "window_size": 4, "step_size": 2},
        "heapsort": {"top_k": 5, "num_child": 3},
    }[name]
    numbers = st.floats(allow_nan=False)
    result, _ = run_alone(
        SORTS[name](num_passages, **keywords), lambda question: tuple(data.draw(numbers) for _ in question)
    )
    assert sorted(result.order) == list(range(num_passages))
    assert 0 <= result.num_ranked <= num_passages


def test_all_pairs_sums_the_votes_and_breaks_ties_by_the_first_stage():
    votes = {(0, 1): (0, 2), (0, 2): (1, 1), (1, 2): (0.5, 1.5)}
    result, asked = run_alone(allpair(3), lambda question: votes[question])
    assert asked == [(0, 1), (0, 2), (1, 2)]
    assert result.scores == (0 + 1, 2 + 0.5, 1 + 1.5)
    assert result.order == (1, 2, 0)


def test_a_conflict_swaps_nothing_in_bubblesort():
    votes = {(1, 2): (1.0, 1.0), (0, 1): (0.5, 1.5)}
    result, asked = run_alone(sliding_window(3, 1, 2, 1), lambda question: votes[question])
    assert asked == [(1, 2), (0, 1)]
    assert (result.order, result.num_ranked) == ((1, 0, 2), 1)


def test_the_windows_of_rankgpt_are_nine():
    _, asked = run_alone(sliding_window(100, 1, 20, 10), scores_of(list(range(100))))
    assert [len(question) for question in asked] == [20] * 9
    assert asked[0] == tuple(range(80, 100))


@pytest.mark.parametrize(
    ("sort", "fewest", "most"),
    [
        (lambda: allpair(100), 100 * 99 // 2, 100 * 99 // 2),
        (lambda: sliding_window(100, 10, 2, 1), 10 * 99 - 45, 10 * 99 - 45),
        (lambda: heapsort(100, 10, 1), 230, 300),
        (lambda: heapsort(100, 10, 2), 110, 140),
        (lambda: heapsort(100, 10, 3), 65, 90),
        (lambda: heapsort(100, 10, 9), 25, 40),
        (lambda: heapsort(100, 10, 19), 15, 30),
    ],
)
def test_the_number_of_questions_is_as_published(sort, fewest, most):
    worth = list(range(100))
    random.Random(0).shuffle(worth)
    _, asked = run_alone(sort(), votes_of(worth))
    assert fewest <= len(asked) <= most


def test_a_pass_that_changes_nothing_is_the_last():
    _, asked = run_alone(sliding_window(10, 5, 2, 1), votes_of(list(range(10, 0, -1))))
    assert len(asked) == 9


@given(
    worths=st.lists(worths, max_size=6),
    name=st.sampled_from(sorted(PAIR_SORTS)),
    top_k=st.integers(1, 10),
)
def test_many_queries_in_lockstep_find_what_each_finds_alone(worths, name, top_k):
    make = PAIR_SORTS[name]
    judges = [votes_of(worth) for worth in worths]
    together = dict(
        run_in_lockstep(
            [make(len(worth), top_k) for worth in worths],
            lambda asked: [judges[index](question) for index, question in asked],
        )
    )
    alone = {index: run_alone(make(len(worth), top_k), judges[index])[0] for index, worth in enumerate(worths)}
    assert together == alone


def test_a_round_asks_the_questions_of_all_queries_at_once():
    rounds = []

    def ask(asked):
        rounds.append([index for index, _ in asked])
        return [(1.0, 0.0)] * len(asked)

    finished = [index for index, _ in run_in_lockstep([sliding_window(n, 1, 2, 1) for n in (4, 1, 3)], ask)]
    assert rounds == [[0, 2], [0, 2], [0]]
    assert finished == [1, 2, 0]


@pytest.mark.parametrize(
    "sort",
    [
        lambda: sliding_window(5, 0, 2, 1),
        lambda: sliding_window(5, 1, 1, 1),
        lambda: sliding_window(5, 1, 2, 2),
        lambda: heapsort(5, 0, 1),
        lambda: heapsort(5, 1, 0),
    ],
)
def test_a_sort_refuses_settings_that_cannot_sort(sort):
    with pytest.raises(ValueError, match="needs"):
        next(sort())
