"""Find candidates, or join a run with its texts: ``python -m tevatron_distill.driver.retrieve --help``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.retrieve import RetrieveArguments
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.output import refuse_existing, write_run_config, write_whole
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.formats.runs import read_run, strictly_decreasing, write_run
from tevatron_distill.formats.texts import find_passages, join_texts
from tevatron_distill.retrieval import RETRIEVERS
from tevatron_distill.schema import InputError, Passage, Run

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Search the collection for every query, or join somebody else's run with texts."""
    (args,) = parse_arguments(argv, RetrieveArguments, prog="retrieve")
    for path in filter(None, (args.output_path, args.rerank_input_path)):
        refuse_existing(path, args.overwrite_output_dir)
    queries = read_queries(args.queries_source, args.query_data_config, args.query_data_split)
    if args.retrieval_results is not None:
        run = {query_id: _top(scores, args.depth) for query_id, scores in read_run(args.retrieval_results).items()}
        wanted = {docid for scores in run.values() for docid in scores}
        passages = find_passages(args.corpus_source, wanted, args.corpus_data_config, args.corpus_data_split)
        rows_path = args.output_path
    else:
        collection = read_passages(args.corpus_source, args.corpus_data_config, args.corpus_data_split)
        run = search(args, collection, queries)
        write_run(args.output_path, run, "trec", args.retriever, args.overwrite_output_dir)
        passages = {passage.docid: passage for passage in collection}
        rows_path = args.rerank_input_path
    if rows_path is not None:
        lines = (
            line
            for candidates in join_texts(run, queries, passages, args.retrieval_results or args.output_path)
            for line in write_candidates_lines([candidates])
        )
        write_whole(rows_path, lines, args.overwrite_output_dir)
    sources = (args.corpus_source, args.queries_source, args.retrieval_results)
    write_run_config(args.output_path, as_mapping(args), [path for path in sources if path and Path(path).exists()])
    logger.info("wrote candidates of %d queries to %s", len(run), args.output_path)


def search(args: RetrieveArguments, collection: Sequence[Passage], queries: Mapping[str, str]) -> Run:
    """The run of a retriever; queries that match nothing keep out of it, and one warning counts them.

    Raises:
        InputError: if no query matches anything.
    """
    retriever = RETRIEVERS[args.retriever](collection, args.language, args.stemmer, args.k1, args.b)
    run: Run = {}
    for query_id, query in tqdm(queries.items(), desc=args.retriever, unit="query", disable=None):
        found = retriever.search(query, args.depth)
        if found:
            scores = strictly_decreasing([score for _, score in found])
            run[query_id] = dict(zip((docid for docid, _ in found), scores, strict=True))
    if not run:
        raise InputError(f"{args.queries_source}: no query matches a passage of {args.corpus_source}")
    if len(run) < len(queries):
        logger.warning(
            "%d of %d queries match no passage and have no line in the run", len(queries) - len(run), len(queries)
        )
    return run


def _top(scores: Mapping[str, float], depth: int) -> dict[str, float]:
    return dict(list(scores.items())[:depth])


if __name__ == "__main__":
    run_main(main)
