"""Rows that a scoring teacher annotated: passages and scores, as Tevatron's annotate_with_teacher writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tevatron_distill.formats.jsonl import check_distinct, id_field, list_field, number, parse_passage, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, InputError


def parse_row(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"query_id", "query", "passages": [{"title"?, "text"}, …], "scores": […]}``.

    The order is that of the scores. A score that is NaN or null is missing: its passage is left out, and so is a
    query that keeps none; both are counted. The first passage is the positive one.

    Raises:
        InputError: if a row is malformed, holds an empty text, or another number of scores than of passages.
    """
    query_id, query = id_field(place, row, "query_id"), text_field(place, row, "query")
    passages = [
        parse_passage(place, passage, docid=f"{query_id}-{position}")
        for position, passage in enumerate(list_field(place, row, "passages"))
    ]
    check_distinct(place, passages, query_id)
    values = list_field(place, row, "scores")
    if len(values) != len(passages):
        raise InputError(f"{place}: scores must hold one number a passage ({len(passages)}); got {len(values)}")
    known = [position for position, value in enumerate(values) if not is_missing(value)]
    for _ in range(len(values) - len(known)):
        tally.note("passages without a score are left out", place)
    if not known:
        tally.note("queries that keep no passage are left out", place)
        return []
    scores = tuple(number(place, values[position], f"scores[{position}]") for position in known)
    return [
        Group(
            query_id=query_id,
            query=query,
            passages=tuple(passages[position] for position in known),
            permutation=from_scores(scores),
            num_ranked=len(known),
            scores=scores,
            teacher={"name": "annotate_with_teacher"},
        )
    ]


def is_missing(value: object) -> bool:
    """Whether a score is null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
