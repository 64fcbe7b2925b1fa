from __future__ import annotations

from collections import Counter

import pytest
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tevatron_distill.dataset import FILLER, EvenSampler, TeacherPermutationDataset
from tevatron_distill.schema import Group, InputError, Passage


def group_of(size: int, judgements: tuple[float, ...] | None = None, query_id: str = "q") -> Group:
    passages = tuple(Passage(f"d{place}", f"text {place}") for place in range(size))
    return Group(query_id, "query", passages, tuple(reversed(range(size))), size, judgements=judgements)


def docids(group: Group) -> list[str]:
    return [passage.docid for passage in group.passages]


@given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 3), st.integers(0, 9))
def test_a_drawn_group_depends_on_seed_epoch_and_index_alone(size, train_group_size, epoch, seed):
    groups = [group_of(size, query_id=str(number)) for number in range(3)]
    first = TeacherPermutationDataset(groups, train_group_size, seed)
    second = TeacherPermutationDataset(groups, train_group_size, seed)
    first.set_epoch(epoch)
    second.set_epoch(epoch)
    forwards = [first[index] for index in range(3)]
    backwards = [second[index] for index in (2, 1, 0)]
    assert forwards == backwards[::-1]
    assert all(len(group.passages) == min(size, train_group_size) for group in forwards)


@pytest.mark.parametrize(("seed", "epoch", "index"), [(43, 0, 0), (42, 1, 0), (42, 0, 1)])
def test_another_seed_epoch_or_index_draws_another_group(seed, epoch, index):
    groups = [group_of(100), group_of(100)]
    other = TeacherPermutationDataset(groups, train_group_size=8, seed=seed)
    other.set_epoch(epoch)
    # two draws of 8 out of 100 are equal once in 186 billion
    assert docids(other[index]) != docids(TeacherPermutationDataset(groups, train_group_size=8, seed=42)[0])


def test_drawn_passages_stand_in_the_first_stages_order():
    drawn = docids(TeacherPermutationDataset([group_of(100)], train_group_size=50)[0])
    assert drawn == sorted(drawn, key=lambda docid: int(docid[1:]))


def test_of_a_drawn_group_only_what_the_teacher_ranked_is_ranked():
    taught = group_of(4)  # best first: 3, 2, 1, 0
    drawn = Group("q", "query", taught.passages, taught.permutation, num_ranked=2).select([0, 1, 2])
    assert (drawn.permutation, drawn.num_ranked, drawn.ranks()) == ((2, 1, 0), 1, (2, 2, 1))


def test_uniform_drawing_reaches_the_teachers_worst_passages():
    dataset = TeacherPermutationDataset([group_of(20)], train_group_size=8)
    seen: Counter[str] = Counter()
    for epoch in range(100):
        dataset.set_epoch(epoch)
        seen.update(docids(dataset[0]))
    assert set(seen) == {f"d{place}" for place in range(20)}
    # each passage is drawn with probability 8/20; five standard deviations around 100 * 0.4
    assert all(abs(count - 100 * 0.4) < 5 * (100 * 0.4 * 0.6) ** 0.5 for count in seen.values())


def test_top_takes_the_teachers_first_passages_in_first_stage_order():
    dataset = TeacherPermutationDataset([group_of(20)], train_group_size=8, sampling="top")
    assert docids(dataset[0]) == [f"d{place}" for place in range(12, 20)]
    assert dataset[0].permutation == tuple(reversed(range(8)))


def test_a_judged_group_gets_one_positive_and_all_negatives_are_seen_in_turn():
    judged = group_of(9, judgements=(1, 0, 0, 1, 0, 0, 0, 0, 0))
    dataset = TeacherPermutationDataset([judged], train_group_size=4)
    positives, negatives = [], []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        first, *others = docids(dataset[0])
        positives.append(first)
        negatives += others
    assert set(positives[:2]) == {"d0", "d3"}
    assert positives[:2] == positives[2:]
    # 7 negatives, 3 an epoch: after 3 epochs (9 places) each was seen, none more than twice
    assert set(negatives[:9]) == {"d1", "d2", "d4", "d5", "d6", "d7", "d8"}
    assert max(Counter(negatives[:9]).values()) == 2


def test_without_shuffling_the_first_positive_and_the_first_negatives_are_taken():
    judged = group_of(6, judgements=(0, 1, 0, 1, 0, 0))
    dataset = TeacherPermutationDataset([judged], 3, positive_passage_no_shuffle=True, negative_passage_no_shuffle=True)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert docids(dataset[0]) == ["d1", "d0", "d2"]


def test_too_few_negatives_give_a_smaller_group_and_no_repeats():
    dataset = TeacherPermutationDataset([group_of(3, judgements=(0, 1, 0))], train_group_size=8)
    assert sorted(docids(dataset[0])) == ["d0", "d1", "d2"]


def test_a_group_without_a_relevant_passage_cannot_give_one_positive():
    dataset = TeacherPermutationDataset([group_of(3, judgements=(0, 0, 0))], train_group_size=2)
    with pytest.raises(InputError, match=r'query_id "q".*judged relevant'):
        dataset[0]


def test_no_groups_are_refused():
    with pytest.raises(InputError, match="at least one group"):
        TeacherPermutationDataset([])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_persistent_workers_see_the_epoch_change():
    dataset = TeacherPermutationDataset([group_of(30, query_id=str(number)) for number in range(4)], 5)
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=list, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert [group for batch in loader for group in batch] == [dataset[index] for index in range(4)]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("top_bottom", {0, 1, 7, 8, 9}),  # the permutation is reversed: the best stand last
        ("stride", {9, 7, 5, 3, 1}),  # every int(1 / .4) = second place
    ],
)
def test_the_ends_of_the_permutation_are_drawn(sampling, expected):
    dataset = TeacherPermutationDataset(
        [group_of(10)], 10, sampling=sampling, num_pos=3, num_neg=2, sub_sampling_ratio=0.4
    )
    assert set(docids(dataset[0])) == {f"d{place}" for place in expected}


@pytest.mark.parametrize(("sampling", "always"), [("top_random", {7, 8, 9}), ("random_bottom", {0, 1})])
def test_one_end_stays_and_the_others_are_drawn_by_chance(sampling, always):
    dataset = TeacherPermutationDataset([group_of(10)], 10, sampling=sampling, num_pos=3, num_neg=2)
    seen = set()
    for epoch in range(60):
        dataset.set_epoch(epoch)
        drawn = docids(dataset[0])
        assert len(drawn) == len(set(drawn)) == 5
        assert {f"d{place}" for place in always} <= set(drawn)
        seen.update(drawn)
    assert seen == {f"d{place}" for place in range(10)}


@pytest.mark.parametrize("sampling", ["top_bottom", "top_random", "random_bottom"])
def test_a_small_group_is_drawn_whole_and_no_passage_twice(sampling):
    dataset = TeacherPermutationDataset([group_of(3)], 10, sampling=sampling, num_pos=2, num_neg=2)
    assert sorted(docids(dataset[0])) == ["d0", "d1", "d2"]


def test_windows_of_variable_length_stand_in_random_order_and_keep_the_verdict():
    dataset = TeacherPermutationDataset([group_of(20)], 20, min_group_size=2, shuffle_passages=True)
    sizes, orders = set(), set()
    for epoch in range(200):
        dataset.set_epoch(epoch)
        drawn = dataset[0]
        names = docids(drawn)
        sizes.add(len(names))
        orders.add(tuple(names))
        best_first = [int(names[position].removeprefix("d")) for position in drawn.permutation]
        assert best_first == sorted(best_first, reverse=True)
    assert sizes == set(range(2, 21))
    assert len(orders) > 190


@pytest.mark.parametrize(("count", "multiple"), [(11, 4), (8, 4), (1, 6)])
def test_fillers_make_the_indices_of_an_epoch_a_multiple_and_every_index_comes_once(count, multiple):
    sampler = EvenSampler(range(count), multiple)
    indices = list(sampler)
    assert len(indices) == len(sampler) == -(-count // multiple) * multiple
    assert [index for index in indices if index != FILLER] == list(range(count))
    assert indices[count:] == [FILLER] * (len(indices) - count)


def test_the_epoch_is_passed_on_to_the_sampler_that_orders():
    inner = SeedableRandomSampler(range(9), data_seed=1)
    sampler = EvenSampler(inner, 4)
    first = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert sorted(first) == [FILLER] * 3 + list(range(9))
    assert list(sampler) != first  # the epoch behind it
    EvenSampler(range(3), 2).set_epoch(1)  # which knows no epochs
