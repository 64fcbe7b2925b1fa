"""Tevatron's training rows, where the judgement is the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from tevatron_distill.formats.jsonl import check_distinct, id_field, list_field, parse_passage, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally
from tevatron_distill.schema import Group, InputError, Passage


def parse_row(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"query_id", "query", "positive_passages": […], "negative_passages": […]}``.

    Positives stand first and are the verdict (``num_ranked``), negatives are tied behind them; judgements are 1
    and 0.

    Raises:
        InputError: if the row is malformed, has no positive passage, an empty query or passage, or a docid twice.
    """
    query_id = id_field(place, row, "query_id")
    positives = [parse_passage(place, passage) for passage in list_field(place, row, "positive_passages")]
    if not positives:
        raise InputError(f'{place}: positive_passages of query_id "{query_id}" must not be empty; drop the row')
    negatives: list[Passage] = []
    if row.get("negative_passages") is not None:
        negatives = [parse_passage(place, passage) for passage in list_field(place, row, "negative_passages")]
    return [judged_group(place, query_id, text_field(place, row, "query"), positives, negatives)]


def judged_group(place: str, query_id: str, query: str, positives: list[Passage], negatives: list[Passage]) -> Group:
    """A group whose verdict is a judgement: positives before negatives.

    Raises:
        InputError: if there is no passage, or a docid stands twice.
    """
    passages = (*positives, *negatives)
    check_distinct(place, passages, query_id)
    return Group(
        query_id=query_id,
        query=query,
        passages=passages,
        permutation=tuple(range(len(passages))),
        num_ranked=len(positives),
        judgements=(1.0,) * len(positives) + (0.0,) * len(negatives),
        teacher={"name": "judgements"},
    )
