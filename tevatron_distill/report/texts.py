"""Texts of queries and passages, from wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tevatron_distill.formats.collections import read_corpus, read_queries
from tevatron_distill.schema import Candidates, Group, Passage, Run


@dataclass
class Texts:
    """What is known of the texts.

    Attributes:
        queries: ``{query_id: text}``.
        passages: ``{(query_id, docid): passage}`` of lists of candidates (a docid may mean another text under each
            query there).
        collection: ``{docid: passage}`` of a collection.
    """

    queries: dict[str, str] = field(default_factory=dict)
    passages: dict[tuple[str, str], Passage] = field(default_factory=dict)
    collection: dict[str, Passage] = field(default_factory=dict)

    def add(self, lists: Iterable[Candidates | Group]) -> None:
        """Take the texts of candidates or groups; what is known already stays."""
        for entry in lists:
            self.queries.setdefault(entry.query_id, entry.query)
            for passage in entry.passages:
                self.passages.setdefault((entry.query_id, passage.docid), passage)

    def passage(self, query_id: str, docid: str) -> Passage | None:
        """A passage, where its text is known."""
        return self.passages.get((query_id, docid)) or self.collection.get(docid)

    def missing(self, runs: Iterable[Run]) -> set[str]:
        """The docids of runs whose texts are not known."""
        return {
            docid
            for run in runs
            for query_id in run
            for docid in run[query_id]
            if self.passage(query_id, docid) is None
        }

    def complete(self, corpus_path: str | None, queries_path: str | None, runs: Sequence[Run]) -> None:
        """Look up what is missing in a collection.

        Raises:
            InputError: if the collection breaks a rule of its format.
        """
        if queries_path is not None:
            self.queries = {**read_queries(queries_path), **self.queries}
        if corpus_path is not None:
            wanted = self.missing(runs)
            self.collection = {p.docid: p for p in read_corpus(corpus_path) if p.docid in wanted}
