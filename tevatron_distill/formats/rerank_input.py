"""Tevatron's rerank rows: one (query, passage) a line, with the first stage's score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from tevatron_distill.formats.jsonl import (
    check_distinct,
    id_field,
    number,
    parse_passage,
    read_json_lines,
    text_field,
    write_json_line,
)
from tevatron_distill.formats.reading import ReadOptions, Row, Rows, Tally
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, InputError, Passage


def read_candidates(path: str | Path) -> list[Candidates]:
    """Read ``{"query_id", "query", "docid", "title"?, "text", "score"?}`` rows, grouped by query.

    Returns:
        Queries in the order of their first rows; within a query, passages by falling score (equal scores in the
        order of their rows). Rows without scores keep their order and get the scores 0, -1, -2, ….

    Raises:
        InputError: at a malformed row, an empty query or passage, a docid named twice for a query, a query_id with
            two texts, a score that is not finite, or scores on some rows of a query only; also at an empty file.
    """
    candidates = [entry for _, entry in parse_candidates(read_json_lines(path), ReadOptions(), Tally())]
    if not candidates:
        raise InputError(f"{path}: rerank rows are needed; got an empty file")
    return candidates


def parse_candidates(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Candidates]]:
    """As `read_candidates`, from rows that were read already, each with its place; a query stands at its first row."""
    queries: dict[str, tuple[str, str]] = {}  # query_id: (text, place of the first row)
    passages: dict[str, list[Passage]] = {}
    scores: dict[str, list[float | None]] = {}
    for place, row in tally.count(rows):
        parsed = tally.attempt(place, _parse_row, place, row, queries)
        if parsed is not None:
            query_id, passage, score = parsed
            passages.setdefault(query_id, []).append(passage)
            scores.setdefault(query_id, []).append(score)
    for query_id, list_of_one in passages.items():
        query, place = queries[query_id]
        entry = tally.attempt(place, build_candidates, place, query_id, query, list_of_one, scores[query_id])
        if entry is not None:
            yield place, entry


def parse_adjacent(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Candidates]]:
    """As `parse_candidates`, holding one query at a time: its rows stand together, else it comes up again and again."""
    query_id, begin, queries = "", "", dict[str, tuple[str, str]]()
    passages: list[Passage] = []
    scores: list[float | None] = []
    for place, row in tally.count(rows):
        name, passage, score = _parse_row(place, row, queries)
        if name != query_id and passages:
            yield begin, build_candidates(begin, query_id, queries[query_id][0], passages, scores)
            queries, passages, scores = {name: queries[name]}, [], []
        if not passages:
            query_id, begin = name, place
        passages.append(passage)
        scores.append(score)
    if passages:
        yield begin, build_candidates(begin, query_id, queries[query_id][0], passages, scores)


def _parse_row(place: str, row: Row, queries: dict[str, tuple[str, str]]) -> tuple[str, Passage, float | None]:
    query_id, query = id_field(place, row, "query_id"), text_field(place, row, "query")
    passage = parse_passage(place, row)
    score = None if row.get("score") is None else number(place, row["score"], "score")
    first_query, first_place = queries.setdefault(query_id, (query, place))
    if first_query != query:
        raise InputError(
            f'{place}: query_id "{query_id}" must have one text; got {query[:60]!r} after '
            f"{first_query[:60]!r} at {first_place}"
        )
    return query_id, passage, score


def build_candidates(
    place: str, query_id: str, query: str, passages: list[Passage], scores: list[float | None]
) -> Candidates:
    """One query's list by falling score, or, where no passage has a score, as it stands.

    Raises:
        InputError: if the list is empty, names a docid twice, or only some passages have scores.
    """
    check_distinct(place, passages, query_id)
    known = [score for score in scores if score is not None]
    if known and len(known) < len(scores):
        raise InputError(f'{place}: all rows of query_id "{query_id}" need a score, or none; got {len(known)} of them')
    values = known or [-float(position) for position in range(len(passages))]
    order = from_scores(values)
    return Candidates(
        query_id, query, tuple(passages[position] for position in order), tuple(values[position] for position in order)
    )


def write_candidates_lines(candidates: Iterable[Candidates]) -> list[str]:
    """The rows of these queries, as lines of JSON without newlines.

    Raises:
        InputError: if a score is not finite.
    """
    lines = []
    for entry in candidates:
        for passage, score in zip(entry.passages, entry.scores, strict=True):
            if not math.isfinite(score):
                raise InputError(f'query_id "{entry.query_id}": the score must be a finite number; got {score}')
            row = {
                "query_id": entry.query_id,
                "query": entry.query,
                "docid": passage.docid,
                "title": passage.title,
                "text": passage.text,
                "score": score,
            }
            lines.append(write_json_line(row))
    return lines
