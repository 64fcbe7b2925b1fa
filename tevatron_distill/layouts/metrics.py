"""Rows of a student that predicts several measures of quality at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from tevatron_distill.layouts.point import PointLayout
from tevatron_distill.layouts.verdict import SCORE_KINDS, Verdict

BALANCE_WEIGHT = 0.01


@dataclass
class MetricsLayout(PointLayout):
    """Groups to (query, passage) rows; logits ``[R, M]`` to a score and ``M`` logits for each passage.

    The score is the mean of the logits. SummaReranker's published one is the sigmoid of that mean, which orders alike;
    without it losses over scores reach every size of margin.
    """

    loss_kinds: frozenset[str] = SCORE_KINDS | {"metrics"}
    term_weights: Mapping[str, float] = field(default_factory=lambda: {"balance": BALANCE_WEIGHT})

    def row_scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The model's logits ``[R, M]`` to float32 scores ``[R]``."""
        return outputs["logits"].float().mean(dim=-1)

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """What the student says of a collated batch.

        Args:
            outputs: ``logits`` ``[R, M]``, ``importance`` and ``load`` ``[R, M, E]``.
            batch: ``row_index`` int64 ``[R, 2]`` and ``mask`` bool ``[Q, G]``.

        Returns:
            Scores float32 ``[Q, G]``, metric logits float32 ``[Q, G, M]``, and the term ``balance``. That is one number
            for the whole batch; every query bears it, so that the mean over queries is that number.
        """
        mask, places = batch["mask"], tuple(batch["row_index"].T)
        logits = outputs["logits"].float()
        metric_logits = logits.new_zeros((*mask.shape, logits.shape[-1])).index_put(places, logits)
        balance = spread(outputs["importance"].sum(dim=0)) + spread(outputs["load"].sum(dim=0))
        return Verdict(
            scores=metric_logits.mean(dim=-1),
            metric_logits=metric_logits,
            terms={"balance": balance.sum().expand(len(mask))},
        )


def spread(shares: Tensor) -> Tensor:
    """Squared coefficient of variation over the experts: ``variance / mean²``; 0 where all have the same share.

    Args:
        shares: float32 ``[M, E]``.

    Returns:
        float32 ``[M]``.

    Source:
        Shazeer et al. 2017, arXiv 1701.06538.

    >>> import torch
    >>> spread(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    tensor([0.5000, 0.0000])
    """
    return shares.var(dim=-1) / (shares.mean(dim=-1).square() + 1e-10)
