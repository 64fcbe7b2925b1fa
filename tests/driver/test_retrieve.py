"""driver.retrieve in both of its forms."""

from __future__ import annotations

import json
import logging

import pytest

from tevatron_distill.driver.retrieve import main
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.runs import read_run
from tevatron_distill.schema import InputError, Passage


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    passages = [("d1", "Apples", "apples are red"), ("d2", "", "bananas are yellow"), ("d3", "", "red red wine")]
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"docid": d, "title": title, "text": text}) + "\n" for d, title, text in passages)
    )
    (tmp_path / "queries.tsv").write_text("q1\tred apples\nq2\tzeppelins\nq3\tyellow\n")
    return tmp_path


SOURCES = ["--corpus_path", "corpus.jsonl", "--queries_path", "queries.tsv"]
JOIN = ["--corpus_data_name", "corpus.jsonl", "--query_data_name", "queries.tsv", "--retrieval_results", "their.run"]


def test_bm25_writes_a_run_and_its_rows_and_counts_queries_without_a_match(folder, caplog):
    with caplog.at_level(logging.WARNING):
        main([*SOURCES, "--retriever", "bm25", "--output_path", "run.trec", "--rerank_input_path", "rows.jsonl"])
    assert "1 of 3 queries match no passage" in caplog.text
    lines = [line.split() for line in (folder / "run.trec").read_text().splitlines()]
    assert [(line[0], line[2], line[3], line[5]) for line in lines] == [
        ("q1", "d1", "1", "bm25"),
        ("q1", "d3", "2", "bm25"),
        ("q3", "d2", "1", "bm25"),
    ]
    rows = {entry.query_id: entry for entry in load_candidates("rows.jsonl")}
    assert rows["q1"].query == "red apples"
    assert rows["q1"].passages[0] == Passage("d1", "apples are red", "Apples")
    run = read_run("run.trec")
    for query_id, entry in rows.items():
        assert dict(zip((p.docid for p in entry.passages), entry.scores, strict=True)) == pytest.approx(run[query_id])
    record = json.loads((folder / "run.trec.run_config.json").read_text())
    assert record["arguments"]["k1"] == 0.9
    assert record["report"]["queries"] == 3
    assert record["report"]["seconds_per_query"] > 0


def test_a_run_is_written_the_same_every_time_and_only_to_its_depth(folder):
    main([*SOURCES, "--output_path", "one.trec"])
    main([*SOURCES, "--output_path", "two.trec"])
    main([*SOURCES, "--output_path", "short.trec", "--depth", "1"])
    one = (folder / "one.trec").read_text()
    assert one == (folder / "two.trec").read_text()
    assert (folder / "short.trec").read_text().splitlines() == [line for line in one.splitlines() if " 1 " in line]


def test_tied_passages_get_strictly_decreasing_scores(folder):
    (folder / "corpus.tsv").write_text("".join(f"d{n}\tsame words\n" for n in range(5)))
    (folder / "q.tsv").write_text("q\tsame words\n")
    main(["--corpus_path", "corpus.tsv", "--queries_path", "q.tsv", "--output_path", "run.trec"])
    run = read_run("run.trec")["q"]
    assert list(run) == [f"d{n}" for n in range(5)]
    assert len(set(run.values())) == 5


@pytest.mark.parametrize(
    "run",
    [
        "q3\td2\t5\nq1\td3\t9\nq1\td1\t8\n",
        "q3 d2 1 5\nq1 d3 1 9\nq1 d1 2 8\n",
        "q3 Q0 d2 1 5 t\nq1 Q0 d1 2 8 t\nq1 Q0 d3 1 9 t\n",
    ],
)
def test_somebody_elses_run_is_joined_with_texts(folder, run):
    (folder / "their.run").write_text(run)
    main([*JOIN, "--output_path", "rows.jsonl", "--depth", "2"])
    rows = load_candidates("rows.jsonl")
    assert [(entry.query_id, [p.docid for p in entry.passages], entry.scores) for entry in rows] == [
        ("q3", ["d2"], (5.0,)),
        ("q1", ["d3", "d1"], (9.0, 8.0)),
    ]
    main([*JOIN, "--output_path", "top.jsonl", "--depth", "1"])
    assert [[p.docid for p in entry.passages] for entry in load_candidates("top.jsonl")] == [["d2"], ["d3"]]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("q1 d9 1\n", r'docid "d9" of query_id "q1" is not in the collection'),
        ("q9 d1 1\n", r'query_id "q9" of the run is not among the 3 queries'),
        ("q1 d1 nan\n", r"their\.run:1: the score must be a finite number"),
    ],
)
def test_a_run_that_does_not_belong_to_the_texts_is_refused(folder, run, message):
    (folder / "their.run").write_text(run)
    with pytest.raises(InputError, match=message):
        main([*JOIN, "--output_path", "rows.jsonl"])
    assert not (folder / "rows.jsonl").exists()


def test_blank_passages_of_a_run_are_left_out_of_the_rows_with_one_warning(folder, caplog):
    with open(folder / "corpus.jsonl", "a") as file:
        file.write('{"docid": "blank", "title": "", "text": ""}\n')
    (folder / "their.run").write_text("q1 blank 9\nq1 d1 8\n")
    with caplog.at_level(logging.WARNING):
        main([*JOIN, "--output_path", "rows.jsonl"])
    assert [p.docid for p in load_candidates("rows.jsonl")[0].passages] == ["d1"]
    assert "1 lines name passages without text" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus_path", "corpus.jsonl"], "one of --queries_path and --query_data_name is needed; got neither"),
        ([*SOURCES, "--corpus_data_name", "x"], "one of --corpus_path and --corpus_data_name is needed; got both"),
        ([*SOURCES, "--depth", "0"], "--depth must be at least 1"),
        ([*JOIN, "--rerank_input_path", "x"], "drop --rerank_input_path"),
        ([*SOURCES, "--b", "2"], "b in 0..1"),
    ],
)
def test_flags_that_do_not_fit_are_refused(folder, words, message):
    (folder / "their.run").write_text("q1 d1 1\n")
    with pytest.raises(InputError, match=message):
        main([*words, "--output_path", "out"])


@pytest.mark.parametrize("existing", ["run.trec", "rows.jsonl"])
def test_complete_output_stops_the_run_before_it_starts(folder, existing):
    (folder / existing).write_text("old")
    words = [*SOURCES, "--output_path", "run.trec", "--rerank_input_path", "rows.jsonl"]
    with pytest.raises(InputError, match=f"{existing}: the output exists already"):
        main(words)
    main([*words, "--overwrite_output_dir"])
    assert (folder / existing).read_text() != "old"


def test_queries_that_all_match_nothing_are_refused(folder):
    (folder / "queries.tsv").write_text("q\tzeppelins\n")
    with pytest.raises(InputError, match="no query matches a passage"):
        main([*SOURCES, "--output_path", "run.trec"])
