"""Scores of students that encode queries and passages apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass
class Meetings:
    """Which queries meet which passages: each distinct text once, however many lists have it.

    Args:
        layout: joins vectors to scores.
        device: where vectors are.
        candidates: the lists.

    Attributes:
        queries: the distinct queries.
        passages: the distinct passages.
        places: for each of them (list, place in it), once for each list that has it.
    """

    layout: DualLayout
    device: torch.device
    candidates: Sequence[Candidates]

    def __post_init__(self) -> None:
        self.queries = list(dict.fromkeys(one.query for one in self.candidates))
        number_of = {query: number for number, query in enumerate(self.queries)}
        self.query_of = [number_of[one.query] for one in self.candidates]
        wanted: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for number, one in enumerate(self.candidates):
            for place, passage in enumerate(one.passages):
                wanted.setdefault((passage.title, passage.text), []).append((number, place))
        self.passages = [Passage("", text, title) for title, text in wanted]
        self.places = list(wanted.values())

    def scores(
        self, queries: tuple[Tensor, Tensor], vectors: Tensor, counted: Tensor, batch: list[int]
    ) -> list[list[float]]:
        """Scores of a batch of passages with the lists that want them, aligned with ``places``.

        Args:
            queries: vectors of all queries ``[Q, Tq, D]`` and a bool mask of those that count.
            vectors: those of the passages, ``[R, Tp, D]``.
            counted: bool ``[R, Tp]``.
            batch: which passages they are.
        """
        query, query_counted = queries
        pairs = [(line, self.query_of[number]) for line, row in enumerate(batch) for number, _ in self.places[row]]
        found: list[list[float]] = [[] for _ in batch]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            lines, owners = torch.tensor(part, device=self.device).T
            values = self.layout.row_scores(query[owners], query_counted[owners], vectors[lines], counted[lines])
            for (line, _), value in zip(part, values.tolist(), strict=True):
                found[line].append(value)
        return found


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
    meetings = Meetings(layout, batcher.device, candidates)
    queries = pad_vectors(encode_rows(model, layout, batcher, [layout.encode_query(text) for text in meetings.queries]))

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[list[float]]:
        vectors = model.encode(inputs["input_ids"], inputs["attention_mask"])
        return meetings.scores(queries, vectors, inputs["counted"], batch)

    if store is None:
        results = batcher.run(layout, [layout.encode_passage(passage) for passage in meetings.passages], forward)
    else:
        stored = stored_vectors(model, layout, batcher, meetings.passages, store)
        results = score_stored(meetings, queries, stored, batcher)
    scores = [[0.0] * len(one.passages) for one in candidates]
    for row, values in results:
        for (number, place), value in zip(meetings.places[row], values, strict=True):
            scores[number][place] = value
    return scores


def score_stored(
    meetings: Meetings, queries: tuple[Tensor, Tensor], stored: Sequence[Tensor], batcher: Batcher
) -> Iterator[tuple[int, list[float]]]:
    """The number of each passage and its scores, from vectors that lie on the CPU."""

    def run(batch: list[int]) -> list[list[float]]:
        vectors, counted = pad_vectors([stored[row].to(batcher.device) for row in batch])
        return meetings.scores(queries, vectors, counted, batch)

    lengths = [len(one) for one in stored]
    batches = token_budget_batches(lengths, batcher.batch_tokens)
    for batch, values in run_batches(run, batches, lengths, batcher.budget):
        yield from zip(batch, values, strict=True)


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
