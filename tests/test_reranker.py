"""Reranker: lists, pairs and vectors from Python."""

from __future__ import annotations

import functools

import pytest
import torch
from conftest import build_bert, build_causal, build_t5

from tevatron_distill.batching import auto_batch_tokens
from tevatron_distill.layouts import PointLayout
from tevatron_distill.reranker import Reranker, dual
from tevatron_distill.schema import Candidates, InputError, Passage

KINDS = {
    "cross_encoder": (build_bert, {"head": True}),
    "yes_token": (build_causal, {}),
    "yes_token t5": (build_t5, {}),
    "colbert": (build_bert, {}),
}
LISTS = [
    Candidates("a", "one two", tuple(Passage(f"d{n}", "red green blue " * n + "seven") for n in range(7)), ()),
    Candidates("b", "what is a reranker?", (Passage("d1", "red green blue seven"), Passage("x", "a dog", "cat")), ()),
    Candidates("c", "one two", (Passage("y", "one two three"),), ()),
]


@pytest.fixture(params=KINDS)
def make(request, make_folder):
    build, keywords = KINDS[request.param]
    folder = make_folder(build, **keywords)
    return lambda **settings: Reranker.from_pretrained(folder, request.param.split()[0], device="cpu", **settings)


def test_scores_do_not_depend_on_batches_or_on_other_lists(make):
    whole = make().score_candidates(LISTS)
    assert [len(row) for row in whole] == [7, 2, 1]
    tight = make(batch_tokens=1).score_candidates(LISTS)
    for one, row, alone in zip(LISTS, whole, tight, strict=True):
        assert alone == pytest.approx(row, abs=1e-4)
        assert make().score_candidates([one])[0] == pytest.approx(row, abs=1e-4)


def test_on_a_cpu_rows_are_padded_to_the_longest_of_their_batch_only(make):
    ranker = make(pad_to_multiple_of=64)
    ranker.rank("one two", ["red green"] * 3)
    assert ranker.batcher.count.real_share == 1


def test_the_budget_is_that_of_the_device_where_none_is_given(make):
    assert make().batcher.batch_tokens == auto_batch_tokens("cpu", 32)
    assert make(batch_tokens=77).batcher.batch_tokens == 77


def test_ranking_texts_gives_positions_and_ranking_passages_gives_docids(make):
    ranker = make()
    texts = [passage.text for passage in LISTS[0].passages]
    by_position = ranker.rank("one two", texts)
    by_docid = ranker.rank("one two", LISTS[0].passages)
    assert [f"d{position}" for position, _ in by_position] == [docid for docid, _ in by_docid]
    scores = [score for _, score in by_position]
    assert scores == sorted(scores, reverse=True)
    assert sorted(position for position, _ in by_position) == list(range(7))
    assert ranker.rank("one two", []) == []


def test_pairs_have_the_scores_of_their_lists(make):
    ranker = make()
    texts = [passage.text for passage in LISTS[0].passages]
    expected = dict(ranker.rank("one two", texts))
    scores = ranker.compute_score([["one two", text] for text in texts])
    assert scores == pytest.approx([expected[position] for position in range(7)], abs=1e-4)
    assert ranker.compute_score(["one two", texts[3]]) == pytest.approx(scores[3], abs=1e-4)
    assert ranker.compute_score([("one two", texts[3]), ("one two", texts[4])]) == pytest.approx(scores[3:5], abs=1e-4)


@pytest.mark.parametrize(("query", "text"), [("", "text"), (" \n", "text"), ("query", ""), ("query", " ")])
def test_an_empty_text_is_refused(make, query, text):
    with pytest.raises(InputError, match="must have text"):
        make().rank(query, [text])


def test_a_score_that_is_no_number_is_an_error(make):
    ranker = make()
    with torch.no_grad():
        for weight in ranker.model.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r'query_id "a", docid "d0".*finite; got nan'):
        ranker.score_candidates(LISTS)


def test_what_went_through_the_model_is_counted(make):
    ranker = make()
    assert ranker.batcher.count.real_share == 1.0
    ranker.score_candidates(LISTS)
    assert 0 < ranker.batcher.count.tokens <= ranker.batcher.count.padded
    assert ranker.batcher.count.rows == (10 if isinstance(ranker.layout, PointLayout) else 2 + 9)  # distinct texts


def test_memory_that_runs_out_halves_the_batch_and_changes_no_score(make, caplog):
    expected = make().score_candidates(LISTS)
    ranker = make()
    encode = vars(type(ranker.model)).get("encode")

    def check(rows: torch.Tensor) -> None:
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError

    def small(forward):
        @functools.wraps(forward)
        def small_forward(*args, **inputs):
            check(next(iter((*args, *inputs.values()))))
            return forward(*args, **inputs)

        return small_forward

    def small_encode(input_ids, attention_mask, normalize=True):
        check(input_ids)
        return encode(ranker.model, input_ids, attention_mask, normalize)

    ranker.model.encode = small_encode
    for part in {ranker.model, ranker.model.base_model}:  # rows that begin alike go through the backbone
        part.forward = small(part.forward)
    for row, wanted in zip(ranker.score_candidates(LISTS), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)
    assert "out of memory" in caplog.text


def test_a_passage_is_encoded_once_however_many_queries_want_it(make_folder, monkeypatch):
    ranker = Reranker.from_pretrained(make_folder(build_bert), "colbert", device="cpu")
    monkeypatch.setattr(dual, "PAIRS_AT_ONCE", 3)
    shared = tuple(Passage(f"d{n}", "red " * (n + 1)) for n in range(5))
    lists = [Candidates(f"q{n}", word, shared, ()) for n, word in enumerate(["one", "two", "one"])]
    scores = ranker.score_candidates(lists)
    assert ranker.batcher.count.rows == 5 + 2
    assert scores[0] == scores[2]
    assert scores[1] == pytest.approx([dict(ranker.rank("two", shared))[passage.docid] for passage in shared], abs=1e-4)


def test_vectors_of_texts_score_as_the_reranker_does(make_folder):
    ranker = Reranker.from_pretrained(make_folder(build_bert), "colbert", device="cpu")
    texts = ["one two three", "red"]
    passages = ranker.encode(texts, normalize_embeddings=True)
    [query] = ranker.encode("what is red?", is_query=True)
    assert [tuple(one.shape) for one in passages] == [(5, 32), (3, 32)]
    assert torch.allclose(query.norm(dim=-1), torch.ones(len(query)), atol=1e-5)
    by_hand = [(query @ one.T).amax(dim=1).mean().item() / 0.02 for one in passages]
    assert ranker.compute_score([["what is red?", text] for text in texts]) == pytest.approx(by_hand, abs=1e-3)
    [raw] = ranker.encode("red", normalize_embeddings=False)
    assert torch.allclose(torch.nn.functional.normalize(raw, dim=-1), passages[1], atol=1e-5)


def test_only_colbert_makes_vectors(bert_classifier_folder):
    with pytest.raises(TypeError, match="only colbert and simcls make vectors of passages; this one is cross_encoder"):
        Reranker.from_pretrained(bert_classifier_folder, device="cpu").encode(["one"])


def test_a_pair_must_be_two_texts(bert_classifier_folder):
    ranker = Reranker.from_pretrained(bert_classifier_folder, device="cpu")
    with pytest.raises(InputError, match=r"pair 1: must be \[query, passage\]"):
        ranker.compute_score([["q", "p"], ["q"]])


@pytest.mark.data
@pytest.mark.slow
def test_an_untrained_minilm_ranks_dl19_by_maxsim_as_measured(data_dir, minilm_folder):
    from tevatron_distill.formats import load_candidates
    from tevatron_distill.formats.qrels import read_qrels
    from tevatron_distill.metrics import evaluate

    candidates = load_candidates(data_dir / "rank_llm/retrieve_results/BM25/retrieve_results_dl19.json")
    scores = Reranker.from_pretrained(minilm_folder, "colbert").score_candidates(candidates)
    run = {
        one.query_id: {passage.docid: score for passage, score in zip(one.passages, row, strict=True)}
        for one, row in zip(candidates, scores, strict=True)
    }
    qrels = read_qrels(data_dir / "msmarco_dl/qrels/qrels.dl19-passage.txt")
    assert evaluate(run, qrels, ["nDCG@10"]).mean["nDCG@10"] == pytest.approx(0.659, abs=0.002)
