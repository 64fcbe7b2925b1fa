"""Tevatron's rerank rows."""

from __future__ import annotations

import json

import pytest

from tevatron_distill.formats.rerank_input import read_candidates, write_candidates_lines
from tevatron_distill.schema import Candidates, InputError, Passage

ROW = {"query_id": "q1", "query": "what", "docid": "d1", "title": "T", "text": "p", "score": 1.0}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write_rows


def test_rows_are_grouped_by_query_and_ordered_by_score(write):
    path = write(
        ROW,
        {**ROW, "query_id": 2, "query": "who", "docid": 7, "score": 3},
        {**ROW, "docid": "d2", "score": 5.0, "title": None},
    )
    assert read_candidates(path) == [
        Candidates("q1", "what", (Passage("d2", "p"), Passage("d1", "p", "T")), (5.0, 1.0)),
        Candidates("2", "who", (Passage("7", "p", "T"),), (3.0,)),
    ]


def test_rows_without_scores_keep_their_order(write):
    bare = {key: value for key, value in ROW.items() if key not in ("score", "title")}
    [entry] = read_candidates(write(bare, {**bare, "docid": "d0"}))
    assert [passage.docid for passage in entry.passages] == ["d1", "d0"]
    assert entry.scores == (0.0, -1.0)


def test_written_rows_read_back(write):
    entries = [
        Candidates("q1", "größe", (Passage("a", "x\u2028y", "T"), Passage("b", "z")), (2.0, -0.5)),
        Candidates("q2", "?", (Passage("a", "x"),), (1e-9,)),
    ]
    assert read_candidates(write(*write_candidates_lines(entries))) == entries


def test_a_score_that_is_no_number_is_not_written():
    with pytest.raises(InputError, match="finite"):
        write_candidates_lines([Candidates("q", "?", (Passage("a", "x"),), (float("nan"),))])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, "{"], r"rows\.jsonl:2: each line must be one JSON object"),
        ([ROW, "[1]"], r"rows\.jsonl:2: each row must be a JSON object; got \[1\]"),
        ([{**ROW, "text": " ", "title": ""}], r"rows\.jsonl:1: text is empty"),
        ([{**ROW, "query": ""}], r"rows\.jsonl:1: query is empty"),
        ([{**ROW, "query": None}], r"rows\.jsonl:1: query must be text; got None"),
        ([{**ROW, "docid": " "}], r"rows\.jsonl:1: docid must be a string"),
        ([{**ROW, "query_id": 1.5}], r"rows\.jsonl:1: query_id must be a string"),
        ([{**ROW, "docid": True}], r"rows\.jsonl:1: docid must be a string"),
        (['{"query_id": "q", "query": "x", "docid": "d", "text": "t", "score": NaN}'], r":1: score must be a finite"),
        ([{**ROW, "score": "1"}], r"rows\.jsonl:1: score must be a finite number; got '1'"),
        (['{"query_id": "q", "query": "\\ud800", "docid": "d", "text": "t"}'], r"query must be valid Unicode"),
        ([ROW, ROW], r'docid "d1" stands twice under query_id "q1"'),
        ([ROW, {**ROW, "docid": "d2", "score": None}], r'all rows of query_id "q1" need a score, or none; got 1'),
        ([ROW, {**ROW, "docid": "d2", "query": "who"}], r'jsonl:2: query_id "q1" must have one text; got .who. after'),
        ([], "rerank rows are needed"),
    ],
)
def test_a_broken_row_is_refused_with_its_place(write, rows, message):
    with pytest.raises(InputError, match=message):
        read_candidates(write(*rows))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"query": "\xff"}\n')
    with pytest.raises(InputError, match="must be UTF-8"):
        read_candidates(path)


def test_a_passage_with_a_title_only_is_no_empty_passage(write):
    [entry] = read_candidates(write({**ROW, "text": ""}))
    assert entry.passages == (Passage("d1", "", "T"),)
