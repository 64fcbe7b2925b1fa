"""Which passages of a group the student sees: a pure function of (seed, epoch, index)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from tevatron_distill.schema import Group, InputError


def draw_uniform(group: Group, size: int, generator: random.Random) -> list[int]:
    """``size`` positions drawn over the whole permutation, in first-stage order."""
    count = len(group.passages)
    return sorted(generator.sample(range(count), min(size, count)))


def draw_top(group: Group, size: int) -> list[int]:
    """The teacher's first ``size`` passages, in first-stage order (InstructDistill's rule)."""
    return sorted(group.permutation[:size])


def draw_one_positive(
    group: Group,
    size: int,
    generator: random.Random,
    epoch: int,
    positive_no_shuffle: bool = False,
    negative_no_shuffle: bool = False,
) -> list[int]:
    """One relevant passage first, then ``size - 1`` others, as Tevatron draws them.

    The relevant one advances by a place an epoch; the negatives are shuffled once for the query and taken in turn,
    so that successive epochs see all of them. Unlike Tevatron, too few negatives give a smaller group, not repeats.

    Raises:
        InputError: if the group has no judgements or no relevant passage.

    Source:
        Tevatron, reranker dataset (facts, not code): positive ``(seed + epoch) % n``, negatives by slices.
    """
    if group.judgements is None or max(group.judgements) <= 0:
        raise InputError(
            f'query_id "{group.query_id}": one_positive needs a judged relevant passage and this row has none; '
            "draw with --group_sampling uniform or leave the query out"
        )
    positives = [position for position, grade in enumerate(group.judgements) if grade > 0]
    negatives = [position for position, grade in enumerate(group.judgements) if grade <= 0]
    offset = generator.randrange(len(positives))
    positive = positives[0 if positive_no_shuffle else (offset + epoch) % len(positives)]
    wanted = min(size - 1, len(negatives))
    if negative_no_shuffle or wanted == 0:
        return [positive, *negatives[:wanted]]
    generator.shuffle(negatives)
    start = epoch * wanted % len(negatives)
    return [positive, *(negatives + negatives)[start : start + wanted]]


class TeacherPermutationDataset(Dataset[Group]):
    """A teacher's groups, drawn anew every epoch.

    ``dataset[index]`` depends on ``(seed, epoch, index)`` alone: not on the order of access, the number of workers
    or an interruption. The epoch lies in shared memory, so that persistent loader workers see it change.

    Args:
        groups: the teacher's verdicts.
        train_group_size: passages drawn for a query; None gives whole groups (evaluation).
        seed: of the drawing.
        sampling: ``uniform`` over the whole permutation, ``top`` (the published code's), ``one_positive``
            (Tevatron's), or ``auto``: one_positive for rows whose verdict is a judgement, else uniform.
        positive_passage_no_shuffle: with ``one_positive``, always the first relevant passage.
        negative_passage_no_shuffle: with ``one_positive``, always the first negatives.

    Raises:
        InputError: if there are no groups.

    Source:
        Sampling over the whole permutation deviates from InstructDistill, whose student never sees the teacher's
        worst passages (it takes the first 8 of 20).
    """

    def __init__(
        self,
        groups: Sequence[Group],
        train_group_size: int | None = 8,
        seed: int = 42,
        sampling: str = "auto",
        positive_passage_no_shuffle: bool = False,
        negative_passage_no_shuffle: bool = False,
    ) -> None:
        if not groups:
            raise InputError("a dataset needs at least one group; got none")
        self.groups = groups
        self.train_group_size = train_group_size
        self.seed = seed
        self.sampling = sampling
        self.positive_no_shuffle = positive_passage_no_shuffle
        self.negative_no_shuffle = negative_passage_no_shuffle
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch that groups are drawn for, counted from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch from now on, in all loader workers too."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Group:
        group = self.groups[index]
        if self.train_group_size is None:
            return group
        return group.select(self._draw(group, index, self.train_group_size))

    def _draw(self, group: Group, index: int, size: int) -> list[int]:
        if self._sampling_of(group) == "one_positive":
            once = random.Random(f"{self.seed} {index}")
            return draw_one_positive(group, size, once, self.epoch, self.positive_no_shuffle, self.negative_no_shuffle)
        if self.sampling == "top":
            return draw_top(group, size)
        return draw_uniform(group, size, random.Random(f"{self.seed} {self.epoch} {index}"))

    def _sampling_of(self, group: Group) -> str:
        if self.sampling != "auto":
            return self.sampling
        return "uniform" if group.judgements is None else "one_positive"
