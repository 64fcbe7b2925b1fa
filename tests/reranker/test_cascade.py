"""Students behind each other."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import WORDS
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.permutation import from_scores
from tevatron_distill.reranker import Reranker
from tevatron_distill.reranker.cascade import Cascade, put_above
from tevatron_distill.schema import Candidates, InputError, Passage

LISTS = [
    Candidates(
        f"q{number}",
        WORDS[number],
        tuple(Passage(f"d{place}", " ".join(WORDS[place : place + 3])) for place in range(size)),
        tuple(float(-place) for place in range(size)),
    )
    for number, size in enumerate((7, 1, 4))
]
levels = st.integers(-9, 9).map(float)


@pytest.fixture(scope="module")
def students(bert_classifier_folder):
    """Two students of one shape that disagree."""
    small, large = (Reranker.from_pretrained(str(bert_classifier_folder), device="cpu") for _ in range(2))
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in large.model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return small, large


def test_a_further_student_scores_the_best_and_the_others_keep_their_order_below(students):
    small, large = students
    before, after = small.score_candidates(LISTS), large.score_candidates(LISTS)
    for one, first, second, scores in zip(
        LISTS, before, after, Cascade(students, [3]).score_candidates(LISTS), strict=True
    ):
        size = len(one.passages)
        chosen = sorted(range(size), key=lambda place: -first[place])[:3]
        assert [scores[place] for place in chosen] == pytest.approx([second[place] for place in chosen], abs=1e-5)
        others = [place for place in range(size) if place not in chosen]
        if others:
            assert max(scores[place] for place in others) < min(scores[place] for place in chosen)
            assert from_scores([scores[place] for place in others]) == from_scores([first[place] for place in others])


def test_a_depth_of_all_is_the_last_student_alone(students):
    expected = students[1].score_candidates(LISTS)
    for one, other in zip(Cascade(students, [7]).score_candidates(LISTS), expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_three_stages_read_fewer_and_fewer_rows(students):
    small, large = students
    third = Reranker(large.model, large.layout, "cpu")
    cascade = Cascade([small, large, third], [4, 2])
    small.batcher.count.rows = 0
    [scores] = cascade.score_candidates(LISTS[:1])
    assert cascade.batcher.count.rows == 7 + 4 + 2
    two = Cascade([small, large], [4]).score_candidates(LISTS[:1])[0]
    assert from_scores(scores)[:4] == from_scores(two)[:4], "the same student twice changes no order"


def test_it_ranks_texts_as_a_reranker_does(students):
    cascade = Cascade(students, [2])
    texts = ["one two", "red", "cat"]
    ranked = cascade.rank("one", texts)
    assert sorted(place for place, _ in ranked) == [0, 1, 2]
    assert all(above >= below for (_, above), (_, below) in itertools.pairwise(ranked))
    assert cascade.rank("one", []) == []


@given(st.lists(levels, min_size=1, max_size=9), st.integers(1, 10), st.data())
def test_merged_scores_keep_both_orders(before, depth, data):
    chosen = from_scores(before)[:depth]
    scores = data.draw(st.lists(levels, min_size=len(chosen), max_size=len(chosen)))
    merged = put_above(before, chosen, scores)
    assert [merged[place] for place in chosen] == scores
    others = [place for place in range(len(before)) if place not in chosen]
    assert all(merged[place] < min(scores) for place in others)
    for one, other in itertools.combinations(others, 2):
        assert (merged[one] > merged[other]) == (before[one] > before[other])
        assert (merged[one] == merged[other]) == (before[one] == before[other])
    assert list(from_scores(merged)[len(chosen) :]) == [place for place in from_scores(before) if place not in chosen]


@pytest.mark.parametrize("depths", [[], [3, 2], [0]])
def test_a_depth_that_no_student_has_is_refused(students, depths):
    with pytest.raises(InputError, match="--cascade_depth"):
        Cascade(students, depths)


def test_depths_that_rise_are_refused(students):
    with pytest.raises(InputError, match=r"do not rise; got \[2, 3\]"):
        Cascade([*students, students[0]], [2, 3])
