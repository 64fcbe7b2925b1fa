"""Which pairs of a group a student that compares is shown in one step."""

from __future__ import annotations

import random
from itertools import combinations

from tevatron_distill.schema import Group

PAIR_SAMPLINGS = ("top_bottom", "all_pair", "uniform", "random", "all")
"""What ``--pair_sampling`` takes (arguments/data.py checks it, dataset.py calls `draw_pairs`)."""


def draw_pairs(
    group: Group, mode: str, num_pos: int, num_neg: int, ratio: float, generator: random.Random
) -> tuple[tuple[int, int], ...]:
    """Ordered pairs of positions; which of the two is shown first is drawn by chance.

    Args:
        group: the passages and the verdict on them. Of passages with the same text only the best-placed takes part.
        mode: with k = min(``num_pos``, ``num_neg``), in the teacher's order: ``top_bottom`` pairs the first k with the
            last k one by one; ``all_pair`` takes k of all pairs by chance; ``uniform`` pairs each
            ``int(1 / ratio)``-th place with the next such place; ``random`` takes as many pairs by chance as ``ratio``
            times the passages, at least one; ``all`` takes every pair.
        num_pos: passages from the top.
        num_neg: passages from the bottom.
        ratio: above 0 up to 1.
        generator: chance.

    Returns:
        Pairs of two different positions; none where fewer than two passages differ.

    Source:
        LLM-Blender (Jiang et al. 2023), sub-sampling of PairRanker; the names mean what they meant there, so that
        ``all_pair`` is not all pairs. Deviations: ``random`` crashes there; k and the stride are kept below the number
        of passages, where they would pair a passage with itself or nothing with nothing.
    """
    order = different_texts(group)
    if len(order) < 2:
        return ()
    last = len(order) - 1
    wanted = min(num_pos, num_neg)
    if mode == "top_bottom":
        wanted = min(wanted, last)
        pairs = list(zip(order[:wanted], order[-wanted:], strict=True))
    elif mode == "uniform":
        stride = min(int(1 / ratio), last)
        pairs = [(order[place], order[place + stride]) for place in range(0, len(order) - stride, stride)]
    elif mode == "random":
        count = max(1, int(len(order) * ratio))
        drawn = [generator.sample(order, 2) for _ in range(count)]
        pairs = [(i, j) for i, j in drawn]
    elif mode in ("all_pair", "all"):
        pairs = list(combinations(order, 2))
        if mode == "all_pair":
            pairs = generator.sample(pairs, min(wanted, len(pairs)))
    else:
        raise ValueError(f"mode must be one of {', '.join(PAIR_SAMPLINGS)}; got {mode!r}")
    return tuple((i, j) if generator.random() < 0.5 else (j, i) for i, j in pairs)


def different_texts(group: Group) -> list[int]:
    """Positions in the teacher's order, each text once."""
    first: dict[tuple[str, str], int] = {}
    for position in group.permutation:
        passage = group.passages[position]
        first.setdefault((passage.title, passage.text), position)
    return list(first.values())
