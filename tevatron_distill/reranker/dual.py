"""Scores of students that encode queries and passages apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tevatron_distill.batching import run_batches, token_budget_batches
from tevatron_distill.layouts import DualLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.reranker.vectors import VectorStore
from tevatron_distill.schema import Candidates, Passage

PAIRS_AT_ONCE = 256


def encode_rows(
    model: Any, layout: DualLayout, batcher: Batcher, rows: Sequence[Row], normalize: bool = True
) -> list[Tensor]:
    """Vectors of the counted tokens of each row, float32 ``[T, D]`` each."""

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[Tensor]:
        vectors = model.encode(inputs["input_ids"], inputs["attention_mask"], normalize)
        return [one[counted].float() for one, counted in zip(vectors, inputs["counted"], strict=True)]

    made: list[Tensor] = [torch.empty(0)] * len(rows)
    for place, vectors in batcher.run(layout, rows, forward):
        made[place] = vectors
    return made


def score_vectors(
    model: Any,
    layout: DualLayout,
    batcher: Batcher,
    candidates: Sequence[Candidates],
    store: VectorStore | None = None,
) -> list[list[float]]:
    """Each distinct query and passage is encoded once, and a passage's vectors live for one batch only.

    Args:
        model: the student's model.
        layout: the student's layout.
        batcher: forms the batches.
        candidates: what is scored.
        store: passages that it has are not encoded at all.

    Returns:
        Scores aligned with each list's passages, higher is better.
    """
    queries = {query: number for number, query in enumerate(dict.fromkeys(one.query for one in candidates))}
    query, query_counted = pad_vectors(
        encode_rows(model, layout, batcher, [layout.encode_query(text) for text in queries])
    )
    query_of = [queries[one.query] for one in candidates]
    wanted: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for number, one in enumerate(candidates):
        for place, passage in enumerate(one.passages):
            wanted.setdefault((passage.title, passage.text), []).append((number, place))
    passages = [Passage("", text, title) for title, text in wanted]
    places = list(wanted.values())

    def meet(vectors: Tensor, counted: Tensor, batch: list[int]) -> list[list[float]]:
        """Scores of a batch of passages with the queries that want them."""
        pairs = [(line, query_of[number]) for line, row in enumerate(batch) for number, _ in places[row]]
        found: list[list[float]] = [[] for _ in batch]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            lines, owners = torch.tensor(part, device=batcher.device).T
            values = layout.row_scores(query[owners], query_counted[owners], vectors[lines], counted[lines])
            for (line, _), value in zip(part, values.tolist(), strict=True):
                found[line].append(value)
        return found

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[list[float]]:
        return meet(model.encode(inputs["input_ids"], inputs["attention_mask"]), inputs["counted"], batch)

    def forward_stored(vectors: list[Tensor], batch: list[int]) -> list[list[float]]:
        return meet(*pad_vectors([vectors[row].to(batcher.device) for row in batch]), batch)

    def results() -> Iterator[tuple[int, list[float]]]:
        if store is None:
            yield from batcher.run(layout, [layout.encode_passage(passage) for passage in passages], forward)
            return
        vectors = stored_vectors(model, layout, batcher, passages, store)
        batches = token_budget_batches([len(one) for one in vectors], batcher.max_batch_tokens)
        for batch, values in run_batches(lambda batch: forward_stored(vectors, batch), batches):
            yield from zip(batch, values, strict=True)

    scores = [[0.0] * len(one.passages) for one in candidates]
    for row, values in results():
        for (number, place), value in zip(places[row], values, strict=True):
            scores[number][place] = value
    return scores


def stored_vectors(
    model: Any, layout: DualLayout, batcher: Batcher, passages: Sequence[Passage], store: VectorStore
) -> list[Tensor]:
    """Vectors of passages, float16 ``[T, D]`` each, on the CPU; those that the store lacks are made anew."""
    found = [store.get(passage) for passage in passages]
    missing = [passage for passage, vectors in zip(passages, found, strict=True) if vectors is None]
    made = iter(encode_rows(model, layout, batcher, [layout.encode_passage(passage) for passage in missing]))
    return [next(made).half().cpu() if vectors is None else vectors for vectors in found]


def pad_vectors(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token vectors ``[T, D]`` of several texts as one ``[R, T, D]`` and a bool mask ``[R, T]`` of the real ones."""
    padded = torch.nn.utils.rnn.pad_sequence(list(vectors), batch_first=True)
    sizes = torch.tensor([len(one) for one in vectors], device=padded.device)
    return padded, torch.arange(padded.shape[1], device=padded.device) < sizes[:, None]
