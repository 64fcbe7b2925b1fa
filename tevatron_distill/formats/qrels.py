"""Judgements: TREC's four columns, or BEIR's three with a header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tevatron_distill.formats.jsonl import Row, id_field, read_lines
from tevatron_distill.formats.names import Part, find_part
from tevatron_distill.schema import InputError, Qrels

BEIR_HEADER = ("query-id", "corpus-id", "score")


def read_qrels(source: str | Path, split: str | None = None) -> Qrels:
    """Read ``qid 0 docid grade`` (TREC), ``query-id<tab>corpus-id<tab>score`` (BEIR), or the judgements of a name.

    Grades are kept as they stand, negative ones too; what counts as relevant is said by the measure (``rel=``).

    Args:
        source: a file, a BEIR folder, or a name (`tevatron_distill.formats.names`), with or without ``:SPLIT``.
        split: of a folder or name.

    Raises:
        InputError: at a line of other width, a grade that is no integer, or a docid judged twice for a query;
            also if there is no judgement, or the source is not there.
    """
    part = Part(table=Path(source)) if Path(source).is_file() else find_part(source, "qrels", None, split)
    qrels: Qrels = {}
    rows = _judged_rows(part.rows) if part.rows is not None else _judged_lines(part.table or Path(source))
    for place, query_id, docid, grade in rows:
        grades = qrels.setdefault(query_id, {})
        if docid in grades:
            raise InputError(f'{place}: docid "{docid}" is judged twice for query_id "{query_id}"; drop one line')
        grades[docid] = _grade(place, grade)
    if not qrels:
        raise InputError(f"{source}: judgements are needed; got an empty file")
    return qrels


def _judged_lines(path: Path) -> Iterator[tuple[str, str, str, object]]:
    for place, line in read_lines(path):
        fields = line.split("\t") if line.count("\t") in (2, 3) else line.split()
        fields = [field.strip() for field in fields]
        if tuple(fields) == BEIR_HEADER:
            continue
        if len(fields) not in (3, 4):
            raise InputError(
                f"{place}: a judgement must have 4 columns (qid 0 docid grade) or BEIR's 3 (query-id corpus-id score); "
                f"got {len(fields)} in {line[:60]!r}"
            )
        if not all(fields):
            raise InputError(f"{place}: a column is empty in {line[:60]!r}")
        yield place, fields[0], fields[-2], fields[-1]


def _judged_rows(rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, str, str, object]]:
    """Rows of BEIR's keys; without a score all are relevant, and NanoBEIR may list a query's passages in one row."""
    for place, row in rows:
        if not {"query-id", "corpus-id"} <= row.keys():
            raise InputError(f"{place}: a judgement must have query-id and corpus-id; got the keys {', '.join(row)}")
        docids = row["corpus-id"] if isinstance(row["corpus-id"], list) else [row["corpus-id"]]
        for docid in docids:
            named = {**row, "corpus-id": docid}
            yield place, id_field(place, row, "query-id"), id_field(place, named, "corpus-id"), row.get("score", 1)


def _grade(place: str, text: object) -> int:
    try:
        value = float(str(text))
    except ValueError:
        value = 0.5
    if not value.is_integer():  # also NaN and infinity
        raise InputError(f"{place}: the grade must be an integer; got {text!r}")
    return int(value)
