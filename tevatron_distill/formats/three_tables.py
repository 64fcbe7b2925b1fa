"""The three-table layout: ids and scores here, queries and documents in tables of their own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from tevatron_distill.formats.annotated import is_missing
from tevatron_distill.formats.collections import is_blank, read_queries
from tevatron_distill.formats.jsonl import check_distinct, id_field, number
from tevatron_distill.formats.reading import ReadOptions, Row, Rows, Tally
from tevatron_distill.formats.texts import find_passages
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, Group, InputError, Passage

ID_KEYS = ("document_ids", "corpus_ids", "corpus_id", "doc_ids", "docids", "passage_ids")
SCORE_KEYS = ("scores", "score")
Entry = tuple[str, str, tuple[str, ...], tuple[float, ...]]  # place, query_id, docids, scores


def ids_key(row: Row) -> str | None:
    """The column of document ids, where the row has one."""
    return next((key for key in ID_KEYS if isinstance(row.get(key), (list, str)) and "query_id" in row), None)


def parse_groups(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Group]]:
    """Groups from ``{"query_id", "document_ids": […], "scores": […]}`` and the tables of texts.

    Lists may also be written out as text. The order is that of the scores; a document without a score, or without
    text, is left out, with a note.

    Raises:
        InputError: if a row is malformed, has another number of scores than of ids, or an id has no text.
    """
    for place, query, entry, passages in _joined(rows, options, tally, scored=True):
        _, query_id, _, scores = entry
        yield (
            place,
            Group(
                query_id=query_id,
                query=query,
                passages=passages,
                permutation=from_scores(scores),
                num_ranked=len(scores),
                scores=scores,
                teacher={"name": "scores of the rows"},
            ),
        )


def parse_candidates(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Candidates]]:
    """The documents of each query in the order of the file; the scores are not used."""
    for place, query, entry, passages in _joined(rows, options, tally, scored=False):
        yield place, Candidates(entry[1], query, passages, tuple(-float(n) for n in range(len(passages))))


def _joined(
    rows: Rows, options: ReadOptions, tally: Tally, *, scored: bool
) -> Iterator[tuple[str, str, Entry, tuple[Passage, ...]]]:
    queries = read_queries(options.queries_path or "", options.query_data_config)
    entries = []
    for place, row in tally.count(rows):
        entry = tally.attempt(place, _parse_row, place, row, scored, tally)
        if entry is not None:
            entries.append(entry)
    wanted = {docid for _, _, docids, _ in entries for docid in docids}
    found = find_passages(options.corpus_path or "", wanted, options.corpus_data_config)
    for entry in entries:
        joined = tally.attempt(entry[0], _join, entry, queries, found, options, tally)
        if joined is not None:
            yield entry[0], *joined


def _parse_row(place: str, row: Row, scored: bool, tally: Tally) -> Entry:
    query_id = id_field(place, row, "query_id")
    key = ids_key(row)
    if key is None:
        raise InputError(f"{place}: a row must hold query_id, document_ids and scores; got keys {', '.join(row)}")
    docids = [id_field(place, {key: docid}, key) for docid in _list(place, row, key)]
    if not scored:
        return place, query_id, tuple(docids), (0.0,) * len(docids)
    score_key = next((key for key in SCORE_KEYS if row.get(key) is not None), None)
    if score_key is None:
        raise InputError(f"{place}: a row must hold scores to be learned from; got keys {', '.join(row)}")
    values = _list(place, row, score_key)
    if len(values) != len(docids):
        raise InputError(f"{place}: {score_key} must hold one number a document ({len(docids)}); got {len(values)}")
    kept = [position for position, value in enumerate(values) if not is_missing(value)]
    for _ in range(len(values) - len(kept)):
        tally.note("passages without a score are left out", place)
    scores = tuple(number(place, values[position], f"{score_key}[{position}]") for position in kept)
    return place, query_id, tuple(docids[position] for position in kept), scores


def _join(
    entry: Entry, queries: dict[str, str], found: dict[str, Passage], options: ReadOptions, tally: Tally
) -> tuple[str, Entry, tuple[Passage, ...]]:
    place, query_id, docids, scores = entry
    if query_id not in queries:
        raise InputError(
            f'{place}: query_id "{query_id}" must stand in {options.queries_path}; it does not; the tables must belong '
            "together"
        )
    unknown = [docid for docid in docids if docid not in found]
    if unknown:
        raise InputError(
            f'{place}: docid "{unknown[0]}" must stand in {options.corpus_path}; it does not; the tables must belong '
            "together"
        )
    kept = [position for position, docid in enumerate(docids) if not is_blank(found[docid])]
    for _ in range(len(docids) - len(kept)):
        tally.note("passages without text are left out", place)
    passages = tuple(found[docids[position]] for position in kept)
    check_distinct(place, passages, query_id)
    fresh = (place, query_id, tuple(p.docid for p in passages), tuple(scores[position] for position in kept))
    return queries[query_id], fresh, passages


def _list(place: str, row: Row, key: str) -> Sequence[object]:
    value = row[key]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:  # what literal_eval raises
            raise InputError(f"{place}: {key} must be a list; got {value[:60]!r}") from error
    if not isinstance(value, list):
        raise InputError(f"{place}: {key} must be a list; got {value!r}")
    return value
