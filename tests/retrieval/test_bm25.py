"""BM25 against its formula, and its order."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile

import pytest

from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.metrics import evaluate
from tevatron_distill.retrieval import RETRIEVERS
from tevatron_distill.retrieval.bm25 import BM25
from tevatron_distill.schema import InputError, Passage

TEXTS = ["red red green", "green blue", "blue blue blue yellow", "yellow"]
PASSAGES = [Passage(f"d{number}", text) for number, text in enumerate(TEXTS)]


def lucene(word, passage, k1=0.9, b=0.4):
    lists = [text.split() for text in TEXTS]
    average = sum(len(words) for words in lists) / len(lists)
    frequency = lists[passage].count(word)
    holding = sum(word in words for words in lists)
    inverse = math.log(1 + (len(lists) - holding + 0.5) / (holding + 0.5))
    return inverse * frequency / (frequency + k1 * (1 - b + b * len(lists[passage]) / average))


def test_scores_are_lucenes_formula():
    found = BM25(PASSAGES, stemmer="none").best("green red", 10)
    assert [docid for docid, _ in found] == ["d0", "d1"]
    assert found[0][1] == pytest.approx(lucene("green", 0) + lucene("red", 0))
    assert found[1][1] == pytest.approx(lucene("green", 1))


def test_a_word_asked_twice_counts_twice_and_unknown_words_not_at_all():
    index = BM25(PASSAGES, stemmer="none", k1=1.2, b=0.75)
    [once] = index.best("red", 10)
    [twice] = index.best("red purple red", 10)
    assert once[1] == pytest.approx(lucene("red", 0, 1.2, 0.75))
    assert twice[1] == pytest.approx(2 * lucene("red", 0, 1.2, 0.75))


def test_equal_scores_stand_in_the_order_of_the_collection_at_every_depth():
    passages = [Passage(f"d{number}", "same words here") for number in range(50)]
    passages.insert(30, Passage("best", "same same same words"))
    index = BM25(passages)
    everything = [docid for docid, _ in index.best("same words", 100)]
    assert everything == ["best", *(f"d{number}" for number in range(50))]
    for depth in (1, 2, 10, 49, 51):
        assert [docid for docid, _ in index.best("same words", depth)] == everything[:depth]


def test_passages_that_share_no_word_with_the_query_are_no_results():
    index = BM25(PASSAGES)
    assert [docid for docid, _ in index.best("yellow", 10)] == ["d3", "d2"]
    for query in ("purple", "the of", "", "?!"):
        assert index.best(query, 10) == []


def test_titles_are_indexed_and_words_stemmed():
    index = BM25([Passage("a", "nothing here", "Reranking passages"), Passage("b", "reranked")])
    assert {docid for docid, _ in index.best("rerank", 10)} == {"a", "b"}
    unstemmed = BM25([Passage("a", "nothing here", "Reranking passages"), Passage("b", "reranked")], stemmer="none")
    assert unstemmed.best("rerank", 10) == []


def test_language_chooses_stopwords_and_stemmer():
    passages = [Passage("a", "die Häuser der Stadt"), Passage("b", "ein Haus und die anderen")]
    german = BM25(passages, "german")
    assert german.best("die und der", 10) == []
    assert {docid for docid, _ in german.best("Häusern", 10)} == {"a", "b"}
    assert BM25(passages, "german", "none").best("Häusern", 10) == []
    assert BM25(passages, "finnish", "none").best("der", 10) != []


def test_chinese_and_japanese_are_found_without_spaces():
    index = BM25(
        [Passage("a", "我喜欢机器学习"), Passage("b", "今天天气很好"), Passage("c", "ラーメンを食べる")], "chinese"
    )
    assert [docid for docid, _ in index.best("机器学习是什么", 10)] == ["a"]
    assert [docid for docid, _ in index.best("天气", 10)] == ["b"]
    assert [docid for docid, _ in index.best("ラーメン", 10)] == ["c"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"language": "klingon"}, "language must be one of"),
        ({"stemmer": "klingon"}, "stemmer must be one of"),
        ({"k1": -1.0}, "k1 >= 0"),
        ({"b": 1.5}, "b in 0..1"),
    ],
)
def test_settings_out_of_range_are_refused(keywords, message):
    with pytest.raises(InputError, match=message):
        BM25(PASSAGES, **keywords)


def test_a_collection_without_words_is_refused():
    with pytest.raises(InputError, match="a passage with a word"):
        BM25([Passage("a", "the of"), Passage("b", "?")])


def test_its_row_answers_every_query_in_order_best_first_and_by_depth(tmp_path):
    settings = {"language": "english", "stemmer": "auto", "k1": 0.9, "b": 0.4}
    retriever = RETRIEVERS["bm25"].build(lambda: PASSAGES, tmp_path, **settings)
    answers = list(retriever.search({"b": "green blue", "a": "zeppelin"}, 2))
    assert [query_id for query_id, _ in answers] == ["b", "a"]
    [first, second] = answers[0][1]
    assert first[1] >= second[1] > 0
    assert answers[1][1] == []
    assert (retriever.texts(["d0"]), retriever.seconds_before()) == ({}, 0.0)


def test_scores_do_not_depend_on_the_hash_seed():
    code = (
        "from tevatron_distill.retrieval.bm25 import BM25; from tevatron_distill.schema import Passage\n"
        "passages = [Passage(str(n), ' '.join(f'word{n * k % 13}' for k in range(1, 9))) for n in range(60)]\n"
        "print(BM25(passages).best(' '.join(f'word{k}' for k in range(13)), 60))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected"), [("nfcorpus", 0.318), ("scifact", 0.676)])
def test_published_figures_are_reached(data_dir, tmp_path, name, expected):
    with zipfile.ZipFile(data_dir / name / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / name
    index = BM25(read_passages(folder))
    run = {qid: dict(index.best(query, 100)) for qid, query in read_queries(folder, split="test").items()}
    result = evaluate(run, read_qrels(folder / "qrels" / "test.tsv"), ["nDCG@10"])
    assert result.mean["nDCG@10"] == pytest.approx(expected, abs=0.003)
