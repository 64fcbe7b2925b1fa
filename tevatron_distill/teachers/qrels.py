"""Judgements as a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.schema import Candidates, Group, Qrels


class QrelsTeacher:
    """Orders candidates by their grade, equal grades by the first stage; only relevant ones are ranked.

    A query without a candidate that is judged relevant has nothing to teach and gets no group.

    Args:
        qrels: grades; a candidate that is not judged has grade 0, and a grade above 0 is relevant.
    """

    def __init__(self, qrels: Qrels) -> None:
        self._qrels = qrels
        self._num_skipped = 0

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Nothing to plan."""

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group | None]]:
        """Yield each query's index and group, or None where no candidate is relevant."""
        for index, entry in enumerate(block):
            group = entry.judged(self._qrels.get(entry.query_id, {}), teacher={"name": "qrels"})
            self._num_skipped += not group.num_ranked
            yield index, group if group.num_ranked else None

    def report(self) -> Mapping[str, float]:
        """How many queries were ``skipped`` because no candidate is relevant."""
        return {"skipped": self._num_skipped}


def load_qrels_teacher(qrels_path: str) -> QrelsTeacher:
    """The teacher of a file of judgements.

    Raises:
        InputError: if the file cannot be read.
    """
    return QrelsTeacher(read_qrels(qrels_path))
