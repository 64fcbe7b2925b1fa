"""Measures agree with their definitions and with trec_eval's conventions."""

from __future__ import annotations

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate, paired_test
from tevatron_distill.schema import InputError

QRELS = {"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"x": 1}}


def test_ndcg_divides_by_the_ideal_order():
    result = evaluate({"q1": {"b": 3.0, "c": 2.0, "a": 1.0}, "q2": {"x": 1.0}}, QRELS, ["nDCG@10"])
    gained = 1 / math.log2(2) + 0 / math.log2(3) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    assert result.per_query["nDCG@10"]["q1"] == pytest.approx(gained / ideal)
    assert result.mean["nDCG@10"] == pytest.approx((gained / ideal + 1.0) / 2)


def test_a_judged_query_that_the_run_lacks_counts_as_zero():
    result = evaluate({"q2": {"x": 1.0}, "q1": {}}, QRELS, ["RR@10", "nDCG@10"])
    assert result.per_query["RR@10"] == {"q1": 0.0, "q2": 1.0}
    assert result.mean == {"RR@10": (0 + 1) / 2, "nDCG@10": (0 + 1) / 2}


def test_queries_without_judgements_are_left_out():
    result = evaluate({"q2": {"x": 1.0}, "q1": {"a": 1.0}, "q3": {"z": 1.0}}, QRELS, ["RR"])
    assert result.per_query["RR"] == {"q1": 1.0, "q2": 1.0}


@pytest.mark.parametrize("measure", ["RR", "RR@10", "nDCG@1", "P@1", "R@1"])
def test_ties_are_broken_by_docid_descending_in_every_measure(measure):
    first = evaluate({"q": {"a": 1.0, "b": 1.0}}, {"q": {"b": 1}}, [measure]).mean[measure]
    second = evaluate({"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}, [measure]).mean[measure]
    assert first == 1.0 > second


def test_scores_that_single_precision_does_not_tell_apart_are_ties():
    assert evaluate({"q": {"a": 1.0 + 1e-12, "b": 1.0}}, {"q": {"b": 1}}, ["RR"]).mean["RR"] == 1.0


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1), st.sampled_from("abcdefgh"))
def test_reciprocal_rank_with_a_cutoff_is_the_one_without_up_to_there(order, relevant):
    run = {"q": {docid: float(-place) for place, docid in enumerate(order)}}
    result = evaluate(run, {"q": {relevant: 1}}, ["RR", "RR@3"]).mean
    rank = order.index(relevant) + 1 if relevant in order else math.inf
    assert result["RR"] == pytest.approx(1 / rank)
    assert result["RR@3"] == pytest.approx(1 / rank if rank <= 3 else 0.0)


def test_relevance_thresholds_are_part_of_the_name():
    result = evaluate({"q1": {"b": 2.0, "a": 1.0}}, {"q1": QRELS["q1"]}, ["AP", "AP(rel=2)", "R(rel=2)@1"])
    assert result.mean == {"AP": 1.0, "AP(rel=2)": 1 / 2, "R(rel=2)@1": 0.0}


@pytest.mark.parametrize("name", ["nonsense", "nDCG@", "nDCG@10 x", "ERR@10", "RR(depth=3)", "import os", ""])
def test_a_measure_that_is_unknown_or_not_computable_is_refused(name):
    with pytest.raises(InputError, match="measure"):
        evaluate({"q1": {"a": 1.0}}, QRELS, [name])


def test_a_run_of_other_queries_is_refused():
    with pytest.raises(InputError, match="must share queries; got 1 queries"):
        evaluate({"q9": {"a": 1.0}}, QRELS, ["RR"])


def test_a_nan_score_is_refused():
    with pytest.raises(InputError, match='got nan for docid "a" of query "q1"'):
        evaluate({"q1": {"a": math.nan}}, QRELS, ["RR"])


def test_the_paired_test_agrees_with_scipy_and_its_interval_holds_the_difference():
    first = {str(n): (n * 37 % 11) / 11 for n in range(50)}
    second = {name: value + 0.05 + (int(name) % 7 - 3) / 40 for name, value in first.items()}
    test = paired_test(first, second)
    assert test.difference == pytest.approx(sum(second.values()) / 50 - sum(first.values()) / 50)
    assert test.p == pytest.approx(scipy.stats.ttest_rel(list(second.values()), list(first.values())).pvalue)
    assert test.low < test.difference < test.high
    spread = 1.96 * math.sqrt(sum(((int(name) % 7 - 3) / 40) ** 2 for name in first)) / 50
    assert test.high - test.low == pytest.approx(2 * spread, rel=0.1)
    assert paired_test(first, second) == test


def test_the_paired_test_takes_queries_by_name():
    assert paired_test({"a": 0.0, "b": 1.0}, {"b": 1.0, "a": 0.0}) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.5, 0.0)])
def test_differences_without_variance_have_no_t_statistic_but_a_p_value(shift, p):
    first = {"a": 0.25, "b": 0.5, "c": 0.125}
    assert paired_test(first, {name: value + shift for name, value in first.items()}) == (shift, shift, shift, p)


def test_one_query_proves_nothing_and_other_queries_cannot_be_paired():
    assert paired_test({"a": 0.0}, {"a": 1.0}).p == 1.0
    with pytest.raises(InputError, match="same queries"):
        paired_test({"a": 0.0}, {"b": 1.0})
    with pytest.raises(InputError, match="same queries"):
        paired_test({}, {})


@pytest.mark.data
@pytest.mark.parametrize(("year", "bm25", "teacher"), [("19", 0.5058, 0.6682), ("20", 0.4796, 0.6549)])
def test_the_shipped_runs_evaluate_to_their_published_figures(data_dir, year, bm25, teacher):
    qrels = read_qrels(data_dir / "msmarco_dl" / "qrels" / f"qrels.dl{year}-passage.txt")
    folder = data_dir / "rank_llm"
    first_stage = read_run(folder / "retrieve_results" / "BM25" / f"trec_results_dl{year}.txt")
    [path] = (folder / "rerank_results" / "BM25").glob(f"output_*_4096_100_*dl{year}_*")
    assert round(evaluate(first_stage, qrels, ["nDCG@10"]).mean["nDCG@10"], 4) == bm25
    assert round(evaluate(read_run(path), qrels, ["nDCG@10"]).mean["nDCG@10"], 4) == teacher
