"""A chain of students: small ones sort out what the large ones read."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from tevatron_distill.permutation import from_scores
from tevatron_distill.reranker import Reranker
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.reranker.ranking import Ranking
from tevatron_distill.schema import Candidates, InputError

GAP = 2**-10
"""How far the best passage that a stage does not read stands below the worst that it does, in deviations of the
latter's scores."""


class Cascade(Ranking):
    """Students behind each other: the first ranks all passages, each further one the best so many of the one before.

    What a further student has ranked stands above all other passages, which keep the order that they had.

    Args:
        stages: the students, in the order in which they read.
        depths: how many passages each but the first reads.

    Raises:
        InputError: if there is not one depth for each stage but the first, or they do not fall.
    """

    def __init__(self, stages: Sequence[Reranker], depths: Sequence[int]) -> None:
        check_depths(len(stages) - 1, depths)
        self.stages, self.depths = list(stages), list(depths)
        for stage in self.stages:
            stage.batcher.count = self.batcher.count

    @property
    def batcher(self) -> Batcher:
        """Of the last stage; its ``count`` is that of all stages."""
        return self.stages[-1].batcher

    def score_candidates(self, candidates: Sequence[Candidates]) -> list[list[float]]:
        """Scores of whole lists, aligned with their passages.

        Those of the passages that the last student reads are its own; those of the others follow below, in the scale
        of the student that read them last, stretched to the next one's.

        Raises:
            InputError: as `Reranker.score_candidates`.
        """
        scores = self.stages[0].score_candidates(candidates)
        for stage, depth in zip(self.stages[1:], self.depths, strict=True):
            orders = [from_scores(row)[:depth] for row in scores]
            chosen = [one.select(order) for one, order in zip(candidates, orders, strict=True)]
            found = stage.score_candidates(chosen)
            scores = [put_above(*row) for row in zip(scores, orders, found, strict=True)]
        return scores


def check_depths(num_stages: int, depths: Sequence[int]) -> None:
    """See that every further student has a depth.

    Raises:
        InputError: if one has none, or reads more than the one before.
    """
    if num_stages < 1 or len(depths) != num_stages:
        raise InputError(
            f"--cascade_depth must give one number for each student behind the first; got {list(depths)} for "
            f"{num_stages} of them"
        )
    if min(depths) < 1 or any(after > before for before, after in itertools.pairwise(depths)):
        raise InputError(f"--cascade_depth must be numbers from 1 that do not rise; got {list(depths)}")


def put_above(before: Sequence[float], chosen: Sequence[int], scores: Sequence[float]) -> list[float]:
    """Scores in which the chosen passages have those of the next student, and all others lie below them.

    The others keep their order; their distances are stretched by how much wider the next student's scores are spread.

    Args:
        before: scores of all passages.
        chosen: positions of the best of them, best first.
        scores: what the next student gives those.

    >>> put_above([3.0, 1.0], [0], [5.0])
    [5.0, 2.9990234375]
    >>> put_above([1.0, 2.0], [1, 0], [0.5, 0.25])
    [0.25, 0.5]
    """
    if not chosen:
        return list(before)
    own, new = statistics.pstdev(before), statistics.pstdev(scores)
    stretch = new / own if own and new else 1.0
    top, floor = before[chosen[-1]], min(scores) - GAP * (new or 1.0)
    merged = [floor - (top - score) * stretch for score in before]
    for position, score in zip(chosen, scores, strict=True):
        merged[position] = score
    return merged
