"""A teacher known by its run only: candidates with texts here, the teacher's order there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tevatron_distill.formats.reading import Tally
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import complete_permutation
from tevatron_distill.schema import Candidates, Group, InputError


def order_by_run(
    candidates: Iterable[tuple[str, Candidates]], teacher_run_path: str | Path, tally: Tally
) -> Iterator[tuple[str, Group]]:
    """Groups whose permutation is the order of the teacher's run.

    Candidates that the run does not name are tied behind the others. Where it names all, its scores are kept as the
    teacher's; that a run's scores are a teacher's own words, and not made up to carry its order, is for the user to
    know.

    Raises:
        InputError: if run and candidates disagree: a query that only one of them has, or a docid that only the run
            has.
    """
    run = read_run(teacher_run_path)
    entries = list(candidates)
    known = {entry.query_id for _, entry in entries}
    for query_id in run:
        if query_id not in known:
            raise InputError(f'{teacher_run_path}: query_id "{query_id}" of the run has no row with texts; drop it')
    for place, entry in entries:
        group = tally.attempt(place, _order, entry, run.get(entry.query_id, {}), str(teacher_run_path))
        if group is not None:
            yield place, group


def _order(entry: Candidates, ranked: dict[str, float], path: str) -> Group:
    if not ranked:
        raise InputError(f'{path}: query_id "{entry.query_id}" has candidates but no line in the run; drop its rows')
    position_of = {passage.docid: position for position, passage in enumerate(entry.passages)}
    unknown = [docid for docid in ranked if docid not in position_of]
    if unknown:
        raise InputError(
            f'{path}: docid "{unknown[0]}" of query_id "{entry.query_id}" is not among its {len(position_of)} '
            "candidates; run and rows must be of the same first stage"
        )
    complete = len(ranked) == len(position_of)
    return Group(
        query_id=entry.query_id,
        query=entry.query,
        passages=entry.passages,
        permutation=complete_permutation([position_of[docid] for docid in ranked], len(position_of)),
        num_ranked=len(ranked),
        scores=tuple(ranked[passage.docid] for passage in entry.passages) if complete else None,
        teacher={"name": "run", "run": Path(path).name},
    )
