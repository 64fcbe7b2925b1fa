"""Laws of permutations."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.permutation import (
    FUSIONS,
    RANK_TRANSFORMS,
    check_permutation,
    complete_permutation,
    from_scores,
    fuse,
    invert,
    labels_from_ranks,
)
from tevatron_distill.schema import InputError

orders = st.integers(1, 8).flatmap(lambda size: st.permutations(range(size))).map(tuple)


@given(orders)
def test_inverting_twice_gives_the_permutation_back(order):
    assert invert(invert(order)) == order
    assert [invert(order)[position] for position in order] == list(range(len(order)))


@given(st.lists(st.floats(-10, 10), min_size=1))
def test_an_order_from_scores_falls_and_keeps_ties_in_place(scores):
    order = from_scores(scores)
    assert check_permutation(order, len(scores)) == order
    for first, second in itertools.pairwise(order):
        assert scores[first] > scores[second] or (scores[first] == scores[second] and first < second)


@pytest.mark.parametrize("wrong", [[0, 1, 1], [0, 1], [0, 1, 3], [0, 1, -1], [0, 1, True], [0, 1, "2"], [0, 1, 2.0]])
def test_what_is_no_permutation_is_refused_with_what_came(wrong):
    with pytest.raises(InputError, match=r"must list each of 0\.\.2 once; got \["):
        check_permutation(wrong, 3)


def test_nan_scores_cannot_be_ordered():
    with pytest.raises(InputError, match="nan"):
        from_scores([1.0, float("nan")])


@pytest.mark.parametrize("transform", RANK_TRANSFORMS)
@given(order=orders)
def test_labels_fall_with_rank_and_the_best_is_one(transform, order):
    labels = labels_from_ranks([place + 1 for place in invert(order)], transform)
    assert labels[order[0]] == 1.0
    assert from_scores(labels) == order
    assert all(0 < label <= 1 for label in labels)


def test_an_unknown_label_transform_is_refused():
    with pytest.raises(InputError, match="reciprocal, linear"):
        labels_from_ranks([1], "cubic")


@pytest.mark.parametrize("method", FUSIONS)
@given(order=orders, times=st.integers(1, 3))
def test_equal_orders_fuse_to_themselves(method, order, times):
    assert fuse([order] * times, method) == order


same_size = st.integers(1, 7).flatmap(
    lambda size: st.lists(st.permutations(range(size)).map(tuple), min_size=1, max_size=5)
)


@pytest.mark.parametrize("method", FUSIONS)
@given(several=same_size, seed=st.randoms(use_true_random=False))
def test_fusion_does_not_depend_on_who_speaks_first(method, several, seed):
    again = list(several)
    seed.shuffle(again)
    assert fuse(several, method) == fuse(again, method)


@pytest.mark.parametrize("method", FUSIONS)
@given(several=same_size)
def test_what_all_put_before_another_stays_before_it(method, several):
    fused = invert(fuse(several, method))
    places = [invert(order) for order in several]
    for i, j in itertools.permutations(range(len(fused)), 2):
        if all(place[i] < place[j] for place in places):
            assert fused[i] < fused[j]


@given(several=same_size, data=st.data())
def test_borda_counts_how_many_stand_behind_and_shares_the_tied_places(several, data):
    size = len(several[0])
    ranked = [data.draw(st.integers(0, size)) for _ in several]
    points = [0.0] * size
    for order, number in zip(several, ranked, strict=True):
        for i, j in itertools.permutations(range(size), 2):
            i_place, j_place = (min(order.index(position), number) for position in (i, j))
            points[i] += 1.0 if i_place < j_place else 0.5 if i_place == j_place else 0.0
    assert fuse(several, "borda", num_ranked=ranked) == from_scores(points)


def test_an_order_gives_nothing_to_passages_that_it_does_not_rank():
    # position 1: 1/61, position 0: 1/62, position 2: nothing twice
    assert fuse([(0, 1, 2), (1, 0, 2)], num_ranked=[0, 2]) == (1, 0, 2)
    assert fuse([(2, 1, 0)], num_ranked=[0]) == (0, 1, 2)


def test_fusion_sums_reciprocal_ranks():
    # position 0: 1/61 + 1/63, position 1: 1/62 + 1/61, position 2: 1/63 + 1/62
    assert fuse([(0, 1, 2), (1, 2, 0)]) == (1, 0, 2)
    with pytest.raises(InputError, match="at least one"):
        fuse([])
    with pytest.raises(InputError, match="each of"):
        fuse([(0, 1), (0, 1, 2)])
    with pytest.raises(InputError, match="one of rrf, borda; got 'vote'"):
        fuse([(0, 1)], "vote")


def test_completing_an_order_refuses_repeats():
    assert complete_permutation([3, 1], 5) == (3, 1, 0, 2, 4)
    with pytest.raises(InputError, match="each of"):
        complete_permutation([1, 1], 3)
