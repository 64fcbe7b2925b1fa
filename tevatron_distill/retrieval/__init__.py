"""First stages: an index over passages that answers a query with docids and scores."""

from __future__ import annotations

from tevatron_distill.retrieval.bm25 import BM25

RETRIEVERS = {"bm25": BM25}
