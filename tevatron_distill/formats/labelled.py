"""Labels beside texts, as of sentence-transformers: ``{query, document, label}`` and ``{query, docs, labels}``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tevatron_distill.formats.jsonl import check_distinct, id_field, number, parse_passage, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Rows, Tally
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, Group, InputError, Passage

LABEL_KEYS = ("labels", "label", "scores", "score")
QUERY_KEYS = ("query", "question", "anchor", "sentence1")
TEXT_KEYS = ("document", "passage", "text", "doc", "answer", "response", "positive", "sentence2")
ID_KEYS = ("_id", "query_id", "qid", "docid", "doc_id", "document_id", "passage_id", "id", "title")


def is_labelled_list(row: Row) -> bool:
    """Whether a row holds a query, a list of texts and a list of labels."""
    key = _label_key(row)
    return (
        key is not None and isinstance(row[key], list) and _texts_key(row) is not None and _query_key(row) is not None
    )


def is_labelled_pair(row: Row) -> bool:
    """Whether a row holds a query, a text and a label; a first stage's ``score`` beside a docid is none."""
    key = _label_key(row)
    if key is None or isinstance(row[key], (list, str)) or (key == "score" and "docid" in row):
        return False
    return _query_key(row) is not None and _text_key(row) is not None


def parse_list(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"query", "docs": [text, …], "labels": [number, …]}``.

    The columns may have other names: labels are the column ``labels``, ``label``, ``scores`` or ``score``, texts the
    first other column with a list of texts, the query ``query``, ``question``, ``anchor``, ``sentence1`` or the first
    column with a text. Labels that are whole numbers from 0 on are judgements, others a teacher's scores. A query
    whose labels are all equal teaches nothing and is left out, with a note.

    Raises:
        InputError: if a column is missing, a text empty or a label no number, or there are more or fewer labels.
    """
    candidates, labels = _read_list(place, row, tally)
    return _group(place, candidates, labels, tally)


def parse_list_candidates(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The texts of a row in the order of the file; labels are not used."""
    return [_read_list(place, row, tally)[0]]


def parse_pairs(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, Group]]:
    """Groups from ``{"query", "document", "label"}`` rows, those of one query_id (or query) brought together.

    A text that stands twice under a query with one label is taken once.

    Raises:
        InputError: if a row is malformed, a text has two labels, or a query_id two texts.
    """
    lists: dict[str, _Pairs] = {}
    for place, row in tally.count(rows):
        tally.attempt(place, _add_pair, place, row, lists, tally)
    for count, pairs in enumerate(lists.values(), start=1):
        query_id = str(count) if pairs.query_id is None else pairs.query_id
        passages = tuple(
            Passage(f"{query_id}-{n}" if docid is None else docid, text, title)
            for n, ((title, text), (docid, _)) in enumerate(pairs.entries.items())
        )
        candidates = Candidates(query_id, pairs.query, passages, tuple(-float(n) for n in range(len(passages))))
        labels = tuple(label for _, label in pairs.entries.values())
        for group in tally.attempt(pairs.place, _group, pairs.place, candidates, labels, tally) or ():
            yield pairs.place, group


@dataclass
class _Pairs:
    place: str
    query_id: str | None
    query: str
    entries: dict[tuple[str, str], tuple[str | None, float]] = field(
        default_factory=dict
    )  # (title, text): docid, label


def _add_pair(place: str, row: Row, lists: dict[str, _Pairs], tally: Tally) -> None:
    query_key, text_key, label_key = _query_key(row), _text_key(row), _label_key(row)
    if query_key is None or text_key is None or label_key is None:
        raise InputError(f"{place}: a labelled pair must hold query, document and label; got keys {', '.join(row)}")
    query_id, query = _named(place, row, "query_id", "qid"), text_field(place, row, query_key)
    docid = _named(place, row, "docid", "doc_id", "document_id", "passage_id")
    label = number(place, row[label_key], label_key)
    passage = parse_passage(place, {"text": row[text_key], "title": row.get("title")}, docid="-")
    pairs = lists.setdefault(f"query {query}" if query_id is None else f"id {query_id}", _Pairs(place, query_id, query))
    if pairs.query != query:
        raise InputError(
            f'{place}: query_id "{query_id}" must have one text; got {query[:60]!r} after {pairs.query[:60]!r} '
            f"at {pairs.place}"
        )
    key = (passage.title, passage.text)
    if key not in pairs.entries:
        pairs.entries[key] = (docid, label)
    elif pairs.entries[key][1] == label:
        tally.note("pairs that stand twice are taken once", place)
    else:
        raise InputError(f"{place}: a text must have one label a query; got {label} after {pairs.entries[key][1]}")


def _named(place: str, row: Row, *keys: str) -> str | None:
    key = next((key for key in keys if row.get(key) is not None), None)
    return None if key is None else id_field(place, row, key)


def _read_list(place: str, row: Row, tally: Tally) -> tuple[Candidates, tuple[float, ...]]:
    query_key, texts_key, label_key = _query_key(row), _texts_key(row), _label_key(row)
    if query_key is None or texts_key is None or label_key is None:
        raise InputError(f"{place}: a labelled list must hold query, docs and labels; got keys {', '.join(row)}")
    query_id = _named(place, row, "query_id", "qid") or str(tally.num_rows)
    labels = row[label_key]
    if not isinstance(labels, list) or len(labels) != len(row[texts_key]):
        came = len(labels) if isinstance(labels, list) else repr(labels)
        raise InputError(f"{place}: {label_key} must hold one number a text ({len(row[texts_key])}); got {came}")
    passages = tuple(
        parse_passage(place, {"text": text}, docid=f"{query_id}-{position}")
        for position, text in enumerate(row[texts_key])
    )
    scores = tuple(-float(n) for n in range(len(passages)))
    values = tuple(number(place, label, f"{label_key}[{n}]") for n, label in enumerate(labels))
    return Candidates(query_id, text_field(place, row, query_key), passages, scores), values


def _group(place: str, candidates: Candidates, labels: tuple[float, ...], tally: Tally) -> list[Group]:
    if len(set(labels)) < 2:
        tally.note("queries whose labels are all equal are left out", place)
        return []
    check_distinct(place, candidates.passages, candidates.query_id)
    group = candidates.judged(
        {passage.docid: label for passage, label in zip(candidates.passages, labels, strict=True)},
        {"name": "judgements"},
    )
    if all(label >= 0 and label.is_integer() for label in labels):
        return [group]
    scored = replace(
        group,
        judgements=None,
        scores=labels,
        permutation=from_scores(labels),
        num_ranked=len(labels),
        teacher={"name": "scores of the rows"},
    )
    return [scored]


def _label_key(row: Row) -> str | None:
    return next((key for key in LABEL_KEYS if row.get(key) is not None), None)


def _query_key(row: Row) -> str | None:
    named = [key for key in QUERY_KEYS if isinstance(row.get(key), str)]
    others = [key for key, value in row.items() if isinstance(value, str) and key not in ID_KEYS]
    return next(iter([*named, *others]), None)


def _text_key(row: Row) -> str | None:
    query_key = _query_key(row)
    others = [key for key, value in row.items() if isinstance(value, str) and key not in ID_KEYS]
    named = [key for key in TEXT_KEYS if key in others]
    return next((key for key in [*named, *others] if key != query_key), None)


def _texts_key(row: Row) -> str | None:
    return next(
        (
            key
            for key, value in row.items()
            if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value)
        ),
        None,
    )
