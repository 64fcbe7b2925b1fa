"""Selection among measured candidates agrees with figures computed by hand."""

from __future__ import annotations

import logging
import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.candidate_metrics import evaluate_selection
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, InputError, Passage


def group(name, docids, scores, **metrics):
    passages = tuple(Passage(docid, docid) for docid in docids)
    return Group(name, "?", passages, from_scores(scores), len(scores), scores=tuple(scores), metrics=metrics)


GROUPS = [
    group("q1", "abc", [1.0, 2.0, 6.0], bart=(-3.0, -2.0, -1.0)),
    group("q2", "ab", [5.0, 1.0], bart=(-4.0, -5.0)),
]
RUN = {"q1": {"b": 3.0, "c": 2.0, "a": 1.0}, "q2": {"a": 1.0, "b": 0.0}}


def test_the_selected_candidate_stands_between_random_and_oracle():
    result = evaluate_selection({"run": RUN}, GROUPS, ["bart", "score"])
    assert result.chosen["run"].mean == {"bart": (-2.0 - 4.0) / 2, "score": (2.0 + 5.0) / 2}
    assert result.baselines["oracle"].mean == {"bart": (-1.0 - 4.0) / 2, "score": (6.0 + 5.0) / 2}
    assert result.baselines["random"].mean == {"bart": (-2.0 - 4.5) / 2, "score": (3.0 + 3.0) / 2}
    assert result.chosen["run"].per_query["bart"] == {"q1": -2.0, "q2": -4.0}


def test_the_best_single_system_answers_at_least_half_of_the_queries():
    baselines = evaluate_selection({"run": RUN}, GROUPS, ["bart"]).baselines
    # means of the scores: a (1 + 5) / 2 = 3, b (2 + 1) / 2, c 6 over one of two queries
    [name] = [name for name in baselines if name.startswith("best single")]
    assert name == "best single (c, 1 of 2 queries)"
    three = [*GROUPS, group("q3", "ab", [1.0, 0.0], bart=(-1.0, -2.0))]
    baselines = evaluate_selection({"run": {**RUN, "q3": {"a": 1.0}}}, three, ["bart"]).baselines
    assert baselines["best single (a)"].mean == {"bart": (-3.0 - 4.0 - 1.0) / 3}


def test_docids_that_name_no_systems_have_no_best_one():
    groups = [group(f"q{n}", [f"q{n}-0", f"q{n}-1"], [1.0, 0.0], m=(1.0, 0.0)) for n in range(3)]
    run = {one.query_id: {one.passages[0].docid: 1.0} for one in groups}
    assert set(evaluate_selection({"run": run}, groups, ["m"]).baselines) == {"oracle", "random"}


def test_agreement_by_hand():
    mean = evaluate_selection({"run": RUN}, GROUPS[:1], ["bart"]).agreement["run"].mean
    # run 1, 3, 2 against scores 1, 2, 6 of a, b, c: deviations -1, 1, 0 and -2, -1, 3
    assert mean["Pearson"] == pytest.approx((-1 * -2 + 1 * -1 + 0 * 3) / math.sqrt(2 * 14))
    # ranks 3, 1, 2 and 3, 2, 1: 1 - 6 * (0 + 1 + 1) / (3 * (9 - 1)), and distances 0 + 1 + 1
    assert mean["Spearman"] == pytest.approx(1 - 6 * 2 / (3 * 8))
    assert mean["footrule"] == 0 + 1 + 1


@given(st.integers(3, 8).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)))
def test_agreement_is_scipys_and_undefined_where_one_side_is_constant(sides):
    first, second = ([float(value) for value in side] for side in sides)
    docids = [f"d{n}" for n in range(len(first))]
    run = {"q": dict(zip(docids, first, strict=True))}
    mean = evaluate_selection({"run": run}, [group("q", docids, second, m=tuple(second))], ["m"]).agreement["run"].mean
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(mean["Pearson"])
        assert math.isnan(mean["Spearman"])
    else:
        assert mean["Pearson"] == pytest.approx(scipy.stats.pearsonr(first, second).statistic)
        assert mean["Spearman"] == pytest.approx(scipy.stats.spearmanr(first, second).statistic)


def test_the_order_of_the_metric_itself_is_the_oracle_and_agrees_fully():
    run = {one.query_id: {p.docid: s for p, s in zip(one.passages, one.scores or (), strict=True)} for one in GROUPS}
    result = evaluate_selection({"run": run}, GROUPS, ["score"])
    assert result.chosen["run"] == result.baselines["oracle"]
    assert result.agreement["run"].mean == pytest.approx({"Pearson": 1.0, "Spearman": 1.0, "footrule": 0.0})


def test_a_tie_at_the_top_is_broken_by_docid_as_everywhere():
    run = {"q1": {"a": 1.0, "b": 1.0}, "q2": {"a": 1.0}}
    assert evaluate_selection({"run": run}, GROUPS, ["score"]).chosen["run"].per_query["score"]["q1"] == 2.0


def test_all_lines_speak_of_the_queries_that_every_run_holds(caplog):
    with caplog.at_level(logging.WARNING):
        result = evaluate_selection({"x": RUN, "y": {"q2": {"b": 1.0}}}, GROUPS, ["score"])
    assert {name: one.mean["score"] for name, one in {**result.chosen, **result.baselines}.items()} == {
        "x": 5.0,
        "y": 1.0,
        "oracle": 5.0,
        "random": 3.0,
    }
    assert "1 of 2 queries are missing from a run and are left out of every line" in caplog.text


@pytest.mark.parametrize(
    ("run", "measure", "message"),
    [
        ({"q9": {"a": 1.0}}, "score", "must share queries"),
        ({"q1": {"z": 1.0}, "q2": {"a": 1.0}}, "score", 'docid "z" of query_id "q1" is not among its 3 candidates'),
        (RUN, "bleu", "measures must be metrics of its candidates; got bleu, there are bart, score"),
    ],
)
def test_what_does_not_belong_together_is_refused(run, measure, message):
    with pytest.raises(InputError, match=message):
        evaluate_selection({"run": run}, GROUPS, [measure])
