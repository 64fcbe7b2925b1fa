"""Rows in Parquet: any dialect's rows are read from it, runs and groups are written to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from tevatron_distill.formats.disk import writing
from tevatron_distill.formats.groups import group_row
from tevatron_distill.formats.jsonl import Row
from tevatron_distill.formats.output import refuse_existing
from tevatron_distill.schema import Group, InputError, Run

ENDING = ".parquet"
ROWS_AT_ONCE = 1024


def read_parquet(path: str | Path) -> Iterator[tuple[str, Row]]:
    """Yield ``("file[n]", row)``, some rows at a time.

    Raises:
        InputError: if the file is no Parquet file.
    """
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield f"{path}[{number}]", row
                number += 1
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: must be a Parquet file; got {error}") from error


def run_rows(run: Run) -> list[Row]:
    """A run as rows of ``query_id``, ``docid``, ``rank`` and ``score``, best first."""
    return [
        {"query_id": query_id, "docid": docid, "rank": rank, "score": score}
        for query_id, scores in run.items()
        for rank, (docid, score) in enumerate(sorted(scores.items(), key=lambda item: -item[1]), start=1)
    ]


def group_rows(groups: Sequence[Group]) -> list[Row]:
    """Groups as rows with the keys of ``groups.jsonl``; a preference has the fields ``i``, ``j`` and ``p``."""
    rows = []
    for row in map(group_row, groups):
        preferences = row.get("preferences")
        if preferences is not None:
            row["preferences"] = [{"i": i, "j": j, "p": p} for i, j, p in preferences]
        rows.append(row)
    return rows


def write_parquet(path: str | Path, rows: Sequence[Mapping[str, object]], overwrite: bool = False) -> None:
    """Write rows as one Parquet file, whole or not at all.

    Raises:
        InputError: if the file exists and ``overwrite`` is False, or it cannot be written.
    """
    refuse_existing(path, overwrite)
    unfinished = Path(f"{path}.partial")
    with writing(path):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        columns = dict.fromkeys(key for row in rows for key in row)
        table = pyarrow.Table.from_pydict({key: [row.get(key) for row in rows] for key in columns})
        pyarrow.parquet.write_table(table, unfinished)
        os.replace(unfinished, path)
