"""First stages: what finds candidates for queries, in a collection, an index or other runs.

A row of `RETRIEVERS` names a module, imported when it is used, with a function
``build(passages, beside, **settings) -> Retriever``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tevatron_distill.schema import InputError, Passage

Reader = Callable[[], Sequence[Passage]]
"""Reads the collection, blank passages left out."""
Found = list[tuple[str, float]]
"""Docids and scores, best first."""


class Retriever(Protocol):
    """What every first stage can do; those that subclass it may leave out all but ``search``."""

    def search(self, queries: Mapping[str, str], depth: int) -> Iterator[tuple[str, Found]]:
        """The best passages of each query.

        Args:
            queries: query_id to text.
            depth: how many passages a query, at most.

        Returns:
            Each query_id once, in the order of ``queries``, with docids and scores, best first; an empty list where
            nothing matches.
        """
        ...

    def texts(self, docids: Collection[str]) -> Mapping[str, Passage]:
        """The passages that the retriever itself holds; none for those that hold docids only."""
        return {}

    def seconds_before(self) -> float | None:
        """Seconds a query that others have spent on what it starts from; None where they are not known."""
        return 0.0

    def queries(self) -> Mapping[str, str]:
        """The queries that it answers where none are given, for rows that say ``has_queries``."""
        return {}


@dataclass(frozen=True, slots=True)
class RetrieverRow:
    """A retriever that is imported when it is used.

    Attributes:
        module: where its ``build`` stands.
        settings: the flags that it takes, by name, as keywords of ``build``.
        has_queries: it knows queries of its own, so that none need be given.
    """

    module: str
    settings: tuple[str, ...]
    has_queries: bool = False

    def build(self, passages: Reader | None, beside: Path, **settings: object) -> Retriever:
        """The retriever, ready to search.

        Args:
            passages: reads the collection; called only if it is needed, and None where none is named.
            beside: the folder of the output, where an index that has no other place is kept.
            settings: values of the flags in ``settings``.

        Raises:
            InputError: if a setting is out of range, a library is missing, or the collection is needed and missing.
        """
        retriever: Retriever = importlib.import_module(self.module).build(passages, beside, **settings)
        return retriever


def needed(passages: Reader | None) -> Reader:
    """The collection, for a retriever that cannot do without it.

    Raises:
        InputError: if none is named.
    """
    if passages is None:
        raise InputError("one of --corpus_path and --corpus_data_name is needed; got neither")
    return passages


RETRIEVERS = {
    "bm25": RetrieverRow("tevatron_distill.retrieval.bm25", ("language", "stemmer", "k1", "b")),
    "lucene": RetrieverRow(
        "tevatron_distill.retrieval.lucene",
        (
            *("language", "k1", "b", "index", "threads", "impact_encoder"),
            *("rm3", "fb_terms", "fb_docs", "original_query_weight"),
        ),
    ),
    "dense": RetrieverRow(
        "tevatron_distill.retrieval.dense",
        (
            *("index", "encoder_name_or_path", "tokenizer_name", "lora_name_or_path", "cache_dir", "trust_remote_code"),
            *("dtype", "attn_implementation", "batch_tokens"),
            *("pooling", "normalize", "query_prefix", "passage_prefix", "query_max_len", "passage_max_len"),
            *("append_eos_token", "faiss_index", "hnsw_m", "hnsw_ef_construction", "hnsw_ef_search"),
            *("ivf_nlist", "ivf_nprobe", "pq_m"),
        ),
    ),
    "hybrid": RetrieverRow("tevatron_distill.retrieval.hybrid", ("run_paths", "rrf_k"), has_queries=True),
}
