"""RankLLM's requests and results."""

from __future__ import annotations

import gzip
import json
import logging

import pytest

from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.rank_llm import TEXT_KEYS
from tevatron_distill.schema import InputError, Passage

REQUEST = {
    "query": {"text": "who", "qid": 264014},
    "candidates": [
        {"docid": 7, "score": 1.5, "doc": {"contents": "seven"}},
        {"docid": "d8", "score": 2.5, "doc": {"title": "T", "segment": "eight"}},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write_rows(content, name="requests.jsonl"):
        path = tmp_path / name
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        with gzip.open(path, "wt") if name.endswith(".gz") else open(path, "w") as file:
            file.write(text)
        return path

    return write_rows


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (json.dumps(REQUEST) + "\n", "requests.jsonl"),
        (json.dumps([REQUEST], indent=2), "requests.json"),
        (json.dumps(REQUEST) + "\n", "requests.jsonl.gz"),
        (json.dumps([{**REQUEST, "invocations_history": [{"prompt": "p", "response": "[1]"}]}]), "results.json"),
    ],
)
def test_requests_and_results_are_candidates_by_falling_score(write, content, name):
    [entry] = load_candidates(write(content, name))
    assert (entry.query_id, entry.query) == ("264014", "who")
    assert entry.passages == (Passage("d8", "eight", "T"), Passage("7", "seven"))
    assert entry.scores == (2.5, 1.5)


@pytest.mark.parametrize("key", TEXT_KEYS)
def test_the_text_may_stand_under_any_of_their_keys(write, key):
    row = {**REQUEST, "candidates": [{"docid": "a", "score": 1, "doc": {key: "words", "url": "u"}}]}
    assert load_candidates(write([row]))[0].passages == (Passage("a", "words"),)


def test_bare_texts_are_named_by_their_places(write):
    row = {"query": "who", "candidates": ["x", "y", {"docid": "d", "doc": "z"}]}
    [entry] = load_candidates(write([row]))
    assert [(p.docid, p.text) for p in entry.passages] == [("1-0", "x"), ("1-1", "y"), ("d", "z")]
    assert entry.scores == (0.0, -1.0, -2.0)


def test_scores_that_are_missing_in_part_leave_the_order_of_the_file(write, caplog):
    docs = [{"docid": name, "score": score, "doc": "x"} for name, score in zip("abcd", [None, 5.0, 1.0, None])]  # noqa: B905
    with caplog.at_level(logging.WARNING):
        [entry] = load_candidates(write([{**REQUEST, "candidates": docs}]))
    assert [passage.docid for passage in entry.passages] == ["a", "b", "c", "d"]
    assert entry.scores == (0.0, -1.0, -2.0, -3.0)
    assert "lists that lack some scores keep the order of the file: 1 times" in caplog.text


def test_a_teachers_run_makes_groups_of_requests(write, tmp_path):
    (tmp_path / "t.run").write_text("264014 Q0 7 1 9 t\n264014 Q0 d8 2 8 t\n")
    [group] = load_groups(write([REQUEST]), teacher_run_path=tmp_path / "t.run")
    assert (group.permutation, group.scores) == ((1, 0), (8.0, 9.0))
    with pytest.raises(InputError, match="rank_llm_requests rows hold no verdict; give it by --teacher_run_path"):
        load_groups(write([REQUEST]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": []}, "a query needs candidates"),
        ({"candidates": [3]}, "a candidate must be an object"),
        ({"candidates": [{"docid": "a", "doc": {}}]}, 'doc of "a" must hold a text under text, segment'),
        ({"candidates": [{"docid": "a", "doc": 3}]}, 'doc of "a" must be an object with a text'),
        ({"candidates": [{"docid": "a", "doc": {"text": " "}}]}, "text is empty"),
        ({"candidates": [{"docid": "a", "doc": "x", "score": "1"}]}, "score must be a finite number"),
        ({"candidates": [{"docid": "a", "doc": "x"}, {"docid": "a", "doc": "y"}]}, 'docid "a" stands twice'),
        ({"query": {"qid": 1}}, "text must be text"),
    ],
)
def test_a_broken_request_is_refused_with_its_place(write, change, message):
    with pytest.raises(InputError, match=rf"requests\.jsonl:1: .*{message}"):
        load_candidates(write([{**REQUEST, **change}]))
