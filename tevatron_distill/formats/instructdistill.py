"""InstructDistill's pair of files: rows of retrieved passages, and a list of ``"3 > 1 > 2"`` strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tevatron_distill.formats.jsonl import (
    check_distinct,
    id_field,
    list_field,
    parse_passage,
    read_json,
    text_field,
)
from tevatron_distill.formats.reading import ReadOptions, Row, Rows, Tally
from tevatron_distill.permutation import complete_permutation
from tevatron_distill.schema import Candidates, Group, InputError, Passage, Permutation


def parse_groups(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Group]]:
    """Groups from ``{"query", "positive_passages"?, "retrieved_passages"}`` rows and their permutations.

    The n-th string of the permutation file orders the retrieved passages of the n-th row, 1-based; passages that it
    does not name are tied behind the others. A row without query_id is named by its 1-based number. The positives are
    not used, as the permutation is the verdict.

    Raises:
        InputError: if a row is malformed, a permutation repeats a passage or names one that is not there, or the
            files have different lengths.
    """
    permutation_path = options.permutation_path or ""
    orders = read_permutations(permutation_path)
    for place, row in tally.count(rows):
        count = tally.row_in_file
        if count > len(orders):
            raise InputError(
                f"{permutation_path}: one permutation a row is needed; got {len(orders)}, none for {place}"
            )
        order_place = f"{permutation_path}[{count - 1}]"
        group = tally.attempt(place, _parse_group, place, row, str(tally.num_rows), orders[count - 1], order_place)
        if group is not None:
            yield place, group
    if tally.row_in_file < len(orders):
        raise InputError(
            f"{permutation_path}: one permutation a row is needed; got {len(orders)} for {tally.row_in_file} rows"
        )


def parse_candidates(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The retrieved passages of a row, to be taught; their scores are minus their place."""
    query_id, query, passages = _retrieved(place, row, str(tally.num_rows))
    return [Candidates(query_id, query, passages, tuple(-float(n) for n in range(len(passages))))]


def read_permutations(path: str | Path) -> list[tuple[int, ...]]:
    """The 0-based positions of each ``"3 > 1 > 2"`` string of a JSON list; brackets around numbers are allowed.

    Raises:
        InputError: if the file is no JSON list of such strings.
    """
    strings = read_json(path)
    if not isinstance(strings, list):
        raise InputError(f'{path}: the permutations must be a JSON list of "3 > 1 > 2" strings')
    return [_positions(f"{path}[{count}]", string) for count, string in enumerate(strings)]


def format_permutation(permutation: Sequence[int]) -> str:
    """The string of one order.

    >>> format_permutation((2, 0, 1))
    '3 > 1 > 2'
    """
    return " > ".join(str(position + 1) for position in permutation)


def format_permutations(permutations: Iterable[Permutation]) -> str:
    """The file of these permutations, one string each, in their order."""
    return json.dumps([format_permutation(permutation) for permutation in permutations], indent=0) + "\n"


def _positions(place: str, string: object) -> tuple[int, ...]:
    words = [word.strip(" []") for word in string.split(">")] if isinstance(string, str) else [""]
    if not all(word.isdecimal() for word in words):
        raise InputError(f'{place}: a permutation must be a string such as "3 > 1 > 2"; got {string!r}')
    return tuple(int(word[:9]) - 1 for word in words)  # more digits are out of range anyway


def _retrieved(place: str, row: Row, name: str) -> tuple[str, str, tuple[Passage, ...]]:
    query_id = name if row.get("query_id") is None else id_field(place, row, "query_id")
    passages = tuple(parse_passage(place, passage) for passage in list_field(place, row, "retrieved_passages"))
    check_distinct(place, passages, query_id)
    return query_id, text_field(place, row, "query"), passages


def _parse_group(place: str, row: Row, name: str, positions: tuple[int, ...], order_place: str) -> Group:
    query_id, query, passages = _retrieved(place, row, name)
    if sorted(set(positions)) != sorted(positions) or not all(0 <= p < len(passages) for p in positions):
        raise InputError(
            f"{order_place}: a permutation must name passages of 1..{len(passages)}, each once; "
            f'got "{format_permutation(positions)}" for {place}'
        )
    return Group(
        query_id=query_id,
        query=query,
        passages=passages,
        permutation=complete_permutation(positions, len(passages)),
        num_ranked=len(positions),
        teacher={"name": "instructdistill"},
    )
