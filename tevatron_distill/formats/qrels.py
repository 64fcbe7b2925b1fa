"""Judgements: TREC's four columns, or BEIR's three with a header."""

from __future__ import annotations

from pathlib import Path

from tevatron_distill.formats.jsonl import read_lines
from tevatron_distill.schema import InputError, Qrels

BEIR_HEADER = ("query-id", "corpus-id", "score")


def read_qrels(path: str | Path) -> Qrels:
    """Read ``qid 0 docid grade`` (TREC) or ``query-id<tab>corpus-id<tab>score`` (BEIR).

    Grades are kept as they stand, negative ones too; what counts as relevant is said by the measure (``rel=``).

    Raises:
        InputError: at a line of other width, a grade that is no integer, or a docid judged twice for a query;
            also if the file holds no judgement.
    """
    qrels: Qrels = {}
    for place, line in read_lines(path):
        fields = line.split("\t") if line.count("\t") in (2, 3) else line.split()
        fields = [field.strip() for field in fields]
        if tuple(fields) == BEIR_HEADER:
            continue
        if len(fields) == 3:
            query_id, docid, grade = fields
        elif len(fields) == 4:
            query_id, _, docid, grade = fields
        else:
            raise InputError(
                f"{place}: a judgement must have 4 columns (qid 0 docid grade) or BEIR's 3 (query-id corpus-id score); "
                f"got {len(fields)} in {line[:60]!r}"
            )
        grades = qrels.setdefault(query_id, {})
        if docid in grades:
            raise InputError(f'{place}: docid "{docid}" is judged twice for query_id "{query_id}"; drop one line')
        grades[docid] = _grade(place, grade)
    if not qrels:
        raise InputError(f"{path}: judgements are needed; got an empty file")
    return qrels


def _grade(place: str, text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.5
    if not value.is_integer():  # also NaN and infinity
        raise InputError(f"{place}: the grade must be an integer; got {text!r}")
    return int(value)
