"""Readers and writers, one dialect a file; the two functions here tell a file's dialect by its first row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from tevatron_distill.formats import annotated, flagembedding, groups, instructdistill, rank_llm, rerank_input, tevatron
from tevatron_distill.formats.hub import is_saved_dataset, read_dataset, read_saved_dataset
from tevatron_distill.formats.jsonl import Row, read_json_rows
from tevatron_distill.formats.teacher_run import order_by_run
from tevatron_distill.schema import Candidates, Group, InputError

Rows = Iterator[tuple[str, Row]]


def load_groups(
    dataset_path: str | Path | None,
    *,
    dataset_name: str = "json",
    dataset_config: str | None = None,
    dataset_split: str = "train",
    dataset_cache_dir: str | None = None,
    permutation_path: str | Path | None = None,
    teacher_run_path: str | Path | None = None,
) -> list[Group]:
    """Read training rows of any dialect.

    The first row's keys tell which: ``permutation`` our groups; ``retrieved_passages`` InstructDistill (with
    ``permutation_path``); ``positive_passages`` Tevatron; ``passages`` and ``scores`` annotate_with_teacher; ``pos``
    or ``positive`` FlagEmbedding and open-retrievals; ``hits`` RankLLM, ``docid`` rerank rows (both with
    ``teacher_run_path``).

    Args:
        dataset_path: JSON lines, one JSON array, or a save_to_disk folder.
        dataset_name: ``json`` for files of ours and these; else a name for ``datasets.load_dataset``.
        dataset_config: its config.
        dataset_split: its split, also of a save_to_disk folder.
        dataset_cache_dir: where ``datasets`` keeps what it downloads.
        permutation_path: InstructDistill's list of ``"3 > 1 > 2"`` strings.
        teacher_run_path: a teacher's run over the candidates.

    Raises:
        InputError: if the dialect is not known, a side file is missing or not used, or a row breaks a rule of its
            dialect.
    """
    rows, first, source = _open(dataset_path, dataset_name, dataset_config, dataset_split, dataset_cache_dir)
    dialect = _group_dialect(first, source)
    _check_side_file(source, dialect, "permutation_path", permutation_path, {"InstructDistill"})
    _check_side_file(source, dialect, "teacher_run_path", teacher_run_path, {"RankLLM", "rerank rows"})
    if dialect == "groups":
        return groups.parse_groups(rows, source)
    if teacher_run_path is not None:
        parse = rank_llm.parse_hits if dialect == "RankLLM" else rerank_input.parse_candidates
        return order_by_run(parse(rows, source), teacher_run_path)
    if permutation_path is not None:
        return groups.check_groups(instructdistill.parse_groups(rows, permutation_path), source)
    if dialect == "annotated":
        return groups.check_groups(annotated.parse_groups(rows), source)
    if dialect == "Tevatron":
        return groups.check_groups(((place, tevatron.parse_group(place, row)) for place, row in rows), source)
    named = ((place, flagembedding.parse_group(place, row, str(n))) for n, (place, row) in enumerate(rows, start=1))
    return groups.check_groups(named, source)


def load_candidates(
    dataset_path: str | Path | None,
    *,
    dataset_name: str = "json",
    dataset_config: str | None = None,
    dataset_split: str = "train",
    dataset_cache_dir: str | None = None,
) -> list[Candidates]:
    """Read candidates with texts: rerank rows, RankLLM's hits, InstructDistill's rows, or the passages of our groups.

    Where the rows have no first-stage scores, a passage's score is minus its place.

    Args: as of `load_groups`.

    Raises:
        InputError: if the file is of none of these kinds, or a row breaks a rule of its dialect.
    """
    rows, first, source = _open(dataset_path, dataset_name, dataset_config, dataset_split, dataset_cache_dir)
    if "hits" in first:
        return rank_llm.parse_hits(rows, source)
    if "permutation" in first:
        return [
            Candidates(
                group.query_id, group.query, group.passages, tuple(-float(n) for n in range(len(group.passages)))
            )
            for group in groups.parse_groups(rows, source)
        ]
    if "retrieved_passages" in first:
        return list(instructdistill.parse_candidates(rows))
    if "docid" in first:
        return rerank_input.parse_candidates(rows, source)
    raise InputError(
        f"{source}: candidates must be rerank rows (query_id, query, docid, text), RankLLM's {{query, hits}}, "
        f"InstructDistill's rows or groups; got keys {', '.join(first)}"
    )


def _open(
    path: str | Path | None, name: str, config: str | None, split: str, cache_dir: str | None
) -> tuple[Rows, Row, str]:
    if name != "json":
        rows, source = read_dataset(name, config, split, None if path is None else str(path), cache_dir), name
    elif path is None:
        raise InputError("--dataset_path or --dataset_name is needed")
    elif is_saved_dataset(path):
        rows, source = read_saved_dataset(path, split), str(path)
    else:
        rows, source = read_json_rows(path), str(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: rows are needed; got none")
    return itertools.chain([first], rows), first[1], source


def _group_dialect(row: Row, source: str) -> str:
    marks = {
        "permutation": "groups",
        "hits": "RankLLM",
        "retrieved_passages": "InstructDistill",
        "positive_passages": "Tevatron",
        "scores": "annotated",
        "pos": "FlagEmbedding",
        "positive": "FlagEmbedding",
        "docid": "rerank rows",
    }
    for key, dialect in marks.items():
        if key in row:
            return dialect
    raise InputError(f"{source}: training rows are told by one of {', '.join(marks)}; got keys {', '.join(row)}")


def _check_side_file(source: str, dialect: str, flag: str, value: str | Path | None, dialects: set[str]) -> None:
    if dialect in dialects and value is None:
        raise InputError(f"{source}: {dialect} rows hold no verdict; give it by --{flag}")
    if dialect not in dialects and value is not None:
        raise InputError(f"--{flag} is for rows of {' or '.join(sorted(dialects))}; {source} holds {dialect} rows")
