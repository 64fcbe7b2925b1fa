"""A choice that is answered by none of its labels says nothing, and is counted."""

from __future__ import annotations

from functools import partial

import pytest
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.prompts import PAIR_PROMPTS, POINT_PROMPTS, SET_PROMPTS
from tevatron_distill.sorting import allpair, heapsort, pointwise
from tevatron_distill.teachers import AskingTeacher, PairwiseOracle, PointwiseOracle, SelfConsistency, SetwiseOracle

PAIRWISE = PairwiseOracle(PAIR_PROMPTS["instructdistill"]), allpair, "allpair", 2
SETWISE = SetwiseOracle(SET_PROMPTS["llm_rankers"]), partial(heapsort, num_child=3), "heapsort", 4


def teacher_of(tmp_path, answer, row, may_miss=True):
    oracle, sort, name, size = row
    engine = ScriptedEngine(answer)
    engine.may_miss = may_miss
    return AskingTeacher(oracle, engine, sort, name, AnswerCache(tmp_path / "cache.sqlite"), question_size=size)


@pytest.mark.parametrize("may_miss", [True, False])
@pytest.mark.parametrize("row", [PAIRWISE, SETWISE], ids=["pairwise", "setwise"])
def test_silence_about_everything_ranks_nothing(tmp_path, row, may_miss):
    [group] = taught(teacher_of(tmp_path, lambda request: "no idea", row, may_miss), candidates_of(4))
    assert group.permutation == (0, 1, 2, 3)
    assert group.num_ranked == 0
    assert not group.preferences
    assert group.teacher["answers"] == group.teacher["malformed"] > 0


def test_silence_about_one_order_leaves_the_other_orders_vote(tmp_path):
    answer = lambda request: "hm" if request.positions[0] > request.positions[1] else worth_of(request)  # noqa: E731
    [group] = taught(teacher_of(tmp_path, answer, PAIRWISE), candidates_of(4))
    assert group.permutation == (3, 2, 1, 0)
    assert group.num_ranked == 4
    assert len(group.preferences) == 6
    assert (group.teacher["answers"], group.teacher["malformed"]) == (12, 6)


def test_a_passage_without_an_answer_comes_last_and_has_no_score(tmp_path):
    prompt = POINT_PROMPTS["llm_rankers_yes_no"]
    row = PointwiseOracle(prompt), pointwise, "pointwise", 1
    answer = lambda request: "hm" if request.positions == (2,) else [*worth_of(request), 1.0]  # noqa: E731
    [group] = taught(teacher_of(tmp_path, answer, row), candidates_of(4))
    assert group.permutation == (3, 1, 0, 2)
    assert group.num_ranked == 3
    assert group.scores is None
    assert (group.teacher["answers"], group.teacher["malformed"]) == (4, 1)


def test_an_engine_that_never_misses_is_not_counted(tmp_path):
    [group] = taught(teacher_of(tmp_path, worth_of, PAIRWISE, may_miss=False), candidates_of(3))
    assert "answers" not in group.teacher


def test_shuffled_orders_add_up_what_was_missed(tmp_path):
    answer = lambda request: "hm" if request.positions[0] == 0 else worth_of(request)  # noqa: E731
    teacher = SelfConsistency(teacher_of(tmp_path, answer, PAIRWISE, may_miss=False), 2)
    [group] = taught(teacher, candidates_of(3))
    assert group.teacher["malformed"] > 0
