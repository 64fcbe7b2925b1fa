"""Reciprocal rank fusion of runs, alone and by the driver."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.driver.retrieve import main
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.runs import read_run, write_run
from tevatron_distill.retrieval.hybrid import Hybrid
from tevatron_distill.schema import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.trec").write_text("q1 Q0 d1 1 9.0 a\nq1 Q0 d2 2 8.0 a\nq2 Q0 d4 1 1.0 a\n")
    (tmp_path / "b.tsv").write_text("q1\td3\t0.9\nq1\td1\t0.8\nq1\td2\t0.7\nq3\td5\t0.1\n")
    (tmp_path / "corpus.tsv").write_text("".join(f"d{n}\ttext {n}\n" for n in range(1, 6)))
    (tmp_path / "queries.tsv").write_text("q3\tthree\nq1\tone\nq9\tnine\n")
    return tmp_path


RUNS = ["--retriever", "hybrid", "--run_paths", "a.trec", "b.tsv", "--output_path", "out.trec"]


def test_a_passage_scores_one_over_k_and_its_rank_in_every_run_that_found_it(folder):
    [(_, found)] = Hybrid(["a.trec", "b.tsv"]).search({"q1": ""}, 10)
    expected = {"d1": 1 / 61 + 1 / 62, "d2": 1 / 62 + 1 / 63, "d3": 1 / 61}
    assert [docid for docid, _ in found] == ["d1", "d2", "d3"]
    assert dict(found) == pytest.approx(expected, rel=1e-12)
    [(_, near)] = Hybrid(["a.trec", "b.tsv"], rrf_k=0).search({"q1": ""}, 2)
    assert near == [("d1", pytest.approx(1 / 1 + 1 / 2)), ("d3", pytest.approx(1 / 1))]


def test_the_driver_fuses_runs_without_queries_and_collection(folder):
    main(RUNS)
    assert {query_id: list(scores) for query_id, scores in read_run("out.trec").items()} == {
        "q1": ["d1", "d2", "d3"],
        "q2": ["d4"],
        "q3": ["d5"],
    }
    record = json.loads((folder / "out.trec.run_config.json").read_text())
    assert set(record["inputs"]) == {"a.trec", "b.tsv"}
    assert "seconds_per_query" not in record["report"]


def test_texts_are_joined_for_the_queries_that_are_asked(folder, caplog):
    words = ["--corpus_path", "corpus.tsv", "--queries_path", "queries.tsv", "--rerank_input_path", "rows.jsonl"]
    main([*RUNS, *words, "--depth", "1"])
    rows = [(row.query_id, row.query, [p.text for p in row.passages]) for row in load_candidates("rows.jsonl")]
    assert rows == [("q3", "three", ["text 5"]), ("q1", "one", ["text 1"])]
    assert "1 of 3 queries match no passage" in caplog.text


def test_its_time_counts_the_runs_that_it_fuses(folder):
    for name, seconds in (("a.trec", 2.0), ("b.tsv", 3.0)):
        (folder / f"{name}.run_config.json").write_text(json.dumps({"report": {"seconds_per_query": seconds}}))
    main(RUNS)
    report = json.loads((folder / "out.trec.run_config.json").read_text())["report"]
    assert report["seconds_per_query"] == pytest.approx(2.0 + 3.0 + report["seconds"] / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retriever", "hybrid"], "needs --run_paths, the runs that are fused; got none"),
        (["--retriever", "hybrid", "--run_paths", "a.trec", "a.trec"], "must name each run once"),
        ([*RUNS[:5], "--rrf_k", "-1"], "--rrf_k must be at least 0; got -1"),
        ([*RUNS[:5], "--k1", "1.2"], "--k1 is for --retriever bm25 or lucene; got it with hybrid"),
        ([*RUNS[:5], "--rerank_input_path", "rows.jsonl"], "needs the queries' texts: give --queries_path"),
        (["--corpus_path", "corpus.tsv", "--queries_path", "queries.tsv", "--run_paths", "a.trec"], "for --retriever"),
    ],
)
def test_flags_that_do_not_fit_are_refused(folder, words, message):
    with pytest.raises(InputError, match=message):
        main([*words, "--output_path", "out.trec"])


def test_rows_without_a_collection_are_refused_and_the_run_is_kept(folder):
    with pytest.raises(InputError, match=r"give --corpus_path, with --retrieval_results out\.trec"):
        main([*RUNS, "--queries_path", "queries.tsv", "--rerank_input_path", "rows.jsonl"])
    assert read_run("out.trec")


@given(st.lists(st.permutations([f"d{n}" for n in range(6)]), min_size=1, max_size=4), st.integers(1, 6))
def test_fusing_keeps_every_passage_and_does_not_depend_on_the_scores(tmp_path_factory, orders, depth):
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for number, order in enumerate(orders):
        shown = order[: 1 + number % 6]
        paths.append(folder / f"{number}.trec")
        write_run(paths[-1], {"q": {docid: 7.0 * -place for place, docid in enumerate(shown)}}, "trec")
    [(_, found)] = Hybrid(paths).search({"q": ""}, 100)
    named = {docid for number, order in enumerate(orders) for docid in order[: 1 + number % 6]}
    assert {docid for docid, _ in found} == named
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    [(_, first)] = Hybrid(paths).search({"q": ""}, depth)
    assert first == found[:depth]
