"""A teacher starts from a run's order, and its groups come back as the first stage had them."""

from __future__ import annotations

from functools import partial

import pytest
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.prompts import PAIR_PROMPTS, SET_PROMPTS
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import rechecked_heapsort, sliding_window
from tevatron_distill.teachers import AskingTeacher, FromRun, PairwiseOracle, SetwiseOracle

BACKWARDS = {f"d{place}": float(place) for place in range(100)}


def setwise(engine, cache, **keywords):
    make = partial(rechecked_heapsort, **keywords)
    oracle = SetwiseOracle(SET_PROMPTS["llm_rankers"])
    return AskingTeacher(oracle, engine, make, "rechecked_heapsort", cache, question_size=10)


@pytest.mark.parametrize("run", [None, BACKWARDS, {}], ids=["first stage", "run", "empty"])
def test_the_top_ten_of_a_hundred_are_found_from_any_order(run):
    engine, block = ScriptedEngine(worth_of), [candidates_of(100), candidates_of(30, "q2")]
    with AnswerCache(":memory:") as cache:
        teacher = setwise(engine, cache)
        groups = taught(teacher if run is None else FromRun(teacher, {"q1": run, "q2": run}), *block)
    assert [group.passages for group in groups] == [entry.passages for entry in block]
    assert [group.permutation[:10] for group in groups] == [tuple(range(99, 89, -1)), tuple(range(29, 19, -1))]
    assert [group.num_ranked for group in groups] == [10, 10]
    assert len(engine.asked) <= 60 + 60


def test_where_the_judge_has_no_opinion_the_runs_order_stands():
    with AnswerCache(":memory:") as cache:
        teacher = FromRun(
            setwise(ScriptedEngine(lambda request: [0.0] * len(request.positions)), cache), {"q1": BACKWARDS}
        )
        [group] = taught(teacher, candidates_of(100))
    assert group.permutation == tuple(range(99, -1, -1))


def test_candidates_that_the_run_lacks_stand_behind_and_preferences_keep_their_passages():
    with AnswerCache(":memory:") as cache:
        oracle = PairwiseOracle(PAIR_PROMPTS["instructdistill"])
        sort = partial(sliding_window, num_passes=1, window_size=2, step_size=1)
        teacher = AskingTeacher(oracle, ScriptedEngine(worth_of), sort, "sliding_window", cache, sort_depth=2)
        [group] = taught(FromRun(teacher, {"q1": {"d3": 2.0, "d1": 3.0}}), candidates_of(5))
        report = teacher.report()
    assert group.permutation == (3, 1, 0, 2, 4)
    assert group.num_ranked == 1
    [(better, worse, preference)] = group.preferences
    assert (better, worse, preference > 0.5) in ((3, 1, True), (1, 3, False))
    assert report["pairs"] == 1


def test_a_run_without_a_query_is_refused_before_anything_is_asked():
    with AnswerCache(":memory:") as cache, pytest.raises(InputError, match='none for query_id "q1"; rank its candid'):
        FromRun(setwise(ScriptedEngine(worth_of), cache), {"q2": {}}).prepare([candidates_of(3)])
