"""What only losses over margins have: preferences and pairs that were not asked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tevatron_distill.losses import LOSSES, margins_from_scores, ranking_loss
from tevatron_distill.losses.pairwise import margin_mse_loss, rank_net_loss

ALL_THREE = torch.ones(1, 3, dtype=torch.bool)
SCORES = torch.tensor([[0.5, -1.0, 2.0]])


def matrix(entries: dict[tuple[int, int], float], fill: float) -> Tensor:
    values = torch.full((1, 3, 3), fill)
    for (i, j), value in entries.items():
        values[0, i, j] = value
    return values


def test_margins_are_antisymmetric_and_zero_where_no_pair_is() -> None:
    scores = torch.tensor([[0.5, -1.0, math.nan]], dtype=torch.bfloat16)
    margins, pair_mask = margins_from_scores(scores, torch.tensor([[True, True, False]]))
    assert margins.dtype == torch.float32
    assert margins.tolist() == [[[0.0, 1.5, 0.0], [-1.5, 0.0, 0.0], [0.0, 0.0, 0.0]]]
    assert pair_mask.tolist() == [[[False, True, False], [True, False, False], [False, False, False]]]


@pytest.mark.parametrize("orders", ["one", "other", "both"])
def test_a_preference_counts_once_in_whichever_order_it_stands(orders: str) -> None:
    asked = {"one": {(0, 1): 0.8, (1, 2): 0.3}, "other": {(1, 0): 0.2, (2, 1): 0.7}}
    entries = {**asked["one"], **asked["other"]} if orders == "both" else asked[orders]
    labels, pair_mask = matrix(entries, fill=math.nan), matrix(dict.fromkeys(entries, 1.0), fill=0.0).bool()
    loss = ranking_loss(LOSSES["rank_net"], SCORES, labels, ALL_THREE, pair_mask)

    def cross_entropy(margin: float, p: float) -> float:
        return p * math.log(1 + math.exp(-margin)) + (1 - p) * math.log(1 + math.exp(margin))

    expected = (cross_entropy(0.5 - -1.0, 0.8) + cross_entropy(-1.0 - 2.0, 0.3)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_two_orders_that_disagree_are_averaged() -> None:
    both = matrix({(0, 1): 0.8, (1, 0): 0.6}, fill=0.5)
    mean = matrix({(0, 1): (0.8 + 1 - 0.6) / 2, (1, 0): (0.6 + 1 - 0.8) / 2}, fill=0.5)
    pair_mask = matrix({(0, 1): 1.0, (1, 0): 1.0}, fill=0.0).bool()
    margins, _ = margins_from_scores(SCORES, ALL_THREE)
    torch.testing.assert_close(rank_net_loss(margins, both, pair_mask), rank_net_loss(margins, mean, pair_mask))


def test_certain_preferences_equal_the_order_they_stand_for() -> None:
    labels = torch.tensor([[1.0, 3.0, 2.0]])
    preferences = (labels[:, :, None] > labels[:, None, :]).float()
    hard = ranking_loss(LOSSES["rank_net"], SCORES, labels, ALL_THREE)
    soft = ranking_loss(LOSSES["rank_net"], SCORES, preferences, ALL_THREE)
    torch.testing.assert_close(hard, soft)


def test_a_pair_that_was_not_asked_has_no_gradient() -> None:
    pair_mask = matrix({(0, 1): 1.0, (1, 0): 1.0}, fill=0.0).bool()
    for name in ("rank_net", "margin_mse"):
        scores = SCORES.clone().requires_grad_()
        ranking_loss(LOSSES[name], scores, torch.tensor([[3.0, 2.0, 1.0]]), ALL_THREE, pair_mask).sum().backward()
        assert scores.grad is not None
        assert scores.grad[0, 2] == 0
        assert scores.grad[0, 0] != 0


def test_garbage_margins_of_unseen_pairs_reach_neither_value_nor_gradient() -> None:
    pair_mask = matrix({(0, 1): 1.0, (1, 0): 1.0}, fill=0.0).bool()
    margins = matrix({(0, 1): 2.0, (1, 0): -2.0}, fill=math.nan).requires_grad_()
    loss = rank_net_loss(margins, torch.tensor([[1.0, 0.0, math.nan]]), pair_mask)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)))
    loss.sum().backward()
    assert margins.grad is not None
    assert margins.grad.isfinite().all()


def test_margin_mse_refuses_preferences_and_score_losses_refuse_a_pair_mask() -> None:
    margins, pair_mask = margins_from_scores(SCORES, ALL_THREE)
    with pytest.raises(ValueError, match="margin_mse learns from scores"):
        margin_mse_loss(margins, margins, pair_mask)
    with pytest.raises(ValueError, match="takes scores"):
        ranking_loss(LOSSES["kl"], SCORES, SCORES, ALL_THREE, pair_mask)
    with pytest.raises(ValueError, match="pair_mask must be"):
        ranking_loss(LOSSES["rank_net"], SCORES, SCORES, ALL_THREE, pair_mask[:, :2])


def test_a_mean_over_queries_is_not_a_mean_over_pairs() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    labels, scores = torch.tensor([[3.0, 2.0, 1.0], [2.0, 1.0, 0.0]]), torch.zeros(2, 3)
    scores[1, 0] = -1.0
    losses = ranking_loss(LOSSES["rank_net"], scores, labels, mask)
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(1 + math.exp(1))]))
