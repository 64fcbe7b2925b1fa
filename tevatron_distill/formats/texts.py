"""Names and their texts brought together: runs and tables of ids with their queries and passages."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping

from tevatron_distill.formats.collections import is_blank, read_corpus
from tevatron_distill.progress import progress
from tevatron_distill.schema import Candidates, InputError, Passage, Run

logger = logging.getLogger(__name__)


def find_passages(
    source: str, wanted: Collection[str], config: str | None = None, split: str | None = None
) -> dict[str, Passage]:
    """The texts of these docids; a collection of any size is read once, and only these are kept."""
    found: dict[str, Passage] = {}
    with progress(total=len(wanted), desc="texts", unit="passage") as bar:  # how long the collection is, nobody knows
        for passage in read_corpus(source, config, split):
            if passage.docid in wanted:
                found[passage.docid] = passage
                bar.update()
    return found


def join_texts(
    run: Run, queries: Mapping[str, str], passages: Mapping[str, Passage], run_path: str
) -> Iterator[Candidates]:
    """The lists of a run with their texts; blank passages are left out, and one warning counts them.

    Raises:
        InputError: if the run names a query or a docid that has no text.
    """
    num_blank = 0
    for query_id, scores in run.items():
        candidates = join_list(query_id, scores, queries, passages, run_path)
        num_blank += len(scores) - len(candidates.passages)
        yield candidates
    if num_blank:
        logger.warning("%s: %d lines name passages without text and are left out of the rows", run_path, num_blank)


def join_list(
    query_id: str, scores: Mapping[str, float], queries: Mapping[str, str], passages: Mapping[str, Passage], place: str
) -> Candidates:
    """One query's list with its texts, without the blank ones.

    Raises:
        InputError: if the query or a docid has no text.
    """
    if query_id not in queries:
        raise InputError(f'{place}: query_id "{query_id}" of the run is not among the {len(queries)} queries')
    unknown = [docid for docid in scores if docid not in passages]
    if unknown:
        raise InputError(
            f'{place}: docid "{unknown[0]}" of query_id "{query_id}" is not in the collection; '
            "run and collection must belong together"
        )
    kept = [docid for docid in scores if not is_blank(passages[docid])]
    values = tuple(scores[docid] for docid in kept)
    return Candidates(query_id, queries[query_id], tuple(passages[docid] for docid in kept), values)
