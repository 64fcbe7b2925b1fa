"""Exact search: all vectors of a collection, chunk by chunk, and the best of each query so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tevatron_distill.retrieval.vectors import Vectors

CHUNK = 8192
"""Passages whose scores are in memory together."""

SPARE = 16
"""Places found beyond the depth, so that rounding of the scores by which they are found moves nothing out of it."""

NO_KEY = torch.iinfo(torch.int64).min
POSITIONS = 0xFFFFFFFF

Positions = npt.NDArray[np.int64]


@torch.inference_mode()
def nearest(vectors: Vectors, queries: npt.NDArray[np.float32], count: int, device: str = "cpu") -> Positions:
    """The passages with the highest inner products.

    Memory does not grow with the collection: ``CHUNK`` vectors are read at a time, and of their scores only those
    that are among a query's best so far are kept.

    Args:
        vectors: of passages, float16 ``[N, D]``, perhaps a memory map.
        queries: float32 ``[Q, D]``.
        count: how many passages a query.
        device: where products are made.

    Returns:
        Positions ``[Q, min(count, N)]``, best first; equal scores in the order of the collection.
    """
    count = min(count, len(vectors))
    wanted = torch.from_numpy(queries).to(device)
    best = torch.full((len(queries), count), NO_KEY, dtype=torch.int64, device=device)
    for start in range(0, len(vectors), CHUNK):
        chunk = torch.from_numpy(np.array(vectors[start : start + CHUNK])).to(device).float()
        best = _merge(best, wanted @ chunk.T, start)
    return (POSITIONS - (best & POSITIONS)).cpu().numpy()


def _merge(best: Tensor, scores: Tensor, start: int) -> Tensor:
    """The highest keys of those so far and of a chunk's scores ``[Q, C]``."""
    hits = scores >= _scores(best[:, -1:])
    counts = hits.sum(dim=1)
    rows, columns = hits.nonzero(as_tuple=True)
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(dim=0) - counts)[rows]
    table = best.new_full((len(best), int(counts.max())), NO_KEY)
    table[rows, places] = _keys(scores[rows, columns], columns + start)
    return torch.cat([best, table], dim=1).topk(best.shape[1], dim=1).values


def _keys(scores: Tensor, positions: Tensor) -> Tensor:
    """Whole numbers that stand in the order of the scores, and of equal ones the first position highest."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: no negative zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # of negative numbers, the larger have the smaller bits
    return (ordered.long() << 32) | (POSITIONS - positions)


def _scores(keys: Tensor) -> Tensor:
    """The scores of keys; below all others where there is none yet."""
    ordered = (keys >> 32).int()
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return torch.where(keys == NO_KEY, -torch.inf, scores)


def scored(
    vectors: Vectors, query: npt.NDArray[np.float32], positions: npt.NDArray[Any], depth: int
) -> list[tuple[int, float]]:
    """The best of some passages, by scores that depend on nothing but the two vectors.

    A matrix product rounds by its shape and by the machine. Here products are added in double precision and rounded
    once, so that equal passages have equal scores and stand in the order of the collection.

    Args:
        vectors: of passages, float16 ``[N, D]``.
        query: float32 ``[D]``.
        positions: of passages; those below 0 are none.
        depth: how many are wanted.

    Returns:
        Position and score (of single precision), best first.
    """
    found = np.sort(positions[positions >= 0])  # sorted: the memory map is read from front to back
    products = vectors[found].astype(np.float64) * query.astype(np.float64)
    scores = products.sum(axis=1).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[:depth]
    return [(int(found[place]), float(scores[place])) for place in order]
