"""ColBERT's MaxSim against sentence-transformers, FlagEmbedding's BGE-M3 and loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from tevatron_distill.layouts.similarity import MaxSim

LENGTHS = ((7, 12), (1, 3), (5, 12), (3, 1))
"""Tokens of a query and of its passage that count."""


@pytest.fixture
def rows():
    """Queries and passages side by side, with garbage in their pads and tokens that do not count among them."""
    generator = torch.Generator().manual_seed(6)
    query = normalize(torch.randn(4, 9, 8, generator=generator), dim=-1)
    passage = normalize(torch.randn(4, 14, 8, generator=generator), dim=-1)
    query_counted = torch.stack([torch.arange(9) < length for length, _ in LENGTHS])
    passage_counted = torch.stack([torch.arange(14) < length for _, length in LENGTHS])
    query_counted[0, 2] = passage_counted[0, 3] = passage_counted[2, :4] = False
    return query.requires_grad_(), query_counted, passage.requires_grad_(), passage_counted


def alone(vectors, counted):
    """The vectors of each row that count."""
    return [row[keep].detach().numpy() for row, keep in zip(vectors, counted, strict=True)]


@pytest.mark.parametrize("mean", [True, False])
def test_scores_and_gradients_are_those_of_sentence_transformers(rows, mean):
    similarity = pytest.importorskip("sentence_transformers.util")
    query, query_counted, passage, passage_counted = rows
    pairwise = similarity.mean_maxsim_pairwise if mean else similarity.maxsim_pairwise
    theirs = pairwise(query, passage, query_counted, passage_counted)
    expected = torch.autograd.grad(theirs.sum(), (query, passage))
    ours = MaxSim(mean=mean)(query, query_counted, passage, passage_counted)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for found, wanted in zip(torch.autograd.grad(ours.sum(), (query, passage)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_all_passages_of_a_query_are_a_row_of_its_matrix(rows):
    similarity = pytest.importorskip("sentence_transformers.util")
    query, query_counted, passage, passage_counted = rows
    theirs = similarity.mean_maxsim(query, passage, query_counted, passage_counted)
    for number in range(4):
        one = slice(number, number + 1)
        ours = MaxSim()(query[one], query_counted[one], passage, passage_counted)
        torch.testing.assert_close(ours, theirs[number], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_scores_are_bge_m3s_colbert_scores(rows):
    m3 = pytest.importorskip("FlagEmbedding.inference.embedder.encoder_only.m3").M3Embedder
    query, query_counted, passage, passage_counted = rows
    pairs = zip(alone(query, query_counted), alone(passage, passage_counted), strict=True)
    expected = [m3.colbert_score(None, *pair).item() for pair in pairs]
    assert MaxSim()(query, query_counted, passage, passage_counted).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_scores_in_training_are_those_of_bge_m3s():
    """There every passage's pads are vectors of zeros, which can be the largest; no token is left out of it here."""
    modeling = pytest.importorskip("FlagEmbedding.finetune.embedder.encoder_only.m3.modeling")
    generator = torch.Generator().manual_seed(2)
    query = normalize(torch.rand(2, 5, 8, generator=generator), dim=-1)
    passage = normalize(torch.rand(3, 6, 8, generator=generator), dim=-1)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])  # with the place of [CLS], which has no vector
    query = query * mask[:, 1:, None]

    class Itself:
        temperature = 0.02

    theirs = modeling.EncoderOnlyEmbedderM3Model.compute_colbert_score(Itself, query, passage, q_mask=mask)
    everything = torch.ones(3, 6, dtype=torch.bool)
    for number in range(2):
        one = slice(number, number + 1)
        ours = MaxSim(temperature=0.02)(query[one], mask[one, 1:].bool(), passage, everything)
        assert ours.tolist() == pytest.approx(theirs[number].tolist(), rel=1e-5)


def test_scores_are_those_of_loops(rows):
    query, query_counted, passage, passage_counted = rows
    expected = []
    for q, p in zip(alone(query, query_counted), alone(passage, passage_counted), strict=True):
        expected.append(sum(max(sum(a * b for a, b in zip(x, y, strict=True)) for y in p) for x in q))
    ours = MaxSim(mean=False)(query, query_counted, passage, passage_counted)
    assert ours.tolist() == pytest.approx(expected, abs=1e-5)
