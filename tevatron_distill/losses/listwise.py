"""Losses that look at a query's whole group.

Common to all: ``scores`` and ``labels`` are float ``[num_queries, group_size]`` (scores may be half precision),
``mask`` is bool of the same shape, True where a passage is real; the result is float32 ``[num_queries]``, 0.0 with
zero gradient for a query without passages; the order in which passages stand does not matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tevatron_distill.losses.masked import (
    FLOOR,
    blank,
    differences,
    masked_log_softmax,
    masked_mean,
    masked_sum,
    mean_ranks,
    real_pairs,
    soft_ranks,
)

LAMBDA_MU = 10.0
"""Weight of NDCG-Loss2 beside LambdaRank's in NDCG-Loss2++; the value that allRank and sentence-transformers ship."""


def softmax_ce_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the best-labelled passage against all that are labelled worse.

    For one query: ``-log(exp(s_b) / (exp(s_b) + Σ exp(s_j)))`` over the passages j with a lower label than the best
    label; the mean of it where several passages b share the best label (they do not compete with each other).

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``; only where the maximum stands counts.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, nats; 0.0 where all labels are equal.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        With one positive a group Tevatron's reranker loss (RankLLaMA, Ma et al. 2023, arXiv 2310.08319) and
        InstructDistill's ``softmax_ce``.
    """
    scores, labels = blank(scores, labels, mask)
    top = labels.masked_fill(~mask, FLOOR).amax(-1, keepdim=True)
    best = mask & (labels == top)
    worse = scores.masked_fill(~(mask & ~best), FLOOR).logsumexp(-1, keepdim=True)
    return masked_mean(functional.softplus(worse - scores), best)


def list_net_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between two distributions over which passage comes first.

    For one query: ``-Σ softmax(labels)_i · log softmax(scores)_i``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``; they are logits of the target, so their scale matters: 1/rank
            gives a flat target, raw teacher scores a sharp one.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, nats; never below the entropy of the target.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Cao et al. 2007 (ListNet, top-one probability); InstructDistill with labels 1/rank.
    """
    scores, labels = blank(scores, labels, mask)
    targets = masked_log_softmax(labels, mask).exp()
    return -masked_sum(targets * masked_log_softmax(scores, mask), mask)


def kl_loss(
    scores: Tensor, labels: Tensor, mask: Tensor, teacher_temp: float = 1.0, student_temp: float = 1.0
) -> Tensor:
    """Kullback-Leibler divergence of the student's distribution over the group from the teacher's.

    For one query: ``Σ p_i (log p_i - log q_i)`` with ``p = softmax(labels / teacher_temp)`` and
    ``q = softmax(scores / student_temp)``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: the teacher's scores, float ``[num_queries, group_size]``.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.
        teacher_temp: above 0; higher flattens the teacher's distribution.
        student_temp: above 0; higher flattens the student's.

    Returns:
        float32 ``[num_queries]``, nats; 0.0 where the two distributions agree. Not multiplied by a squared
        temperature.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Hinton et al. 2015, arXiv 1503.02531; names of the temperatures from Tevatron's distillation trainer.
    """
    scores, labels = blank(scores, labels, mask)
    teacher = masked_log_softmax(labels / teacher_temp, mask)
    student = masked_log_softmax(scores / student_temp, mask)
    return masked_sum(teacher.exp() * (teacher - student), mask)


def list_mle_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's order when passages are drawn one after another by the student.

    For one query: ``Σ_i [log(exp(s_i) + Σ_{j: label_j < label_i} exp(s_j)) - s_i]``. Passages with equal labels do not
    compete: each is drawn against itself and those below. Without ties this is the Plackett-Luce likelihood; a tail
    of tied passages, which a partial sort leaves, adds nothing among itself.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``; only their order counts.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, nats per list (a sum over places, as published); 0.0 where all labels are equal.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Xia et al. 2008 (ListMLE). Published code breaks ties at random; this definition of ties is ours.
    """
    scores, labels = blank(scores, labels, mask)
    below = real_pairs(mask) & (differences(labels) > 0)
    rest = scores[:, None, :].masked_fill(~below, FLOOR).logsumexp(-1)
    return masked_sum(functional.softplus(rest - scores), mask)


def lambda_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Logistic loss over ordered pairs, each weighted by what its swap would change in nDCG (NDCG-Loss2++).

    For one query: ``Σ_{label_i > label_j} w_ij · log2(1 + exp(s_j - s_i))`` with
    ``w_ij = (μ |1/D(d) - 1/D(d + 1)| + |1/D(r_i) - 1/D(r_j)|) · |G_i - G_j|``, where ``r`` are the ranks by the current
    scores, ``d = |r_i - r_j|``, ``D(r) = log2(1 + r)``, ``G = (2^label - 1) / ideal DCG`` and μ = 10. Weights carry no
    gradient. Equal scores share the mean of their ranks and count as neighbours (d = 1).

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``, 0 or more: ranks turned into labels, or judgements. Negative
            labels count as 0.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``; 0.0 where all labels are equal.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Wang et al. 2018, The LambdaLoss framework for ranking metric optimization; the second term of the weight is
        LambdaRank's (Burges 2010). InstructDistill's ``lambda_loss`` runs without weights unless told otherwise, which
        is ``rank_net``.
    """
    scores, labels = blank(scores, labels, mask)
    gains = _ndcg_gains(labels, mask)
    ranks = mean_ranks(scores.detach(), mask)
    distance = differences(ranks).abs().clamp(min=1)
    by_distance = 1 / torch.log2(1 + distance) - 1 / torch.log2(2 + distance)
    by_rank = differences(1 / torch.log2(1 + ranks)).abs()
    weights = (LAMBDA_MU * by_distance + by_rank) * differences(gains).abs()
    losses = weights * functional.softplus(-differences(scores)) / math.log(2)
    return masked_sum(losses, real_pairs(mask) & (differences(labels) > 0))


def ndcg_loss2_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Logistic loss over ordered pairs, each weighted by a bound on what it costs in nDCG (NDCG-Loss2), FIRST's lambda.

    For one query: mean over pairs with ``label_i > label_j`` of ``w_ij · log2(1 + exp(s_j - s_i))`` with
    ``w_ij = |1/D(d) - 1/D(d + 1)| · |G_i - G_j|``; ``d``, ``D`` and ``G`` as in :func:`lambda_loss`.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``, 0 or more: ranks turned into labels, or judgements. Negative
            labels count as 0.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``; 0.0 where all labels are equal.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Wang et al. 2018; Reddy et al. 2024, arXiv 2406.15657 (FIRST). RankLLM takes the student's own logits, dealt
        out in the teacher's order, as labels, so that gains vanish or overflow with them; here labels are the
        teacher's.
    """
    scores, labels = blank(scores, labels, mask)
    gains = _ndcg_gains(labels, mask)
    distance = differences(mean_ranks(scores.detach(), mask)).abs().clamp(min=1)
    weights = (1 / torch.log2(1 + distance) - 1 / torch.log2(2 + distance)) * differences(gains).abs()
    losses = weights * functional.softplus(-differences(scores)) / math.log(2)
    return masked_mean(losses, real_pairs(mask) & (differences(labels) > 0))


def approx_ndcg_loss(scores: Tensor, labels: Tensor, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """One minus nDCG, computed with differentiable ranks.

    For one query: ``1 - Σ G_i / log2(1 + r_i)`` with ``r_i = 1 + Σ_{j≠i} σ((s_j - s_i) / temperature)`` and
    ``G = (2^label - 1) / ideal DCG``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``, 0 or more: ranks turned into labels, or judgements; never raw
            logits, which would be exponents of the gain. Negative labels count as 0.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.
        temperature: above 0, in score units; score gaps far above it give no gradient.

    Returns:
        float32 ``[num_queries]``, between 0 and 1; 0.0 where all labels are equal, as nDCG is then 1 in any order.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Qin, Liu and Li 2010; Bruch et al. 2019, Revisiting approximate metric optimization, for the temperature.
    """
    scores, labels = blank(scores, labels, mask)
    ranks = soft_ranks(scores, mask, 1 / temperature)
    losses = 1 - masked_sum(_ndcg_gains(labels, mask) / torch.log2(1 + ranks), mask)
    ordered = (real_pairs(mask) & (differences(labels) > 0)).flatten(1).any(1)
    return losses.masked_fill(~ordered, 0)


def adr_mse_loss(scores: Tensor, labels: Tensor, mask: Tensor, alpha: float = 1.0) -> Tensor:
    """Squared difference between the student's differentiable ranks and the teacher's, discounted by rank.

    For one query: mean over passages of ``(r_i - π_i)² / log2(1 + r_i)`` with ``r`` the teacher's ranks (equal labels
    share the mean of their places) and ``π_i = 1 + Σ_{j≠i} σ(alpha · (s_j - s_i))``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``; only their order counts.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.
        alpha: above 0; how sharply a difference of scores counts as a place.

    Returns:
        float32 ``[num_queries]``, squared places per passage.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        Schlatt et al. 2024 (Rank-DistiLLM), arXiv 2405.07920. Mean ranks for ties are ours.
    """
    scores, labels = blank(scores, labels, mask)
    ranks = mean_ranks(labels, mask)
    errors = (ranks - soft_ranks(scores, mask, alpha)).square() / torch.log2(1 + ranks)
    return masked_mean(errors, mask)


def _ndcg_gains(labels: Tensor, mask: Tensor) -> Tensor:
    """``(2^label - 1) / ideal DCG``; the maximum is taken out of the exponent, so that no label overflows."""
    labels = labels.clamp(min=0)
    top = labels.amax(-1, keepdim=True)
    gains = (torch.exp2(labels - top) - torch.exp2(-top)).masked_fill(~mask, 0)
    places = torch.arange(1, labels.shape[-1] + 1, device=labels.device)
    ideal = (gains.sort(dim=-1, descending=True).values / torch.log2(1 + places)).sum(-1, keepdim=True)
    return gains / ideal.clamp(min=torch.finfo(torch.float32).tiny)
