"""Our losses in the way in which another program averages and scales them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import pytest
import torch

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.losses.masked import real_pairs

KINDS = ("ranks", "grades", "tail")
"""Labels: 1/rank; grades of 0 to 3, with ties; 1/rank of the best three before a tied tail."""


class Batch(NamedTuple):
    """Scores and labels of several queries, without padding."""

    scores: list[list[float]]
    labels: list[list[float]]

    def pairs(self) -> list[tuple[int, int]]:
        """For each query, how many pairs its labels order, and how many they tie."""
        counted = []
        for labels in self.labels:
            ordered = sum(one != two for one, two in combinations(labels, 2))
            counted.append((ordered, math.comb(len(labels), 2) - ordered))
        return counted


class Peer(NamedTuple):
    """Which of our losses another program's is, and what it makes of several queries.

    Attributes:
        loss: ours.
        average: over what the other averages: ``queries``; ``passages`` or ordered ``pairs`` of the whole batch;
            ``sum`` for a sum over all; ``sum/pairs`` where ours is a sum and the other a mean over ordered pairs;
            ``tied pairs`` where tied pairs are counted, too.
        factor: by which the other's is larger.
        offset: and by how much.
        tie_cost: of each tied pair, for ``tied pairs``.
        where: labels that are understood alike: ``all``, ``ranks`` (no ties), ``one best``, ``ordered`` (every query
            has something to be ordered).
    """

    loss: str
    average: str = "queries"
    factor: float = 1.0
    offset: float = 0.0
    tie_cost: float = 0.0
    where: str = "all"

    def understands(self, batch: Batch) -> bool:
        """Whether the labels of this batch are understood alike."""
        alike = {
            "all": True,
            "ranks": all(not tied for _, tied in batch.pairs()),
            "one best": all(row.count(max(row)) == 1 for row in batch.labels),
            "ordered": all(ordered for ordered, _ in batch.pairs()),
        }
        return alike[self.where] and any(ordered for ordered, _ in batch.pairs())

    def shares(self, batch: Batch) -> list[float]:
        """By what our loss of each query is multiplied before they are added up."""
        pairs, sizes = batch.pairs(), [len(row) for row in batch.labels]
        ordered, tied = sum(o for o, _ in pairs), sum(t for _, t in pairs)
        return {
            "queries": [1 / len(sizes)] * len(sizes),
            "passages": [size / sum(sizes) for size in sizes],
            "pairs": [own / ordered for own, _ in pairs],
            "tied pairs": [own / (ordered + tied) for own, _ in pairs],
            "sum": [1.0] * len(sizes),
            "sum/pairs": [1 / ordered] * len(sizes),
        }[self.average]

    def expects(self, batch: Batch) -> tuple[float, list[list[float]]]:
        """What the other program should answer: a value, and its gradient by the scores."""
        losses, scores = our_losses(self.loss, batch)
        total = (losses * torch.tensor(self.shares(batch))).sum() * self.factor
        total.backward()
        ties = sum(tied for _, tied in batch.pairs())
        of_ties = self.tie_cost * ties / sum(map(sum, batch.pairs())) if self.tie_cost else 0.0
        gradient = [row[: len(real)].tolist() for row, real in zip(scores.grad, batch.scores, strict=True)]
        return total.item() + self.offset + of_ties, gradient


def our_losses(name: str, batch: Batch, **options: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Our loss of each query, in one padded batch with garbage in its pads, and the scores that take the gradient.

    A loss over pairs of scores takes each passage's score for what it got beside any other.
    """
    width = max(map(len, batch.scores))
    mask = torch.tensor([[place < len(row) for place in range(width)] for row in batch.scores])
    scores, labels = (torch.tensor([row + [99.0] * (width - len(row)) for row in rows]) for rows in batch)
    scores.requires_grad_()
    shown = {}
    if LOSSES[name].kind == "pair_scores":
        shown = {"pair_scores": scores[:, :, None].expand(-1, -1, width), "shown": real_pairs(mask)}
    return ranking_loss(LOSSES[name], scores, labels, mask, **shown, **options), scores


def same(found: tuple[float, Sequence[Sequence[float]]], expected: tuple[float, Sequence[Sequence[float]]]) -> bool:
    """Whether values and gradients agree, as near as sums of float32 do."""
    flat = [[value for row in gradient for value in row] for _, gradient in (found, expected)]
    return found[0] == pytest.approx(expected[0], rel=2e-5, abs=2e-6) and flat[0] == pytest.approx(
        flat[1], rel=1e-4, abs=2e-5
    )


def draw(kind: str, sizes: Sequence[int], seed: int) -> Batch:
    """A batch whose scores have no ties."""
    source = random.Random(f"{kind} {sizes} {seed}")
    labels = []
    for size in sizes:
        ranks = source.sample(range(1, size + 1), size)
        if kind == "grades":
            labels.append([float(source.randint(0, 3)) for _ in ranks])
        else:
            labels.append([1 / rank if kind == "ranks" or rank <= 3 else 1 / size for rank in ranks])
    return Batch([[source.gauss(0, 1.5) for _ in range(size)] for size in sizes], labels)
