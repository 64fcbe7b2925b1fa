"""RankLLM's retrieval results: ``{query, hits: [{content, docid, qid, rank, score}, …]}``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tevatron_distill.formats.jsonl import Row, id_field, list_field, number, text_field
from tevatron_distill.formats.rerank_input import build_candidates
from tevatron_distill.schema import Candidates, InputError, Passage


def parse_hits(rows: Iterable[tuple[str, Row]], path: str | Path | None) -> list[Candidates]:
    """Candidates from rows with their hits, each row with its place.

    Returns:
        Queries in the file's order; a query is named by the ``qid`` of its hits, as a string. Passages by falling
        score, equal scores in the order of the file.

    Raises:
        InputError: if a row is malformed, a query has no hits or hits of several qids, a text is empty, a docid
            stands twice for a query, or a query stands twice.
    """
    queries: dict[str, Candidates] = {}
    for place, row in rows:
        candidates = _parse_row(place, row)
        if candidates.query_id in queries:
            raise InputError(f'{place}: query_id "{candidates.query_id}" must stand once; it stands above already')
        queries[candidates.query_id] = candidates
    if not queries:
        raise InputError(f"{path}: queries with hits are needed; got an empty file")
    return list(queries.values())


def _parse_row(place: str, row: Row) -> Candidates:
    query = text_field(place, row, "query")
    passages: list[Passage] = []
    scores: list[float | None] = []
    names: dict[str, None] = {}
    for hit in list_field(place, row, "hits"):
        if not isinstance(hit, dict):
            raise InputError(f"{place}: a hit must be an object with content, docid and qid; got {hit!r}")
        names[id_field(place, hit, "qid")] = None
        title = text_field(place, hit, "title", blank=True)
        passages.append(Passage(id_field(place, hit, "docid"), text_field(place, hit, "content"), title))
        scores.append(None if hit.get("score") is None else number(place, hit["score"], "score"))
    if not names:
        raise InputError(f"{place}: a query needs candidates; {query[:60]!r} has no hits; drop the query")
    if len(names) > 1:
        raise InputError(f"{place}: the hits of a query must have one qid; got {', '.join(names)}")
    return build_candidates(place, next(iter(names)), query, passages, scores)
