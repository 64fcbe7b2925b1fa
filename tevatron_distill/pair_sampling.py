"""Which pairs of a group a student that compares is shown in one step."""

from __future__ import annotations

import random

from tevatron_distill.schema import Group

PAIR_SAMPLINGS = ("top_bottom", "all_pair", "uniform", "random")
"""What ``--pair_sampling`` takes (arguments/data.py checks it, dataset.py calls `draw_pairs`)."""


def draw_pairs(
    group: Group, mode: str, num_pos: int, num_neg: int, ratio: float, generator: random.Random
) -> tuple[tuple[int, int], ...]:
    """Ordered pairs of positions; the order within a pair is drawn by chance."""
    raise NotImplementedError
