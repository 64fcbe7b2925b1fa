"""Find candidates, or join a run with its texts: ``python -m tevatron_distill.driver.retrieve --help``."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.retrieve import RetrieveArguments
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.names import on_disk
from tevatron_distill.formats.output import refuse_existing, write_run_config, write_whole
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.formats.runs import read_run, strictly_decreasing, write_run
from tevatron_distill.formats.texts import find_passages, join_texts
from tevatron_distill.progress import progress
from tevatron_distill.retrieval import RETRIEVERS, Retriever
from tevatron_distill.schema import InputError, Passage, Run

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Search the collection for every query, or join somebody else's run with texts."""
    (args,) = parse_arguments(argv, RetrieveArguments, prog="retrieve")
    for path in filter(None, (args.output_path, args.rerank_input_path)):
        refuse_existing(path, args.overwrite_output_dir)
    collection = None if args.corpus_source is None else CollectionReader(args, args.corpus_source)
    report: dict[str, float | int] = {}
    if collection is not None and args.retrieval_results is not None:
        queries = read_queries(args.queries_source, args.query_data_config, args.query_data_split)
        run = {query_id: _top(scores, args.depth) for query_id, scores in read_run(args.retrieval_results).items()}
        write_rows(args.output_path, args, run, queries, collection.texts(_docids(run)))
    else:
        retriever = RETRIEVERS[args.retriever].build(collection, Path(args.output_path).parent, **args.settings())
        queries = dict(retriever.queries())
        if args.queries_source is not None:
            queries = read_queries(args.queries_source, args.query_data_config, args.query_data_split)
        run, report = search(args, retriever, queries)
        write_run(args.output_path, run, "trec", args.retriever, args.overwrite_output_dir)
        if args.rerank_input_path is not None:
            texts = retriever.texts if collection is None else collection.texts
            write_rows(args.rerank_input_path, args, run, queries, texts(_docids(run)))
    sources = (args.corpus_source, args.queries_source, args.retrieval_results, *args.run_paths)
    write_run_config(args.output_path, as_mapping(args), on_disk(sources), report)
    logger.info("wrote candidates of %d queries to %s", len(run), args.output_path)


class CollectionReader:
    """The passages of the collection that the flags name, read when somebody asks for them, and then kept."""

    def __init__(self, args: RetrieveArguments, source: str) -> None:
        self._source = (source, args.corpus_data_config, args.corpus_data_split)
        self._read: list[Passage] | None = None

    def __call__(self) -> Sequence[Passage]:
        """All of them, the blank ones left out.

        Raises:
            InputError: at a malformed row.
        """
        if self._read is None:
            self._read = read_passages(*self._source)
        return self._read

    def texts(self, wanted: Collection[str]) -> Mapping[str, Passage]:
        """Those of these docids."""
        if self._read is None:
            return find_passages(self._source[0], wanted, *self._source[1:])
        return {passage.docid: passage for passage in self._read if passage.docid in wanted}


def search(
    args: RetrieveArguments, retriever: Retriever, queries: Mapping[str, str]
) -> tuple[Run, dict[str, float | int]]:
    """The run of a retriever, and how long it took.

    Queries that match nothing keep out of the run, and one warning counts them.

    Raises:
        InputError: if no query matches anything.
    """
    run: Run = {}
    began = time.perf_counter()
    answers = retriever.search(queries, args.depth)
    for query_id, found in progress(answers, desc=args.retriever, unit="query", total=len(queries)):
        if found:
            scores = strictly_decreasing([score for _, score in found])
            run[query_id] = dict(zip((docid for docid, _ in found), scores, strict=True))
    seconds = time.perf_counter() - began
    if not run:
        raise InputError(
            f"{args.queries_source}: no query matches a passage of {args.corpus_source or 'the collection'}"
        )
    if len(run) < len(queries):
        logger.warning(
            "%d of %d queries match no passage and have no line in the run", len(queries) - len(run), len(queries)
        )
    report: dict[str, float | int] = {"queries": len(queries), "seconds": round(seconds, 3)}
    before = retriever.seconds_before()
    if before is not None:
        report["seconds_per_query"] = round(before + seconds / len(queries), 6)
    return run, report


def write_rows(
    path: str, args: RetrieveArguments, run: Run, queries: Mapping[str, str], passages: Mapping[str, Passage]
) -> None:
    """Join a run with its texts.

    Raises:
        InputError: if a query or a docid has no text.
    """
    if not passages and args.corpus_source is None:
        raise InputError(
            f"--rerank_input_path needs texts, and {args.retriever} has none of its own; "
            f"give --corpus_path, with --retrieval_results {args.output_path} to join what is found already"
        )
    lines = (
        line
        for candidates in join_texts(run, queries, passages, args.retrieval_results or args.output_path)
        for line in write_candidates_lines([candidates])
    )
    write_whole(path, lines, args.overwrite_output_dir)


def _docids(run: Run) -> set[str]:
    return {docid for scores in run.values() for docid in scores}


def _top(scores: Mapping[str, float], depth: int) -> dict[str, float]:
    return dict(list(scores.items())[:depth])


if __name__ == "__main__":
    run_main(main)
