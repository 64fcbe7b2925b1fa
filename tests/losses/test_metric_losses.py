"""The loss over several measures of quality: which candidate is the best of each."""

from __future__ import annotations

import math

import pytest
import torch

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.losses.pointwise import metric_bce_loss


def cost(logit: float, best: bool) -> float:
    return math.log(1 + math.exp(-logit if best else logit))


LOGITS = [[0.5, -1.0], [2.0, 0.0], [-3.0, 1.0]]
METRICS = [[0.1, 9.0], [0.7, 9.0], [0.3, 2.0]]
EXPECTED = [cost(0.5, False), cost(2.0, True), cost(-3.0, False), cost(-1.0, True), cost(0.0, True), cost(1.0, False)]


def loss_of(logits, labels, sizes):
    mask = torch.arange(logits.shape[1]) < torch.tensor(sizes)[:, None]
    return ranking_loss(LOSSES["metric_bce"], torch.zeros(mask.shape), labels, mask, metric_logits=logits)


def test_the_value_is_the_mean_over_candidates_and_measures():
    got = loss_of(torch.tensor([LOGITS]), torch.tensor([METRICS]), [3])
    assert got.item() == pytest.approx(sum(EXPECTED) / 6, rel=1e-5)


def test_it_equals_the_published_lines_where_every_measure_differs():
    torch.manual_seed(0)
    logits, scores = torch.randn(4, 5, 3), torch.randn(4, 5, 3)
    labels = torch.eq(scores, torch.max(scores, dim=1, keepdim=True)[0]).float()
    published = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert loss_of(logits, scores, [5] * 4).mean().item() == pytest.approx(published.item(), rel=1e-5)


@pytest.mark.parametrize("garbage", [7.0, 1e30, math.inf, math.nan])
def test_what_stands_in_padding_does_not_matter(garbage):
    wide = torch.full((2, 5, 2), garbage)
    logits, labels = wide.clone(), wide.clone()
    logits[0, :3], labels[0, :3] = torch.tensor(LOGITS), torch.tensor(METRICS)
    logits.requires_grad_()
    got = loss_of(logits, labels, [3, 0])
    got.sum().backward()
    assert got.tolist() == pytest.approx([sum(EXPECTED) / 6, 0.0], rel=1e-5)
    assert logits.grad[0, :3].abs().min() > 0
    assert not logits.grad[0, 3:].any()
    assert not logits.grad[1].any()


def test_a_measure_without_a_difference_is_left_out():
    logits = torch.tensor([LOGITS], requires_grad=True)
    metrics = torch.tensor([METRICS])
    metrics[..., 0] = 0.5
    got = loss_of(logits, metrics, [3])
    got.backward()
    assert got.item() == pytest.approx(sum(EXPECTED[3:]) / 3, rel=1e-5)
    assert not logits.grad[..., 0].any()
    assert loss_of(logits[:, :1], metrics[:, :1], [1]).item() == 0.0


def test_half_precision_logits_give_a_float32_loss_and_extremes_stay_finite():
    got = loss_of(torch.tensor([LOGITS]).half() * 2000, torch.tensor([METRICS]), [3])
    assert got.dtype == torch.float32
    assert got.isfinite().all()


def test_shapes_that_differ_are_refused():
    logits, labels, mask = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool)
    for wrong in ((logits[..., :1], labels, mask), (logits, labels[:, :2], mask), (logits, labels, mask[:, :2])):
        with pytest.raises(ValueError, match="must share one shape"):
            metric_bce_loss(*wrong)
    with pytest.raises(ValueError, match="mask must be bool"):
        metric_bce_loss(logits, labels, mask.long())
    with pytest.raises(ValueError, match="the student gives none"):
        ranking_loss(LOSSES["metric_bce"], torch.zeros(1, 3), labels, mask)
