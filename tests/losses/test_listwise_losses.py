"""List losses against brute force and against the measures that they approximate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tevatron_distill.losses.listwise import adr_mse_loss, approx_ndcg_loss, kl_loss, list_mle_loss, softmax_ce_loss
from tevatron_distill.losses.masked import mean_ranks

finite = st.floats(-4, 4, width=32)


def whole(values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([values]), torch.ones(1, len(values), dtype=torch.bool)


@given(st.lists(finite, min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_list_mle_is_a_distribution_over_all_orders(values: list[float]) -> None:
    scores, mask = whole(values)
    total = 0.0
    for order in itertools.permutations(range(len(values))):
        total += math.exp(-list_mle_loss(scores, torch.tensor([order], dtype=torch.float32), mask).item())
    assert total == pytest.approx(1, rel=1e-4)


def test_list_mle_is_the_product_of_draws() -> None:
    scores, mask = whole([0.0, 1.0, 2.0])
    e0, e1, e2 = math.exp(0), math.exp(1), math.exp(2)
    likelihood = e1 / (e0 + e1 + e2) * e0 / (e0 + e2) * e2 / e2  # the teacher's order is 1, 0, 2
    loss = list_mle_loss(scores, torch.tensor([[0.5, 1.0, 1 / 3]]), mask)
    assert loss.item() == pytest.approx(-math.log(likelihood), rel=1e-5)


@given(st.permutations(list(range(5))), st.lists(st.integers(0, 3), min_size=5, max_size=5))
@settings(max_examples=30, deadline=None)
def test_approx_ndcg_of_far_apart_scores_is_one_minus_ndcg(order: list[int], grades: list[int]) -> None:
    scores, mask = whole([float(place) for place in order])
    loss = approx_ndcg_loss(scores, torch.tensor([grades], dtype=torch.float32), mask, temperature=0.01)

    def dcg(ranked: list[int]) -> float:
        return sum((2**grade - 1) / math.log2(1 + rank) for rank, grade in enumerate(ranked, start=1))

    ranked = [grade for _, grade in sorted(zip(order, grades, strict=True), reverse=True)]
    expected = 1 - dcg(ranked) / dcg(sorted(grades, reverse=True)) if any(grades) else 0.0
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_adr_mse_vanishes_when_the_student_has_the_teachers_order() -> None:
    scores, mask = whole([300.0, 100.0, 200.0])
    labels = torch.tensor([[1.0, 1 / 3, 0.5]])
    assert adr_mse_loss(scores, labels, mask).item() == pytest.approx(0, abs=1e-6)
    swapped = adr_mse_loss(scores[:, [2, 1, 0]], labels, mask).item()
    assert swapped == pytest.approx((1 / math.log2(2) + 1 / math.log2(3)) / 3)


def test_equal_values_share_the_mean_of_their_places() -> None:
    values, mask = whole([2.0, 5.0, 2.0, 2.0])
    assert mean_ranks(values, mask).tolist() == [[3.0, 1.0, 3.0, 3.0]]


def test_kl_temperatures_flatten_each_side() -> None:
    scores, mask = whole([0.0, 3.0])
    labels = torch.tensor([[0.0, 6.0]])
    assert kl_loss(scores, labels, mask, teacher_temp=2.0).item() == pytest.approx(0, abs=1e-6)
    assert kl_loss(scores, labels, mask, student_temp=0.5).item() == pytest.approx(0, abs=1e-6)
    assert kl_loss(scores, labels, mask).item() > 0.01


def test_softmax_ce_with_one_positive_is_cross_entropy_with_its_index() -> None:
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.nn.functional.one_hot(torch.tensor([0, 2, 4]), 5).float()
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 2, 4]), reduction="none")
    torch.testing.assert_close(softmax_ce_loss(scores, labels, torch.ones(3, 5, dtype=torch.bool)), expected)
