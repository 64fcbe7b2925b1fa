"""Candidates that are read anew each time."""

from __future__ import annotations

import json

import pytest

from tevatron_distill.formats import CandidateStream, load_candidates
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.schema import InputError


def row(query: str, docid: str, **more):
    return {"query_id": query, "query": f"what is {query}", "docid": docid, "text": "words", **more}


@pytest.fixture
def write(tmp_path):
    def to_file(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return path

    return to_file


ROWS = [row("a", "1", score=1.0), row("a", "2", score=3.0), row("b", "1"), row("c", "9"), row("c", "8"), row("c", "7")]


def test_it_gives_what_the_other_reader_gives_each_time(write):
    path = write(*ROWS)
    stream = CandidateStream(path)
    assert stream.num_queries == 3
    assert list(stream) == list(stream) == load_candidates(path)


@pytest.mark.parametrize("index", [0, 1])
def test_depth_shards_and_the_number_of_queries_are_heeded(write, index):
    path = write(*ROWS)
    stream = CandidateStream(path, depth=1, shard=(index, 2), options=ReadOptions(max_queries=2))
    assert list(stream) == [one.top(1) for one in load_candidates(path)[:2][index::2]]
    assert stream.num_queries == 1


def test_scattered_rows_are_held_in_memory_with_a_word_about_it(write, caplog):
    path = write(ROWS[0], ROWS[2], ROWS[1])
    stream = CandidateStream(path)
    assert list(stream) == load_candidates(path)
    assert [len(one.passages) for one in stream] == [2, 1]
    assert stream.num_queries == 2
    assert "sort it by query_id" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, {**row("d", "1"), "text": ""}], r"rows\.jsonl:7"),
        ([*ROWS, row("c", "7")], 'docid "7"'),
        ([*ROWS[:2], row("b", "1", score=1.0), row("b", "2")], "all rows of query_id"),
        ([row("a", "1"), {**row("a", "2"), "query": "other"}], "must have one text"),
        ([], "got none"),
    ],
)
def test_a_row_that_breaks_a_rule_is_an_error_before_any_work(write, rows, message):
    with pytest.raises(InputError, match=message):
        CandidateStream(write(*rows))


def test_a_group_that_stands_twice_is_refused(tmp_path):
    group = {"query_id": "q", "query": "?", "passages": [{"docid": "1", "text": "x"}], "permutation": [0]}
    path = tmp_path / "groups.jsonl"
    path.write_text((json.dumps(group) + "\n") * 2)
    with pytest.raises(InputError, match="must stand once"):
        CandidateStream(path)
