"""Ranking losses, pure functions to one number per query, and the table of them.

Two kinds: ``scores`` losses take ``(scores, labels, mask)``, ``margins`` losses ``(margins, labels, pair_mask)``. All
compute in float32, detach the labels, form no pair of equal labels, give 0.0 with zero gradient for a query without
passages, and raise ValueError for shapes that differ. Averaging over queries is the trainer's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

from tevatron_distill.losses.listwise import (
    adr_mse_loss,
    approx_ndcg_loss,
    kl_loss,
    lambda_loss,
    list_mle_loss,
    list_net_loss,
    softmax_ce_loss,
)
from tevatron_distill.losses.pairwise import margin_mse_loss, margins_from_scores, rank_net_loss
from tevatron_distill.losses.pointwise import pointwise_bce_loss, pointwise_rmse_loss

__all__ = ["LOSSES", "Loss", "margins_from_scores", "ranking_loss"]


class Loss(NamedTuple):
    """A row of :data:`LOSSES`.

    Attributes:
        function: the loss itself.
        kind: ``scores`` or ``margins``, what it takes first.
        labels: the label transforms it can learn from, its default first: ``reciprocal`` (1/rank, as InstructDistill
            publishes for all of its losses) and ``linear`` are made from ranks, ``scores`` and ``preferences`` are the
            teacher's own, ``judgements`` are grades of relevance.
        options: keyword options that a command line sets.
    """

    function: Callable[..., Tensor]
    kind: Literal["scores", "margins"]
    labels: tuple[str, ...]
    options: tuple[str, ...] = ()


_ORDER = ("reciprocal", "linear", "judgements", "scores")
_GAINS = ("reciprocal", "linear", "judgements")

LOSSES: dict[str, Loss] = {
    "rank_net": Loss(rank_net_loss, "margins", (*_ORDER, "preferences")),
    "margin_mse": Loss(margin_mse_loss, "margins", ("scores",)),
    "softmax_ce": Loss(softmax_ce_loss, "scores", _ORDER),
    "list_net": Loss(list_net_loss, "scores", _ORDER),
    "list_mle": Loss(list_mle_loss, "scores", _ORDER),
    "lambda_loss": Loss(lambda_loss, "scores", _GAINS),
    "approx_ndcg": Loss(approx_ndcg_loss, "scores", _GAINS),
    "adr_mse": Loss(adr_mse_loss, "scores", _ORDER),
    "kl": Loss(kl_loss, "scores", ("scores",), ("teacher_temp", "student_temp")),
    "pointwise_bce": Loss(pointwise_bce_loss, "scores", _GAINS),
    "pointwise_rmse": Loss(pointwise_rmse_loss, "scores", _ORDER),
}
"""Every ranking loss by the name that ``--loss`` takes."""


def ranking_loss(
    loss: Loss, scores: Tensor, labels: Tensor, mask: Tensor, pair_mask: Tensor | None = None, **options: float
) -> Tensor:
    """A loss of either kind for a student that scores passages.

    Args:
        loss: a row of :data:`LOSSES`.
        scores: student scores, float ``[num_queries, group_size]``.
        labels: float ``[num_queries, group_size]``, or preferences ``[num_queries, group_size, group_size]``.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.
        pair_mask: bool ``[num_queries, group_size, group_size]``, True where the teacher compared the pair; None
            takes all pairs of real passages. For losses over margins only.
        options: the loss's own, by name.

    Returns:
        float32 ``[num_queries]``.

    Raises:
        ValueError: if shapes differ, or a pair mask comes to a loss that takes scores.

    >>> import torch
    >>> one = torch.tensor([[True, True]])
    >>> ranking_loss(LOSSES["rank_net"], torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.5]]), one)
    tensor([0.6931])
    """
    if loss.kind == "scores":
        if pair_mask is not None:
            raise ValueError("a pair mask belongs to a loss over margins; this one takes scores")
        return loss.function(scores, labels, mask, **options)
    margins, real_pairs = margins_from_scores(scores, mask)
    if pair_mask is not None and pair_mask.shape != real_pairs.shape:
        raise ValueError(f"pair_mask must be {tuple(real_pairs.shape)}; got {tuple(pair_mask.shape)}")
    return loss.function(margins, labels, real_pairs if pair_mask is None else real_pairs & pair_mask, **options)
