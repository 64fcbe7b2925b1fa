"""Several runs in one, by reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tevatron_distill.formats.output import config_path, read_record
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import fused_scores
from tevatron_distill.retrieval import Found, Reader, Retriever
from tevatron_distill.schema import InputError


class Hybrid(Retriever):
    """What several runs found, as one.

    A passage's score is the sum of ``1 / (rrf_k + rank)`` over the runs that found it; equal scores stand in the
    order of the runs, and in a run by rank. A query needs to be in one of the runs only.

    Args:
        run_paths: runs of 3, 4 or 6 columns, such as other calls of ``driver.retrieve`` write.
        rrf_k: how little the first ranks count more than the others, >= 0.

    Raises:
        InputError: if there is no run, one cannot be read, or ``rrf_k`` is below 0.

    Source:
        Cormack et al. 2009, Reciprocal rank fusion outperforms Condorcet and individual rank learning methods.
    """

    def __init__(self, run_paths: Sequence[str | Path], rrf_k: int = 60) -> None:
        if not run_paths:
            raise InputError("--retriever hybrid needs --run_paths, the runs that are fused; got none")
        if rrf_k < 0:
            raise InputError(f"--rrf_k must be at least 0; got {rrf_k}")
        self._runs = {Path(path): read_run(path) for path in run_paths}
        if len(self._runs) < len(run_paths):
            raise InputError(f"--run_paths must name each run once; got {' '.join(str(path) for path in run_paths)}")
        self._rrf_k = rrf_k

    def search(self, queries: Mapping[str, str], depth: int) -> Iterator[tuple[str, Found]]:
        """The fused list of each query; the queries' texts are not looked at."""
        for query_id in queries:
            yield query_id, self._fuse(query_id)[:depth]

    def queries(self) -> Mapping[str, str]:
        """The names of all queries of the runs, without texts."""
        return {query_id: "" for run in self._runs.values() for query_id in run}

    def seconds_before(self) -> float | None:
        """What the runs took together, by their records; None where one has none."""
        reports = [read_record(config_path(path)).get("report", {}) for path in self._runs]
        seconds = [report.get("seconds_per_query") for report in reports]
        return None if None in seconds else sum(seconds)

    def _fuse(self, query_id: str) -> Found:
        lists = [list(run[query_id]) for run in self._runs.values() if query_id in run]
        if not lists:
            return []
        docids = list(dict.fromkeys(docid for ranked in lists for docid in ranked))
        place = {docid: position for position, docid in enumerate(docids)}
        permutations = []
        for ranked in lists:
            found = [place[docid] for docid in ranked]
            permutations.append((*found, *sorted(set(place.values()) - set(found))))
        scores = fused_scores(permutations, num_ranked=[len(ranked) for ranked in lists], constant=self._rrf_k)
        return sorted(zip(docids, scores, strict=True), key=lambda item: -item[1])


def build(passages: Reader | None, beside: Path, *, run_paths: Sequence[str], rrf_k: int) -> Hybrid:
    """The row ``hybrid`` of `RETRIEVERS`."""
    return Hybrid(run_paths, rrf_k)
