"""Training rows without names: FlagEmbedding's ``pos`` and ``neg``, open-retrievals' ``positive`` and ``negative``."""

from __future__ import annotations

from dataclasses import replace

from tevatron_distill.formats.jsonl import Row, list_field, number, parse_passage, text_field
from tevatron_distill.formats.tevatron import judged_group
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, InputError, Passage


def parse_group(place: str, row: Row, query_id: str) -> Group:
    """A group from ``{"query", "pos": […], "neg": […], "pos_scores"?: […], "neg_scores"?: […]}``.

    A passage is a text or ``{"title"?, "text"}`` and is named by query and place. Where a teacher's scores are
    given, they are the verdict; else the judgements 1 and 0 are.

    Args:
        place: where the row stands, for messages.
        row: the object.
        query_id: name of the query, which the row lacks.

    Raises:
        InputError: if the row is malformed, has no positive, an empty text, or scores that do not fit.
    """
    positive_key, negative_key = ("pos", "neg") if "pos" in row else ("positive", "negative")
    positives = _passages(place, row, positive_key, query_id)
    negatives = _passages(place, row, negative_key, query_id) if row.get(negative_key) is not None else []
    if not positives:
        raise InputError(f"{place}: {positive_key} must not be empty; drop the row")
    group = judged_group(place, query_id, text_field(place, row, "query"), positives, negatives)
    if row.get("pos_scores") is None:
        return group
    scores = _scores(place, row, "pos_scores", positives) + _scores(place, row, "neg_scores", negatives)
    return replace(
        group,
        scores=scores,
        permutation=from_scores(scores),
        num_ranked=len(scores),
        judgements=None,
        teacher={"name": "scores of the rows"},
    )


def _passages(place: str, row: Row, key: str, query_id: str) -> list[Passage]:
    entries = list_field(place, row, key)
    return [
        parse_passage(place, {"text": entry} if isinstance(entry, str) else entry, docid=f"{query_id}-{key}{position}")
        for position, entry in enumerate(entries)
    ]


def _scores(place: str, row: Row, key: str, passages: list[Passage]) -> tuple[float, ...]:
    values = list_field(place, row, key) if passages else []
    if len(values) != len(passages):
        raise InputError(f"{place}: {key} must hold one number a passage ({len(passages)}); got {len(values)}")
    return tuple(number(place, value, f"{key}[{position}]") for position, value in enumerate(values))
