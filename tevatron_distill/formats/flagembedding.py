"""Training rows without names: FlagEmbedding's ``pos`` and ``neg``, open-retrievals' ``positive`` and ``negative``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tevatron_distill.formats.jsonl import id_field, list_field, number, parse_passage, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally
from tevatron_distill.formats.tevatron import judged_group
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, InputError, Passage


def parse_row(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"query", "pos": […], "neg": […], "pos_scores"?: […], "neg_scores"?: […]}``.

    A passage is a text or ``{"title"?, "text"}`` and is named by query and place; a row without query_id is named by
    its number. Where a teacher's scores are given, they are the verdict; else the judgements 1 and 0 are. A text that
    stands twice keeps its first place, with a note: a positive is no negative of the same query.

    Raises:
        InputError: if the row is malformed, has no positive, an empty text, or scores that do not fit.
    """
    query_id = row_name(place, row, tally)
    positives, negatives = texts(place, row, "pos", query_id), texts(place, row, "neg", query_id)
    query = text_field(place, row, "query")
    if not positives:
        raise InputError(f"{place}: pos must not be empty; drop the row")
    scores: tuple[float, ...] | None = None
    if row.get("pos_scores") is not None:
        scores = _scores(place, row, "pos_scores", positives) + _scores(place, row, "neg_scores", negatives)
    group = judged_group(place, query_id, query, positives, negatives)
    if scores is not None:
        group = replace(
            group,
            scores=scores,
            permutation=from_scores(scores),
            num_ranked=len(scores),
            judgements=None,
            teacher={"name": "scores of the rows"},
        )
    return [without_repeats(place, group, tally)]


def parse_open_retrievals(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The groups of ``{"query", "positive": […], "negative": […]}``; the keys may be named by the options.

    One text may stand for a list of one. With ``unfold_each_positive`` each positive makes a group with all
    negatives, named ``<query>-<number>``.

    Raises:
        InputError: if the row is malformed, has no positive, or an empty text.
    """
    query_key, positive_key, negative_key = (
        options.query_key or "query",
        options.positive_key or "positive",
        options.negative_key or "negative",
    )
    query_id, query = row_name(place, row, tally), text_field(place, row, query_key)
    if options.negative_key is not None and negative_key not in row:
        raise InputError(f"{place}: the row has no {negative_key!r}, which --negative_key names; got {', '.join(row)}")
    positives, negatives = texts(place, row, positive_key, query_id), texts(place, row, negative_key, query_id)
    if not positives:
        raise InputError(f"{place}: {positive_key} must not be empty; drop the row")
    group = without_repeats(place, judged_group(place, query_id, query, positives, negatives), tally)
    if not options.unfold_each_positive:
        return [group]
    grades = group.judgements or ()
    others = [position for position, grade in enumerate(grades) if not grade]
    return [
        replace(group.select([position, *others]), query_id=f"{query_id}-{number}")
        for number, position in enumerate((p for p, grade in enumerate(grades) if grade), start=1)
    ]


def row_name(place: str, row: Row, tally: Tally) -> str:
    """The row's query_id, or its number where it has none."""
    return str(tally.num_rows) if row.get("query_id") is None else id_field(place, row, "query_id")


def texts(place: str, row: Row, key: str, query_id: str) -> list[Passage]:
    """The passages under a key, named by query, key and place; a missing or null key holds none."""
    if row.get(key) is None:
        return []
    value = row[key]
    entries = [value] if isinstance(value, (str, dict)) else list_field(place, row, key)
    return [
        parse_passage(place, {"text": entry} if isinstance(entry, str) else entry, docid=f"{query_id}-{key}{position}")
        for position, entry in enumerate(entries)
    ]


def without_repeats(place: str, group: Group, tally: Tally) -> Group:
    """The group with each text once, at its first place; one note for each that is left out."""
    first = {(passage.title, passage.text): position for position, passage in reversed(list(enumerate(group.passages)))}
    kept = sorted(first.values())
    for _ in range(len(group.passages) - len(kept)):
        tally.note("texts that stand twice under a query are left out", place)
    return group if len(kept) == len(group.passages) else group.select(kept)


def _scores(place: str, row: Row, key: str, passages: list[Passage]) -> tuple[float, ...]:
    values = list_field(place, row, key) if passages else []
    if len(values) != len(passages):
        raise InputError(f"{place}: {key} must hold one number a passage ({len(passages)}); got {len(values)}")
    return tuple(number(place, value, f"{key}[{position}]") for position, value in enumerate(values))
