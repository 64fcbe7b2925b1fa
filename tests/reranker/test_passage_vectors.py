"""Stored passage vectors: the same scores, never those of another student."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tevatron_distill.reranker import Reranker
from tevatron_distill.reranker.vectors import digest
from tevatron_distill.schema import Candidates, InputError, Passage

PASSAGES = tuple(Passage(f"d{n}", "red green blue " * n + "seven", "a title" * (n % 2)) for n in range(5))
CANDIDATES = [
    Candidates("a", "one two", PASSAGES, (0.0,) * 5),
    Candidates("b", "what is a reranker?", PASSAGES[1:3], (0.0,) * 2),
]


@pytest.fixture
def load(bert_folder):
    def make(student: str = "colbert", **settings) -> Reranker:
        return Reranker.from_pretrained(str(bert_folder), student, device="cpu", **settings)

    return make


@pytest.mark.parametrize("student", ["colbert", "simcls"])
def test_scores_are_the_same_within_half_precision(load, student, tmp_path):
    plain, stored = load(student, temperature=1.0), load(student, temperature=1.0)
    assert len(stored.use_passage_vectors(tmp_path / "vectors", CANDIDATES)) == 5
    for got, expected in zip(stored.score_candidates(CANDIDATES), plain.score_candidates(CANDIDATES), strict=True):
        assert got == pytest.approx(expected, abs=2e-3)


def test_a_second_run_encodes_no_passage(load, tmp_path):
    first = load()
    first.use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    expected = first.score_candidates(CANDIDATES)
    again = load()
    again.use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    assert again.score_candidates(CANDIDATES) == expected
    assert again.batcher.count.rows == 2  # the queries


def test_a_passage_that_is_not_stored_scores_as_if_it_were(load, tmp_path):
    whole, part = load(), load()
    whole.use_passage_vectors(tmp_path / "whole", CANDIDATES)
    store = part.use_passage_vectors(tmp_path / "part", CANDIDATES[1:])
    assert len(store) == 2
    assert store.get(PASSAGES[0]) is None
    for got, expected in zip(part.score_candidates(CANDIDATES), whole.score_candidates(CANDIDATES), strict=True):
        assert got == pytest.approx(expected, abs=1e-4)


def test_the_files_are_what_encode_gives(load, tmp_path):
    reranker = load()
    reranker.use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    vectors = np.load(tmp_path / "vectors" / "vectors.npy", mmap_mode="r")
    offsets = np.load(tmp_path / "vectors" / "offsets.npy")
    assert json.loads((tmp_path / "vectors" / "docids.json").read_text()) == [one.docid for one in PASSAGES]
    assert vectors.dtype == np.float16
    assert len(vectors) == offsets[-1]
    [expected] = reranker.encode(PASSAGES[2].text)  # the only one of these without a title
    assert torch.equal(torch.tensor(vectors[offsets[2] : offsets[3]]), expected.half())


def test_a_changed_text_is_another_passage_though_its_docid_is_the_same(load, tmp_path):
    store = load().use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    assert store.get(PASSAGES[0]) is not None
    assert store.get(replace(PASSAGES[0], text="other words")) is None


def test_a_passage_is_known_by_its_title_and_text():
    one = Passage("1", "text", "title")
    assert digest(one) == digest(Passage("2", "text", "title"))
    assert digest(one) != digest(Passage("1", "text", "other"))
    assert digest(Passage("1", "ab", "")) != digest(Passage("1", "b", "a"))


@pytest.mark.parametrize("change", [{"passage_max_len": 7}, {"passage_prefix": "passage:"}, {"dtype": "bfloat16"}])
def test_vectors_of_another_student_are_refused(load, tmp_path, change):
    load().use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    with pytest.raises(InputError, match="of another student"):
        load(**change).use_passage_vectors(tmp_path / "vectors", CANDIDATES)


def test_what_concerns_queries_alone_leaves_the_vectors_valid(load, tmp_path):
    load().use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    load(query_max_len=7, temperature=0.5, query_prefix="query:").use_passage_vectors(tmp_path / "vectors", CANDIDATES)


def test_other_weights_are_refused(load, tmp_path):
    load().use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    other = load()
    with torch.no_grad():
        next(other.model.parameters()).add_(1e-3)
    with pytest.raises(InputError, match="of another student"):
        other.use_passage_vectors(tmp_path / "vectors", CANDIDATES)


def test_an_interrupted_writing_leaves_no_folder(load, tmp_path, monkeypatch):
    reranker = load()

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(reranker.model, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        reranker.use_passage_vectors(tmp_path / "vectors", CANDIDATES)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(reranker.use_passage_vectors(tmp_path / "vectors", CANDIDATES)) == 5


def test_a_folder_of_something_else_and_a_student_that_reads_pairs_are_refused(load, tmp_path, bert_classifier_folder):
    with pytest.raises(InputError, match="holds no passage vectors"):
        load().use_passage_vectors(tmp_path, CANDIDATES)
    pairs = Reranker.from_pretrained(str(bert_classifier_folder), device="cpu")
    with pytest.raises(InputError, match="needs a student that encodes passages apart"):
        pairs.use_passage_vectors(tmp_path / "vectors", CANDIDATES)
