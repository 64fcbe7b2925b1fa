"""Every loss against its published formula, written as loops over one query in double precision.

Gradients are those of the loops. Queries stand in one padded batch with garbage in its pads.
"""

from __future__ import annotations

import math
from itertools import combinations, permutations

import pytest
import torch
from comparing import KINDS, Batch, draw, our_losses

from tevatron_distill.losses import LOSSES, ranking_loss

SIZES = [7, 1, 2, 0, 12]


def log1pexp(x):
    return torch.nn.functional.softplus(x)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def nothing(s):
    return 0 * s.sum()


def ordered(y):
    """Pairs whose first has the higher label."""
    return [(i, j) for i, j in permutations(range(len(y)), 2) if y[i] > y[j]]


def ranks_of(values):
    """1-based, best first; equal values share the mean of their places."""
    return [1 + sum(o > v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def mean(terms, s):
    return sum(terms, nothing(s)) / max(1, len(terms))


def soft_rank(s, i, slope):
    return 1 + sum((sigmoid(slope * (s[j] - s[i])) for j in range(len(s)) if j != i), nothing(s))


def gains(y):
    ideal = sum((2**label - 1) / math.log2(1 + rank) for rank, label in enumerate(sorted(y, reverse=True), start=1))
    return [(2**label - 1) / ideal if ideal else 0.0 for label in y]


def discount(rank):
    return math.log2(1 + rank)


def distance_weight(places, i, j):
    distance = max(1, abs(places[i] - places[j]))
    return 1 / discount(distance) - 1 / discount(distance + 1)


def ndcg_loss2(s, y):
    places, gain = ranks_of(s.tolist()), gains(y)
    terms = [
        distance_weight(places, i, j) * (gain[i] - gain[j]) * log1pexp(s[j] - s[i]) / math.log(2) for i, j in ordered(y)
    ]
    return mean(terms, s)


def lambda_loss(s, y):
    """NDCG-Loss2++ with μ = 10."""
    places, gain = ranks_of(s.tolist()), gains(y)
    total = nothing(s)
    for i, j in ordered(y):
        weight = 10 * distance_weight(places, i, j) + abs(1 / discount(places[i]) - 1 / discount(places[j]))
        total = total + weight * (gain[i] - gain[j]) * log1pexp(s[j] - s[i]) / math.log(2)
    return total


def approx_ndcg(s, y):
    if not ordered(y):
        return nothing(s)
    return 1 - sum(gain / torch.log2(1 + soft_rank(s, i, 1 / 0.1)) for i, gain in enumerate(gains(y)))


def adr_mse(s, y):
    ranks = ranks_of(y)
    return mean([(ranks[i] - soft_rank(s, i, 1.0)) ** 2 / discount(ranks[i]) for i in range(len(y))], s)


def list_mle(s, y):
    """Passages are drawn one after the other; equal labels do not compete."""
    total = nothing(s)
    for i in range(len(y)):
        left = s[i].exp() + sum((s[j].exp() for j in range(len(y)) if y[j] < y[i]), nothing(s))
        total = total + left.log() - s[i]
    return total


def softmax_ce(s, y):
    best = [i for i in range(len(y)) if y[i] == max(y)]
    worse = [i for i in range(len(y)) if y[i] < max(y)]
    return mean([(s[b].exp() + sum((s[j].exp() for j in worse), nothing(s))).log() - s[b] for b in best], s)


def shares(values):
    return [value.exp() / sum(other.exp() for other in values) for value in values]


def list_net(s, y):
    return sum((-p * q.log() for p, q in zip(shares(torch.tensor(y).double()), shares(s), strict=True)), nothing(s))


def kl(s, y):
    teacher = shares(torch.tensor(y).double())
    return sum((p * (p.log() - q.log()) for p, q in zip(teacher, shares(s), strict=True)), nothing(s))


def margin_rank(s, y):
    ranks = ranks_of(y)
    terms = [torch.relu((ranks[j] - ranks[i]) / len(y) - (s[i] - s[j])) for i, j in ordered(y)]
    return sum(terms, nothing(s))


def pairwise(term):
    """The mean of a term over all pairs, each once."""
    return lambda s, y: mean([term(s[i], s[j], y[i], y[j]) for i, j in combinations(range(len(y)), 2)], s)


def binary(logit, probability):
    return log1pexp(logit) - probability * logit


def rmse(s, y):
    total = sum(((s[i] - y[i]) ** 2 for i in range(len(y))), nothing(s))
    return (total / len(y)).sqrt() if total > 0 else total  # whose slope at 0 is taken for 0


FORMULAS = {
    "rank_net": lambda s, y: mean([log1pexp(s[j] - s[i]) for i, j in ordered(y)], s),
    "margin_mse": pairwise(lambda a, b, x, y: ((a - b) - (x - y)) ** 2),
    "margin_rank": margin_rank,
    "pair_bce": lambda s, y: mean([(log1pexp(-s[i]) + log1pexp(s[j])) / 2 for i, j in ordered(y)], s),
    "pair_mse": pairwise(lambda a, b, x, y: (a - x) ** 2 + (b - y) ** 2 - 2 * (a - b) * (x - y)),
    "open_instruct_bce": pairwise(lambda a, b, x, y: (binary(a, float(x > 0)) + binary(b, float(y > 0))) / 2),
    "softmax_ce": softmax_ce,
    "list_net": list_net,
    "list_mle": list_mle,
    "lambda_loss": lambda_loss,
    "ndcg_loss2": ndcg_loss2,
    "approx_ndcg": approx_ndcg,
    "adr_mse": adr_mse,
    "kl": kl,
    "pointwise_bce": lambda s, y: mean([binary(a, min(max(x, 0.0), 1.0)) for a, x in zip(s, y, strict=True)], s),
    "pointwise_mse": lambda s, y: mean([(a - x) ** 2 for a, x in zip(s, y, strict=True)], s),
    "pointwise_rmse": rmse,
}


def first_rank_net(s, y):
    """RankNet with each pair's weight, the inverse of the sum of its ranks."""
    ranks = ranks_of(y)
    return mean([log1pexp(s[j] - s[i]) / (ranks[i] + ranks[j]) for i, j in ordered(y)], s)


def by_loops(formula, batch: Batch):
    """Each query's loss and the gradient of their sum."""
    losses, gradients = [], []
    for scores, labels in zip(*batch, strict=True):
        s = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
        loss = formula(s, labels)
        loss.backward()
        losses.append(loss.item())
        gradients.append(s.grad.tolist())
    return losses, gradients


def agree(ours, loops):
    (losses, scores), (expected, slopes) = ours, loops
    losses.sum().backward()
    assert losses.tolist() == pytest.approx(expected, rel=2e-5, abs=2e-6)
    for row, slope in zip(scores.grad.tolist(), slopes, strict=True):
        assert row[: len(slope)] == pytest.approx(slope, rel=1e-4, abs=1e-5)
        assert not any(row[len(slope) :])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.kind != "metrics"])
@pytest.mark.parametrize("ties", [False, True], ids=["", "equal scores"])
def test_value_and_gradient_are_those_of_the_formula(name, kind, ties):
    for seed in range(2):
        batch = draw(kind, SIZES, seed)
        if ties:
            batch = batch._replace(scores=[[float(round(score)) for score in row] for row in batch.scores])
        agree(our_losses(name, batch), by_loops(FORMULAS[name], batch))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_first_are_those_of_the_formula(kind):
    batch = draw(kind, SIZES, 0)
    agree(our_losses("rank_net", batch, weighted=True), by_loops(first_rank_net, batch))


def test_a_loss_over_several_measures_is_the_mean_over_those_that_differ():
    """SummaReranker: for each measure, whether a candidate is its best; with loops over two lists of three measures."""
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[[1, 5, 0], [2, 5, 0], [2, 5, 1], [0, 5, 9]], [[3, 1, 2], [1, 1, 3], [9, 9, 9], [9, 9, 9]]])
    sizes, expected = (4, 2), []
    for query, size in enumerate(sizes):
        terms = []
        for measure in range(3):
            column = labels[query, :size, measure].tolist()
            if len(set(column)) > 1:
                terms += [binary(logits[query, i, measure], float(column[i] == max(column))) for i in range(size)]
        expected.append(sum(terms) / len(terms))
    [slope] = torch.autograd.grad(sum(expected), logits)
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    ours = ranking_loss(LOSSES["metric_bce"], mask.float(), labels.float(), mask, metric_logits=logits)
    [gradient] = torch.autograd.grad(ours.sum(), logits)
    assert ours.tolist() == pytest.approx([one.item() for one in expected], rel=1e-5)
    assert gradient.flatten().tolist() == pytest.approx(slope.flatten().tolist(), rel=1e-4, abs=1e-6)
