"""What is asked of a reader, and its account of rows that are not as they should be."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar

from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterable[tuple[str, Row]]
"""Rows with their places."""

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class ReadOptions:
    """How rows are to be read; an option that the rows' dialect has no use for is refused.

    Attributes:
        dataset_format: a name of `FORMATS`, or ``auto`` to tell it by the first row.
        permutation_path: InstructDistill's list of ``"3 > 1 > 2"`` strings.
        teacher_run_path: a teacher's run over the candidates.
        queries_path: texts of the queries of a three-table layout.
        query_data_config: config of queries that are loaded by a dataset's name.
        corpus_path: texts of its documents.
        corpus_data_config: config of documents that are loaded by a dataset's name.
        query_key: the query's key in open-retrievals' rows.
        positive_key: the key of their relevant texts.
        negative_key: the key of their other texts.
        unfold_each_positive: one group for each positive instead of one for each row.
        candidate_model: models, comma-separated, whose candidates are kept (LLM-Blender).
        candidate_decoding_method: decoding methods, comma-separated, whose candidates are kept.
        n_candidates: keep the first so many candidates of those; -1 (as any number below 1) for all.
        using_metrics: metrics, comma-separated, whose weighted mean is the candidates' score.
        max_queries: keep the first so many queries; -1 (as any number below 1) for all.
        only_fitting: pass over options that the rows' dialect has no use for instead of refusing them.
    """

    dataset_format: str = "auto"
    permutation_path: str | None = None
    teacher_run_path: str | None = None
    queries_path: str | None = None
    query_data_config: str | None = None
    corpus_path: str | None = None
    corpus_data_config: str | None = None
    query_key: str | None = None
    positive_key: str | None = None
    negative_key: str | None = None
    unfold_each_positive: bool = False
    candidate_model: str | None = None
    candidate_decoding_method: str | None = None
    n_candidates: int = -1
    using_metrics: str | None = None
    max_queries: int = -1
    only_fitting: bool = False


class Tally:
    """Counts rows, and decides what becomes of one that breaks a rule.

    Args:
        skip: leave such rows out and count them by reason; else each is an error.

    Attributes:
        num_rows: rows read so far, of all files; a row without a name is named by it.
        skipped: places of the rows left out, by reason.
        notes: places of what was repaired or left out within rows, by what it is.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.num_rows = 0
        self._num_before = 0
        self._names: dict[str, int] = {}
        self.skipped: dict[str, list[str]] = {}
        self.notes: dict[str, list[str]] = {}

    def begin_file(self) -> None:
        """The rows that follow are another file's."""
        self._num_before = self.num_rows

    @property
    def row_in_file(self) -> int:
        """The 1-based number of the current row in its file, rows left out included."""
        return self.num_rows - self._num_before

    def count(self, rows: Rows) -> Iterator[tuple[str, Row]]:
        """The same rows, counted as they come."""
        for place, row in rows:
            self.num_rows += 1
            yield place, row

    def attempt(self, place: str, parse: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T | None:
        """The result of ``parse``, or None where the row is left out.

        Raises:
            InputError: if the row breaks a rule and rows are not skipped.
        """
        try:
            return parse(*args, **keywords)
        except InputError as error:
            if not self.skip:
                raise
            self.skipped.setdefault(reason(str(error), place), []).append(place)
            return None

    def fresh_name(self, name: str) -> str:
        """The name, or ``name#2``, ``name#3``, … where it was given before."""
        self._names[name] = times = self._names.get(name, 0) + 1
        return name if times == 1 else f"{name}#{times}"

    def note(self, what: str, place: str) -> None:
        """Something that was repaired or left out, and is told at the end."""
        self.notes.setdefault(what, []).append(place)

    def num_skipped(self) -> int:
        """How many rows were left out."""
        return sum(map(len, self.skipped.values()))

    def summary(self) -> list[str]:
        """A line for each reason and note: how often, and where first."""
        lines = []
        for verb, table in (("skipped: ", self.skipped), ("", self.notes)):
            for what, places in table.items():
                first = ", ".join(places[:3]) + (", …" if len(places) > 3 else "")
                lines.append(f"{verb}{what}: {len(places)} times ({first})")
        return lines

    def warn(self) -> None:
        """Log the summary."""
        for line in self.summary():
            logger.warning("%s", line)


def reason(message: str, place: str) -> str:
    """The rule of an error's message, without place, names and numbers.

    >>> reason('f:3: docid "a7" stands twice under query_id "q"; drop one', "f:3")
    'docid "…" stands twice under query_id "…"'
    """
    rule = message.removeprefix(f"{place}: ").partition(";")[0]
    return re.sub(r"\d+", "N", re.sub(r'"[^"]*"', '"…"', rule))


ParseRow: TypeAlias = Callable[[str, Row, ReadOptions, Tally], Sequence[T]]
Parse: TypeAlias = Callable[[Rows, ReadOptions, Tally], Iterator[tuple[str, T]]]


def each_row(parse_row: ParseRow[T]) -> Parse[T]:
    """A parser of a whole file from the parser of a row, which gives any number of groups."""

    def parse(rows: Rows, options: ReadOptions, tally: Tally) -> Iterator[tuple[str, T]]:
        for place, row in tally.count(rows):
            for item in tally.attempt(place, parse_row, place, row, options, tally) or ():
                yield place, item

    return parse


def names_of(text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list; blank is none.

    >>> names_of("rouge1, rouge2"), names_of("")
    (('rouge1', 'rouge2'), ())
    """
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
