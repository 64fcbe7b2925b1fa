"""Corpora, queries and judgements of every kind."""

from __future__ import annotations

import json
import logging

import datasets
import pytest

from tevatron_distill.formats.collections import read_corpus, read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.schema import InputError, Passage

PASSAGES = [Passage("d1", "one", "T"), Passage("d2", "two")]
QUERIES = {"q1": "what", "q2": "who"}


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        lines({"_id": "d1", "title": "T", "text": "one", "metadata": {}}, {"_id": "d2", "title": "", "text": "two"})
    )
    (folder / "queries.jsonl").write_text(lines({"_id": "q1", "text": "what"}, {"_id": "q2", "text": "who"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    return folder


def corpus_sources(tmp_path, beir):
    (tmp_path / "tevatron.jsonl").write_text(
        lines({"docid": "d1", "title": "T", "text": "one"}, {"docid": "d2", "title": None, "text": "two"})
    )
    (tmp_path / "corpus.tsv").write_text("d1\tT\tone\nd2\t\ttwo\n")
    (tmp_path / "mixed.tsv").write_text("d1\tT\tone\nd2\ttwo\n")
    rows = [{"docid": passage.docid, "title": passage.title, "text": passage.text} for passage in PASSAGES]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    return [
        beir,
        beir / "corpus.jsonl",
        *(tmp_path / n for n in ("tevatron.jsonl", "corpus.tsv", "mixed.tsv", "saved")),
    ]


def test_a_corpus_reads_the_same_from_every_kind_of_file(tmp_path, beir):
    for source in corpus_sources(tmp_path, beir):
        assert list(read_corpus(source)) == PASSAGES, source


def test_queries_read_the_same_from_every_kind_of_file(tmp_path, beir):
    (tmp_path / "tevatron.jsonl").write_text(
        lines({"query_id": "q1", "query": "what"}, {"query_id": "q2", "query": "who"})
    )
    (tmp_path / "queries.tsv").write_text("q1\twhat\nq2\twho\n")
    for source in (beir, beir / "queries.jsonl", tmp_path / "tevatron.jsonl", tmp_path / "queries.tsv"):
        assert read_queries(source) == QUERIES, source


def test_a_split_of_a_beir_folder_is_the_queries_that_it_judges(beir):
    assert read_queries(beir, split="test") == {"q2": "who"}
    with pytest.raises(InputError, match=r"beir: the split of the qrels must be one of test; got 'dev'"):
        read_queries(beir, split="dev")


def test_blank_passages_are_left_out_with_one_warning(tmp_path, caplog):
    (tmp_path / "c.tsv").write_text("d1\tT\tone\nd2\t\ttwo\nd3\t\t \nd4\t\n")
    with caplog.at_level(logging.WARNING):
        assert read_passages(tmp_path / "c.tsv") == PASSAGES
    assert "2 passages have neither title nor text" in caplog.text
    assert len(list(read_corpus(tmp_path / "c.tsv"))) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d1\tone\nd1\ttwo\n", r'c\.tsv:2: docid "d1" must stand once'),
        ("d1\n", r"c\.tsv:1: a line must be docid <tab> title <tab> text"),
        ("d1\t\n", "needs passages with text; got 1 blank"),
        ("", "a collection needs passages; got none"),
    ],
)
def test_a_broken_corpus_is_refused(tmp_path, text, message):
    (tmp_path / "c.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_passages(tmp_path / "c.tsv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1\twhat\nq1\twho\n", r'q\.tsv:2: query_id "q1" must stand once'),
        ("q1\t \n", r"q\.tsv:1: query is empty"),
        ("", "queries are needed; got none"),
    ],
)
def test_broken_queries_are_refused(tmp_path, text, message):
    (tmp_path / "q.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_queries(tmp_path / "q.tsv")


def test_a_source_that_is_nowhere_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.jsonl: no such file"):
        read_queries(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match=r"a BEIR folder must hold queries\.jsonl"):
        read_queries(tmp_path)


def test_trec_and_beir_judgements_read_the_same(tmp_path):
    (tmp_path / "trec").write_text("q1 0 d1 2\nq1 Q0 d2 -1\nq2\t0\td1\t1\n")
    (tmp_path / "beir").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t1\n")
    assert (
        read_qrels(tmp_path / "trec") == {"q1": {"d1": 2, "d2": -1}, "q2": {"d1": 1}} == read_qrels(tmp_path / "beir")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 d 1\nq 0 d x 1\n", r"qrels:2: a judgement must have 4 columns"),
        ("q 0 d 0.5\n", r"qrels:1: the grade must be an integer; got '0\.5'"),
        ("q 0 d nan\n", r"qrels:1: the grade must be an integer"),
        ("q 0 d high\n", r"qrels:1: the grade must be an integer; got 'high'"),
        ("q 0 d 1\nq 0 d 0\n", r'qrels:2: docid "d" is judged twice for query_id "q"'),
        ("query-id\tcorpus-id\tscore\n", "judgements are needed"),
    ],
)
def test_broken_judgements_are_refused(tmp_path, text, message):
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(InputError, match=message):
        read_qrels(tmp_path / "qrels")
