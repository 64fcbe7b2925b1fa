"""Rows that a scoring teacher annotated: passages and scores, as Tevatron's annotate_with_teacher writes them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator

from tevatron_distill.formats.jsonl import Row, check_distinct, id_field, list_field, number, parse_passage, text_field
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, InputError

logger = logging.getLogger(__name__)


def parse_groups(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Group]]:
    """Groups from ``{"query_id", "query", "passages": [{"title"?, "text"}, …], "scores": […]}``, with their places.

    The order is that of the scores. A score that is NaN or null is missing: its passage is left out, and so is a
    query that keeps none; one warning counts both. The first passage is the positive one.

    Raises:
        InputError: if a row is malformed, holds an empty text, or another number of scores than of passages.
    """
    num_passages = num_queries = 0
    for place, row in rows:
        group, num_missing = _parse_group(place, row)
        num_passages += num_missing
        if group is None:
            num_queries += 1
        else:
            yield place, group
    if num_passages:
        logger.warning(
            "%d passages have no score and are left out, and with them %d queries that keep none; annotate them again "
            "to have them",
            num_passages,
            num_queries,
        )


def _parse_group(place: str, row: Row) -> tuple[Group | None, int]:
    query_id, query = id_field(place, row, "query_id"), text_field(place, row, "query")
    passages = [
        parse_passage(place, passage, docid=f"{query_id}-{position}")
        for position, passage in enumerate(list_field(place, row, "passages"))
    ]
    check_distinct(place, passages, query_id)
    values = list_field(place, row, "scores")
    if len(values) != len(passages):
        raise InputError(f"{place}: scores must hold one number a passage ({len(passages)}); got {len(values)}")
    known = [position for position, value in enumerate(values) if not _is_missing(value)]
    num_missing = len(values) - len(known)
    if not known:
        return None, num_missing
    scores = tuple(number(place, values[position], f"scores[{position}]") for position in known)
    group = Group(
        query_id=query_id,
        query=query,
        passages=tuple(passages[position] for position in known),
        permutation=from_scores(scores),
        num_ranked=len(known),
        scores=scores,
        teacher={"name": "annotate_with_teacher"},
    )
    return group, num_missing


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
