"""Collections by their ids in ir_datasets: ``irds:msmarco-passage/trec-dl-2019/judged``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tevatron_distill.extras import load_package
from tevatron_distill.formats.reading import Row
from tevatron_distill.schema import InputError

PREFIX = "irds:"
TEXTS = ("text", "body", "abstract", "contents")


def read_irds(source: str, role: str) -> Iterator[tuple[str, Row]]:
    """Yield ``("irds:id corpus[n]", row)`` with the keys of BEIR's rows.

    Args:
        source: the id behind `PREFIX`.
        role: ``corpus``, ``queries`` or ``qrels``.

    Raises:
        InputError: if ir_datasets is missing, does not know the id, has no such part of it, or cannot get it.
    """
    library = load_package("ir_datasets", source)
    try:
        dataset = library.load(source.removeprefix(PREFIX))
    except KeyError as error:
        raise InputError(
            f"{source}: ir_datasets knows no dataset of this id; its ids stand on https://ir-datasets.com"
        ) from error
    has, rows, parse = _part(dataset, role)
    if not has():
        raise InputError(f"{source}: this dataset has no {role}; name another one for them")
    try:
        for number, one in enumerate(rows()):
            yield f"{source} {role}[{number}]", parse(one)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise InputError(
            f"{source}: its {role} could not be had ({type(error).__name__}: {error}); where there is no network, let "
            "ir_datasets download them elsewhere and set IR_DATASETS_HOME to a copy of its folder (~/.ir_datasets)"
        ) from error


def _part(dataset: Any, role: str) -> tuple[Callable[[], bool], Callable[[], Iterator[Any]], Callable[[Any], Row]]:
    if role == "corpus":
        return dataset.has_docs, dataset.docs_iter, _passage
    if role == "queries":
        return dataset.has_queries, dataset.queries_iter, _query
    return dataset.has_qrels, dataset.qrels_iter, _judgement


def _passage(document: Any) -> Row:
    fields = document._asdict()
    title = fields.get("title") or ""
    text = next((fields[name] for name in TEXTS if isinstance(fields.get(name), str)), None)
    if text is None:
        text, title = document.default_text(), ""
    return {"_id": document.doc_id, "title": title if isinstance(title, str) else "", "text": text}


def _query(query: Any) -> Row:
    return {"_id": query.query_id, "text": query.default_text()}


def _judgement(judgement: Any) -> Row:
    return {"query-id": judgement.query_id, "corpus-id": judgement.doc_id, "score": judgement.relevance}
