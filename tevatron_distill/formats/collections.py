"""Corpora and queries: a BEIR folder, JSON lines of Tevatron or BEIR, TSV, or a dataset's name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from tevatron_distill.formats.hub import is_saved_dataset, read_dataset, read_saved_dataset
from tevatron_distill.formats.jsonl import Row, id_field, read_json_rows, read_lines, text_field
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)


def read_corpus(source: str | Path, config: str | None = None, split: str = "train") -> Iterator[Passage]:
    """Yield the passages of a collection, in its order, blank ones included.

    Args:
        source: a BEIR folder (its ``corpus.jsonl``), ``.jsonl`` with ``docid``, ``_id``, ``document_id``,
            ``passage_id`` or ``pid``, ``title``, ``text``, ``.tsv`` with ``id<tab>text`` or
            ``id<tab>title<tab>text``, a save_to_disk folder, or a dataset's name.
        config: config of a dataset that is loaded by name.
        split: its split.

    Raises:
        InputError: at a malformed row or a docid that stands twice; also if the collection is empty.
    """
    seen: set[str] = set()
    for place, row in _rows(source, "corpus.jsonl", ("docid", "title", "text"), config, split):
        docid = id_field(place, row, _key(row, "docid", "_id", "document_id", "passage_id", "pid"))
        if docid in seen:
            raise InputError(f'{place}: docid "{docid}" must stand once in a collection; it stands above already')
        seen.add(docid)
        title, text = (text_field(place, row, key, blank=True) for key in ("title", "text"))
        yield Passage(docid, text, title)
    if not seen:
        raise InputError(f"{source}: a collection needs passages; got none")


def read_passages(source: str | Path, config: str | None = None, split: str = "train") -> list[Passage]:
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
            ``text``, ``.tsv`` with ``id<tab>text``, a save_to_disk folder, or a dataset's name.
        config: config of a dataset that is loaded by name.
        split: its split (``train`` where it is None); of a BEIR folder, only the queries that
            ``qrels/<split>.tsv`` judges (all where it is None).

    Raises:
        InputError: at a malformed row, an empty query, or a query_id that stands twice; also if there is no query.
    """
    queries: dict[str, str] = {}
    for place, row in _rows(source, "queries.jsonl", ("query_id", "query"), config, split or "train"):
        query_id = id_field(place, row, _key(row, "query_id", "_id", "qid"))
        if query_id in queries:
            raise InputError(f'{place}: query_id "{query_id}" must stand once; it stands above already')
        queries[query_id] = text_field(place, row, _key(row, "query", "text"))
    judgements = Path(source) / "qrels" / f"{split}.tsv"
    if split is not None and (Path(source) / "queries.jsonl").is_file():
        if not judgements.is_file():
            raise InputError(f"{judgements}: the split {split!r} of a BEIR folder is named by this file; it is missing")
        judged = read_qrels(judgements)
        queries = {query_id: query for query_id, query in queries.items() if query_id in judged}
    if not queries:
        raise InputError(f"{source}: queries are needed; got none")
    return queries


def _rows(
    source: str | Path, member: str, columns: tuple[str, ...], config: str | None, split: str
) -> Iterator[tuple[str, Row]]:
    path = Path(source)
    if path.is_dir() and is_saved_dataset(path):
        return read_saved_dataset(path, split)
    if path.is_dir() and (path / member).is_file():
        return read_json_rows(path / member)
    if path.is_file():
        return _tsv_rows(path, columns) if path.suffix in (".tsv", ".txt") else read_json_rows(path)
    if path.is_dir():
        raise InputError(f"{path}: a BEIR folder must hold {member}; it does not")
    if path.suffix in (".jsonl", ".json", ".tsv", ".txt"):
        raise InputError(f"{path}: no such file")
    return read_dataset(str(source), config, split)


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
