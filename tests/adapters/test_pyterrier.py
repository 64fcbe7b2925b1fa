"""A student in PyTerrier's pipelines: by the table's contract, and with PyTerrier itself (without Java)."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

import tevatron_distill
from tevatron_distill.adapters.pyterrier import pyterrier_transformer, rerank_frame
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError


class WordCount:
    """Stands in for a student: a passage's score is how many of its words are the query's."""

    def score_candidates(self, lists):
        return [
            [float(sum(word in one.query.split() for word in passage.text.split())) for passage in one.passages]
            for one in lists
        ]


@pytest.fixture
def frame():
    rows = [
        ("q2", "red cat", "a", "one red", 9.0, 0),
        ("q1", "two", "c", "no", 4.0, 0),
        ("q2", "red cat", "b", "red cat", 8.0, 1),
        ("q1", "two", "a", "two two", 3.0, 1),
        ("q1", "two", "d", "none", 2.0, 2),
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def test_each_query_is_ranked_among_its_own_rows_and_ties_keep_their_order(frame):
    before = frame.copy()
    ranked = rerank_frame(WordCount(), frame)
    assert list(zip(ranked["qid"], ranked["docno"], ranked["score"], ranked["rank"], strict=True)) == [
        ("q2", "b", 2.0, 0),
        ("q2", "a", 1.0, 1),
        ("q1", "a", 2.0, 0),
        ("q1", "c", 0.0, 1),
        ("q1", "d", 0.0, 2),
    ]
    assert frame.equals(before)


def test_an_empty_table_stays_empty_with_the_new_columns():
    ranked = rerank_frame(WordCount(), pd.DataFrame(columns=["qid", "query", "docno", "body"]), "body")
    assert list(ranked.columns) == ["qid", "query", "docno", "body", "score", "rank"]
    assert not len(ranked)


def test_a_column_or_a_text_that_is_missing_is_named(frame):
    with pytest.raises(InputError, match=r"columns qid, query, docno and body; body is missing; .*get_text"):
        rerank_frame(WordCount(), frame, "body")
    frame.loc[3, "text"] = float("nan")
    with pytest.raises(InputError, match='docno "a": text must be a text; got nan'):
        rerank_frame(WordCount(), frame)


def test_titles_are_read_where_there_are_some(frame):
    shown = []

    class Student(WordCount):
        def score_candidates(self, lists):
            shown.extend(passage for one in lists for passage in one.passages)
            return super().score_candidates(lists)

    rerank_frame(Student(), frame.assign(title=["cat", float("nan"), "", "dog", None]))
    assert [(passage.docid, passage.title) for passage in shown] == [
        *(("a", "cat"), ("b", "")),
        *(("c", ""), ("a", "dog"), ("d", "")),
    ]


def test_it_is_a_step_of_a_pipeline(frame, bert_classifier_folder):
    pyterrier = pytest.importorskip("pyterrier", reason="PyTerrier is not installed")
    reranker = Reranker.from_pretrained(str(bert_classifier_folder), device="cpu")
    first_stage = pyterrier.Transformer.from_df(frame)
    pipeline = (first_stage >> tevatron_distill.pyterrier_transformer(reranker)) % 2
    ranked = pipeline(frame[["qid", "query"]].drop_duplicates())
    assert not pyterrier.java.started()
    pairs = list(zip(frame["query"], frame["text"], strict=True))
    scores = dict(zip(zip(frame["qid"], frame["docno"], strict=True), reranker.compute_score(pairs), strict=True))
    found = {(row.qid, row.docno): row.score for row in ranked.itertuples()}
    worst = min((key for key in scores if key[0] == "q1"), key=scores.__getitem__)
    assert found.keys() == scores.keys() - {worst}
    assert found == pytest.approx({key: scores[key] for key in found}, rel=1e-4, abs=1e-5)
    assert pyterrier.inspect.transformer_outputs(pipeline, ["qid", "query"])[-2:] == ["score", "rank"]


def test_without_pyterrier_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyterrier", None)
    with pytest.raises(InputError, match="pyterrier_transformer needs pyterrier: pip install pyterrier"):
        pyterrier_transformer(WordCount())
