"""What a student that was saved, exported or converted is checked on."""

from __future__ import annotations

from tevatron_distill.schema import Candidates, Passage

TOLERANCE = 1e-4
"""The largest difference of scores that exporting may make."""

PASSAGES = (
    "A reranker orders passages by their relevance to a query.",
    "The weather was fine, and the boats had gone out early.",
    "query",
    "What a reranker reads is the query and the passage together, which is slower than comparing vectors. " * 3,
)
SAMPLE = Candidates(
    "sample", "what is a reranker?", tuple(Passage(str(n), text) for n, text in enumerate(PASSAGES)), (0.0,) * 4
)
"""What scores are compared on."""

LONG_PASSAGE = Passage("long", PASSAGES[3] * 12)
"""Fills the longest row of most students."""
