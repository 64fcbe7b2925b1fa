"""Parquet: what is written reads back, and every dialect's rows are read from it."""

from __future__ import annotations

from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest

from tevatron_distill.driver.convert import main as convert
from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.parquet import group_rows, write_parquet
from tevatron_distill.schema import InputError


def test_groups_read_back_from_parquet_with_all_they_hold(toy_groups, tmp_path):
    size = len(toy_groups[0].passages)
    full = replace(
        toy_groups[0],
        scores=tuple(float(n) for n in range(size)),
        preferences=((0, 1, 0.83), (1, 2, 0.5)),
        metrics={"rouge1": tuple(0.1 * n for n in range(size))},
        reference="a text",
        teacher={"name": "pairwise", "answers": 3},
    )
    source = tmp_path / "groups.jsonl"
    source.write_text("".join(group_to_line(group) + "\n" for group in [full, *toy_groups[1:]]), encoding="utf-8")
    convert(["--to", "parquet", "--input", str(source), "--output", str(tmp_path / "groups.parquet")])
    first, *others = load_groups(tmp_path / "groups.parquet")
    assert replace(first, metrics=None) == replace(full, metrics=None)
    assert first.metrics == full.metrics
    assert others == toy_groups[1:]


def test_rerank_rows_are_read_from_parquet(tmp_path):
    rows = [
        {"query_id": "q", "query": "red", "docid": f"d{n}", "title": None, "text": f"text {n}", "score": 3.0 - n}
        for n in range(3)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    [entry] = load_candidates(tmp_path / "rows.parquet")
    assert [passage.docid for passage in entry.passages] == ["d0", "d1", "d2"]
    assert entry.scores == (3.0, 2.0, 1.0)


def test_a_run_becomes_parquet_with_ranks(tmp_path):
    (tmp_path / "run.tsv").write_text("q\td2\t1.5\nq\td1\t2.5\n")
    convert(["--to", "parquet", "--input", str(tmp_path / "run.tsv"), "--output", str(tmp_path / "run.parquet")])
    rows = pyarrow.parquet.read_table(tmp_path / "run.parquet").to_pylist()
    assert rows == [
        {"query_id": "q", "docid": "d1", "rank": 1, "score": 2.5},
        {"query_id": "q", "docid": "d2", "rank": 2, "score": 1.5},
    ]


def test_a_finished_file_is_not_written_over_and_a_broken_one_is_named(toy_groups, tmp_path):
    path = tmp_path / "groups.parquet"
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"already|exists"):
        write_parquet(path, group_rows(toy_groups))
    with pytest.raises(InputError, match=r"groups\.parquet: must be a Parquet file"):
        load_groups(path)
