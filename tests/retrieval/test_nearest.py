"""Exact search: the best inner products, equal ones in the order of the collection, in little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tevatron_distill.retrieval import nearest as module
from tevatron_distill.retrieval.nearest import nearest, scored

# Whole numbers are exact in float16, and make many ties
NUMBERS = st.integers(-3, 3)
VECTORS = st.tuples(st.integers(1, 40), st.integers(1, 4)).flatmap(
    lambda shape: arrays.arrays(np.float16, shape, elements=NUMBERS)
)


def by_hand(vectors, query, count):
    products = vectors.astype(np.float64) @ query.astype(np.float64)
    order = sorted(range(len(vectors)), key=lambda position: (-products[position], position))[:count]
    return [(position, products[position]) for position in order]


@given(VECTORS, st.data())
def test_the_best_are_found_in_order_whatever_the_chunks(vectors, data):
    dimension = vectors.shape[1]
    queries = data.draw(arrays.arrays(np.float32, (data.draw(st.integers(1, 4)), dimension), elements=NUMBERS))
    count = data.draw(st.integers(1, 50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", data.draw(st.integers(1, 50)))
        found = nearest(vectors, queries, count)
    assert found.shape == (len(queries), min(count, len(vectors)))
    for query, positions in zip(queries, found, strict=True):
        assert positions.tolist() == [position for position, _ in by_hand(vectors, query, count)]


@given(VECTORS, st.integers(1, 50), st.randoms())
def test_some_passages_are_scored_and_ordered_and_those_below_0_are_none(vectors, depth, random):
    query = vectors[0].astype(np.float32)
    positions = list(range(len(vectors)))
    random.shuffle(positions)
    found = scored(vectors, query, np.array([-1, *positions, -1]), depth)
    assert found == by_hand(vectors, query, depth)


def test_equal_passages_have_equal_scores_wherever_they_stand():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((999, 48)).astype(np.float16)
    twins = [3, 500, 997, 998]
    vectors[twins] = vectors[3]
    query = vectors[3].astype(np.float32)
    found = scored(vectors, query, nearest(vectors, query[None], 20)[0], 4)
    assert [position for position, _ in found] == twins
    assert len({score for _, score in found}) == 1


def test_no_more_than_a_chunk_is_read_at_once(monkeypatch):
    read = []

    class Watched:
        def __len__(self):
            return 1000

        def __getitem__(self, part):
            read.append(part.stop - part.start)
            return np.ones((min(part.stop, 1000) - part.start, 4), dtype=np.float16)

    monkeypatch.setattr(module, "CHUNK", 64)
    assert nearest(Watched(), np.ones((2, 4), dtype=np.float32), 3).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert set(read) == {64}
