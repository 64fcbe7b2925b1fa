"""Our own file between teacher and student: ``groups.jsonl``, one query with its passages and verdict a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tevatron_distill.formats.jsonl import (
    check_distinct,
    id_field,
    list_field,
    number,
    parse_passage,
    read_json_lines,
    text_field,
    write_json_line,
)
from tevatron_distill.formats.output import write_whole
from tevatron_distill.formats.reading import Row, Tally
from tevatron_distill.permutation import check_permutation
from tevatron_distill.schema import Candidates, Group, InputError

Preferences = tuple[tuple[int, int, float], ...]
T = TypeVar("T", Group, Candidates)


def read_groups(path: str | Path) -> list[Group]:
    """Read ``groups.jsonl``.

    Raises:
        InputError: at a malformed line, a query_id that stands twice, an empty query or passage, a permutation that
            does not name each passage once, or scores, preferences or judgements that do not fit; also at an
            empty file. The message names file and line.
    """
    rows = read_json_lines(path)
    return check_groups(((place, parse_group(place, row)) for place, row in rows), path)


def check_groups(
    groups: Iterable[tuple[str, Group]], path: str | Path | None, tally: Tally | None = None
) -> list[Group]:
    """The groups of a whole file, each with its place, if there are any and no query_id stands twice.

    Raises:
        InputError: if there are none, or a query_id stands twice and the tally does not skip rows.
    """
    return check_names(groups, "groups", path, tally)


def check_names(entries: Iterable[tuple[str, T]], what: str, path: str | Path | None, tally: Tally | None) -> list[T]:
    """As `check_groups`, for whatever has a query_id."""
    tally = tally or Tally()
    places: dict[str, str] = {}
    kept = []
    for place, entry in entries:
        if tally.attempt(place, _check_new, place, entry.query_id, places):
            kept.append(entry)
    if not kept:
        raise InputError(f"{path}: {what} are needed; got {'none that fits' if tally.skipped else 'none'}")
    return kept


def _check_new(place: str, query_id: str, places: dict[str, str]) -> bool:
    if query_id in places:
        raise InputError(f'{place}: query_id "{query_id}" must stand once; it stands at {places[query_id]} already')
    places[query_id] = place
    return True


def parse_group(place: str, row: Row) -> Group:
    """One group from its JSON object.

    Args:
        place: where the object stands, for messages.
        row: keys as in the file; ``num_ranked`` is the whole group where it is missing.

    Raises:
        InputError: as `read_groups`.
    """
    query_id, query = id_field(place, row, "query_id"), text_field(place, row, "query")
    passages = tuple(parse_passage(place, passage) for passage in list_field(place, row, "passages"))
    check_distinct(place, passages, query_id)
    try:
        permutation = check_permutation(list_field(place, row, "permutation"), len(passages))
    except InputError as error:
        if str(error).startswith(place):
            raise
        raise InputError(f'{place}: {error} (query_id "{query_id}"); teach this query again') from error
    teacher = row.get("teacher")
    if teacher is not None and not isinstance(teacher, dict):
        raise InputError(f"{place}: teacher must be an object; got {teacher!r}")
    try:
        write_json_line({"teacher": teacher}).encode()
    except (ValueError, TypeError) as error:  # NaN, half a surrogate pair; in Parquet also a date
        raise InputError(f"{place}: teacher must be what can be written; got {error}") from error
    return Group(
        query_id=query_id,
        query=query,
        passages=passages,
        permutation=permutation,
        num_ranked=_num_ranked(place, row, len(passages)),
        scores=aligned_numbers(place, row, "scores", len(passages)),
        preferences=_preferences(place, row, len(passages)),
        judgements=aligned_numbers(place, row, "judgements", len(passages)),
        teacher=teacher,
        metrics=_metrics(place, row, len(passages)),
        reference=text_field(place, row, "reference") if row.get("reference") is not None else None,
    )


def write_groups(path: str | Path, groups: Iterable[Group], overwrite: bool = False) -> None:
    """Write ``groups.jsonl``, whole or not at all.

    Raises:
        InputError: if the file exists and ``overwrite`` is False.
    """
    write_whole(path, map(group_to_line, groups), overwrite)


def group_to_line(group: Group) -> str:
    """A group as a line of JSON, without the newline; keys without a value are left out."""
    return write_json_line(group_row(group))


def group_row(group: Group) -> Row:
    """A group as the object of its line."""
    row: Row = {
        "query_id": group.query_id,
        "query": group.query,
        "passages": [
            {"docid": passage.docid, "title": passage.title, "text": passage.text} for passage in group.passages
        ],
        "permutation": group.permutation,
        "num_ranked": group.num_ranked,
    }
    for key in ("scores", "preferences", "judgements", "metrics", "reference"):
        value = getattr(group, key)
        if value is not None:
            row[key] = value
    if group.teacher is not None:
        row["teacher"] = dict(group.teacher)
    return row


def aligned_numbers(place: str, row: Row, key: str, num_passages: int) -> tuple[float, ...] | None:
    """The finite numbers under ``key``, one a passage, or None where the key is missing or null.

    Raises:
        InputError: if there are more or fewer, or one is not finite.
    """
    if row.get(key) is None:
        return None
    values = list_field(place, row, key)
    if len(values) != num_passages:
        raise InputError(f"{place}: {key} must hold one number a passage ({num_passages}); got {len(values)}")
    return tuple(number(place, value, f"{key}[{position}]") for position, value in enumerate(values))


def _metrics(place: str, row: Row, num_passages: int) -> dict[str, tuple[float, ...]] | None:
    metrics = row.get("metrics")
    if metrics is None:
        return None
    if not isinstance(metrics, dict):
        raise InputError(f"{place}: metrics must be an object of lists; got {metrics!r}")
    measured = {
        id_field(place, {"metric": name}, "metric"): aligned_numbers(place, metrics, name, num_passages)
        for name in metrics
    }
    return {name: values for name, values in measured.items() if values is not None}


def _num_ranked(place: str, row: Row, num_passages: int) -> int:
    value = row.get("num_ranked", num_passages)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= num_passages:
        raise InputError(f"{place}: num_ranked must be an integer in 0..{num_passages}; got {value!r}")
    return value


def _preferences(place: str, row: Row, num_passages: int) -> Preferences | None:
    if row.get("preferences") is None:
        return None
    seen: set[tuple[int, int]] = set()
    triples = []
    for entry in list_field(place, row, "preferences"):
        i, j, probability = _preference(place, entry, num_passages)
        pair = (min(i, j), max(i, j))
        if pair in seen:
            raise InputError(f"{place}: preferences must name a pair once; got {pair} again")
        seen.add(pair)
        triples.append((i, j, probability))
    return tuple(triples)


def _preference(place: str, entry: object, num_passages: int) -> tuple[int, int, float]:
    if isinstance(entry, dict) and set(entry) == {"i", "j", "p"}:  # as Parquet holds it, whose lists have one type
        entry = [entry["i"], entry["j"], entry["p"]]
    rule = (
        f"a preference must be [i, j, p] with two different positions of 0..{num_passages - 1} and p in 0..1; "
        f"got {json.dumps(entry)}"
    )
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
        raise InputError(f"{place}: {rule}")
    i, j, probability = entry
    positions = range(num_passages)
    if type(i) is not int or type(j) is not int or i not in positions or j not in positions or i == j:
        raise InputError(f"{place}: {rule}")
    if not 0.0 <= number(place, probability, "preference") <= 1.0:
        raise InputError(f"{place}: {rule}")
    return i, j, float(probability)
