from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.prompts import SET_PROMPTS
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import AskingTeacher, SetwiseOracle

CHOICE = SET_PROMPTS["llm_rankers"]
TEXT = replace(CHOICE, answer="text")
LABELS = "ABCDEFGHIJKLMNOPQRSTUVW"


def generated(request):
    worths = worth_of(request)
    return f"Passage {LABELS[worths.index(max(worths))]}"


def teach(prompt, answer, block, *, sort="heapsort", num_child=3, top_k=10, path=":memory:"):
    with AnswerCache(path) as cache:
        engine = ScriptedEngine(answer)
        oracle = SetwiseOracle(prompt)
        make = partial(SORTS[sort], num_child=num_child, top_k=top_k)
        teacher = AskingTeacher(oracle, engine, make, sort, cache, question_size=num_child + 1)
        return taught(teacher, *block), teacher.report(), engine


@pytest.mark.parametrize("sort", ["heapsort", "bubblesort"])
@pytest.mark.parametrize("num_child", [1, 2, 3, 9, 19, 22])
@pytest.mark.parametrize(("prompt", "answer"), [(CHOICE, worth_of), (TEXT, generated)], ids=["logits", "generated"])
def test_the_top_ten_of_a_hundred_are_found_with_any_number_of_children(sort, num_child, prompt, answer):
    # the best stand last, where the first stage has put them
    [group], report, engine = teach(prompt, answer, [candidates_of(100)], sort=sort, num_child=num_child)
    assert group.permutation == (*range(99, 89, -1), *sorted(range(90), key=group.permutation.index))
    assert (group.num_ranked, group.scores, group.preferences) == (10, None, None)
    assert max(map(len, engine.asked)) == engine.prepared == num_child + 1
    assert report["asked"] == len(engine.asked)
    if prompt is TEXT:
        assert group.teacher["answers"] == report["ok"] == len(engine.asked)
        assert group.teacher["malformed"] == report["wrong_format"] == report["out_of_range"] == 0


@settings(max_examples=25)
@given(order=st.permutations(range(30)), num_child=st.integers(1, 22))
def test_logits_and_generated_labels_of_one_judge_agree(order, num_child):
    def worth(request):
        return tuple(float(order[int(number)]) for number in worth_of(request))

    def label(request):
        return LABELS[max(range(len(request.positions)), key=lambda place: worth(request)[place])]

    [chosen], _, _ = teach(CHOICE, worth, [candidates_of(30)], num_child=num_child)
    [said], _, _ = teach(TEXT, label, [candidates_of(30)], num_child=num_child)
    assert chosen.permutation == said.permutation
    assert list(chosen.permutation[:10]) == sorted(range(30), key=lambda position: -order[position])[:10]


def test_an_answer_without_a_label_leaves_the_first_stage_order_and_is_counted():
    for sort in ("heapsort", "bubblesort"):
        [group], report, engine = teach(TEXT, lambda request: "A passage about it", [candidates_of(8)], sort=sort)
        assert group.permutation == tuple(range(8))
        assert group.teacher["malformed"] == report["wrong_format"] == len(engine.asked) > 0


def test_a_single_candidate_needs_no_question():
    [group], report, engine = teach(TEXT, generated, [candidates_of(1)])
    assert (group.permutation, engine.asked) == ((0,), [])
    assert "ok" not in report
