"""Corpora and queries: a BEIR folder, JSON lines of Tevatron or BEIR, TSV, or a dataset's name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from tevatron_distill.formats.jsonl import Row, id_field, read_json_rows, read_lines, text_field
from tevatron_distill.formats.names import Part, find_part, parse_name
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)


def read_corpus(source: str | Path, config: str | None = None, split: str | None = None) -> Iterator[Passage]:
    """Yield the passages of a collection, in its order, blank ones included.

    Args:
        source: a BEIR folder (its ``corpus.jsonl``), ``.jsonl`` with ``docid``, ``_id``, ``document_id``,
            ``passage_id`` or ``pid``, ``title``, ``text``, ``.tsv`` with ``id<tab>text`` or
            ``id<tab>title<tab>text``, a save_to_disk folder, or a name (`tevatron_distill.formats.names`).
        config: config of a dataset; ``corpus`` where it has one.
        split: its split; the only one or ``train`` where it is None.

    Raises:
        InputError: at a malformed row or a docid that stands twice; also if the collection is empty.
    """
    seen: set[str] = set()
    rows, _ = _rows(source, "corpus", ("docid", "title", "text"), config, split)
    for place, row in rows:
        docid = id_field(place, row, _key(row, "docid", "_id", "document_id", "passage_id", "pid"))
        if docid in seen:
            raise InputError(f'{place}: docid "{docid}" must stand once in a collection; it stands above already')
        seen.add(docid)
        title, text = (text_field(place, row, key, blank=True) for key in ("title", "text"))
        yield Passage(docid, text, title)
    if not seen:
        raise InputError(f"{source}: a collection needs passages; got none")


def read_passages(source: str | Path, config: str | None = None, split: str | None = None) -> list[Passage]:
    """The passages of `read_corpus` that have a title or a text; one warning counts the others.

    Raises:
        InputError: as `read_corpus`; also if all passages are blank.
    """
    passages, num_blank = [], 0
    for passage in read_corpus(source, config, split):
        if is_blank(passage):
            num_blank += 1
        else:
            passages.append(passage)
    if not passages:
        raise InputError(f"{source}: a collection needs passages with text; got {num_blank} blank ones")
    if num_blank:
        logger.warning("%s: %d passages have neither title nor text and are left out", source, num_blank)
    return passages


def is_blank(passage: Passage) -> bool:
    """Whether a passage has neither title nor text."""
    return not passage.text.strip() and not passage.title.strip()


def read_queries(source: str | Path, config: str | None = None, split: str | None = None) -> dict[str, str]:
    """The queries of a collection, in its order.

    Args:
        source: a BEIR folder (its ``queries.jsonl``), ``.jsonl`` with ``query_id``, ``_id`` or ``qid``, ``query`` or
            ``text``, ``.tsv`` with ``id<tab>text``, a save_to_disk folder, or a name as of `read_corpus`.
        config: config of a dataset; ``queries`` where it has one.
        split: its split; the only one or ``train`` where it is None. Where queries have no such split (BEIR), the
            queries that the judgements of this split name.

    Raises:
        InputError: at a malformed row, an empty query, or a query_id that stands twice; also if there is no query.
    """
    queries: dict[str, str] = {}
    rows, whole = _rows(source, "queries", ("query_id", "query"), config, split)
    for place, row in rows:
        query_id = id_field(place, row, _key(row, "query_id", "_id", "qid"))
        if query_id in queries:
            raise InputError(f'{place}: query_id "{query_id}" must stand once; it stands above already')
        queries[query_id] = text_field(place, row, _key(row, "query", "text"))
    if whole:
        judged = read_qrels(*parse_name(source, split))
        queries = {query_id: query for query_id, query in queries.items() if query_id in judged}
    if not queries:
        raise InputError(f"{source}: queries are needed; got none")
    return queries


def _rows(
    source: str | Path, role: str, columns: tuple[str, ...], config: str | None, split: str | None
) -> tuple[Iterator[tuple[str, Row]], bool]:
    """The rows of a source, and whether the split that is asked for is none of theirs."""
    path = Path(source)
    part = Part(table=path) if path.is_file() else find_part(source, role, config, split)
    if part.rows is not None:
        return part.rows, part.whole
    table = part.table or path
    is_table = table.name.removesuffix(".gz").endswith((".tsv", ".txt"))
    return (_tsv_rows(table, columns) if is_table else read_json_rows(table)), part.whole


def _tsv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, Row]]:
    for place, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) == len(columns):
            yield place, dict(zip(columns, fields, strict=True))
        elif len(fields) == 2:
            yield place, {columns[0]: fields[0], columns[-1]: fields[1]}
        else:
            raise InputError(
                f"{place}: a line must be {' <tab> '.join(columns)}, a title may be missing; got {len(fields)} columns"
            )


def _key(row: Mapping[str, object], *keys: str) -> str:
    return next((key for key in keys if key in row), keys[0])
