from __future__ import annotations

import math

import pytest
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.prompts import POINT_PROMPTS
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import pointwise
from tevatron_distill.teachers import AskingTeacher, PointwiseOracle


@pytest.fixture
def teach(tmp_path):
    def teach(name, answer, *block, **keywords):
        with AnswerCache(tmp_path / "cache.sqlite") as cache:
            engine = ScriptedEngine(answer)
            oracle = PointwiseOracle(POINT_PROMPTS[name])
            return taught(
                AskingTeacher(oracle, engine, pointwise, "pointwise", cache, question_size=1, **keywords), *block
            )

    return teach


@pytest.mark.parametrize("name", ["llm_rankers_yes_no", "monot5", "qwen3_reranker"])
def test_the_score_is_the_softmax_of_yes_and_no(teach, name):
    [group] = teach(name, lambda request: (worth_of(request)[0], 1.0), candidates_of(4))
    assert group.scores == pytest.approx([math.exp(x) / (math.exp(x) + math.exp(1.0)) for x in range(4)])
    assert (group.permutation, group.num_ranked, group.preferences) == ((3, 2, 1, 0), 4, None)
    assert group.teacher == {"name": "pointwise", "sort": "pointwise", "model": "scripted", "prompt": name}


def test_the_score_of_one_label_is_its_logit_and_of_none_the_likelihood(teach):
    for name in ("bge_gemma", "llm_rankers_qlm"):
        [group] = teach(name, lambda request: (-worth_of(request)[0],), candidates_of(3))
        assert (group.scores, group.permutation) == ((0.0, -1.0, -2.0), (0, 1, 2))


def test_equal_scores_keep_the_first_stage_order(teach):
    [group] = teach("monot5", lambda request: (0.0, 0.0), candidates_of(3))
    assert (group.scores, group.permutation) == ((0.5, 0.5, 0.5), (0, 1, 2))


def test_passages_behind_the_sort_depth_are_tied_and_have_no_scores(teach):
    [group] = teach("bge_gemma", lambda request: tuple(worth_of(request)), candidates_of(5), sort_depth=3)
    assert (group.permutation, group.num_ranked, group.scores) == ((2, 1, 0, 3, 4), 3, None)


def test_an_engine_that_answers_otherwise_is_refused(teach):
    for answer in ((1.0,), (1.0, 2.0, 3.0)):
        with pytest.raises(InputError, match="asks for 2 numbers; the engine answered"):
            teach("monot5", lambda request, answer=answer: answer, candidates_of(2))
