"""Turn a run into other columns, or rows of any project into groups: ``python -m tevatron_distill.driver.convert``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.convert import ConvertArguments
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.collections import read_queries
from tevatron_distill.formats.groups import check_groups, group_to_line
from tevatron_distill.formats.names import on_disk
from tevatron_distill.formats.output import refuse_existing, write_run_config, write_whole
from tevatron_distill.formats.parquet import group_rows, run_rows, write_parquet
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.reading import Tally
from tevatron_distill.formats.runs import read_run, write_run
from tevatron_distill.formats.texts import find_passages, join_list
from tevatron_distill.progress import progress
from tevatron_distill.schema import Candidates, Group, InputError, Qrels

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read a run, or rows, and write them again."""
    (args,) = parse_arguments(argv, ConvertArguments, prog="convert")
    refuse_existing(args.output, args.overwrite_output_dir)
    if args.to == "groups":
        convert_to_groups(args)
    elif args.to == "parquet":
        convert_to_parquet(args)
    else:
        convert_run(args)


def convert_run(args: ConvertArguments) -> None:
    """A run in other columns."""
    [path] = args.input
    run = read_run(path)
    if args.remove_query:
        run = {
            query_id: {docid: score for docid, score in scores.items() if docid != query_id}
            for query_id, scores in run.items()
        }
    write_run(args.output, run, args.to, overwrite=args.overwrite_output_dir)
    write_run_config(args.output, as_mapping(args), [path])
    logger.info("wrote %d queries to %s", len(run), args.output)


def convert_to_parquet(args: ConvertArguments) -> None:
    """A run, or a file of groups, as Parquet."""
    [path] = args.input
    holds_groups = Path(path).suffix in (".json", ".jsonl", ".gz")
    rows = group_rows(load_groups(path)) if holds_groups else run_rows(read_run(path))
    write_parquet(args.output, rows, args.overwrite_output_dir)
    write_run_config(args.output, as_mapping(args), [path])
    logger.info("wrote %d rows to %s", len(rows), args.output)


def convert_to_groups(args: ConvertArguments) -> None:
    """Rows of any dialect, or a run with judgements and texts, as ``groups.jsonl``.

    Raises:
        InputError: if more rows break a rule than ``--max_skipped`` allows, or no group is left.
    """
    tally = Tally(skip=True)
    try:
        made = mine_groups(args, tally) if args.run_path is not None else read_rows(args, tally)
        groups = check_groups(
            progress(made, desc="groups", unit="group"),
            args.run_path or " ".join(args.input),
            tally,
        )
    except InputError as error:
        raise InputError("\n".join([str(error), *tally.summary()])) from error
    share = tally.num_skipped() / max(1, tally.num_rows)
    report = {
        "rows": tally.num_rows,
        "groups": len(groups),
        "skipped": {reason: len(places) for reason, places in tally.skipped.items()},
        "notes": {what: len(places) for what, places in tally.notes.items()},
    }
    if share > args.max_skipped:
        raise InputError(
            "\n".join(
                [
                    f"{tally.num_skipped()} of {tally.num_rows} rows break a rule, more than the share "
                    f"{args.max_skipped} of --max_skipped; nothing is written:",
                    *tally.summary(),
                ]
            )
        )
    write_whole(args.output, map(group_to_line, groups), args.overwrite_output_dir)
    named = [args.run_path, args.qrels_path, args.queries_path, args.corpus_path, args.permutation_path]
    sources = [*args.input, *named, args.teacher_run_path]
    write_run_config(args.output, as_mapping(args), on_disk(sources), report)
    tally.warn()
    print(f"{len(groups)} groups from {tally.num_rows} rows, {tally.num_skipped()} rows left out: {args.output}")


def read_rows(args: ConvertArguments, tally: Tally) -> Iterator[tuple[str, Group]]:
    """The groups of all input files; candidates become groups by judgements where there are some."""
    if len(args.input) > 1 and (args.permutation_path is not None or args.teacher_run_path is not None):
        raise InputError(f"--permutation_path and --teacher_run_path belong to one --input; got {len(args.input)}")
    for path in args.input:
        if args.qrels_path is None:
            groups = load_groups(
                path,
                permutation_path=args.permutation_path,
                teacher_run_path=args.teacher_run_path,
                options=args.reading(),
                tally=tally,
            )
        else:
            qrels = read_qrels(args.qrels_path)
            entries = load_candidates(path, options=args.reading(), tally=tally)
            groups = [group for entry in entries for group in judged(path, entry, qrels, tally)]
        for group in groups:
            yield path, group


def mine_groups(args: ConvertArguments, tally: Tally) -> Iterator[tuple[str, Group]]:
    """Groups of a first stage: its candidates with their judgements, and the relevant passages that it missed.

    A query without a relevant passage, or without any other, is left out, with a note.
    """
    path, qrels = args.run_path or "", read_qrels(args.qrels_path or "")
    queries = read_queries(args.queries_path or "", args.query_data_config)
    lists: dict[str, dict[str, float]] = {}
    for query_id, scores in read_run(path).items():
        tally.num_rows += 1
        ranked = dict(list(scores.items())[: args.depth])
        lowest = min(ranked.values())
        missed = [d for d, grade in qrels.get(query_id, {}).items() if grade > 0 and d not in ranked]
        lists[query_id] = ranked | {docid: lowest - place for place, docid in enumerate(missed, start=1)}
    wanted = {docid for scores in lists.values() for docid in scores}
    passages = find_passages(args.corpus_path or "", wanted, args.corpus_data_config)
    for query_id, scores in lists.items():
        place = f'{path} query_id "{query_id}"'
        entry = tally.attempt(place, join_list, query_id, scores, queries, passages, path)
        if entry is not None:
            for group in judged(place, entry, qrels, tally):
                yield place, group


def judged(place: str, entry: Candidates, qrels: Qrels, tally: Tally) -> list[Group]:
    """The group of these candidates, if a relevant passage and another one are among them."""
    group = entry.judged(qrels.get(entry.query_id, {}), {"name": "judgements"})
    if not group.num_ranked:
        tally.note("queries without a relevant passage are left out", place)
        return []
    if len(set(group.judgements or ())) < 2:
        tally.note("queries whose passages are all equally relevant are left out", place)
        return []
    return [group]


if __name__ == "__main__":
    run_main(main)
