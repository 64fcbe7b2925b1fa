"""What a student says of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

SCORE_KINDS = frozenset({"scores", "margins"})
"""Kinds of loss that every student with a score for each passage can learn by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A student's output for a collated batch, in float32.

    Attributes:
        scores: ``[Q, G]``, higher is better; 0 where there is no passage.
        pair_scores: ``[Q, G, G]`` of a student that compares: at ``[q, i, j]`` the score that passage i got beside
            passage j, the mean over the orders in which the two were shown; 0 where they were not.
        pair_mask: bool ``[Q, G, G]``, symmetric, True where two passages were shown together.
        metric_logits: ``[Q, G, M]`` of a student that predicts several measures of quality.
        terms: further terms of the loss by name, ``[Q]`` each.
    """

    scores: Tensor
    pair_scores: Tensor | None = None
    pair_mask: Tensor | None = None
    metric_logits: Tensor | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)
