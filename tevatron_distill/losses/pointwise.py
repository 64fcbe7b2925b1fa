"""Losses that look at one passage at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tevatron_distill.losses.masked import FLOOR, blank, check_bool, masked_mean


def pointwise_bce_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of each passage's score against its label as a probability.

    For one query: mean over passages of ``-y log σ(s) - (1 - y) log(1 - σ(s))`` with ``y`` the label cut to [0, 1],
    so that every judgement of 1 or more counts as relevant.

    Args:
        scores: student scores, float ``[num_queries, group_size]``, unbounded logits.
        labels: float ``[num_queries, group_size]``; 1/rank, or grades of relevance.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, nats per passage; 0.0 with zero gradient for an empty query.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        InstructDistill (Sun et al. 2023, arXiv 2311.01555) with labels 1/rank; computed from logits, where the
        published code takes the logarithm of a rounded sigmoid.
    """
    scores, labels = blank(scores, labels, mask)
    errors = functional.binary_cross_entropy_with_logits(scores, labels.clamp(0, 1), reduction="none")
    return masked_mean(errors, mask)


def metric_bce_loss(metric_logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, for each measure, of "this is the best candidate of its list".

    For one query: mean over candidates and measures of ``-log σ(z)`` for a candidate with the largest label of that
    measure, and ``-log(1 - σ(z))`` for the others. A measure in which all candidates are equal says nothing of which
    is best and is left out.

    Args:
        metric_logits: float ``[num_queries, group_size, num_metrics]``, unbounded logits.
        labels: the measures, float ``[num_queries, group_size, num_metrics]``, higher is better; only where the
            maximum of each stands counts.
        mask: bool ``[num_queries, group_size]``, True where a candidate is real.

    Returns:
        float32 ``[num_queries]``, nats per candidate and measure; 0.0 with zero gradient where nothing is left.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Ravaut et al. 2022 (SummaReranker, arXiv 2203.06569), as coded in LLM-Blender, which keeps measures without a
        difference.
    """
    check_bool(mask)
    if metric_logits.ndim != 3 or metric_logits.shape != labels.shape or metric_logits.shape[:2] != mask.shape:
        raise ValueError(
            "logits and labels must share one shape [num_queries, group_size, num_metrics], and mask its first two; "
            f"got {tuple(metric_logits.shape)}, {tuple(labels.shape)}, {tuple(mask.shape)}"
        )
    real = mask[:, :, None].expand_as(metric_logits)
    logits = metric_logits.float().masked_fill(~real, 0)
    labels = labels.detach().float().masked_fill(~real, FLOOR)
    top = labels.amax(dim=1, keepdim=True)
    differ = ((labels < top) & real).any(dim=1, keepdim=True)  # [Q, 1, M]
    errors = functional.binary_cross_entropy_with_logits(logits, (labels == top).float(), reduction="none")
    return masked_mean(errors, real & differ)


def pointwise_mse_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the raw scores.

    For one query: mean over passages of ``(label - s)²``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``; they learn the labels' own scale.
        labels: float ``[num_queries, group_size]``, finite; a teacher's raw logits.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, in units of the labels, squared; 0.0 with zero gradient for an empty query.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        The Ettin rerankers (Aarsen 2026, huggingface.co/blog/ettin-reranker), whose queries weigh as much as they have
        passages; here each weighs the same.
    """
    scores, labels = blank(scores, labels, mask)
    return masked_mean((labels - scores).square(), mask)


def pointwise_rmse_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Root of the mean squared error of the raw scores.

    For one query: ``sqrt(mean over passages of (label - s)²)``.

    Args:
        scores: student scores, float ``[num_queries, group_size]``; they learn the labels' own scale.
        labels: float ``[num_queries, group_size]``, finite.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Returns:
        float32 ``[num_queries]``, in units of the labels; 0.0 with zero gradient for an empty query. At zero error
        the gradient is 0, not the NaN of a plain square root.

    Raises:
        ValueError: if the three shapes differ.

    Source:
        InstructDistill (Sun et al. 2023, arXiv 2311.01555) with labels 1/rank.
    """
    scores, labels = blank(scores, labels, mask)
    errors = (labels - scores).masked_fill(~mask, 0)
    # vector_norm has the subgradient 0 at 0
    return torch.linalg.vector_norm(errors, dim=-1) / mask.sum(-1).clamp(min=1).sqrt()
