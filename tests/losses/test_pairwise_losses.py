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


def pair_scores_of(entries: dict[tuple[int, int], float]) -> tuple[Tensor, Tensor]:
    scores = matrix(entries, fill=math.nan)
    return scores, scores.isfinite()


@pytest.mark.parametrize("name", ["pair_bce", "pair_mse", "open_instruct_bce", "rank_net"])
def test_losses_of_both_logits_are_those_of_a_plain_loop_over_rows(name: str) -> None:
    rows = [(0, 1, 0.7, -0.4), (2, 0, 1.5, 0.2)]  # left, right, and what they got; 1 and 2 were not shown
    scores, shown = pair_scores_of({pair: got for i, j, a, b in rows for pair, got in (((i, j), a), ((j, i), b))})
    labels = torch.tensor([[1.0, 0.0, 0.0]])

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    expected = []
    for i, j, left, right in rows:
        one, two = labels[0, i].item(), labels[0, j].item()
        sign = 1 if one > two else -1
        expected.append(
            {
                "pair_bce": (softplus(-sign * left) + softplus(sign * right)) / 2,
                "pair_mse": (left - one) ** 2 + (right - two) ** 2 - 2 * (left - right) * (one - two),
                "open_instruct_bce": (softplus(left) - one * left + softplus(right) - two * right) / 2,
                "rank_net": softplus(-sign * (left - right)),
            }[name]
        )
    loss = ranking_loss(LOSSES[name], scores[:, 0], labels, ALL_THREE, pair_scores=scores.nan_to_num(), shown=shown)
    assert loss.item() == pytest.approx(sum(expected) / len(rows), rel=1e-5)


@pytest.mark.parametrize("name", ["pair_bce", "rank_net"])
def test_a_tie_costs_nothing_and_pulls_nothing(name: str) -> None:
    scores = torch.tensor([[[0.0, 2.0], [-1.0, 0.0]]], requires_grad=True)
    shown = ~torch.eye(2, dtype=torch.bool)[None]
    two = torch.ones(1, 2, dtype=torch.bool)
    loss = ranking_loss(LOSSES[name], scores[:, 0], torch.ones(1, 2), two, pair_scores=scores, shown=shown)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.parametrize("name", ["pair_bce", "rank_net", "open_instruct_bce"])
def test_a_margin_of_minus_two_hundred_in_half_precision_has_a_finite_loss(name: str) -> None:
    scores = torch.tensor([[[0.0, -100.0], [100.0, 0.0]]], dtype=torch.float16)
    shown = ~torch.eye(2, dtype=torch.bool)[None]
    two = torch.ones(1, 2, dtype=torch.bool)
    labels = torch.tensor([[1.0, 0.0]])
    loss = ranking_loss(LOSSES[name], scores[:, 0], labels, two, pair_scores=scores, shown=shown)
    assert loss.item() == pytest.approx(200 if name == "rank_net" else 100)


@pytest.mark.parametrize("name", ["pair_bce", "pair_mse", "open_instruct_bce"])
def test_losses_of_both_logits_refuse_a_student_that_scores_passages_and_preferences(name: str) -> None:
    with pytest.raises(ValueError, match="the student gives none"):
        ranking_loss(LOSSES[name], SCORES, SCORES, ALL_THREE)
    shown = ~torch.eye(3, dtype=torch.bool)[None]
    with pytest.raises(ValueError, match=r"must be \[num_queries, group_size\]"):
        LOSSES[name].function(matrix({}, 0.0), matrix({}, 0.5), shown)
