"""FIRST's losses on logits made by hand, against plain loops over the published formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.permutation import labels_from_ranks

LOGITS = [21.5, 19.0, 20.25, 18.5, 22.0]
PERMUTATION = (2, 4, 0, 3, 1)
RANKS = {position: rank for rank, position in enumerate(PERMUTATION, start=1)}
PAIRS = [(i, j) for i in RANKS for j in RANKS if RANKS[i] < RANKS[j]]


def first_rank_net(logits: list[float], ranks: dict[int, int], weighted: bool) -> float:
    """RankLLM: mean over ordered pairs of log(1 + exp(s_j - s_i)), each times 1 / (r_i + r_j), over the pair count."""
    pairs = [(i, j) for i in ranks for j in ranks if ranks[i] < ranks[j]]
    terms = [
        math.log1p(math.exp(logits[j] - logits[i])) * (1 / (ranks[i] + ranks[j]) if weighted else 1) for i, j in pairs
    ]
    return sum(terms) / len(pairs)


def first_list_net(logits: list[float], labels: tuple[float, ...]) -> float:
    """-Σ softmax(labels) · log softmax(logits)."""
    top, bottom = sum(map(math.exp, labels)), sum(map(math.exp, logits))
    return -sum(math.exp(t) / top * math.log(math.exp(s) / bottom) for t, s in zip(labels, logits, strict=True))


def first_lambda(logits: list[float], labels: tuple[float, ...]) -> float:
    """allRank's ndcgLoss2 as RankLLM calls it: σ = 1, no cut, base 2, mean over ordered pairs."""
    discount = [math.log2(1 + place) for place in range(1, len(logits) + 2)]
    ideal = sum((2**label - 1) / discount[place] for place, label in enumerate(sorted(labels, reverse=True)))
    gains = [(2**label - 1) / ideal for label in labels]
    places = {i: sorted(logits, reverse=True).index(logit) for i, logit in enumerate(logits)}
    terms = []
    for i in places:
        for j in places:
            if labels[i] > labels[j]:
                distance = abs(places[i] - places[j])
                weight = abs(1 / discount[distance - 1] - 1 / discount[distance]) * abs(gains[i] - gains[j])
                terms.append(-math.log2((1 / (1 + math.exp(logits[j] - logits[i]))) ** weight))
    return sum(terms) / len(terms)


def ours(name: str, logits: list[float], labels: tuple[float, ...], **options: bool) -> float:
    mask = torch.ones(1, len(logits), dtype=torch.bool)
    return ranking_loss(LOSSES[name], torch.tensor([logits]), torch.tensor([labels]), mask, **options).item()


LABELS = labels_from_ranks([RANKS[place] for place in range(5)], "reciprocal")


@pytest.mark.parametrize("weighted", [False, True])
def test_rank_net(weighted):
    expected = first_rank_net(LOGITS, RANKS, weighted)
    assert ours("rank_net", LOGITS, LABELS, weighted=weighted) == pytest.approx(expected, rel=1e-5)


def test_list_net():
    assert ours("list_net", LOGITS, LABELS) == pytest.approx(first_list_net(LOGITS, LABELS), rel=1e-5)


def test_lambda():
    assert ours("ndcg_loss2", LOGITS, LABELS) == pytest.approx(first_lambda(LOGITS, LABELS), rel=1e-4)


@given(st.permutations(range(7)), st.lists(st.integers(-40, 40), min_size=7, max_size=7, unique=True))
def test_all_three_on_any_logits(permutation, tenths):
    logits = [value / 10 for value in tenths]
    ranks = {position: rank for rank, position in enumerate(permutation, start=1)}
    labels = labels_from_ranks([ranks[place] for place in range(7)], "reciprocal")
    for weighted in (False, True):
        expected = first_rank_net(logits, ranks, weighted)
        assert ours("rank_net", logits, labels, weighted=weighted) == pytest.approx(expected, rel=1e-4)
    assert ours("list_net", logits, labels) == pytest.approx(first_list_net(logits, labels), rel=1e-4)
    assert ours("ndcg_loss2", logits, labels) == pytest.approx(first_lambda(logits, labels), rel=1e-3)


def test_weights_of_twenty_passages_are_divided_by_the_count_of_pairs():
    """190 pairs, mean weight .0593, largest 1/3."""
    weights = [1 / (i + j) for i in range(1, 21) for j in range(i + 1, 21)]
    assert (len(weights), max(weights)) == (190, 1 / 3)
    labels = labels_from_ranks(range(1, 21), "reciprocal")
    equal = ours("rank_net", [0.0] * 20, labels, weighted=True)
    assert equal == pytest.approx(math.log(2) * sum(weights) / 190, rel=1e-5)
    assert equal / ours("rank_net", [0.0] * 20, labels) == pytest.approx(0.0593, abs=5e-5)


def test_weights_come_from_ranks_whatever_the_labels_scale():
    by_ranks = ours("rank_net", LOGITS, LABELS, weighted=True)
    linear = labels_from_ranks([RANKS[place] for place in range(5)], "linear")
    assert ours("rank_net", LOGITS, linear, weighted=True) == pytest.approx(by_ranks, rel=1e-6)


def test_tied_passages_share_the_mean_of_their_ranks():
    expected = sum(math.log(2) / (1 + 2.5) for _ in range(2)) / 2
    assert ours("rank_net", [0.0, 0.0, 0.0], (1.0, 0.5, 0.5), weighted=True) == pytest.approx(expected)


def test_padding_has_no_rank():
    labels, mask = torch.tensor([[1.0, 0.5, 9.0]]), torch.tensor([[True, True, False]])
    loss = ranking_loss(LOSSES["rank_net"], torch.zeros(1, 3), labels, mask, weighted=True)
    assert loss.item() == pytest.approx(math.log(2) / (1 + 2))


def test_preferences_have_no_ranks_to_weigh_by():
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="preferences have none"):
        ranking_loss(LOSSES["rank_net"], torch.zeros(1, 2), torch.full((1, 2, 2), 0.5), mask, weighted=True)


@pytest.mark.parametrize("name", ["lambda_loss", "ndcg_loss2", "list_net", "rank_net"])
@pytest.mark.parametrize("level", [-30.0, 130.0])
def test_the_level_of_the_logits_does_not_matter(name, level):
    """RankLLM makes gains of the logits: below 0 its lambda is 0 without a gradient, around 130 it is no number."""
    shifted = torch.tensor([[level + logit - 20 for logit in LOGITS]], requires_grad=True)
    mask = torch.ones(1, 5, dtype=torch.bool)
    loss = ranking_loss(LOSSES[name], shifted, torch.tensor([LABELS]), mask)
    loss.sum().backward()
    assert loss.item() == pytest.approx(ours(name, [logit - 20 for logit in LOGITS], LABELS), rel=1e-3)
    assert loss.item() > 0
    assert shifted.grad.abs().sum() > 0


def test_the_target_is_the_teachers_and_bears_no_gradient():
    """RankLLM's targets are the student's own logits: the gradient leaks into them, and equal ones drop pairs."""
    scores = torch.tensor([LOGITS], requires_grad=True)
    labels = torch.tensor([LABELS])
    ranking_loss(LOSSES["list_net"], scores, labels, torch.ones(1, 5, dtype=torch.bool)).sum().backward()
    torch.testing.assert_close(scores.grad, scores.detach().softmax(-1) - labels.softmax(-1))
    assert ours("rank_net", [20.0] * 5, LABELS) == pytest.approx(math.log(2))  # all ten pairs count
