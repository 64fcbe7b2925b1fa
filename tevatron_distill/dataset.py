"""Which passages of a group the student sees: a pure function of (seed, epoch, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import torch
from torch.utils.data import Dataset, Sampler

from tevatron_distill.pair_sampling import draw_pairs
from tevatron_distill.schema import Filler, Group, InputError

ENDS = ("top_bottom", "top_random", "random_bottom", "stride")
GROUP_SAMPLINGS = ("auto", "uniform", "top", "one_positive", *ENDS)

FILLER = -1
"""The index of a group that counts for nothing, see :class:`EvenSampler`."""


def draw_uniform(group: Group, size: int, generator: random.Random) -> list[int]:
    """``size`` positions drawn over the whole permutation, in first-stage order."""
    count = len(group.passages)
    return sorted(generator.sample(range(count), min(size, count)))


def draw_top(group: Group, size: int) -> list[int]:
    """The teacher's first ``size`` passages, in first-stage order (InstructDistill's rule)."""
    return sorted(group.permutation[:size])


def draw_ends(
    group: Group, sampling: str, num_pos: int, num_neg: int, ratio: float, generator: random.Random
) -> list[int]:
    """Passages by their place in the permutation, in first-stage order.

    Args:
        group: the teacher's verdict.
        sampling: ``top_bottom`` the best ``num_pos`` and the worst ``num_neg``; ``top_random`` the best and
            ``num_neg`` of the others by chance; ``random_bottom`` the worst and ``num_pos`` of the others by chance;
            ``stride`` every ``int(1 / ratio)``-th place.
        num_pos: passages from the top, or in place of them.
        num_neg: passages from the bottom, or in place of them.
        ratio: share of the passages that ``stride`` keeps, above 0 up to 1.
        generator: chance.

    Source:
        LLM-Blender (Jiang et al. 2023), sub-sampling of SummaReranker and SimCLS, where ``stride`` is called uniform.
    """
    order = group.permutation
    if sampling == "stride":
        return sorted(order[:: int(1 / ratio)])
    num_pos, num_neg = min(num_pos, len(order)), min(num_neg, len(order))
    if sampling == "random_bottom":
        end = list(order[len(order) - num_neg :])
        wanted = num_pos
    else:
        end = list(order[:num_pos])
        wanted = num_neg
    rest = [position for position in order if position not in end]
    wanted = min(wanted, len(rest))
    others = rest[len(rest) - wanted :] if sampling == "top_bottom" else generator.sample(rest, wanted)
    return sorted(end + others)


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
    or an interruption. The epoch lies in shared memory, so that persistent loader workers see it change. At the index
    ``FILLER`` is a group that counts for nothing.

    Args:
        groups: the teacher's verdicts.
        train_group_size: passages drawn for a query; None gives whole groups (evaluation).
        seed: of the drawing.
        sampling: ``uniform`` over the whole permutation, ``top`` (the published code's), ``one_positive``
            (Tevatron's), ``auto``: one_positive for rows whose verdict is a judgement, else uniform; or one of those
            of :func:`draw_ends`, for which ``num_pos``, ``num_neg`` and ``sub_sampling_ratio`` say how many.
        positive_passage_no_shuffle: with ``one_positive``, always the first relevant passage.
        negative_passage_no_shuffle: with ``one_positive``, always the first negatives.
        num_pos: passages (or pairs) from the top.
        num_neg: passages (or pairs) from the bottom.
        sub_sampling_ratio: share that ``stride`` keeps.
        min_group_size: each draw has a random size from this to ``train_group_size`` (variable windows); None for
            ``train_group_size`` always. For ``uniform`` and ``top``.
        shuffle_passages: the passages drawn stand in random order, not in the first stage's.
        pair_sampling: which pairs a student that compares is shown, see :func:`draw_pairs`; None for all.

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
        *,
        num_pos: int = 1,
        num_neg: int = 1,
        sub_sampling_ratio: float = 0.4,
        min_group_size: int | None = None,
        shuffle_passages: bool = False,
        pair_sampling: str | None = None,
    ) -> None:
        if not groups:
            raise InputError("a dataset needs at least one group; got none")
        self.groups = groups
        self.train_group_size = train_group_size
        self.seed = seed
        self.sampling = sampling
        self.positive_no_shuffle = positive_passage_no_shuffle
        self.negative_no_shuffle = negative_passage_no_shuffle
        self.num_pos = num_pos
        self.num_neg = num_neg
        self.sub_sampling_ratio = sub_sampling_ratio
        self.min_group_size = min_group_size
        self.shuffle_passages = shuffle_passages
        self.pair_sampling = pair_sampling
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
        if index == FILLER:
            first = self.groups[0].select([0])
            return Filler(**{field.name: getattr(first, field.name) for field in fields(first)})
        group = self.groups[index]
        if self.train_group_size is None:
            return group
        chance = random.Random(f"{self.seed} {self.epoch} {index}")
        positions = self._draw(group, index, self.train_group_size, chance)
        if self.shuffle_passages:
            chance.shuffle(positions)
        drawn = group.select(positions)
        if self.pair_sampling is None:
            return drawn
        pairs = draw_pairs(drawn, self.pair_sampling, self.num_pos, self.num_neg, self.sub_sampling_ratio, chance)
        return replace(drawn, pairs=pairs)

    def _draw(self, group: Group, index: int, size: int, chance: random.Random) -> list[int]:
        sampling = self._sampling_of(group)
        if sampling == "one_positive":
            once = random.Random(f"{self.seed} {index}")
            return draw_one_positive(group, size, once, self.epoch, self.positive_no_shuffle, self.negative_no_shuffle)
        if sampling in ENDS:
            return draw_ends(group, sampling, self.num_pos, self.num_neg, self.sub_sampling_ratio, chance)
        if self.min_group_size is not None:
            size = chance.randint(self.min_group_size, size)
        return draw_top(group, size) if sampling == "top" else draw_uniform(group, size, chance)

    def _sampling_of(self, group: Group) -> str:
        if self.sampling != "auto":
            return self.sampling
        return "uniform" if group.judgements is None else "one_positive"


class EvenSampler(Sampler[int]):
    """Another sampler's order, with fillers at its end, so that every process has as many full batches.

    accelerate repeats the epoch's first indices there, so that its last update counts some queries twice.

    Args:
        sampler: gives the order; its ``set_epoch`` is passed on where it has one.
        multiple: the number of indices is rounded up to a multiple of it.
    """

    def __init__(self, sampler: Sampler[int], multiple: int) -> None:
        self.sampler = sampler
        self.multiple = multiple

    def __iter__(self) -> Iterator[int]:
        count = 0
        for index in self.sampler:
            count += 1
            yield index
        yield from [FILLER] * (-count % self.multiple)

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count + -count % self.multiple

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        tell = getattr(self.sampler, "set_epoch", None)
        if tell is not None:
            tell(epoch)
