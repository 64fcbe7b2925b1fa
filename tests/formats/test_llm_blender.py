"""LLM-Blender's rows: filters, metrics and verdicts of a judge."""

from __future__ import annotations

import json
import logging

import datasets
import pytest

from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.schema import InputError


def candidate(model, text, method="top p", **scores):
    return {"model": model, "decoding_method": method, "text": text, "scores": scores}


ROW = {
    "id": "mix/1",
    "instruction": "Say it",
    "input": "now",
    "output": "gold",
    "candidates": [
        candidate("vicuna 7b", "x", rouge1=0.2, rouge2=0.1, rougeLsum=0.3, bleu=30.0),
        candidate("alpaca", "y", rouge1=0.5, rouge2=0.4, rougeLsum=0.3, bleu=10.0),
        candidate("alpaca", "y", method="beam", rouge1=0.5, rouge2=0.1, rougeLsum=0.0, bleu=20.0),
    ],
}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows, array=False):
        path = tmp_path / ("rows.json" if array else "rows.jsonl")
        path.write_text(json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write_rows


@pytest.mark.parametrize("array", [False, True])
def test_a_row_becomes_a_group_ordered_by_the_mean_of_the_rouges(write, array):
    [group] = load_groups(write(ROW, array=array))
    assert (group.query_id, group.query, group.reference) == ("mix/1", "Say it\nnow", "gold")
    assert [passage.docid for passage in group.passages] == ["vicuna_7b/top_p", "alpaca/top_p", "alpaca/beam"]
    assert group.scores == pytest.approx(((0.2 + 0.1 + 0.3) / 3, (0.5 + 0.4 + 0.3) / 3, (0.5 + 0.1 + 0.0) / 3))
    assert (group.permutation[0], group.num_ranked) == (1, 3)
    assert group.metrics["bleu"] == (30.0, 10.0, 20.0)
    assert json.loads(group_to_line(group))["metrics"]["rouge2"] == [0.1, 0.4, 0.1]


def test_metrics_in_percent_weigh_a_hundredth(write):
    [group] = load_groups(write(ROW), options=ReadOptions(using_metrics="bleu, rouge1"))
    assert group.scores == pytest.approx(((0.01 * 30 + 0.2) / 2, (0.01 * 10 + 0.5) / 2, (0.01 * 20 + 0.5) / 2))
    assert group.teacher == {"name": "metrics", "metrics": ["bleu", "rouge1"]}


def test_groups_with_metrics_are_ordered_anew_by_others(write, tmp_path):
    [group] = load_groups(write(ROW))
    path = tmp_path / "groups.jsonl"
    path.write_text(group_to_line(group) + "\n")
    assert load_groups(path) == [group]
    [again] = load_groups(path, options=ReadOptions(using_metrics="bleu"))
    assert again.permutation == (0, 2, 1)


@pytest.mark.parametrize(
    ("options", "docids"),
    [
        ({"candidate_model": "alpaca"}, ["alpaca/top_p", "alpaca/beam"]),
        ({"candidate_model": "alpaca,vicuna 7b", "n_candidates": 2}, ["vicuna_7b/top_p", "alpaca/top_p"]),
        ({"candidate_decoding_method": "beam"}, ["alpaca/beam"]),
        ({"candidate_model": "", "n_candidates": 1}, ["vicuna_7b/top_p"]),
    ],
)
def test_a_filter_stays_a_filter(write, options, docids):
    [group] = load_groups(write(ROW), options=ReadOptions(**options))
    assert [passage.docid for passage in group.passages] == docids
    assert len(group.metrics["rouge1"]) == len(docids)


def test_lists_of_any_length_and_repeated_systems_stand_side_by_side(write, caplog):
    ragged = {**ROW, "id": 2, "candidates": [*ROW["candidates"][:1] * 2, candidate("m", " ", rouge1=1.0)]}
    with caplog.at_level(logging.WARNING):
        first, second = load_groups(write(ROW, ragged))
    assert (len(first.passages), len(second.passages)) == (3, 2)
    assert [passage.docid for passage in second.passages] == ["vicuna_7b/top_p", "vicuna_7b/top_p#2"]
    assert second.scores[0] == second.scores[1]  # equal candidates are kept; equal labels form no pair
    assert "candidates without text are left out: 1 times" in caplog.text


def test_only_what_there_is_of_instruction_and_input_makes_the_query(write):
    [group] = load_groups(write({**ROW, "input": ""}))
    assert group.query == "Say it"
    [group] = load_groups(write({**ROW, "instruction": None, "output": ["first", "second"]}))
    assert (group.query, group.reference) == ("now", "first")


def test_a_metric_that_a_candidate_lacks_is_no_metric_of_the_group(write, caplog):
    row = {**ROW, "candidates": [*ROW["candidates"][:2], candidate("m", "z", rouge1=0.1, rouge2=0.1, rougeLsum=0.1)]}
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write(row))
    assert "bleu" not in group.metrics
    assert 'metrics "bleu" that a candidate lacks are left out: 1 times' in caplog.text
    with pytest.raises(InputError, match="must name metrics that all candidates have; got bleu, there are rouge1"):
        load_groups(write(row), options=ReadOptions(using_metrics="bleu"))


def test_the_only_metric_counts_and_several_others_must_be_chosen_among(write):
    one = {**ROW, "candidates": [candidate("a", "x", human=1.0), candidate("b", "y", human=2.0)]}
    assert load_groups(write(one))[0].scores == (1.0, 2.0)
    two = {**ROW, "candidates": [candidate("a", "x", human=1.0, other=2.0)]}
    with pytest.raises(InputError, match="must say which metrics count; the candidates have human, other"):
        load_groups(write(two))


VERDICTS = {
    "vicuna 7b,b": "A is better",
    "b,vicuna 7b": "A is better",
    "b,c": "B is better",
    "vicuna 7b,c": "Same good",
    "vicuna 7b,gone": "A is better",
}


@pytest.mark.parametrize("as_text", [False, True])
def test_a_judges_verdicts_are_preferences_and_the_order_where_there_are_no_scores(write, as_text):
    row = {
        **ROW,
        "candidates": [{"model": model, "text": model} for model in ("vicuna 7b", "b", "c")],
        "cmp_results": json.dumps(VERDICTS) if as_text else VERDICTS,
    }
    [group] = load_groups(write(row))
    assert group.preferences == ((0, 1, (1.0 + 0.0) / 2), (1, 2, 0.0), (0, 2, 0.5))
    # wins: 0.5 + 0.5 of the first, 0.5 + 0 of the second, 1 + 0.5 of the third
    assert (group.permutation, group.scores, group.metrics) == ((2, 0, 1), None, None)
    scored = {**row, "candidates": ROW["candidates"][:2]}
    [group] = load_groups(write(scored))
    assert (group.permutation, group.preferences) == ((1, 0), None)


def test_a_verdict_on_a_model_with_two_candidates_is_left_out(write, caplog):
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write({**ROW, "cmp_results": {"alpaca,vicuna 7b": "A is better"}}))
    assert group.preferences is None
    assert "verdicts on a model with several candidates are left out" in caplog.text


def test_a_row_without_scores_is_read_as_candidates(write):
    bare = {**ROW, "candidates": [{"model": "a", "text": "x"}, {"model": "", "text": "y"}]}
    [entry] = load_candidates(write(bare))
    assert [passage.docid for passage in entry.passages] == ["a", "candidate2"]
    assert entry.scores == (0.0, -1.0)
    with pytest.raises(InputError, match="must have scores or cmp_results to be learned from"):
        load_groups(write(bare))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"instruction": "", "input": " "}, {}, "instruction and input are empty"),
        ({"candidates": []}, {}, "a query needs candidates"),
        ({"candidates": ["x"]}, {}, "a candidate must be an object"),
        ({"candidates": [{"model": "a", "text": 3}]}, {}, "text must be text"),
        ({"candidates": [{"model": "a", "text": "x", "scores": [1]}]}, {}, "scores of a candidate must be an object"),
        ({"candidates": [candidate("a", "x", human="good")]}, {}, "human must be a finite number"),
        ({}, {"candidate_model": "gpt"}, "must leave a candidate; there are alpaca/beam"),
        ({"cmp_results": "{"}, {}, "cmp_results must be JSON"),
        ({"cmp_results": {"alpaca,vicuna 7b": "dunno"}}, {}, "a verdict must be one of A is better, B is better"),
        ({"cmp_results": ["A"]}, {}, "cmp_results must be an object"),
    ],
)
def test_a_broken_row_is_refused_with_its_place(write, change, options, message):
    with pytest.raises(InputError, match=rf"rows\.jsonl:1: .*{message}"):
        load_groups(write({**ROW, **change}), options=ReadOptions(**options))


def test_a_table_that_fills_up_missing_metrics_with_null_is_read_as_the_rows_were(write, tmp_path):
    other = {**ROW, "id": "mix/2", "candidates": [candidate("m", "z", rouge1=1.0, rouge2=1.0, rougeLsum=1.0)]}
    datasets.Dataset.from_list([ROW, other]).save_to_disk(tmp_path / "saved")
    assert load_groups(tmp_path / "saved") == load_groups(write(ROW, other))


def test_a_tables_rows_may_hold_empty_columns_of_other_dialects(tmp_path):
    rows = [
        {
            "query": "q",
            "pos": ["p"],
            "neg": ["n"],
            "pos_scores": None,
            "neg_scores": None,
            "permutation": None,
            "hits": None,
        }
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    [group] = load_groups(tmp_path / "saved")
    assert group.judgements == (1.0, 0.0)
