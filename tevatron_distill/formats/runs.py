"""Runs: three columns (Tevatron), four, or six (TREC) are read; Tevatron's, TREC or MS MARCO lines are written."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tevatron_distill.formats.jsonl import read_lines
from tevatron_distill.formats.output import write_whole
from tevatron_distill.schema import InputError, Run

logger = logging.getLogger(__name__)

RUN_FORMATS = ("tevatron", "trec", "marco")
# number of columns: places of query_id, docid and score
COLUMNS = {3: (0, 1, 2), 4: (0, 1, 3), 6: (0, 2, 4)}
NO_NAME = "\0\ufeff"  # a byte-order mark is lost at the beginning of a file, and a NUL is taken for a crash
LARGEST = float(np.finfo(np.float32).max)


def read_run(path: str | Path) -> Run:
    """Read ``qid docid score``, ``qid docid rank score`` or ``qid Q0 docid rank score tag``, tabs or spaces.

    Returns:
        The run; within a query docids stand by falling score, equal scores in the order of their lines (the rank
        column is not used, as in trec_eval).

    Raises:
        InputError: at a line of other width, a score that is no finite number, or a docid named twice for a
            query; also if the file is empty.
    """
    lists: Run = {}
    width = 0
    for place, line in read_lines(path):
        fields = _split(place, line)
        if width and len(fields) != width:
            raise InputError(f"{place}: all lines must have the same columns; got {len(fields)} after {width}")
        width = len(fields)
        query_id, docid, score = (fields[column] for column in COLUMNS[width])
        scores = lists.setdefault(query_id, {})
        if docid in scores:
            raise InputError(f'{place}: docid "{docid}" stands twice under query_id "{query_id}"; drop one line')
        scores[docid] = _score(place, score)
    if not lists:
        raise InputError(f"{path}: a run must hold at least one line; got an empty file")
    if width == 3 and _looks_like_ranks(lists):
        logger.warning(
            "%s: the third column counts 1, 2, 3, … like the ranks of an MS MARCO run, but is read as scores, where "
            "higher is better; give a run with scores",
            path,
        )
    return {query_id: dict(sorted(scores.items(), key=lambda item: -item[1])) for query_id, scores in lists.items()}


def write_run(
    path: str | Path, run: Run, fmt: str = "tevatron", tag: str = "tevatron_distill", overwrite: bool = False
) -> None:
    """Write a run by falling score; see `format_run_lines`.

    Raises:
        InputError: if the file exists and ``overwrite`` is False, a score is NaN, or ``fmt`` is unknown.
    """
    lines: list[str] = []
    for query_id, scores in run.items():
        ranked = sorted(scores.items(), key=lambda item: -item[1])
        lines += format_run_lines(query_id, ranked, fmt, tag)
    write_whole(path, lines, overwrite)


def format_run_lines(
    query_id: str, ranked: Iterable[tuple[str, float]], fmt: str = "tevatron", tag: str = "tevatron_distill"
) -> list[str]:
    """The lines of one query, in the order given, with scores that strictly decrease as trec_eval reads them.

    Args:
        query_id: name of the query.
        ranked: docids and scores, best first.
        fmt: ``tevatron`` (``qid\\tdocid\\tscore``), ``trec`` (``qid Q0 docid rank score tag``) or ``marco``
            (``qid\\tdocid\\trank``).
        tag: last column of ``trec``.

    Raises:
        InputError: if a score is not finite, a name would break the columns, or ``fmt`` is unknown.

    >>> format_run_lines("q1", [("d7", 1.5), ("d2", 0.25)], "trec", "bm25")
    ['q1 Q0 d7 1 1.5 bm25', 'q1 Q0 d2 2 0.25 bm25']
    """
    ranked = list(ranked)
    scores = strictly_decreasing([score for _, score in ranked])
    lines = []
    for rank, ((docid, _), score) in enumerate(zip(ranked, scores, strict=True), start=1):
        if fmt == "tevatron":
            columns, separator = [query_id, docid, _printed(score)], "\t"
        elif fmt == "trec":
            columns, separator = [query_id, "Q0", docid, str(rank), _printed(score), tag], " "
        elif fmt == "marco":
            columns, separator = [query_id, docid, str(rank)], "\t"
        else:
            raise InputError(f"a run is written as one of {', '.join(RUN_FORMATS)}; got {fmt!r}")
        for column in columns:
            if not column or any(character.isspace() or character in NO_NAME for character in column):
                raise InputError(
                    f"a run has no room for white space, NUL or byte-order marks in names; got {column!r} in query "
                    f"{query_id!r}"
                )
        lines.append(separator.join(columns))
    return lines


def strictly_decreasing(scores: Sequence[float]) -> list[float]:
    """Scores in single precision, each at least one step below the one before it; the order is kept.

    trec_eval reads scores in single precision and breaks ties by docid, so a run with ties, or with near-ties
    that single precision does not tell apart, is not evaluated in the order in which it was written.

    Args:
        scores: best first.

    Raises:
        InputError: if a score is NaN or infinite, also as a single-precision number.

    >>> [float(score) for score in strictly_decreasing([2.5, 1.5, 1.0])]
    [2.5, 1.5, 1.0]
    """
    lowered: list[float] = []
    above = np.float32(np.inf)
    for score in scores:
        if not math.isfinite(score) or abs(score) > LARGEST:
            raise InputError(f"scores of a run must be finite single-precision numbers; got {score}")
        above = min(np.float32(score), np.nextafter(above, np.float32(-np.inf)))
        lowered.append(float(above))
    return lowered


def _printed(score: float) -> str:
    return str(np.float32(score))


def _split(place: str, line: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) not in COLUMNS:
        fields = line.split()
    if len(fields) not in COLUMNS:
        raise InputError(
            f"{place}: a run line must have 3 (qid docid score), 4 (qid docid rank score) or 6 columns (TREC); "
            f"got {len(fields)} in {line[:60]!r}"
        )
    fields = [field.strip() for field in fields]
    if not all(fields):
        raise InputError(f"{place}: a column is empty in {line[:60]!r}")
    return fields


def _score(place: str, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{place}: the score must be a finite number; got {text!r}")
    return score


def _looks_like_ranks(lists: Run) -> bool:
    longest = max(len(scores) for scores in lists.values())
    return longest > 1 and all(
        list(scores.values()) == [float(rank) for rank in range(1, len(scores) + 1)] for scores in lists.values()
    )
