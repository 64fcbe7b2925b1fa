"""What every loss does first and last: check shapes, go to float32, blank what is not there, average what is.

Places without a passage are overwritten before the first operation, so that nothing in them, not even a NaN,
reaches a value or a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = torch.finfo(torch.float32).min / 2
"""Stands for -inf under a softmax: exp gives 0 and, unlike -inf, an empty row gives no NaN."""


def blank(scores: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and labels in float32 with 0 where there is no passage; labels are detached.

    Args:
        scores: float ``[num_queries, group_size]``, any precision.
        labels: float ``[num_queries, group_size]``.
        mask: bool ``[num_queries, group_size]``, True where a passage is real.

    Raises:
        ValueError: if the three shapes differ, or the mask is not bool.
    """
    if scores.ndim != 2 or scores.shape != labels.shape or scores.shape != mask.shape:
        raise ValueError(
            "scores, labels and mask must share one shape [num_queries, group_size]; "
            f"got {tuple(scores.shape)}, {tuple(labels.shape)}, {tuple(mask.shape)}"
        )
    check_bool(mask)
    return scores.float().masked_fill(~mask, 0), labels.detach().float().masked_fill(~mask, 0)


def check_bool(mask: Tensor) -> None:
    """Refuse a mask of numbers, in which padding such as -100 would count as True.

    Raises:
        ValueError: if the mask is not bool.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be bool; got {mask.dtype}")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the True places of each query; 0 where there is none.

    Args:
        values: float ``[num_queries, …]``.
        mask: bool of the same shape.

    Returns:
        float ``[num_queries]``.
    """
    return masked_sum(values, mask) / mask.flatten(1).sum(1).clamp(min=1)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the True places of each query, ``[num_queries]``."""
    return values.masked_fill(~mask, 0).flatten(1).sum(1)


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities over the real passages of each query, ``[num_queries, group_size]``; finite everywhere."""
    return values.masked_fill(~mask, FLOOR).log_softmax(-1).masked_fill(~mask, 0)


def real_pairs(mask: Tensor) -> Tensor:
    """Ordered pairs of two different real passages, bool ``[num_queries, group_size, group_size]``."""
    same = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None, :] & ~same  # [Q, G, G]


def differences(values: Tensor) -> Tensor:
    """``values_i - values_j`` at ``[query, i, j]``."""
    return values[:, :, None] - values[:, None, :]  # [Q, G, G]


def mean_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """1-based rank of each passage by value, best first; equal values share the mean of their places.

    The mean keeps the rank independent of the order in which passages stand, and equals what
    :func:`soft_ranks` gives to equal scores.

    >>> mean_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[True, True, True]])).tolist()
    [[2.5, 1.0, 2.5]]
    """
    steps = differences(values).transpose(1, 2)  # at [i, j]: values_j - values_i
    above = (steps > 0).float() + 0.5 * (steps == 0).float()
    return 1 + above.masked_fill(~real_pairs(mask), 0).sum(-1)


def soft_ranks(scores: Tensor, mask: Tensor, slope: float) -> Tensor:
    """Differentiable rank: 1 + the sum over other passages of ``sigmoid(slope * (scores_j - scores_i))``.

    Source:
        Qin, Liu and Li 2010, A general approximation framework for direct optimization of information retrieval
        measures.
    """
    above = torch.sigmoid(slope * differences(scores).transpose(1, 2))
    return 1 + above.masked_fill(~real_pairs(mask), 0).sum(-1)
