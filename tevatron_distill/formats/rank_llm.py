"""RankLLM's lists: retrieval results ``{query, hits: […]}`` and requests ``{query: {text, qid}, candidates: […]}``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tevatron_distill.formats.flagembedding import row_name
from tevatron_distill.formats.jsonl import id_field, list_field, number, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally
from tevatron_distill.formats.rerank_input import build_candidates
from tevatron_distill.schema import Candidates, InputError, Passage

TEXT_KEYS = ("text", "segment", "contents", "content", "body", "passage")
"""Where a request's document holds its text; the first key that it has counts."""


def parse_hits(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The candidates of ``{"query", "hits": [{"content", "docid", "qid", "rank", "score"}, …]}``.

    The query is named by the ``qid`` of its hits, as a string. Passages by falling score, equal scores in the order
    of the file.

    Raises:
        InputError: if the row is malformed, has no hits or hits of several qids, a text is empty, or a docid stands
            twice.
    """
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
    return [build_candidates(place, next(iter(names)), query, passages, scores)]


def parse_request(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The candidates of a request, or of a result (whose ``invocations_history`` is passed over).

    ``doc`` is an object with its text under one of `TEXT_KEYS` and perhaps a title, or the text itself; the query may
    be its text alone and is then named by its row's number. Passages by falling score; where a score is missing, the
    order of the file is the ranking, with a note.

    Raises:
        InputError: if the row is malformed, has no candidates, a text is empty, or a docid stands twice.
    """
    query_id, query = _query(place, row, tally)
    passages: list[Passage] = []
    scores: list[float | None] = []
    for position, candidate in enumerate(list_field(place, row, "candidates")):
        if isinstance(candidate, str):
            candidate = {"docid": f"{query_id}-{position}", "doc": candidate}
        if not isinstance(candidate, dict):
            raise InputError(f"{place}: a candidate must be an object with docid, score and doc; got {candidate!r}")
        passages.append(_passage(place, candidate))
        score = candidate.get("score")
        missing = score is None or (isinstance(score, float) and math.isnan(score))
        scores.append(None if missing else number(place, score, "score"))
    if None in scores and scores.count(None) < len(scores):
        tally.note("lists that lack some scores keep the order of the file", place)
        scores = [None] * len(scores)
    return [build_candidates(place, query_id, query, passages, scores)]


def _query(place: str, row: Row, tally: Tally) -> tuple[str, str]:
    query = row.get("query")
    if isinstance(query, dict):
        name = str(tally.num_rows) if query.get("qid") is None else id_field(place, query, "qid")
        return name, text_field(place, query, "text")
    return row_name(place, row, tally), text_field(place, row, "query")


def _passage(place: str, candidate: Mapping[str, object]) -> Passage:
    docid = id_field(place, candidate, "docid")
    doc = candidate.get("doc")
    if isinstance(doc, str):
        doc = {"text": doc}
    if not isinstance(doc, dict):
        raise InputError(f'{place}: doc of "{docid}" must be an object with a text; got {doc!r}')
    key = next((key for key in TEXT_KEYS if doc.get(key) is not None), None)
    if key is None:
        raise InputError(
            f'{place}: doc of "{docid}" must hold a text under {", ".join(TEXT_KEYS)}; got {", ".join(doc)}'
        )
    title = text_field(place, doc, "title", blank=True)
    return Passage(docid, text_field(place, doc, key, blank=bool(title.strip())), title)
