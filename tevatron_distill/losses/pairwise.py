"""Losses over pairs: they take margins, ``margins[q, i, j]`` = how far passage i is ahead of passage j.

A student that scores passages reaches them through :func:`margins_from_scores`; one that compares two passages gives
the margins itself, antisymmetric, and 0 where it was not asked.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tevatron_distill.losses.masked import check_bool, differences, masked_mean, masked_sum, mean_ranks, real_pairs


def margins_from_scores(scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of scores and the pairs they stand for.

    Args:
        scores: float ``[num_queries, group_size]``.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        ``margins``, float32 ``[num_queries, group_size, group_size]``, antisymmetric, 0 where no pair is, and
        ``pair_mask``, bool of the same shape, True for two different real passages.

    Raises:
        ValueError: if the shapes differ or the mask is not bool.
    """
    if scores.ndim != 2 or scores.shape != mask.shape:
        raise ValueError(
            "scores and mask must share one shape [num_queries, group_size]; "
            f"got {tuple(scores.shape)}, {tuple(mask.shape)}"
        )
    check_bool(mask)
    pair_mask = real_pairs(mask)
    return differences(scores.float().masked_fill(~mask, 0)).masked_fill(~pair_mask, 0), pair_mask


def rank_net_loss(margins: Tensor, labels: Tensor, pair_mask: Tensor, weighted: bool = False) -> Tensor:
    """Logistic loss over every pair of passages that the teacher orders.

    From labels, for one query: mean of ``log(1 + exp(-margin_ij))`` over pairs with ``label_i > label_j``.
    From preferences: mean over the pairs that were asked, each once, of the cross-entropy of ``σ(margin_ij)`` against
    the teacher's probability that i is better than j.

    Args:
        margins: student margins, float ``[num_queries, group_size, group_size]``, antisymmetric.
        labels: float ``[num_queries, group_size]``, higher is better, equal labels form no pair; or preferences,
            float ``[num_queries, group_size, group_size]`` in [0, 1].
        pair_mask: bool ``[num_queries, group_size, group_size]``, True where a pair was compared. It is symmetric for
            labels; a preference may stand in one order or in both (then the two are averaged).
        weighted: each pair counts ``1 / (r_i + r_j)``, the inverse sum of its 1-based teacher ranks (equal labels
            share the mean of their places). The sum is still divided by the number of pairs, so the loss is smaller:
            by .0593 for 20 passages if all pairs cost the same.

    Returns:
        float32 ``[num_queries]``, nats per pair; 0.0 with zero gradient where no pair is ordered.

    Raises:
        ValueError: if the shapes differ, or preferences, which have no ranks, are to be weighted.

    Source:
        Burges et al. 2005 (RankNet); for teacher permutations Sun et al. 2023, arXiv 2311.01555, with labels 1/rank
        (only their order counts). The published code averages over all pairs of a batch, this loss over those of each
        query. ``weighted``: Reddy et al. 2024, arXiv 2406.15657 (FIRST), as RankLLM trains it.
    """
    margins, labels = _blank_pairs(margins, labels, pair_mask)
    if labels.ndim == 2:
        errors = functional.softplus(-margins)
        if weighted:
            ranks = mean_ranks(labels, (pair_mask | pair_mask.mT).any(-1))
            errors = errors / (ranks[:, :, None] + ranks[:, None, :])
        return masked_mean(errors, pair_mask & (differences(labels) > 0))
    if weighted:
        raise ValueError("rank_net weighs pairs by the teacher's ranks; preferences have none")
    times_asked = pair_mask.float() + pair_mask.mT.float()
    one_way = labels.masked_fill(~pair_mask, 0)
    other_way = (1 - labels.mT).masked_fill(~pair_mask.mT, 0)
    targets = (one_way + other_way) / times_asked.clamp(min=1)
    errors = functional.binary_cross_entropy_with_logits(margins, targets, reduction="none")
    return masked_mean(errors, _each_pair_once(pair_mask))


def margin_mse_loss(margins: Tensor, labels: Tensor, pair_mask: Tensor) -> Tensor:
    """Squared difference between the student's margins and the teacher's.

    For one query: mean over pairs, each once, of ``(margin_ij - (label_i - label_j))²``.

    Args:
        margins: student margins, float ``[num_queries, group_size, group_size]``, antisymmetric.
        labels: the teacher's scores, float ``[num_queries, group_size]``; their scale is learned too, so ranks will
            not do.
        pair_mask: bool ``[num_queries, group_size, group_size]``, symmetric, True where a pair was compared.

    Returns:
        float32 ``[num_queries]``, squared score units per pair; 0.0 with zero gradient where there is no pair.

    Raises:
        ValueError: if the shapes differ, or the labels are preferences.

    Source:
        Hofstätter et al. 2020, arXiv 2010.02666, for triples of a query, a relevant and another passage; here over all
        pairs of a group.
    """
    if labels.ndim != 2:
        raise ValueError(f"margin_mse learns from scores [num_queries, group_size]; got {tuple(labels.shape)}")
    margins, labels = _blank_pairs(margins, labels, pair_mask)
    return masked_mean((margins - differences(labels)).square(), _each_pair_once(pair_mask))


def margin_rank_loss(margins: Tensor, labels: Tensor, pair_mask: Tensor, margin: float = 1.0) -> Tensor:
    """Hinge over every pair that the teacher orders, with a margin that grows with the difference of their ranks.

    For one query of ``n`` passages: ``Σ max(0, margin · (rank_j - rank_i) / n - margin_ij)`` over pairs with
    ``label_i > label_j``. Equal labels share the mean of their ranks.

    Args:
        margins: student margins, float ``[num_queries, group_size, group_size]``, antisymmetric.
        labels: float ``[num_queries, group_size]``, higher is better; only their order counts.
        pair_mask: bool ``[num_queries, group_size, group_size]``, symmetric, True where a pair was compared.
        margin: what the first should be ahead of a place ``n`` ranks below, in score units.

    Returns:
        float32 ``[num_queries]``, a sum over pairs, as published; 0.0 with zero gradient where no pair is ordered.

    Raises:
        ValueError: if the shapes differ, or the labels are preferences.

    Source:
        Liu and Liu 2021 (SimCLS, arXiv 2106.01890), as coded in LLM-Blender, whose margin is ``(j - i) / n``.
    """
    if labels.ndim != 2:
        raise ValueError(f"margin_rank learns from labels [num_queries, group_size]; got {tuple(labels.shape)}")
    margins, labels = _blank_pairs(margins, labels, pair_mask)
    real = (pair_mask | pair_mask.mT).any(dim=-1)
    below = -differences(mean_ranks(labels, real)) / real.sum(dim=-1).clamp(min=1)[:, None, None]
    return masked_sum(functional.relu(margin * below - margins), pair_mask & (differences(labels) > 0))


def pair_bce_loss(pair_scores: Tensor, labels: Tensor, pair_mask: Tensor) -> Tensor:
    """Cross-entropy of each of two passages against "it is the better one of the two".

    For one query: mean over pairs with ``label_i > label_j`` of the two terms ``log(1 + exp(-score_ij))`` and
    ``log(1 + exp(score_ji))``, where ``score_ij`` is what i got beside j.

    Args:
        pair_scores: float ``[num_queries, group_size, group_size]``, logits; not antisymmetric.
        labels: float ``[num_queries, group_size]``, higher is better; equal labels form no pair.
        pair_mask: bool ``[num_queries, group_size, group_size]``, symmetric, True where a pair was compared.

    Returns:
        float32 ``[num_queries]``, nats per passage of a pair; 0.0 with zero gradient where no pair is ordered.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Jiang et al. 2023, arXiv 2306.02561 (PairRanker), ``loss_type BCE`` of the published code, which also counts
        pairs of equal labels, both passages as worse.
    """
    pair_scores, labels = _blank_pair_scores("pair_bce", pair_scores, labels, pair_mask)
    better = pair_mask & (differences(labels) > 0)
    return masked_mean((functional.softplus(-pair_scores) + functional.softplus(pair_scores.mT)) / 2, better)


def pair_mse_loss(pair_scores: Tensor, labels: Tensor, pair_mask: Tensor) -> Tensor:
    """Squared errors of both passages of a pair, less what their margin has in common with the teacher's.

    For one query: mean over pairs, each once, of
    ``(score_ij - label_i)² + (score_ji - label_j)² - 2 (score_ij - score_ji) (label_i - label_j)``.

    Args:
        pair_scores: float ``[num_queries, group_size, group_size]``, what passage i got beside j.
        labels: float ``[num_queries, group_size]``, targets in the units of the scores.
        pair_mask: bool ``[num_queries, group_size, group_size]``, symmetric, True where a pair was compared.

    Returns:
        float32 ``[num_queries]``, squared units per pair, below zero where the student exaggerates; 0.0 with zero
        gradient where there is no pair.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Jiang et al. 2023, arXiv 2306.02561 (PairRanker), ``loss_type MSE`` of the published code.
    """
    pair_scores, labels = _blank_pair_scores("pair_mse", pair_scores, labels, pair_mask)
    errors = (pair_scores - labels[:, :, None]).square()
    common = 2 * (pair_scores - pair_scores.mT) * differences(labels)
    return masked_mean(errors + errors.mT - common, _each_pair_once(pair_mask))


def open_instruct_bce_loss(pair_scores: Tensor, labels: Tensor, pair_mask: Tensor) -> Tensor:
    """Cross-entropy of each of two passages against its own judgement.

    For one query: mean over pairs, each once, and both of their passages, of the cross-entropy of ``σ(score_ij)``
    against 1 where ``label_i > 0``, else 0. Two passages judged alike teach, too.

    Args:
        pair_scores: float ``[num_queries, group_size, group_size]``, what passage i got beside j, logits.
        labels: judgements or scores, float ``[num_queries, group_size]``; above 0 is right.
        pair_mask: bool ``[num_queries, group_size, group_size]``, symmetric, True where a pair was compared.

    Returns:
        float32 ``[num_queries]``, nats per passage of a pair; 0.0 with zero gradient where there is no pair.

    Raises:
        ValueError: if the shapes differ.

    Source:
        LLM-Blender, ``loss_type open_instruct_BCE`` of the published code, which takes 0 and 1 only.
    """
    pair_scores, labels = _blank_pair_scores("open_instruct_bce", pair_scores, labels, pair_mask)
    right = (labels > 0).float()[:, :, None].expand_as(pair_scores)
    return masked_mean(functional.binary_cross_entropy_with_logits(pair_scores, right, reduction="none"), pair_mask)


def _blank_pair_scores(name: str, pair_scores: Tensor, labels: Tensor, pair_mask: Tensor) -> tuple[Tensor, Tensor]:
    if labels.ndim != 2:
        raise ValueError(f"{name} learns from labels that must be [num_queries, group_size]; got {tuple(labels.shape)}")
    return _blank_pairs(pair_scores, labels, pair_mask)


def _blank_pairs(margins: Tensor, labels: Tensor, pair_mask: Tensor) -> tuple[Tensor, Tensor]:
    shape = margins.shape
    if margins.ndim != 3 or shape[1] != shape[2] or pair_mask.shape != shape or labels.shape not in (shape[:2], shape):
        raise ValueError(
            "margins and pair_mask must be [num_queries, group_size, group_size], labels that or "
            "[num_queries, group_size]; "
            f"got {tuple(shape)}, {tuple(pair_mask.shape)}, {tuple(labels.shape)}"
        )
    check_bool(pair_mask)
    seen = pair_mask | pair_mask.mT
    labels = labels.detach().float()
    unseen_labels = ~seen.any(-1) if labels.ndim == 2 else ~pair_mask
    return margins.float().masked_fill(~seen, 0), labels.masked_fill(unseen_labels, 0)


def _each_pair_once(pair_mask: Tensor) -> Tensor:
    return torch.triu(pair_mask | pair_mask.mT, diagonal=1)
