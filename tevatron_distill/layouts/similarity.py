"""How the vectors of a query and of a passage become one score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Similarity(Protocol):
    """Scores of queries and passages that stand side by side."""

    def __call__(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """Scores float32 ``[P]``.

        Args:
            query: vectors of unit length, float ``[P, Tq, D]``, or ``[1, Tq, D]`` for one query with all passages.
            query_counted: bool ``[P, Tq]`` or ``[1, Tq]``, True where a vector counts; at least one in each row.
            passage: vectors of unit length, float ``[P, Tp, D]``.
            passage_counted: bool ``[P, Tp]``; a vector that does not count can never be the largest.
        """


@dataclass(frozen=True)
class MaxSim:
    """Over the query's tokens, the largest dot product with a token of the passage; divided by a temperature.

    Args:
        mean: the mean over the query's tokens, which does not grow with the query; else the sum. Both order the
            passages of a query alike.
        temperature: above 0.
        pads_below: a passage with fewer counted tokens than this also has a vector of zeros, with which every dot
            product is 0; None for none has. Such are the pads of open-retrievals, which reach to the passage's length.

    Source:
        Khattab and Zaharia 2020 (ColBERT), which sums.
    """

    mean: bool = True
    temperature: float = 1.0
    pads_below: int | None = None

    def __call__(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """See :class:`Similarity`."""
        products = query.float() @ passage.float().mT  # [P, Tq, Tp]
        largest = products.masked_fill(~passage_counted[:, None, :], -torch.inf).amax(dim=-1)
        if self.pads_below is not None:
            padded = passage_counted.sum(dim=-1, keepdim=True) < self.pads_below
            largest = torch.where(padded, largest.clamp(min=0), largest)
        total = (largest * query_counted).sum(dim=-1)
        return (total / query_counted.sum(dim=-1) if self.mean else total) / self.temperature


@dataclass(frozen=True)
class MutualMaxSim:
    """The mean of MaxSim, and a share of the same in the other direction: what each token of the passage finds in the
    query. The share counts against passages that say much else; divided by a temperature.

    Args:
        temperature: above 0.
        share: of the other direction.

    Source:
        Zhang et al. 2020 (BERTScore), whose recall and precision the two directions are.
    """

    temperature: float = 1.0
    share: float = 0.2

    def __call__(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """See :class:`Similarity`."""
        forth = MaxSim()(query, query_counted, passage, passage_counted)
        back = MaxSim()(passage, passage_counted, query, query_counted)
        return (forth + self.share * back) / self.temperature


@dataclass(frozen=True)
class Cosine:
    """The dot product of the first vectors, ``[CLS]``'s; divided by a temperature."""

    temperature: float = 1.0

    def __call__(self, query: Tensor, query_counted: Tensor, passage: Tensor, passage_counted: Tensor) -> Tensor:
        """See :class:`Similarity`; only the first vector of each counts."""
        return (query[:, 0].float() * passage[:, 0].float()).sum(dim=-1) / self.temperature


def gold_term(scores: Tensor, mask: Tensor, gold: Tensor, has_gold: Tensor) -> Tensor:
    """How far passages stand above a reference that should be above all of them.

    For one query: the mean over passages of ``max(0, score - gold)``.

    Args:
        scores: float ``[num_queries, group_size]``.
        mask: bool of that shape, True where a passage is real.
        gold: the references' scores, float ``[num_queries]``.
        has_gold: bool ``[num_queries]``; a query without a reference has the term 0.

    Returns:
        float32 ``[num_queries]``.

    Source:
        Liu and Liu 2021 (SimCLS), with the margin 0 of LLM-Blender.
    """
    above = functional.relu(scores - gold[:, None]).masked_fill(~(mask & has_gold[:, None]), 0)
    return above.sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)
