"""The top of a long list in few questions, from an order that is trusted where answers contradict each other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sorting import best_first, names_the_best, nearly_sorted, run_alone, scores_of, votes_of

from tevatron_distill.plackett_luce import estimate_worths, most_likely_order
from tevatron_distill.sorting import heapsort, question_bounds, rechecked_heapsort

SHUFFLED = [random.Random(seed).sample(range(100), 100) for seed in range(5)]


def noisy(worth, seed, share):
    """A judge that answers a share of its questions at random, and a question always alike."""

    def answer(question):
        source = random.Random(f"{seed} {question}")
        guessed = source.random() < share
        scores = [source.random() if guessed else worth[position] for position in question]
        return tuple(float(score == max(scores)) for score in scores)

    return answer


@pytest.mark.parametrize("judge", [votes_of, names_the_best, scores_of])
@pytest.mark.parametrize("worth", [*SHUFFLED, nearly_sorted(1), list(range(100)), list(range(100, 0, -1))])
def test_a_perfect_judge_gives_the_exact_top_ten_of_a_hundred_in_sixty_questions(judge, worth):
    result, asked = run_alone(rechecked_heapsort(100), judge(worth))
    best = best_first(worth)[:10]
    assert result.order == (*best, *(position for position in range(100) if position not in best))
    assert (result.num_ranked, result.scores) == (10, None)
    assert len(asked) <= 60
    assert all(2 <= len(question) == len(set(question)) <= 10 for question in asked)


@given(st.lists(st.integers(-9, 9), max_size=14), st.integers(1, 16), st.integers(1, 9))
def test_a_perfect_judge_is_believed_whatever_the_settings(worth, top_k, num_child):
    most = question_bounds("heapsort", len(worth), top_k=top_k, num_child=num_child)[1]
    result, _ = run_alone(rechecked_heapsort(len(worth), top_k, num_child, most + 20), votes_of(worth))
    assert list(result.order[:top_k]) == best_first(worth)[:top_k]
    assert sorted(result.order) == list(range(len(worth)))


@settings(max_examples=30)
@given(st.data(), st.integers(0, 100), st.integers(1, 12))
def test_any_judge_gets_a_permutation_and_no_more_than_sixty_questions(data, num_passages, top_k):
    source = data.draw(st.randoms(use_true_random=False))
    levels = data.draw(st.integers(1, 4))
    result, asked = run_alone(
        rechecked_heapsort(num_passages, top_k), lambda question: [float(source.randrange(levels)) for _ in question]
    )
    assert sorted(result.order) == list(range(num_passages))
    assert result.num_ranked == min(top_k, num_passages)
    assert len(asked) <= 60
    assert all(2 <= len(question) == len(set(question)) <= 10 for question in asked)


def test_the_same_answers_give_the_same_questions_and_the_same_order():
    first, second = (run_alone(rechecked_heapsort(100), noisy(SHUFFLED[0], 1, 0.3)) for _ in range(2))
    assert first == second
    assert len(first[1]) > 40


def test_rechecks_show_no_set_that_was_shown():
    for seed in range(5):
        judge = noisy(SHUFFLED[seed], seed, 0.2)
        _, by_heap = run_alone(heapsort(100, 10, 9), judge)
        _, asked = run_alone(rechecked_heapsort(100), judge)
        assert asked[: len(by_heap)] == by_heap
        sets = {frozenset(question) for question in asked}
        assert len(sets) == len({frozenset(question) for question in by_heap}) + len(asked) - len(by_heap)


def test_rechecks_wait_for_no_answers_of_their_round():
    sort, rounds, answers = rechecked_heapsort(100), [], None
    judge = noisy(SHUFFLED[0], 0, 0.2)
    while True:
        try:
            questions = next(sort) if answers is None else sort.send(answers)
        except StopIteration:
            break
        rounds.append(len(questions))
        answers = [judge(question) for question in questions]
    assert [count for count in rounds if count > 1] == rounds[-3:]


def test_rechecks_undo_most_slips_of_a_heap():
    def found(sort, worth, seed):
        result, _ = run_alone(sort, noisy(worth, seed, 0.15))
        return len(set(result.order[:10]) & set(best_first(worth)[:10]))

    lists = [nearly_sorted(seed) for seed in range(30)]
    rechecked = sum(found(rechecked_heapsort(100), worth, seed) for seed, worth in enumerate(lists))
    believed = sum(found(heapsort(100, 10, 9), worth, seed) for seed, worth in enumerate(lists))
    assert 300 - rechecked <= (300 - believed) / 2


def test_too_few_questions_for_the_heap_are_refused():
    with pytest.raises(ValueError, match="max_questions >= 85 for 100 passages, top_k 10 and num_child 3; got 60"):
        next(rechecked_heapsort(100, 10, 3, 60))


def test_without_answers_the_given_order_stands():
    assert most_likely_order(5, []) == [0, 1, 2, 3, 4]


def test_a_choice_outweighs_the_prior_and_contradicting_choices_leave_it():
    forward, backward = ((0, 1), (1.0, 0.0)), ((0, 1), (0.0, 1.0))
    assert most_likely_order(2, [backward]) == [1, 0]
    assert most_likely_order(2, [forward, backward]) == [0, 1]
    assert most_likely_order(2, [forward, backward, backward]) == [1, 0]


def test_worths_are_those_of_the_most_likely_model():
    # at the maximum each passage has as many choices as were due to it: share of prior and of each set
    prior, choices, weight = [3.0, 2.0, 1.0], [{0: 0.0, 1: 1.0}, {0: 0.0, 1: 0.5, 2: 0.5}, {1: 0.0, 2: 1.0}], 0.5
    worths = estimate_worths(prior, choices, weight)
    for position, worth in enumerate(worths):
        gained = weight + sum(choice.get(position, 0.0) for choice in choices)
        due = weight / prior[position] + sum(
            1.0 / sum(worths[i] for i in choice) for choice in choices if position in choice
        )
        assert worth * due == pytest.approx(gained, rel=1e-4)
