"""Decoders read what all rows of a query begin with once, and score as if they had read it each time."""

from __future__ import annotations

import pytest
from conftest import build_causal

from tevatron_distill.reranker import Reranker, point
from tevatron_distill.schema import Candidates, Passage

QUERY = "what is a reranker? one two three four five six seven"
LISTS = [
    Candidates(name, f"{name} {QUERY}", tuple(Passage(f"d{n}", "red green blue " * (n + 1)) for n in range(6)), ())
    for name in ("one", "two", "red")
]
STUDENTS = {
    "cross_encoder": {"query_prefix": "query: " + "one two " * 20},
    "yes_token": {"prompt": "qwen3_reranker", "yes_token": "7", "no_token": "8"},
    "llm_ranker": {"query_prefix": "A: " + "one two " * 20 + "{}"},
}


def make(folder, student, monkeypatch, *, shared):
    if not shared:
        monkeypatch.setattr(point, "score_related", lambda *_: None)
    return Reranker.from_pretrained(str(folder), student, device="cpu", batch_tokens=500, **STUDENTS[student])


@pytest.fixture(params=STUDENTS)
def student(request):
    return request.param


@pytest.fixture
def folder(student, make_folder, tmp_path):
    folder = make_folder(build_causal, "llama")
    if student != "cross_encoder":
        return folder
    loaded = Reranker.from_pretrained(str(folder), "yes_token", device="cpu")
    for part in (loaded.model, loaded.layout.tokenizer):
        part.save_pretrained(tmp_path)
    return tmp_path


def test_scores_are_those_of_rows_that_are_read_whole(folder, student, monkeypatch):
    ranker = make(folder, student, monkeypatch, shared=True)
    scores = ranker.score_candidates(LISTS)
    plain = make(folder, student, monkeypatch, shared=False)
    expected = plain.score_candidates(LISTS)
    for found, whole in zip(scores, expected, strict=True):
        assert found == pytest.approx(whole, abs=1e-5)
    assert ranker.batcher.count.rows == plain.batcher.count.rows == 18
    assert ranker.batcher.count.padded < 0.8 * plain.batcher.count.padded
    assert 0 < ranker.batcher.count.real_share <= 1


def test_rows_that_hardly_begin_alike_are_read_whole(make_folder, monkeypatch):
    ranker = Reranker.from_pretrained(str(make_folder(build_causal, "llama")), "yes_token", device="cpu")
    apart = [Candidates("a", "one", (Passage("d", "red green " * 150), Passage("e", "blue " * 300)), ())]
    ranker.score_candidates(apart)
    read = ranker.batcher.count.tokens
    assert read == sum(len(row.input_ids) for row in ranker.layout.rows(apart[0]))


def test_a_model_with_a_sliding_window_reads_rows_whole(make_folder):
    folder = str(make_folder(build_causal, "gemma2"))
    answers = {"prompt": "qwen3_reranker", "yes_token": "7", "no_token": ""}
    ranker = Reranker.from_pretrained(folder, "yes_token", device="cpu", **answers)
    ranker.score_candidates(LISTS)
    assert ranker.batcher.count.tokens == sum(len(row.input_ids) for one in LISTS for row in ranker.layout.rows(one))
