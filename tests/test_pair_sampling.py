"""Pairs shown to a student that compares."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.pair_sampling import PAIR_SAMPLINGS, draw_pairs
from tevatron_distill.schema import Group, Passage

ORDER = (4, 2, 0, 5, 1, 3)


def group_of(order=ORDER, texts=None) -> Group:
    passages = tuple(Passage(str(n), texts[n] if texts else f"text {n}") for n in range(len(order)))
    return Group("q", "query", passages, tuple(order), len(order))


def drawn(mode: str, num_pos: int = 1, num_neg: int = 1, ratio: float = 0.4, seed: int = 0, group=None):
    return draw_pairs(group or group_of(), mode, num_pos, num_neg, ratio, random.Random(seed))


def unordered(pairs) -> list[tuple[int, ...]]:
    return [tuple(sorted(pair)) for pair in pairs]


def test_top_bottom_pairs_the_best_with_the_worst_one_by_one():
    assert unordered(drawn("top_bottom", 2, 3)) == [(1, 4), (2, 3)]
    assert unordered(drawn("top_bottom", 4, 4)) == [(0, 4), (2, 5), (0, 1), (3, 5)]


def test_more_than_there_are_pairs_neighbours_and_nothing_with_itself():
    assert unordered(drawn("top_bottom", 9, 9)) == [(2, 4), (0, 2), (0, 5), (1, 5), (1, 3)]


def test_uniform_pairs_neighbours_at_a_stride():
    assert unordered(drawn("uniform", ratio=0.4)) == [(0, 4), (0, 1)]  # int(1 / 0.4) = 2: places 0, 2, 4
    assert unordered(drawn("uniform", ratio=0.1)) == [(3, 4)]  # a stride of 10 ends at the last place


def test_all_pair_is_a_few_pairs_by_chance_and_all_is_all():
    few = unordered(drawn("all_pair", 5, 7))
    assert len(few) == len(set(few)) == 5
    assert len(set(unordered(drawn("all")))) == 6 * 5 / 2


def test_random_does_not_crash_and_takes_a_share():
    assert len(drawn("random", ratio=0.5)) == 6 * 0.5
    assert len(drawn("random", ratio=0.01)) == 1


def test_which_one_stands_first_is_chance():
    firsts = {drawn("top_bottom", seed=seed) for seed in range(20)}
    assert firsts == {((4, 3),), ((3, 4),)}


@given(
    mode=st.sampled_from(PAIR_SAMPLINGS),
    order=st.integers(1, 9).flatmap(lambda count: st.permutations(range(count))),
    letters=st.lists(st.sampled_from("ab"), min_size=9, max_size=9),
    num_pos=st.integers(1, 12),
    num_neg=st.integers(1, 12),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_pairs_are_of_two_different_texts_and_the_seed_settles_them(
    mode, order, letters, num_pos, num_neg, ratio, seed
):
    group = group_of(order, [letter * (1 + n // 3) for n, letter in enumerate(letters)])
    pairs = drawn(mode, num_pos, num_neg, ratio, seed, group)
    texts = [passage.text for passage in group.passages]
    assert all(texts[i] != texts[j] for i, j in pairs)
    assert bool(pairs) == (len(set(texts)) > 1)
    assert pairs == drawn(mode, num_pos, num_neg, ratio, seed, group)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be one of top_bottom"):
        drawn("some")


def test_the_dataset_fills_in_the_pairs_of_the_drawn_group():
    dataset = TeacherPermutationDataset([group_of()], 4, pair_sampling="top_bottom")
    for _ in range(3):
        group = dataset[0]
        assert unordered(group.pairs) == [tuple(sorted((group.permutation[0], group.permutation[-1])))]
