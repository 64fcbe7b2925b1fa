"""A function of Python as a teacher, by every sort."""

from __future__ import annotations

import math

import pytest
from scripted import candidates_of, taught

from tevatron_distill import FunctionTeacher, load_groups, write_groups
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import SelfConsistency


def worths(query, passages):
    """The number that each passage is."""
    return [float(passage.text) for passage in passages]


@pytest.mark.parametrize("sort", [None, *SORTS])
def test_every_sort_finds_the_order_of_a_function(sort):
    options = {"top_k": 3} if sort in ("heapsort", "bubblesort", "rechecked_heapsort") else {}
    [group] = FunctionTeacher(worths, sort, **options).groups([candidates_of(6)])
    assert group.permutation[:3] == (5, 4, 3)
    assert group.num_ranked == (3 if options else 6)
    assert (group.scores is not None) == (sort in (None, "pointwise", "allpair"))


def test_the_sort_decides_what_the_function_is_asked():
    sizes = {None: {6}, "pointwise": {1}, "allpair": {2}, "heapsort": {2}, "bubblesort": {4}, "sliding_window": {6}}
    for sort, expected in sizes.items():
        seen = []
        teacher = FunctionTeacher(
            lambda query, passages, seen=seen: seen.append(len(passages)) or worths("", passages), sort
        )
        teacher.groups([candidates_of(6), candidates_of(6, "q2")])
        assert set(seen) <= expected | {2, 3} if sort == "bubblesort" else set(seen) == expected
        assert teacher.report() == {"asked": len(seen)}
    assert len(seen) == 2  # one window a query


def test_groups_come_in_the_order_of_the_queries_and_are_read_back(tmp_path):
    candidates = [candidates_of(size, f"q{size}") for size in (7, 2, 5)]
    groups = FunctionTeacher(worths, "heapsort", name="worth", top_k=2).groups(candidates)
    assert [group.query_id for group in groups] == ["q7", "q2", "q5"]
    write_groups(tmp_path / "groups.jsonl", groups)
    assert load_groups(tmp_path / "groups.jsonl") == groups
    assert groups[0].teacher == {"name": "worth", "sort": "heapsort"}
    with pytest.raises(InputError, match="exists"):
        write_groups(tmp_path / "groups.jsonl", groups)
    write_groups(tmp_path / "groups.jsonl", groups[:1], overwrite=True)
    assert load_groups(tmp_path / "groups.jsonl") == groups[:1]


def test_it_goes_where_any_teacher_goes():
    [group] = taught(SelfConsistency(FunctionTeacher(worths), 3), candidates_of(4))
    assert group.permutation == (3, 2, 1, 0)


@pytest.mark.parametrize("answer", [[1.0], [1.0, 2.0, 3.0, 4.0], [0.0, math.nan, 1.0]])
def test_a_function_must_return_a_number_for_each_passage(answer):
    with pytest.raises(InputError, match=r'query_id "q1": the teacher.s function must return .* each of 3 passages'):
        FunctionTeacher(lambda query, passages: answer).groups([candidates_of(3)])


def test_an_unknown_sort_is_refused():
    with pytest.raises(InputError, match=r"sort must be one of pointwise, allpair, .*, or None; got 'quicksort'"):
        FunctionTeacher(worths, "quicksort")
