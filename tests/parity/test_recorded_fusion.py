"""Orders that become one, against the program of permutation self-consistency."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from tevatron_distill.permutation import fuse, fused_scores, invert

RECORDED = json.loads((Path(__file__).parent / "recorded" / "orders.json").read_text(encoding="utf-8"))["fusions"]
each_fusion = pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: f"{len(one['orders'])}x{len(one['borda'])}")


def falls(scores, order):
    """Whether scores fall along an order; equal ones may stand either way."""
    return all(scores[first] >= scores[second] - 1e-12 for first, second in pairwise(order))


@each_fusion
def test_bordas_count_gives_its_order(recorded):
    assert falls(fused_scores(recorded["orders"], "borda"), recorded["borda"])


@each_fusion
def test_reciprocal_ranks_give_its_order(recorded):
    """There ranks begin at 0, so that its 60 is our 59."""
    assert falls(fused_scores(recorded["orders"], constant=59), recorded["rrf"])


def disagreements(order, orders):
    """Pairs, summed over the orders, which stand the other way round in them (Kendall's tau distance)."""
    places = invert(tuple(order))
    return sum(
        (places[i] < places[j]) != (other[i] < other[j])
        for other in map(invert, map(tuple, orders))
        for i, j in combinations(range(len(places)), 2)
    )


@pytest.mark.parametrize("recorded", [one for one in RECORDED if "kemeny" in one], ids=lambda one: str(one["kemeny"]))
@pytest.mark.parametrize("method", ["borda", "rrf"])
def test_what_borda_and_reciprocal_ranks_lose_against_the_nearest_order_of_all(recorded, method):
    """Published self-consistency solves a linear program for the order with the fewest disagreements."""
    fewest = disagreements(recorded["kemeny"], recorded["orders"])
    found = disagreements(fuse([tuple(order) for order in recorded["orders"]], method), recorded["orders"])
    assert 0 <= found - fewest <= max(1, fewest / 10)
