"""Distil the ranking of a large language model into a small, fast reranker."""

__version__ = "0.1.0"
