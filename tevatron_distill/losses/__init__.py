"""Ranking losses, pure functions to one number per query, and the table of them.

Kinds: ``scores`` losses take ``(scores, labels, mask)``, ``margins`` losses ``(margins, labels, pair_mask)``,
``pair_scores`` losses ``(pair_scores, labels, pair_mask)`` with what each of two passages got beside the other, and
``metrics`` losses ``(metric_logits, labels, mask)`` with a last axis of metrics. All compute in float32, detach the
labels, form no pair of equal labels, give 0.0 with zero gradient for a query without passages, and raise ValueError for
shapes that differ. Averaging over queries is the trainer's.
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
    ndcg_loss2_loss,
    softmax_ce_loss,
)
from tevatron_distill.losses.pairwise import (
    margin_mse_loss,
    margin_rank_loss,
    margins_from_scores,
    open_instruct_bce_loss,
    pair_bce_loss,
    pair_mse_loss,
    rank_net_loss,
)
from tevatron_distill.losses.pointwise import (
    metric_bce_loss,
    pointwise_bce_loss,
    pointwise_mse_loss,
    pointwise_rmse_loss,
)

__all__ = ["LOSSES", "Loss", "margins_from_scores", "ranking_loss"]


class Loss(NamedTuple):
    """A row of :data:`LOSSES`.

    Attributes:
        function: the loss itself.
        kind: ``scores``, ``margins``, ``pair_scores`` or ``metrics``, what it takes first.
        labels: the label transforms it can learn from, its default first: ``reciprocal`` (1/rank, as InstructDistill
            publishes for all of its losses) and ``linear`` are made from ranks, ``scores`` and ``preferences`` are the
            teacher's own, ``judgements`` are grades of relevance, ``metrics`` named measures of quality.
        options: keyword options that a command line sets.
    """

    function: Callable[..., Tensor]
    kind: Literal["scores", "margins", "pair_scores", "metrics"]
    labels: tuple[str, ...]
    options: tuple[str, ...] = ()


_ORDER = ("reciprocal", "linear", "judgements", "scores")
_GAINS = ("reciprocal", "linear", "judgements")

LOSSES: dict[str, Loss] = {
    "rank_net": Loss(rank_net_loss, "margins", (*_ORDER, "preferences"), ("weighted",)),
    "margin_mse": Loss(margin_mse_loss, "margins", ("scores",)),
    "margin_rank": Loss(margin_rank_loss, "margins", _ORDER),
    "pair_bce": Loss(pair_bce_loss, "pair_scores", _ORDER),
    "pair_mse": Loss(pair_mse_loss, "pair_scores", ("scores", "judgements", "reciprocal", "linear")),
    "open_instruct_bce": Loss(open_instruct_bce_loss, "pair_scores", ("scores", "judgements")),
    "softmax_ce": Loss(softmax_ce_loss, "scores", _ORDER),
    "list_net": Loss(list_net_loss, "scores", _ORDER),
    "list_mle": Loss(list_mle_loss, "scores", _ORDER),
    "lambda_loss": Loss(lambda_loss, "scores", _GAINS),
    "ndcg_loss2": Loss(ndcg_loss2_loss, "scores", _GAINS),
    "approx_ndcg": Loss(approx_ndcg_loss, "scores", _GAINS),
    "adr_mse": Loss(adr_mse_loss, "scores", _ORDER),
    "kl": Loss(kl_loss, "scores", ("scores",), ("teacher_temp", "student_temp")),
    "pointwise_bce": Loss(pointwise_bce_loss, "scores", _GAINS),
    "pointwise_mse": Loss(pointwise_mse_loss, "scores", ("scores", "judgements", "reciprocal", "linear")),
    "pointwise_rmse": Loss(pointwise_rmse_loss, "scores", _ORDER),
    "metric_bce": Loss(metric_bce_loss, "metrics", ("metrics",)),
}
"""Every ranking loss by the name that ``--loss`` takes."""


def ranking_loss(
    loss: Loss,
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    pair_mask: Tensor | None = None,
    *,
    pair_scores: Tensor | None = None,
    shown: Tensor | None = None,
    metric_logits: Tensor | None = None,
    **options: float,
) -> Tensor:
    """A loss of any kind for what a student says.

    Args:
        loss: a row of :data:`LOSSES`.
        scores: student scores, float ``[num_queries, group_size]``.
        labels: float ``[num_queries, group_size]``, preferences ``[num_queries, group_size, group_size]``, or metrics
            ``[num_queries, group_size, num_metrics]``.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.
        pair_mask: bool ``[num_queries, group_size, group_size]``, True where the teacher compared the pair; None
            takes all pairs of real passages. For losses over pairs only.
        pair_scores: of a student that compares, ``[num_queries, group_size, group_size]``: what passage i got beside j.
        shown: bool of that shape, symmetric, True where the student compared the pair.
        metric_logits: of a student that predicts metrics, ``[num_queries, group_size, num_metrics]``.
        options: the loss's own, by name.

    Returns:
        float32 ``[num_queries]``.

    Raises:
        ValueError: if shapes differ, a pair mask comes to a loss that takes scores, or the student does not say what
            the loss takes.

    >>> import torch
    >>> one = torch.tensor([[True, True]])
    >>> ranking_loss(LOSSES["rank_net"], torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.5]]), one)
    tensor([0.6931])
    """
    if loss.kind in ("scores", "metrics"):
        if pair_mask is not None:
            raise ValueError(f"a pair mask belongs to a loss over pairs; this one takes {loss.kind}")
        given = scores if loss.kind == "scores" else metric_logits
        if given is None:
            raise ValueError("this loss takes a logit for each metric; the student gives none")
        return loss.function(given, labels, mask, **options)
    if pair_scores is None or shown is None:
        if loss.kind == "pair_scores":
            raise ValueError("this loss takes what each of two passages got beside the other; the student gives none")
        margins, shown = margins_from_scores(scores, mask)
    else:
        margins = pair_scores if loss.kind == "pair_scores" else pair_scores - pair_scores.mT
    if pair_mask is not None and pair_mask.shape != shown.shape:
        raise ValueError(f"pair_mask must be {tuple(shown.shape)}; got {tuple(pair_mask.shape)}")
    return loss.function(margins, labels, shown if pair_mask is None else shown & pair_mask, **options)
