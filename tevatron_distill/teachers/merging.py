"""Several verdicts on the same passages become one; files of verdicts as a teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import complete_permutation, fuse
from tevatron_distill.schema import Candidates, Group, InputError


def merge_groups(groups: Sequence[Group], merge: str) -> Group:
    """One verdict from several on the same passages in the same order.

    A passage is ranked if any verdict ranks it. Scores are averaged where all verdicts have them, and each preference
    over the verdicts that have it.

    Args:
        groups: of one query, at least one.
        merge: how the permutations are merged, ``rrf`` or ``borda``.

    Raises:
        InputError: if there is none, or ``merge`` is unknown.
    """
    permutation = fuse(
        [group.permutation for group in groups], merge, num_ranked=[group.num_ranked for group in groups]
    )
    ranked = {position for group in groups for position in group.permutation[: group.num_ranked]}
    # Borda may put a passage that few verdicts rank behind one that none ranks.
    kept = [position for position in permutation if position in ranked]
    rows = [group.scores for group in groups if group.scores is not None]
    return Group(
        query_id=groups[0].query_id,
        query=groups[0].query,
        passages=groups[0].passages,
        permutation=complete_permutation(kept, len(permutation)),
        num_ranked=len(kept),
        scores=tuple(_mean(column) for column in zip(*rows, strict=True)) if len(rows) == len(groups) else None,
        preferences=_merge_preferences(groups),
    )


def _merge_preferences(groups: Sequence[Group]) -> tuple[tuple[int, int, float], ...] | None:
    if all(group.preferences is None for group in groups):
        return None
    known: dict[tuple[int, int], list[float]] = {}
    for group in groups:
        for i, j, p in group.preferences or ():
            known.setdefault((min(i, j), max(i, j)), []).append(p if i < j else 1.0 - p)
    return tuple((i, j, round(_mean(values), 6)) for (i, j), values in sorted(known.items()))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


class MergedTeacher:
    """Merges verdicts of other teachers on the same candidates.

    Args:
        verdicts: for each teacher its name and ``{query_id: docids}``, the docids that it ranks, best first.
        merge: ``rrf`` or ``borda``.
    """

    def __init__(self, verdicts: Sequence[tuple[str, Mapping[str, Sequence[str]]]], merge: str = "rrf") -> None:
        self._verdicts = verdicts
        self._merge = merge

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Refuse files of other queries or candidates before anything is written.

        Raises:
            InputError: if a file lacks a query, or ranks a docid that is no candidate.
        """
        for entry in candidates:
            for name, orders in self._verdicts:
                self._group(entry, name, orders)

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group]]:
        """Yield each query's index and merged group."""
        about = {"name": "merged", "merge": self._merge, "of": [Path(name).name for name, _ in self._verdicts]}
        for index, entry in enumerate(block):
            merged = merge_groups([self._group(entry, name, orders) for name, orders in self._verdicts], self._merge)
            yield (
                index,
                Group(
                    entry.query_id, entry.query, entry.passages, merged.permutation, merged.num_ranked, teacher=about
                ),
            )

    def _group(self, entry: Candidates, name: str, orders: Mapping[str, Sequence[str]]) -> Group:
        if entry.query_id not in orders:
            raise InputError(
                f'{name}: query_id "{entry.query_id}" must have a verdict in every file; it has none here; '
                "drop its candidates or teach it"
            )
        position_of = {passage.docid: position for position, passage in enumerate(entry.passages)}
        docids = orders[entry.query_id]
        unknown = [docid for docid in docids if docid not in position_of]
        if unknown:
            raise InputError(
                f'{name}: docid "{unknown[0]}" of query_id "{entry.query_id}" is not among its {len(position_of)} '
                "candidates; all verdicts must be on the candidates of --dataset_path (see --depth)"
            )
        permutation = complete_permutation([position_of[docid] for docid in docids], len(position_of))
        return Group(entry.query_id, entry.query, entry.passages, permutation, len(docids))

    def report(self) -> Mapping[str, float]:
        """How many verdicts are merged."""
        return {"merged": len(self._verdicts)}


def load_merged(merge_paths: Sequence[str], merge: str) -> MergedTeacher:
    """The merged teacher of groups.jsonl files and runs.

    Raises:
        InputError: if a file cannot be read.
    """
    return MergedTeacher([(path, _read_orders(path)) for path in merge_paths], merge)


def _read_orders(path: str) -> Mapping[str, Sequence[str]]:
    try:
        with open(path, encoding="utf-8") as file:
            is_json = file.read(1) == "{"
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: --merge_paths must name groups.jsonl files or runs; got {error}") from error
    if not is_json:
        return {query_id: list(scores) for query_id, scores in read_run(path).items()}
    return {
        group.query_id: [group.passages[position].docid for position in group.permutation[: group.num_ranked]]
        for group in read_groups(path)
    }
