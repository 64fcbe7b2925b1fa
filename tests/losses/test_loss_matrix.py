"""Property × loss: every row of LOSSES, with every label transform that it accepts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.losses.masked import real_pairs

NAMES = [name for name, loss in LOSSES.items() if loss.kind != "metrics"]
CASES = [(name, labels) for name in NAMES for labels in LOSSES[name].labels]
every_case = pytest.mark.parametrize(("name", "transform"), CASES, ids=["-".join(case) for case in CASES])
every_loss = pytest.mark.parametrize("name", NAMES)

ORDER_ONLY = (
    "rank_net",
    "margin_rank",
    "pair_bce",
    "softmax_ce",
    "list_mle",
    "lambda_loss",
    "ndcg_loss2",
    "approx_ndcg",
)
"""Losses for which equal labels leave nothing to learn."""

SIZES = (5, 1, 3, 0, 4)


def log_odds(x: float) -> float:
    return math.log(1 + math.exp(x))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# For each loss one query: scores, labels, and the value as arithmetic.
HAND_VALUES: dict[str, tuple[list[float], list[float], float]] = {
    "rank_net": ([0.0, 1.0, 3.0], [1.0, 0.5, 0.5], (log_odds(1 - 0) + log_odds(3 - 0)) / 2),
    "margin_mse": ([0.0, 1.0, 3.0], [2.0, 1.0, 5.0], ((-1 - 1) ** 2 + (-3 + 3) ** 2 + (-2 + 4) ** 2) / 3),
    "margin_rank": ([0.0, 1.0, 3.0], [1.0, 0.5, 0.5], (1.5 / 3 + 1) + (1.5 / 3 + 3)),  # two share the ranks 2 and 3
    "pair_bce": (
        [0.0, 1.0, 3.0],
        [1.0, 0.5, 0.5],
        ((log_odds(0) + log_odds(1)) / 2 + (log_odds(0) + log_odds(3)) / 2) / 2,
    ),
    "pair_mse": (
        [0.5, 2.0, 1.0],
        [2.0, 1.0, 1.0],
        (
            ((-1.5) ** 2 + 1**2 - 2 * (0.5 - 2) * (2 - 1))
            + ((-1.5) ** 2 + 0**2 - 2 * (0.5 - 1) * (2 - 1))
            + (1**2 + 0**2 - 2 * (2 - 1) * 0)
        )
        / 3,
    ),
    "open_instruct_bce": (
        [0.5, -1.0, 2.0],
        [1.0, 0.0, 0.0],
        (2 * log_odds(-0.5) + 2 * log_odds(-1) + 2 * log_odds(2)) / 6,
    ),
    "softmax_ce": (
        [0.0, 1.0, 3.0, 2.0],
        [1.0, 1.0, 0.0, 0.0],
        (math.log(1 + math.exp(3) + math.exp(2)) + math.log(1 + math.exp(2) + math.exp(1))) / 2,
    ),
    "list_net": (
        [0.0, 1.0],
        [1.0, 0.0],
        -(sigma(1) * math.log(sigma(-1)) + sigma(-1) * math.log(sigma(1))),
    ),
    "list_mle": (
        [0.0, 1.0, 3.0, 2.0],
        [3.0, 2.0, 1.0, 1.0],
        math.log(1 + math.exp(1) + math.exp(3) + math.exp(2)) - 0 + math.log(1 + math.exp(2) + math.exp(1)),
    ),
    "lambda_loss": ([0.0, 1.0], [1.0, 0.0], (10 + 1) * (1 - 1 / math.log2(3)) * (2**1 - 1) * log_odds(1) / math.log(2)),
    "ndcg_loss2": ([0.0, 1.0], [1.0, 0.0], (1 - 1 / math.log2(3)) * (2**1 - 1) * log_odds(1) / math.log(2)),
    "approx_ndcg": (
        [0.0, 0.1],
        [2.0, 1.0],
        1 - (3 / math.log2(2 + sigma(1)) + 1 / math.log2(2 + sigma(-1))) / (3 / 1 + 1 / math.log2(3)),
    ),
    "adr_mse": (
        [0.0, 1.0, 1.0],
        [1.0, 0.0, 0.0],
        ((1 - (1 + 2 * sigma(1))) ** 2 / 1 + 2 * (2.5 - (1.5 + sigma(-1))) ** 2 / math.log2(3.5)) / 3,
    ),
    "kl": (  # the other way round it would be another number
        [0.0, 3.0],
        [1.0, 0.0],
        sigma(1) * math.log(sigma(1) / sigma(-3)) + sigma(-1) * math.log(sigma(-1) / sigma(3)),
    ),
    "pointwise_bce": ([0.5, -1.0, 0.0], [3.0, 0.0, 0.25], (log_odds(-0.5) + log_odds(-1) + log_odds(0)) / 3),
    "pointwise_mse": ([0.5, -1.0], [1.0, 0.5], (0.5**2 + 1.5**2) / 2),
    "pointwise_rmse": ([0.5, -1.0], [1.0, 0.5], math.sqrt((0.5**2 + 1.5**2) / 2)),
}


def draw_labels(transform: str, mask: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(mask.shape, generator=generator)
    ranks = noise.masked_fill(~mask, -100).argsort(dim=1, descending=True).argsort(dim=1) + 1
    if transform == "reciprocal":
        return 1 / ranks.float()
    if transform == "linear":
        return 1 - (ranks.float() - 1) / mask.sum(1, keepdim=True).clamp(min=1)
    if transform == "judgements":
        return torch.randint(0, 4, mask.shape, generator=generator).float()
    if transform == "preferences":
        return torch.sigmoid(noise[:, :, None] - noise[:, None, :])
    return 3 * noise


def draw_batch(transform: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged scores, labels and mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(SIZES)) < torch.tensor(SIZES)[:, None]
    scores = 2 * torch.randn(mask.shape, generator=generator)
    return scores, draw_labels(transform, mask, generator), mask


def loss_of(name: str, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The loss of a student that gives a passage the same score whatever it is shown beside."""
    loss = LOSSES[name]
    if loss.kind != "pair_scores":
        return ranking_loss(loss, scores, labels, mask)
    beside = scores[:, :, None].expand(-1, -1, scores.shape[1])
    return ranking_loss(loss, scores, labels, mask, pair_scores=beside, shown=real_pairs(mask))


def value_and_gradient(name: str, scores: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    scores = scores.detach().clone().requires_grad_()
    losses = loss_of(name, scores, labels, mask)
    losses.sum().backward()
    assert scores.grad is not None
    return losses.detach(), scores.grad


def same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def apply_to_passages(labels: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply ``change(tensor, dim)`` along every dimension of ``labels`` that counts passages."""
    for dim in range(1, labels.ndim):
        labels = change(labels, dim)
    return labels


@every_loss
def test_the_value_equals_the_formula_by_hand(name: str) -> None:
    scores, labels, expected = HAND_VALUES[name]
    mask = torch.ones(1, len(scores), dtype=torch.bool)
    got = loss_of(name, torch.tensor([scores]), torch.tensor([labels]), mask)
    assert got.item() == pytest.approx(expected, rel=1e-5)


@every_case
@pytest.mark.parametrize("garbage", [7.0, 1e30, math.inf, math.nan])
def test_what_stands_in_padding_does_not_matter(name: str, transform: str, garbage: float) -> None:
    scores, labels, mask = draw_batch(transform)
    clean, clean_gradient = value_and_gradient(name, scores, labels, mask)

    def pad(tensor: Tensor, dim: int) -> Tensor:
        shape = [*tensor.shape[:dim], 2, *tensor.shape[dim + 1 :]]
        return torch.cat([tensor, torch.full(shape, garbage)], dim)

    wide_mask = torch.cat([mask, torch.zeros(len(mask), 2, dtype=torch.bool)], 1)
    wide_scores = pad(scores, 1).masked_fill(~wide_mask, garbage)
    wide_labels = apply_to_passages(labels, pad)
    if labels.ndim == 2:
        wide_labels = wide_labels.masked_fill(~wide_mask, garbage)
    losses, gradient = value_and_gradient(name, wide_scores, wide_labels, wide_mask)
    same(losses, clean)
    same(gradient[:, : mask.shape[1]], clean_gradient)
    assert not gradient[~wide_mask].any()


@every_case
def test_the_order_in_which_passages_stand_does_not_matter(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    scores[0, 1], scores[4, 2] = scores[0, 3], scores[4, 0]  # ties among the student's scores
    losses, gradient = value_and_gradient(name, scores, labels, mask)
    order = torch.tensor([3, 0, 4, 2, 1])
    reordered = apply_to_passages(labels, lambda tensor, dim: tensor.index_select(dim, order))
    new_losses, new_gradient = value_and_gradient(name, scores[:, order], reordered, mask[:, order])
    same(new_losses, losses)
    same(new_gradient, gradient[:, order])


@every_case
def test_a_batch_is_its_queries(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    losses, gradient = value_and_gradient(name, scores, labels, mask)
    assert losses.shape == (len(SIZES),)
    for row, size in enumerate(SIZES):
        if size:
            alone = apply_to_passages(labels[[row]], lambda tensor, dim, size=size: tensor.narrow(dim, 0, size))
            loss, alone_gradient = value_and_gradient(name, scores[[row], :size], alone, mask[[row], :size])
            same(loss, losses[[row]])
            same(alone_gradient, gradient[[row], :size])


@every_case
def test_a_query_without_passages_gives_zero_and_no_gradient(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    losses, gradient = value_and_gradient(name, scores, labels, torch.zeros_like(mask))
    assert losses.tolist() == [0.0] * len(SIZES)
    assert gradient.tolist() == [[0.0] * 5] * len(SIZES)


@every_loss
def test_equal_labels_form_no_pair(name: str) -> None:
    scores, _, mask = draw_batch("scores")
    losses, gradient = value_and_gradient(name, scores, torch.full_like(scores, 0.5), mask)
    assert losses.isfinite().all()
    if name in ORDER_ONLY:
        assert losses.abs().max() <= 1e-6
        assert gradient.abs().max() <= 1e-6


@every_loss
def test_tied_passages_with_equal_scores_are_pulled_alike(name: str) -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    scores, labels = torch.tensor([[0.3, -1.0, 0.3, 0.3]]), torch.tensor([[0.5, 1.0, 0.5, 0.5]])
    _, gradient = value_and_gradient(name, scores, labels, mask)
    same(gradient[0, [0, 2]], gradient[0, [3, 3]])


@every_loss
@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("label_scale", [1.0, 1e4])
def test_extreme_scores_and_labels_stay_finite(name: str, scale: float, label_scale: float) -> None:
    _, labels, mask = draw_batch("reciprocal")
    for sign in (1, -1):
        values = sign * scale * labels.masked_fill(~mask, 0)
        losses, gradient = value_and_gradient(name, values, label_scale * labels, mask)
        assert losses.isfinite().all()
        assert gradient.isfinite().all()


@every_case
def test_half_precision_scores_give_a_float32_loss(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    half = scores.bfloat16()
    losses, gradient = value_and_gradient(name, half, labels, mask)
    assert losses.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    same(losses, loss_of(name, half.float(), labels, mask))


@every_case
def test_labels_are_detached(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    labels.requires_grad_()
    loss_of(name, scores.requires_grad_(), labels, mask).sum().backward()
    assert labels.grad is None


@every_case
def test_the_gradient_is_the_slope_of_the_loss(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    if name in ("lambda_loss", "ndcg_loss2"):
        scores[:, 1] -= 9  # their weights are constants between two changes of rank, and the step must not cross one
    direction = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    _, gradient = value_and_gradient(name, scores, labels, mask)
    step = 1e-2
    ahead = loss_of(name, scores + step * direction, labels, mask)
    behind = loss_of(name, scores - step * direction, labels, mask)
    slopes = (gradient * direction).sum(1)
    torch.testing.assert_close((ahead - behind) / (2 * step), slopes, rtol=2e-2, atol=1e-2)


@every_loss
def test_a_step_against_the_gradient_mends_a_wrong_order(name: str) -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    labels = torch.tensor([[1.0, 0.5, 1 / 3, 0.25]])
    if name == "open_instruct_bce":
        labels = labels.floor()  # such a loss knows right and wrong only
    wrong = torch.tensor([[0.0, 0.1, 0.2, 0.3]])
    losses, gradient = value_and_gradient(name, wrong, labels, mask)
    assert gradient[0, 0] < 0  # the best passage stands last and must rise
    assert loss_of(name, wrong - 0.01 * gradient, labels, mask) < losses
    assert loss_of(name, wrong.flip(1), labels, mask) < losses


@every_case
def test_shapes_that_differ_are_refused(name: str, transform: str) -> None:
    scores, labels, mask = draw_batch(transform)
    for wrong in ((scores[:, :4], labels, mask), (scores, labels[:, :4], mask), (scores, labels, mask[:4])):
        with pytest.raises(ValueError, match="must"):
            loss_of(name, *wrong)
    with pytest.raises(ValueError, match="mask must be bool"):
        loss_of(name, scores, labels, mask.long())


@every_loss
def test_a_row_names_its_first_argument_and_known_label_transforms(name: str) -> None:
    loss = LOSSES[name]
    assert loss.kind in ("scores", "margins", "pair_scores")
    assert loss.labels
    assert set(loss.labels) <= {"reciprocal", "linear", "scores", "judgements", "preferences"}
    assert (loss.function.__doc__ or "").count("Source:") == 1
